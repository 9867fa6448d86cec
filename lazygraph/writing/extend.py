"""Plans that add to a finished dataset: new inputs (append), or quarantined ones once more (retry)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lazygraph.errors import InputError, LabelError, RecipeMismatch
from lazygraph.format.manifest import Manifest
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Source
from lazygraph.sources.dataset import label_of, label_of_field
from lazygraph.sources.time_limit import time_limit
from lazygraph.storage.files import write_atomic
from lazygraph.writing.fields import crystal_schema
from lazygraph.writing.labels import Label, told_left_out
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Base, Plan, Scanned, Task, WriteOptions, sampled, scan_sources
from lazygraph.writing.quarantine import UNKNOWN_SOURCE, Rejected, read_quarantine

__all__ = ["plan_append", "plan_retry", "spec_of"]


def spec_of(manifest: Manifest) -> GraphSpec:
    """The recipe of a crystal dataset that can be added to.

    Raises:
        InputError: its graphs came ready-made, or it lacks a column that graphs of its recipe have.
    """
    if manifest.recipe is None:
        msg = "the dataset was made with GraphWriter and has no recipe; required: one made from structures"
        raise InputError(msg)
    spec = GraphSpec.from_json(manifest.recipe)
    if lacking := [name for name in derived_names(spec) if name not in manifest.columns]:
        msg = (
            f"the dataset has no column {lacking[0]!r}, which new graphs of its recipe have; write its graphs anew, "
            "and add to those: lazygraph-write OLD.lg -o NEW.lg --graph ..."
        )
        raise InputError(msg)
    return spec


def plan_append(sources: Sequence[Source], spec: GraphSpec | None, options: WriteOptions, layout: Layout) -> Plan:
    """A plan that makes the sources' graphs with the dataset's own recipe, labels and dictionary, as shards at its end.

    Raises:
        RecipeMismatch: another recipe was asked for.
        LabelError: a label was asked for that the dataset does not have.
    """
    manifest = Manifest.load(layout.final)
    own = spec_of(manifest)
    if spec is not None and (differences := own.diff(spec)):
        msg = f"{layout.final} has another recipe than the one asked for: {'; '.join(differences)}; append with its own"
        raise RecipeMismatch(msg)
    if options.descriptions or options.about:
        msg = (
            f"the labels of {layout.final} are described already, and the dataset says what it is; append without, and "
            "change that with 'lazygraph labels' and 'lazygraph about'"
        )
        raise InputError(msg)
    scanned = scan_sources(sources, own, options, layout, _base(manifest))
    plan = _like(manifest, scanned.plan, own, layout)
    names = [label.name for label in plan.labels]
    if stray := [name for name in (*(options.labels or ()), *options.units) if name not in names]:
        msg = (
            f"found no label {stray[0]!r} in {layout.final}; its labels are {', '.join(map(repr, names)) or 'none'}: "
            "append without it, and add it with 'lazygraph labels'"
        )
        raise LabelError(msg)
    _check_units(plan.labels, options.units, scanned)
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
    """A plan that tries the dataset's quarantined inputs again, found in the sources by name and number.

    Returns:
        The plan, or None where nothing is quarantined.

    Raises:
        InputError: quarantined inputs are of sources that are not given.
    """
    manifest = Manifest.load(layout.final)
    rejected = read_quarantine(layout.final, manifest)
    if not rejected:
        return None
    spec = spec_of(manifest)
    plan = _like(manifest, scan_sources(sources, spec, options, layout, _base(manifest)).plan, spec, layout)
    origins = _origins(plan, [_known(one, plan, manifest) for one in rejected], layout)
    tasks = [again for task in plan.tasks for again in _again(task, origins.get(task.source, ()))]
    return replace(plan, tasks=tuple(tasks), entries=0)


def _known(one: Rejected, plan: Plan, manifest: Manifest) -> Rejected:
    """The input with its source, which of a graph that was lost later follows from its position."""
    if one.source != UNKNOWN_SOURCE:
        return one
    if plan.entries != manifest.inputs:
        msg = (
            f"the sources given have {plan.entries} inputs; required: all {manifest.inputs} that the dataset was made "
            "from, in the same order, for of graphs that were lost only the number among all inputs is known"
        )
        raise InputError(msg)
    position = plan.first_position + one.position
    task = next(task for task in plan.tasks if task.position <= position < task.position + task.count)
    return replace(one, source=plan.sources[task.source]["name"], entry=position - task.position + task.start)


def _origins(plan: Plan, rejected: Iterable[Rejected], layout: Layout) -> dict[int, list[Rejected]]:
    """Number of a source of the plan -> the rejected inputs that came from it.

    The source of an input is told by its name and by the position of its first input. Where all sources of a dataset
    are given, both must agree; where some are, the name must be enough.
    """
    groups: dict[tuple[str, int], list[Rejected]] = defaultdict(list)
    for one in rejected:
        groups[one.source, one.position - one.entry].append(one)
    names = [source["name"] for source in plan.sources]
    starts = {task.source: task.position - plan.first_position for task in reversed(plan.tasks)}
    places = {(name, starts[number]): number for number, name in enumerate(names) if number in starts}
    if groups.keys() <= places.keys():
        return {places[key]: group for key, group in groups.items()}
    by_name = [name for name, _ in groups]
    for name in by_name:
        if names.count(name) != 1 or by_name.count(name) != 1:
            msg = (
                f"quarantined inputs of {layout.final} come from {by_name.count(name)} source named {name!r}, and "
                f"{names.count(name)} of the sources given ({', '.join(map(repr, names))}) have that name; give all "
                "sources that the dataset was made from, in the same order"
            )
            raise InputError(msg)
    return {names.index(name): group for (name, _), group in groups.items()}


def _again(task: Task, rejected: Iterable[Rejected]) -> Iterable[Task]:
    """The same range, narrowed to its rejected inputs; nothing if it has none."""
    mine = [r for r in rejected if task.start <= r.entry < task.start + task.count]
    if mine:
        position = mine[0].position - mine[0].entry + task.start
        yield replace(task, position=position, only=tuple(r.entry - task.start for r in mine))


def _base(manifest: Manifest) -> Base:
    return Base(manifest.graphs, manifest.inputs, len(manifest.shards), manifest.content_id)


def _like(manifest: Manifest, plan: Plan, spec: GraphSpec, layout: Layout) -> Plan:
    """The plan with labels, schema, level and dictionary of an existing dataset."""
    plain = {field.name for field in crystal_schema(spec, ()).fields}
    labels = [label_of(name, column) for name, column in manifest.all_labels().items()]
    labels += [label_of_field(field) for field in manifest.schema.fields if field.name not in plain]
    if manifest.dictionary is not None:
        layout.dataset.mkdir(parents=True, exist_ok=True)
        dictionary = manifest.dictionary.check(layout.final).read_bytes()
        write_atomic(layout.dataset / manifest.dictionary.name, dictionary)
    return replace(
        plan, labels=tuple(labels), schema=manifest.schema, level=manifest.level, dictionary=manifest.dictionary
    )
