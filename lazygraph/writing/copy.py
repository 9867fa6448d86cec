"""Datasets made of datasets without building a graph: several as one (``concat``), or a part of one (``subset``).

A record says nothing of its place, so whole shards are linked or copied as files, and single records as they are.
Nothing is compressed again, except where a shard would mix codecs or dictionaries, or fields are left out.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, combinations
from itertools import count as count_from
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError, LabelError, OutputExists, RecipeMismatch
from lazygraph.format.codec import CODECS
from lazygraph.format.columns import NO_SPLIT, Column, ColumnWriter, text_array, texts_of, unsigned
from lazygraph.format.digests import BLOCK, Blocks, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import MAX_DICTIONARIES, Manifest, Provenance, Removal, Shard
from lazygraph.format.schema import Schema
from lazygraph.format.shard import write_shard
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.reading.conditions import evaluate
from lazygraph.reading.table import Columns
from lazygraph.registry import unknown_name
from lazygraph.sources.base import Label, readable
from lazygraph.sources.dataset import label_of, rule_left_out
from lazygraph.storage.files import FileRef, fsync_directory, make_folder, temporary_beside, write_atomic
from lazygraph.writing.common_fields import common_schema, with_fields
from lazygraph.writing.hold import Hold
from lazygraph.writing.label_columns import dropped_energies, label_column, missing_rows
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.owned import is_dataset
from lazygraph.writing.plan import Plan, common_about, shard_size
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import Rejected, input_of_rows, read_quarantine, renumbered, write_quarantine
from lazygraph.writing.splits import Splits, write_split

__all__ = ["CopyReport", "Duplicates", "Fields", "concat", "copy_as_planned", "subset"]

LEVEL = 9  # of records that are compressed again
Duplicates = Literal["refuse", "skip", "prefix"]
Fields = Literal["same", "common"]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied: the number of graphs, and a sentence for everything that is not in the new dataset."""

    path: Path
    graphs: int
    notes: tuple[str, ...] = ()


def concat(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    on_duplicate: Duplicates = "refuse",
    fields: Fields = "same",
    overwrite: bool = False,
) -> CopyReport:
    """Make one dataset of several, in their order. No graph is built, decoded or compressed again.

    The datasets must have one recipe, and the same fields unless only those that they share are kept. Labels that only
    some of them have are missing (NaN) in the others. Labels and splits of one name become one; units must be equal.
    The lists of quarantined inputs are joined.

    Args:
        paths: the datasets; two at least.
        out: the dataset to make.
        on_duplicate: what happens to an id that two of them have: ``"refuse"`` raises an error, ``"skip"`` keeps the
            first graph, ``"prefix"`` puts the name of its dataset (without ``.lg``) and a dash before every id; where
            names are equal, they are numbered.
        fields: what happens to fields (per-atom labels, mostly) that the datasets do not share: ``"same"`` raises an
            error, ``"common"`` leaves them out and writes the records without them. A field is shared if name, level,
            shape and unit are the same in all. Where it is float32 in some and float64 in others, it becomes float64;
            with other differences of type it is left out. The values of the fields that are kept do not change.
        overwrite: replace a dataset that is there already.

    Returns:
        The number of graphs, and notes on what was left out.

    Raises:
        InputError: fewer than two datasets; ids that come twice; fields that differ, or none that all have.
        RecipeMismatch: the recipes differ; the message says where.
        LabelError: a label has two units or shapes.
        OutputExists: there is something at ``out``.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> for seed in (0, 1):
        ...     _ = lg.write(f"prototypes:20?seed={seed}", f"{folder.name}/{seed}.lg", workers=1)
        >>> both = [f"{folder.name}/{seed}.lg" for seed in (0, 1)]
        >>> concat(both, folder.name + "/both.lg", on_duplicate="prefix").graphs
        40
        >>> lg.LazyGraphDataset(folder.name + "/both.lg").ids[20].startswith("1-")
        True
        >>> folder.cleanup()
    """
    if isinstance(paths, (str, os.PathLike)) or len(paths) < 2:
        msg = f"found {paths!r}; required: a list of two datasets or more"
        raise InputError(msg)
    if on_duplicate not in ("refuse", "skip", "prefix"):
        raise InputError(unknown_name("on_duplicate", on_duplicate, ("refuse", "skip", "prefix")))
    if fields not in ("same", "common"):
        raise InputError(unknown_name("fields", fields, ("same", "common")))
    stores = [Store(path) for path in paths]
    prefixes = _prefixes(stores) if on_duplicate == "prefix" else [b""] * len(stores)
    parts = [_Part(store, np.arange(len(store)), prefix) for store, prefix in zip(stores, prefixes, strict=True)]
    notes: list[str] = []
    if on_duplicate == "skip":
        parts, notes = _without_duplicates(parts)
    if fields == "common":
        parts, told = _with_common_fields(parts)
        notes += told
    if any(part.prefix and part.store.manifest.quarantine is not None for part in parts):
        notes.append("quarantined inputs that are tried again later get ids without a prefix")
    return _copy(parts, out, overwrite=overwrite, notes=notes, whole=True)


def subset(
    dataset: Any,
    out: str | os.PathLike[str],
    *,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> CopyReport:
    """Make a dataset of some graphs of another one, in its order. No graph is built or decoded.

    Labels, units and splits are kept. A rule that all graphs were split by is not, because it would split these in
    another way. Conditions are combined: a graph must meet all of them.

    Args:
        dataset: a path, or an open ``LazyGraphDataset`` or a part of one, whose order is kept.
        out: the dataset to make.
        where: a condition on columns, as ``LazyGraphDataset.where`` takes it.
        ids: the ids to take, in this order.
        split: the name of a split.
        overwrite: replace a dataset that is there already.

    Returns:
        The number of graphs, and notes on what was left out.

    Raises:
        InputError: the condition or the split cannot be used, an id is listed twice, or no graph is left.
        UnknownId: the dataset has no graph of an id.
        OutputExists: there is something at ``out``.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1)
        >>> subset(folder.name + "/p.lg", folder.name + "/small.lg", where="n_atoms < 10").graphs < 30
        True
        >>> folder.cleanup()
    """
    store, rows = _opened(dataset)
    if ids is not None:
        rows = _rows_of_ids(store, rows, ids)
    if where is not None:
        rows = rows[evaluate(where, Columns(store, rows).operand)]
    if split is not None:
        rows = rows[_in_split(store, rows, split)]
    if not len(rows):
        msg = f"no graph of {store.name} is left, so there is nothing to write; ask for fewer conditions"
        raise InputError(msg)
    if len(np.unique(rows)) < len(rows):
        msg = f"some graphs of {store.name} were chosen more than once; required: each once"
        raise InputError(msg)
    notes = []
    if store.manifest.quarantine is not None:
        lost = store.manifest.quarantine.count
        notes.append(f"{lost} inputs were quarantined when {_name(store)} was made, and are not listed in it")
    return _copy([_Part(store, rows, b"")], out, overwrite=overwrite, notes=notes, whole=False)


class _Part(NamedTuple):
    """Rows of one dataset, what is put before their ids, and the fields of their records if not all are kept."""

    store: Store
    rows: NDArray[np.int64]
    prefix: bytes
    kept: Schema | None = None

    @property
    def schema(self) -> Schema:
        """What the records hold in the new dataset."""
        return self.store.manifest.schema if self.kept is None else self.kept

    def raw(self, row: int) -> bytes:
        """A record in the new dataset, decompressed."""
        raw = self.store.raw(row)
        return raw if self.kept is None else with_fields(raw, self.store.manifest.schema, self.kept)

    @property
    def ends(self) -> list[int]:
        """The row behind each shard of the dataset."""
        return list(accumulate(shard.rows for shard in self.store.manifest.shards))

    def column(self, name: str) -> NDArray[Any]:
        """The values of a column, in order."""
        whole = len(self.rows) == len(self.store) and bool((np.diff(self.rows) == 1).all())
        return self.store.column(name) if whole else self.store.checked_column(name).rows(self.rows)

    def ids(self) -> NDArray[np.bytes_]:
        """The ids in the new dataset."""
        ids = self.column("id")
        if not self.prefix:
            return ids
        return text_array([(self.prefix + one).decode() for one in ids.tolist()])


def _copy(
    parts: list[_Part], out: str | os.PathLike[str], *, overwrite: bool, notes: Sequence[str], whole: bool
) -> CopyReport:
    """Copy the parts into a new dataset; ``whole`` where they are all graphs of their datasets but duplicates."""
    _check_alike(parts)
    layout = Layout.of(out)
    ids = np.concatenate([part.ids() for part in parts])
    order = np.argsort(ids, kind="stable")
    _refuse_duplicates(parts, ids, order)
    with exclusive(layout) as hold:
        _check_output(layout, parts, overwrite=overwrite)
        told = list(notes)
        graphs = _graphs(parts, ids, order, layout.dataset, told, whole=whole, inputs=_inputs(parts, whole=whole))
        manifest = replace(
            graphs,
            inputs=sum(part.store.manifest.inputs for part in parts),
            quarantine=write_quarantine(layout.dataset, _rejected(parts)) if whole else None,
            provenance=_provenance(parts, told),
            history=tuple(_history(parts)),
            about=_about(parts, told),
            user=_user(parts, told),
        )
        publish(hold, layout.dataset, manifest)
    return CopyReport(layout.final, len(ids), tuple(told))


def copy_as_planned(hold: Hold, plan: Plan, chosen: Sequence[tuple[Store, NDArray[np.int64]]]) -> None:
    """Publish stored graphs as the dataset of a plan to build them: what it says of itself is what the plan says.

    Args:
        hold: the exclusive lock on the place where it lies.
        plan: its inputs are the graphs, in order, and its labels and schema are theirs.
        chosen: datasets, and the rows to copy of each.

    Raises:
        CorruptDataset: a record, a shard or a column is damaged.
    """
    parts = [_Part(store, rows, b"") for store, rows in chosen]
    ids = np.concatenate([part.ids() for part in parts])
    told = list(plan.notes)
    order = np.argsort(ids, kind="stable")
    graphs = _graphs(parts, ids, order, hold.layout.dataset, told, whole=False, inputs=None)
    notes = tuple(dict.fromkeys(told))  # the plan says of a dataset what copying says of its column
    provenance = Provenance(plan.source_files(), _provenance(parts, ()).versions, notes)
    publish(hold, hold.layout.dataset, replace(graphs, provenance=provenance, about=dict(plan.about)))


def _graphs(
    parts: Sequence[_Part],
    ids: NDArray[np.bytes_],
    order: NDArray[np.intp],
    folder: Path,
    notes: list[str],
    *,
    whole: bool,
    inputs: NDArray[np.int64] | None,
) -> Manifest:
    """Copy the graphs and their columns; a manifest that says nothing of where they come from."""
    shards, record, dictionaries = _shards(parts, folder, whole=whole)
    blocks = _blocks(parts, ids)
    columns = ColumnWriter(folder)
    columns.write("record", record)
    columns.write("id", ids)
    columns.write("id_order", order.astype("<u4" if len(order) < 2**32 else "<u8"))
    _write_columns(columns, parts, notes)
    if inputs is not None:
        columns.write("input", unsigned(inputs))
    first = parts[0].store.manifest
    return Manifest(
        graphs=len(ids),
        inputs=len(ids),
        recipe=first.recipe,
        schema=parts[0].schema,
        dictionaries=dictionaries,
        shards=shards,
        columns=columns.columns,
        digests=columns.digests(blocks),
        quarantine=None,
        provenance=Provenance(),
        content_id=content_id(first.recipe, parts[0].schema, blocks),
    )


# ---- what is copied ----


def _opened(dataset: Any) -> tuple[Store, NDArray[np.int64]]:
    """The dataset and the rows of a path, or of a ``LazyGraphDataset`` without a transform and with its own recipe."""
    if isinstance(dataset, (str, os.PathLike)):
        store = Store(dataset)
        return store, np.arange(len(store))
    if getattr(dataset, "transform", None) is not None:
        msg = f"{dataset!r} has a transform, which cannot be stored; required: none"
        raise InputError(msg)
    store = Store(dataset.storage)
    _ = store.path  # a dataset elsewhere is refused
    if store.manifest != dataset.manifest:
        msg = f"{store.name} was changed since it was opened; open it again, and choose its graphs again"
        raise InputError(msg)
    spec = dataset.spec
    if spec is not None and spec.to_json() != store.manifest.recipe:
        msg = (
            f"{dataset!r} is read with other graphs than those that are stored; write them with lazygraph.write, which "
            "builds them"
        )
        raise RecipeMismatch(msg)
    return store, np.asarray(dataset.indices(), np.int64)


def _rows_of_ids(store: Store, rows: NDArray[np.int64], ids: Sequence[str]) -> NDArray[np.int64]:
    wanted = np.array([store.row_of(str(one)) for one in ids], np.int64)
    if len(np.unique(wanted)) < len(wanted):
        twice = next(one for k, one in enumerate(ids) if wanted[k] in wanted[:k])
        msg = f"the id {twice!r} is listed twice; required: each once"
        raise InputError(msg)
    return wanted[np.isin(wanted, rows)]


def _in_split(store: Store, rows: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
    column = store.manifest.columns.get("split")
    names = () if column is None else column.categories or ()
    if name not in names:
        raise InputError(unknown_name("split", name, names))
    found: NDArray[np.bool_] = store.checked_column("split").rows(rows) == names.index(name)
    return found


def _prefixes(stores: Sequence[Store]) -> list[bytes]:
    """The name of each dataset and a dash; where names are equal, they are numbered from 1, until all differ."""
    stems = [_name(store).removesuffix(".lg") for store in stores]
    taken = {stem for stem in stems if stems.count(stem) == 1}
    out = []
    for stem in stems:
        numbers = (f"{stem}{number}" for number in count_from(1))
        chosen = stem if stem in taken and stems.count(stem) == 1 else next(one for one in numbers if one not in taken)
        taken.add(chosen)
        out.append(f"{chosen}-".encode())
    return out


def _name(store: Store) -> str:
    """The name of a dataset's folder, in letters that UTF-8 can write."""
    return readable(store.path.name)


def _without_duplicates(parts: list[_Part]) -> tuple[list[_Part], list[str]]:
    """The parts without graphs of ids that an earlier part has, and what was left out."""
    seen: NDArray[np.bytes_] = np.empty(0, "S1")
    out, notes = [], []
    for part in parts:
        ids = part.column("id")
        taken = np.isin(ids, seen)
        if taken.any():
            some = ", ".join(repr(one.decode()) for one in ids[taken][:3].tolist())
            notes.append(
                f"{int(taken.sum())} graphs of {_name(part.store)} were skipped, because a dataset before it has "
                f"their ids: {some}{', ...' if taken.sum() > 3 else ''}"
            )
        seen = np.concatenate([seen, ids[~taken]])
        out.append(part._replace(rows=part.rows[~taken]))
    return out, notes


def _refuse_duplicates(parts: Sequence[_Part], ids: NDArray[np.bytes_], order: NDArray[np.intp]) -> None:
    same = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if not len(same):
        return
    ends = list(accumulate(len(part.rows) for part in parts))
    first, second = order[same[0]], order[same[0] + 1]
    names = [parts[int(np.searchsorted(ends, row, side="right"))].store for row in (first, second)]
    msg = (
        f"{len(same)} ids come twice, such as {ids[first].decode()!r} in {_name(names[0])} and in {_name(names[1])}; "
        "keep the first of each with on_duplicate='skip' (--on-duplicate skip), or make all ids differ with "
        "on_duplicate='prefix'"
    )
    raise InputError(msg)


def _with_common_fields(parts: Sequence[_Part]) -> tuple[list[_Part], tuple[str, ...]]:
    """The parts with the fields that all of them have, and a sentence for each other field."""
    for part in parts[1:]:
        _check_recipe(parts[0].store, part.store)
    schema, notes = common_schema([(_name(part.store), part.schema) for part in parts])
    return [part if part.schema == schema else part._replace(kept=schema) for part in parts], notes


def _check_alike(parts: Sequence[_Part]) -> None:
    """Refuse datasets whose graphs or labels cannot stand in one dataset."""
    first = parts[0].store
    for part in parts[1:]:
        _check_recipe(first, part.store)
        one, other = parts[0].schema, part.schema
        if one != other:
            mine, theirs = ({field.name: field for field in schema.fields} for schema in (one, other))
            names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
            what = "the order of their fields" if not names else f"the field {names[0]!r}"
            msg = (
                f"{first.name} and {part.store.name} differ in {what}: {mine.get(names[0]) if names else list(mine)} "
                f"and {theirs.get(names[0]) if names else list(theirs)}; required: the same fields of the same types. "
                "Leave out what differs with fields='common' (--fields common)"
            )
            raise InputError(msg)
    # Each with every other one: the first may lack a label of which two others differ.
    for earlier, later in combinations([part.store for part in parts], 2):
        _check_labels(earlier, later)


def _check_recipe(one: Store, other: Store) -> None:
    recipes = [store.manifest.recipe for store in (one, other)]
    if recipes[0] == recipes[1]:
        return
    if None in recipes:
        differences = ["one of them came ready-made"]
    else:
        mine, theirs = (GraphSpec.from_json(recipe or {}) for recipe in recipes)
        differences = mine.diff(theirs)
    msg = f"{one.path} and {other.path} have other recipes: {'; '.join(differences)}; write one of them again"
    raise RecipeMismatch(msg)


def _check_labels(one: Store, other: Store) -> None:
    mine, theirs = one.manifest.columns, other.manifest.columns
    for name in mine.keys() & theirs.keys():
        for what in ("unit", "per", "role"):
            values = [_alike(getattr(columns[name], what)) for columns in (mine, theirs)]
            if values[0] != values[1]:
                msg = (
                    f"the label {name!r} has the {what} {values[0]} in {one.path}, and {values[1]} in {other.path}; "
                    "required: the same. Convert one of them, or give it another name"
                )
                raise LabelError(msg)
        if mine[name].role != "index" and mine[name].shape[1:] != theirs[name].shape[1:]:
            msg = (
                f"the label {name!r} has the shape {mine[name].shape[1:]} in {one.path}, and {theirs[name].shape[1:]} "
                f"in {other.path}; required: the same"
            )
            raise LabelError(msg)


def _alike(role: Any) -> Any:
    """Whether texts are stored as categories depends on how often they come."""
    return "text" if role == "category" else role


def _check_output(layout: Layout, parts: Sequence[_Part], *, overwrite: bool) -> None:
    final = layout.final
    if any(part.store.path.resolve() == final.resolve() for part in parts):
        msg = f"{final} is one of the datasets that are read; choose another name"
        raise OutputExists(msg)
    if final.exists() and not (overwrite and is_dataset(final)):
        msg = f"{final} exists; choose another name, or replace a dataset with --overwrite (overwrite=True)"
        raise OutputExists(msg)
    if layout.plan.exists():
        msg = f"{layout.partial} holds an unfinished dataset; finish it, or delete that folder"
        raise OutputExists(msg)


# ---- records ----


class _Frames(NamedTuple):
    """Records that are copied one by one: rows of a part."""

    part: int
    rows: NDArray[np.int64]


class _Shard(NamedTuple):
    """A shard of a part that is copied as a file."""

    part: int
    shard: int


def _segments(parts: Sequence[_Part], *, whole: bool) -> Iterator[_Frames | _Shard]:
    """What is copied, in order: whole shards where their rows follow one another, and the rows between them.

    Of a part of a dataset no shard is copied that holds records besides its rows: they may be of removed graphs. Nor is
    one whose records lose fields.
    """
    for number, part in enumerate(parts):
        entries = part.store.manifest.shards
        starts = [0, *accumulate(shard.rows for shard in entries)]
        rows, begin, at = part.rows, 0, 0
        # Where a shard could begin: its first row is wanted.
        first_of = {
            start: shard
            for shard, start in enumerate(starts[:-1])
            if entries[shard].rows and part.kept is None and (whole or not entries[shard].spare)
        }
        for place in np.flatnonzero(np.isin(rows, list(first_of))).tolist():
            shard = first_of[int(rows[place])]
            size = entries[shard].rows
            if place < at or not np.array_equal(
                rows[place : place + size], np.arange(starts[shard], starts[shard] + size)
            ):
                continue
            if begin < place:
                yield _Frames(number, rows[begin:place])
            yield _Shard(number, shard)
            begin = at = place + size
        if begin < len(rows):
            yield _Frames(number, rows[begin:])


def _shards(
    parts: Sequence[_Part], folder: Path, *, whole: bool
) -> tuple[tuple[Shard, ...], NDArray[Any], tuple[FileRef, ...]]:
    """Copy the records.

    Returns:
        The shards, the column ``record``, and the dictionaries that the shards name.
    """
    dictionaries = _Dictionaries(parts, folder)
    shards: list[Shard] = []
    record: list[NDArray[Any]] = []
    frames: list[tuple[int, NDArray[np.int64]]] = []
    most = shard_size(sum(len(part.rows) for part in parts))

    def flush() -> None:
        while frames:
            taken, room = [], most
            while frames and room:
                part, rows = frames.pop(0)
                taken.append((part, rows[:room]))
                if len(rows) > room:
                    frames.insert(0, (part, rows[room:]))
                room -= len(taken[-1][1])
            shard, entries = _written(parts, taken, dictionaries, folder, len(shards))
            shards.append(shard)
            record.append(entries)

    for segment in _segments(parts, whole=whole):
        if isinstance(segment, _Frames):
            frames.append(segment)
            continue
        flush()
        store = parts[segment.part].store
        old = store.manifest.shards[segment.shard]
        start = sum(shard.rows for shard in store.manifest.shards[: segment.shard])
        file = _copied(store.path, old.file, folder, len(shards))
        number = dictionaries.number(segment.part, old.dictionary)
        shards.append(replace(old, file=file, dictionary=number))
        record.append(store.checked_column("record").rows(np.arange(start, start + old.rows)))
    flush()
    widest = np.dtype([(name, max(part.dtype[name] for part in record)) for name in ("offset", "length", "xxh3")])
    return tuple(shards), np.concatenate([part.astype(widest) for part in record]), dictionaries.files


class _Compression(NamedTuple):
    """How a record is compressed, whichever dataset it is of."""

    codec: str
    dictionary: str | None
    """The sha256 of its dictionary."""


class _Dictionaries:
    """The dictionaries of the new dataset: each is copied when a shard first needs it."""

    def __init__(self, parts: Sequence[_Part], folder: Path) -> None:
        self._parts, self._folder = parts, folder
        self._numbers: dict[str, int] = {}
        self.files: tuple[FileRef, ...] = ()

    def number(self, part: int, dictionary: int | None) -> int | None:
        """The number of a dictionary of a part in the new dataset."""
        if dictionary is None:
            return None
        store = self._parts[part].store
        file = store.manifest.dictionaries[dictionary]
        if file.sha256 not in self._numbers:
            if len(self.files) == MAX_DICTIONARIES:
                msg = f"the datasets have more than {MAX_DICTIONARIES} dictionaries; write them again as one dataset"
                raise InputError(msg)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / file.name, self.content(part, dictionary))
            self._numbers[file.sha256] = len(self.files)
            self.files = (*self.files, file)
        return self._numbers[file.sha256]

    def compression(self, part: int, shard: Shard) -> _Compression:
        """How the records of a shard of a part are compressed."""
        known = self._parts[part].store.manifest.dictionaries
        return _Compression(shard.codec, None if shard.dictionary is None else known[shard.dictionary].sha256)

    def content(self, part: int, dictionary: int) -> bytes:
        """The bytes of a dictionary of a part."""
        store = self._parts[part].store
        return _checked(store.path, store.manifest.dictionaries[dictionary]).read_bytes()


def _written(
    parts: Sequence[_Part],
    taken: Sequence[tuple[int, NDArray[np.int64]]],
    dictionaries: _Dictionaries,
    folder: Path,
    number: int,
) -> tuple[Shard, NDArray[Any]]:
    """A new shard of single records: in the codec, and with the dictionary, of most of them."""
    shards_of = [np.searchsorted(parts[part].ends, rows, side="right") for part, rows in taken]
    counts: Counter[_Compression] = Counter()
    example: dict[_Compression, tuple[int, int | None]] = {}  # a part and a number in it that stand for each
    for (part, _), shards in zip(taken, shards_of, strict=True):
        for shard, count in zip(*np.unique(shards, return_counts=True), strict=True):
            entry = parts[part].store.manifest.shards[shard]
            kind = dictionaries.compression(part, entry)
            counts[kind] += int(count)
            example.setdefault(kind, (part, entry.dictionary))
    chosen = max(counts, key=counts.__getitem__)
    part, own = example[chosen]
    compress = CODECS[chosen.codec].encoder(LEVEL, None if own is None else dictionaries.content(part, own))
    frames = []
    for (number_of_part, rows), shards in zip(taken, shards_of, strict=True):
        part_of, store = parts[number_of_part], parts[number_of_part].store
        alike = {
            shard: part_of.kept is None
            and dictionaries.compression(number_of_part, store.manifest.shards[shard]) == chosen
            for shard in np.unique(shards).tolist()
        }
        for row, shard in zip(rows.tolist(), shards.tolist(), strict=True):
            frames.append(store.frame(row) if alike[shard] else compress(part_of.raw(row)))
    file, record = write_shard(folder, number, frames)
    return Shard(file, len(frames), (), chosen.codec, dictionaries.number(part, own)), record


def _copied(directory: Path, file: FileRef, folder: Path, number: int) -> FileRef:
    """A shard under another number: a second link to the same file where the file system allows it, else a copy.

    Files of a dataset never change, so sharing one is safe. It is compared with its sha256 on the way.
    """
    path = _checked(directory, file).resolve()
    new = f"shards/{number:05d}-{file.sha256[:16]}.lmdb"
    make_folder((folder / new).parent)
    temporary = temporary_beside(folder / new)
    try:
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
                raise
            shutil.copyfile(path, temporary)
            with temporary.open("rb") as copied:
                os.fsync(copied.fileno())
        temporary.replace(folder / new)
    finally:
        with suppress(FileNotFoundError):  # a second link to a file that is there already is not moved over it
            temporary.unlink()
    fsync_directory((folder / new).parent)
    return file._replace(name=new)


def _checked(directory: Path, file: FileRef) -> Path:
    """The path of a file of a dataset, if it is what was written.

    Raises:
        CorruptDataset: it is gone or damaged.
    """
    try:
        return file.check(directory)
    except FileNotFoundError:
        msg = f"{directory / file.name} is missing, and the manifest names it"
        raise CorruptDataset(msg) from None


def _blocks(parts: Sequence[_Part], ids: NDArray[np.bytes_]) -> Blocks:
    """The digests of all blocks of graphs: those of whole blocks that stay as they are, else of the records, read."""
    out: list[Blocks] = []
    waiting: list[bytes] = []
    start = 0
    for part in parts:
        rows, n = part.rows, len(part.rows)
        aligned = start % BLOCK == 0 and not part.prefix and part.kept is None
        known = part.store.digests()[0]
        at = 0
        while at < n:
            row = int(rows[at])
            size = min(BLOCK, len(part.store) - row)
            if (
                aligned
                and at % BLOCK == 0
                and row % BLOCK == 0
                and at + size <= n
                and (size == BLOCK or (at + size == n and part is parts[-1]))
                and np.array_equal(rows[at : at + size], np.arange(row, row + size))
            ):
                out.append(known[row // BLOCK : row // BLOCK + 1])
                at += size
                continue
            for place in range(at, min(at + BLOCK, n)):
                waiting.append(graph_digest(ids[start + place], part.raw(int(rows[place]))))
                if len(waiting) == BLOCK:
                    out.append(blocks_of_graphs(np.frombuffer(b"".join(waiting), "V32")))
                    waiting = []
            at = min(at + BLOCK, n)
        start += n
    if waiting:
        out.append(blocks_of_graphs(np.frombuffer(b"".join(waiting), "V32")))
    return np.concatenate(out)


# ---- columns and the rest ----


def _write_columns(columns: ColumnWriter, parts: Sequence[_Part], notes: list[str]) -> None:
    """Every column but those of the index that are made new."""
    made = {"record", "id", "id_order", "input"}
    names = dict.fromkeys(name for part in parts for name in part.store.manifest.columns if name not in made)
    for name in names:
        there = [part.store.manifest.columns.get(name) for part in parts]
        described = next(column for column in there if column is not None)
        if described.role == "split":
            _write_splits(columns, parts, name, notes)
        elif described.role != "index":
            missing = [_name(part.store) for part, column in zip(parts, there, strict=True) if column is None]
            if missing:
                notes.append(f"the label {name!r} is missing in {', '.join(missing)}, whose graphs have no value of it")
            required = all(column is not None and column.required for column in there)
            label = replace(label_of(name, described), required=required)
            values = [_values(part, label, column) for part, column in zip(parts, there, strict=True)]
            notes += label_column(columns, label, values)
            notes += [note for part in parts for note in dropped_energies(name, part.store.manifest)]
        elif None in there:
            notes.append(f"the column {name!r} is left out, because not all of the datasets have it")
        else:
            values = [part.column(name) for part in parts]
            columns.write(name, np.concatenate(values) if name == "formula" else unsigned(np.concatenate(values)))


def _values(part: _Part, label: Label, column: Column | None) -> NDArray[Any]:
    if column is None:
        return missing_rows(label, len(part.rows))
    values = part.column(label.name)
    return texts_of(column, values) if label.dtype == "text" else values


def _write_splits(columns: ColumnWriter, parts: Sequence[_Part], name: str, notes: list[str]) -> None:
    """A column of splits of one list of names; a rule was about all graphs of one dataset."""
    own = [part.store.manifest.columns.get(name) for part in parts]
    names = tuple(dict.fromkeys(split for column in own if column is not None for split in column.categories or ()))
    codes = []
    for part, column in zip(parts, own, strict=True):
        if column is None:
            codes.append(np.full(len(part.rows), NO_SPLIT, np.uint8))
        else:
            codes.append(Splits(part.column(name), column.categories or ()).recoded(names).codes)
    if any(column is not None and column.rule is not None for column in own):
        notes.append(rule_left_out(name))
    write_split(columns, name, np.concatenate(codes), names, None)


def _inputs(parts: Sequence[_Part], *, whole: bool) -> NDArray[np.int64] | None:
    """The column ``input``; None where it follows from the quarantined inputs, or is not known."""
    found, first = [], 0
    total = sum(part.store.manifest.inputs for part in parts)
    follows = whole
    for part in parts:
        manifest = part.store.manifest
        if not manifest.provenance.sources:
            return None  # graphs that came ready-made have no inputs
        column = part.store.column("input") if "input" in manifest.columns else None
        own = input_of_rows(manifest, read_quarantine(part.store.path, manifest), column)
        if own is None:
            return None
        follows = follows and column is None and len(part.rows) == len(part.store)
        found.append(renumbered(own[part.rows], manifest.inputs, first, total))
        first += manifest.inputs
    return None if follows else np.concatenate(found)


def _rejected(parts: Sequence[_Part]) -> Iterator[Rejected]:
    first = 0
    for part in parts:
        for one in read_quarantine(part.store.path, part.store.manifest):
            yield replace(one, position=one.position + first, id=part.prefix.decode() + one.id)
        first += part.store.manifest.inputs


def _history(parts: Sequence[_Part]) -> Iterator[Removal]:
    for part in parts:
        prefix = part.prefix.decode()
        for one in part.store.manifest.history:
            yield replace(one, removed=tuple(prefix + graph_id for graph_id in one.removed))


def _provenance(parts: Sequence[_Part], notes: Sequence[str]) -> Provenance:
    all_parts = [part.store.manifest.provenance for part in parts]
    versions: dict[str, str] = {}
    for provenance in all_parts:
        for name, version in provenance.versions.items():
            known = versions.setdefault(name, version)
            if version not in known.split(", "):
                versions[name] = f"{known}, {version}"
    before = dict.fromkeys(note for provenance in all_parts for note in provenance.notes)
    return Provenance(tuple(s for p in all_parts for s in p.sources), versions, (*before, *notes))


def _user(parts: Sequence[_Part], notes: list[str]) -> dict[str, Any]:
    """The user's metadata that all parts share."""
    users: list[Mapping[str, Any]] = [part.store.manifest.user for part in parts]
    kept = {key: value for key, value in users[0].items() if all(user.get(key) == value for user in users[1:])}
    left = sorted({key for user in users for key in user} - kept.keys())
    if left:
        notes.append(f"the user's metadata of the datasets differ and are left out: {', '.join(left)}")
    return kept


def _about(parts: Sequence[_Part], notes: list[str]) -> dict[str, str]:
    """What all parts say of themselves alike."""
    about, told = common_about([part.store.manifest.about for part in parts], {})
    notes += told
    return about
