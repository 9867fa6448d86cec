"""Verification that a dataset is exactly what was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lazygraph.errors import InputError, WorkerDied
from lazygraph.format.digests import BLOCK
from lazygraph.format.store import Store
from lazygraph.machine import die_with, usable_cpus
from lazygraph.reading.verify_checks import (
    check_column,
    check_file,
    check_identity,
    check_index,
    check_rows,
    check_tree,
    row_columns,
    sampled_rows,
)
from lazygraph.reading.verify_edges import check_edges_of_rows, recipe_with_edges, ways_of_building
from lazygraph.reading.verify_state import State, opened_state
from lazygraph.storage.base import Storage

__all__ = ["Verification", "verify"]

ROWS = 4 * BLOCK  # that are checked by one call
EDGE_ROWS = 1024  # whose edges are built by one call


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of ``verify``: what was checked, and one sentence for every problem."""

    graphs: int
    files: int
    size: int
    problems: tuple[str, ...]
    records: int = 0
    """How many records were read: all, or those of a sample."""
    edges_built_by: tuple[str, ...] = ()
    """The ways in which the edges of these records were built and compared: the compiled loop, the plain rule, and the
    search of nvalchemi, as far as they are installed. Empty if they were not compared."""


def verify(
    path: str | os.PathLike[str] | Storage,
    progress: Callable[[int], None] | None = None,
    *,
    workers: int | None = 1,
    sample: float | None = None,
    seed: int = 0,
    state: str | os.PathLike[str] | None = None,
    edges: bool = False,
) -> Verification:
    """Verify a dataset: size and sha256 of every file, page trees, every record, every index, ids, and the content id.

    All files are hashed before anything else reads them. ``verify`` walks the page trees that LMDB would follow with
    its own bounded reads, also in a file with a wrong hash, to name the exact fault. It repairs nothing, and its memory
    does not grow with the number of graphs, but for one bit for each.

    With ``sample``, it checks all files but the shards as it does otherwise, of the shards their sizes, and that
    fraction of the records of each shard: checksum, form, indices, and what the recipe promises. Page trees and the
    digests of blocks of graphs need all records, and are left out.

    With ``edges``, it also builds the edges of every crystal by the plain rule, by the compiled loop if there is one,
    and by the search of nvalchemi if it is installed (on a GPU if there is one). It compares all of them with the
    stored edges, graph by graph. This takes about 2 ms a crystal for each way. The edges are not compared if another
    problem was found.

    Args:
        path: the dataset directory, the URL of a storage that is installed, or a storage.
        progress: called with the number of graphs checked since the last call.
        workers: processes that check at the same time; None takes one for each usable CPU. No more are started than
            there are parts of 16,384 graphs.
        sample: a fraction of the records, from 0 to 1, in place of all of them; at least one of each shard.
        seed: of the choice of the sample.
        state: a file in which the verification notes what it has checked. After a run was killed, the same call goes on
            from there. The file is removed at the end. It must not lie in the dataset.
        edges: whether to compare stored edges with the edges of the recipe.

    Returns:
        What was checked, and all problems.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: the manifest cannot be read.
        InputError: the sample is no fraction, the state is of another verification, or ``edges`` is given for a dataset
            without edges of a recipe.
        StorageError: the process can open no more files, which says nothing about the dataset.
        WorkerDied: a worker process was killed.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:20", folder.name + "/p.lg", workers=1)
        >>> verify(folder.name + "/p.lg").problems
        ()
        >>> verify(folder.name + "/p.lg", sample=0.1).records
        2
        >>> folder.cleanup()
    """
    if sample is not None and not 0 < sample <= 1:
        msg = f"found the sample {sample}; required: a fraction of the records, greater than 0 and at most 1"
        raise InputError(msg)
    if workers is not None and workers < 1:
        msg = f"found {workers} workers; required: at least 1"
        raise InputError(msg)
    store = Store(path)
    if edges:
        recipe_with_edges(store)
    parts = len(store) // (EDGE_ROWS if edges else ROWS)
    count = min(workers or usable_cpus(), max(1, parts))
    options = {"sample": sample, "seed": None if sample is None else seed, **({"edges": True} if edges else {})}
    tell = progress or (lambda _: None)
    with opened_state(state, store, options) as found, _pool(store, count) as pool:
        return _verify(store, _Run(store, pool, found, tell), sample, seed, edges=edges)


def _verify(store: Store, run: _Run, sample: float | None, seed: int, *, edges: bool) -> Verification:
    manifest = store.manifest
    shards = range(len(manifest.shards))
    files = manifest.files()
    problems = run.all([_Part("file", number, sample) for number in range(len(files))])
    damaged = bool(problems)
    if sample is None:
        problems += run.all([_Part("tree", number) for number in shards])
    if not damaged:
        wrong = run.all([_Part("column", name) for name in manifest.columns])
        problems += wrong or run.all([_Part("index")])
    unreadable = row_columns(store)
    problems += [problem for problem in unreadable if problem not in problems]
    records = 0
    if not unreadable:
        if sample is None:
            rows = [_Part("rows", start) for start in range(0, len(store), ROWS)]
            records = len(store)
        else:
            rows = [_Part("sample", shard, sample, seed) for shard in shards if manifest.shards[shard].rows]
            records = sum(len(sampled_rows(store, sample, seed, part.number)) for part in rows)
        for problem in run.all(rows):
            # What cannot be read for any row is said once.
            if not problems or problem != problems[-1]:
                problems.append(problem)
    if not problems:
        problems += check_identity(store)
    built_by: tuple[str, ...] = ()
    if edges and not problems:
        built_by = ways_of_building(recipe_with_edges(store))
        starts = range(0, len(store), EDGE_ROWS)
        parts = (
            [_Part("edges", start) for start in starts] if sample is None else [r._replace(check="edges") for r in rows]
        )
        problems += run.all(parts)
    size = sum(file.size for file in files)
    return Verification(len(store), len(files) + 1, size, tuple(problems), records, built_by)


class _Part(NamedTuple):
    """One call of a check: which check, of which file, shard, column or first row."""

    check: str
    number: Any = None
    sample: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """What the state calls it."""
        return f"{self.check} {self.number}"

    def graphs(self, store: Store) -> int:
        """How many graphs it is for, in the eyes of a progress bar."""
        if self.check == "rows":
            return min(ROWS, len(store) - int(self.number))
        return store.manifest.shards[int(self.number)].rows if self.check == "sample" else 0

    def problems(self, store: Store) -> list[str]:
        """Do it."""
        return list(_CHECKS[self.check](store, self))


def _file(store: Store, part: _Part) -> Iterator[str]:
    file = store.manifest.files()[part.number]
    is_shard = file.name.startswith("shards/")
    return check_file(store, file, content=part.sample is None or not is_shard)


def _rows(store: Store, part: _Part) -> Iterator[str]:
    return check_rows(store, np.arange(part.number, min(part.number + ROWS, len(store))))


def _edges(store: Store, part: _Part) -> Iterator[str]:
    if part.sample is None:
        rows = np.arange(part.number, min(part.number + EDGE_ROWS, len(store)))
    else:
        rows = sampled_rows(store, part.sample, part.seed, part.number)
    return check_edges_of_rows(store, rows)


def _sample(store: Store, part: _Part) -> Iterator[str]:
    rows = sampled_rows(store, part.sample or 0.0, part.seed, part.number)
    return check_rows(store, rows, blocks=False)


_CHECKS: dict[str, Callable[[Store, _Part], Iterator[str]]] = {
    "file": _file,
    "tree": lambda store, part: check_tree(store, part.number),
    "column": lambda store, part: check_column(store, part.number),
    "index": lambda store, _: check_index(store),
    "rows": _rows,
    "sample": _sample,
    "edges": _edges,
}


class _Run(NamedTuple):
    """How parts are checked: here or by workers, but for those that the state has."""

    store: Store
    pool: Executor | None
    state: State
    tell: Callable[[int], None]

    def all(self, parts: Sequence[_Part]) -> list[str]:
        """The problems of all parts, in their order."""
        missing = iter([part for part in parts if self.state.get(part.name) is None])
        results = self._results(missing)
        problems: list[str] = []
        for part in parts:
            known = self.state.get(part.name)
            if known is None:
                known = tuple(next(results))
                self.state.add(part.name, known)
            problems += known
            if graphs := part.graphs(self.store):
                self.tell(graphs)
        return problems

    def _results(self, parts: Iterator[_Part]) -> Iterator[list[str]]:
        if self.pool is None:
            return (part.problems(self.store) for part in parts)
        return self._by_workers(self.pool, list(parts))

    def _by_workers(self, pool: Executor, parts: list[_Part]) -> Iterator[list[str]]:
        try:
            yield from pool.map(_in_worker, parts)
        except BrokenExecutor as error:
            msg = (
                "a worker process died, most often because memory ran out; use fewer workers (--workers), and a state "
                "(--state FILE) to continue after an interruption"
            )
            raise WorkerDied(msg) from error


_STORES: list[Store] = []
"""The dataset that this worker process checks."""


def _begin(parent: int, store: Store) -> None:
    die_with(parent)
    _STORES[:] = [store]


def _in_worker(part: _Part) -> list[str]:
    return part.problems(_STORES[0])


@contextmanager
def _pool(store: Store, workers: int) -> Iterator[Executor | None]:
    """Worker processes, which are killed at the end: they have nothing in hand that counts."""
    if workers == 1:
        yield None
        return
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(), store))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)
