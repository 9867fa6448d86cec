"""The last step of a write: combine finished shards, reject repeated ids, and publish the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError, OutputExists
from lazygraph.format.columns import NO_SPLIT, ColumnWriter, Extended, Pieces, narrowest
from lazygraph.format.digests import BLOCK, BlockHasher, Blocks, content_id, graph_digest
from lazygraph.format.manifest import Manifest, Provenance, Quarantine, Shard
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Label
from lazygraph.writing.fields import count_columns
from lazygraph.writing.hold import Hold
from lazygraph.writing.id_order import IdOrder, added_to, order_ids
from lazygraph.writing.label_columns import ExtendedTexts, dropped_energies, label_column, missing_rows
from lazygraph.writing.layout import Layout
from lazygraph.writing.parts import Before, Joined, Part, Parts, write_index
from lazygraph.writing.plan import Plan
from lazygraph.writing.publish import publish
from lazygraph.writing.quarantine import (
    InputNumbers,
    Rejected,
    input_of_rows,
    read_quarantine,
    renumbered,
    write_quarantine,
)
from lazygraph.writing.remarks import Remarks
from lazygraph.writing.rows import LABEL, SPLIT, Maker, ShardRows, finished
from lazygraph.writing.split_rules import Rule, SplitRule
from lazygraph.writing.splits import DEFAULT, Splits, recorded_rule, write_split
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import FORMULA, RuleColumns, columns_of

__all__ = ["Merged", "already_merged", "merge", "published"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge: the graphs and quarantined inputs that the plan added, and notes about the dataset."""

    written: int
    quarantined: int
    quarantine_file: Path | None
    notes: tuple[str, ...]
    in_no_split: int = 0


def merge(hold: Hold, split: SplitRule | str | None = None) -> Merged:
    """Combine the shards of a plan and publish the dataset.

    Args:
        hold: the exclusive lock on the dataset.
        split: the splits of the added graphs, instead of the splits that the sources name: a rule, or the name of one
            split for all of them. If it is None, the added graphs follow the rule of the dataset.

    Raises:
        InputError: shards are missing, no input became a graph, or a rule cannot keep its groups together.
        OutputExists: the dataset has changed since the plan was made, or a shard belongs to another plan.
    """
    layout = hold.layout
    hold.check()
    scratch = TemporaryArrays(layout.partial)
    plan = Plan.load(layout)
    made = _load_rows(plan, layout)
    plan = replace(plan, notes=(*plan.notes, *_remarks(made).notes()))
    base = _base(plan, layout)
    old = 0 if base is None else len(base)
    new = [rows.part() for rows in made]
    order = order_ids(Joined(([np.empty(0, "S1")], Parts(new).column("id"))), scratch, old)  # a retry may find no graph
    if base is not None:
        order = added_to(order, base.checked_column("id"), base.checked_column("id_order"), scratch)
    doubles, spare = _duplicates(order, made, plan, old)
    rejected = sorted([*(r for rows in made for r in rows.rejected), *doubles], key=lambda r: r.position)
    written = sum(part.rows for part in new) - len(order.dropped)
    if written == 0:
        layout.plan.unlink()  # nothing is worth resuming
        if plan.retries and base is not None:
            return Merged(0, len(rejected), _quarantine_path(base.manifest, layout), plan.notes)
        reasons = "; ".join(f"{r.id!r}: {r.message}" for r in rejected[:3])
        msg = f"none of the {len(rejected)} inputs could become a graph, so there is nothing to write: {reasons}"
        raise InputError(msg)
    before = None if base is None else _of_store(base, plan)
    table = Parts([_of_shard(rows, plan) for rows in made], order.dropped, before)
    splits, rules = _splits(table, made, old, split, base, plan, scratch)
    quarantine = _quarantine(plan, rejected, base, layout)
    columns = ColumnWriter(layout.dataset)
    plan = replace(plan, notes=(*plan.notes, *_write_labels(plan, table, columns, base)))
    for name, one in splits.items():
        if one.names:
            write_split(columns, name, [one.codes], one.names, rules[name])
    added = Parts(new, order.dropped - old)
    write_index(columns, table, order, _count_columns(plan))
    columns.stream("formula", table.column("formula"))
    if (inputs := _input(plan, added, base, layout)) is not None:
        columns.stream("input", inputs, dtype=narrowest(inputs))
    blocks = _blocks(added, base)
    manifest = _manifest(plan, made, spare, columns=columns, blocks=blocks, base=base, quarantine=quarantine)
    notes = (*plan.notes, *splits[DEFAULT].notes(rules[DEFAULT], _rule_columns(table, plan, scratch)))
    publish(hold, layout.dataset, manifest)
    return Merged(written, len(rejected), _quarantine_path(manifest, layout), notes, splits[DEFAULT].unsplit)


def _remarks(made: Sequence[ShardRows]) -> Remarks:
    all_shards = Remarks()
    for rows in made:
        all_shards.join(rows.remarks)
    return all_shards


def published(layout: Layout) -> Merged:
    """Report a finished dataset as the result of one merge."""
    store = Store(layout.final)
    manifest = store.manifest
    quarantined = 0 if manifest.quarantine is None else manifest.quarantine.count
    splits = Splits.of(store)
    columns = columns_of(store, TemporaryArrays(layout.partial))
    notes = (*manifest.provenance.notes, *splits.notes(recorded_rule(manifest), columns))
    return Merged(manifest.graphs, quarantined, _quarantine_path(manifest, layout), notes, splits.unsplit)


def already_merged(plan: Plan, layout: Layout, split: SplitRule | str | None) -> Merged | None:
    """Return the result of a plan if its graphs are already in the dataset; otherwise None."""
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
    if split is not None and not _is_split(store, len(store) - written, split, TemporaryArrays(layout.partial)):
        return None
    splits = Splits.of(store)
    own = manifest.provenance.notes if plan.base is None else plan.notes
    columns = columns_of(store, TemporaryArrays(layout.partial))
    notes = (*own, *splits.notes(recorded_rule(manifest), columns))
    return Merged(written, rejected, _quarantine_path(manifest, layout), notes, splits.unsplit)


def _is_split(store: Store, old: int, split: SplitRule | str, scratch: TemporaryArrays) -> bool:
    """Whether the graphs from number ``old`` on have the splits that a merge would give them."""
    found = Splits.of(store)
    try:
        wanted = found.with_added(old, split, recorded_rule(store.manifest), columns_of(store, scratch))
    except InputError:
        return False
    return found.names == wanted.names and np.array_equal(found.codes, wanted.codes)


def _splits(  # noqa: PLR0917
    table: Parts,
    made: Sequence[ShardRows],
    old: int,
    split: SplitRule | str | None,
    base: Store | None,
    plan: Plan,
    scratch: TemporaryArrays,
) -> tuple[dict[str, Splits], dict[str, Rule | None]]:
    """Return the splits of all graphs in each column of splits, and the rule that all graphs follow."""
    splits: dict[str, Splits] = {}
    rules: dict[str, Rule | None] = {}
    columns = _rule_columns(table, plan, scratch)
    known = {} if base is None else base.manifest.splits()
    for name in dict.fromkeys((DEFAULT, *known, *(name for rows in made for name in rows.splits))):
        own = list(known[name].categories or ()) if name in known else []
        names = tuple(dict.fromkeys((*own, *(text for rows in made for text in rows.splits.get(name, ())))))
        codes = scratch.array(np.uint8, len(table))
        codes[:] = NO_SPLIT
        if name in known and base is not None:
            codes[:old] = base.column(name)
        _named_splits(codes[old:], name, table.dropped - old, made, names)
        found = Splits(codes, names)
        asked = split if name == DEFAULT else None
        rule = None if base is None else recorded_rule(base.manifest, name)
        by_name = bool((codes[old:] != NO_SPLIT).any())
        splits[name] = found.with_added(old, asked, rule, columns)
        if base is None:
            rules[name] = asked if isinstance(asked, SplitRule) else None
        else:
            rules[name] = rule if asked == rule or (asked is None and not by_name) else None
    return splits, rules


def _named_splits(
    codes: NDArray[np.uint8], name: str, dropped: NDArray[np.int64], made: Sequence[ShardRows], names: Sequence[str]
) -> None:
    """Insert the splits that the sources name for the new graphs, in one column of splits."""
    at = 0
    key = f"{SPLIT}{name}"
    shards = [Part(rows.rows, partial(_codes, rows, key)) for rows in made]
    for rows, own in zip(made, Parts(shards, dropped).column(key), strict=True):
        codes[at : at + len(own)] = Splits(own, rows.splits.get(name, ())).recoded(names).codes
        at += len(own)


def _codes(rows: ShardRows, key: str, _: str) -> NDArray[np.uint8]:
    return rows.arrays[key] if key in rows.arrays else np.full(rows.rows, NO_SPLIT, np.uint8)


def _rule_columns(table: Parts, plan: Plan, scratch: TemporaryArrays) -> RuleColumns:
    """Return the columns that the rules of splits read."""

    def stored(name: str) -> Pieces:
        return table.column(FORMULA if name == FORMULA else f"{LABEL}{name}")

    arrays = [label.name for label in _labels(plan) if label.shape]
    return RuleColumns(stored, plan.groups(), scratch, arrays)


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
    """Raise an error if a shard was made for another plan, or with other versions."""
    try:
        found = ShardRows.load(layout.done(task)).maker
    except (FileNotFoundError, CorruptDataset):
        return
    if found is None or found == maker:
        return  # its shard is missing, so it is made again
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
        msg = f"{layout.final} changed since the plan to add to it was made; delete {layout.partial} and start again"
        raise OutputExists(msg)
    return store


def _of_shard(rows: ShardRows, plan: Plan) -> Part:
    """Return the rows of a shard, with one column for each count, and the labels that the shard does not have."""
    part = rows.part()
    counts = {name: number for number, name in enumerate(_count_columns(plan))}
    lacking = {f"{LABEL}{label.name}": label for label in _labels(plan) if label.name not in rows.labels}

    def column(name: str) -> NDArray[Any]:
        if name in counts:
            return rows.arrays["counts"][:, counts[name]]
        return missing_rows(lacking[name], rows.rows) if name in lacking else part.column(name)

    return Part(rows.rows, column)


def _labels(plan: Plan) -> list[Label]:
    return [label for label in plan.labels if label.level == "graph"]


def _count_columns(plan: Plan) -> tuple[str, ...]:
    return count_columns(GraphSpec.from_json(plan.recipe), plan.schema)


def _of_store(store: Store, plan: Plan) -> Before:
    """Return the rows of a finished dataset, to which new rows are added."""
    labels = {f"{LABEL}{label.name}": label for label in _labels(plan)}
    described = store.manifest.all_labels()

    def extended(name: str, added: Pieces) -> Pieces:
        label = labels.get(name)
        if label is not None and label.name not in described:
            return Joined(([missing_rows(label, len(store))], added))
        column = store.manifest.columns[name if label is None else label.name]
        rows = store.checked_column(name if label is None else label.name)
        descriptor = partial(store.storage.descriptor, column.file)
        if column.categories is None:
            return Extended(column, rows, descriptor, added)
        return ExtendedTexts(Extended(column, rows, descriptor, ()), added)

    return Before(len(store), extended)


def _duplicates(
    order: IdOrder, made: Sequence[ShardRows], plan: Plan, old: int
) -> tuple[list[Rejected], dict[int, list[int]]]:
    """Reject the inputs whose id an earlier row has.

    Returns:
        The rejected inputs, and shard -> keys of their records, in order.
    """
    shards = Parts([rows.part() for rows in made])
    rejected: list[Rejected] = []
    spare: dict[int, list[int]] = {}
    for row, earlier in zip(order.dropped.tolist(), order.first.tolist(), strict=True):
        task, key = shards.locate(row - old)
        spare.setdefault(plan.first_shard + task, []).append(key)
        position = int(made[task].arrays["position"][key])
        if earlier < old:
            where = "a graph that the dataset holds"
        else:
            holder, number = shards.locate(earlier - old)
            where = f"the input at position {made[holder].arrays['position'][number]}"
        source, entry = plan.origin(plan.tasks[task], position)
        message = f"the id is taken by {where}; ids must be unique"
        graph_id = made[task].arrays["id"][key].decode()
        rejected.append(Rejected(source, position, entry, graph_id, "DuplicateId", message))
    return rejected, spare


def _quarantine(plan: Plan, new: Sequence[Rejected], base: Store | None, layout: Layout) -> Quarantine | None:
    """Write the list of quarantined inputs: the old ones that this plan did not try again, and the new ones."""
    old = [] if base is None else read_quarantine(layout.final, base.manifest)
    pieces = [piece for task in plan.tasks for piece in task.pieces]
    retried = {piece.position + number for piece in pieces for number in piece.only or ()}
    return write_quarantine(layout.dataset, [*(r for r in old if r.position not in retried), *new])


def _manifest(
    plan: Plan,
    made: Sequence[ShardRows],
    spare: Mapping[int, Sequence[int]],
    *,
    columns: ColumnWriter,
    blocks: Blocks,
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
        shards.append(Shard(rows.file, rows.rows, tuple(spare.get(shard, ())), plan.codec, number))
    before = Provenance() if old is None else old.provenance
    return Manifest(
        graphs=sum(shard.rows for shard in shards),
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
    """Return the old notes, and the new notes that are not among them."""
    return (*old, *(one for one in new if one not in old))


def _blocks(new: Parts, base: Store | None) -> Blocks:
    """Return the digests of all blocks of graphs. Old graphs are read only if their block is not full yet."""
    hasher = BlockHasher()
    if base is None:
        for digests in new.column("digest"):
            hasher.add(digests)
        return hasher.blocks()
    whole = len(base) // BLOCK
    ids = base.checked_column("id")
    for row in range(whole * BLOCK, len(base)):
        hasher.add(np.frombuffer(graph_digest(ids.row(row), base.raw(row)), "V32"))
    for digests in new.column("digest"):
        hasher.add(digests)
    return np.concatenate([base.digests()[0][:whole], hasher.blocks()])


def _write_labels(plan: Plan, table: Parts, columns: ColumnWriter, base: Store | None) -> list[str]:
    """Write the columns of the labels, and return notes about them."""
    notes: list[str] = []
    for label in _labels(plan):
        notes += label_column(columns, label, table.column(f"{LABEL}{label.name}"))
        notes += dropped_energies(label.name, None if base is None else base.manifest)
    return notes


def _input(plan: Plan, new: Parts, base: Store | None, layout: Layout) -> Pieces | None:
    """Write the column ``input``, if the quarantined inputs do not determine the input of each row."""
    if base is None or (plan.entries and "input" not in base.manifest.columns):
        return None
    column = base.column("input") if "input" in base.manifest.columns else None
    before = input_of_rows(base.manifest, read_quarantine(layout.final, base.manifest), column)
    if before is None:
        return None
    return Joined((_Renumbered(before, base.manifest.inputs, plan.entries), new.column("position")))


@dataclass(frozen=True, slots=True)
class _Renumbered:
    """Yield the inputs of the rows of a dataset that gets more rows, in pieces."""

    inputs: InputNumbers
    count: int
    more: int

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (renumbered(piece, self.count, 0, self.count + self.more) for piece in self.inputs)
