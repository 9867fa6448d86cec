"""Parquet tables with a structure in every row, streamed by row group.

The columns of a structure are those of LeMaterial (OPTIMADE's ``lattice_vectors``, ``cartesian_site_positions``,
``species_at_sites``), those of ColabFit and others (``cell``, ``positions``, ``atomic_numbers`` or ``numbers``), or one
column with CIF, POSCAR, the JSON of a structure dict, or a struct of its parts. If there is also a column
``scaled_positions``, its fractional coordinates are read, and not the Cartesian ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeAlias

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, MissingExtra, UnreadableInput
from lazygraph.sources.base import (
    ID_KEYS,
    MAX_TEXT,
    Cut,
    Entry,
    ImpliedUnits,
    Scan,
    attempt,
    default_id,
    hash_file,
    open_regular,
    read_entry,
    too_long,
)
from lazygraph.sources.facts import recall, remember
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.json_entries import Looked
from lazygraph.sources.objects import storable
from lazygraph.sources.optimade_crystal import COLUMNS, crystal_of_attributes, labels_of_attributes
from lazygraph.sources.record_entries import look_at_records, place_of
from lazygraph.sources.records import entry_of, id_text
from lazygraph.sources.structure_keys import FIRST
from lazygraph.sources.units import COLABFIT, LEMATERIAL

__all__ = ["ParquetSource", "sniff"]

Row: TypeAlias = Callable[[], dict[str, Any]]
"""A function that returns a row, or raises its error."""
_BATCH = 256  # rows that are converted to Python objects at a time
_ATOMS = ({"cell", "positions", "atomic_numbers"}, {"cell", "positions", "numbers"})
_STRUCTURE = frozenset({"cell", "positions", "scaled_positions", "atomic_numbers", "numbers", "pbc"})
_IDS = {"optimade": ("id", "immutable_id"), "atoms": ("property_id", *ID_KEYS, "configuration_id", "id")}


def sniff(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of a Parquet file."""
    return head.startswith(b"PAR1")


@dataclass(frozen=True, slots=True)
class ParquetSource(RecordSource):
    """One entry per row. Every column other than the structure is a label. An empty list is a missing value.

    The source holds only a path: it is picklable and safe in any process. ``scan`` reads the footer and the first rows.
    ``read`` decodes only the row groups of its range. Memory: a few pages of each column, and 256 rows.

    Args:
        path: the ``.parquet`` file.
        id_key: the column of the ids, if it has no usual name.
        options: options for reading structures.
    """

    kind: ClassVar[str] = "parquet"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count the rows, look at the first ones, and hash the file."""
        path = Path(self.path)
        with _opened(path) as file:
            count = file.metadata.num_rows
            looked = self._look(list(file.schema_arrow.names), _first(file))
        remember(spool, looked.facts)
        marks = tuple(range(0, count, every))
        return Scan(count, marks, (hash_file(path),), looked.notes, implied=looked.implied)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the rows of one range."""
        facts, name = recall(spool), self.name
        with _opened(Path(self.path)) as file:
            for position, row in enumerate(_rows(file, cut.start, cut.count), cut.start):
                default = default_id(name, position)
                yield read_entry(default, self._entry, row, facts, default)

    def _look(self, columns: list[str], first: list[dict[str, Any]]) -> Looked:
        """Find the form of the structures in the rows.

        Raises:
            UnreadableInput: there is no column of that name for the ids or the structures.
        """
        names = set(columns)
        if len(names) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            msg = f"{self.path} has the column {twice!r} twice; required: a different name for each column"
            raise UnreadableInput(msg)
        if self.id_key is not None and self.id_key not in names:
            msg = f"{self.path} has no column {self.id_key!r}; its columns are {', '.join(map(repr, columns[:30]))}"
            raise UnreadableInput(msg)
        if self.options.structure_key is None:
            if names >= COLUMNS:
                return Looked({"form": "optimade"}, implied=_if_any(LEMATERIAL, names, {"functional", "immutable_id"}))
            if any(names >= columns for columns in _ATOMS):
                return Looked({"form": "atoms"}, implied=_if_any(COLABFIT, names, {"property_id", "configuration_id"}))
        looked = look_at_records(self.id_key, self.options)(first)
        return Looked({**looked.facts, "form": "record"}, looked.notes)

    def _entry(self, give: Row, facts: dict[str, Any], default: str) -> Entry:
        row = give()
        if facts["form"] == "record":
            return entry_of(row, place_of(facts), self.id_key, default, options=self.options)
        crystal: Crystal | InputError
        if facts["form"] == "optimade":
            crystal = attempt(crystal_of_attributes, row)
            labels = labels_of_attributes(row)
        else:
            crystal = attempt(_crystal_of_atoms, row)
            labels = {name: value for name, value in row.items() if name not in _STRUCTURE}
        keys = _IDS[facts["form"]] if self.id_key is None else (self.id_key,)
        key = next((key for key in keys if row.get(key) not in (None, "")), None)
        try:
            if key is None and self.id_key is not None:
                msg = f"the row has nothing under the id key {self.id_key!r}; every row needs an id there"
                raise UnreadableInput(msg)  # noqa: TRY301
            name = default if key is None else id_text(row[key])
        except UnreadableInput as error:
            name, crystal = default, error if isinstance(crystal, Crystal) else crystal
        labels.pop(key or "", None)
        return Entry(name, crystal, labels)


def _if_any(units: ImpliedUnits, names: set[str], telling: set[str]) -> ImpliedUnits | None:
    return units if names & telling else None


def _crystal_of_atoms(row: dict[str, Any]) -> Crystal:
    numbers = row["atomic_numbers"] if "atomic_numbers" in row else row["numbers"]
    if numbers is None or row["positions"] is None:
        msg = "the row has no atomic numbers or no positions; it needs both"
        raise UnreadableInput(msg)
    cell, pbc = row["cell"], row.get("pbc")
    if cell is None:
        cell = np.zeros((3, 3))
    pbc = (bool(np.any(cell)),) * 3 if pbc is None else np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)).tolist()
    atomic_numbers = np.asarray(numbers, dtype=np.int64)
    if row.get("scaled_positions") is not None:
        return Crystal(cell, row["scaled_positions"], atomic_numbers, tuple(pbc))
    return Crystal.from_cartesian(cell, row["positions"], atomic_numbers, tuple(pbc))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the table.

    Raises:
        UnreadableInput: the file is damaged.
        MissingExtra: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        msg = "Parquet needs pyarrow; install it with: pip install 'lazygraph[parquet]'"
        raise MissingExtra(msg) from error
    try:
        # The open file is passed, because its name may not be UTF-8.
        with open_regular(path) as file, parquet.ParquetFile(file) as table:
            groups = range(table.metadata.num_row_groups)
            if sum(table.metadata.row_group(number).num_rows for number in groups) != table.metadata.num_rows:
                msg = f"cannot read {path}: its footer contradicts itself; copy or download the file again"
                raise UnreadableInput(msg)
            yield table
    except (ArrowException, OSError, UnicodeDecodeError) as error:  # UnicodeDecodeError comes from names of columns
        msg = f"cannot read {path}: {error}; required: a whole Parquet file"
        raise UnreadableInput(msg) from error


def _first(table: Any) -> list[dict[str, Any]]:
    """Return the first readable rows, up to the size of the text of one input."""
    first: list[dict[str, Any]] = []
    size = 0
    for give in islice(_rows(table, 0, table.metadata.num_rows), FIRST):
        try:
            row = give()
        except Exception:  # noqa: BLE001, S112  # its entry will say why
            continue
        first.append(row)
        size += sum(len(value) if isinstance(value, str) else getattr(value, "nbytes", 0) for value in row.values())
        if size > MAX_TEXT:
            break
    return first


def _rows(table: Any, start: int, count: int) -> Iterator[Row]:
    """Yield a function for each row of a range. Only the row groups of these rows are decoded."""
    begin = 0
    for number in range(table.metadata.num_row_groups):
        end = begin + table.metadata.row_group(number).num_rows
        first, last = max(start, begin), min(start + count, end)
        if first < last:
            yield from _rows_of_group(table, number, first - begin, last - first)
        begin = end


def _rows_of_group(table: Any, number: int, skip: int, left: int) -> Iterator[Row]:
    """Yield a function for each row of a part of a row group. For damaged rows, the function raises the error."""
    reason = f"row group {number} ends {left} rows before the footer says"
    try:
        for batch in table.iter_batches(batch_size=_BATCH, row_groups=[number], use_threads=False):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            part = batch.slice(skip, left)
            skip = 0
            left -= part.num_rows
            yield from _rows_of_batch(part)
            if not left:
                return
    except Exception as error:  # noqa: BLE001  # what is damaged fails in many ways
        reason = f"row group {number} is damaged: {type(error).__name__}: {error}"
    for _ in range(left):
        yield partial(_refuse, f"{reason}; copy or download the file again")


def _rows_of_batch(batch: Any) -> Iterator[Row]:
    names = batch.schema.names
    try:
        columns = [_values(column) for column in batch.columns] if batch.nbytes <= MAX_TEXT else []
    except Exception:  # noqa: BLE001  # a value that Python cannot hold; its row will say so
        columns = []
    for number in range(batch.num_rows):
        if columns:
            yield partial(dict, zip(names, [column[number] for column in columns], strict=True))
        else:
            yield partial(_row_alone, batch.slice(number, 1))


def _row_alone(batch: Any) -> dict[str, Any]:
    """Return a batch of one row.

    Raises:
        UnreadableInput: the row is too long.
    """
    if batch.nbytes > MAX_TEXT:
        raise too_long()
    return dict(zip(batch.schema.names, [_values(column)[0] for column in batch.columns], strict=True))


def _refuse(reason: str) -> NoReturn:
    raise UnreadableInput(reason)


def _values(column: Any) -> list[Any]:
    """Return the values of a column as Python objects and numpy arrays; None for missing ones."""
    from pyarrow import types

    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind):
        inner = kind.value_type
        deep = types.is_list(inner) or types.is_large_list(inner)
        leaf = inner.value_type if deep else inner
        if (types.is_floating(leaf) or types.is_integer(leaf)) and (found := _arrays(column, deep=deep)) is not None:
            return found
    return [_missing_if_empty(storable(value)) for value in column.to_pylist()]


def _arrays(column: Any, *, deep: bool) -> list[Any] | None:
    """Return one array per row; None if the lists hold nulls or rows of unequal length."""
    inner = column.flatten()
    if inner.null_count:
        return None
    width = None
    if deep:
        lengths = np.diff(inner.offsets.to_numpy())
        if len(lengths) and (lengths != lengths[0]).any():
            return None
        width = int(lengths[0]) if len(lengths) else 1
        inner = inner.flatten()
        if inner.null_count or width == 0:
            return None
    flat = inner.to_numpy(zero_copy_only=False)
    if width is not None:
        flat = flat.reshape(-1, width)
    lengths = column.value_lengths().to_pylist()
    rows, at = [], 0
    for length in lengths:
        rows.append(flat[at : at + length] if length else None)
        at += length or 0
    return rows


def _missing_if_empty(value: Any) -> Any:
    return None if isinstance(value, (list, dict)) and not value else value
