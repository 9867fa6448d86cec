"""Finished shards -> a published dataset: columns put together, duplicates found, the manifest written last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError, OutputExists
from lazygraph.format.columns import NO_SPLIT, ColumnWriter, texts_of, unsigned
from lazygraph.format.digests import BLOCK, Blocks, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import Manifest, Provenance, Quarantine, Shard
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.writing.fields import count_columns
from lazygraph.writing.hold import Hold
from lazygraph.writing.label_columns import dropped_energies, label_column, missing_rows
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import Rejected, input_of_rows, read_quarantine, renumbered, write_quarantine
from lazygraph.writing.remarks import Remarks
from lazygraph.writing.rows import Maker, ShardRows, finished
from lazygraph.writing.splits import DEFAULT, Groups, SplitRule, Splits, groups_of, recorded_rule, write_split

__all__ = ["Merged", "already_merged", "merge", "published"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge published: the graphs and quarantined inputs that its plan added, and what to say of the whole."""

    written: int
    quarantined: int
    quarantine_file: Path | None
    notes: tuple[str, ...]
    in_no_split: int = 0


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of one or more shards, put together; labels are in one array or several, splits by the name of a column.

    ``position`` is -1 and ``digest`` empty for rows of a dataset that the plan adds to. ``key`` is the number of the
    record of a row within its shard, where that was made now.
    """

    record: NDArray[Any]
    position: NDArray[np.int64]
    key: NDArray[np.int64]
    id: NDArray[np.bytes_]
    formula: NDArray[np.bytes_]
    counts: NDArray[np.int64]
    digest: NDArray[np.void]
    shard: NDArray[np.int64]
    labels: dict[str, list[NDArray[Any]]]
    splits: dict[str, Splits]

    def take(self, rows: NDArray[np.bool_]) -> _Table:
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        labels = {name: _taken(parts, rows) for name, parts in self.labels.items()}
        return _Table(**arrays, labels=labels, splits={name: one.take(rows) for name, one in self.splits.items()})


def _taken(parts: list[NDArray[Any]], rows: NDArray[np.bool_]) -> list[NDArray[Any]]:
    ends = np.cumsum([len(part) for part in parts])
    return [part[rows[end - len(part) : end]] for part, end in zip(parts, ends.tolist(), strict=True)]


_ARRAYS = ("record", "position", "key", "id", "formula", "counts", "digest", "shard")


def merge(hold: Hold, split: SplitRule | str | None = None) -> Merged:
    """Put the shards of a plan together and publish the dataset.

    Args:
        hold: the exclusive lock on the place where it lies.
        split: the splits of the graphs that the plan adds, in place of those that the sources name: a rule, or the
            split that all of them go to. Without it, a split by a rule is continued with them.

    Raises:
        InputError: shards are missing, not one input became a graph, or a rule cannot keep its groups together.
        OutputExists: the dataset that the plan adds to is not what it was, or a shard is of another plan.
    """
    layout = hold.layout
    hold.check()
    plan = Plan.load(layout)
    made = _load_rows(plan, layout)
    plan = replace(plan, notes=(*plan.notes, *_remarks(made).notes()))
    base = _base(plan, layout)
    rejected = [r for rows in made for r in rows.rejected]
    parts = [_of_shard(rows, plan.first_shard + number) for number, rows in enumerate(made)]
    table = _concatenate(parts if base is None else [_of_store(base, plan), *parts], plan)
    old = 0 if base is None else len(base)
    table, doubles, spare = _drop_duplicates(table, plan, old)
    rejected = sorted([*rejected, *doubles], key=lambda r: r.position)
    written = len(table.id) - old
    if written == 0:
        layout.plan.unlink()  # nothing is worth resuming
        if plan.retries and base is not None:
            return Merged(0, len(rejected), _quarantine_path(base.manifest, layout), plan.notes)
        reasons = "; ".join(f"{r.id!r}: {r.message}" for r in rejected[:3])
        msg = f"none of the {len(rejected)} inputs could become a graph, so there is nothing to write: {reasons}"
        raise InputError(msg)
    table, rules = _with_splits(table, old, split, base, _groups(table, plan))
    quarantine = _quarantine(plan, rejected, base, layout)
    columns = ColumnWriter(layout.dataset)
    plan = replace(plan, notes=(*plan.notes, *_write_labels(plan, table, columns, base)))
    for name, splits in table.splits.items():
        if splits.names:
            write_split(columns, name, splits.codes, splits.names, rules[name])
    _write_index(plan, table, columns, base, layout)
    manifest = _manifest(plan, made, table, spare, columns=columns, base=base, quarantine=quarantine)
    publish(hold, layout.dataset, manifest)
    splits = table.splits[DEFAULT]
    notes = (*plan.notes, *splits.notes())
    return Merged(written, len(rejected), _quarantine_path(manifest, layout), notes, splits.unsplit)


def _remarks(made: Sequence[ShardRows]) -> Remarks:
    all_shards = Remarks()
    for rows in made:
        all_shards.join(rows.remarks)
    return all_shards


def published(layout: Layout) -> Merged:
    """What a dataset holds, as a merge of all of it would report it."""
    manifest = Manifest.load(layout.final)
    quarantined = 0 if manifest.quarantine is None else manifest.quarantine.count
    splits = Splits.of(Store(layout.final))
    notes = (*manifest.provenance.notes, *splits.notes())
    return Merged(manifest.graphs, quarantined, _quarantine_path(manifest, layout), notes, splits.unsplit)


def already_merged(plan: Plan, layout: Layout, split: SplitRule | str | None) -> Merged | None:
    """What the merge of a plan published if its work is done in the dataset that is there; None if it is not."""
    store = Store(layout.final)
    manifest = store.manifest
    wanted = {
        one.name: (one.unit, one.per, one.description, one.required) for one in plan.labels if one.level == "graph"
    }
    found = {name: (c.unit, c.per, c.description, c.required) for name, c in manifest.all_labels().items()}
    first = manifest.inputs - plan.entries
    if (
        plan.retries
        or (first if plan.base is None else first < 0)
        or manifest.provenance.sources[-len(plan.sources) :] != plan.source_files()
        or (plan.recipe, plan.schema) != (manifest.recipe, manifest.schema)
        or plan.codec not in {shard.codec for shard in manifest.shards}
        or wanted != found
        or (plan.base is None and dict(plan.about) != manifest.about)
    ):
        return None
    rejected = sum(one.position >= first for one in read_quarantine(layout.final, manifest))
    written = plan.entries - rejected
    if split is not None and not _is_split(store, len(store) - written, split):
        return None
    splits = Splits.of(store)
    own = manifest.provenance.notes if plan.base is None else plan.notes
    notes = (*own, *splits.notes())
    return Merged(written, rejected, _quarantine_path(manifest, layout), notes, splits.unsplit)


def _is_split(store: Store, old: int, split: SplitRule | str) -> bool:
    """Whether the graphs of a dataset from number ``old`` on have the splits that a merge would give them."""
    found = Splits.of(store)
    try:
        groups = groups_of(store.manifest.columns, store.column)
        wanted = found.with_added(old, split, recorded_rule(store.manifest), groups)
    except InputError:
        return False
    return found.names == wanted.names and np.array_equal(found.codes, wanted.codes)


def _with_splits(
    table: _Table, old: int, split: SplitRule | str | None, base: Store | None, groups: Groups
) -> tuple[_Table, dict[str, SplitRule | None]]:
    """The table with the splits of its new graphs, and the rule that all of them follow in each column of splits."""
    splits: dict[str, Splits] = {}
    rules: dict[str, SplitRule | None] = {}
    for name, found in table.splits.items():
        asked = split if name == DEFAULT else None
        before = None if base is None else recorded_rule(base.manifest, name)
        named = bool((found.codes[old:] != NO_SPLIT).any())
        splits[name] = found.with_added(old, asked, before, groups)
        if base is None:
            rules[name] = asked if isinstance(asked, SplitRule) else None
        else:
            rules[name] = before if asked == before or (asked is None and not named) else None
    return replace(table, splits=splits), rules


def _groups(table: _Table, plan: Plan) -> Groups:
    """The groups of the rows of a table by the name of a column."""

    def groups(name: str) -> NDArray[Any]:
        plan.check_group(name)
        return table.formula if name == "formula" else np.concatenate(table.labels[name])

    return groups


def _quarantine_path(manifest: Manifest, layout: Layout) -> Path | None:
    return None if manifest.quarantine is None else layout.final / manifest.quarantine.file.name


def _load_rows(plan: Plan, layout: Layout) -> list[ShardRows]:
    maker = Maker.of(plan)
    found = [finished(layout, task, maker) for task in range(len(plan.tasks))]
    for task, rows in enumerate(found):
        if rows is None:
            _refuse_another_maker(layout, task, maker)
    missing = [task for task, rows in enumerate(found) if rows is None]
    if missing:
        numbers = ", ".join(map(str, missing[:10])) + ("..." if len(missing) > 10 else "")
        msg = (
            f"{len(missing)} of {len(plan.tasks)} shards are not made: {numbers}; "
            f"make each with 'lazygraph-write shard {layout.final.name} --task N'"
        )
        raise InputError(msg)
    made = [rows for rows in found if rows is not None]
    for rows in made:
        rows.file.check(layout.dataset)
    return made


def _refuse_another_maker(layout: Layout, task: int, maker: Maker) -> None:
    """Say so where a shard is there and was made for another plan, or with other versions."""
    try:
        found = ShardRows.load(layout.done(task)).maker
    except (FileNotFoundError, CorruptDataset):
        return
    if found is None or found == maker:
        return  # its shard is gone: it is made again
    msg = (
        f"shard {task} in {layout.partial} was made for the plan {found.title} with {_packages(found)}; the plan there "
        f"is {maker.title} with {_packages(maker)}. Run the command that made this plan again, or 'lazygraph-write "
        f"shard {layout.final.name} --task {task}': it makes the shard again"
    )
    raise OutputExists(msg)


def _packages(maker: Maker) -> str:
    return ", ".join(f"{name} {version}" for name, version in maker.versions.items())


def _base(plan: Plan, layout: Layout) -> Store | None:
    if plan.base is None:
        return None
    store = Store(layout.final)
    if (store.manifest.content_id, len(store)) != (plan.base.content_id, plan.base.graphs):
        msg = f"{layout.final} changed since the plan to add to it was made; delete {layout.partial} and begin anew"
        raise OutputExists(msg)
    return store


def _of_shard(rows: ShardRows, shard: int) -> _Table:
    arrays = {name: getattr(rows, name) for name in _ARRAYS if name not in ("shard", "key")}
    n = len(rows.id)
    labels = {name: [values] for name, values in rows.labels.items()}
    splits = {DEFAULT: Splits.none(n), **rows.splits}
    return _Table(**arrays, key=np.arange(n), shard=np.full(n, shard), labels=labels, splits=splits)


def _count_columns(plan: Plan) -> tuple[str, ...]:
    return count_columns(GraphSpec.from_json(plan.recipe), plan.schema)


def _of_store(store: Store, plan: Plan) -> _Table:
    """The rows of a finished dataset."""
    manifest = store.manifest
    n = len(store)
    return _Table(
        record=store.column("record"),
        position=np.full(n, -1),
        key=np.full(n, -1),
        id=store.column("id"),
        formula=store.column("formula"),
        counts=np.column_stack([store.column(name).astype(np.int64) for name in _count_columns(plan)]),
        digest=np.zeros(n, "V32"),
        shard=np.repeat(np.arange(len(manifest.shards)), [s.rows for s in manifest.shards]),
        labels={name: [texts_of(c, store.column(name))] for name, c in manifest.all_labels().items()},
        splits={name: Splits.of(store, name) for name in manifest.splits()},
    )


def _concatenate(parts: Sequence[_Table], plan: Plan) -> _Table:
    splits = {}
    for column in dict.fromkeys((DEFAULT, *(name for part in parts for name in part.splits))):
        each = [part.splits.get(column) or Splits.none(len(part.id)) for part in parts]
        names = tuple(dict.fromkeys(name for one in each for name in one.names))
        splits[column] = Splits(np.concatenate([one.recoded(names).codes for one in each]), names)
    labels = {
        label.name: [a for part in parts for a in part.labels.get(label.name, [missing_rows(label, len(part.id))])]
        for label in plan.labels
        if label.level == "graph"
    }
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return _Table(**arrays, labels=labels, splits=splits)


def _drop_duplicates(table: _Table, plan: Plan, old: int) -> tuple[_Table, list[Rejected], dict[int, list[int]]]:
    """Drop rows whose id an earlier row has.

    Returns:
        The other rows, the inputs that were dropped, and shard -> keys of their records, in order.
    """
    order = np.argsort(table.id, kind="stable")
    same = np.zeros(len(order), bool)
    same[1:] = table.id[order[1:]] == table.id[order[:-1]]
    if not same.any():
        return table, [], {}
    keep = np.ones(len(order), bool)
    keep[order[same]] = False
    first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    first_of = dict(zip(order[same].tolist(), first[same].tolist(), strict=True))
    rejected: list[Rejected] = []
    spare: dict[int, list[int]] = {}
    for row in np.flatnonzero(~keep).tolist():
        shard = int(table.shard[row])
        spare.setdefault(shard, []).append(int(table.key[row]))
        position, earlier = int(table.position[row]), first_of[row]
        where = (
            "a graph that the dataset holds" if earlier < old else f"the input at position {table.position[earlier]}"
        )
        source, entry = plan.origin(shard - plan.first_shard, position)
        message = f"the id is taken by {where}; required: unique ids"
        rejected.append(Rejected(source, position, entry, table.id[row].decode(), "DuplicateId", message))
    return table.take(keep), rejected, spare


def _quarantine(plan: Plan, new: Sequence[Rejected], base: Store | None, layout: Layout) -> Quarantine | None:
    """The list of all rejected inputs: those of before, less the ones that this plan tried again, and the new ones."""
    old = [] if base is None else read_quarantine(layout.final, base.manifest)
    pieces = [piece for task in plan.tasks for piece in task.pieces]
    retried = {piece.position + number for piece in pieces for number in piece.only or ()}
    return write_quarantine(layout.dataset, [*(r for r in old if r.position not in retried), *new])


def _manifest(
    plan: Plan,
    made: Sequence[ShardRows],
    table: _Table,
    spare: Mapping[int, Sequence[int]],
    *,
    columns: ColumnWriter,
    base: Store | None,
    quarantine: Quarantine | None,
) -> Manifest:
    old = None if base is None else base.manifest
    dictionaries = () if old is None else old.dictionaries
    if plan.dictionary is not None and plan.dictionary not in dictionaries:
        dictionaries = (*dictionaries, plan.dictionary)
    number = None if plan.dictionary is None else dictionaries.index(plan.dictionary)
    shards = [] if old is None else list(old.shards)
    for shard, rows in enumerate(made, plan.first_shard):
        shards.append(Shard(rows.file, len(rows.record), tuple(spare.get(shard, ())), plan.codec, number))
    before = Provenance() if old is None else old.provenance
    blocks = _blocks(table, base)
    return Manifest(
        graphs=len(table.id),
        inputs=plan.entries + (0 if plan.base is None else plan.base.inputs),
        recipe=plan.recipe,
        schema=plan.schema,
        dictionaries=dictionaries,
        shards=tuple(shards),
        columns=columns.columns,
        digests=columns.digests(blocks),
        quarantine=quarantine,
        provenance=Provenance(
            (*before.sources, *plan.source_files()), plan.versions, _joined(before.notes, plan.notes)
        ),
        content_id=content_id(plan.recipe, plan.schema, blocks),
        history=() if old is None else old.history,
        about=dict(plan.about) if old is None else old.about,
        user={} if old is None else old.user,
    )


def _joined(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    """The old ones, and those of the new ones that are not among them."""
    return (*old, *(one for one in new if one not in old))


def _blocks(table: _Table, base: Store | None) -> Blocks:
    """The digests of all blocks of graphs. Old graphs are read only where their block is not whole yet."""
    if base is None:
        return blocks_of_graphs(table.digest)
    whole, old = len(base) // BLOCK, len(base)
    last = [graph_digest(base.checked_column("id").row(row), base.raw(row)) for row in range(whole * BLOCK, old)]
    new = np.concatenate([np.frombuffer(b"".join(last), "V32"), table.digest[old:]])
    return np.concatenate([base.digests()[0][:whole], blocks_of_graphs(new)])


def _write_labels(plan: Plan, table: _Table, columns: ColumnWriter, base: Store | None) -> list[str]:
    """Write the columns of the labels; what the report must tell of them."""
    notes: list[str] = []
    for label in plan.labels:
        if label.level == "graph":
            notes += label_column(columns, label, table.labels[label.name])
            notes += dropped_energies(label.name, None if base is None else base.manifest)
    return notes


def _write_index(plan: Plan, table: _Table, columns: ColumnWriter, base: Store | None, layout: Layout) -> None:
    """Write every column but labels and splits."""
    order = np.argsort(table.id, kind="stable")
    columns.write("record", table.record)
    columns.write("id", table.id)
    columns.write("id_order", order.astype("<u4" if len(order) < 2**32 else "<u8"))
    for name, counts in zip(_count_columns(plan), table.counts.T, strict=True):
        columns.write(name, unsigned(counts))
    columns.write("formula", table.formula)
    if (inputs := _input(plan, table, base, layout)) is not None:
        columns.write("input", unsigned(inputs))


def _input(plan: Plan, table: _Table, base: Store | None, layout: Layout) -> NDArray[np.int64] | None:
    """The column ``input``, where the list of quarantined inputs does not tell which input a row came from."""
    if base is None or (plan.entries and "input" not in base.manifest.columns):
        return None
    column = base.column("input") if "input" in base.manifest.columns else None
    before = input_of_rows(base.manifest, read_quarantine(layout.final, base.manifest), column)
    if before is None:
        return None
    count = base.manifest.inputs
    return np.concatenate([renumbered(before, count, 0, count + plan.entries), table.position[len(base) :]])
