"""A folder with ``id_prop.csv``: the layouts of CGCNN (``id,value`` and ``id.cif``) and ALIGNN (``file,value``)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import LabelError, UnreadableInput
from lazygraph.sources.base import Cut, Entry, Remark, Scan, attempt, label_value
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

__all__ = ["TABLE", "IdPropSource"]

TABLE = "id_prop.csv"


@dataclass(frozen=True, slots=True)
class IdPropSource:
    """The rows of ``id_prop.csv`` are the data set, in their order; other structure files are named in the notes.

    One value column is the label ``target``, several are ``target_0, target_1, ...``, and a header names them
    otherwise. The id is the first column, or the stem of the file that it names. Holds a path only: picklable, safe
    in any thread or process. ``scan`` lists the rows in the spool and reads every structure file once to hash it.

    Args:
        path: the folder.
        options: how CIF is read.
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
        names, rows = _table(folder / TABLE)
        count, marks = write_lines(spool, ([names, *row] for row in rows), every)
        used = {_file_of(folder, row[0]) for row in rows}
        files, notes = hash_files([folder / TABLE, *sorted(path for path in used if path.is_file())])
        beside = sorted(path for path in folder.iterdir() if is_structure_name(path) and path not in used)
        if beside:
            notes += (f"{len(beside)} structure files that no row of {TABLE} names: {named(beside)}",)
        return Scan(count, marks, files, notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield one entry per row."""
        folder = Path(self.path)
        for names, key, *values in read_lines(spool, cut):
            path = _file_of(folder, key)
            entry_id = structure_id(path) if path == folder / key else key
            remarks: list[Remark] = []
            crystal = attempt(self._read, path, names, values, remarks)
            yield Entry(entry_id, crystal, dict(zip(names, values, strict=False)), remarks=tuple(remarks))

    def _read(self, path: Path, names: list[str], values: list[str], remarks: list[Remark]) -> Crystal:
        if len(values) != len(names):
            msg = f"the row of {path.name} has {len(values)} values; required: {len(names)}, for {', '.join(names)}"
            raise UnreadableInput(msg)
        if not path.is_file():
            msg = f"{TABLE} names {path.name}, which is not beside it; required: one structure file per row"
            raise UnreadableInput(msg)
        return read_structure(path, self.options, remarks)


def _file_of(folder: Path, key: str) -> Path:
    """The file that the first column means: itself (ALIGNN), or the CIF of that id (CGCNN)."""
    as_named, as_cif = folder / key, folder / f"{key}.cif"
    for path in (as_named, as_cif):
        if path.is_file():
            return path
    return as_named if is_structure_name(as_named) else as_cif


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Label names and rows ``[key, value, ...]`` of the table, without its header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path}: {error}; required: a text table of ids or file names and values"
        raise UnreadableInput(msg) from error
    header = rows.pop(0) if rows and _is_header(rows[0], path.parent) else None
    if not rows:
        msg = f"{path} has no rows; required: one line per structure, an id or file name and a value"
        raise UnreadableInput(msg)
    if header is not None:
        return header[1:], rows
    width = len(rows[0]) - 1
    return ["target"] if width == 1 else [f"target_{i}" for i in range(width)], rows


def _is_header(row: list[str], folder: Path) -> bool:
    """A first row is a header if its values are words and it names no file."""
    try:
        for value in row[1:]:
            label_value(value)
    except LabelError:
        return not _file_of(folder, row[0]).is_file()
    return False
