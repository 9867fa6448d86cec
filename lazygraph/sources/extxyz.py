"""Extended XYZ, plain or gzip: many frames in one text file, with labels in the comment line and in extra columns.

Values of the comment line belong to the crystal, values of columns to its atoms. lazygraph reads the columns itself,
because ASE turns ``stress`` into six numbers and moves results into a calculator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from lazygraph.crystal import ATOMIC_NUMBERS, Crystal, symbols_to_numbers
from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import ID_KEYS, MAX_TEXT, Cut, Entry, Scan, attempt, default_id, read_entry, too_long
from lazygraph.sources.extxyz_comment import parse_comment, take_cell
from lazygraph.sources.records import id_text
from lazygraph.sources.units import EXTXYZ
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming

__all__ = ["ExtxyzSource", "sniff", "take_id"]

DIGITS = 12  # digits of a number of atoms; longer words are not a count
COUNT_LINE = 1000  # bytes of the line with the number of atoms
PIECE = 1 << 20  # bytes that are read at once
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FIRST_LINES = re.compile(rb"\s*\d+[ \t]*\r?\n[^\n]*(?i:Lattice|Properties)\s*=")
MARK = "\x00"  # a word that does not occur in a line
MOST_KEPT = 1000  # longer texts of properties are not cached
OF_NUMBERS = b"0123456789+-.eE,"
TRUTH = {"T": True, "F": False, "TRUE": True, "FALSE": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class ExtxyzSource:
    """One entry per frame, in the order of the file; numbers are those of the text.

    The values of the comment line are labels of the crystal, and the columns other than positions are labels of its
    atoms. The source holds only a path: it is picklable and safe in any thread or process. ``scan`` unpacks a gzip file
    into the spool.

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
        return Scan(count, marks, (intake.file,), implied=EXTXYZ)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the frames of one range."""
        with body(Path(self.path), spool).open("rb") as file:
            file.seek(cut.mark)
            name = self.name
            frames = _read_frames(file)
            for position, frame in enumerate(islice(frames, cut.count), cut.start):
                default = default_id(name, position)
                yield read_entry(default, self._entry, frame, default)

    def _entry(self, frame: _Frame | None, default: str) -> Entry:
        if frame is None:
            raise too_long()
        info: dict[str, Any] = {}
        columns: dict[str, Any] = {}
        crystal = attempt(_parse, frame, info, columns)
        try:
            return Entry(take_id(info, self.id_key, default), crystal, info, atom_labels=columns)
        except UnreadableInput as error:
            reason = error if isinstance(crystal, Crystal) else crystal
            return Entry(default, reason, info, atom_labels=columns)


def sniff(head: bytes) -> bool:
    """Tell whether the first bytes of a file are a count and a comment line of extended XYZ."""
    return FIRST_LINES.match(head) is not None


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
        msg = f"there is no key {key}; the keys are {', '.join(map(str, values)) or 'none'}"
        raise UnreadableInput(msg)
    value = values.pop(key)
    return id_text(value.item() if isinstance(value, np.generic) else value)


def _frames(chunks: Iterable[bytes]) -> Iterator[int]:
    """Yield the byte offset of every frame. This reads only the lines with counts, and holds no line as a whole."""
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
    """Return the number of atoms on a line; None for a blank line, which may stand between frames and at the end."""
    text = line.strip()
    if not text and len(line) < COUNT_LINE:
        return None
    if not text.isdigit() or len(text) > DIGITS:
        msg = f"line {number} is {text[:40]!r}; required: the number of atoms of the next frame"
        raise UnreadableInput(msg)
    return int(text)


class _Frame(NamedTuple):
    """The text of one frame."""

    n_atoms: int
    n_lines: int
    """The number of lines after the count: one more than atoms, or fewer at the end of the file."""
    comment: bytes
    atoms: bytes
    """The lines of the atoms."""


def _read_frames(file: BinaryIO) -> Iterator[_Frame | None]:
    """Yield the frames from the position of the file on. A frame that is too long gives None, and is not held."""
    data, ends, line = b"", list[int](), 0  # ends: where each whole line of data ends; line: the number of the next one
    while True:
        count = b""
        while not count.strip():  # blank lines may stand between frames
            if line == len(ends):
                data, ends, line = _with_more(file, data, ends, line)
                if not ends:
                    return
            count = data[ends[line - 1] + 1 if line else 0 : ends[line]].removeprefix(BYTE_ORDER_MARK)
            line += 1
        if not count.strip().isdigit():
            msg = f"found {count[:40]!r} where a frame began when the file was scanned; the file has changed since"
            raise UnreadableInput(msg)
        n_atoms = int(count)
        while len(ends) - line <= n_atoms:
            before = len(ends) - line
            data, ends, line = _with_more(file, data, ends, line)
            if len(data) > MAX_TEXT or len(ends) == before:
                break
        last = min(line + n_atoms + 1, len(ends))
        begin = ends[line - 1] + 1 if line else 0
        if last <= line + n_atoms and len(data) > MAX_TEXT:
            data, ends, line = _after_lines(file, n_atoms + 1 - (last - line)), [], 0
            yield None
            continue
        comment, atoms = (ends[line] if last > line else begin), (ends[last - 1] if last > line else begin)
        frame = _Frame(n_atoms, last - line, data[begin:comment], data[comment + 1 : atoms])
        yield frame if atoms - begin <= MAX_TEXT else None
        line = last


def _with_more(file: BinaryIO, data: bytes, ends: list[int], line: int) -> tuple[bytes, list[int], int]:
    """Return the lines from a line on, and at least one more where the file has one; and 0, its number.

    Reads 1 MiB or as much as is held already, so that a long frame is not copied again and again. A line that does not
    end within ``MAX_TEXT`` bytes is not read to its end.
    """
    parts = [data[ends[line - 1] + 1 :] if line else data]
    held = len(parts[0])
    size = min(max(PIECE, held), MAX_TEXT)
    while more := file.read(size):
        parts.append(more)
        held += len(more)
        if b"\n" in more or held > MAX_TEXT:
            break
    data = b"".join(parts)
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")).tolist()
    if not more and data and not data.endswith(b"\n"):
        ends.append(len(data))
    return data, ends, 0


def _after_lines(file: BinaryIO, n: int) -> bytes:
    """Read until so many lines, or the file, have ended. Return the text that was read beyond them."""
    while piece := file.read(PIECE):
        ends = np.flatnonzero(np.frombuffer(piece, dtype=np.uint8) == ord("\n"))
        if len(ends) >= n:
            return piece[ends[n - 1] + 1 :]
        n -= len(ends)
    return b""


def _parse(frame: _Frame, info: dict[str, Any], columns: dict[str, Any]) -> Crystal:
    """Return the crystal of one frame. The other values go to ``info`` (comment) and ``columns``."""
    n_atoms = frame.n_atoms
    if frame.n_lines != n_atoms + 1:
        msg = f"the file ends after {frame.n_lines} lines of this frame; required: a comment and {n_atoms} atoms"
        raise UnreadableInput(msg)
    info.update(parse_comment(frame.comment.decode("utf-8", "replace")))
    lattice, pbc, properties = take_cell(info)
    columns.update(_columns(frame.atoms.decode("utf-8", "replace"), n_atoms, properties))
    if "pos" not in columns or ("species" not in columns and "Z" not in columns):
        msg = f"found Properties={properties}; required: pos, and species or Z"
        raise UnreadableInput(msg)
    numbers = columns.pop("Z", None)
    if "species" in columns:
        by_symbol = _atomic_numbers(columns.pop("species"))
        if numbers is not None and not np.array_equal(numbers, by_symbol):
            msg = "the columns species and Z name different elements; make them equal, or leave one of them out"
            raise UnreadableInput(msg)
        numbers = by_symbol
    cell = np.zeros((3, 3)) if lattice is None else lattice
    return Crystal.from_cartesian(cell, columns.pop("pos"), numbers, pbc)


def _atomic_numbers(species: list[str]) -> NDArray[np.uint8]:
    try:
        return np.array([ATOMIC_NUMBERS[symbol] for symbol in species], dtype=np.uint8)
    except KeyError:
        return symbols_to_numbers([symbol.capitalize() for symbol in species])


class _Column(NamedTuple):
    """One property: its words in a line, and their kind (R, I, L or S)."""

    name: str
    kind: str
    begin: int
    end: int


@lru_cache(maxsize=256)
def _layout(properties: str) -> tuple[tuple[_Column, ...], int]:
    """Return the columns that ``name:type:width:...`` names, and the words of a line.

    Raises:
        UnreadableInput: the text is something else, or names a column twice.
    """
    fields = properties.split(":")
    names, kinds, widths = fields[::3], fields[1::3], fields[2::3]
    if len(fields) % 3 or not all(w.isdigit() and 0 < int(w) < 10**6 for w in widths) or not set(kinds) <= set("RILS"):
        msg = f"found Properties={properties}; required: name:type:width for each property; type R, I, L or S"
        raise UnreadableInput(msg)
    if len(set(names)) < len(names):
        msg = f"Properties={properties} has a name twice; use each name once"
        raise UnreadableInput(msg)
    found, at = [], 0
    for name, kind, width in zip(names, kinds, map(int, widths), strict=True):
        found.append(_Column(name, kind, at, at + width))
        at += width
    return tuple(found), at


def _columns(text: str, n_atoms: int, properties: str) -> dict[str, Any]:
    """Per-atom arrays: (N,) or (N, width) numbers or booleans; texts as a list."""
    columns, total = _layout(properties) if len(properties) <= MOST_KEPT else _layout.__wrapped__(properties)
    # All lines are split together, with a mark between them. Each line must have the number of words of the properties.
    words = text.replace("\n", f" {MARK} ").split()
    if n_atoms:
        marks = words[total :: total + 1]
        del words[total :: total + 1]
        if len(words) != n_atoms * total or marks != [MARK] * (n_atoms - 1):
            raise _wrong_width(text.split("\n"), properties, total)
    stride = total
    others: dict[int, list[str]] = {}  # place in a line -> its words that are no real numbers
    for at in reversed([at for column in columns if column.kind != "R" for at in range(column.begin, column.end)]):
        others[at] = words[at::stride]
        del words[at::stride]
        stride -= 1
    reals = _reals(words).reshape(n_atoms, stride)
    found: dict[str, Any] = {}
    taken = 0
    for name, kind, begin, end in columns:
        width = end - begin
        if kind == "R":
            found[name] = reals[:, taken] if width == 1 else reals[:, taken : taken + width]
            taken += width
            continue
        parts = [_converted(name, kind, others[at]) for at in range(begin, end)]
        if kind == "S":
            found[name] = parts[0] if width == 1 else [list(row) for row in zip(*parts, strict=True)]
        else:
            found[name] = np.array(parts[0] if width == 1 else list(zip(*parts, strict=True)))
    return found


def _wrong_width(lines: list[str], properties: str, total: int) -> UnreadableInput:
    widths = [len(line.split()) for line in lines]
    wrong = next((i for i, width in enumerate(widths) if width != total), 0)
    return UnreadableInput(
        f"atom {wrong} of {len(lines)} has {widths[wrong]} columns; required: {total}, as {properties} says"
    )


def _reals(words: list[str]) -> NDArray[np.float64]:
    """Return the words as floats. A JSON parser reads them if all are written as JSON numbers."""
    text = ",".join(words).encode()
    if not text.translate(None, OF_NUMBERS):
        try:
            array = np.array(orjson.loads(b"[" + text + b"]"), dtype=np.float64)
        except orjson.JSONDecodeError:
            pass
        else:
            if len(array) == len(words):
                return array
    return np.array(list(map(float, words)), dtype=np.float64)


def _converted(name: str, kind: str, words: list[str]) -> list[Any]:
    if kind == "S":
        return words
    if kind == "I":
        return list(map(int, words))
    try:
        return [TRUTH[word.upper()] for word in words]
    except KeyError as error:
        msg = f"found {error.args[0]!r} in the column {name}; required: T or F"
        raise UnreadableInput(msg) from None
