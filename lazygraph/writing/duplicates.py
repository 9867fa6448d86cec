"""Graphs of the same structure under several ids, in one dataset or in two."""

from __future__ import annotations

import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import DatasetReplaced, InputError
from lazygraph.format.digests import BLOCK
from lazygraph.format.store import Store
from lazygraph.graphs.fingerprint import DISPLACEMENT, LENGTH, STRAIN, Tolerance
from lazygraph.machine import usable_cpus
from lazygraph.reading.leakage import Leakage, leakage
from lazygraph.writing.edit import editing, kept_columns, with_columns
from lazygraph.writing.id_order import sorted_ranges
from lazygraph.writing.labels import bad_name
from lazygraph.writing.parts import Joined
from lazygraph.writing.publish import publish
from lazygraph.writing.splits import Splits
from lazygraph.writing.structure_candidates import Components, candidate_pairs
from lazygraph.writing.structure_match import AHEAD, Pool, comparing
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import CHEMICAL_SYSTEM, FORMULA, columns_of

__all__ = ["Duplicates", "duplicates"]

DESCRIPTION = "id of the first graph with the same structure"
NAME = "group"
TASK = 32  # pairs that a worker compares in one call
ROWS = 256  # fingerprints that a worker makes in one call
WAITING = 2**17  # pairs of candidates that are held at once
SHOWN = 5  # reasons that notes tell


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The graphs of the same structure.

    Attributes:
        graphs: the number of graphs.
        groups: the number of structures that several graphs have, or with ``against``, that both datasets have.
        duplicates: the number of graphs whose structure an earlier graph has, or with ``against``, a graph of the other
            dataset.
        candidates: the number of pairs of graphs within the tolerance.
        compared: the number of pairs that were compared by pymatgen's ``StructureMatcher``. Pairs that other pairs
            already connect are not compared.
        matches: for each duplicate, its id and the id of the first graph with the same structure. They can be iterated
            any number of times.
        across: whether two datasets were compared.
        leakage: for each column of splits, which graphs of one split are like graphs of another.
        notes: what was left out, with the reasons.
    """

    graphs: int
    groups: int
    duplicates: int
    candidates: int
    compared: int
    matches: Iterable[tuple[str, str]]
    across: bool
    leakage: tuple[Leakage, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.graphs:,} graphs, {self.candidates:,} pairs of candidates, {self.compared:,} compared"]
        what = "a graph of the other dataset" if self.across else "an earlier graph"
        lines.append(f"{self.duplicates:,} graphs have the structure of {what}: {self.groups:,} structures in all")
        return "\n".join([*lines, *map(str, self.leakage)])


def duplicates(
    path: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    strain: float = STRAIN,
    displacement: float = DISPLACEMENT,
    name: str | None = NAME,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Find graphs with the same structure, and store their groups in a column.

    Two graphs are candidates if their crystals have the same reduced formula, and their fingerprints (mean distances to
    the nearest atoms) differ by no more than ``strain`` and ``displacement`` allow. This comparison misses no pair
    within the tolerances, and does not depend on the choice of the cell, the order of the atoms, the orientation or the
    volume. pymatgen's ``StructureMatcher``, with its defaults, decides about each pair of candidates. Graphs that are
    connected by pairs form one group.

    The result is stored as a text column: for each graph the id of the first graph of its group, which is its own id if
    no earlier graph has the same structure. With this column, ``lazygraph split --group group`` keeps the graphs of a
    structure in one split. Graphs that are appended later have no value in this column until you call ``duplicates``
    again. Memory does not grow with the number of graphs, but with the largest number of graphs of one formula.
    Temporary files in ``TMPDIR`` take about 30 bytes per graph.

    Args:
        path: the dataset.
        against: another dataset. ``duplicates`` then finds the graphs of ``path`` whose structure is in this dataset,
            and stores nothing.
        strain: greatest relative change of a length.
        displacement: greatest displacement of an atom, as a fraction of the cube root of the volume per atom.
        name: name of the column; None stores nothing.
        workers: processes that compare; None takes one for each usable CPU.
        progress: called with the number of graphs that are done, and the number of all graphs.

    Returns:
        What was found. ``str`` of it is a report.

    Raises:
        InputError: the graphs of a dataset are ready-made, a tolerance cannot be used, or another column has this name.
        CorruptDataset: a record is damaged.
        DatasetReplaced: the dataset was changed meanwhile.
        WorkerDied: a worker process was killed.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> salt = lg.Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> larger = salt.to_pymatgen().make_supercell([2, 1, 1])
        >>> _ = lg.write([("a", salt, {}), ("b", larger, {})], folder.name + "/salts.lg", workers=1, progress=False)
        >>> duplicates(folder.name + "/salts.lg", workers=1).groups
        1
        >>> lg.LazyGraphDataset(folder.name + "/salts.lg").columns["group"].tolist()
        ['a', 'a']
        >>> folder.cleanup()
    """
    tolerance = Tolerance(strain, displacement)
    if workers is not None and workers < 1:
        msg = f"found {workers} workers; required: at least 1"
        raise InputError(msg)
    stores = [_opened(place) for place in (path, against) if place is not None]
    store = stores[0]
    stored = name if against is None else None
    if stored is not None:
        _check_name(store, stored)
    scratch = TemporaryArrays(Path(tempfile.gettempdir()))
    search = _Search(stores, tolerance, scratch, progress or (lambda *_: None))
    with comparing(stores, workers or usable_cpus()) as pool:
        search.run(pool)
    if stored is not None:
        described = f"{DESCRIPTION} (strain {strain:g}, displacement {displacement:g})"
        with editing(path) as (hold, now):
            if now.manifest != store.manifest:
                msg = f"{store.path} was changed while its structures were compared; start again"
                raise DatasetReplaced(msg)
            columns = kept_columns(store, hold.layout)
            columns.stream(stored, _Firsts(store, search.components), role="text", description=described)
            publish(hold, hold.layout.edit, with_columns(store, columns))
    return search.report()


def _opened(path: str | os.PathLike[str]) -> Store:
    store = Store(path)
    if FORMULA not in store.manifest.columns:
        msg = f"the graphs of {store.name} are ready-made, without crystals; give a dataset of crystals"
        raise InputError(msg)
    return store


def _check_name(store: Store, name: str) -> None:
    """Refuse the name of a column that holds something else."""
    column = store.manifest.columns.get(name)
    ours = column is not None and (column.description or "").startswith(DESCRIPTION)
    problem = bad_name(name)
    if problem is not None:
        msg = f"a column cannot have the name {name!r}: {problem}"
        raise InputError(msg)
    if column is not None and not ours:
        msg = f"{store.path} has something else with the name {name!r}; choose another name with --name (name=)"
        raise InputError(msg)


@dataclass(frozen=True, slots=True)
class _Firsts:
    """The column: for each graph, the id of the first graph of its group. It can be iterated any number of times."""

    store: Store
    components: Components

    def __iter__(self) -> Iterator[NDArray[Any]]:
        ids = self.store.checked_column("id")
        for numbers in _pieces(0, len(self.store)):
            yield ids.rows(self.components.roots(numbers))


@dataclass(frozen=True, slots=True, repr=False)
class _Matches:
    """The duplicates of the first dataset: their ids, and the id of the first graph with the same structure."""

    stores: Sequence[Store]
    components: Components
    likes: NDArray[np.int64]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        store, other = self.stores[0], self.stores[-1]
        shift = len(store) * (len(self.stores) - 1)
        for numbers in _pieces(0, len(store)):
            found = self.likes[self.components.roots(numbers)] - 1
            rows = np.flatnonzero((found >= 0) & (found != numbers))
            ids = store.graph_ids(numbers[rows])
            yield from zip(ids, other.graph_ids(found[rows] - shift), strict=True)


class _Search:
    """The search for pairs in one or two datasets, and its result.

    Graphs are numbered through both datasets, beginning with the first one.
    """

    def __init__(
        self, stores: Sequence[Store], tolerance: Tolerance, scratch: TemporaryArrays, tell: Callable[[int, int], None]
    ) -> None:
        self._stores, self._tolerance, self._scratch, self._tell = stores, tolerance, scratch, tell
        self._first = len(stores[0])
        n = sum(map(len, stores))
        parents = scratch.array(np.int64, n)
        for numbers in _pieces(0, n):
            parents[numbers] = numbers
        self.components = Components(parents)
        self._candidates = self._compared = self._done = 0
        self._alone: Counter[str] = Counter()
        self._failed: list[str] = []

    def run(self, pool: Pool) -> None:
        """Find all pairs."""
        waiting = _Waiting()
        for rows, marks, count in self._fingerprinted(pool):
            for one, other, difference in candidate_pairs(marks, self._tolerance):
                pairs = np.sort(np.stack([rows[one], rows[other]], axis=1), axis=1)
                wanted = np.ones(len(pairs), bool)
                if len(self._stores) > 1:  # only pairs of a graph of each
                    wanted = (pairs[:, 0] < self._first) & (pairs[:, 1] >= self._first)
                self._candidates += int(wanted.sum())
                waiting.add(pairs[wanted], difference[wanted])
                if len(waiting) >= WAITING:
                    self._compare(pool, waiting.taken())
            self._done += count
            self._tell(self._done, sum(map(len, self._stores)))
        self._compare(pool, waiting.taken())

    def report(self) -> Duplicates:
        """What was found."""
        across, first = len(self._stores) > 1, self._first
        likes = self._scratch.array(np.int64, first)  # for each root: the first graph with its structure, plus 1
        copies = groups = 0
        for numbers, roots in self._roots(first if across else 0):
            like = (roots < first) & (roots != numbers)
            copies += int(like.sum())
            found, where = np.unique(roots[like], return_index=True)
            new = likes[found] == 0
            groups += int(new.sum())
            likes[found[new]] = (numbers[like][where[new]] if across else found[new]) + 1
        if across:
            copies = sum(int((likes[roots] > 0).sum()) for _, roots in self._roots(0, first))
        return Duplicates(
            graphs=first,
            groups=groups,
            duplicates=copies,
            candidates=self._candidates,
            compared=self._compared,
            matches=_Matches(self._stores, self.components, likes),
            across=across,
            leakage=() if across else tuple(self._leakage()),
            notes=tuple(self._notes()),
        )

    def _roots(self, start: int, end: int | None = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The numbers of graphs and the roots of their components, in pieces."""
        end = sum(map(len, self._stores)) if end is None else end
        for numbers in _pieces(start, end):
            yield numbers, self.components.roots(numbers)

    def _leakage(self) -> Iterator[Leakage]:
        store = self._stores[0]
        columns = columns_of(store, self._scratch)
        roots = self._scratch.array(np.int64, len(store))
        for numbers, found in self._roots(0):
            roots[numbers] = found
        for name in store.manifest.splits():
            splits = Splits.of(store, name)
            yield leakage(name, splits.codes, splits.names, what="structure", numbers=roots, count=len(store))
            for what, column in (("formula", FORMULA), ("chemical system", CHEMICAL_SYSTEM)):
                groups = columns.groups(column)
                count = len(groups.values)
                yield leakage(name, splits.codes, splits.names, what=what, numbers=groups.numbers, count=count)

    def _notes(self) -> Iterator[str]:
        if left := sum(self._alone.values()):
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in self._alone.most_common(SHOWN))
            yield f"{left:,} graphs were not compared, and count as structures of their own: {reasons}"
        if self._failed:
            some = "; ".join(self._failed[:SHOWN])
            yield f"{len(self._failed):,} pairs could not be compared, and count as different: {some}"

    def _formulas(self) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of the graphs of each formula that occurs more than once."""
        columns = Joined([[store.column(FORMULA)] for store in self._stores])
        for formulas, numbers in sorted_ranges(columns, self._scratch):
            cuts = np.flatnonzero(formulas[1:] != formulas[:-1]) + 1
            ends = np.append(cuts, len(numbers))
            starts = np.append(0, cuts)
            self._done += int((ends - starts == 1).sum())
            yield from (numbers[starts[k] : ends[k]] for k in np.flatnonzero(ends - starts > 1).tolist())

    def _fingerprinted(self, pool: Pool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], int]]:
        """Yield for each formula: graphs with a fingerprint, the fingerprints, and the number of all its graphs."""
        ahead: deque[NDArray[np.int64]] = deque()  # formulas whose graphs a worker has

        def pieces() -> Iterator[NDArray[np.int64]]:
            for formula in self._formulas():
                ahead.append(formula)
                yield from (formula[start : start + ROWS] for start in range(0, len(formula), ROWS))

        marks, filled = None, 0
        for found in pool.fingerprints(pieces()):
            self._alone.update(found.reasons)
            marks = self._scratch.array(np.float32, len(ahead[0]), LENGTH) if marks is None else marks
            marks[filled : filled + len(found.values)] = found.values
            filled += len(found.values)
            if filled == len(ahead[0]):
                known = ~np.isnan(marks[:, 0])
                yield ahead[0][known], marks[known] if not known.all() else marks, filled
                ahead.popleft()
                marks, filled = None, 0

    def _compare(self, pool: Pool, pairs: NDArray[np.int64]) -> None:
        """Compare pairs, the most similar ones of each formula first. Pairs that are already connected are skipped."""
        size = TASK * AHEAD * pool.workers
        while len(pairs):
            now, pairs = pairs[:size], pairs[size:]
            tasks = [now[start : start + TASK] for start in range(0, len(now), TASK)]
            for task, result in zip(tasks, pool.compare(tasks), strict=True):
                for one, other in task[result.same].tolist():
                    self.components.join(one, other)
                self._compared += result.compared
                self._failed += result.failed
            roots = self.components.roots(pairs)
            pairs = pairs[roots[:, 0] != roots[:, 1]]


class _Waiting:
    """Pairs that wait to be compared."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pairs: NDArray[np.int64], difference: NDArray[np.float64]) -> None:
        """Add pairs, (p, 2), with the difference of their fingerprints, (p,)."""
        self._parts.append((pairs, difference))
        self._count += len(pairs)

    def taken(self) -> NDArray[np.int64]:
        """Return all waiting pairs, (p, 2), the most similar ones first, and forget them."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *(pairs for pairs, _ in self._parts)])
        difference = np.concatenate([np.empty(0), *(difference for _, difference in self._parts)])
        self._parts, self._count = [], 0
        return pairs[np.argsort(difference, kind="stable")]


def _pieces(start: int, end: int) -> Iterator[NDArray[np.int64]]:
    """The numbers from ``start`` to ``end``, a block at a time."""
    return (np.arange(low, min(low + BLOCK, end)) for low in range(start, end, BLOCK))
