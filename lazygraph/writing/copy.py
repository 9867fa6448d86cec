"""New datasets from stored graphs, without building a graph: ``concat`` joins datasets, ``subset`` takes a part.

A record does not depend on its position. Whole shards are therefore linked or copied as files, and single records are
copied unchanged.
Records are compressed again only if a shard would mix codecs or dictionaries, or if fields are left out.
"""

from __future__ import annotations

import errno
import os
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, combinations
from itertools import count as count_from
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError, LabelError, OutputExists, RecipeMismatch
from lazygraph.format.codec import CODECS
from lazygraph.format.columns import NO_SPLIT, ColumnWriter, Pieces, Repeats, narrowest, text_array, texts_of
from lazygraph.format.digests import BLOCK, Blocks, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import MAX_DICTIONARIES, Manifest, Provenance, Removal, Shard, row_starts
from lazygraph.format.schema import Schema
from lazygraph.format.shard import record_dtype, write_shard
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.registry import unknown_name
from lazygraph.sources.base import Label, readable
from lazygraph.sources.dataset import label_of, rule_left_out
from lazygraph.storage.base import Storage
from lazygraph.storage.files import (
    FileRef,
    fsync_directory,
    make_folder,
    move_file,
    temporary_beside,
    write_atomic,
    write_checked,
)
from lazygraph.storage.positioned import sync_file
from lazygraph.writing.common_fields import common_schema, with_fields
from lazygraph.writing.hold import Hold
from lazygraph.writing.id_order import IdOrder, order_ids, order_type
from lazygraph.writing.label_columns import dropped_energies, label_column, missing_rows
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.owned import is_dataset
from lazygraph.writing.parts import Joined
from lazygraph.writing.plan import Plan, common_about, shard_size
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import (
    InputNumbers,
    Rejected,
    input_of_rows,
    read_quarantine,
    renumbered,
    write_quarantine,
)
from lazygraph.writing.selection import Rows, chosen_rows, pieces_of, rows_where, some_rows
from lazygraph.writing.splits import Splits, write_split
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["Chosen", "CopyReport", "Duplicates", "Fields", "concat", "copy_as_planned", "repeated_id", "subset"]

LEVEL = 9  # of records that are compressed again
# Where two names of one file cannot be had: another disk, a file system without them (EINVAL: FAT, as Windows says).
CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.EINVAL, errno.ENOSYS}
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
    """Join several datasets to one dataset, in their order, without building a graph again.

    The datasets must have the same recipe. They must have the same fields, unless ``fields="common"`` keeps only the
    fields that all datasets have. Labels and splits with the same name become one, and a label must have the same unit
    in all datasets. If only some datasets have a label, it is missing (NaN) in the other graphs. The lists of
    quarantined inputs are joined.

    Args:
        paths: the datasets, at least two.
        out: the dataset directory to write.
        on_duplicate: what to do with an id that two datasets have. ``"refuse"`` (default) raises an error. ``"skip"``
            keeps the first graph. ``"prefix"`` puts the name of its dataset (without ``.lg``) and a dash before every
            id; equal names of datasets are numbered.
        fields: what to do with fields, such as per-atom labels, that not all datasets have. ``"same"`` (default) raises
            an error. ``"common"`` leaves these fields out, which decodes and compresses the records again. A field is
            common if name, level, shape and unit are the same in all datasets. A field that is float32 in some datasets
            and float64 in others becomes float64. A field with other differences of type is left out. The values of the
            kept fields do not change.
        overwrite: replace an existing dataset.

    Returns:
        The number of graphs, and notes that name the data that were left out.

    Raises:
        InputError: there are fewer than two datasets, an id appears twice, fields differ, or no field is common.
        RecipeMismatch: the recipes differ; the message names the parameters that differ.
        LabelError: a label has different units or shapes.
        OutputExists: ``out`` already exists.

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
    parts = [_Part(store, range(len(store)), prefix) for store, prefix in zip(stores, prefixes, strict=True)]
    notes: list[str] = []
    if fields == "common":
        parts, told = _with_common_fields(parts)
        notes += told
    if any(part.prefix and part.store.manifest.quarantine is not None for part in parts):
        notes.append("quarantined inputs that are tried again later get ids without a prefix")
    return _copy(parts, out, overwrite=overwrite, notes=notes, whole=True, skip=on_duplicate == "skip")


def subset(
    dataset: Any,
    out: str | os.PathLike[str],
    *,
    where: str | None = None,
    ids: Sequence[str] | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> CopyReport:
    """Write some graphs of a dataset as a new dataset, without building a graph again.

    Labels, units and splits are kept. The rule of a split is left out, because it would split the selected graphs in
    another way. If you give several conditions, a graph must meet all of them.

    Args:
        dataset: a path, a URL, an open ``LazyGraphDataset``, or a part of one. The order of the graphs is kept.
        out: the dataset directory to write.
        where: a condition on columns, as ``LazyGraphDataset.where`` takes it.
        ids: the ids to take, in this order.
        split: the name of a split.
        overwrite: replace an existing dataset.

    Returns:
        The number of graphs, and notes that name the data that were left out.

    Raises:
        InputError: the condition or the split is invalid, an id is listed twice, or no graph is left.
        UnknownId: the dataset has no graph with one of the ids.
        OutputExists: ``out`` already exists.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1)
        >>> subset(folder.name + "/p.lg", folder.name + "/small.lg", where="n_atoms < 10").graphs < 30
        True
        >>> folder.cleanup()
    """
    store, rows = _opened(dataset)
    rows = chosen_rows(store, rows, TemporaryArrays(Layout.of(out).final.parent), where=where, ids=ids, split=split)
    if not len(rows):
        msg = f"the conditions leave no graph of {store.name}, so there is nothing to write; give fewer conditions"
        raise InputError(msg)
    repeats = Repeats(len(store))
    if any(repeats.first(some) is not None for some in pieces_of(rows)):
        msg = f"some graphs of {store.name} were chosen more than once; choose each graph once"
        raise InputError(msg)
    notes = []
    if store.manifest.quarantine is not None:
        lost = store.manifest.quarantine.count
        notes.append(f"{lost} inputs were quarantined when {_name(store)} was made, and are not listed in it")
    return _copy([_Part(store, rows, b"")], out, overwrite=overwrite, notes=notes, whole=False, skip=False)


Chosen: TypeAlias = tuple[Store, Rows]
"""A dataset and the rows to copy."""


class _Part(NamedTuple):
    """Rows of one dataset, the prefix of their ids, and the kept fields of their records if some are left out."""

    store: Store
    rows: Rows
    prefix: bytes
    kept: Schema | None = None

    @property
    def schema(self) -> Schema:
        """The schema of the records in the new dataset."""
        return self.store.manifest.schema if self.kept is None else self.kept

    def raw(self, row: int) -> bytes:
        """Return a record of the new dataset, decompressed."""
        raw = self.store.raw(row)
        return raw if self.kept is None else with_fields(raw, self.store.manifest.schema, self.kept)

    @property
    def ends(self) -> list[int]:
        """The row after the last row of each shard."""
        return list(accumulate(shard.rows for shard in self.store.manifest.shards))

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.bytes_]:
        """The ids of rows in the new dataset."""
        ids = self.store.checked_column("id").rows(rows)
        return text_array([(self.prefix + one).decode() for one in ids.tolist()]) if self.prefix else ids


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of all parts, in pieces. It can be iterated any number of times."""

    parts: Sequence[_Part]
    values: Callable[[_Part, NDArray[np.int64]], NDArray[Any]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.values(part, rows) for part in self.parts for rows in pieces_of(part.rows))


def _copy(
    parts: list[_Part], out: str | os.PathLike[str], *, overwrite: bool, notes: Sequence[str], whole: bool, skip: bool
) -> CopyReport:
    """Copy the parts into a new dataset.

    Args:
        parts: what is copied.
        out: the new dataset.
        overwrite: replace what is there.
        notes: what was told so far.
        whole: whether the parts are whole datasets, except for duplicates.
        skip: leave out graphs whose id an earlier part has; otherwise such graphs are an error.
    """
    _check_alike(parts)
    layout = Layout.of(out)
    scratch = TemporaryArrays(layout.final.parent)
    order = order_ids(_Column(parts, _Part.ids), scratch)
    told = list(notes)
    if skip:
        parts = _without_duplicates(parts, order, scratch, told)
    else:
        _refuse_duplicates(parts, order)
    with exclusive(layout) as hold:
        _check_output(layout, parts, overwrite=overwrite)
        inputs = _inputs(parts, whole=whole)
        graphs = _graphs(parts, order, layout.dataset, told, scratch, whole=whole, inputs=inputs)
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
    return CopyReport(layout.final, graphs.graphs, tuple(told))


def repeated_id(chosen: Sequence[Chosen], scratch: TemporaryArrays) -> str | None:
    """Return an id that two of these graphs have; None if all differ.

    Args:
        chosen: datasets, and the rows of each.
        scratch: for data that do not fit into memory.
    """
    parts = [_Part(store, rows, b"") for store, rows in chosen]
    order = order_ids(_Column(parts, _Part.ids), scratch)
    if not len(order.dropped):
        return None
    part, row = _located(parts, int(order.dropped[0]))
    return part.store.graph_id(row)


def copy_as_planned(hold: Hold, plan: Plan, chosen: Sequence[Chosen]) -> None:
    """Publish stored graphs as the dataset of a plan to build them, with the description in the plan.

    Args:
        hold: the exclusive lock on the output.
        plan: a plan whose inputs are these graphs, in order, with the same labels and schema.
        chosen: the datasets, and the rows to copy from each.

    Raises:
        CorruptDataset: a record, a shard or a column is damaged.
    """
    parts = [_Part(store, rows, b"") for store, rows in chosen]
    scratch = TemporaryArrays(hold.layout.final.parent)
    told = list(plan.notes)
    order = order_ids(_Column(parts, _Part.ids), scratch)
    graphs = _graphs(parts, order, hold.layout.dataset, told, scratch, whole=False, inputs=None)
    notes = tuple(dict.fromkeys(told))  # the plan describes a dataset, and copying describes its column
    provenance = Provenance(plan.source_files(), _provenance(parts, ()).versions, notes)
    publish(hold, hold.layout.dataset, replace(graphs, provenance=provenance, about=dict(plan.about)))


def _graphs(
    parts: Sequence[_Part],
    order: IdOrder,
    folder: Path,
    notes: list[str],
    scratch: TemporaryArrays,
    *,
    whole: bool,
    inputs: Pieces | None,
) -> Manifest:
    """Copy the graphs and their columns, and return a manifest without their origin."""
    graphs = sum(len(part.rows) for part in parts)
    shards, record, dictionaries = _shards(parts, folder, scratch, whole=whole)
    blocks = _blocks(parts)
    columns = ColumnWriter(folder)
    columns.stream("record", [record.values], dtype=record.dtype)
    columns.stream("id", _Column(parts, _Part.ids))
    columns.stream("id_order", order, dtype=order_type(graphs))
    _write_columns(columns, parts, notes)
    if inputs is not None:
        columns.stream("input", inputs, dtype=narrowest(inputs))
    first = parts[0].store.manifest
    return Manifest(
        graphs=graphs,
        inputs=graphs,
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


def _opened(dataset: Any) -> tuple[Store, Rows]:
    """The dataset and the rows of a path, or of a ``LazyGraphDataset`` without a transform and with its own recipe."""
    if isinstance(dataset, (str, os.PathLike, Storage, Store)):
        store = dataset if isinstance(dataset, Store) else Store(dataset)
        return store, range(len(store))
    if getattr(dataset, "transform", None) is not None:
        msg = f"the dataset {dataset.path!r} has a transform, which cannot be stored; open it without transform"
        raise InputError(msg)
    if getattr(dataset, "augmenter", None) is not None:
        msg = f"the dataset {dataset.path!r} has augment, which is not stored; open it without augment"
        raise InputError(msg)
    store = Store(dataset.storage)
    if store.manifest != dataset.manifest:
        msg = f"{store.name} was changed since it was opened; open it again, and choose its graphs again"
        raise InputError(msg)
    spec = dataset.spec
    if spec is not None and spec.to_json() != store.manifest.recipe:
        msg = (
            f"the dataset {dataset.path!r} is read with other graphs than those that are stored; write them with "
            "lazygraph.write, which builds them"
        )
        raise RecipeMismatch(msg)
    rows = dataset.indices()
    return store, rows if isinstance(rows, range) else np.asarray(rows, np.int64)


def _prefixes(stores: Sequence[Store]) -> list[bytes]:
    """Return the name of each dataset and a dash. Equal names are numbered from 1, until all differ."""
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
    """Return the last part of the path or URL of a dataset, in letters that UTF-8 can encode."""
    return readable(PurePath(store.name).name)


def _without_duplicates(parts: list[_Part], order: IdOrder, scratch: TemporaryArrays, notes: list[str]) -> list[_Part]:
    """Leave out graphs whose id an earlier part has. The notes say what was left out."""
    out, start = [], 0
    for part in parts:
        low, high = np.searchsorted(order.dropped, [start, start + len(part.rows)])
        taken = order.dropped[low:high] - start
        start += len(part.rows)
        if len(taken):
            some = ", ".join(repr(part.store.graph_id(row)) for row in taken[:3].tolist())
            notes.append(
                f"{len(taken)} graphs of {_name(part.store)} were skipped, because a dataset before it has "
                f"their ids: {some}{', ...' if len(taken) > 3 else ''}"
            )
            left_out = Repeats(len(part.rows))
            left_out.first(taken)
            out.append(part._replace(rows=rows_where(part.rows, partial(_without, left_out), scratch)))
        else:
            out.append(part)
    return out


def _without(left_out: Repeats, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return ~left_out.has(rows)


def _located(parts: Sequence[_Part], row: int) -> tuple[_Part, int]:
    """Return the part that a row of the new dataset comes from, and its row in that dataset."""
    ends = list(accumulate(len(part.rows) for part in parts))
    number = bisect_right(ends, row)
    part = parts[number]
    return part, int(part.rows[row - ends[number] + len(part.rows)])


def _refuse_duplicates(parts: Sequence[_Part], order: IdOrder) -> None:
    if not len(order.dropped):
        return
    first, row = _located(parts, int(order.first[0]))
    second, _ = _located(parts, int(order.dropped[0]))
    graph_id = first.store.graph_id(row)
    msg = (
        f"{len(order.dropped)} ids appear twice, such as {graph_id!r} in {_name(first.store)} and in "
        f"{_name(second.store)}; keep the first graph of each id with on_duplicate='skip' (--on-duplicate skip), or "
        "make all ids differ with on_duplicate='prefix'"
    )
    raise InputError(msg)


def _with_common_fields(parts: Sequence[_Part]) -> tuple[list[_Part], tuple[str, ...]]:
    """Return the parts with their common fields, and a sentence for each other field."""
    for part in parts[1:]:
        _check_recipe(parts[0].store, part.store)
    schema, notes = common_schema([(_name(part.store), part.schema) for part in parts])
    return [part if part.schema == schema else part._replace(kept=schema) for part in parts], notes


def _check_alike(parts: Sequence[_Part]) -> None:
    """Refuse datasets whose graphs or labels do not fit into one dataset."""
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
                f"and {theirs.get(names[0]) if names else list(theirs)}; they need the same fields of the same types. "
                "Leave out what differs with fields='common' (--fields common)"
            )
            raise InputError(msg)
    # Every pair is compared, because two datasets may differ in a label that the first one does not have.
    for earlier, later in combinations([part.store for part in parts], 2):
        _check_labels(earlier, later)


def _check_recipe(one: Store, other: Store) -> None:
    recipes = [store.manifest.recipe for store in (one, other)]
    if recipes[0] == recipes[1]:
        return
    if None in recipes:
        differences = ["the graphs of one of them are ready-made"]
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
                    "convert one of them, or give it another name"
                )
                raise LabelError(msg)
        if mine[name].role != "index" and mine[name].shape[1:] != theirs[name].shape[1:]:
            msg = (
                f"the label {name!r} has the shape {mine[name].shape[1:]} in {one.path}, and {theirs[name].shape[1:]} "
                f"in {other.path}; give one of them another name"
            )
            raise LabelError(msg)


def _alike(role: Any) -> Any:
    """Ignore whether texts are stored as categories, because that depends on how often they occur."""
    return "text" if role == "category" else role


def _check_output(layout: Layout, parts: Sequence[_Part], *, overwrite: bool) -> None:
    final = layout.final
    if any(not part.store.is_remote and part.store.path.resolve() == final.resolve() for part in parts):
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
    rows: Rows


class _Shard(NamedTuple):
    """A shard of a part that is copied as a file."""

    part: int
    shard: int


def _segments(parts: Sequence[_Part], *, whole: bool) -> Iterator[_Frames | _Shard]:
    """Plan the copies in order: whole shards where all their rows follow one another, and single rows elsewhere.

    Two kinds of shards are not copied whole: shards of a part that hold other records, which may be of removed graphs,
    and shards whose records lose fields.
    """
    for number, part in enumerate(parts):
        entries = part.store.manifest.shards
        starts = row_starts(entries)
        rows, begin, at = part.rows, 0, 0
        # A shard can begin only where its first row is wanted.
        firsts = [k for k, one in enumerate(entries) if one.rows and part.kept is None and (whole or not one.spare)]
        for place, first in _places(rows, starts[firsts]):
            shard = int(np.searchsorted(starts, first, side="right")) - 1
            size = entries[shard].rows
            if place < at or not np.array_equal(some_rows(rows, place, place + size), np.arange(first, first + size)):
                continue
            if begin < place:
                yield _Frames(number, rows[begin:place])
            yield _Shard(number, shard)
            begin = at = place + size
        if begin < len(rows):
            yield _Frames(number, rows[begin:])


def _places(rows: Rows, wanted: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Find wanted rows: their positions among the given rows, and the rows."""
    start = 0
    for some in pieces_of(rows):
        found = np.flatnonzero(np.isin(some, wanted))
        yield from zip((found + start).tolist(), some[found].tolist(), strict=True)
        start += len(some)


class _Record(NamedTuple):
    """The column ``record``: its values in a file, in the widest type, and the type that is enough for them."""

    values: NDArray[Any]
    dtype: np.dtype[Any]


def _shards(
    parts: Sequence[_Part], folder: Path, scratch: TemporaryArrays, *, whole: bool
) -> tuple[tuple[Shard, ...], _Record, tuple[FileRef, ...]]:
    """Copy the records.

    Returns:
        The shards, the column ``record``, and the dictionaries that the shards name.
    """
    dictionaries = _Dictionaries(parts, folder)
    shards: list[Shard] = []
    graphs = sum(len(part.rows) for part in parts)
    record = scratch.array(record_dtype(2**32, 2**16), graphs)
    kinds: list[np.dtype[Any]] = []
    frames: list[tuple[int, Rows]] = []
    most = shard_size(graphs)
    starts = [row_starts(part.store.manifest.shards) for part in parts]

    def take(shard: Shard, entries: NDArray[Any]) -> None:
        at = sum(one.rows for one in shards)
        record[at : at + len(entries)] = entries
        kinds.append(entries.dtype)
        shards.append(shard)

    def flush() -> None:
        while frames:
            taken, room = [], most
            while frames and room:
                part, rows = frames.pop(0)
                taken.append((part, some_rows(rows, 0, room)))
                if len(rows) > room:
                    frames.insert(0, (part, rows[room:]))
                room -= len(taken[-1][1])
            take(*_written(parts, taken, dictionaries, folder, len(shards)))

    for segment in _segments(parts, whole=whole):
        if isinstance(segment, _Frames):
            frames.append(segment)
            continue
        flush()
        store = parts[segment.part].store
        old = store.manifest.shards[segment.shard]
        start = int(starts[segment.part][segment.shard])
        file = _copied(store, old.file, folder, len(shards))
        number = dictionaries.number(segment.part, old.dictionary)
        entries = store.checked_column("record").rows(np.arange(start, start + old.rows))
        take(replace(old, file=file, dictionary=number), entries)
    flush()
    return tuple(shards), _Record(record, np.result_type(*set(kinds))), dictionaries.files


class _Compression(NamedTuple):
    """How a record is compressed, independent of its dataset."""

    codec: str
    dictionary: str | None
    """The sha256 of its dictionary."""


class _Dictionaries:
    """The dictionaries of the new dataset. Each is copied when a shard first needs it."""

    def __init__(self, parts: Sequence[_Part], folder: Path) -> None:
        self._parts, self._folder = parts, folder
        self._numbers: dict[str, int] = {}
        self.files: tuple[FileRef, ...] = ()

    def number(self, part: int, dictionary: int | None) -> int | None:
        """Return the number that a dictionary of a part has in the new dataset."""
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
        return store.file(store.manifest.dictionaries[dictionary])


def _written(
    parts: Sequence[_Part],
    taken: Sequence[tuple[int, NDArray[np.int64]]],
    dictionaries: _Dictionaries,
    folder: Path,
    number: int,
) -> tuple[Shard, NDArray[Any]]:
    """A new shard of single records. It has the codec and the dictionary that most of the records have."""
    shards_of = [np.searchsorted(parts[part].ends, rows, side="right") for part, rows in taken]
    counts: Counter[_Compression] = Counter()
    example: dict[_Compression, tuple[int, int | None]] = {}  # one part and number for each
    for (part, _), shards in zip(taken, shards_of, strict=True):
        for shard, count in zip(*np.unique(shards, return_counts=True), strict=True):
            entry = parts[part].store.manifest.shards[shard]
            kind = dictionaries.compression(part, entry)
            counts[kind] += int(count)
            example.setdefault(kind, (part, entry.dictionary))
    chosen = max(counts, key=counts.__getitem__)
    part, own = example[chosen]
    compress = CODECS[chosen.codec].encoder(LEVEL, None if own is None else dictionaries.content(part, own))
    frames: list[bytes] = []
    for (number_of_part, rows), shards in zip(taken, shards_of, strict=True):
        part_of, store = parts[number_of_part], parts[number_of_part].store
        alike = {
            shard: part_of.kept is None
            and dictionaries.compression(number_of_part, store.manifest.shards[shard]) == chosen
            for shard in np.unique(shards).tolist()
        }
        is_alike = np.array([alike[shard] for shard in shards.tolist()], bool)
        stored = iter(store.frames(rows[is_alike]))
        frames += [
            next(stored) if same else compress(part_of.raw(row))
            for row, same in zip(rows.tolist(), is_alike.tolist(), strict=True)
        ]
    file, record = write_shard(folder, number, frames)
    return Shard(file, len(frames), (), chosen.codec, dictionaries.number(part, own)), record


def _copied(store: Store, file: FileRef, folder: Path, number: int) -> FileRef:
    """Give a shard another number, by a second link to its file if the file system allows links, otherwise by a copy.

    Files of a dataset never change, so two datasets can share one. The sha256 of the file is checked.
    """
    new = f"shards/{number:05d}-{file.sha256[:16]}.lmdb"
    if store.is_remote:
        renamed = file._replace(name=new)
        source = f"{store.name}/{file.name}"
        try:
            write_checked(folder, renamed, store.storage.stream(file), source)
        except CorruptDataset:
            if not store.storage.renew(file):
                raise
            write_checked(folder, renamed, store.storage.stream(file), source)
        return renamed
    path = _checked(store.path, file).resolve()
    make_folder((folder / new).parent)
    temporary = temporary_beside(folder / new)
    try:
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            shutil.copyfile(path, temporary)
            sync_file(temporary)
        move_file(temporary, folder / new)
    finally:
        with suppress(FileNotFoundError):  # a rename does nothing if both names are links to the same file
            temporary.unlink()
    fsync_directory((folder / new).parent)
    return file._replace(name=new)


def _checked(directory: Path, file: FileRef) -> Path:
    """Return the path of a file of a dataset, after checking the file.

    Raises:
        CorruptDataset: the file is missing or damaged.
    """
    try:
        return file.check(directory)
    except FileNotFoundError:
        msg = f"{directory / file.name} is missing, and the manifest names it"
        raise CorruptDataset(msg) from None


def _blocks(parts: Sequence[_Part]) -> Blocks:
    """Return the digests of all blocks of graphs. Unchanged blocks keep theirs; others are computed from records."""
    out: list[Blocks] = []
    waiting: list[bytes] = []
    start = 0
    for part in parts:
        rows, n = part.rows, len(part.rows)
        aligned = start % BLOCK == 0 and not part.prefix and part.kept is None
        known, ids = part.store.digests()[0], part.store.checked_column("id")
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
                and np.array_equal(some_rows(rows, at, at + size), np.arange(row, row + size))
            ):
                out.append(known[row // BLOCK : row // BLOCK + 1])
                at += size
                continue
            for one in some_rows(rows, at, at + BLOCK).tolist():
                waiting.append(graph_digest(part.prefix + ids.row(one), part.raw(one)))
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
    """Copy every column except for the columns of the index, which are made again."""
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
            if any((None if column is None else column.rule) != described.rule for column in there):
                label = replace(label, symprec=None)
                notes.append(
                    "the prototypes of the datasets were not all computed in the same way; those of graphs that are "
                    "added later will be missing"
                )
            notes += label_column(columns, label, _Column(parts, partial(_values, label)))
            notes += [note for part in parts for note in dropped_energies(name, part.store.manifest)]
        elif None in there:
            notes.append(f"the column {name!r} is left out, because not all of the datasets have it")
        else:
            values = _Column(parts, partial(_stored, name))
            columns.stream(name, values, dtype=None if name == "formula" else narrowest(values))


def _stored(name: str, part: _Part, rows: NDArray[np.int64]) -> NDArray[Any]:
    return part.store.checked_column(name).rows(rows)


def _values(label: Label, part: _Part, rows: NDArray[np.int64]) -> NDArray[Any]:
    column = part.store.manifest.columns.get(label.name)
    if column is None:
        return missing_rows(label, len(rows))
    values = _stored(label.name, part, rows)
    return texts_of(column, values) if label.dtype == "text" else values


def _write_splits(columns: ColumnWriter, parts: Sequence[_Part], name: str, notes: list[str]) -> None:
    """Make a column of splits with one list of names. A rule is dropped, because it was for one dataset."""
    own = [part.store.manifest.columns.get(name) for part in parts]
    names = tuple(dict.fromkeys(split for column in own if column is not None for split in column.categories or ()))

    def codes(part: _Part, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        column = part.store.manifest.columns.get(name)
        if column is None:
            return np.full(len(rows), NO_SPLIT, np.uint8)
        return Splits(_stored(name, part, rows), column.categories or ()).recoded(names).codes

    if any(column is not None and column.rule is not None for column in own):
        notes.append(rule_left_out(name))
    write_split(columns, name, _Column(parts, codes), names, None)


def _inputs(parts: Sequence[_Part], *, whole: bool) -> Pieces | None:
    """Return the column ``input``; None if it follows from the quarantined inputs, or is not known."""
    known: list[tuple[InputNumbers, int]] = []
    first = 0
    total = sum(part.store.manifest.inputs for part in parts)
    follows = whole
    for part in parts:
        manifest = part.store.manifest
        if not manifest.provenance.sources:
            return None  # ready-made graphs have no inputs
        column = part.store.column("input") if "input" in manifest.columns else None
        own = input_of_rows(manifest, read_quarantine(part.store.storage, manifest), column)
        if own is None:
            return None
        follows = follows and column is None and len(part.rows) == len(part.store)
        known.append((own, first))
        first += manifest.inputs
    if follows:
        return None
    pairs = zip(parts, known, strict=True)
    return Joined([_Column([part], partial(_numbered, *own, total)) for part, own in pairs])


def _numbered(own: InputNumbers, first: int, total: int, part: _Part, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return renumbered(own.of(rows), part.store.manifest.inputs, first, total)


def _rejected(parts: Sequence[_Part]) -> Iterator[Rejected]:
    first = 0
    for part in parts:
        for one in read_quarantine(part.store.storage, part.store.manifest):
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
    """The entries of the description that are the same in all parts."""
    about, told = common_about([part.store.manifest.about for part in parts], {})
    notes += told
    return about
