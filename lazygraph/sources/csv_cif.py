"""Tables of text with a structure in a column: CIF (the layout of CDVAE), POSCAR, or the JSON of a structure dict.

Cells are separated by commas, semicolons or tabs; numbers may have decimal commas.
"""

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
from lazygraph.sources.base import ID_KEYS, Cut, Entry, Scan, default_id, read_entry, require_length
from lazygraph.sources.dialect import DELIMITERS, cells_of, decimal_comma, delimiter_of, with_points
from lazygraph.sources.facts import recall, remember
from lazygraph.sources.file_source import RecordSource
from lazygraph.sources.record_entries import look_at_records, place_of
from lazygraph.sources.records import broken_entry, entry_of, holds_structure
from lazygraph.sources.rowscan import rows
from lazygraph.sources.structure_keys import FirstTexts, StructurePlace
from lazygraph.sources.unpack import Intake, body, marked, naming, pieces

__all__ = ["CsvSource", "sniff"]

ID_NAMES = frozenset((*ID_KEYS, "id"))
_ROWS_SEEN = 16  # rows in which sniff looks for a structure


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file are a header and rows with a structure in a cell."""
    if head.lstrip()[:1] in (b"[", b"{"):
        return False
    text = head.decode(errors="replace")
    return any(_holds_structures(text, delimiter) for delimiter in DELIMITERS)


def _holds_structures(text: str, delimiter: str) -> bool:
    # The last row may be cut inside a quoted cell. The reader then gives the part of it.
    try:
        table = list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), _ROWS_SEEN))
    except csv.Error:
        return False
    return len(table) > 1 and any(len(row) > 1 and any(map(holds_structure, row)) for row in table[1:])


@dataclass(frozen=True, slots=True)
class _Written:
    """The dialect of a table, as the scan found it."""

    header: list[str]
    delimiter: str
    place: StructurePlace | None
    comma: bool
    """Numbers have decimal commas."""


@dataclass(frozen=True, slots=True)
class CsvSource(RecordSource):
    """A text table with a header. All columns are labels, except for the structure, the id and an unnamed index.

    Quoted cells may contain line breaks, and lines may end in CRLF. Labels are the raw texts of the cells, with decimal
    points. Memory: one piece of 1 MiB and one row. ``scan`` unpacks a zip or gzip into the spool.

    Args:
        path: the ``.csv`` or ``.tsv`` file, plain or in a zip or gzip.
        id_key: the column of the ids, if it has no usual name.
        options: how structures are read.
    """

    kind: ClassVar[str] = "csv"

    def scan(self, every: int, spool: Path) -> Scan:
        """Count, hash and mark; see :class:`~lazygraph.sources.base.Source`."""
        path = Path(self.path)
        intake = Intake(path, spool)
        first = FirstTexts()

        def offsets(table: Iterator[tuple[int, bytes]]) -> Iterator[int]:
            for offset, text in table:
                first.see(text)
                yield offset

        with naming(path):
            table = rows(intake, quoted=True)
            _, head = next(table, (0, b""))
            count, marks = marked(offsets(table), every)
            require_length(head)
            notes = self._look(head, first.texts, spool)
        return Scan(count, marks, (intake.file,), notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut; see :class:`~lazygraph.sources.base.Source`."""
        facts = recall(spool)
        written = _Written(facts["header"], facts["delimiter"], place_of(facts), facts["comma"])
        name = self.name
        with body(Path(self.path), spool).open("rb") as file:
            file.seek(cut.mark)
            for position, (_, text) in enumerate(islice(rows(pieces(file), quoted=True), cut.count), cut.start):
                default = default_id(name, position)
                yield read_entry(default, self._entry, text, written, default)

    def _look(self, head: bytes, first: list[bytes], spool: Path) -> tuple[str, ...]:
        """Find the dialect of the table and the column of structures, store both, and return notes."""
        try:
            texts = [row.decode().removesuffix("\r") for row in (head.lstrip(b" "), *first[:_ROWS_SEEN])]
        except UnicodeDecodeError:
            texts = [head.lstrip(b" ").decode(errors="replace").removesuffix("\r")]
        delimiter = delimiter_of(texts)
        header = _header(head, delimiter)
        records = [dict(zip(header, row, strict=True)) for row in _whole_rows(first, header, delimiter)]
        found = look_at_records(self.id_key, self.options)([_named(r) for r in records] or [dict.fromkeys(header)])
        ids = ID_NAMES if self.id_key is None else {self.id_key}
        comma = decimal_comma(
            cell
            for record in records
            for name, cell in record.items()
            if name not in ids and "\n" not in cell and len(cell) < 40
        )
        remember(spool, {**found.facts, "delimiter": delimiter, "header": header, "comma": comma is not None})
        notes = list(found.notes)
        if comma is not None:
            notes.append(f"numbers are read with decimal commas, such as {comma!r}")
        nameless = [name for name in header if _nameless(name)]
        if odd := [name for name in nameless if not all(r[name].strip().isdecimal() for r in records)]:
            notes.append(f"{len(odd)} columns without a name are left out, in which stands {records[0][odd[0]][:40]!r}")
        return tuple(notes)

    def _entry(self, text: bytes, written: _Written, default: str) -> Entry:
        require_length(text)
        header = written.header
        try:
            cells = cells_of(text.decode().removesuffix("\r"), written.delimiter)
        except (csv.Error, UnicodeDecodeError) as error:
            return broken_entry(default, UnreadableInput(f"not a CSV row: {error}"))
        if len(cells) != len(header):
            msg = (
                f"found a row of {len(cells)} cells; required: {len(header)}, one for each of the columns {header[:12]}"
            )
            return broken_entry(default, UnreadableInput(msg))
        record = _named(dict(zip(header, cells, strict=True)))
        entry = entry_of(record, written.place, self.id_key, default, options=self.options)
        if written.comma:
            labels = {n: with_points(v) if isinstance(v, str) else v for n, v in entry.labels.items()}
            return entry._replace(labels=labels)
        return entry


def _named(record: dict[str, str]) -> dict[str, str]:
    """Return the cells with a name. pandas writes its index without a name, or as "Unnamed: 0" after another pass."""
    return {name: cell for name, cell in record.items() if not _nameless(name)}


def _nameless(name: str) -> bool:
    return not name or name.startswith("Unnamed: ")


def _whole_rows(texts: list[bytes], header: list[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of readable rows."""
    for text in texts:
        try:
            cells = cells_of(text.decode().removesuffix("\r"), delimiter)
        except (csv.Error, UnicodeDecodeError):
            continue
        if len(cells) == len(header):
            yield cells


def _header(text: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns.

    Raises:
        UnreadableInput: there are no columns, or a name appears twice.
    """
    try:
        row = text.lstrip(b" ").decode().removesuffix("\r")
        names = [name.strip() for name in cells_of(row, delimiter)] if text else []
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"not a CSV header: {error}"
        raise UnreadableInput(msg) from error
    if any(map(holds_structure, names)):
        msg = "the first row holds a structure; it must hold the names of the columns"
        raise UnreadableInput(msg)
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    if not any(names) or twice:
        problem = f"the header has the columns {twice} more than once" if twice else "there is no header"
        msg = f"{problem}; the first row must name every column, each once"
        raise UnreadableInput(msg)
    return names
