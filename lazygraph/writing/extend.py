"""Plans that add graphs to a finished dataset: of new inputs (append), or of quarantined inputs (retry)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from lazygraph.errors import InputError, LabelError
from lazygraph.format.manifest import Manifest
from lazygraph.graphs.crystal_records import CRYSTAL_FIELDS
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.registry import unknown_name
from lazygraph.sources.base import Source
from lazygraph.sources.dataset import label_of, label_of_field
from lazygraph.sources.time_limit import time_limit
from lazygraph.storage.files import write_atomic
from lazygraph.writing.labels import Label, told_left_out
from lazygraph.writing.layout import Layout
from lazygraph.writing.options import WriteOptions
from lazygraph.writing.plan import Base, Piece, Plan, Scanned, Task, check_split_columns, sampled, scan_sources
from lazygraph.writing.quarantine import Rejected, read_quarantine

__all__ = ["plan_append", "plan_retry", "spec_of"]


def spec_of(manifest: Manifest) -> GraphSpec:
    """Return the recipe of a dataset, for graphs that are added to it.

    Raises:
        InputError: its graphs are ready-made, or it lacks a column that graphs of its recipe have.
    """
    if manifest.recipe is None:
        msg = (
            "the dataset was made with GraphWriter and has no recipe; only a dataset made from structures can be "
            "added to"
        )
        raise InputError(msg)
    spec = GraphSpec.from_json(manifest.recipe)
    if lacking := [name for name in derived_names(spec) if name not in manifest.columns]:
        msg = (
            f"the dataset has no column {lacking[0]!r}, which new graphs of its recipe have; write its graphs again, "
            "and add to the new dataset: lazygraph-write OLD.lg -o NEW.lg --graph ..."
        )
        raise InputError(msg)
    return spec


def plan_append(sources: Sequence[Source], options: WriteOptions, layout: Layout) -> Plan:
    """Plan new shards for the sources, with the recipe, the labels and the dictionary of the dataset.

    Raises:
        LabelError: a requested label is not in the dataset.
    """
    manifest = Manifest.load(layout.final)
    own = spec_of(manifest)
    if options.descriptions or options.about:
        msg = (
            f"an append cannot change the descriptions of {layout.final}; append without these options, and use "
            "'lazygraph labels' and 'lazygraph about'"
        )
        raise InputError(msg)
    scanned = scan_sources(sources, own, options, layout, _base(manifest))
    plan = _like(manifest, scanned.plan, layout)
    names = [label.name for label in plan.labels]
    if stray := [name for name in (*(options.labels or ()), *options.units) if name not in names]:
        msg = (
            f"{layout.final}: {unknown_name('label', stray[0], names)}. Append without it, and add it with 'lazygraph "
            "labels'"
        )
        raise LabelError(msg)
    _check_units(plan.labels, options.units, scanned)
    check_split_columns(plan.splits, plan.labels)
    if left := sorted({key for about in scanned.abouts for key, _ in about.items() - manifest.about.items()}):
        told = f"what the new sources say about themselves is not copied: {', '.join(left)}"
        plan = replace(plan, notes=(*plan.notes, told))
    if options.labels is not None:
        return plan
    with time_limit(plan.max_seconds):
        columns = {name for entry in sampled(plan, layout) for name in (*entry.labels, *entry.atom_labels)}
    reason = "the dataset has no such label; 'lazygraph labels' adds one"
    notes = told_left_out(dict.fromkeys(sorted(columns.difference(names)), reason))
    return replace(plan, notes=(*plan.notes, *notes), columns=tuple(sorted(columns.union(names))))


def _check_units(labels: Iterable[Label], units: Mapping[str, str], scanned: Scanned) -> None:
    """Refuse to append numbers in another unit than the dataset's."""
    for label in labels:
        for implied in scanned.implied:
            unit = implied.units.get(label.name)
            if unit is not None and label.unit is not None and label.name not in units and unit != label.unit:
                msg = (
                    f"the label {label.name!r} of the dataset is in {label.unit}, and by {implied.origin} the new one "
                    f"is in {unit}; convert it, or say that it is in {label.unit} with --unit {label.name}={label.unit}"
                )
                raise LabelError(msg)


def plan_retry(sources: Sequence[Source], options: WriteOptions, layout: Layout) -> Plan | None:
    """Plan to try the quarantined inputs again. They are found in the sources by name and number.

    Returns:
        The plan, or None if nothing is quarantined.

    Raises:
        InputError: a source of quarantined inputs is not given.
    """
    manifest = Manifest.load(layout.final)
    rejected = read_quarantine(layout.final, manifest)
    if not rejected:
        return None
    spec = spec_of(manifest)
    plan = _like(manifest, scan_sources(sources, spec, options, layout, _base(manifest)).plan, layout)
    wanted = _wanted(plan, rejected, manifest, layout)
    tasks = [Task(pieces) for task in plan.tasks if (pieces := tuple(_again(task, wanted)))]
    return replace(plan, tasks=tuple(tasks), entries=0)


def _wanted(
    plan: Plan, rejected: Iterable[Rejected], manifest: Manifest, layout: Layout
) -> dict[int, list[tuple[int, int]]]:
    """Return number of a source -> (entry, position) of its inputs to try again, in order.

    A source is identified by its name. If several sources have the same name, unchanged ones are identified by their
    files, and the others by their order.
    """
    known = manifest.provenance.sources
    starts = [0, *accumulate(source.inputs for source in known)]
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one in rejected:
        number = bisect_right(starts, one.position) - 1
        groups[number].append((one.position - starts[number], one.position))
    given = plan.source_files()
    out: dict[int, list[tuple[int, int]]] = {}
    for name in dict.fromkeys(known[number].name for number in groups):
        here = [one for one, source in enumerate(given) if source.name == name]
        there = [one for one, source in enumerate(known) if source.name == name]
        pairs: dict[int, int] = {}
        for number in there:  # the unchanged ones
            if same := [one for one in here if given[one] == known[number] and one not in pairs.values()]:
                pairs[number] = same[0]
        others = [number for number in there if number not in pairs]
        left = [one for one in here if one not in pairs.values()]
        if len(others) == len(left):
            pairs |= zip(others, left, strict=True)
        for number in there:
            if number in groups and number not in pairs:
                msg = (
                    f"quarantined inputs of {layout.final} come from {len(there)} source{'s' * (len(there) > 1)} named "
                    f"{name!r}, and {len(here)} of the sources given ({', '.join(repr(one.name) for one in given)}) "
                    "have that name; give all sources of a name that the dataset was made from, in the same order"
                )
                raise InputError(msg)
            if number in groups:
                out[pairs[number]] = groups[number]
    return out


def _again(task: Task, wanted: Mapping[int, Sequence[tuple[int, int]]]) -> Iterable[Piece]:
    """Return the pieces of a task that have inputs to try again, reduced to these inputs."""
    for piece in task.pieces:
        mine = [(e, p) for e, p in wanted.get(piece.source, ()) if piece.start <= e < piece.start + piece.count]
        if mine:
            entry, position = mine[0]
            yield replace(piece, position=position - entry + piece.start, only=tuple(e - piece.start for e, _ in mine))


def _base(manifest: Manifest) -> Base:
    return Base(manifest.graphs, manifest.inputs, len(manifest.shards), manifest.content_id)


def _like(manifest: Manifest, plan: Plan, layout: Layout) -> Plan:
    """Return the plan with the labels, schema, level and dictionary of an existing dataset."""
    labels = [label_of(name, column) for name, column in manifest.all_labels().items()]
    labels += [label_of_field(field) for field in manifest.schema.fields if field.name not in CRYSTAL_FIELDS]
    plan = replace(plan, labels=tuple(labels), schema=manifest.schema)
    if not manifest.shards:
        return plan
    # New shards are compressed in the same way as the last shard, with its dictionary.
    last = manifest.shards[-1]
    dictionary = None if last.dictionary is None else manifest.dictionaries[last.dictionary]
    if dictionary is not None:
        layout.dataset.mkdir(parents=True, exist_ok=True)
        write_atomic(layout.dataset / dictionary.name, dictionary.check(layout.final).read_bytes())
    return replace(plan, codec=last.codec, dictionary=dictionary)
