"""``lazygraph.write``: plan, shards and merge in one call."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazygraph.errors import DatasetNotFound, InputError, OutputExists
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.spec import graph as make_spec
from lazygraph.sources.detect import open_sources
from lazygraph.sources.options import CifFormula, SourceOptions
from lazygraph.writing.extend import plan_append, plan_retry
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.merge import Merged, already_merged, merge, published
from lazygraph.writing.plan import Plan, WriteOptions, check_same_work, make_plan
from lazygraph.writing.pool import make_shards
from lazygraph.writing.rows import finished as finished_shard
from lazygraph.writing.splits import SplitRule

__all__ = ["Report", "finish", "plan", "write"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a write did.

    Attributes:
        path: the dataset.
        written: graphs that were added.
        quarantined: inputs that could not become graphs.
        seconds: time taken, all included.
        quarantine_file: where the reasons are listed, if there are any.
        notes: what else the summary should tell, such as files that no row of ``id_prop.csv`` names.
    """

    path: Path
    written: int
    quarantined: int
    seconds: float
    quarantine_file: Path | None = None
    notes: tuple[str, ...] = ()


def write(
    source: Any,
    path: str | os.PathLike[str],
    *,
    graph: GraphSpec | str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    append: bool = False,
    retry_quarantined: bool = False,
    progress: bool = True,
    format: str | None = None,  # noqa: A002 - the name of the command line's option
    id_key: str | None = None,
    cif_formula: CifFormula = "error",
    structure_key: str | None = None,
    trust_pickle: bool = False,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    split: Sequence[float] | None = None,
    seed: int = 123,
    group: str | None = None,
    level: int = 9,
    shard_size: int | None = None,
) -> Report:
    """Convert structures, build their graphs in parallel, and write them as a dataset directory.

    A killed run is finished by the same call, and a finished one is not written again. Inputs that cannot become graphs
    are quarantined, with the reason, and everything else is written. The same input and recipe give the same bytes,
    whatever the number of workers.

    Args:
        source: a path, several paths, a URI such as ``prototypes:2000?seed=0``, or any iterable of structures or of
            ``(id, structure, labels)``.
        path: the dataset to make, by custom ``NAME.lg``.
        graph: the recipe, or the name of a preset; ``comformer`` unless said. An append takes the dataset's own.
        workers: worker processes; None takes one per available CPU, 1 works in this process.
        executor: any ``concurrent.futures.Executor`` to make the shards with instead.
        overwrite: replace a dataset that is there already.
        append: add to a dataset that is there already.
        retry_quarantined: try the quarantined inputs of a dataset again; give the source it was made from.
        progress: show a bar on stderr, if that is a terminal.
        format: the input format, where it should not be recognised from the content.
        id_key: the key or column that holds the ids.
        cif_formula: what happens to a CIF whose sites contradict its formula or its Z: ``error`` quarantines it,
            ``warn`` keeps it and names it in the notes, ``ignore`` keeps it.
        structure_key: the key or column that holds the structure, where records have several.
        trust_pickle: read pickle files, which can run any code when they are loaded.
        labels: the labels to keep; all numeric ones unless said.
        units: name -> unit of labels.
        split: fractions of train, val and test.
        seed: seed of the split.
        group: ``formula`` keeps crystals of one formula in one split.
        level: zstd level, 1 to 22.
        shard_size: inputs a shard; from the number of inputs unless said.

    Returns:
        A report with ``written``, ``quarantined``, ``seconds`` and ``path``.

    Raises:
        InputError: the source, a label or an option cannot be used.
        OutputExists: the output is there already, or was begun with other arguments.
        WriterBusy: another process is writing it.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> report = lg.write("prototypes:20?seed=0", folder.name + "/p.lg", workers=1)
        >>> report.written, report.quarantined
        (20, 0)
        >>> folder.cleanup()
    """
    begin = time.perf_counter()
    layout = Layout.of(path)
    spec = make_spec(graph) if isinstance(graph, str) else graph
    rule = None if split is None else SplitRule(tuple(split), seed, group)
    options = _options(labels, units, level, shard_size)
    reading = SourceOptions(cif_formula, structure_key, trust_pickle)
    adds = append or retry_quarantined
    if workers is not None and workers < 1:
        msg = f"found workers={workers}; required: at least 1, or None for one per available CPU"
        raise InputError(msg)
    if overwrite + append + retry_quarantined > 1:
        msg = "found more than one of overwrite, append and retry_quarantined; required: at most one"
        raise InputError(msg)
    with exclusive(layout) as finished:
        check_output(layout, spec or make_spec("comformer"), overwrite=overwrite, adds=adds)
        sources = open_sources(source, format=format, id_key=id_key, options=reading)
        if retry_quarantined:
            new = plan_retry(sources, options, layout.staged())
            if new is None:
                return Report(layout.final, 0, 0, time.perf_counter() - begin, None, ("nothing is quarantined",))
        elif append:
            new = plan_append(sources, spec, options, layout.staged())
        else:
            new = make_plan(sources, spec or make_spec("comformer"), options, layout.staged())
        # The dataset that is there may be this very work: finished before, or by a process that was killed at the end.
        if (finished or not (overwrite or adds)) and (layout.final / MANIFEST).exists():
            if merged := already_merged(new, layout, rule):
                return _report(merged, layout, begin)
            if not (overwrite or adds):
                raise _exists(layout, "of the same recipe, made from other input or with other options")
        _begin(new, layout)
        pending = [task for task in range(len(new.tasks)) if finished_shard(layout, task) is None]
        counts = [task.count for task in new.tasks]
        make_shards(layout.final, pending, counts, workers=workers, executor=executor, progress=progress)
        merged = merge(layout, rule)
    return _report(merged, layout, begin)


def plan(
    source: Any,
    path: str | os.PathLike[str],
    *,
    graph: GraphSpec | str | None = None,
    overwrite: bool = False,
    format: str | None = None,  # noqa: A002 - the name of the command line's option
    id_key: str | None = None,
    cif_formula: CifFormula = "error",
    structure_key: str | None = None,
    trust_pickle: bool = False,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    level: int = 9,
    shard_size: int | None = None,
) -> Plan:
    """The first third of ``write``: read the source once and cut it into shards that any machine can make.

    Then ``make_shard(path, task)`` for every task, on as many machines as there are, and ``finish(path)``.
    """
    layout = Layout.of(path)
    spec = make_spec(graph or "comformer") if isinstance(graph, str) or graph is None else graph
    reading = SourceOptions(cif_formula, structure_key, trust_pickle)
    with exclusive(layout):
        check_output(layout, spec, overwrite=overwrite, adds=False)
        if (layout.final / MANIFEST).exists() and not overwrite:
            raise _exists(layout, "of the same recipe")
        sources = open_sources(source, format=format, id_key=id_key, options=reading)
        new = make_plan(sources, spec, _options(labels, units, level, shard_size), layout.staged())
        _begin(new, layout)
    return new


def finish(path: str | os.PathLike[str]) -> Report:
    """The last third of ``write``: put the shards together and publish the dataset.

    Where a process was killed while it published them, it finishes that; the report is then of the whole dataset.
    """
    begin = time.perf_counter()
    layout = Layout.of(path)
    with exclusive(layout) as finished:
        merged = published(layout) if finished and not layout.plan.exists() else merge(layout)
    return _report(merged, layout, begin)


def check_output(layout: Layout, spec: GraphSpec, *, overwrite: bool, adds: bool) -> None:
    """Refuse an output that is there and holds something else, or that is not there and should be added to.

    Raises:
        OutputExists, DatasetNotFound: with what is there, and what to do.
    """
    if not (layout.final / MANIFEST).exists():
        if adds:
            msg = f"there is no dataset at {layout.final} to add to; write one first"
            raise DatasetNotFound(msg)
        if any(layout.final.iterdir()) if layout.final.is_dir() else layout.final.exists():
            msg = f"{layout.final} exists and is no lazygraph dataset; choose another name, or delete it yourself"
            raise OutputExists(msg)
        return
    if overwrite or adds:
        return
    recipe = Manifest.load(layout.final).recipe
    if recipe is None:
        raise _exists(layout, "that came ready-made")
    if differences := GraphSpec.from_json(recipe).diff(spec):
        raise _exists(layout, f"of another recipe ({'; '.join(differences)})")


def _exists(layout: Layout, found: str) -> OutputExists:
    return OutputExists(
        f"{layout.final} exists and holds {Manifest.load(layout.final).graphs} graphs {found}; choose another name, "
        "replace it with --overwrite (overwrite=True), or add to it with --append (append=True)"
    )


def _begin(new: Plan, layout: Layout) -> None:
    """Save a plan, or take up the same one where it was left."""
    if layout.plan.exists():
        check_same_work(Plan.load(layout), new, layout)
    shutil.rmtree(layout.spools, ignore_errors=True)
    layout.staged().spools.rename(layout.spools)
    new.save(layout)


def _options(
    labels: Sequence[str] | None, units: Mapping[str, str] | None, level: int, shard_size: int | None
) -> WriteOptions:
    if not 1 <= level <= 22:
        msg = f"found the zstd level {level}; required: 1 to 22"
        raise InputError(msg)
    if shard_size is not None and not 1 <= shard_size <= 2**20:
        msg = f"found the shard size {shard_size}; required: 1 to {2**20} inputs"
        raise InputError(msg)
    if isinstance(labels, str):
        labels = (labels,)
    return WriteOptions(None if labels is None else tuple(labels), dict(units or {}), level, shard_size)


def _report(merged: Merged, layout: Layout, begin: float) -> Report:
    seconds = time.perf_counter() - begin
    return Report(layout.final, merged.written, merged.quarantined, seconds, merged.quarantine_file, merged.notes)
