"""The choice of a write between copying the stored graphs of datasets and building graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lazygraph.errors import UnreadableInput
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.sources.base import Label, Source, hash_file
from lazygraph.sources.dataset import DatasetSource
from lazygraph.writing.copy import Chosen, copy_as_planned, repeated_id
from lazygraph.writing.fields import labelled_schema
from lazygraph.writing.hold import Hold
from lazygraph.writing.layout import Layout
from lazygraph.writing.options import RunOptions, WriteOptions
from lazygraph.writing.plan import Plan, check_split_columns, common_about, scan_sources
from lazygraph.writing.split_rules import SplitRule
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["COPIED", "StoredGraphs", "find_stored_graphs"]

COPIED = "the graphs were copied as they are stored, and not built again"
"""The note of a dataset with copied graphs."""
ANY = frozenset({"about", "codec"})
"""Options with which a write can still copy: the description, and the codec of the stored shards."""


@dataclass(frozen=True, slots=True)
class StoredGraphs:
    """Stored graphs that a write can copy.

    Attributes:
        plan: the plan that would build the same graphs.
        chosen: the datasets, and the rows of each, in order.
    """

    plan: Plan
    chosen: tuple[Chosen, ...]

    def publish(self, hold: Hold) -> None:
        """Copy the graphs, and publish the dataset.

        Raises:
            CorruptDataset: the graphs are damaged. Nothing is published.
        """
        copy_as_planned(hold, self.plan, self.chosen)


def find_stored_graphs(  # noqa: PLR0917
    sources: Sequence[Source],
    spec: GraphSpec,
    options: WriteOptions,
    run: RunOptions,
    split: SplitRule | None,
    layout: Layout,
) -> StoredGraphs | str | None:
    """Decide whether a write copies or builds. Only this function decides.

    Returns:
        The graphs to copy; or the reason why graphs of the stored recipe are built anyway; or None if there is nothing
        to copy, because a source is not a dataset or has another recipe.

    Raises:
        UnreadableInput: a dataset cannot be read, or holds nothing.
    """
    datasets = [source for source in sources if isinstance(source, DatasetSource)]
    if len(datasets) < len(sources) or any(one.stored_recipe() != spec.to_json() for one in datasets):
        return None
    reason = next(_asked(options, run, split, layout, datasets), None)
    if reason is not None:
        return reason
    scanned = scan_sources(sources, spec, options, layout.staged())
    chosen = tuple(_rows(one, of["files"]) for one, of in zip(datasets, scanned.plan.sources, strict=True))
    reason = next(_contents(chosen, scanned.plan, spec, options, TemporaryArrays(layout.final.parent)), None)
    if reason is not None:
        return reason
    about, differences = common_about(scanned.abouts, options.about)
    labels = tuple({label.name: label for label in scanned.plan.labels}.values())
    check_split_columns(scanned.plan.splits, labels)
    plan = replace(
        scanned.plan,
        labels=labels,
        schema=chosen[0][0].manifest.schema,
        notes=(*scanned.plan.notes, *differences, COPIED),
        about=about,
        columns=tuple(label.name for label in labels),
    )
    return StoredGraphs(plan, chosen)


def _rows(source: DatasetSource, files: Sequence[Mapping[str, Any]]) -> Chosen:
    """Open a dataset that was scanned, and return it with the rows to copy.

    Raises:
        UnreadableInput: the dataset has changed since the scan.
    """
    store = Store(source.path)
    if hash_file(store.path / MANIFEST).sha256 != files[0]["sha256"]:
        msg = f"{source.path} was changed while it was read; run the same command again"
        raise UnreadableInput(msg)
    return store, range(len(store)) if source.rows is None else source.rows


def _asked(
    options: WriteOptions, run: RunOptions, split: SplitRule | None, layout: Layout, datasets: Iterable[DatasetSource]
) -> Iterator[str]:
    """Yield the reasons why the options do not allow copying."""
    default = WriteOptions()
    for option in fields(WriteOptions):
        if option.name not in ANY and getattr(options, option.name) != getattr(default, option.name):
            name = "per, describe or required" if option.name == "descriptions" else option.name
            yield f"the option {name} was given"
    if split is not None:
        yield "the option split was given"
    if run.executor is not None:
        yield "an executor was given"
    if layout.plan.exists():
        yield f"{layout.partial.name} holds an unfinished run that builds graphs"
    if any(Path(one.path).resolve() == layout.final.resolve() for one in datasets):
        yield f"{layout.final.name} is also an input"


def _contents(
    chosen: Sequence[Chosen], plan: Plan, spec: GraphSpec, options: WriteOptions, scratch: TemporaryArrays
) -> Iterator[str]:
    """Yield the reasons why building would give another dataset than copying."""
    labels: dict[str, Label] = {}
    for label in plan.labels:
        if label != labels.setdefault(label.name, label):
            yield f"the datasets say different things about the label {label.name!r}"
    schema = labelled_schema(spec, [label for label in labels.values() if label.level == "node"])
    for store, _ in chosen:
        manifest = store.manifest
        name = store.path.name
        if {shard.codec for shard in manifest.shards} != {options.codec}:
            yield f"not all records of {name} have the codec {options.codec!r}"
        if lacking := [column for column in derived_names(spec) if column not in manifest.columns]:
            yield f"{name} has no column {lacking[0]!r}, which graphs of its recipe have"
        if manifest.schema != schema:
            yield f"{name} does not have the fields that its graphs would have"
        if lacking := [one.name for one in labels.values() if one.required and not _has(manifest, one)]:
            yield f"{name} has no label {lacking[0]!r}, which another dataset requires"
    if (twice := repeated_id(chosen, scratch)) is not None:
        yield f"two graphs have the id {twice!r}"


def _has(manifest: Manifest, label: Label) -> bool:
    return label.level == "node" or label.name in manifest.all_labels()
