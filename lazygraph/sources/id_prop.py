"""A folder with ``id_prop.csv``: the layouts of CGCNN (``id,value`` and ``id.cif``) and ALIGNN (``file,value``)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from lazygraph.crystal import Crystal
from lazygraph.errors import LabelError, UnreadableInput
from lazygraph.sources.base import (
    ID_KEYS,
    Cut,
    Entry,
    Remark,
    Scan,
    attempt,
    label_value,
    open_regular,
    read_entry,
    require_length,
)
from lazygraph.sources.dialect import cells_of, decimal_comma, delimiter_of, with_points
from lazygraph.sources.files import (
    hash_files,
    is_structure_name,
    named,
    read_lines,
    read_structure,
    structure_id,
    write_lines,
)
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.rowscan import rows as rows_of
from lazygraph.sources.structure_keys import FIRST
from lazygraph.sources.unpack import naming, pieces

__all__ = ["TABLE", "IdPropSource"]

TABLE = "id_prop.csv"
ID_NAMES = frozenset((*ID_KEYS, "id", "cif_id", "file", "filename", "file_name"))
WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, slots=True)
class IdPropSource:
    """The rows of ``id_prop.csv``, in order. The notes name structure files that it does not list.

    Without a header, one value column is the label ``target``, and several are ``target_0, target_1, ...``. A header
    gives other names. The id is the column that the header names, else the first column, or the stem of the file in it.
    The source holds only a path: it is picklable and safe in any thread or process. ``scan`` lists the rows in the
    spool and reads every structure file once to hash it.

    Args:
        path: the folder.
        options: options for reading CIF.
    """

    kind: ClassVar[str] = "id-prop"

    path: str
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.path).resolve().name

    def scan(self, every: int, spool: Path) -> Scan:
        """List the rows in the spool, hash the table and its files, and note the files beside them."""
        folder = Path(self.path)
        names, rows, told = _table(folder / TABLE)
        count, marks = write_lines(spool, ([names, *row] for row in rows), every)
        used = {_file_of(folder, row[0]) for row in rows}
        files, notes = hash_files([folder / TABLE, *sorted(path for path in used if _is_file(path))])
        beside = sorted(path for path in folder.iterdir() if is_structure_name(path) and path not in used)
        if beside:
            notes += (f"{len(beside)} structure files that no row of {TABLE} names: {named(beside)}",)
        return Scan(count, marks, files, (*told, *notes))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield one entry per row."""
        folder = Path(self.path)
        for names, key, *values in read_lines(spool, cut):
            yield read_entry(key, self._entry, folder, names, key, values)

    def _entry(self, folder: Path, names: list[str], key: str, values: list[str]) -> Entry:
        path = _file_of(folder, key)
        entry_id = structure_id(path) if path == folder / key else key
        remarks: list[Remark] = []
        crystal = attempt(self._read, path, names, values, remarks)
        return Entry(entry_id, crystal, dict(zip(names, values, strict=False)), remarks=tuple(remarks))

    def _read(self, path: Path, names: list[str], values: list[str], remarks: list[Remark]) -> Crystal:
        if len(values) != len(names):
            msg = f"the row of {path.name} has {len(values)} values; required: {len(names)}, for {', '.join(names)}"
            raise UnreadableInput(msg)
        if not os.path.lexists(path):
            msg = f"{TABLE} names {path.name}, which is not beside it; every row needs a structure file"
            raise UnreadableInput(msg)
        return read_structure(path, self.options, remarks)


def _file_of(folder: Path, key: str) -> Path:
    """Return the file of a row: the file in the first column (ALIGNN), or the CIF of this id (CGCNN)."""
    as_named, as_cif = folder / key, folder / f"{key}.cif"
    for path in (as_named, as_cif):
        if _is_file(path):
            return path
    return as_named if is_structure_name(as_named) else as_cif


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long for a file
        return False


class _Table(NamedTuple):
    """Names of the labels, and rows ``[id or file, value, ...]``."""

    names: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def _table(path: Path) -> _Table:
    """Return the rows of the table, by name if it has a header.

    Raises:
        UnreadableInput: it cannot be read, has no rows, or it is unclear which column is the id or where a number ends.
    """
    try:
        texts = _texts(path)
        delimiter = delimiter_of(texts[:FIRST])
        rows = [[cell.strip() for cell in cells_of(text, delimiter)] for text in texts]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path}: {error}; required: a text table of ids or file names and values"
        raise UnreadableInput(msg) from error
    rows = [row for row in rows if any(row)]
    header = rows.pop(0) if rows and _is_header(rows[0], path.parent) else None
    if not rows:
        msg = f"{path} has no rows; it needs one line per structure, with an id or file name and a value"
        raise UnreadableInput(msg)
    with naming(path):
        table = _without_header(rows, path.parent) if header is None else _by_name(header, rows, path.parent)
        comma = decimal_comma(cell for row in table.rows for cell in row[1:])
    if comma is None:
        return table
    notes = (f"numbers of {TABLE} are read with decimal commas, such as {comma!r}",)
    return _Table(table.names, [[row[0], *map(with_points, row[1:])] for row in table.rows], notes)


def _texts(path: Path) -> list[str]:
    texts = []
    with open_regular(path) as file, naming(path):
        for offset, text in rows_of(pieces(file), quoted=True):
            require_length(text)
            # Blanks stand at the beginning in place of a byte-order mark.
            texts.append((text if offset else text.lstrip(b" ")).decode().removesuffix("\r"))
    return texts


def _by_name(header: list[str], rows: list[list[str]], folder: Path) -> _Table:
    """Return the rows with the column of ids first: the column with a usual name, or the first one."""
    if all(len(row) != len(header) for row in rows):
        msg = (
            f"the header has {len(header)} columns, {', '.join(map(repr, header))}, and the rows have {len(rows[0])}, "
            f"such as {', '.join(map(repr, rows[0][:6]))}; give each column a name, and write numbers with decimal "
            "points"
        )
        raise UnreadableInput(msg)
    named = [place for place, name in enumerate(header) if name.lower() in ID_NAMES]
    place = named[0] if named else 0
    if not named and _is_index(header[0], [row[0] for row in rows]) and len(header) > 1:
        found = [p for p in range(1, len(header)) if _names_files(rows, p, folder)]
        if len(found) != 1:
            msg = (
                f"the first column of the header {', '.join(map(repr, header))} is an index, and "
                f"{'several columns name' if found else 'no other column names'} structure files; give the column of "
                "the ids the name 'id'"
            )
            raise UnreadableInput(msg)
        place = found[0]
    kept = [p for p, name in enumerate(header) if p != place and name and not name.startswith("Unnamed: ")]
    kept = [p for p in kept if not (p == 0 and _is_index("", [row[0] for row in rows]) and place)]
    names = [header[p] for p in kept]
    if len(set(names)) < len(names):
        msg = f"the header {', '.join(map(repr, header))} has a name twice; use each name once"
        raise UnreadableInput(msg)
    whole = len(header)
    return _Table(names, [[row[place], *(row[p] for p in kept)] if len(row) == whole else row for row in rows])


def _without_header(rows: list[list[str]], folder: Path) -> _Table:
    """Return the table of a file without a header: the first column is the id, the others are labels."""
    width = len(rows[0]) - 1
    if width > 1 and _is_index("", [row[0] for row in rows]) and _names_files(rows, 1, folder):
        msg = (
            "the first column counts the rows as the index of a pandas table does, and the second names structure "
            "files; add a header that names the columns, or leave the index out (index=False)"
        )
        raise UnreadableInput(msg)
    if width and width % 2 == 0 and all(_is_cut_number(row) for row in rows):
        msg = (
            f"the rows hold whole numbers in pairs, such as {', '.join(map(repr, rows[0][1:3]))}: two labels, or one "
            "with a decimal comma; add a header that names the columns, or use decimal points"
        )
        raise UnreadableInput(msg)
    return _Table(["target"] if width == 1 else [f"target_{i}" for i in range(width)], rows)


def _is_index(name: str, cells: list[str]) -> bool:
    """Tell whether a column counts the rows, as pandas' index does."""
    return (not name or name.startswith("Unnamed: ") or name == "index") and cells == [
        str(i) for i in range(len(cells))
    ]


def _names_files(rows: list[list[str]], place: int, folder: Path) -> bool:
    cells = [row[place] for row in rows if place < len(row)]
    return len(set(cells)) == len(cells) == len(rows) and all(_is_file(_file_of(folder, cell)) for cell in cells)


def _is_cut_number(row: list[str]) -> bool:
    """Tell whether the values of a row could be numbers that were cut at their decimal commas."""
    return all(WHOLE.fullmatch(a) and b.isdecimal() for a, b in zip(row[1::2], row[2::2], strict=False))


def _is_header(row: list[str], folder: Path) -> bool:
    """Tell whether a first row is a header: its values are words, and it names no file."""
    if any(cell.lower() in ID_NAMES for cell in row) and not _is_file(_file_of(folder, row[0])):
        return True
    try:
        for value in row[1:]:
            label_value(with_points(value))
    except LabelError:
        return not _is_file(_file_of(folder, row[0]))
    return False
