"""Comparisons of crystals by pymatgen's ``StructureMatcher``, here or in worker processes."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError, WorkerDied
from lazygraph.format.store import Store
from lazygraph.graphs.fingerprint import LENGTH, fingerprint
from lazygraph.machine import die_with
from lazygraph.sources.dataset import crystal_of
from lazygraph.writing.structure_candidates import Components

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["Compared", "Comparer", "Fingerprints", "Pool", "comparing"]

AHEAD = 4  # waiting tasks per worker
KEPT = 512  # reduced structures that a process keeps in memory


class Compared(NamedTuple):
    """The result of comparing some pairs."""

    same: NDArray[np.bool_]
    """(p,) whether each pair has the same structure. Also False for a pair that other pairs connect."""
    compared: int
    """The number of pairs that pymatgen compared."""
    failed: tuple[str, ...] = ()
    """A sentence for each pair that it could not compare."""


class Fingerprints(NamedTuple):
    """The fingerprints of some graphs."""

    values: NDArray[np.float32]
    """(n, 72), NaN for a graph that has none."""
    reasons: tuple[str, ...]
    """The reason for each graph without a fingerprint."""


@dataclass
class Comparer:
    """A comparison of crystals of datasets. Graphs are numbered through all datasets.

    Args:
        stores: the datasets.
    """

    stores: Sequence[Store]
    _structures: OrderedDict[int, tuple[Crystal, Structure]] = field(default_factory=OrderedDict)

    def fingerprints(self, graphs: NDArray[np.int64]) -> Fingerprints:
        """Return the fingerprints of graphs.

        Raises:
            CorruptDataset: a record is damaged.
        """
        out = np.full((len(graphs), LENGTH), np.nan, np.float32)
        reasons = []
        for number, graph in enumerate(graphs.tolist()):
            crystal = self._crystal(graph)
            if not all(crystal.pbc):
                reasons.append("the crystal is not periodic in three directions")
                continue
            try:
                out[number] = fingerprint(crystal)
            except StructureError as error:
                reasons.append(str(error))
        return Fingerprints(out, tuple(reasons))

    def compare(self, pairs: NDArray[np.int64]) -> Compared:
        """Compare pairs of graphs, (p, 2), in order. Pairs that earlier pairs connect are skipped.

        Raises:
            CorruptDataset: a record is damaged.
        """
        graphs, numbers = np.unique(pairs, return_inverse=True)
        components = Components(np.arange(len(graphs)))
        same = np.zeros(len(pairs), bool)
        compared, failed = 0, []
        for number, (one, other) in enumerate(numbers.reshape(-1, 2).tolist()):
            if components.connected(one, other):
                continue
            compared += 1
            try:
                same[number] = self._fit(int(graphs[one]), int(graphs[other]))
            except (ValueError, TypeError, LookupError, ArithmeticError) as error:
                names = " and ".join(repr(self._named(int(graphs[graph]))) for graph in (one, other))
                failed.append(f"{names}: {type(error).__name__}: {error}")
            if same[number]:
                components.join(one, other)
        return Compared(same, compared, tuple(failed))

    def _fit(self, one: int, other: int) -> bool:
        """Whether two graphs have the same structure."""
        from pymatgen.analysis.structure_matcher import StructureMatcher

        (crystal, structure), (second, second_structure) = self._reduced(one), self._reduced(other)
        if crystal == second:
            return True
        return bool(StructureMatcher().fit(structure, second_structure, skip_structure_reduction=True))

    def _reduced(self, graph: int) -> tuple[Crystal, Structure]:
        """Return a crystal, and the reduced primitive structure that ``StructureMatcher`` makes before a comparison."""
        known = self._structures.pop(graph, None)
        if known is None:
            crystal = self._crystal(graph)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pymatgen warns about elements without an electronegativity
                known = crystal, crystal.to_pymatgen().get_reduced_structure("niggli").get_primitive_structure()
            if len(self._structures) >= KEPT:
                self._structures.popitem(last=False)
        self._structures[graph] = known
        return known

    def _crystal(self, graph: int) -> Crystal:
        store, row = self._place(graph)
        return crystal_of(store.arrays(row))

    def _named(self, graph: int) -> str:
        store, row = self._place(graph)
        return store.graph_id(row)

    def _place(self, graph: int) -> tuple[Store, int]:
        """Return the dataset and the row of a graph."""
        for store in self.stores:
            if graph < len(store):
                return store, graph
            graph -= len(store)
        raise IndexError(graph)


class Pool(NamedTuple):
    """A runner of methods of ``Comparer``, here or in worker processes."""

    comparer: Comparer
    executor: Executor | None
    workers: int

    def fingerprints(self, tasks: Iterable[NDArray[np.int64]]) -> Iterator[Fingerprints]:
        """Call ``Comparer.fingerprints`` for each of these, in order."""
        return self._map("fingerprints", tasks)

    def compare(self, tasks: Iterable[NDArray[np.int64]]) -> Iterator[Compared]:
        """Call ``Comparer.compare`` for each of these, in order."""
        return self._map("compare", tasks)

    def _map(self, method: str, tasks: Iterable[Any]) -> Iterator[Any]:
        """Yield the results in order. Enough tasks are submitted in advance to keep the workers busy.

        Raises:
            WorkerDied: a worker process was killed.
        """
        if self.executor is None:
            yield from map(getattr(self.comparer, method), tasks)
            return
        waiting: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                waiting.append(self.executor.submit(_in_worker, method, task))
                if len(waiting) > AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenExecutor as error:
            msg = "a worker process died, most often because memory ran out; use fewer workers (--workers)"
            raise WorkerDied(msg) from error


_COMPARERS: list[Comparer] = []
"""Return the ``Comparer`` of this worker process."""


def _begin(parent: int, stores: Sequence[Store]) -> None:
    die_with(parent)
    _COMPARERS[:] = [Comparer(stores)]


def _in_worker(method: str, task: Any) -> Any:
    return getattr(_COMPARERS[0], method)(task)


@contextmanager
def comparing(stores: Sequence[Store], workers: int) -> Iterator[Pool]:
    """Yield a pool of so many worker processes; a pool of one uses this process."""
    comparer = Comparer(stores)
    if workers == 1:
        yield Pool(comparer, None, 1)
        return
    from loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(), stores))
    try:
        yield Pool(comparer, executor, workers)
    finally:
        executor.shutdown(wait=True, kill_workers=True)
