"""The source for an existing dataset, whose crystals and labels become graphs without the original files."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, InputError, LazyGraphError, UnreadableInput
from lazygraph.format.columns import Column
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.schema import Field
from lazygraph.format.store import Store
from lazygraph.sources.base import (
    NOT_STORED,
    Cut,
    Entry,
    InputFile,
    Label,
    LabelType,
    Scan,
    attempt,
    default_id,
    read_entry,
)
from lazygraph.storage.base import is_url, open_storage

__all__ = [
    "DatasetSource",
    "crystal_of",
    "energies_left_out",
    "is_dataset",
    "is_open_dataset",
    "label_of",
    "label_of_field",
    "rule_left_out",
]

# What makes a record a crystal (docs/format.md, Crystals); every other field with a row an atom is a label.
CRYSTAL = ("numbers", "lattice", "pbc", "frac_coords")
NOT_NEEDED = ("formula", "id_order")


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The crystals and labels of a dataset that was written from structures, or of a part of it, in order.

    Crystals and labels keep every bit, labels keep level, shape and unit, and graphs keep their splits in every column
    of splits. A damaged record is a bad entry. Inputs that were quarantined when the dataset was written are not part
    of it.

    The source holds a path, and the rows of a part. It is picklable and safe in any process. ``scan`` puts the sha256
    of the manifest and the rows into the spool. Each ``read`` opens the dataset again and refuses another state of it.
    Opening takes one pass over the columns (about 0.1 ms per 1,000 graphs), and a crystal about 60 us. The shards of a
    dataset on a server are fetched as a whole.

    Args:
        path: the dataset directory, or its URL.
        rows: (N,) int64, the graphs to read, in this order; None for all. Only the process that got the rows can scan.
            Later ``read`` finds them in the spool.
        wanted: the recipe with which the dataset was opened, if it differs from the stored recipe.
        opened: the manifest of the dataset when the rows were chosen.
    """

    kind: ClassVar[str] = "lazygraph"

    path: str
    rows: NDArray[np.int64] | None = field(default=None, compare=False, repr=False, metadata=NOT_STORED)
    wanted: Mapping[str, Any] | None = field(default=None, compare=False, repr=False, metadata=NOT_STORED)
    opened: Manifest | None = field(default=None, compare=False, repr=False, metadata=NOT_STORED)

    @classmethod
    def of(cls, dataset: Any) -> DatasetSource:
        """Return the graphs of an open ``LazyGraphDataset``, or of a part of one.

        Raises:
            InputError: the dataset has a transform, which cannot be applied to a crystal.
        """
        if dataset.transform is not None:
            msg = (
                f"the dataset {dataset.path!r} has a transform, which would not be applied, because graphs are built "
                f"from the stored crystals. Give lazygraph.LazyGraphDataset({dataset.path!r}) instead"
            )
            raise InputError(msg)
        if dataset.augmenter is not None:
            msg = (
                f"the dataset {dataset.path!r} has augment, whose random numbers would be stored. Give "
                f"lazygraph.LazyGraphDataset({dataset.path!r}) instead, without augment"
            )
            raise InputError(msg)
        rows = dataset.indices()
        whole = isinstance(rows, range) and rows == range(dataset.manifest.graphs)
        spec = dataset.spec
        return cls(
            # Path.absolute keeps "..".
            dataset.path if is_url(dataset.path) else os.path.abspath(dataset.path),  # noqa: PTH100
            None if whole else np.array(rows, dtype=np.int64),
            None if spec is None else spec.to_json(),
            dataset.manifest,
        )

    @property
    def name(self) -> str:
        """The last part of the path without ``.lg``."""
        return self._last.removesuffix(".lg")

    @property
    def _last(self) -> str:
        return PurePath(urlsplit(self.path).path if is_url(self.path) else self.path).name

    def recipe(self) -> Mapping[str, Any] | None:
        """Return the recipe of the graphs; None for ready-made graphs.

        Raises:
            UnreadableInput: the path holds no dataset.
        """
        return self.wanted if self.opened is not None else self.stored_recipe()

    def stored_recipe(self) -> Mapping[str, Any] | None:
        """Return the recipe of the graphs as they are stored, whatever the dataset was opened with.

        Raises:
            UnreadableInput: the path holds no dataset.
        """
        try:
            return Manifest.load(open_storage(self.path)).recipe
        except (LazyGraphError, OSError) as error:
            raise UnreadableInput(str(error)) from error

    def scan(self, every: int, spool: Path) -> Scan:
        """Check the columns and hash the manifest, which holds the hashes of all other files; no record is read."""
        store, last = _open(self.path), self._last
        manifest = store.manifest
        if manifest.recipe is None or not set(CRYSTAL) <= set(manifest.schema.names):
            msg = f"{store.name} holds ready-made graphs, without crystals; give a dataset made from structures"
            raise UnreadableInput(msg)
        if self.opened is not None and self.opened != manifest:
            msg = f"{store.name} was changed since it was opened; open it again, and choose its graphs again"
            raise UnreadableInput(msg)
        content = store.storage.manifest()
        digest = hashlib.sha256(content).hexdigest()
        files, notes = [InputFile(f"{last}/{MANIFEST}", len(content), digest)], []
        chosen = b""
        if self.rows is not None:
            chosen = self.rows.astype("<i8").tobytes()
            files.append(InputFile(f"{last}/rows", len(chosen), hashlib.sha256(chosen).hexdigest()))
            notes.append(f"{len(self.rows)} of the {len(store)} graphs of {last} were chosen")
        spool.write_bytes(digest.encode() + (b"" if self.rows is None else b"\n" + chosen))
        if manifest.quarantine is not None:
            lost = manifest.quarantine.count
            notes.append(f"{lost} inputs were quarantined when {last} was made, and are not in it")
        notes += (rule_left_out(name) for name, column in manifest.splits().items() if column.rule is not None)
        fitted = (name for name, column in manifest.labels().items() if "elements" in (column.statistics or {}))
        notes += map(energies_left_out, fitted)
        if manifest.history:
            removed = sum(len(one.removed) for one in manifest.history)
            notes.append(f"the history of {last} is not copied, in which {removed} graphs were removed")
        if manifest.user:
            notes.append(f"the user's metadata of {last} are not copied: {', '.join(sorted(manifest.user))}")
        entries = len(store) if self.rows is None else len(self.rows)
        labels = (*_graph_labels(manifest), *_atom_labels(manifest))
        splits = {name: tuple(column.categories or ()) for name, column in manifest.splits().items()}
        marks = tuple(range(0, entries, every))
        return Scan(entries, marks, tuple(files), tuple(notes), labels, splits=splits, about=manifest.about)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range.

        Raises:
            UnreadableInput: the dataset differs from the scanned one.
        """
        store = _open(self.path)
        scanned, rows = _scanned(spool, cut)
        if hashlib.sha256(store.storage.manifest()).hexdigest() != scanned:
            msg = f"{store.name} was changed after the plan was made; plan again"
            raise UnreadableInput(msg)
        store.read_whole(range(len(store.manifest.shards)))
        crystals = _Crystals(store, self.name)
        for row in rows:
            yield read_entry(default_id(self.name, row), crystals.entry, row)


class _Crystals:
    """The entries of an open dataset by row."""

    def __init__(self, store: Store, name: str) -> None:
        manifest = store.manifest
        self._store, self._name = store, name
        self._columns = {label.name: _values(store, label) for label in _graph_labels(manifest)}
        self._atoms = [label.name for label in _atom_labels(manifest)]
        self._splits = {
            name: (store.column(name), dict(enumerate(column.categories or ())))
            for name, column in manifest.splits().items()
        }

    def entry(self, row: int) -> Entry:
        """One row; a record that is damaged is the reason of an entry without a crystal."""
        entry_id = default_id(self._name, row)
        labels = {name: value_of(row) for name, value_of in self._columns.items()}
        of_atoms: dict[str, Any] = {}
        crystal: Crystal | InputError
        try:
            entry_id = self._store.graph_id(row)
            arrays = self._store.arrays(row)
        except CorruptDataset as error:
            # Where the dataset lies is no part of the reason, which goes into the new dataset.
            crystal = UnreadableInput(str(error).replace(self._store.name, PurePath(self._store.name).name))
        else:
            crystal = attempt(crystal_of, arrays)
            of_atoms = {name: arrays[name] for name in self._atoms}
        found = {column: names.get(int(codes[row])) for column, (codes, names) in self._splits.items()}
        splits = {column: name for column, name in found.items() if name is not None}
        return Entry(entry_id, crystal, labels, splits.pop("split", None), atom_labels=of_atoms, other_splits=splits)


def _scanned(spool: Path, cut: Cut) -> tuple[str, Sequence[int]]:
    """Return the sha256 of the manifest that was scanned, and the rows of one range."""
    with spool.open("rb") as file:
        digest = file.read(64).decode()
        if not file.read(1):
            return digest, range(cut.start, cut.start + cut.count)
        file.seek(8 * cut.start, os.SEEK_CUR)
        rows: list[int] = np.frombuffer(file.read(8 * cut.count), "<i8").tolist()
        return digest, rows


def is_open_dataset(value: Any) -> bool:
    """Tell whether an object is a ``LazyGraphDataset``, without importing torch."""
    return all(hasattr(type(value), name) for name in ("content_id", "indices", "manifest", "spec"))


def is_dataset(path: Path) -> bool:
    """Whether a folder is laid out as a dataset is, or something that is no file and no pattern is called ``.lg``."""
    if (path / MANIFEST).is_file() and (path / "columns").is_dir():
        return True
    return path.suffix == ".lg" and not path.is_file() and glob.escape(str(path)) == str(path)


def _open(place: str) -> Store:
    """Return the dataset after checking all files except for the shards against the manifest."""
    try:
        store = Store(place)
        for name in store.manifest.columns:
            if name not in NOT_NEEDED:
                store.column(name)
        for dictionary in store.manifest.dictionaries:
            store.file(dictionary)
    except (LazyGraphError, OSError) as error:
        raise UnreadableInput(str(error)) from error
    return store


def _graph_labels(manifest: Manifest) -> list[Label]:
    return [label_of(name, column) for name, column in manifest.all_labels().items()]


def _atom_labels(manifest: Manifest) -> list[Label]:
    fields = (field for field in manifest.schema.fields if field.axis == "node" and field.name not in CRYSTAL)
    return [label_of_field(field) for field in fields]


def rule_left_out(name: str) -> str:
    """The note where graphs keep their splits in a column, and its rule is not that of a new dataset."""
    return f"the rule of the splits in {name!r} is left out, because it describes the splits of another dataset"


def energies_left_out(name: str) -> str:
    """The note where a label keeps its values, and its reference energies are not those of a new dataset."""
    return (
        f"the reference energies of {name!r} were fitted to its old values and are left out; fit them again with "
        f"'lazygraph labels --fit-elements {name}'"
    )


def label_of(name: str, column: Column) -> Label:
    """The label that a column holds."""
    types: dict[str, LabelType] = {"|b1": "bool", "<i8": "int64", "<f8": "float64"}
    dtype: LabelType = types[column.dtype] if column.role == "label" else "text"
    said = {"per": column.per, "description": column.description, "required": column.required}
    if column.rule is not None:
        said["symprec"] = column.rule["symprec"]
    return Label(name, "graph", column.shape[1:], column.unit, dtype, **said)  # type: ignore[arg-type]


def label_of_field(field: Field) -> Label:
    """The label of the atoms that a field of a crystal holds."""
    return Label(field.name, "node", field.shape, field.unit, "float32" if field.dtype == "float32" else "float64")


def _values(store: Store, label: Label) -> Any:
    """Row -> value of a label of the crystals."""
    column, values = store.manifest.columns[label.name], store.column(label.name)
    if column.role == "category":
        names = (*(column.categories or ()), "")
        return lambda row: names[min(int(values[row]), len(names) - 1)]
    return (lambda row: bytes(values[row]).decode()) if column.role == "text" else values.__getitem__


def crystal_of(arrays: Mapping[str, Any]) -> Crystal:
    """Return the crystal of the arrays of a record."""
    return Crystal(arrays["lattice"], arrays["frac_coords"], arrays["numbers"], tuple(arrays["pbc"].tolist()))
