"""One shard of a plan, from its inputs to its published file: the unit of work of pools, array jobs and clusters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, WorkerDied
from lazygraph.format.columns import text_array
from lazygraph.format.manifest import graph_digest
from lazygraph.format.record import Compressor, pack
from lazygraph.format.shard import write_shard
from lazygraph.graphs.sizes import derived_sizes
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Entry, Remark
from lazygraph.writing.fields import count_columns, crystal_schema, crystal_values
from lazygraph.writing.labels import LabelSet, is_missing
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan, read_task
from lazygraph.writing.quarantine import Rejected
from lazygraph.writing.rows import RowBuffer, ShardRows, finished
from lazygraph.writing.suspects import Watch, watched

__all__ = ["Made", "make_shard"]


@dataclass(frozen=True, slots=True)
class Made:
    """What one finished shard adds up to."""

    task: int
    written: int
    quarantined: int


def make_shard(final: Path, task: int) -> Made:
    """Make shard number ``task`` of the plan beside ``final``, unless it is made already.

    Needs nothing but the plan's folder and the inputs, and touches no other shard: any number of processes on any
    machines may each do theirs. Publishes the shard's file first and what is known of it last, both atomically.
    Imports neither torch nor jarvis.

    Raises:
        InputError: there is no plan, or no such shard in it, or the input is not what it was.
    """
    layout = Layout.of(final)
    plan = Plan.load(layout)
    if task not in range(len(plan.tasks)):
        msg = f"found the task {task}; required: 0 to {len(plan.tasks) - 1}, a shard of the plan of {layout.final}"
        raise InputError(msg)
    rows = finished(layout, task)
    if rows is None:
        with watched(layout.at(task)) as watch:
            rows = _make(plan, task, layout, watch)
            rows.save(layout.done(task))
    return Made(task, len(rows.id), len(rows.rejected))


def _make(plan: Plan, task: int, layout: Layout, watch: Watch) -> ShardRows:
    spec = GraphSpec.from_json(plan.recipe)
    labels = LabelSet(plan.labels)
    schema = crystal_schema(spec, labels.node)
    dictionary = None if plan.dictionary is None else plan.dictionary.check(layout.dataset).read_bytes()
    compress = Compressor(plan.level, dictionary)
    names, shapes = [label.name for label in labels.graph], [label.shape for label in labels.graph]
    rows = RowBuffer(names, shapes, len(count_columns(spec, schema)))
    job = plan.tasks[task]
    source = plan.sources[job.source]["name"]
    known = None if plan.columns is None else frozenset(plan.columns)
    frames = []

    def row(position: int, entry: Entry) -> tuple[Any, ...]:
        crystal = _crystal(entry)
        graph = spec.build(crystal)
        values, atoms = labels.row(entry.labels, len(crystal), entry.atom_labels)
        raw, counts = pack(schema, position, crystal_values(graph, atoms))
        counts = (*counts, *derived_sizes(spec, graph).values())
        graph_id = text_array([entry.id]).item()
        formula = crystal.formula
        text_array([formula], "formula")  # too long with some fifty elements
        return raw, counts, values, graph_id, formula

    for position, entry in watch.reading(partial(read_task, plan, job, layout)):
        try:
            watch.refuse_killer(partial(row, position, entry))
            raw, counts, values, graph_id, formula = row(position, entry)
        except (InputError, WorkerDied) as error:
            rows.rejected.append(
                Rejected(
                    source, position, position - job.position + job.start, entry.id, type(error).__name__, str(error)
                )
            )
            continue
        frames.append(compress(raw))
        digest = graph_digest(graph_id, raw)
        rows.add(position, entry.id, formula, counts, labels=values, digest=digest, split=entry.split)
        rows.remarks.add(entry.id, entry.remarks)
        if known is not None:
            rows.remarks.add(entry.id, _unknown_columns(entry, known))
    file, record = write_shard(layout.dataset, plan.first_shard + task, frames)
    return rows.finish(file, record)


def _unknown_columns(entry: Entry, known: frozenset[str]) -> Iterator[Remark]:
    """What the report must tell of values under names that no input had from which the labels were chosen."""
    for values in (entry.labels, entry.atom_labels):
        if not known.issuperset(values):
            for name, value in values.items():
                if name not in known and not is_missing(value):
                    what = (
                        f"have a value under {name!r}, a name that none of the inputs looked at has, and which is left "
                        "out: name it with --label to keep it"
                    )
                    yield Remark(what, str(value)[:20])


def _crystal(entry: Entry) -> Crystal:
    if isinstance(entry.crystal, Crystal):
        return entry.crystal
    raise entry.crystal
