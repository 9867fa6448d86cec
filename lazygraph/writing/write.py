"""``lazygraph.write``, ``append`` and ``retry_quarantined``: plan, shards and merge in one call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lazygraph.errors import CorruptDataset, DatasetNotFound, InputError, OutputExists
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.spec import graph as make_spec
from lazygraph.markup.elements import Html, card, facts, or_plain, tag
from lazygraph.sources.base import Source
from lazygraph.sources.dataset import DatasetSource
from lazygraph.sources.detect import open_sources
from lazygraph.sources.options import CifFormula, SourceOptions
from lazygraph.sources.time_limit import MAX_SECONDS
from lazygraph.storage.files import move_file
from lazygraph.writing.descriptions import Descriptions
from lazygraph.writing.extend import plan_append, plan_retry, spec_of
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.merge import Merged, already_merged, merge, published
from lazygraph.writing.options import InputOptions, RunOptions, WriteOptions
from lazygraph.writing.owned import is_dataset, partial_files, remove_empty
from lazygraph.writing.plan import Plan, check_same_work, make_plan
from lazygraph.writing.pool import make_shards
from lazygraph.writing.rows import Maker
from lazygraph.writing.rows import finished as finished_shard
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.splits import Splits
from lazygraph.writing.stored_graphs import COPIED, StoredGraphs, find_stored_graphs
from lazygraph.writing.value_groups import check_group

__all__ = [
    "Report",
    "add_inputs",
    "append",
    "finish",
    "plan",
    "plan_dataset",
    "retry_quarantined",
    "write",
    "write_dataset",
]

SHOWN_NOTES = 20  # in a notebook


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a write.

    Attributes:
        path: the dataset.
        written: graphs that were added.
        quarantined: inputs that could not become graphs.
        seconds: total time, s.
        recipe: the recipe of the graphs; None for ready-made graphs.
        quarantine_file: the file that lists the quarantined inputs with the reasons; None if there are none.
        notes: further lines of the summary, such as files that no row of ``id_prop.csv`` names.
        in_no_split: number of graphs that are in no split, if the dataset has splits.
        copied: True if stored graphs were copied, False if graphs were built.
    """

    path: Path
    written: int
    quarantined: int
    seconds: float
    recipe: GraphSpec | None = None
    quarantine_file: Path | None = None
    notes: tuple[str, ...] = ()
    in_no_split: int = 0
    copied: bool = False

    def _repr_html_(self) -> str:
        return or_plain(self._html, self.__repr__)

    def _html(self) -> Html:
        """Return the report for a notebook."""
        how = "copied as they are stored" if self.copied else "built"
        rows = [
            ("path", os.fspath(self.path)),
            ("graphs added", f"{self.written:,}, {how}"),
            ("recipe", "ready-made graphs" if self.recipe is None else repr(self.recipe)),
            ("quarantined", f"{self.quarantined:,}"),
            ("listed in", "" if self.quarantine_file is None else os.fspath(self.quarantine_file)),
            ("in no split", f"{self.in_no_split:,}" if self.in_no_split else ""),
            ("time", f"{self.seconds:.1f} s"),
        ]
        notes = [tag("p", note, class_="note") for note in self.notes[:SHOWN_NOTES]]
        left = len(self.notes) - len(notes)
        notes += [tag("p", f"and {left:,} more notes", class_="note")] if left else []
        return card(f"Wrote {self.written:,} graphs", facts(rows), *notes)


def write(
    source: Any,
    path: str | os.PathLike[str],
    *,
    graph: GraphSpec | str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: bool = True,
    format: str | None = None,  # noqa: A002 - the name of the command line's option
    id_key: str | None = None,
    cif_formula: CifFormula = "error",
    structure_key: str | None = None,
    trust_pickle: bool = False,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    per: Mapping[str, str] | None = None,
    describe: Mapping[str, str] | None = None,
    required: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
    split: Sequence[float] | None = None,
    seed: int = 123,
    group: str | None = None,
    codec: str = "zstd",
    level: int = 9,
    shard_size: int | None = None,
    max_images: int = MAX_IMAGES,
    max_seconds: float = MAX_SECONDS,
) -> Report:
    """Convert structures, build their graphs in parallel, and write them as a dataset directory.

    The same call finishes a killed run, and does not write a finished dataset again. Inputs that cannot become graphs
    are quarantined with the reason, and all other inputs are written. The same input and recipe give the same bytes
    with any number of workers.

    If every source is a dataset, or a part of a dataset, and has the requested recipe, the stored graphs are copied
    without workers, as :func:`subset` and :func:`concat` do. The graphs are built instead in these cases:

    - one of these options is given: ``labels``, ``units``, ``per``, ``describe``, ``required``, ``split``, ``level``,
      ``shard_size``, ``max_images``, ``max_seconds``, ``executor``;
    - ``codec`` differs from the codec of the stored records;
    - two graphs have the same id, a record is damaged, or datasets describe a label differently;
    - ``path`` is one of the sources, or has an unfinished run that builds graphs.

    Copied and built datasets have the same ids, graphs, labels, units, splits and ``about``. The notes of the report
    say that graphs were copied, or why they were built.

    :func:`append` adds more structures later, and :func:`retry_quarantined` tries quarantined inputs again.

    Args:
        source: a path, a URI such as ``prototypes:2000?seed=0``, a ``LazyGraphDataset`` or a part of one
            (``ds.where(...)``, ``ds[:100]``), or a list of these. Or any iterable of structures or of tuples
            ``(id, structure, labels)``.
        path: the dataset directory to write, usually ``NAME.lg``.
        graph: the recipe, or the name of a preset. Default: the common recipe if every source is a dataset, otherwise
            ``comformer``.
        workers: number of worker processes. None starts one per available CPU; 1 works in this process.
        executor: any ``concurrent.futures.Executor`` that writes the shards instead of worker processes, such as the
            executors in ``lazygraph.executors``; see docs/clusters.md.
        overwrite: replace an existing dataset.
        progress: show a bar in a terminal or a notebook; elsewhere, print one line per minute on stderr.
        format: the input format; by default recognised from the content.
        id_key: the key or column that holds the ids.
        cif_formula: what to do with a CIF whose sites contradict its formula or its Z: ``error`` (default) quarantines
            it, ``warn`` keeps it and names it in the notes, ``ignore`` keeps it.
        structure_key: the key or column that holds the structure; by default the reader chooses one for each source.
        trust_pickle: read pickle files, which can run any code when they are loaded.
        labels: the labels to keep; default all numbers and texts.
        units: name -> unit of labels.
        per: name -> ``cell`` or ``atom``, for labels of numbers that are per cell or per atom.
        describe: name -> one line of text that describes a label.
        required: labels that every graph must have, such as charge and spin; an input without such a label is
            quarantined.
        about: a description of the dataset, with some of the keys title, description, license, citation, doi, homepage,
            level_of_theory.
        split: fractions of train, val and test.
        seed: seed of the split.
        group: ``formula``, or the name of a label; graphs with equal values stay in one split.
        codec: compression of the records: ``"zstd"`` (default), or ``"none"``, which is faster to read and takes about
            twice the bytes.
        level: zstd level, 1 to 22. Copied records keep their level.
        shard_size: inputs per shard; by default chosen from the number of inputs.
        max_images: greatest number of images of atoms that the neighbour search of one input may examine, and greatest
            number of neighbours that it may find. An input that needs more images, for example a very flat cell, is
            quarantined before the search begins.
        max_seconds: greatest processor time for reading one input, and again for building its graph, s. An input that
            takes longer is quarantined. Only this limit depends on the speed of the machine. ``math.inf`` for no limit.

    Returns:
        A report with ``written``, ``quarantined``, ``seconds``, ``recipe``, ``copied`` and ``path``.

    Raises:
        InputError: the source, a label or an option cannot be used. Or ``graph`` is missing, and the sources are
            datasets with different recipes, or datasets together with other sources.
        OutputExists: the output already exists, or an unfinished run has other arguments.
        WriterBusy: another process is writing the same dataset.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> report = lg.write("prototypes:20?seed=0", folder.name + "/p.lg", workers=1)
        >>> report.written, report.quarantined
        (20, 0)
        >>> folder.cleanup()
    """
    return write_dataset(
        source,
        path,
        make_spec(graph) if isinstance(graph, str) else graph,
        reading=InputOptions(format, id_key, SourceOptions(cif_formula, structure_key, trust_pickle)),
        options=WriteOptions(
            labels,
            units or {},
            codec,
            level,
            shard_size,
            max_images,
            max_seconds,
            Descriptions(per or {}, describe or {}, required),
            about or {},
        ),
        run=RunOptions(workers, executor, progress),
        split=None if split is None else _rule(split, seed, group),
        overwrite=overwrite,
    )


def append(
    path: str | os.PathLike[str],
    source: Any,
    split: Sequence[float] | str | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    format: str | None = None,  # noqa: A002 - the name of the command line's option
    id_key: str | None = None,
    cif_formula: CifFormula = "error",
    structure_key: str | None = None,
    trust_pickle: bool = False,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    seed: int = 123,
    group: str | None = None,
    shard_size: int | None = None,
    max_images: int = MAX_IMAGES,
    max_seconds: float = MAX_SECONDS,
) -> Report:
    """Add structures to a dataset. The recipe, labels, units and compression of the dataset stay the same.

    The same call finishes a killed run. Inputs that cannot become graphs are quarantined, as in :func:`write`. An input
    whose id is already in the dataset is quarantined too.

    Args:
        path: the dataset.
        source: the source to add, as for :func:`write`.
        split: fractions of train, val and test for the new graphs, or the name of one split for all of them. By
            default, new graphs follow the rule of each column of splits (docs/splits.md), and old graphs stay in their
            splits. In a column without a rule, new graphs go into the splits that the source names, or into no split.
        workers: number of worker processes. None starts one per available CPU; 1 works in this process.
        executor: any ``concurrent.futures.Executor`` that writes the shards instead of worker processes, such as the
            executors in ``lazygraph.executors``; see docs/clusters.md.
        progress: show a bar in a terminal or a notebook; elsewhere, print one line per minute on stderr.
        format: the input format; by default recognised from the content.
        id_key: the key or column that holds the ids.
        cif_formula: as for :func:`write`.
        structure_key: the key or column that holds the structure; by default the reader chooses one for each source.
        trust_pickle: read pickle files, which can run any code when they are loaded.
        labels: labels of the dataset that the source must have; None for all labels that the source has.
        units: name -> unit of labels, if the source implies another unit.
        seed: seed of the split.
        group: ``formula``, or the name of a label; new graphs with equal values stay in one split.
        shard_size: inputs per shard; by default chosen from the number of inputs.
        max_images: limit of the neighbour search, as for :func:`write`.
        max_seconds: limit of the time of one input, as for :func:`write`.

    Returns:
        A report of the graphs that were added.

    Raises:
        DatasetNotFound: there is no dataset at the path.
        InputError: the source, a split or an option cannot be used, or the dataset has ready-made graphs.
        LabelError: the dataset does not have a label, or has another unit for it.
        WriterBusy: another process is writing the same dataset.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:20?seed=0", folder.name + "/p.lg", workers=1)
        >>> crystal = lg.Crystal([[3, 0, 0], [0, 3, 0], [0, 0, 3]], [[0, 0, 0]], [26])
        >>> lg.append(folder.name + "/p.lg", [("iron", crystal)], workers=1).written
        1
        >>> folder.cleanup()
    """
    return add_inputs(
        path,
        source,
        plan_append,
        reading=InputOptions(format, id_key, SourceOptions(cif_formula, structure_key, trust_pickle)),
        options=WriteOptions(
            labels, units or {}, shard_size=shard_size, max_images=max_images, max_seconds=max_seconds
        ),
        run=RunOptions(workers, executor, progress),
        split=_rule_or_name(split, seed, group),
    )


def retry_quarantined(
    path: str | os.PathLike[str],
    source: Any,
    split: Sequence[float] | str | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    format: str | None = None,  # noqa: A002 - the name of the command line's option
    id_key: str | None = None,
    cif_formula: CifFormula = "error",
    structure_key: str | None = None,
    trust_pickle: bool = False,
    seed: int = 123,
    group: str | None = None,
    shard_size: int | None = None,
    max_images: int = MAX_IMAGES,
    max_seconds: float = MAX_SECONDS,
) -> Report:
    """Try the quarantined inputs of a dataset again, after you corrected the source or an option.

    Args:
        path: the dataset.
        source: the source of the dataset, with the same inputs in the same order.
        split: the splits of the graphs that are added, as for :func:`append`.
        workers: number of worker processes. None starts one per available CPU; 1 works in this process.
        executor: any ``concurrent.futures.Executor`` that writes the shards instead of worker processes, such as the
            executors in ``lazygraph.executors``; see docs/clusters.md.
        progress: show a bar in a terminal or a notebook; elsewhere, print one line per minute on stderr.
        format: the input format; by default recognised from the content.
        id_key: the key or column that holds the ids.
        cif_formula: as for :func:`write`.
        structure_key: the key or column that holds the structure; by default the reader chooses one for each source.
        trust_pickle: read pickle files, which can run any code when they are loaded.
        seed: seed of the split.
        group: ``formula``, or the name of a label; new graphs with equal values stay in one split.
        shard_size: inputs per shard; by default chosen from the number of inputs.
        max_images: limit of the neighbour search, as for :func:`write`.
        max_seconds: limit of the time of one input, as for :func:`write`.

    Returns:
        A report of the graphs that were added, and of the inputs that are still quarantined.

    Raises:
        DatasetNotFound: there is no dataset at the path.
        InputError: quarantined inputs come from sources that are not given, or an option cannot be used.
        WriterBusy: another process is writing the same dataset.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> good = lg.Crystal([[3, 0, 0], [0, 3, 0], [0, 0, 3]], [[0, 0, 0]], [26])
        >>> lg.write([("a", good), ("b", "no structure")], folder.name + "/p.lg", workers=1).quarantined
        1
        >>> lg.retry_quarantined(folder.name + "/p.lg", [("a", good), ("b", good)], workers=1).written
        1
        >>> folder.cleanup()
    """
    return add_inputs(
        path,
        source,
        plan_retry,
        reading=InputOptions(format, id_key, SourceOptions(cif_formula, structure_key, trust_pickle)),
        options=WriteOptions(shard_size=shard_size, max_images=max_images, max_seconds=max_seconds),
        run=RunOptions(workers, executor, progress),
        split=_rule_or_name(split, seed, group),
    )


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
    per: Mapping[str, str] | None = None,
    describe: Mapping[str, str] | None = None,
    required: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
    codec: str = "zstd",
    level: int = 9,
    shard_size: int | None = None,
    max_images: int = MAX_IMAGES,
    max_seconds: float = MAX_SECONDS,
) -> Plan:
    """Read the source once and plan shards that any machine can make; the first of the three steps of ``write``.

    Afterwards, call ``make_shard(path, task)`` for every task, on any number of machines, and then ``finish(path)``.
    Graphs are always built, even if :func:`write` would copy stored graphs.
    """
    return plan_dataset(
        source,
        path,
        make_spec(graph) if isinstance(graph, str) else graph,
        reading=InputOptions(format, id_key, SourceOptions(cif_formula, structure_key, trust_pickle)),
        options=WriteOptions(
            labels,
            units or {},
            codec,
            level,
            shard_size,
            max_images,
            max_seconds,
            Descriptions(per or {}, describe or {}, required),
            about or {},
        ),
        overwrite=overwrite,
    )


def write_dataset(
    source: Any,
    path: str | os.PathLike[str],
    spec: GraphSpec | None,
    *,
    reading: InputOptions,
    options: WriteOptions,
    run: RunOptions,
    split: SplitRule | None,
    overwrite: bool,
) -> Report:
    """What :func:`write` does, with its options in groups."""
    begin = time.perf_counter()
    layout = Layout.of(path)
    with exclusive(layout) as hold:
        sources = _open(source, reading)
        spec = spec or shared_recipe(sources)
        check_output(layout, spec, overwrite=overwrite)
        stored = find_stored_graphs(sources, spec, options, run, split, layout)
        new = stored.plan if isinstance(stored, StoredGraphs) else make_plan(sources, spec, options, layout.staged())
        # The dataset that is there may be this very work: finished before, or by a process that was killed at the end.
        if (hold.finished or not overwrite) and (layout.final / MANIFEST).exists():
            if merged := already_merged(new, layout, split):
                return _report(merged, layout, begin, copied=COPIED in merged.notes)
            if not overwrite:
                raise _exists(layout, "of the same recipe, made from other input or with other options")
        if isinstance(stored, StoredGraphs):
            try:
                stored.publish(hold)
                return _report(published(layout), layout, begin, copied=True)
            except CorruptDataset as error:  # building leaves out what is damaged, and names it
                stored = str(error)
                new = make_plan(sources, spec, options, layout.staged())
        merged = _make(hold, new, run, split)
        if stored is not None:
            told = f"the graphs were built, and not copied as they are stored, because {stored}"
            merged = replace(merged, notes=(*merged.notes, told))
    return _report(merged, layout, begin)


def add_inputs(
    path: str | os.PathLike[str],
    source: Any,
    planned: Callable[[Sequence[Source], WriteOptions, Layout], Plan | None],
    *,
    reading: InputOptions,
    options: WriteOptions,
    run: RunOptions,
    split: SplitRule | str | None,
) -> Report:
    """What :func:`append` and :func:`retry_quarantined` do, with their options in groups.

    Args:
        path: the dataset.
        source: what to add, or where quarantined inputs are found again.
        planned: ``plan_append`` or ``plan_retry``: which inputs of the sources become graphs.
        reading: how inputs are read.
        options: what is kept of them.
        run: who makes the shards.
        split: where the new graphs go, by a rule or all to one split.
    """
    begin = time.perf_counter()
    layout = Layout.of(path)
    with exclusive(layout) as hold:
        _check_dataset(layout, split)
        new = planned(_open(source, reading), options, layout.staged())
        if new is None:
            recipe = spec_of(Manifest.load(layout.final))
            notes = ("nothing is quarantined",)
            return Report(layout.final, 0, 0, time.perf_counter() - begin, recipe, notes=notes)
        done = already_merged(new, layout, split) if hold.finished else None  # by a process that was killed at the end
        merged = done or _make(hold, new, run, split)
    return _report(merged, layout, begin)


def plan_dataset(
    source: Any,
    path: str | os.PathLike[str],
    spec: GraphSpec | None,
    *,
    reading: InputOptions,
    options: WriteOptions,
    overwrite: bool,
    split: SplitRule | str | None = None,
    append: bool = False,
) -> Plan:
    """What :func:`plan` does, with its options in groups.

    Args:
        source: as for :func:`write`.
        path: the dataset to make, or to add to.
        spec: the recipe; None for the recipe of the dataset or of the sources.
        reading: how inputs are read.
        options: what is written.
        overwrite: replace an existing dataset.
        split: the splits that :func:`finish` gives to the graphs.
        append: add to the existing dataset.

    Raises:
        DatasetNotFound, InputError, LabelError, OutputExists, WriterBusy: as :func:`write` and :func:`append` do.
    """
    layout = Layout.of(path)
    with exclusive(layout):
        sources = _open(source, reading)
        if append:
            _check_dataset(layout, split)
            new = replace(plan_append(sources, options, layout.staged()), split=split)
            _check_group(split, new)
            return _begin(new, layout)
        spec = spec or shared_recipe(sources)
        check_output(layout, spec, overwrite=overwrite)
        if (layout.final / MANIFEST).exists() and not overwrite:
            raise _exists(layout, "of the same recipe")
        new = replace(make_plan(sources, spec, options, layout.staged()), split=split)
        _check_group(split, new)
        return _begin(new, layout)


def finish(path: str | os.PathLike[str], split: SplitRule | str | None = None) -> Report:
    """The last step of ``write``: merge the shards and publish the dataset.

    If a process was killed while it published them, this call finishes its work, and the report covers the whole
    dataset.

    Args:
        path: the dataset.
        split: the splits of the new graphs, if the plan has none.

    Raises:
        InputError: shards are missing, or the splits cannot be made or are given twice.
    """
    begin = time.perf_counter()
    layout = Layout.of(path)
    with exclusive(layout) as hold:
        if hold.finished and not layout.plan.exists():
            merged = published(layout)
        else:
            merged = merge(hold, _split_of(Plan.load(layout), split, layout))
    return _report(merged, layout, begin)


def _split_of(plan: Plan, split: SplitRule | str | None, layout: Layout) -> SplitRule | str | None:
    """The splits of the graphs of a plan: those that it names, or those that are given to the merge.

    Raises:
        InputError: both say one and they differ, or it is one that the dataset cannot have.
    """
    if split is None or split == plan.split:
        return plan.split
    if plan.split is not None:
        msg = (
            f"the plan has the split {_said(plan.split)}, and merge was given {_said(split)}; merge without --split, "
            "or plan again with the split that you want (finished shards are kept)"
        )
        raise InputError(msg)
    if isinstance(split, str):
        if plan.base is None:
            msg = f"a new dataset has no split {split!r}; give fractions of train, val and test, such as 0.8,0.1,0.1"
            raise InputError(msg)
        Splits.of(Store(layout.final)).check_name(split)
    _check_group(split, plan)
    return split


def _said(split: SplitRule | str) -> str:
    if isinstance(split, str):
        return repr(split)
    group = "" if split.group is None else f", group {split.group}"
    return f"{','.join(f'{fraction:g}' for fraction in split.fractions)} (seed {split.seed}{group})"


def _open(source: Any, reading: InputOptions) -> list[Source]:
    return open_sources(source, format=reading.format, id_key=reading.id_key, options=reading.of_sources)


def _make(hold: Hold, new: Plan, run: RunOptions, split: SplitRule | str | None) -> Merged:
    """Make the shards of a plan that are not there yet, and publish the dataset."""
    layout = hold.layout
    _check_group(split, new)
    new = _begin(new, layout)
    maker = Maker.of(new)
    pending = [task for task in range(len(new.tasks)) if finished_shard(layout, task, maker) is None]
    counts = [task.count for task in new.tasks]
    make_shards(layout.final, pending, counts, workers=run.workers, executor=run.executor, progress=run.progress)
    return merge(hold, split)


def shared_recipe(sources: Sequence[Source]) -> GraphSpec:
    """Return the default recipe: the common recipe if all sources are datasets, ``comformer`` if none is.

    Raises:
        InputError: the recipe must be given.
    """
    datasets = [source for source in sources if isinstance(source, DatasetSource)]
    if not datasets:
        return make_spec("comformer")
    recipes = [None if recipe is None else GraphSpec.from_json(recipe) for recipe in (d.recipe() for d in datasets)]
    pairs = zip(datasets, recipes, strict=True)
    shown = "; ".join(f"{dataset.name} holds {recipe or 'ready-made graphs'}" for dataset, recipe in pairs)
    if len(datasets) < len(sources):
        msg = f"the inputs are datasets and other inputs: {shown}; give one recipe for all with graph= (--graph)"
        raise InputError(msg)
    known = [recipe for recipe in recipes if recipe is not None]
    if len(known) < len(recipes):
        msg = (
            f"some datasets have no crystals to build graphs from: {shown}; give datasets made from structures. "
            "lazygraph.subset and lazygraph.concat copy ready-made graphs"
        )
        raise InputError(msg)
    if any(recipe != known[0] for recipe in known):
        msg = f"the datasets have several recipes: {shown}; give one recipe for all with graph= (--graph)"
        raise InputError(msg)
    return known[0]


def check_output(layout: Layout, spec: GraphSpec, *, overwrite: bool) -> None:
    """Refuse an existing output with other contents.

    Raises:
        OutputExists: the message says what is there and what to do.
    """
    if not is_dataset(layout.final):
        if any(layout.final.iterdir()) if layout.final.is_dir() else layout.final.exists():
            msg = f"{layout.final} exists and is not a lazygraph dataset; choose another name, or delete it yourself"
            raise OutputExists(msg)
        return
    if overwrite:
        return
    recipe = Manifest.load(layout.final).recipe
    if recipe is None:
        raise _exists(layout, "that are ready-made")
    if differences := GraphSpec.from_json(recipe).diff(spec):
        raise _exists(layout, f"of another recipe ({'; '.join(differences)})")


def _exists(layout: Layout, found: str) -> OutputExists:
    return OutputExists(
        f"{layout.final} exists and holds {Manifest.load(layout.final).graphs} graphs {found}; choose another name, "
        "replace it with --overwrite (overwrite=True), or add to it with --append (lazygraph.append)"
    )


def _begin(new: Plan, layout: Layout) -> Plan:
    """Save a plan, or take up the same one where it was left; the plan that counts."""
    if layout.plan.exists():
        stored = Plan.load(layout)
        check_same_work(stored, new, layout)
        new = replace(new, dictionary=stored.dictionary)  # which the shards that are made already need
    layout.spools.mkdir(exist_ok=True)
    for path in partial_files(layout.partial, layout.staged().spools.name):
        move_file(path, layout.spools / path.name)
    remove_empty(layout.partial, layout.staged().spools.name)
    new.save(layout)
    return new


def _rule(split: Sequence[float], seed: int, group: str | None) -> SplitRule:
    given: Any = split
    if isinstance(given, str):
        msg = f"found split={split!r}; required: fractions of train, val and test, such as 0.8,0.1,0.1"
        raise InputError(msg)
    return SplitRule(tuple(split), seed, group)


def _rule_or_name(split: Sequence[float] | str | None, seed: int, group: str | None) -> SplitRule | str | None:
    return split if split is None or isinstance(split, str) else _rule(split, seed, group)


def _check_dataset(layout: Layout, split: SplitRule | str | None) -> None:
    """Refuse to add to what is no dataset, or to a split that it does not have, before work begins.

    Raises:
        DatasetNotFound, InputError: with what to do.
    """
    if not (layout.final / MANIFEST).exists():
        msg = f"there is no dataset at {layout.final} to add to; write one first"
        raise DatasetNotFound(msg)
    if isinstance(split, str):
        Splits.of(Store(layout.final)).check_name(split)


def _check_group(split: SplitRule | str | None, new: Plan) -> None:
    """Refuse to keep together graphs by a label that they will not have, before work begins."""
    if isinstance(split, SplitRule) and split.group is not None:
        check_group(split.group, new.groups())


def _report(merged: Merged, layout: Layout, begin: float, *, copied: bool = False) -> Report:
    seconds = time.perf_counter() - begin
    recipe = Manifest.load(layout.final).recipe
    return Report(
        layout.final,
        merged.written,
        merged.quarantined,
        seconds,
        None if recipe is None else GraphSpec.from_json(recipe),
        merged.quarantine_file,
        merged.notes,
        merged.in_no_split,
        copied,
    )
