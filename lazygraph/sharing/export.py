"""The function ``export``, which writes the graphs of a dataset to a file that another program reads."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import (
    DatasetReplaced,
    InputError,
    LazyGraphError,
    OutputExists,
    PluginError,
    StorageError,
    WorkerDied,
)
from lazygraph.format.columns import Repeats
from lazygraph.format.store import Store
from lazygraph.machine import usable_cpus
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportFormat, GraphFormat
from lazygraph.sharing.exports.formats import format_of
from lazygraph.sharing.exports.reader import GraphReader, contents_of, require_crystals
from lazygraph.sharing.progress import Transfer, counted
from lazygraph.sources.base import ID_KEYS
from lazygraph.storage.base import Storage
from lazygraph.storage.files import fsync_directory, make_folder, move_file, resolved_path, temporary_beside
from lazygraph.storage.positioned import sync_file
from lazygraph.writing.pool import processes
from lazygraph.writing.selection import Rows, chosen_rows, pieces_of
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["ExportReport", "export"]

GRAPHS, ATOMS = 2**8, 2**15  # of one piece, which a worker writes in one call
AHEAD = 4  # pieces that wait for each worker
FEW = 2**16  # graphs for which starting processes takes longer than the work
ID_KEY = "material_id"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: the file.
        format: the name of the format.
        graphs: number of graphs in the file.
        size: size of the file in bytes.
        notes: one sentence for each kind of data that is left out, or that the file holds in another form.
    """

    path: Path
    format: str
    graphs: int
    size: int
    notes: tuple[str, ...] = ()


def export(
    dataset: Any,
    out: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002  # the name that lazygraph.write has
    where: str | None = None,
    ids: Sequence[str] | None = None,
    split: str | None = None,
    id_key: str = ID_KEY,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> ExportReport:
    """Write the graphs of a dataset, with ids, labels and splits, to a file that another program reads.

    The suffix of the file decides the format: ``.xyz`` or ``.extxyz`` (extended XYZ), ``.db`` (ASE's sqlite database),
    ``.aselmdb`` (ASE's database in LMDB, for fairchem), ``.csv``, ``.parquet``, ``.json`` or ``.jsonl`` (pymatgen's
    ``Structure.as_dict()`` with labels), ``.pt`` (a list of PyG ``Data``). All of them except ``.pt`` hold crystals
    without edges. Numbers have all digits, so a reader gets the same bits. A missing value is left out, empty, or null.

    The order of the graphs is kept. Memory does not grow with their number, except for ``.pt``. The file appears when
    it is complete. If you give several conditions, a graph must meet all of them.

    Args:
        dataset: a path, a URL, an open ``LazyGraphDataset``, or a part of one.
        out: the file to write.
        format: the name of the format, if the suffix does not tell it: ``"extxyz"``, ``"ase-db"``, ``"aselmdb"``,
            ``"csv"``, ``"parquet"``, ``"json"``, ``"jsonl"``, ``"pyg"``, or the name of a plug-in.
        where: a condition on columns, as ``LazyGraphDataset.where`` takes it.
        ids: the ids to take, in this order.
        split: the name of a split.
        id_key: the name of the ids in the file. Default ``"material_id"``.
        workers: processes that write text and compress; None takes one for each usable CPU, and this process alone for
            fewer than 65,536 graphs. ``.pt`` needs none.
        overwrite: replace an existing file.
        progress: show a bar on stderr, or one line per minute if stderr is not a terminal.

    Returns:
        The number of graphs, the size of the file, and notes about all data that are left out or have another form.

    Raises:
        InputError: the format is unknown, a condition or a split is invalid, or the format needs crystals and the
            graphs are ready-made.
        UnknownId: the dataset has no graph with one of the ids.
        CorruptDataset: a record is damaged.
        DatasetReplaced: the dataset was changed meanwhile.
        NotEnoughMemory: a list of PyG ``Data`` would take more than half of the memory that the process may use.
        OutputExists: ``out`` already exists.
        StorageError: the disk is full.
        MissingExtra: the format needs a package that is not installed.
        WorkerDied: a worker process was killed.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1)
        >>> report = export(folder.name + "/p.lg", folder.name + "/p.xyz", where="n_atoms < 10")
        >>> report.format, 0 < report.graphs < 30
        ('extxyz', True)
        >>> from ase.io import read
        >>> len(read(folder.name + "/p.xyz", ":")) == report.graphs
        True
        >>> folder.cleanup()
    """
    final = _final(out)
    chosen = format_of(final, format)
    _check_output(final, overwrite=overwrite)
    if workers is not None and workers < 1:
        msg = f"found {workers} workers; required: at least 1"
        raise InputError(msg)
    _check_id_key(id_key)
    store, rows = _opened(dataset)
    rows = chosen_rows(store, rows, TemporaryArrays(final.parent), where=where, ids=ids, split=split)
    repeats = Repeats(len(store))
    if any(repeats.first(some) is not None for some in pieces_of(rows)):
        msg = f"some graphs of {store.name} were chosen more than once; choose each graph once"
        raise InputError(msg)
    contents, notes = _contents(store, chosen, id_key)
    make_folder(final.parent)
    temporary = temporary_beside(final)
    with closing(counted(len(rows), "exporting", show=progress)) as shown:
        try:
            if isinstance(chosen, CrystalFormat):
                require_crystals(store, f"the format {chosen.kind}")
                pieces = _Pieces(store, rows, chosen, contents, _workers(workers, len(rows)), shown)
                chosen.save(temporary, contents, iter(pieces))
                notes += pieces.notes()
            elif isinstance(chosen, GraphFormat):
                notes += chosen.write(_graphs(dataset, store, rows), temporary, contents, shown.add)
            else:
                msg = f"the export format {chosen.kind!r} is neither a CrystalFormat nor a GraphFormat"
                raise PluginError(msg)
            size = sync_file(temporary)
            _check_output(final, overwrite=overwrite)
            move_file(temporary, final)
        except OSError as error:
            if isinstance(error, LazyGraphError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            msg = f"no space left for {final}; make room there, or write to another disk. Nothing was written"
            raise StorageError(msg) from error
        finally:
            for path in (temporary, temporary.with_name(temporary.name + "-journal")):  # the last of sqlite
                path.unlink(missing_ok=True)
    fsync_directory(final.parent)
    return ExportReport(final, chosen.kind, len(rows), size, tuple(notes))


# ---- what is exported, and where to ----


def _final(out: str | os.PathLike[str]) -> Path:
    final = Path(out).absolute()
    try:
        final = resolved_path(final) if final.is_symlink() else final
    except OSError as error:
        msg = f"the output {final} cannot be followed: {error}"
        raise InputError(msg) from error
    if not os.fspath(out) or final.name in ("", ".."):
        msg = f"the output {os.fspath(out)!r} has no file name; give a file, such as mp.xyz"
        raise InputError(msg)
    return final


def _check_output(final: Path, *, overwrite: bool) -> None:
    if final.is_dir():
        msg = f"{final} is a folder; choose another name for the file"
        raise OutputExists(msg)
    if final.exists() and not overwrite:
        msg = f"{final} exists; choose another name, or replace it with --overwrite (overwrite=True)"
        raise OutputExists(msg)


def _check_id_key(id_key: str) -> None:
    if not (id_key.isidentifier() and id_key.isascii()):
        msg = f"the id key {id_key!r} cannot be used; give a name of letters, digits and underscores, such as {ID_KEY}"
        raise InputError(msg)


def _opened(dataset: Any) -> tuple[Store, Rows]:
    """The dataset, and the rows of it that were dataset."""
    if isinstance(dataset, (str, os.PathLike)) or not hasattr(dataset, "indices"):
        store = Store(dataset)
        return store, range(len(store))
    if dataset.transform is not None:
        msg = f"{dataset!r} has a transform, which is not exported; give a dataset without one"
        raise InputError(msg)
    if dataset.augmenter is not None:
        msg = f"{dataset!r} has augment, which is not exported; give a dataset without it"
        raise InputError(msg)
    store = Store(dataset.storage)
    if store.manifest != dataset.manifest:
        msg = f"{store.name} was changed since it was opened; open it again, and choose its graphs again"
        raise InputError(msg)
    rows = dataset.indices()
    return store, rows if isinstance(rows, range) else np.asarray(rows, np.int64)


def _contents(store: Store, chosen: ExportFormat, id_key: str) -> tuple[Contents, list[str]]:
    """What the format holds of the dataset, and notes about the rest."""
    manifest = store.manifest
    contents = contents_of(manifest, id_key)
    left_out = (
        {id_key: "the ids have this name; choose another one with --id-key (id_key=)"}
        if id_key in contents.names
        else {}
    )
    left_out |= {name: reason for name, reason in chosen.left_out(contents) if name not in left_out}
    notes = [f"{name!r} is left out, because {reason}" for name, reason in left_out.items()]
    contents = contents.without(tuple(left_out))
    if earlier := [name for name in contents.names if name in ID_KEYS and name != id_key]:
        notes.append(f"lazygraph reads the ids of the file with --id-key {id_key}, because of the label {earlier[0]!r}")
    notes += chosen.notes(contents)
    described = contents.described()
    if described["labels"] and not chosen.holds_descriptions:
        units = [f"{name} {said['unit']}" for name, said in described["labels"].items() if "unit" in said]
        what = f"units ({', '.join(units)}) and descriptions" if units else "descriptions"
        notes.append(f"{what} of labels are not in the file, because the format has no place for them")
    if isinstance(chosen, CrystalFormat) and "edge" in manifest.schema.axes:
        notes.append("edges are not in the file, because the format holds crystals; lazygraph-write builds them again")
    return contents, notes


def _graphs(dataset: Any, store: Store, rows: Rows) -> Any:
    """The chosen graphs, with the view, the targets and the recipe of a dataset that was opened."""
    from lazygraph.loading.dataset import LazyGraphDataset

    whole = LazyGraphDataset(store.storage)
    if isinstance(dataset, LazyGraphDataset):
        whole = LazyGraphDataset(
            store.storage, dataset.target, dataset.view, graph=dataset.spec if dataset.rebuilds else None,
            target_dtype=dataset.target_dtype,
        )  # fmt: skip
    return whole[rows.start : rows.stop : rows.step] if isinstance(rows, range) else whole[rows]


# ---- the work, in this process or in others ----


def _workers(given: int | None, graphs: int) -> int:
    if given is None:
        return 1 if graphs < FEW else usable_cpus()
    return given


class _Task(NamedTuple):
    """Some rows that a worker encodes."""

    storage: Storage
    state: str
    """The sha256 of the manifest, which must be what it was."""
    format: CrystalFormat
    contents: Contents
    rows: NDArray[np.int64]


class _Encoded(NamedTuple):
    """What a worker gives."""

    piece: Any
    graphs: int
    inexact: int
    """Graphs whose Cartesian coordinates do not give back the fractional ones to the last bit."""
    worst: float


@dataclass
class _Pieces:
    """The encoded graphs in order, of which a few are held at a time."""

    store: Store
    rows: Rows
    format: CrystalFormat
    contents: Contents
    workers: int
    shown: Transfer
    inexact: int = 0
    worst: float = 0.0
    _state: str = field(init=False)

    def __post_init__(self) -> None:
        self._state = _state_of(self.store)

    def __iter__(self) -> Iterator[Any]:
        with closing(self._encoded()) as encoded:
            for one in encoded:
                self.inexact += one.inexact
                self.worst = max(self.worst, one.worst)
                yield one.piece
                self.shown.add(one.graphs)

    def notes(self) -> list[str]:
        """What is to be told of the coordinates, after all pieces were dataset."""
        if not self.inexact:
            return []
        graphs = f"{self.inexact:,} graphs" if self.inexact > 1 else "1 graph"
        told = (
            f"{graphs} have Cartesian coordinates that do not give back all bits of the stored fractional coordinates; "
            f"they differ by {self.worst:.1e} at most"
        )
        return [told]

    def _encoded(self) -> Generator[_Encoded, None, None]:
        tasks = (
            _Task(self.store.storage, self._state, self.format, self.contents, rows)
            for rows in _rows_of_tasks(self.store, self.rows)
        )
        if self.workers == 1:
            reader = GraphReader(self.store, self.contents, cartesian=not self.format.exact_positions)
            yield from (_encode(reader, task) for task in tasks)
            return
        waiting: deque[Future[_Encoded]] = deque()
        try:
            with processes(self.workers) as pool:
                for task in tasks:
                    waiting.append(pool.submit(_in_worker, task))
                    if len(waiting) > AHEAD * self.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        except BrokenExecutor as error:
            msg = (
                "a worker process died, most often because memory ran out; nothing was written: use fewer workers "
                "(workers=1, --workers 1)"
            )
            raise WorkerDied(msg) from error


def _rows_of_tasks(store: Store, rows: Rows) -> Iterator[NDArray[np.int64]]:
    """Rows, so many at a time that a worker has some work, and holds few atoms."""
    sizes = store.checked_column("n_node")
    for some in pieces_of(rows):
        atoms = np.cumsum(sizes.rows(some), dtype=np.int64)
        start = 0
        while start < len(some):
            before = int(atoms[start - 1]) if start else 0
            end = int(np.searchsorted(atoms, before + ATOMS, side="right"))
            end = max(start + 1, min(end, start + GRAPHS))
            yield some[start:end]
            start = end


def _encode(reader: GraphReader, task: _Task) -> _Encoded:
    reader.inexact, reader.worst = 0, 0.0
    piece = task.format.encode(task.contents, reader.read(task.rows))
    return _Encoded(piece, len(task.rows), reader.inexact, reader.worst)


_READERS: list[GraphReader] = []
"""That of this worker process, which works for one export."""


def _in_worker(task: _Task) -> _Encoded:
    if not _READERS:
        store = Store(task.storage)
        if _state_of(store) != task.state:
            msg = f"{store.name} was changed while it was exported; export it again"
            raise DatasetReplaced(msg)
        _READERS.append(GraphReader(store, task.contents, cartesian=not task.format.exact_positions))
    return _encode(_READERS[0], task)


def _state_of(store: Store) -> str:
    return hashlib.sha256(store.manifest.to_bytes()).hexdigest()
