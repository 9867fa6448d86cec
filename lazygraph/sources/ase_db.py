"""ASE sqlite databases (``.db``): one entry per row, with its results, its key-value pairs and its data."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources.ase_rows import NOT_LABELS, OF_ATOMS
from lazygraph.sources.base import Cut, Entry, Scan, attempt, hash_file, read_entry
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.objects import storable
from lazygraph.sources.plain_values import plain
from lazygraph.sources.units import ASE

__all__ = ["AseDbSource", "sniff"]

SQLITE = b"SQLite format 3\0"
# Views and virtual tables have no page of their own.
STORED = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'systems' AND rootpage > 0"


@dataclass(frozen=True, slots=True)
class AseDbSource:
    """One entry per row, in the order of row ids.

    Labels are the results of the calculator, the key-value pairs and the data. If two of them share a name, the first
    in this order is used. The source holds only a path: it is picklable and safe in any process. Each ``scan`` and
    ``read`` opens the database read-only. A row takes about 200 us.

    Args:
        path: the database.
        id_key: the key-value pair, or entry of the data, that holds the id; by default it is the row's number.
    """

    kind: ClassVar[str] = "ase-db"

    path: str
    id_key: str | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffixes."""
        return Path(self.path).name.removesuffix(".db").removesuffix(".ase")

    def scan(self, every: int, spool: Path) -> Scan:  # noqa: ARG002  # nothing to unpack
        """Count the rows, and hash the file."""
        try:
            file = hash_file(Path(self.path))  # which refuses what is no regular file
            ids = self._ids(0, -1)
            return Scan(len(ids), tuple(ids[::every]), (file,), implied=ASE)
        except (OSError, sqlite3.Error) as error:
            msg = f"cannot read {self.path}: {error}; required: an sqlite database written by ASE"
            raise UnreadableInput(msg) from error

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:  # noqa: ARG002  # nothing was unpacked
        """Yield the rows of one range."""
        from ase.db import connect

        database = connect(self.path, type="db", use_lock_file=False)
        for row_id in self._ids(cut.mark, cut.count):
            yield read_entry(str(row_id), self._entry, database, row_id)

    def _entry(self, database: Any, row_id: int) -> Entry:
        values: dict[str, Any] = {}
        of_atoms: dict[str, Any] = {}
        crystal = attempt(_read_row, database, row_id, values, of_atoms)
        entry_id = str(row_id)
        if self.id_key is not None:
            try:
                entry_id = take_id(values, self.id_key, entry_id)
            except UnreadableInput as error:
                crystal = error if isinstance(crystal, Crystal) else crystal
        return Entry(entry_id, crystal, values, atom_labels=of_atoms)

    def _ids(self, first: int, limit: int) -> list[int]:
        """Return row ids from one on; -1 means no limit.

        Raises:
            UnreadableInput: a view or a module of sqlite computes the rows, which may be endless.
        """
        query = "SELECT id FROM systems WHERE id >= ? ORDER BY id LIMIT ?"
        with closing(sqlite3.connect(f"{Path(self.path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute(STORED).fetchone():
                msg = f"cannot read {self.path}: no table 'systems'; required: an sqlite database written by ASE"
                raise UnreadableInput(msg)
            return [row_id for (row_id,) in connection.execute(query, (first, limit))]


def sniff(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of an sqlite database."""
    return head.startswith(SQLITE)


def _read_row(database: Any, row_id: int, values: dict[str, Any], of_atoms: dict[str, Any]) -> Crystal:
    """Return the crystal of one row; all else that the row holds is left in ``values`` and ``of_atoms``."""
    row = database.get(row_id)
    values.update({key: storable(plain(value)) for key, value in row.data.items()})
    for key in row:
        if key in OF_ATOMS:
            of_atoms[key] = row[key]
            values.pop(key, None)
        elif key not in NOT_LABELS:
            values[key] = storable(row[key])
    return Crystal.from_cartesian(row.cell, row.positions, row.numbers, tuple(row.pbc))
