"""Making of one shard of a plan, from its inputs to its published file: the unit of work of all executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError
from lazygraph.format.codec import CODECS
from lazygraph.format.columns import text_bytes
from lazygraph.format.digests import graph_digest
from lazygraph.format.record_encoder import RecordEncoder
from lazygraph.format.shard import write_shard
from lazygraph.graphs.sizes import derived_sizes
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Entry, Label, Remark, shown
from lazygraph.sources.time_limit import one_input, time_limit
from lazygraph.text import shortened
from lazygraph.writing.crash_isolation import CrashGuard, crash_guard
from lazygraph.writing.fields import count_columns, crystal_values, labelled_schema
from lazygraph.writing.labels import LabelSet, is_missing
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Job, Plan, read_head, read_job, read_task, versions
from lazygraph.writing.prototypes import SYMPREC, prototype_of
from lazygraph.writing.quarantine import Rejected
from lazygraph.writing.rows import Maker, RowBuffer, ShardRows, finished
from lazygraph.writing.splits import DEFAULT

__all__ = ["Made", "make_shard"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """The summary of one finished shard."""

    task: int
    written: int
    quarantined: int


def make_shard(final: Path, task: int) -> Made:
    """Make shard number ``task`` of the plan beside ``final``, unless the shard is finished.

    This needs only the folder of the plan and the inputs, and touches no other shard. Any number of processes on any
    machines can therefore make shards at the same time. The file of the shard is published first and its row file last,
    both atomically. Neither torch nor jarvis is imported. A worker that was suspended, or whose run was abandoned,
    stops if it finds another plan in the folder.

    Raises:
        InputError: there is no plan, the plan has no such shard or was replaced, the input has changed, or this process
            has other versions than the process that made the plan.
    """
    layout = Layout.of(final)
    job = read_job(layout, task)
    maker = Maker.of_job(job)
    rows = finished(layout, task, maker)
    if rows is None:
        _check_versions(job.plan)
        with crash_guard(layout.at(task, maker.plan)) as watch:
            try:
                rows = _make(job, task, layout, watch, maker)
            except Exception:
                _check_in_place(maker, layout)  # otherwise the error is the reason, such as missing files of this plan
                raise
            _check_in_place(maker, layout)
            rows.save(layout.done(task))
    return Made(task, rows.rows, len(rows.rejected))


def _make(job: Job, number: int, layout: Layout, watch: CrashGuard, maker: Maker) -> ShardRows:
    plan, task = job.plan, job.task
    row = _RowMaker(plan, layout)
    rows = RowBuffer(row.labels.graph, row.counts, plan.splits)
    frames = []
    with time_limit(plan.max_seconds):
        for position, entry in watch.reading(partial(read_task, plan, task, layout)):
            work: Callable[[], tuple[Any, ...]] = partial(row, entry)
            killer = watch.verdict(work)
            made = _outcome(work) if killer is None else killer
            if isinstance(made, Exception):
                rows.rejected.append(Rejected.of(*plan.origin(task, position), position, entry.id, made))
                continue
            frame, counts, values, digest, formula, remarks = made
            frames.append(frame)
            rows.add(position, entry.id, formula, counts, labels=values, digest=digest, splits=_splits(entry))
            rows.remarks.add(entry.id, remarks)
    _check_in_place(maker, layout)
    file, record = write_shard(layout.dataset, plan.first_shard + number, frames)
    return rows.finish(file, record, maker)


class _RowMaker:
    """Builds the graph of an input of a plan, and packs it with its labels. Pickled as the plan.

    Args:
        plan: the plan.
        layout: where its dictionary lies.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self._plan, self._layout = plan, layout
        self._spec = GraphSpec.from_json(plan.recipe)
        self.labels = LabelSet(plan.labels)
        schema = labelled_schema(self._spec, self.labels.node)
        self.counts = len(count_columns(self._spec, schema))
        """The number of columns of sizes."""
        self._encoder = RecordEncoder(schema)
        dictionary = None if plan.dictionary is None else plan.dictionary.check(layout.dataset).read_bytes()
        self._compress = CODECS[plan.codec].encoder(plan.level, dictionary)
        self._known = None if plan.columns is None else frozenset(plan.columns)
        self._computed = next((label for label in self.labels.graph if label.symprec is not None), None)

    def __reduce__(self) -> tuple[type[_RowMaker], tuple[Plan, Layout]]:
        return _RowMaker, (self._plan, self._layout)

    def __call__(self, entry: Entry) -> tuple[Any, ...]:
        """Return record, sizes, labels, digest, formula and remarks."""
        spec, schema = self._spec, self._encoder.schema
        with one_input():
            crystal = _crystal(entry)
            graph = spec.build(crystal, max_images=self._plan.max_images)
            computed = self._computed
            given, told = (entry.labels, ()) if computed is None else _with_prototype(entry, crystal, computed)
            values, atoms, left_out = self.labels.row(given, len(crystal), entry.atom_labels)
            raw, counts = self._encoder.pack(crystal_values(schema, graph, atoms))
            counts = (*counts, *derived_sizes(spec, graph).values())
            graph_id = text_bytes(entry.id)
            formula = crystal.formula
            text_bytes(formula, "formula")  # with about fifty elements, the formula is too long
            remarks = (*entry.remarks, *left_out, *told)
            if self._known is not None:
                remarks = (*remarks, *_unknown_columns(entry, self._known))
            return self._compress(raw), counts, values, graph_digest(graph_id, raw), formula, remarks


def _check_in_place(maker: Maker, layout: Layout) -> None:
    """Refuse to put a shard into the folder of another plan, which may have replaced this one meanwhile."""
    found = read_head(layout)
    if found.digest != maker.plan:
        msg = (
            f"{layout.partial} now holds the plan {found.title}; this shard belongs to the plan {maker.title}, so it "
            "is discarded, and the other plan is not changed"
        )
        raise InputError(msg)


def _check_versions(plan: Plan) -> None:
    here = versions()
    if differences := [
        f"{name} {plan.versions.get(name)} there, {here.get(name)} here"
        for name in {**plan.versions, **here}
        if plan.versions.get(name) != here.get(name)
    ]:
        msg = (
            f"the versions of this process differ from the versions in the plan: {'; '.join(differences)}; write all "
            "shards of a plan with the same versions, or delete its folder and plan again"
        )
        raise InputError(msg)


def _outcome(work: Callable[[], T]) -> T | Exception:
    """Return the result of the work on one input, or its error (also MemoryError), which quarantines the input."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001
        return error


def _unknown_columns(entry: Entry, known: frozenset[str]) -> Iterator[Remark]:
    """Yield remarks about values with names that the inputs did not have when the labels were chosen."""
    for values in (entry.labels, entry.atom_labels):
        if not known.issuperset(values):
            for name, value in values.items():
                if name not in known and not is_missing(value):
                    what = (
                        f"have a value under {shortened(repr(name), 80)}, a name that none of the inputs looked at "
                        "has, and which is left out: add it to the dataset with lazygraph labels --from FILE"
                    )
                    yield Remark(what, shown(value, 20))


def _with_prototype(entry: Entry, crystal: Crystal, label: Label) -> tuple[Mapping[str, Any], tuple[Remark, ...]]:
    """Return the labels of an input with the computed prototype, and remarks about it."""
    found = prototype_of(crystal, SYMPREC if label.symprec is None else label.symprec)
    remarks = found.remarks()
    given = entry.labels.get(label.name)
    if not is_missing(given) and given not in ("", found.text):
        what = f"have another value under {label.name!r}, which the dataset computes from the crystal"
        remarks = (*remarks, Remark(what, shown(given, 60)))
    return {**entry.labels, label.name: found.text}, remarks


def _splits(entry: Entry) -> Mapping[str, str]:
    """Return column of splits -> the split of an input."""
    return entry.other_splits if entry.split is None else {**entry.other_splits, DEFAULT: entry.split}


def _crystal(entry: Entry) -> Crystal:
    if isinstance(entry.crystal, Crystal):
        return entry.crystal
    raise entry.crystal
