"""A damaged dataset -> a new one of everything in it that is provably as it was written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, OutputExists, StorageError
from lazygraph.format.columns import Column, attributes, invalid_values, text_array, unsigned, write_column
from lazygraph.format.manifest import Manifest, Provenance, Shard, content_id, graph_digest
from lazygraph.format.record import Record
from lazygraph.format.recovery import DamagedDataset, LostRecord, RecoveredRecord
from lazygraph.format.shard import write_shard
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import broken_promises, check_crystals
from lazygraph.graphs.sizes import derived_names, derived_sizes
from lazygraph.graphs.spec import GraphSpec
from lazygraph.storage.files import write_atomic
from lazygraph.writing.fields import crystal_schema
from lazygraph.writing.label_columns import dropped_energies
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import UNKNOWN_SOURCE, Rejected, read_quarantine, write_quarantine

__all__ = ["LostGraph", "Salvage", "salvage"]


@dataclass(frozen=True, slots=True)
class LostGraph:
    """A graph that is not in the new dataset; ``id`` is empty where the ids are damaged too."""

    row: int
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved: ``kept`` of ``graphs``, the ``lost`` ones, and a sentence for everything else that is gone."""

    path: Path
    graphs: int
    kept: int
    lost: tuple[LostGraph, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is gone."""
        return not self.lost and not self.notes


def salvage(
    path: str | os.PathLike[str], output: str | os.PathLike[str], progress: Callable[[int], None] | None = None
) -> Salvage:
    """Write what is whole in a damaged dataset as a new dataset; the damaged one is only read.

    Nothing is kept that is not proven to be what was written: by the hash of its file, or by its own checksum. Sizes
    and formulas of a damaged column are counted again from the records; labels and splits of one are gone; where the
    ids are damaged, graphs are called after their inputs (``input-0000012``). Lost graphs are listed among the
    quarantined inputs of the new dataset: ``lazygraph-write SOURCES -o OUTPUT --retry-quarantined``, with all sources
    that the dataset was made from in the same order, makes them again.

    Args:
        path: the damaged dataset.
        output: the dataset to make.
        progress: called with the number of graphs looked at since it was called last.

    Raises:
        CorruptDataset: the manifest or the dictionary is damaged, or not one record is whole.
        UnsupportedFormat: the dataset is of a newer version of the format.
        OutputExists: there is something at the output.
        WriterBusy: another process is writing there.
    """
    source = Path(path).absolute()
    manifest = Manifest.load(source)
    manifest.check_writable(source)
    layout = Layout.of(output)
    with exclusive(layout) as hold:
        if layout.final.exists() or layout.plan.exists():
            there = layout.final if layout.final.exists() else layout.partial
            msg = f"{there} exists; choose another name for what is salvaged"
            raise OutputExists(msg)
        rejected, unlisted = _rejected(source, manifest)
        quarantined = None if unlisted else np.array([one.position for one in rejected], np.int64)
        remains = DamagedDataset(source, manifest, quarantined)
        kept, lost = _keep(remains, layout, progress or (lambda _: None))
        ids, digests, named = _ids(remains, kept, complete=not lost)
        columns = dict(_columns(remains, kept, ids, layout.dataset))
        notes = (*_notes(remains, columns, named=named), *unlisted)
        graphs = [LostGraph(one.row, "" if named else remains.graph_id(one.row), one.reason) for one in lost]
        added = _inputs_of(graphs, rejected, kept.position, manifest)
        if (file := manifest.dictionary) is not None:
            write_atomic(layout.dataset / file.name, file.check(source).read_bytes())
        new = replace(
            manifest,
            graphs=len(ids),
            shards=kept.shards,
            columns=columns,
            quarantine=write_quarantine(layout.dataset, [*rejected, *added]),
            provenance=_provenance(manifest, len(lost), notes),
            content_id=content_id(manifest.recipe, manifest.schema, (digest.tobytes() for digest in digests)),
        )
        publish(hold, layout.dataset, new)
    return Salvage(layout.final, manifest.graphs, len(ids), tuple(graphs), notes)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Records that are kept, as arrays of equal length, and the shards that they were written to."""

    shards: tuple[Shard, ...]
    record: NDArray[Any]
    row: NDArray[np.int64]
    position: NDArray[np.int64]
    counts: NDArray[np.int64]
    digest: NDArray[np.void]
    """What each adds to the content id under the id that the column gives it."""
    digest_named: NDArray[np.void]
    """The same under the name of its input, where the column is damaged."""
    again: dict[str, NDArray[Any]]
    """The damaged columns that were made again."""


def _keep(remains: DamagedDataset, layout: Layout, progress: Callable[[int], None]) -> tuple[_Kept, list[LostRecord]]:
    """Copy what is whole to new shards, one for each old one, and list what is not."""
    lost: list[LostRecord] = []
    parts: list[_Kept] = []
    spec = _recipe(remains.manifest)
    for shard in remains.shards():
        whole: list[RecoveredRecord] = []
        for each in shard:
            found = _sound(remains, each, spec) if isinstance(each, RecoveredRecord) and spec is not None else each
            if isinstance(found, RecoveredRecord):
                whole.append(found)
            else:
                lost.append(found)
            progress(1)
        if whole:
            parts.append(_part(remains, layout.dataset, len(parts), whole))
    if not parts:
        msg = f"{remains.path}: not one record is whole, so there is nothing to write"
        raise CorruptDataset(msg + (f"; the first: {lost[0].reason}" if lost else ""))
    records = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    again = {name: np.concatenate([part.again[name] for part in parts]) for name in parts[0].again}
    return _Kept(tuple(shard for part in parts for shard in part.shards), **records, again=again), lost


def _sound(remains: DamagedDataset, found: RecoveredRecord, spec: GraphSpec) -> RecoveredRecord | LostRecord:
    """A record of a crystal, if it keeps what ``lazygraph verify`` asks of it."""
    columns = {name: remains.column(name) for name in derived_names(spec)}
    said = {name: int(column[found.row]) for name, column in columns.items() if column is not None}
    problem = next(broken_promises(spec, found.record.counts, found.record.arrays(), said), None)
    return found if problem is None else LostRecord(found.row, problem)


_ARRAYS = ("record", "row", "position", "counts", "digest", "digest_named")


def _part(remains: DamagedDataset, folder: Path, number: int, whole: list[RecoveredRecord]) -> _Kept:
    """One shard, written, and its part of the columns."""
    manifest = remains.manifest
    file, record = write_shard(folder, number, [one.frame for one in whole])
    digest = _digests([remains.ids[one.row] for one in whole], whole)
    digest_named = digest
    if "id" in remains.damaged:
        digest_named = _digests([_named_after(one.record.position).encode() for one in whole], whole)
    again, made = [name for name in _derived(manifest) if name in remains.damaged], []
    if again and manifest.recipe is not None:
        spec = GraphSpec.from_json(manifest.recipe)
        made = [_made(spec, one.record) for one in whole]
    return _Kept(
        (Shard(file, len(whole), len(whole)),),
        record,
        row=np.array([one.row for one in whole], np.int64),
        position=np.array([one.record.position for one in whole], np.int64),
        counts=np.array([one.record.counts for one in whole], np.int64).reshape(len(whole), -1),
        digest=digest,
        digest_named=digest_named,
        again={name: _column([one[name] for one in made]) for name in again},
    )


def _digests(ids: list[bytes], whole: list[RecoveredRecord]) -> NDArray[np.void]:
    return np.frombuffer(b"".join(map(graph_digest, ids, (one.raw for one in whole))), "V32")


def _named_after(position: int) -> str:
    return f"input-{position:07d}"


def _recipe(manifest: Manifest) -> GraphSpec | None:
    """The recipe of crystals; None where records are of something else."""
    if manifest.recipe is None:
        return None
    spec = GraphSpec.from_json(manifest.recipe)
    if not set(crystal_schema(spec, ()).names) <= set(manifest.schema.names):
        return None
    check_crystals(manifest.schema)
    return spec


def _derived(manifest: Manifest) -> tuple[str, ...]:
    """The columns that can be made from the records of crystals alone."""
    spec = _recipe(manifest)
    return () if spec is None else ("formula", *derived_names(spec))


def _made(spec: GraphSpec, record: Record) -> dict[str, Any]:
    """The values of one record for those columns."""
    arrays: dict[str, Any] = record.arrays()
    crystal = Crystal(arrays["lattice"], arrays["frac_coords"], arrays["numbers"], tuple(arrays["pbc"].tolist()))
    edges, images = arrays["edge_index"].astype(np.int32), arrays["images"].astype(np.int16)
    return {"formula": crystal.formula, **derived_sizes(spec, CrystalGraph(crystal, edges, images))}


def _column(values: list[Any]) -> NDArray[Any]:
    return text_array(values, "formula") if isinstance(values[0], str) else np.array(values, np.int64)


def _ids(remains: DamagedDataset, kept: _Kept, *, complete: bool) -> tuple[NDArray[np.bytes_], NDArray[np.void], bool]:
    """The ids of the kept rows, the digests that belong to them, and whether they are called after their inputs."""
    manifest = remains.manifest
    named = "id" in remains.damaged
    if named and complete and invalid_values(manifest.columns["id"], remains.ids) is None:
        # The damage may lie beside the ids: the content id tells whether they are those that were written.
        digests = (digest.tobytes() for digest in kept.digest)
        named = content_id(manifest.recipe, manifest.schema, digests) != manifest.content_id
    ids = text_array([_named_after(n) for n in kept.position.tolist()]) if named else remains.ids[kept.row]
    if len(np.unique(ids)) < len(ids):
        msg = f"{remains.path}: two graphs have one id; required: a dataset that lazygraph-write made"
        raise CorruptDataset(msg)
    return ids, kept.digest_named if named else kept.digest, named


def _columns(
    remains: DamagedDataset, kept: _Kept, ids: NDArray[np.bytes_], folder: Path
) -> Iterator[tuple[str, Column]]:
    """The columns of the new dataset: made of the records, or the kept rows of those whose hash is right."""
    order = np.argsort(ids, kind="stable")
    axes = {f"n_{axis}": kept.counts[:, number] for number, axis in enumerate(remains.manifest.schema.axes)}
    made = {
        "record": kept.record,
        "id": ids,
        "id_order": order.astype("<u4" if len(order) < 2**32 else "<u8"),
        **{name: unsigned(counts) for name, counts in axes.items()},
        **{name: values if name == "formula" else unsigned(values) for name, values in kept.again.items()},
    }
    for name, before in remains.manifest.columns.items():
        values = made.get(name)
        if values is None:
            column = remains.column(name)
            if column is None:
                continue
            values = column[kept.row]
            if name in _derived(remains.manifest) and name != "formula":
                values = unsigned(values)
        yield name, write_column(folder, name, values, **attributes(before))


def _notes(remains: DamagedDataset, columns: dict[str, Column], *, named: bool) -> Iterator[str]:
    """A sentence for everything but graphs that is gone."""
    for name in remains.damaged:
        if name not in columns:
            yield f"the column {name!r} was damaged and is left out"
    for name in columns:
        yield from dropped_energies(name, remains.manifest)
    if named:
        yield "the column 'id' was damaged: graphs are called after the numbers of their inputs"


def _rejected(source: Path, manifest: Manifest) -> tuple[list[Rejected], tuple[str, ...]]:
    """The quarantined inputs, and a sentence where their list is damaged."""
    try:
        return read_quarantine(source, manifest), ()
    except StorageError:
        raise
    except (CorruptDataset, OSError):
        return [], ("the list of quarantined inputs was damaged: those that are not in the dataset are listed anew",)


def _inputs_of(
    graphs: list[LostGraph], rejected: list[Rejected], kept: NDArray[np.int64], manifest: Manifest
) -> Iterator[Rejected]:
    """Every input that is neither kept nor quarantined: those of the lost graphs, in the order of the rows."""
    if manifest.inputs > 2**32:  # nobody has as many; a stranger may say so
        return
    missing = np.ones(manifest.inputs, bool)
    taken = np.concatenate([kept, np.array([one.position for one in rejected], np.int64)])
    missing[taken[taken < manifest.inputs]] = False
    positions = np.flatnonzero(missing).tolist()
    # Where the list of quarantined inputs is damaged, some of these were on it: which, nobody knows.
    pairs = len(positions) == len(graphs)
    for number, position in enumerate(positions):
        graph_id = (graphs[number].id if pairs else "") or _named_after(position)
        reason = graphs[number].reason if pairs else "it was lost, or quarantined before, when the dataset was damaged"
        yield Rejected(UNKNOWN_SOURCE, position, position, graph_id, "CorruptDataset", reason)


def _provenance(manifest: Manifest, lost: int, notes: tuple[str, ...]) -> Provenance:
    before = manifest.provenance
    told = (f"salvaged: {lost} of {manifest.graphs} graphs were lost",) if lost or notes else ()
    return replace(before, notes=(*before.notes, *told, *notes))
