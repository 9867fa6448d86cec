"""Recovery of a damaged dataset: a new dataset of everything that is provably undamaged."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, OutputExists, StorageError
from lazygraph.format.columns import Column, ColumnWriter, attributes, invalid_values, text_array, unsigned
from lazygraph.format.digests import blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import Manifest, Provenance, Shard
from lazygraph.format.record import Record
from lazygraph.format.recovery import DamagedDataset, LostRecord, RecoveredRecord
from lazygraph.format.shard import write_shard
from lazygraph.graphs.crystal_records import broken_promises, check_crystals, crystal_graph, crystal_schema
from lazygraph.graphs.sizes import derived_names, derived_sizes
from lazygraph.graphs.spec import GraphSpec
from lazygraph.storage.files import FileRef, write_atomic
from lazygraph.writing.label_columns import dropped_energies
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import Rejected, input_of_rows, read_quarantine, write_quarantine

__all__ = ["LostGraph", "Salvage", "salvage"]


@dataclass(frozen=True, slots=True)
class LostGraph:
    """A graph that is not in the new dataset. ``id`` is empty if the ids are damaged too."""

    row: int
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Salvage:
    """The result of ``salvage``: ``kept`` of ``graphs``, the ``lost`` ones, and a sentence for all other losses."""

    path: Path
    graphs: int
    kept: int
    lost: tuple[LostGraph, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing was lost."""
        return not self.lost and not self.notes


def salvage(
    path: str | os.PathLike[str], output: str | os.PathLike[str], progress: Callable[[int], None] | None = None
) -> Salvage:
    """Write the undamaged parts of a damaged dataset as a new dataset. The damaged dataset is only read.

    Data are kept only if the hash of their file, or their own checksum, proves that they are undamaged. If a column of
    sizes or formulas is damaged, it is computed again from the records. If a column of labels or splits is damaged, it
    is lost. If the ids are damaged, graphs are named after their inputs (``input-0000012``), or after their rows if the
    inputs are not known. Lost graphs are listed among the quarantined inputs of the new dataset, and
    ``lazygraph-write SOURCES -o OUTPUT --retry-quarantined`` makes them again from their sources.

    Args:
        path: the damaged dataset.
        output: the dataset to make.
        progress: called with the number of graphs that were read since the last call.

    Raises:
        CorruptDataset: the manifest is damaged, or no record is undamaged.
        UnsupportedFormat: the dataset has a newer version of the format.
        OutputExists: the output already exists.
        WriterBusy: another process is writing the output.
    """
    source = Layout.of(path).final
    manifest = Manifest.load(source)
    manifest.check_writable(source)
    layout = Layout.of(output)
    with exclusive(layout) as hold:
        if layout.final.exists() or layout.plan.exists():
            there = layout.final if layout.final.exists() else layout.partial
            msg = f"{there} exists; choose another name for the new dataset"
            raise OutputExists(msg)
        rejected, unlisted = _rejected(source, manifest)
        remains = DamagedDataset(source, manifest)
        inputs = _inputs(remains, rejected, known=not unlisted)
        names = _names(manifest, inputs)
        kept, lost = _keep(remains, names, layout, progress or (lambda _: None))
        ids, digests, named = _ids(remains, kept, names, complete=not lost)
        columns = _columns(remains, kept, ids, layout.dataset)
        left_out = (*_notes(remains, kept, columns, named=named), *_unknown_inputs(lost, inputs, manifest), *unlisted)
        notes = (*left_out, *_write_inputs(columns, remains, kept, inputs))
        graphs = [LostGraph(one.row, "" if named else remains.graph_id(one.row), one.reason) for one in lost]
        added = [] if inputs is None else _quarantined(graphs, inputs, names, manifest)
        for file in manifest.dictionaries:
            with suppress(CorruptDataset, FileNotFoundError):  # no kept shard names it then
                write_atomic(layout.dataset / file.name, file.check(source).read_bytes())
        shards, dictionaries = _with_dictionaries(kept.shards, manifest)
        blocks = blocks_of_graphs(digests)
        new = replace(
            manifest,
            graphs=len(ids),
            shards=shards,
            dictionaries=dictionaries,
            columns=columns.columns,
            digests=columns.digests(blocks),
            quarantine=write_quarantine(layout.dataset, [*rejected, *added]),
            provenance=_provenance(manifest, len(lost), notes),
            content_id=content_id(manifest.recipe, manifest.schema, blocks),
        )
        publish(hold, layout.dataset, new)
    return Salvage(layout.final, manifest.graphs, len(ids), tuple(graphs), notes)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The kept records as arrays of equal length, and the shards with these records."""

    shards: tuple[Shard, ...]
    record: NDArray[Any]
    row: NDArray[np.int64]
    counts: NDArray[np.int64]
    digest: NDArray[np.void]
    """The digest of each graph for the content id, with the id of the column."""
    digest_named: NDArray[np.void]
    """The digest with the name of the input or row, for a damaged column of ids."""
    again: dict[str, NDArray[Any]]
    """The damaged columns that were made again."""


def _keep(
    remains: DamagedDataset, names: list[str], layout: Layout, progress: Callable[[int], None]
) -> tuple[_Kept, list[LostRecord]]:
    """Copy undamaged records to new shards, one for each old shard, and list the damaged ones."""
    lost: list[LostRecord] = []
    parts: list[_Kept] = []
    spec = _recipe(remains.manifest)
    for entry, shard in zip(remains.manifest.shards, remains.shards(), strict=True):
        whole: list[RecoveredRecord] = []
        for each in shard:
            found = _sound(remains, each, spec) if isinstance(each, RecoveredRecord) and spec is not None else each
            if isinstance(found, RecoveredRecord):
                whole.append(found)
            else:
                lost.append(found)
            progress(1)
        if whole:
            parts.append(_part(remains, names, layout.dataset, len(parts), entry, whole))
    if not parts:
        msg = f"{remains.path}: no record is undamaged, so there is nothing to write"
        raise CorruptDataset(msg + (f"; the first: {lost[0].reason}" if lost else ""))
    records = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    again = {name: np.concatenate([part.again[name] for part in parts]) for name in parts[0].again}
    return _Kept(tuple(shard for part in parts for shard in part.shards), **records, again=again), lost


def _sound(remains: DamagedDataset, found: RecoveredRecord, spec: GraphSpec) -> RecoveredRecord | LostRecord:
    """Check a record of a crystal in the same way as ``lazygraph verify``."""
    columns = {name: remains.column(name) for name in derived_names(spec)}
    said = {name: int(column[found.row]) for name, column in columns.items() if column is not None}
    problem = next(broken_promises(spec, found.record.counts, found.record.arrays(), said), None)
    return found if problem is None else LostRecord(found.row, problem)


_ARRAYS = ("record", "row", "counts", "digest", "digest_named")


def _part(  # noqa: PLR0917
    remains: DamagedDataset, names: list[str], folder: Path, number: int, entry: Shard, whole: list[RecoveredRecord]
) -> _Kept:
    """One shard, written, and its part of the columns."""
    manifest = remains.manifest
    file, record = write_shard(folder, number, [one.frame for one in whole])
    digest = _digests([remains.ids[one.row] for one in whole], whole)
    digest_named = digest
    if "id" in remains.damaged:
        digest_named = _digests([names[one.row].encode() for one in whole], whole)
    again, made = [name for name in _derived(manifest) if name in remains.damaged], []
    if again and manifest.recipe is not None:
        spec = GraphSpec.from_json(manifest.recipe)
        made = [_made(spec, one.record) for one in whole]
    return _Kept(
        (replace(entry, file=file, records=len(whole), spare=()),),
        record,
        row=np.array([one.row for one in whole], np.int64),
        counts=np.array([one.record.counts for one in whole], np.int64).reshape(len(whole), -1),
        digest=digest,
        digest_named=digest_named,
        again={name: _column([one[name] for one in made]) for name in again},
    )


def _digests(ids: list[bytes], whole: list[RecoveredRecord]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(map(graph_digest, ids, (one.raw for one in whole))), "V32")


def _inputs(remains: DamagedDataset, rejected: list[Rejected], *, known: bool) -> NDArray[np.int64] | None:
    """Return the input of each row of the damaged dataset; None if no input is known."""
    manifest = remains.manifest
    column = remains.column("input")
    if not manifest.provenance.sources or (column is None and ("input" in manifest.columns or not known)):
        return None
    found = input_of_rows(manifest, rejected, column)
    return None if found is None else found.of(np.arange(manifest.graphs))


def _names(manifest: Manifest, inputs: NDArray[np.int64] | None) -> list[str]:
    """Return names for the graphs of all rows, to use if the ids are damaged."""
    if inputs is None:
        return [f"row-{row:07d}" for row in range(manifest.graphs)]
    known = (inputs < manifest.inputs).tolist()
    return [f"input-{position:07d}" if known[row] else f"row-{row:07d}" for row, position in enumerate(inputs.tolist())]


def _unknown_inputs(lost: list[LostRecord], inputs: NDArray[np.int64] | None, manifest: Manifest) -> Iterator[str]:
    if n := sum(inputs is None or int(inputs[one.row]) == manifest.inputs for one in lost):
        which = f"the {n}" if n == len(lost) else f"{n} of the {len(lost)}"
        yield (
            f"it is not known which inputs {which} lost graphs came from, so they are not on the list of quarantined "
            "inputs; append the sources again: inputs whose ids are in the dataset are left out as duplicates"
        )


def _write_inputs(
    columns: ColumnWriter, remains: DamagedDataset, kept: _Kept, inputs: NDArray[np.int64] | None
) -> tuple[str, ...]:
    """Write that inputs are unknown. Without this column, a reader would number the rows as the inputs."""
    if inputs is not None or not remains.manifest.provenance.sources:
        return ()
    columns.write("input", unsigned(np.full(len(kept.row), remains.manifest.inputs)))
    return ("which inputs the graphs came from is not known, and the column 'input' says so",)


def _with_dictionaries(shards: tuple[Shard, ...], manifest: Manifest) -> tuple[tuple[Shard, ...], tuple[FileRef, ...]]:
    """Return the shards, and the dictionaries that they name. Other dictionaries are dropped."""
    used = sorted({shard.dictionary for shard in shards if shard.dictionary is not None})
    number = {old: new for new, old in enumerate(used)}
    renumbered = (
        shard if shard.dictionary is None else replace(shard, dictionary=number[shard.dictionary]) for shard in shards
    )
    return tuple(renumbered), tuple(manifest.dictionaries[old] for old in used)


def _recipe(manifest: Manifest) -> GraphSpec | None:
    """Return the recipe of a dataset of crystals; None for other datasets."""
    if manifest.recipe is None:
        return None
    spec = GraphSpec.from_json(manifest.recipe)
    if not set(crystal_schema(spec).names) <= set(manifest.schema.names):
        return None
    check_crystals(manifest.schema, spec)
    return spec


def _derived(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the columns that can be computed from the records of crystals."""
    spec = _recipe(manifest)
    return () if spec is None else ("formula", *derived_names(spec))


def _made(spec: GraphSpec, record: Record) -> dict[str, Any]:
    """Return the values of one record for these columns."""
    graph = crystal_graph(record.arrays())
    return {"formula": graph.crystal.formula, **derived_sizes(spec, graph)}


def _column(values: list[Any]) -> NDArray[Any]:
    return text_array(values, "formula") if isinstance(values[0], str) else np.array(values, np.int64)


def _ids(
    remains: DamagedDataset, kept: _Kept, names: list[str], *, complete: bool
) -> tuple[NDArray[np.bytes_], NDArray[np.void], bool]:
    """Return the ids of the kept rows, their digests, and whether the ids are new names."""
    manifest = remains.manifest
    named = "id" in remains.damaged
    if named and complete and invalid_values(manifest.columns["id"], remains.ids) is None:
        # The damage may not touch the ids. The content id tells whether the ids are the original ones.
        blocks = blocks_of_graphs(kept.digest)
        named = content_id(manifest.recipe, manifest.schema, blocks) != manifest.content_id
    ids = text_array([names[row] for row in kept.row.tolist()]) if named else remains.ids[kept.row]
    if len(np.unique(ids)) < len(ids):
        msg = (
            f"{remains.path}: two graphs have the same id; only a dataset with unique ids, as lazygraph-write makes "
            "it, can be salvaged"
        )
        raise CorruptDataset(msg)
    return ids, kept.digest_named if named else kept.digest, named


def _columns(remains: DamagedDataset, kept: _Kept, ids: NDArray[np.bytes_], folder: Path) -> ColumnWriter:
    """Write the columns of the new dataset: computed from the records, or the kept rows of undamaged columns."""
    order = np.argsort(ids, kind="stable")
    axes = {f"n_{axis}": kept.counts[:, number] for number, axis in enumerate(remains.manifest.schema.axes)}
    made = {
        "record": kept.record,
        "id": ids,
        "id_order": order.astype("<u4" if len(order) < 2**32 else "<u8"),
        **{name: unsigned(counts) for name, counts in axes.items()},
        **{name: values if name == "formula" else unsigned(values) for name, values in kept.again.items()},
    }
    columns = ColumnWriter(folder)
    for name, before in remains.manifest.columns.items():
        values = made.get(name)
        if values is None:
            column = remains.column(name)
            if column is None:
                continue
            values = column[kept.row]
            if name == "input" or (name in _derived(remains.manifest) and name != "formula"):
                values = unsigned(values)
        described = attributes(before)
        if _untrue(remains, kept, before) is not None:
            described["rule"] = None
        columns.write(name, values, **described)
    return columns


def _untrue(remains: DamagedDataset, kept: _Kept, column: Column) -> str | None:
    """Return why the rule of a column of splits is not true of the new dataset; None if it is, or there is none."""
    rule = column.rule or {}
    if "labelled" in rule and remains.column(rule["labelled"]) is None:
        return f"the column {rule['labelled']!r} was damaged, whose values it follows"
    if "counts" in rule and len(kept.row) < remains.manifest.graphs:
        return "graphs were lost, and it states their exact numbers"
    return None


def _notes(remains: DamagedDataset, kept: _Kept, columns: ColumnWriter, *, named: bool) -> Iterator[str]:
    """Return a sentence for every loss except for graphs."""
    for name in remains.damaged:
        if name not in columns.columns:
            yield f"the column {name!r} was damaged and is left out"
    for name, column in remains.manifest.splits().items():
        if name in columns.columns and (reason := _untrue(remains, kept, column)) is not None:
            yield f"the rule of the splits in {name!r} is left out, because {reason}"
    for name in columns.columns:
        yield from dropped_energies(name, remains.manifest)
    if named:
        yield "the column 'id' was damaged: graphs are called after the numbers of their inputs, or of their rows"


def _rejected(source: Path, manifest: Manifest) -> tuple[list[Rejected], tuple[str, ...]]:
    """Return the quarantined inputs, and a sentence if their list is damaged."""
    try:
        return read_quarantine(source, manifest), ()
    except StorageError:
        raise
    except (CorruptDataset, OSError):
        count = 0 if manifest.quarantine is None else manifest.quarantine.count
        return [], (f"the list of quarantined inputs was damaged: which {count} inputs were on it is not known",)


def _quarantined(
    graphs: list[LostGraph], inputs: NDArray[np.int64], names: list[str], manifest: Manifest
) -> Iterator[Rejected]:
    """Yield the inputs of lost graphs."""
    sources = manifest.provenance.sources
    starts = [0, *accumulate(source.inputs for source in sources)]
    for one in graphs:
        position = int(inputs[one.row])
        if position == manifest.inputs:
            continue  # the input is not known, and the notes say so
        number = bisect_right(starts, position) - 1
        entry = position - starts[number]
        graph_id = one.id or names[one.row]
        yield Rejected(sources[number].name, position, entry, graph_id, "CorruptDataset", one.reason)


def _provenance(manifest: Manifest, lost: int, notes: tuple[str, ...]) -> Provenance:
    before = manifest.provenance
    told = (f"salvaged: {lost} of {manifest.graphs} graphs were lost",) if lost or notes else ()
    return replace(before, notes=(*before.notes, *told, *notes))
