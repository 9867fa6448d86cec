"""Structures from Python: any iterable, read once and spooled, so that any number of workers can take ranges of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import numpy as np

from lazygraph import errors
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, UnreadableInput
from lazygraph.sources.base import Cut, Entry, InputFile, Remark, Scan, attempt, default_id, hash_file
from lazygraph.sources.extxyz import numeric_labels, take_id
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.records import broken_entry, crystal_of, entry_of, id_text

__all__ = ["PythonSource"]

ARRAY = 1  # the msgpack extension type of an array: (dtype, shape, bytes)
# Per-atom arrays of ASE that are the structure, or settings of a calculation rather than its results.
NOT_LABELS = frozenset({"numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges"})


@dataclass(frozen=True, slots=True)
class PythonSource:
    """An iterable of structures, consumed once by ``scan``.

    An item is a pymatgen ``Structure``, ASE ``Atoms``, jarvis ``Atoms``, :class:`~lazygraph.crystal.Crystal`, the dict
    of one, a record ``{"jid": ..., "atoms": {...}, label: value}``, or ``(id, structure)`` or
    ``(id, structure, labels)``. The info, the arrays and the results of ASE ``Atoms`` are labels, as in extended XYZ.
    A mapping of structures is read as ``(id, structure)`` pairs.

    ``scan`` writes one msgpack map per item to the spool; labels may hold all that JSON can, and numpy arrays. Only
    the process that made the source can scan it: a pickled copy is without its items, and reads from the spool.

    Args:
        items: the structures.
        name: what ids are made of where items have none.
        id_key: the key of records, or of ``Atoms.info``, that holds the id.
        options: how structures are read.
    """

    kind: ClassVar[str] = "python"

    items: Iterable[Any] | None = field(default=None, compare=False, repr=False)
    name: str = "python"
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    def scan(self, every: int, spool: Path) -> Scan:
        """Convert every item and write it to the spool; an exception of the iterable itself is not caught."""
        if self.items is None:
            msg = f"the items of {self.name!r} are in the process that made them; required: to scan there"
            raise InputError(msg)
        items = self.items.items() if isinstance(self.items, Mapping) else self.items
        marks, count = [], 0
        with spool.open("wb") as file:
            for count, item in enumerate(items, start=1):
                if (count - 1) % every == 0:
                    marks.append(file.tell())
                file.write(_pack(self._entry(item, default_id(self.name, count - 1))))
        _, size, sha256 = hash_file(spool)
        return Scan(count, tuple(marks), (InputFile(self.name, size, sha256),))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one range of the spool."""
        with spool.open("rb") as file:
            file.seek(cut.mark)
            unpacker = msgpack.Unpacker(file, ext_hook=_unpack_array, max_buffer_size=0)
            for _ in range(cut.count):
                yield _unpack(next(unpacker))

    def _entry(self, item: Any, default: str) -> Entry:
        if isinstance(item, Mapping):
            return entry_of(dict(item), self.id_key, default, options=self.options)
        if isinstance(item, tuple) and len(item) in {2, 3}:
            return _entry_of_tuple(self.options, *item)
        crystal = attempt(Crystal.from_any, item)
        values = _values(item)
        try:
            return Entry(take_id(values, self.id_key, default), crystal, numeric_labels(values))
        except UnreadableInput as error:
            return Entry(default, crystal if isinstance(crystal, InputError) else error, numeric_labels(values))

    def __reduce__(self) -> tuple[Any, ...]:
        return (PythonSource, (None, self.name, self.id_key, self.options))


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
    values = numeric_labels(_values(structure)) | dict(labels or {})
    return Entry(name, crystal, values, remarks=tuple(remarks))


def _values(structure: Any) -> dict[str, Any]:
    """What ASE ``Atoms`` carry beside the structure; nothing for other classes."""
    if not (hasattr(structure, "arrays") and hasattr(structure, "calc")):
        return {}
    arrays = {name: array for name, array in structure.arrays.items() if name not in NOT_LABELS}
    results = {} if structure.calc is None else structure.calc.results
    return {**structure.info, **arrays, **results}


def _pack(entry: Entry) -> bytes:
    crystal: Any = entry.crystal
    if isinstance(crystal, InputError):
        content: dict[str, Any] = {"error": [type(crystal).__name__, str(crystal)]}
    else:
        content = {"lattice": crystal.lattice, "frac_coords": crystal.frac_coords, "numbers": crystal.numbers}
        content["pbc"] = crystal.pbc
    content |= {"id": entry.id, "labels": dict(entry.labels), "remarks": entry.remarks}
    try:
        return bytes(msgpack.packb(content, default=_pack_array))
    except (TypeError, ValueError, OverflowError) as error:  # LabelError among them
        kinds = ", ".join(f"{name}: {type(value).__name__}" for name, value in entry.labels.items())
        msg = f"cannot store the labels ({kinds}): {error}; required: numbers, texts, None, lists or arrays of numbers"
        return _pack(Entry(entry.id, LabelError(msg), {}))


def _pack_array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        msg = f"found {type(value).__name__} {str(value)[:40]!r}"
        raise LabelError(msg)
    if array.ndim == 0:
        return array.item()
    return msgpack.ExtType(ARRAY, msgpack.packb((array.dtype.str, array.shape, array.tobytes())))


def _unpack(content: dict[str, Any]) -> Entry:
    if "error" in content:
        name, message = content["error"]
        return Entry(content["id"], getattr(errors, name)(message), content["labels"])
    remarks = tuple(Remark(*remark) for remark in content["remarks"])
    crystal = Crystal(content["lattice"], content["frac_coords"], content["numbers"], tuple(content["pbc"]))
    return Entry(content["id"], crystal, content["labels"], remarks=remarks)


def _unpack_array(code: int, data: bytes) -> Any:
    if code != ARRAY:
        return msgpack.ExtType(code, data)
    dtype, shape, content = msgpack.unpackb(data)
    return np.frombuffer(content, dtype=dtype).reshape(shape)
