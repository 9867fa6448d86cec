"""Plans that add to a finished dataset: new inputs (append), or quarantined ones once more (retry)."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lazygraph.errors import InputError, RecipeMismatch
from lazygraph.format.manifest import Manifest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Source
from lazygraph.writing.fields import crystal_schema
from lazygraph.writing.labels import Label
from lazygraph.writing.layout import Layout
from lazygraph.writing.merge import read_quarantine
from lazygraph.writing.plan import Base, Plan, Task, WriteOptions, scan_sources
from lazygraph.writing.rows import Rejected

__all__ = ["plan_append", "plan_retry", "spec_of"]


def spec_of(manifest: Manifest) -> GraphSpec:
    """The recipe of a crystal dataset.

    Raises:
        InputError: its graphs came ready-made.
    """
    if manifest.recipe is None:
        msg = "the dataset was made with GraphWriter and has no recipe; required: one made from structures"
        raise InputError(msg)
    return GraphSpec.from_json(manifest.recipe)


def plan_append(sources: Sequence[Source], spec: GraphSpec | None, options: WriteOptions, layout: Layout) -> Plan:
    """A plan that makes the sources' graphs with the dataset's own recipe, labels and dictionary, as shards at its end.

    Raises:
        RecipeMismatch: another recipe was asked for.
    """
    manifest = Manifest.load(layout.final)
    own = spec_of(manifest)
    if spec is not None and (differences := own.diff(spec)):
        msg = f"{layout.final} has another recipe than the one asked for: {'; '.join(differences)}; append with its own"
        raise RecipeMismatch(msg)
    return _like(manifest, scan_sources(sources, own, options, layout, _base(manifest)), own, layout)


def plan_retry(sources: Sequence[Source], options: WriteOptions, layout: Layout) -> Plan | None:
    """A plan that tries the dataset's quarantined inputs again, found in the sources by name and number.

    Returns:
        The plan, or None where nothing is quarantined.

    Raises:
        InputError: quarantined inputs are of sources that are not given.
    """
    manifest = Manifest.load(layout.final)
    wanted: dict[str, list[Rejected]] = defaultdict(list)
    for rejected in read_quarantine(layout.final, manifest):
        wanted[rejected.source].append(rejected)
    if not wanted:
        return None
    names = [source.name for source in sources]
    if missing := [name for name in wanted if name not in names]:
        msg = (
            f"quarantined inputs of {layout.final} come from {', '.join(map(repr, missing))}, which is not among the "
            f"sources given ({', '.join(map(repr, names))}); give the sources that the dataset was made from"
        )
        raise InputError(msg)
    spec = spec_of(manifest)
    plan = _like(manifest, scan_sources(sources, spec, options, layout, _base(manifest)), spec, layout)
    tasks = [again for task in plan.tasks for again in _again(task, wanted[names[task.source]])]
    return replace(plan, tasks=tuple(tasks), entries=0)


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
    labels = [Label(name, "graph", column.shape[1:], column.unit) for name, column in manifest.labels().items()]
    labels += [Label(f.name, "node", f.shape, f.unit) for f in manifest.schema.fields if f.name not in plain]
    if manifest.dictionary is not None:
        layout.dataset.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.dictionary.check(layout.final), os.fspath(layout.dataset / manifest.dictionary.name))
    return replace(
        plan, labels=tuple(labels), schema=manifest.schema, level=manifest.level, dictionary=manifest.dictionary
    )
