"""Extended XYZ, plain or gzip: many frames in one text file, with labels in the comment line and in extra columns.

The comment line is read by ASE, which defines its grammar; the columns are read here, because ASE turns ``stress``
into six numbers and moves results into a calculator. 130 to 190 us a frame of 8 to 31 atoms; ASE takes 210 us.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from lazygraph.crystal import Crystal, symbols_to_numbers
from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import ID_KEYS, MAX_TEXT, Cut, Entry, Scan, attempt, default_id, read_entry, require_length
from lazygraph.sources.records import id_text
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming

__all__ = ["ExtxyzSource", "numeric_labels", "sniff", "take_id"]

DIGITS = 12  # of a count of atoms; more are no count
COUNT_LINE = 1000  # bytes of the line that holds it
PIECE = 1 << 20  # bytes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FIRST_LINES = re.compile(rb"\s*\d+[ \t]*\r?\n[^\n]*(Lattice|Properties)\s*=")


@dataclass(frozen=True, slots=True)
class ExtxyzSource:
    """One entry per frame, in the order of the file; numbers are those of the text.

    Labels are the numbers and numeric arrays of the comment line and the numeric columns beside the positions. Holds a
    path only: picklable, safe in any thread or process. A gzip file is unpacked into the spool by ``scan``.

    Args:
        path: the file.
        id_key: the comment key that holds the id; by default the first of ``ID_KEYS`` that a frame has, else
            ``NAME-0000012``.
    """

    kind: ClassVar[str] = "extxyz"

    path: str
    id_key: str | None = None

    @property
    def name(self) -> str:
        """The file's name without folders and suffixes."""
        return bare_name(self.path).removesuffix(".xyz").removesuffix(".extxyz")

    def scan(self, every: int, spool: Path) -> Scan:
        """Find where the frames begin, and hash the file."""
        path = Path(self.path)
        intake = Intake(path, spool)
        with naming(path):
            count, marks = marked(_frames(intake), every)
        return Scan(count, marks, (intake.file,))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the frames of one range."""
        with body(Path(self.path), spool).open("rb") as file:
            file.seek(cut.mark)
            for position in range(cut.start, cut.start + cut.count):
                default = default_id(self.name, position)
                yield read_entry(default, self._entry, *_next_frame(file), default)

    def _entry(self, n_atoms: int, lines: list[bytes], default: str) -> Entry:
        require_length(lines[0] if lines else b"")
        info: dict[str, Any] = {}
        columns: dict[str, Any] = {}
        texts = [line.decode("utf-8", "replace") for line in lines]
        crystal = attempt(_parse, n_atoms, texts, info, columns)
        try:
            return Entry(take_id(info, self.id_key, default), crystal, numeric_labels(info | columns))
        except UnreadableInput as error:
            reason = error if isinstance(crystal, Crystal) else crystal
            return Entry(default, reason, numeric_labels(info | columns))


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are a count and a comment line of extended XYZ."""
    return FIRST_LINES.match(head) is not None


def numeric_labels(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are numbers or arrays of numbers, as Python numbers and numpy arrays; truth values are not.

    Example:
        >>> numeric_labels({"energy": np.float64(-1.5), "source": "MPtrj", "relaxed": True, "dipole": [0, 0, 1]})
        {'energy': -1.5, 'dipole': array([0, 0, 1])}
    """
    labels: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (str, bytes, bool, Mapping)) or value is None:
            continue
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list is no array of numbers
            continue
        if array.dtype.kind in "iuf" and array.size:
            labels[name] = array if array.ndim else array.item()
    return labels


def take_id(values: dict[str, Any], id_key: str | None, default: str) -> str:
    """Remove the id from the values beside a structure, and return it.

    Args:
        values: names -> values; loses the id.
        id_key: the name of the id; the first of ``ID_KEYS`` that is there if it is ``None``.
        default: the id where there is none, and ``id_key`` is ``None``.

    Raises:
        UnreadableInput: there is no ``id_key``, or its value is neither a text nor a number.
    """
    key = next((key for key in ID_KEYS if key in values), None) if id_key is None else id_key
    if key is None:
        return default
    if key not in values:
        msg = f"found no {key}, but {', '.join(map(str, values)) or 'nothing'}; required: the key that holds the id"
        raise UnreadableInput(msg)
    value = values.pop(key)
    return id_text(value.item() if isinstance(value, np.generic) else value)


def _frames(chunks: Iterable[bytes]) -> Iterator[int]:
    """The byte offset of every frame; only the lines with counts are looked at, and no line is held whole."""
    lines = skip = offset = 0  # lines ended so far; lines that belong to the last frame; where this piece begins
    start, head = 0, b""  # of the line that has not ended yet: its offset, and how it begins
    for chunk in chunks:
        ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")).tolist()
        line = begin = 0
        while True:
            if skip:
                passed = min(skip, len(ends) - line)
                if passed:
                    line, lines, skip = line + passed, lines + passed, skip - passed
                    begin = ends[line - 1] + 1
                    start, head = offset + begin, b""
                if skip:
                    break
            end = ends[line] if line < len(ends) else len(chunk)
            head += chunk[begin : min(end, begin + COUNT_LINE - len(head))]
            if line == len(ends):
                break
            line, begin = line + 1, end + 1
            lines += 1
            if (n_atoms := _count(head, lines)) is not None:
                yield start
                skip = n_atoms + 1
            start, head = offset + begin, b""
        offset += len(chunk)
    if not skip and _count(head, lines + 1) is not None:
        yield start


def _count(line: bytes, number: int) -> int | None:
    """The number of atoms that a line says; None for a blank one, which may stand between frames and at the end."""
    text = line.strip()
    if not text and len(line) < COUNT_LINE:
        return None
    if not text.isdigit() or len(text) > DIGITS:
        msg = f"line {number} is {text[:40]!r}; required: the number of atoms of the next frame"
        raise UnreadableInput(msg)
    return int(text)


def _next_frame(file: BinaryIO) -> tuple[int, list[bytes]]:
    """The number of atoms of the frame that begins here; its comment line and atom lines, as many as there are.

    Of a frame that is too long nothing is held but its first line, which then is too long too.
    """
    while (count := file.readline().removeprefix(BYTE_ORDER_MARK)) and not count.strip():
        pass
    if not count.strip().isdigit():
        msg = f"found {count[:40]!r} where a frame began when the file was scanned; the file has changed since"
        raise UnreadableInput(msg)
    n_atoms = int(count)
    lines: list[bytes] = []
    room = MAX_TEXT
    for number in range(n_atoms + 1):
        line = file.readline(room + 1)
        if not line:
            break
        room -= len(line)
        if room < 0:
            _skip_lines(file, n_atoms + 1 - number - line.endswith(b"\n"))
            return n_atoms, [bytes(MAX_TEXT + 1)]
        lines.append(line)
    return n_atoms, lines


def _skip_lines(file: BinaryIO, n: int) -> None:
    """Read on until so many lines have ended, or the file has."""
    while n and (piece := file.readline(PIECE)):
        n -= piece.endswith(b"\n")


def _parse(n_atoms: int, lines: list[str], info: dict[str, Any], columns: dict[str, Any]) -> Crystal:
    """The crystal of one frame; what its comment says is left in ``info``, its other columns in ``columns``."""
    from ase.io.extxyz import key_val_str_to_dict

    if len(lines) != n_atoms + 1:
        msg = f"the file ends after {len(lines)} lines of this frame; required: a comment and {n_atoms} atoms"
        raise UnreadableInput(msg)
    info.update(key_val_str_to_dict(lines[0]) if lines[0].strip() else {})
    lattice = info.pop("Lattice", None)
    pbc = info.pop("pbc", lattice is not None)
    properties = str(info.pop("Properties", "species:S:1:pos:R:3"))
    columns.update(_columns(lines[1:], properties))
    if "pos" not in columns or columns.keys().isdisjoint({"species", "Z"}):
        msg = f"found Properties={properties}; required: pos, and species or Z"
        raise UnreadableInput(msg)
    if "species" in columns:
        numbers = symbols_to_numbers([symbol.capitalize() for symbol in columns.pop("species")])
        columns.pop("Z", None)
    else:
        numbers = columns.pop("Z")
    positions = columns.pop("pos")
    # ASE hands over the nine numbers as columns; rows are the lattice vectors here
    cell = np.zeros((3, 3)) if lattice is None else lattice.T
    return Crystal.from_cartesian(cell, positions, numbers, tuple(np.broadcast_to(pbc, (3,)).tolist()))


def _columns(lines: list[str], properties: str) -> dict[str, Any]:
    """Per-atom arrays named by ``name:type:width:...``: (N,) or (N, width) numbers; texts as a list."""
    rows = [line.split() for line in lines]
    fields = properties.split(":")
    if len(fields) % 3 or not all(map(str.isdigit, fields[2::3])):
        msg = f"found Properties={properties}; required: name:type:width, and again for each property"
        raise UnreadableInput(msg)
    widths = [int(width) for width in fields[2::3]]
    short = next((i for i, row in enumerate(rows) if len(row) < sum(widths)), None)
    if short is not None:
        msg = (
            f"atom {short} of {len(rows)} has {len(rows[short])} columns; required: {sum(widths)}, as {properties} says"
        )
        raise UnreadableInput(msg)
    found: dict[str, Any] = {}
    at = 0
    for name, kind, width in zip(fields[::3], fields[1::3], widths, strict=True):
        values = [row[at : at + width] for row in rows]
        at += width
        if kind in {"R", "I"}:
            array = np.array([[float(text) if kind == "R" else int(text) for text in row] for row in values])
            found[name] = array[:, 0] if width == 1 else array
        elif name == "species":
            found[name] = [row[0] for row in values]
    return found
