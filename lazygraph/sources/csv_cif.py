"""CSV with a structure in a column: CIF (the layout of CDVAE), POSCAR, or the JSON of a jarvis or pymatgen dict."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, default_id
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.records import broken_entry, entry_of, holds_structure, require_id_key
from lazygraph.sources.rowscan import rows
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming, pieces

__all__ = ["CsvSource", "sniff"]

_ROWS_SEEN = 16  # rows in which sniff looks for a structure


def sniff(head: bytes) -> bool:
    """Whether the first 64 KiB of a file are a header and rows with a structure in a cell."""
    if head.lstrip()[:1] in (b"[", b"{"):
        return False
    # The last row may be cut short inside a quoted cell: the reader then gives what there is.
    try:
        table = list(islice(csv.reader(io.StringIO(head.decode(errors="replace"), newline="")), _ROWS_SEEN))
    except csv.Error:
        return False
    return len(table) > 1 and any(len(row) > 1 and any(map(holds_structure, row)) for row in table[1:])


@dataclass(frozen=True, slots=True)
class CsvSource:
    """A CSV file with a header; every column is a label but the structure, the id and an unnamed index.

    Line breaks inside quoted cells and CRLF are fine. Labels are the raw texts of the cells.
    Memory: one piece of 1 MiB and one row. A zip or gzip is unpacked into the spool by ``scan``.

    Args:
        path: the ``.csv`` file, plain or in a zip or gzip.
        id_key: the column of the ids, if it is none of the usual ones.
        options: how structures are read.
    """

    kind: ClassVar[str] = "csv"

    path: str
    id_key: str | None = None
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return bare_name(self.path)

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path, spool)
        with naming(path):
            table = rows(intake, quoted=True)
            _, first = next(table, (0, b""))
            header = _header(first)
            require_id_key(dict.fromkeys(header), self.id_key)
            count, marks = marked((offset for offset, _ in table), every)
        return Scan(count, marks, (intake.file,))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        with body(Path(self.path), spool).open("rb") as file:
            _, first = next(rows(pieces(file), quoted=True))
            header = _header(first)
            file.seek(cut.mark)
            for position, (_, text) in enumerate(islice(rows(pieces(file), quoted=True), cut.count), cut.start):
                yield self._entry(text, header, default_id(self.name, position))

    def _entry(self, text: bytes, header: list[str], default: str) -> Entry:
        try:
            cells = _cells(text)
        except (csv.Error, UnicodeDecodeError) as error:
            return broken_entry(default, UnreadableInput(f"not a CSV row: {error}"))
        if len(cells) != len(header):
            msg = (
                f"found a row of {len(cells)} cells; required: {len(header)}, one for each of the columns {header[:12]}"
            )
            return broken_entry(default, UnreadableInput(msg))
        # pandas writes its index under no name, and calls it "Unnamed: 0" when it writes the table again.
        record = {
            name: cell for name, cell in zip(header, cells, strict=True) if name and not name.startswith("Unnamed: ")
        }
        return entry_of(record, self.id_key, default, options=self.options)


def _header(text: bytes) -> list[str]:
    """The names of the columns.

    Raises:
        UnreadableInput: there are none, or a name stands twice.
    """
    try:
        names = [name.strip() for name in _cells(text.lstrip())] if text else []
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"not a CSV header: {error}"
        raise UnreadableInput(msg) from error
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    if not any(names) or twice:
        found = f"the columns {twice} more than once" if twice else "no header"
        msg = f"found {found}; required: a first row with the name of every column"
        raise UnreadableInput(msg)
    return names


def _cells(text: bytes) -> list[str]:
    row = text.decode().removesuffix("\r")
    limit = csv.field_size_limit()
    if len(row) <= limit:
        return next(csv.reader([row], strict=True))
    # The csv module refuses long cells by a limit that the whole process shares.
    csv.field_size_limit(len(row))
    try:
        return next(csv.reader([row], strict=True))
    finally:
        csv.field_size_limit(limit)
