"""An existing dataset: its crystals and labels, to make graphs of another recipe without the original files."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import CorruptDataset, InputError, LazyGraphError, UnreadableInput
from lazygraph.format.manifest import MANIFEST, Manifest
from lazygraph.format.store import Store
from lazygraph.sources.base import Cut, Entry, Label, Scan, attempt, default_id, hash_file

__all__ = ["DatasetSource", "is_dataset"]

# What makes a record a crystal (docs/format.md, Crystals); every other field with a row an atom is a label.
CRYSTAL = ("numbers", "lattice", "pbc", "frac_coords")
NOT_NEEDED = ("formula", "id_order")


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The graphs of a dataset that was made from structures, in order, edges left out.

    Crystals and labels have the bits that the dataset was given, and its labels keep level, shape and unit. A record
    that is damaged is a bad entry; what was quarantined when the dataset was made is not in it.

    Holds a path only: picklable, safe in any process. ``scan`` leaves the manifest's sha256 in the spool, and each
    ``read`` opens the dataset anew and refuses another state of it. Opening costs one pass over the columns (about
    0.1 ms per 1,000 graphs), a crystal about 60 us.

    Args:
        path: the dataset directory.
    """

    kind: ClassVar[str] = "lazygraph"

    path: str

    @property
    def name(self) -> str:
        """The directory's name without ``.lg``."""
        return Path(self.path).name.removesuffix(".lg")

    def scan(self, every: int, spool: Path) -> Scan:
        """Check the columns and hash the manifest, which holds the hashes of all other files; no record is read."""
        folder = Path(self.path)
        store = _open(folder)
        manifest = store.manifest
        if manifest.recipe is None or not set(CRYSTAL) <= set(manifest.schema.names):
            msg = f"{folder} holds graphs that came ready-made, and no crystals; required: one made from structures"
            raise UnreadableInput(msg)
        file = hash_file(folder / MANIFEST)
        spool.write_text(file.sha256)
        lost = 0 if manifest.quarantine is None else manifest.quarantine.count
        return Scan(
            len(store),
            tuple(range(0, len(store), every)),
            (file._replace(name=f"{folder.name}/{MANIFEST}"),),
            (f"{lost} inputs were quarantined when {folder.name} was made, and are not in it",) if lost else (),
            (*_graph_labels(manifest), *_atom_labels(manifest)),
        )

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range.

        Raises:
            UnreadableInput: the dataset is not the one that was scanned.
        """
        store = _open(Path(self.path))
        if hash_file(store.path / MANIFEST).sha256 != spool.read_text():
            msg = f"{store.path} was changed since it was planned to make graphs from it; required: what it was then"
            raise UnreadableInput(msg)
        manifest = store.manifest
        columns = {label.name: store.column(label.name) for label in _graph_labels(manifest)}
        atoms = [label.name for label in _atom_labels(manifest)]
        split = manifest.columns.get("split")
        splits = dict(enumerate(split.categories or ())) if split else {}
        for row in range(cut.start, cut.start + cut.count):
            entry_id = default_id(self.name, row)
            labels = {name: column[row] for name, column in columns.items()}
            crystal: Crystal | InputError
            of_atoms: dict[str, Any] = {}
            try:
                entry_id = store.graph_id(row)
                arrays = store.arrays(row)
            except CorruptDataset as error:
                # Where the dataset lies is no part of the reason, which goes into the new dataset.
                crystal = UnreadableInput(str(error).replace(str(store.path), store.path.name))
            else:
                crystal = attempt(_crystal, arrays)
                of_atoms = {name: arrays[name] for name in atoms}
            in_split = splits.get(int(store.column("split")[row])) if split else None
            yield Entry(entry_id, crystal, labels, in_split, atom_labels=of_atoms)


def is_dataset(path: Path) -> bool:
    """Whether a folder is laid out as a dataset is, or something that is no file and no pattern is called ``.lg``."""
    if (path / MANIFEST).is_file() and (path / "columns").is_dir():
        return True
    return path.suffix == ".lg" and not path.is_file() and glob.escape(str(path)) == str(path)


def _open(folder: Path) -> Store:
    """The dataset, once all but its shards was found to be what its manifest says."""
    try:
        store = Store(folder)
        for name in store.manifest.columns:
            if name not in NOT_NEEDED:
                store.column(name)
        if (dictionary := store.manifest.dictionary) is not None:
            dictionary.check(store.path)
    except (LazyGraphError, OSError) as error:
        raise UnreadableInput(str(error)) from error
    return store


def _graph_labels(manifest: Manifest) -> list[Label]:
    return [Label(name, "graph", column.shape[1:], column.unit) for name, column in manifest.labels().items()]


def _atom_labels(manifest: Manifest) -> list[Label]:
    fields = (field for field in manifest.schema.fields if field.axis == "node" and field.name not in CRYSTAL)
    return [Label(field.name, "node", field.shape, field.unit) for field in fields]


def _crystal(arrays: Mapping[str, Any]) -> Crystal:
    return Crystal(arrays["lattice"], arrays["frac_coords"], arrays["numbers"], tuple(arrays["pbc"].tolist()))
