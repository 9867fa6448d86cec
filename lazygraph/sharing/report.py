"""The function ``report``, which writes one HTML file that shows a dataset."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lazygraph.errors import DatasetReplaced, InputError, OutputExists
from lazygraph.format.columns import Column
from lazygraph.format.manifest import ABOUT, Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec
from lazygraph.markup.charts import legend
from lazygraph.markup.elements import Html, bytes_in_words, facts, join, number, statistics_cells, table, tag
from lazygraph.reading.distributions import UNSPLIT, ElementCounts, element_counts, split_sizes, total
from lazygraph.reading.pictures import OUTLINES, category_chart, number_chart
from lazygraph.sharing.quarantine_reasons import quarantine_reasons
from lazygraph.sharing.report_graphs import sample_graphs
from lazygraph.sharing.report_page import Section, Summary, page
from lazygraph.sources.dataset import is_open_dataset
from lazygraph.storage.base import Storage
from lazygraph.storage.files import write_atomic
from lazygraph.writing.split_rules import rule_from_json
from lazygraph.writing.splits import DEFAULT

__all__ = ["STRUCTURES", "ReportFile", "report"]

STRUCTURES = 100
MOST_STRUCTURES = 1000
MOST_BYTES = 2_000_000  # of the file
TEXT = 500  # characters of a note
SLACK = 10_000  # bytes


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that was written.

    Attributes:
        path: the file.
        size: its bytes.
        graphs: number of graphs that the report counts.
        shown: number of graphs that the report shows one by one.
        drawn: number of these graphs with a crystal that you can turn.
        notes: one sentence for each kind of data that the report leaves out.
    """

    path: Path
    size: int
    graphs: int
    shown: int
    drawn: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much of a dataset a page shows.

    Attributes:
        structures: graphs that are shown one by one.
        room: bytes of JSON that all crystals together may take.
        charts: number of charts.
        rows: of a table.
    """

    structures: int
    room: int = 1_000_000
    charts: int = 60
    rows: int = 100

    def smaller(self, excess: int) -> _Limits:
        """Return limits for a page with so many bytes less: fewer crystals first, then less of everything."""
        if self.room:
            return replace(self, room=max(0, self.room - excess - SLACK))
        halves = (max(1, number // 2) for number in (self.structures, self.charts, self.rows))
        structures, charts, rows = halves
        return _Limits(structures, 0, charts, rows)


class _Opened(NamedTuple):
    """A dataset, or a part of one, as it is reported; and the charts that were drawn of it, by column."""

    store: Store
    rows: Any
    recipe: GraphSpec | None
    rebuilds: bool
    charts: dict[str, Html]

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    @property
    def whole(self) -> bool:
        return bool(isinstance(self.rows, range) and self.rows == range(len(self.store)))


def report(
    dataset: Any, out: str | os.PathLike[str], *, structures: int = STRUCTURES, overwrite: bool = False
) -> ReportFile:
    """Write a report of a dataset: one HTML file that any browser opens, without a network.

    The report shows the description, the recipe and the size of the dataset, histograms of atoms, edges and labels by
    split, the number of graphs with each element on a periodic table, the reasons of quarantined inputs, the origin of
    the data, and some graphs one by one, with crystals that you can turn. It reads the columns in blocks, and only the
    records of the graphs that it shows one by one. The same dataset gives the same bytes.

    Texts of the dataset are escaped, so a dataset from a stranger cannot add scripts or links to the page. A policy in
    the file forbids all access to a network.

    Args:
        dataset: a directory, a URL, a ``LazyGraphDataset``, or a part of one (``ds.where(...)``,
            ``ds.split("train")``).
        out: the file to write, usually ``NAME.html``. It has at most 2 MB.
        structures: number of graphs that are shown one by one, 1 to 1,000. Default 100: the first graph of each
            element, and further graphs at even intervals.
        overwrite: replace an existing file.

    Returns:
        What was written. The notes say what the report leaves out.

    Raises:
        DatasetNotFound: there is no dataset at the path.
        CorruptDataset: a column or a record that the report needs is damaged.
        InputError: ``structures`` is not from 1 to 1,000, or the folder of ``out`` does not exist.
        OutputExists: ``out`` exists, and ``overwrite`` is False. A directory is never replaced.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1, split=(0.8, 0.1, 0.1))
        >>> written = report(folder.name + "/p.lg", folder.name + "/p.html", structures=10)
        >>> written.graphs, written.shown, written.drawn, written.size < 2_000_000
        (30, 10, 10, True)
        >>> folder.cleanup()
    """
    number_of = _check_structures(structures)
    path = Path(out)
    _check_output(path, overwrite=overwrite)
    opened = _open(dataset)
    elements = element_counts(opened.store, opened.rows)
    limits = _Limits(number_of)
    summary = _summary(opened, elements, limits)
    content = page(summary)
    while len(content) > MOST_BYTES and (smaller := limits.smaller(len(content) - MOST_BYTES)) != limits:
        limits = smaller
        summary = _summary(opened, elements, limits)
        content = page(summary)
    _check_output(path, overwrite=overwrite)  # it may have appeared meanwhile
    write_atomic(path, content)
    sample = summary.sample
    return ReportFile(path, len(content), len(opened.rows), sample.count, sample.drawn, sample.notes)


def _check_structures(structures: Any) -> int:
    whole = not isinstance(structures, bool) and isinstance(structures, int)
    if not whole or not 1 <= structures <= MOST_STRUCTURES:
        msg = f"found structures={structures!r}; required: an integer from 1 to {MOST_STRUCTURES:,}"
        raise InputError(msg)
    return int(structures)


def _check_output(path: Path, *, overwrite: bool) -> None:
    if not path.absolute().parent.is_dir():
        msg = f"there is no folder {path.parent} to write {path} to"
        raise InputError(msg)
    if path.is_dir():
        msg = f"{path} is a directory; give the name of a file, such as report.html"
        raise OutputExists(msg)
    if path.exists() and not path.is_file():
        msg = f"{path} is no regular file; give the name of a file, such as report.html"
        raise OutputExists(msg)
    if os.path.lexists(path) and not overwrite:
        msg = f"{path} exists; give another name, or overwrite it (overwrite=True, --overwrite)"
        raise OutputExists(msg)


def _open(dataset: Any) -> _Opened:
    """Open what ``report`` was given."""
    if is_open_dataset(dataset):
        store = Store(dataset.storage)
        if store.manifest != dataset.manifest:
            msg = f"{store.name} was changed since it was opened; open it again"
            raise DatasetReplaced(msg)
        return _Opened(store, dataset.indices(), dataset.spec, dataset.rebuilds, {})
    if not isinstance(dataset, (str, os.PathLike, Storage)):
        msg = f"found a {type(dataset).__name__}; required: a dataset directory, a URL, or a LazyGraphDataset"
        raise InputError(msg)
    store = Store(dataset)
    recipe = store.manifest.recipe
    spec = None if recipe is None else GraphSpec.from_json(recipe)
    return _Opened(store, range(len(store)), spec, rebuilds=False, charts={})


def _summary(opened: _Opened, elements: ElementCounts | None, limits: _Limits) -> Summary:
    """Return the parts of the page."""
    store, rows, manifest = opened.store, opened.rows, opened.manifest
    labels = list(manifest.all_labels())
    sample = sample_graphs(
        store, rows, elements, most=limits.structures, room=limits.room, names=labels, of_crystals=opened.rebuilds
    )
    charts, left_out = _charts(opened, limits.charts)
    sample = replace(sample, notes=(*sample.notes, *left_out))
    about = manifest.about
    name = Path(store.name).name.removesuffix(".lg") or store.name
    before = [Section("Recipe", _recipe(opened)), Section("Distributions", charts)]
    after = [Section("Provenance", _provenance(manifest, limits.rows))]
    if splits := _splits(opened, limits.rows):
        before.insert(1, Section("Splits", splits))
    if labels:
        before.insert(1, Section("Labels", _labels(manifest, limits.rows)))
    if quarantined := _quarantined(store, limits.rows):
        after.insert(0, Section("Quarantine", quarantined))
    return Summary(
        title=about.get("title", name),
        about=about.get("description", ""),
        facts=[(key.replace("_", " "), about[key]) for key in ABOUT if key in about and key not in _SHOWN],
        figures=_figures(opened, elements),
        before=before,
        after=after,
        elements=None if elements is None else elements.graphs,
        elements_note=_elements_note(elements),
        sample=sample,
        sample_note=_sample_note(len(rows), sample.count, elements, covered=sample.covered),
        version=importlib.metadata.version("lazygraph"),
    )


_SHOWN = ("title", "description")


def _figures(opened: _Opened, elements: ElementCounts | None) -> list[tuple[str, str]]:
    store, manifest = opened.store, opened.manifest
    of = "" if opened.whole else f" of {manifest.graphs:,}"
    out = [(f"graphs{of}", f"{len(opened.rows):,}")]
    sizes = [("atoms", "n_node")] + ([] if opened.rebuilds else [("edges", "n_edge"), ("angles", "n_triplets")])
    out += [(what, f"{total(store, name, opened.rows):,}") for what, name in sizes if name in manifest.columns]
    out += [] if elements is None else [("elements", str(len(elements.graphs)))]
    size = sum(file.size for file in manifest.files())
    out.append(("on disk" if opened.whole else "on disk, whole dataset", bytes_in_words(size)))
    if manifest.quarantine is not None:
        out.append(("inputs quarantined", f"{manifest.quarantine.count:,}"))
    return out


def _recipe(opened: _Opened) -> Html:
    recipe = opened.recipe
    if recipe is None:
        return tag("p", "The graphs are ready-made: another program built them.")
    built = [tag("p", "These graphs are built from the stored crystals at every read.")] if opened.rebuilds else []
    alone = [] if recipe.rule.has_edges else [tag("p", "Crystals alone, without edges.")]
    values = [
        tag("span", tag("strong", name), f" {value}")
        for name, value in recipe.to_json().items()
        if value is not None and name != "preset"
    ]
    return join([tag("p", tag("code", repr(recipe))), *built, *alone, tag("div", *values, class_="chips")])


def _labels(manifest: Manifest, most: int) -> Html:
    labels = manifest.all_labels()
    rows = [
        [
            name,
            column.unit or "",
            column.per or "",
            _description(column),
            *statistics_cells(column.statistics),
        ]
        for name, column in list(labels.items())[:most]
    ]
    titles = ["label", "unit", "per", "description", "mean", "std", "min", "max", "missing"]
    whole = tag("p", "Statistics are those of the whole dataset, without missing and infinite values.", class_="note")
    return join([table(titles, rows, texts=4), whole, _more(len(labels), most, "labels")])


def _description(column: Column) -> str:
    said = [column.description or ""]
    if column.categories is not None:
        said.append(f"category with {len(column.categories):,} texts")
    elif column.role == "text":
        said.append("text")
    elif column.shape[1:]:
        said.append(f"shape {tuple(column.shape[1:])}")
    said += ["required"] if column.required else []
    return "; ".join(part for part in said if part)


def _splits(opened: _Opened, most: int) -> Html | None:
    columns = opened.manifest.splits()
    if not columns:
        return None
    rows = []
    for name, column in list(columns.items())[:most]:
        sizes = split_sizes(opened.store, name, opened.rows)
        said = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
        rule = "" if column.rule is None else rule_from_json(column.rule).in_words()
        rows.append([name, said, rule])
    return join([table(["column", "graphs", "rule"], rows, texts=3), _more(len(columns), most, "columns of splits")])


def _charts(opened: _Opened, most: int) -> tuple[Html, list[str]]:
    """Return the histograms with their legend, and a sentence if there are too many."""
    store, rows, manifest = opened.store, opened.rows, opened.manifest
    splits = _compared(manifest)
    sizes = [name for name in ("n_node", "n_edge", "n_triplets") if name in manifest.columns]
    names = [*sizes[: 1 if opened.rebuilds else None], *manifest.labels()]
    categories = [name for name, column in manifest.texts().items() if column.role == "category"]
    chosen = [*names, *categories][:most]
    for name in chosen:
        if name not in opened.charts:
            drawn = category_chart(store, name, rows) if name in categories else number_chart(store, name, rows, splits)
            opened.charts[name] = drawn
    charts = [opened.charts[name] for name in chosen]
    said = Html("")
    if splits is not None:
        found = {split: size for split, size in split_sizes(store, splits, rows).items() if size}
        lost = found.pop(UNSPLIT, 0)
        if 1 < len(found) <= OUTLINES:
            note = f"Each outline shows which share of a split (column {splits}) is in each bin."
            note += f" {lost:,} graphs in no split are not drawn." if lost else ""
            said = join([tag("p", note, class_="note"), legend(found)])
    left = len(names) + len(categories) - len(chosen)
    notes = [f"{left} labels have no histogram, because at most {most} are drawn"] if left else []
    said_too = [tag("p", f"{note}.", class_="note") for note in notes]
    return join([said, tag("div", *charts, class_="charts"), *said_too]), notes


def _compared(manifest: Manifest) -> str | None:
    """The column of splits by which histograms are drawn: the default one, or the first."""
    columns = list(manifest.splits())
    return DEFAULT if DEFAULT in columns else columns[0] if columns else None


def _elements_note(elements: ElementCounts | None) -> str:
    if elements is None:
        return ""
    unknown = f" {elements.unknown:,} symbols in formulas are no elements." if elements.unknown else ""
    return (
        f"Number of graphs that hold each element, counted in the formulas of all graphs.{unknown} Choose an element "
        "to see the graphs below that hold it."
    )


def _sample_note(graphs: int, shown: int, elements: ElementCounts | None, *, covered: bool) -> str:
    if shown == graphs:
        return f"All {graphs:,} graphs."
    chosen = f"{shown:,} of {graphs:,} graphs: "
    if elements is None:
        return f"{chosen}at even distances in the dataset."
    first = "the first graph of each element" if covered else "the first graphs of the rarest elements"
    return f"{chosen}{first}, and others at even distances in the dataset."


def _quarantined(store: Store, most: int) -> Html | None:
    manifest = store.manifest
    if manifest.quarantine is None:
        return None
    reasons = quarantine_reasons(store)
    rows = [[one.error, one.message[:TEXT], one.id, f"{one.count:,}"] for one in reasons[:most]]
    said = (
        f"{manifest.quarantine.count:,} of {manifest.inputs:,} inputs could not become graphs. For each class of "
        "error, the table names the first input and its message."
    )
    titles = ["error", "message", "first input", "inputs"]
    more = _more(len(reasons), most, "classes of errors")
    return join([tag("p", said, class_="note"), table(titles, rows, texts=3), more])


def _provenance(manifest: Manifest, most: int) -> Html:
    sources = manifest.provenance.sources
    files = [(source.name, file) for source in sources for file in source.files]
    rows = [
        [source, str(file["name"]), tag("code", str(file["sha256"])[:64]), f"{file['size']:,}"]
        for source, file in files[:most]
    ]
    inputs = [[source.name, f"{source.inputs:,}"] for source in sources[:most]]
    removed = [f"{len(one.removed):,} graphs were removed: {one.reason}" for one in manifest.history]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.provenance.versions.items())
    parts = [
        facts(
            [
                ("content id", tag("code", manifest.content_id)),
                ("format", ".".join(map(str, manifest.version))),
                ("made with", versions),
            ]
        ),
        *_list("Sources", table(["source", "inputs"], inputs), len(sources), most),
        *_list("Files", table(["source", "file", "sha256", "bytes"], rows, texts=3), len(files), most),
        *_sentences("Notes", manifest.provenance.notes, most),
        *_sentences("History", removed, most),
    ]
    return join(parts)


def _list(title: str, content: Html, count: int, most: int) -> Iterator[Html]:
    if count:
        yield tag("h3", title)
        yield content
        yield _more(count, most, title.lower())


def _sentences(title: str, said: Sequence[str], most: int) -> Iterator[Html]:
    if said:
        yield tag("h3", title)
        yield tag("ul", *(tag("li", one[:TEXT]) for one in said[:most]))
        yield _more(len(said), most, title.lower())


def _more(count: int, shown: int, what: str) -> Html:
    """A sentence where a table does not show everything."""
    return tag("p", f"and {number(count - shown)} more {what}", class_="note") if count > shown else Html("")
