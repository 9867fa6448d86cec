"""Structures from Python: an iterable is read once into a spool, and workers read ranges of the spool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import numpy as np

from lazygraph import errors
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, UnreadableInput
from lazygraph.sources.base import (
    NOT_STORED,
    Cut,
    Entry,
    InputFile,
    Remark,
    Scan,
    attempt,
    default_id,
    hash_file,
    read_entry,
    readable,
    shown,
)
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.objects import labels_of_object
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.records import broken_entry, crystal_of, entry_of, holds_structure, id_text, place_in
from lazygraph.sources.structure_keys import FIRST, StructurePlace

__all__ = ["PythonSource"]

ARRAY = 1  # the msgpack extension type of an array: (dtype, shape, bytes)


@dataclass(frozen=True, slots=True)
class PythonSource:
    """An iterable of structures, consumed once by ``scan``.

    An item is a pymatgen ``Structure``, ASE ``Atoms``, jarvis ``Atoms``, :class:`~lazygraph.crystal.Crystal`, the dict
    of one, a record ``{"jid": ..., "atoms": {...}, label: value}``, or ``(id, structure)`` or
    ``(id, structure, labels)``. The info, the arrays and the results of ASE ``Atoms``, the properties of a pymatgen
    ``Structure`` and of its sites are labels. A mapping of ids to structures or records is read as pairs.

    ``scan`` writes one msgpack map per item to the spool. Labels may be JSON values and numpy arrays. Only the process
    that created the source can scan it. A pickled copy does not contain the items, and reads from the spool.

    Args:
        items: the structures.
        name: prefix of ids for items without an id.
        id_key: the key of records, or of ``Atoms.info``, that holds the id.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "python"

    items: Iterable[Any] | None = field(default=None, compare=False, repr=False, metadata=NOT_STORED)
    name: str = "python"
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    def scan(self, every: int, spool: Path) -> Scan:
        """Convert every item and write it to the spool. An exception of the iterable itself is not caught."""
        if self.items is None:
            msg = f"the items of {self.name!r} exist only in the process that created them; scan them there"
            raise InputError(msg)
        items = iter(self.items.items() if isinstance(self.items, Mapping) else self.items)
        first = list(islice(items, FIRST))
        records = [_record(item) for item in first]
        place = place_in(records, self.options)
        if self.options.structure_key is not None and not any(isinstance(record, Mapping) for record in records):
            msg = (
                f"the structure key {self.options.structure_key!r} was given, but the structures have no keys; leave "
                "it out"
            )
            raise InputError(msg)
        marks, count = [], 0
        with spool.open("wb") as file:
            for count, item in enumerate(chain(first, items), start=1):
                if (count - 1) % every == 0:
                    marks.append(file.tell())
                default = default_id(self.name, count - 1)
                file.write(_pack(read_entry(default, self._entry, item, place, default)))
        _, size, sha256 = hash_file(spool)
        notes = () if place is None else place.notes()
        return Scan(count, tuple(marks), (InputFile(self.name, size, sha256),), notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range of the spool."""
        with spool.open("rb") as file:
            file.seek(cut.mark)
            unpacker = msgpack.Unpacker(file, ext_hook=_unpack_array, max_buffer_size=0, strict_map_key=False)
            for position in range(cut.start, cut.start + cut.count):
                yield read_entry(default_id(self.name, position), _unpack, next(unpacker))

    def _entry(self, item: Any, place: StructurePlace | None, default: str) -> Entry:
        if isinstance(item, Entry):
            return item if item.id else item._replace(id=default)
        if isinstance(item, Mapping):
            return entry_of(_named(item), place, self.id_key, default, options=self.options)
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping) and not holds_structure(item[1]):
            return self._entry_of_named_record(item, place, default)
        if isinstance(item, tuple) and len(item) in {2, 3}:
            return _entry_of_tuple(self.options, *item)
        crystal = attempt(Crystal.from_any, item)
        labels, of_atoms = labels_of_object(item)
        try:
            return Entry(take_id(labels, self.id_key, default), crystal, labels, atom_labels=of_atoms)
        except UnreadableInput as error:
            reason = crystal if isinstance(crystal, InputError) else error
            return Entry(default, reason, labels, atom_labels=of_atoms)

    def _entry_of_named_record(self, item: tuple[Any, Any], place: StructurePlace | None, default: str) -> Entry:
        try:
            key = id_text(item[0])
        except UnreadableInput as error:
            return broken_entry(str(item[0]), error)
        return entry_of(_named(item[1]), place, self.id_key, default, key=key, options=self.options)

    def __reduce__(self) -> tuple[Any, ...]:
        return (PythonSource, (None, self.name, self.id_key, self.options))


def _record(item: Any) -> Any:
    """Return the mapping that may hold a structure under one of its keys; None if it cannot be read."""
    record = item[1] if isinstance(item, tuple) and len(item) == 2 else item
    try:
        return _named(record) if isinstance(record, Mapping) else record
    except Exception:  # noqa: BLE001  # its entry will say why
        return None


def _named(record: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the record with its names as text, because pandas may number its columns."""
    return {str(name): value for name, value in record.items()}


def _entry_of_tuple(options: SourceOptions, key: Any, structure: Any, labels: Any = None) -> Entry:
    name = str(key)
    try:
        name = id_text(key)
    except UnreadableInput as error:
        return broken_entry(name, error)
    if labels is not None and not isinstance(labels, Mapping):
        msg = f"found labels of type {type(labels).__name__}; required: a mapping of names to values"
        return Entry(name, LabelError(msg), {})
    remarks: list[Remark] = []
    crystal = attempt(crystal_of, structure, options, remarks)
    values, of_atoms = labels_of_object(structure)
    given = dict(labels or {})
    of_atoms = {name: value for name, value in of_atoms.items() if name not in given}
    return Entry(name, crystal, values | given, remarks=tuple(remarks), atom_labels=of_atoms)


def _pack(entry: Entry) -> bytes:
    crystal: Any = entry.crystal
    if isinstance(crystal, InputError):
        content: dict[str, Any] = {"error": [type(crystal).__name__, readable(str(crystal))]}
    else:
        content = {"lattice": crystal.lattice, "frac_coords": crystal.frac_coords, "numbers": crystal.numbers}
        content["pbc"] = crystal.pbc
    content |= {"id": readable(entry.id), "labels": dict(entry.labels), "atoms": dict(entry.atom_labels)}
    content["remarks"] = entry.remarks
    try:
        return bytes(msgpack.packb(content, default=_pack_array))
    except (TypeError, ValueError, OverflowError, MemoryError) as error:  # LabelError is one of them
        kinds = ", ".join(f"{name}: {type(value).__name__}" for name, value in entry.labels.items())
        msg = f"cannot store the labels ({kinds}): {error}; required: numbers, texts, None, lists or arrays of numbers"
        return _pack(Entry(entry.id, LabelError(msg), {}))


def _pack_array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        msg = f"found {type(value).__name__} {shown(value, 40)}"
        raise LabelError(msg)
    if array.ndim == 0:
        return array.item()
    return msgpack.ExtType(ARRAY, msgpack.packb((array.dtype.str, array.shape, array.tobytes())))


def _unpack(content: dict[str, Any]) -> Entry:
    if "error" in content:
        name, message = content["error"]
        return Entry(content["id"], getattr(errors, name)(message), content["labels"], atom_labels=content["atoms"])
    remarks = tuple(Remark(*remark) for remark in content["remarks"])
    crystal = Crystal(content["lattice"], content["frac_coords"], content["numbers"], tuple(content["pbc"]))
    return Entry(content["id"], crystal, content["labels"], remarks=remarks, atom_labels=content["atoms"])


def _unpack_array(code: int, data: bytes) -> Any:
    if code != ARRAY:
        return msgpack.ExtType(code, data)
    dtype, shape, content = msgpack.unpackb(data)
    return np.frombuffer(content, dtype=dtype).reshape(shape)
