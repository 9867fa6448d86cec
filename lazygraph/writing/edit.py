"""Changes to a finished dataset that keep its graphs: labels, descriptions, splits, and the removal of old files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, LabelError, OutputExists
from lazygraph.format.columns import NO_SPLIT, Column, ColumnWriter
from lazygraph.format.id_lookup import find_ids, known_ids
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.registry import unknown_name
from lazygraph.sources.dataset import label_of
from lazygraph.writing.descriptions import Descriptions, check_about
from lazygraph.writing.hold import Hold
from lazygraph.writing.label_columns import dropped_energies, gather, label_column
from lazygraph.writing.labels import Label, LabelSet, bad_name, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive, idle
from lazygraph.writing.owned import remove_file
from lazygraph.writing.prototype_column import check_symprec, compute_prototypes, stored_prototypes
from lazygraph.writing.publish import garbage, publish
from lazygraph.writing.reference_energies import ElementFit, fit_by_elements
from lazygraph.writing.remarks import Remarks
from lazygraph.writing.shares import SPLITS
from lazygraph.writing.split_request import SplitRequest
from lazygraph.writing.split_rules import labels_of
from lazygraph.writing.splits import DEFAULT, Splits, write_split
from lazygraph.writing.temporary_arrays import TemporaryArrays
from lazygraph.writing.value_groups import PROTOTYPE, columns_of

__all__ = [
    "LabelReport",
    "SplitReport",
    "describe_labels",
    "editing",
    "fit_elements",
    "gc",
    "kept_columns",
    "set_about",
    "set_labels",
    "set_splits",
    "with_columns",
]


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What ``set_labels`` did: the labels set, graphs without a value, and ids that the dataset does not have."""

    names: tuple[str, ...]
    missing: int
    unknown_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Columns and values that were left out, with the reasons, and numbers that changed their type."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What ``set_splits`` did."""

    sizes: dict[str, dict[str, int]]
    """Column of splits -> split -> the number of graphs in it."""
    notes: tuple[str, ...] = ()
    """Sentences about graphs in no split, without a value, or without a prototype, and columns that were removed."""


def set_labels(
    path: str | os.PathLike[str],
    values: Mapping[str, Mapping[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    descriptions: Descriptions | None = None,
) -> LabelReport:
    """Add or replace label columns of a finished dataset, without touching a graph.

    Args:
        path: the dataset.
        values: id -> label -> value. All other graphs get NaN, or an empty text. Ids that the dataset does not have are
            reported, not refused, because a table may cover more than one dataset.
        labels: the labels to take; by default all numbers and texts.
        units: name -> unit.
        descriptions: further descriptions of the labels.

    Raises:
        LabelError: a label does not exist, cannot be one, or none of the ids is known.
        OutputExists: graphs are being added to the dataset.
    """
    with editing(path) as (hold, store):
        layout = hold.layout
        _refuse_unfinished(layout, "set labels")
        rows, unknown = _rows_of(store, values)
        if not rows:
            msg = (
                f"none of the {len(values)} ids (such as {next(iter(values), None)!r}) is in {layout.final}, whose "
                f"ids are like {_ids(store)}"
            )
            raise LabelError(msg)
        if isinstance(labels, str):
            labels = (labels,)
        # No graph has -1 atoms, so no array is read as per-atom values, which are part of the records.
        chosen, notes, _ = choose_labels(((-1, values[i], {}) for i in rows), labels, units or {})
        if not chosen:
            reason = "; ".join(notes) or "there are no columns beside the ids"
            msg = f"no column of numbers or texts to take as a label: {reason}"
            raise LabelError(msg)
        columns = kept_columns(store, layout)
        applied = (descriptions or Descriptions()).applied(chosen)
        for label in applied:
            before = store.manifest.columns.get(label.name)
            if before.role in ("index", "split") if before else label.name in store.manifest.schema.names:
                msg = f"the label {label.name!r} has the name of something else in the dataset; rename it"
                raise LabelError(msg)
            if label.required and len(rows) < len(store):
                msg = (
                    f"the label {label.name!r} is required, and {len(store) - len(rows):,} graphs have no value for it"
                )
                raise LabelError(msg)
            notes += tuple(_followers(store.manifest, label.name))
            if before is not None and before.rule is not None:
                notes += (f"the label {label.name!r} was computed, and is not computed any more for added graphs",)
            found, told = _values(label, values, rows, len(store))
            more = label_column(columns, label, [found])
            notes += (*told, *more, *dropped_energies(label.name, store.manifest))
        publish(hold, layout.edit, with_columns(store, columns))
    return LabelReport(tuple(label.name for label in applied), len(store) - len(rows), tuple(unknown), tuple(notes))


def describe_labels(
    path: str | os.PathLike[str], descriptions: Descriptions, *, units: Mapping[str, str] | None = None
) -> None:
    """Describe labels of a finished dataset. Only its manifest changes.

    Args:
        path: the dataset.
        descriptions: the descriptions.
        units: name -> unit.

    Raises:
        LabelError: a label does not exist, or is required and missing for some graphs.
    """
    with editing(path) as (hold, store):
        _refuse_unfinished(hold.layout, "describe labels")
        columns = store.manifest.all_labels()
        labels = descriptions.applied([label_of(name, column) for name, column in columns.items()])
        wanted = dict(units or {})
        if stray := [name for name in wanted if name not in store.manifest.labels()]:
            raise LabelError(unknown_name("label of numbers", stray[0], store.manifest.labels()))
        for label in labels:
            missing = (columns[label.name].statistics or {}).get("missing", 0)
            if label.required and missing:
                msg = f"the label {label.name!r} cannot be required: {missing:,} values are missing"
                raise LabelError(msg)
        changed = {
            label.name: replace(
                columns[label.name],
                unit=wanted.get(label.name, label.unit),
                per=label.per,
                description=label.description,
                required=label.required,
                statistics=_still_true(columns[label.name], label.per),
            )
            for label in labels
        }
        publish(hold, hold.layout.edit, store.manifest.with_columns(changed))


def fit_elements(path: str | os.PathLike[str], name: str) -> ElementFit:
    """Fit a label by the elements of the crystals, and store the energy of each element in its statistics.

    Args:
        path: the dataset.
        name: name of a label with one number per crystal. Its description must say whether it is per cell or per atom.

    Returns:
        The fit.

    Raises:
        LabelError: there is no such label, it has no value, or its description does not say whether it is per cell or
            per atom.
        InputError: the graphs are ready-made, without formulas.
    """
    with editing(path) as (hold, store):
        manifest = store.manifest
        column = manifest.labels().get(name)
        if column is None:
            raise LabelError(unknown_name("label", name, manifest.labels()))
        if "formula" not in manifest.columns:
            msg = f"the graphs of {store.path} are ready-made, without formulas; give a dataset of crystals"
            raise InputError(msg)
        if column.per is None or len(column.shape) != 1:
            msg = (
                f"the label {name!r} has the shape {column.shape[1:]} and is per {column.per}; it must be one number, "
                f"per cell or per atom. Say which with --per {name}=cell or --per {name}=atom"
            )
            raise LabelError(msg)
        values = store.column(name).astype(np.float64)
        if not np.isfinite(values).any():
            msg = f"the label {name!r} has no value to fit"
            raise LabelError(msg)
        fit = fit_by_elements(store.column("formula"), store.column("n_node"), values, per_atom=column.per == "atom")
        fitted = replace(column, statistics={**(column.statistics or {}), "elements": fit.elements})
        publish(hold, hold.layout.edit, manifest.with_columns({name: fitted}))
    return fit


def set_about(path: str | os.PathLike[str], about: Mapping[str, str | None]) -> dict[str, str]:
    """Change the description of a finished dataset. Only its manifest changes, and its content id stays.

    Args:
        path: the dataset.
        about: some of title, description, license, citation, doi, homepage, level_of_theory. None removes an entry.

    Returns:
        The whole description after the change.

    Raises:
        InputError: an unknown key, or a text that is empty or longer than 10,000 bytes.
    """
    check_about({key: "removed" if value is None else value for key, value in about.items()})
    with editing(path) as (hold, store):
        together = {**store.manifest.about, **about}
        kept = {key: value for key, value in together.items() if value is not None}
        publish(hold, hold.layout.edit, replace(store.manifest, about=kept))
    return kept


def set_splits(
    path: str | os.PathLike[str],
    fractions: Sequence[float] | None = None,
    *,
    counts: Sequence[int] | None = None,
    names: Mapping[str, Iterable[str]] | None = None,
    folds: int | None = None,
    leave_out: Sequence[str] | None = None,
    val: float | None = None,
    seed: int = 123,
    group: str | None = None,
    stratify: str | None = None,
    bins: int | None = None,
    symprec: float | None = None,
    labelled: str | None = None,
    name: str | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SplitReport:
    """Split a finished dataset, and replace the splits that have the same name.

    Give one of ``fractions``, ``counts``, ``folds``, ``leave_out`` and ``names``. Except for ``names``, the dataset
    stores the rule, and graphs that are added later follow the rule. The old graphs then stay in their splits.

    A dataset can have several columns of splits, such as ``fold_0`` to ``fold_4``. The column ``split`` is the default
    of ``ds.split("train")``, of training, and of the option ``split`` of a write.

    Args:
        path: the dataset.
        fractions: of train, val and test; together at most 1.
        counts: numbers of graphs in train, val and test, such as (60000, 5000, 4239). The shuffle is the same as for
            ``fractions``. All other graphs are in no split, and so are graphs that are added later.
        names: split -> ids, such as a published split.
        folds: K, 2 to 100, for a K-fold cross-validation. Column ``fold_k`` has the graphs of fold k in ``test`` and
            all others in ``train`` and ``val``. Without ``group``, the folds equal the folds of scikit-learn's
            ``KFold`` (with ``stratify``: ``StratifiedKFold``), with ``shuffle=True`` and this seed.
        leave_out: symbols of elements. All crystals with at least one of them are in ``test``.
        val: with ``folds`` and ``leave_out``, the fraction of the other graphs that are in ``val`` (default 0).
        seed: random seed of the shuffle.
        group: graphs with the same value stay in one split: ``formula``, ``chemical_system`` (the elements, such as
            Fe-O), ``prototype`` (the structure type by spglib, which is stored as a label), or the name of a label.
            Graphs without a value are one group. If the dataset has a label with one of these names, the label is used.
        stratify: every split gets its share of each value of this label, to within one graph per value. Numbers of more
            than ``bins`` different values are divided into bins of about equal size. Graphs without a value form one
            stratum.
        bins: number of bins (default 10).
        symprec: distance by which an atom may miss its ideal position in the search for prototypes, A (default 0.01).
        labelled: only the graphs with a value of this label are split, in the same way as a dataset of these graphs
            alone; all other graphs are in no split. A graph has no value if its number is NaN, or its text is empty.
            Use it with the target of a network whose published splits leave out the structures without a target.
        name: name of the column of splits (default ``split``), or its beginning for folds (default ``fold``).
        workers: processes that compute prototypes; None takes one for each usable CPU.
        progress: called with the number of prototypes that were computed since the last call.

    Returns:
        The number of graphs in each split of each column, and notes.

    Raises:
        InputError: options that cannot be combined; or a column, an id, an element or a number that cannot be used.
        OutputExists: prototypes have to be stored, and graphs are being added to the dataset.
        WorkerDied: a worker process was killed.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:50?seed=0", folder.name + "/p.lg", workers=1)
        >>> set_splits(folder.name + "/p.lg", folds=5, val=0.1, seed=1).sizes["fold_4"]
        {'train': 36, 'val': 4, 'test': 10}
        >>> folder.cleanup()
    """
    request = SplitRequest(
        fractions, counts, names, folds, leave_out, val, seed, group, stratify, bins, symprec, labelled, name
    )
    with editing(path) as (hold, store):
        kept = kept_columns(store, hold.layout)
        notes: list[str] = []
        scratch = TemporaryArrays(hold.layout.partial)
        columns = columns_of(store, scratch)
        for column in request.columns:
            _check_name(store.manifest, column)
        request.chosen(columns)  # an unknown label is refused before prototypes are computed
        if request.needs_prototypes:
            found = stored_prototypes(store, scratch, symprec)
            if found is None:
                others = {name: column for name, column in kept.columns.items() if name not in request.columns}
                check_symprec(others, symprec)
                _refuse_unfinished(hold.layout, "compute prototypes")
                found = compute_prototypes(store, kept, symprec, scratch, workers=workers, progress=progress)
            columns = columns.with_column(PROTOTYPE, found.pieces)
            notes += found.notes
        rules = (None,) if names is not None else request.rules(columns)
        sizes: dict[str, dict[str, int]] = {}
        for column, rule in zip(request.columns, rules, strict=True):
            if rule is None:
                splits = Splits(*_named_codes(store, names or {}))
            else:
                splits = Splits(rule.codes(len(store), columns), SPLITS)
            write_split(kept, column, [splits.codes], splits.names, rule)
            sizes[column] = {split: int((splits.codes == code).sum()) for code, split in enumerate(splits.names)}
            notes += splits.notes(rule, columns)
        notes += request.missing_notes(columns)
        if folds is not None:
            notes += _drop_other_folds(kept, request.columns)
        publish(hold, hold.layout.edit, with_columns(store, kept))
    return SplitReport(sizes, tuple(dict.fromkeys(notes)))  # all folds have the same graphs without a value


def _drop_other_folds(columns: ColumnWriter, names: Sequence[str]) -> Iterator[str]:
    """Remove the columns of more folds that were made before under these names, and yield a sentence about them."""
    earlier = [
        name
        for name, column in columns.columns.items()
        if name not in names
        and "fold" in (column.rule or {})
        and name == f"{names[0].removesuffix('_0')}_{(column.rule or {})['fold']}"
    ]
    for name in earlier:
        columns.drop(name)
    if earlier:
        yield f"the splits {', '.join(earlier)} were removed, because the new number of folds is smaller"


def gc(
    path: str | os.PathLike[str], *, dry_run: bool = False, tell: Callable[[str], None] | None = None
) -> tuple[int, int]:
    """Delete the files of earlier states of a dataset. Readers of an earlier state get ``DatasetReplaced``.

    Only regular files of the forms of docs/format.md that the manifest does not name are deleted. Everything else in
    the directory is the user's and stays.

    Files that cannot be deleted, because Windows deletes no open file, stay until the next call.

    Args:
        path: the dataset.
        dry_run: delete nothing.
        tell: called with the name of each file that is deleted, or would be.

    Returns:
        How many files were deleted, or would be, and how many bytes.
    """
    if dry_run:
        layout = Layout.of(path)
        manifests = [Manifest.load(layout.final)]
        idle(layout)
        # A change that a killed process had decided, and that the next process finishes.
        manifests += [Manifest.load(folder) for folder in (layout.edit, layout.dataset) if (folder / MANIFEST).exists()]
        return _each(garbage(layout.final, manifests), lambda file: file.lstat().st_size, tell)
    with editing(path) as (hold, store):
        return _each(garbage(hold.layout.final, [store.manifest]), remove_file, tell)


def _each(
    files: Iterable[tuple[str, Path]], take: Callable[[Path], int | None], tell: Callable[[str], None] | None
) -> tuple[int, int]:
    """Return the number of files, and the sum of ``take(file)`` over all of them. Files that stay do not count."""
    sizes, open_files = [], []
    for name, path in files:
        size = take(path)
        if size is None:
            open_files.append(name)
            continue
        sizes.append(size)
        if tell is not None:
            tell(name)
    if open_files:
        msg = (
            f"{len(open_files)} files stay, because programs have them open, such as {open_files[0]}; close the "
            "programs that read the dataset, and run lazygraph gc again"
        )
        warnings.warn(msg, stacklevel=3)
    return len(sizes), sum(sizes)


@contextmanager
def editing(path: str | os.PathLike[str]) -> Iterator[tuple[Hold, Store]]:
    """Yield the dataset once no other process can change it.

    Raises:
        DatasetNotFound: there is no dataset, and nothing is created at this path.
        WriterBusy: another process is writing it.
    """
    layout = Layout.of(path)
    Manifest.load(layout.final)  # the lock would create a folder
    with exclusive(layout) as hold:
        yield hold, Store(layout.final)


def kept_columns(store: Store, layout: Layout) -> ColumnWriter:
    """Return a writer of columns that begins with the columns of the dataset."""
    blocks = store.digests()[1]
    kept = {name: (column, blocks[name]) for name, column in store.manifest.columns.items()}
    return ColumnWriter(layout.edit, kept)


def with_columns(store: Store, columns: ColumnWriter) -> Manifest:
    """Return the manifest of the same graphs with other columns."""
    return replace(store.manifest, columns=columns.columns, digests=columns.digests(store.digests()[0]))


def _refuse_unfinished(layout: Layout, what: str) -> None:
    """Refuse to change labels while graphs are added, because the new graphs get the labels of the plan."""
    if layout.plan.exists():
        msg = (
            f"{layout.partial} holds graphs that are being added with the old labels; finish this run, or delete the "
            f"folder, and then {what}"
        )
        raise OutputExists(msg)


def _still_true(column: Column, per: str | None) -> dict[str, Any] | None:
    """Return the statistics of a column, without reference energies if these have another ``per``."""
    if column.statistics is None or per == column.per:
        return column.statistics
    return {name: value for name, value in column.statistics.items() if name != "elements"}


def _followers(manifest: Manifest, label: str) -> Iterator[str]:
    """Yield a sentence if splits follow the values of a label, which are replaced."""
    names = [name for name, column in manifest.splits().items() if label in labels_of(column.rule or {})]
    if names:
        yield (
            f"the splits {', '.join(names)} follow the earlier values of {label!r}, and stay as they are; 'lazygraph "
            "split' splits the dataset again"
        )


def _check_name(manifest: Manifest, name: str) -> None:
    """Refuse a name for a column of splits that something else in the dataset has."""
    problem = None if name == DEFAULT else bad_name(name)
    taken = name in manifest.schema.names or (name in manifest.columns and name not in manifest.splits())
    if problem is not None or taken:
        reason = problem or "something else in the dataset has this name"
        msg = f"splits cannot have the name {name!r}: {reason.partition('; rename')[0]}; choose another name"
        raise InputError(msg)


def _named_codes(store: Store, names: Mapping[str, Iterable[str]]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if not 0 < len(names) < NO_SPLIT:
        msg = f"found {len(names)} splits; required: 1 to {NO_SPLIT - 1}"
        raise InputError(msg)
    codes = np.full(len(store), NO_SPLIT, np.uint8)
    for code, (name, ids) in enumerate(names.items()):
        for some, rows in known_ids(store, ids):
            first = np.unique(rows, return_index=True)[1]
            again = np.setdiff1d(np.arange(len(rows)), first)
            for number in [*np.flatnonzero(codes[rows] != NO_SPLIT).tolist(), *again.tolist()][:1]:
                before = codes[rows[number]]
                other = name if before == NO_SPLIT else list(names)[before]
                msg = f"the id {some[number]!r} is in the splits {other!r} and {name!r}; put it in one"
                raise InputError(msg)
            codes[rows] = code
    return codes, tuple(names)


def _rows_of(store: Store, values: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Return id -> row for known ids, and the unknown ids."""
    rows: dict[str, int] = {}
    unknown: list[str] = []
    for ids, found in find_ids(store, values):
        rows |= {graph_id: row for graph_id, row in zip(ids, found.tolist(), strict=True) if row >= 0}
        unknown += [graph_id for graph_id, row in zip(ids, found.tolist(), strict=True) if row < 0]
    return rows, unknown


def _values(
    label: Label, values: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int], n: int
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the values of one label for all n rows, and notes about them."""
    one, remarks = LabelSet([label]), Remarks()
    column: list[Any] = LabelSet([replace(label, required=False)]).row({}, 0).of_crystal * n
    for graph_id, row in rows.items():
        try:
            (column[row],), _, left_out = one.row(values[graph_id], 0)
        except LabelError as error:
            msg = f"id {graph_id!r}: {error}"
            raise LabelError(msg) from error
        remarks.add(graph_id, left_out)
    found = gather(label, column)
    rounded = len(found.rounded)
    told = f"{rounded:,} integers of the label {label.name!r} are rounded to float64; other values are no integers"
    return found.values, (*remarks.notes(), *([told] if rounded else []))


def _ids(store: Store) -> str:
    return ", ".join(repr(store.graph_id(row)) for row in range(min(3, len(store))))
