"""Extended XYZ, plain or gzip: many frames in one text file, with labels in the comment line and in extra columns.

What the comment line says is of the crystal, what stands in columns is of its atoms. The columns are read here, because
ASE turns ``stress`` into six numbers and moves results into a calculator.
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
from lazygraph.sources.base import ID_KEYS, Cut, Entry, Scan, attempt, default_id
from lazygraph.sources.extxyz_comment import parse_comment, take_cell
from lazygraph.sources.records import id_text
from lazygraph.sources.units import EXTXYZ
from lazygraph.sources.unpack import Intake, bare_name, body, marked, naming

__all__ = ["ExtxyzSource", "sniff", "take_id"]

DIGITS = 12  # of a count of atoms; more are no count
PIECE = 1 << 20  # bytes that are read at once
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FIRST_LINES = re.compile(rb"\s*\d+[ \t]*\r?\n[^\n]*(?i:Lattice|Properties)\s*=")
MARK = "\x00"  # a word that no line has
OF_NUMBERS = b"0123456789+-.eE,"
TRUTH = {"T": True, "F": False, "TRUE": True, "FALSE": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class ExtxyzSource:
    """One entry per frame, in the order of the file; numbers are those of the text.

    The values of the comment line are labels of the crystal, the columns beside the positions labels of its atoms.
    Holds a path only: picklable, safe in any thread or process. A gzip file is unpacked into the spool by ``scan``.

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
                yield self._entry(frame, default_id(name, position))

    def _entry(self, frame: _Frame, default: str) -> Entry:
        info: dict[str, Any] = {}
        columns: dict[str, Any] = {}
        crystal = attempt(_parse, frame, info, columns)
        try:
            return Entry(take_id(info, self.id_key, default), crystal, info, atom_labels=columns)
        except UnreadableInput as error:
            reason = error if isinstance(crystal, Crystal) else crystal
            return Entry(default, reason, info, atom_labels=columns)


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are a count and a comment line of extended XYZ."""
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
        msg = f"found no {key}, but {', '.join(map(str, values)) or 'nothing'}; required: the key that holds the id"
        raise UnreadableInput(msg)
    value = values.pop(key)
    return id_text(value.item() if isinstance(value, np.generic) else value)


def _frames(chunks: Iterable[bytes]) -> Iterator[int]:
    """The byte offset of every frame; only the lines with counts are looked at."""
    before = skip = 0  # before: lines ahead of this piece; skip: lines of it that belong to the last frame
    for base, piece, ends in _whole_lines(chunks):
        line = skip
        while line < len(ends):
            start = ends[line - 1] + 1 if line else 0
            text = piece[start : ends[line]].strip()
            if not text:
                line += 1  # blank lines may stand between frames and at the end
                continue
            if not text.isdigit() or len(text) > DIGITS:
                msg = f"line {before + line + 1} is {text[:40]!r}; required: the number of atoms of the next frame"
                raise UnreadableInput(msg)
            yield base + start
            line += int(text) + 2
        skip = line - len(ends)
        before += len(ends)


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes, list[int]]]:
    """The same bytes in pieces that end where a line ends: offset, bytes, and where each line ends."""
    base = 0
    held: list[bytes] = []
    for chunk in chunks:
        held.append(chunk)
        if b"\n" in chunk:
            piece = b"".join(held)
            ends = np.flatnonzero(np.frombuffer(piece, dtype=np.uint8) == ord("\n")).tolist()
            yield base, piece, ends
            base += ends[-1] + 1
            held = [piece[ends[-1] + 1 :]]
    if rest := b"".join(held):
        yield base, rest, [len(rest)]


class _Frame(NamedTuple):
    """One frame as its text stands in the file."""

    n_atoms: int
    n_lines: int
    """How many lines there are after the count; one more than atoms, or less where the file ends."""
    comment: str
    atoms: str
    """The lines of the atoms."""


def _read_frames(file: BinaryIO) -> Iterator[_Frame]:
    """The frames from where the file stands."""
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
            if len(ends) == before:
                break
        last = min(line + n_atoms + 1, len(ends))
        begin = ends[line - 1] + 1 if line else 0
        comment, atoms = (ends[line] if last > line else begin), (ends[last - 1] if last > line else begin)
        yield _Frame(n_atoms, last - line, _text(data[begin:comment]), _text(data[comment + 1 : atoms]))
        line = last


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _with_more(file: BinaryIO, data: bytes, ends: list[int], line: int) -> tuple[bytes, list[int], int]:
    """The lines from a line on, and at least one more where the file has one; and 0, its number.

    Reads 1 MiB or as much as is held already, so that a long frame is not copied again and again.
    """
    parts = [data[ends[line - 1] + 1 :] if line else data]
    size = max(PIECE, len(parts[0]))
    while more := file.read(size):
        parts.append(more)
        if b"\n" in more:
            break
    data = b"".join(parts)
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")).tolist()
    if not more and data and not data.endswith(b"\n"):
        ends.append(len(data))
    return data, ends, 0


def _parse(frame: _Frame, info: dict[str, Any], columns: dict[str, Any]) -> Crystal:
    """The crystal of one frame; what its comment says is left in ``info``, its other columns in ``columns``."""
    n_atoms = frame.n_atoms
    if frame.n_lines != n_atoms + 1:
        msg = f"the file ends after {frame.n_lines} lines of this frame; required: a comment and {n_atoms} atoms"
        raise UnreadableInput(msg)
    info.update(parse_comment(frame.comment))
    lattice, pbc, properties = take_cell(info)
    columns.update(_columns(frame.atoms, n_atoms, properties))
    if "pos" not in columns or ("species" not in columns and "Z" not in columns):
        msg = f"found Properties={properties}; required: pos, and species or Z"
        raise UnreadableInput(msg)
    numbers = columns.pop("Z", None)
    if "species" in columns:
        by_symbol = _atomic_numbers(columns.pop("species"))
        if numbers is not None and not np.array_equal(numbers, by_symbol):
            msg = "the columns species and Z name different elements; required: one of them, or the same"
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
    """One property: which of the words of a line it has, and of what kind they are (R, I, L or S)."""

    name: str
    kind: str
    begin: int
    end: int


@lru_cache(maxsize=256)
def _layout(properties: str) -> tuple[tuple[_Column, ...], int]:
    """The columns that ``name:type:width:...`` names, and the words of a line.

    Raises:
        UnreadableInput: the text is something else, or names a column twice.
    """
    fields = properties.split(":")
    names, kinds, widths = fields[::3], fields[1::3], fields[2::3]
    if len(fields) % 3 or not all(w.isdigit() and 0 < int(w) < 10**6 for w in widths) or not set(kinds) <= set("RILS"):
        msg = f"found Properties={properties}; required: name:type:width for each property; type R, I, L or S"
        raise UnreadableInput(msg)
    if len(set(names)) < len(names):
        msg = f"found Properties={properties}, with a name twice; required: each once"
        raise UnreadableInput(msg)
    found, at = [], 0
    for name, kind, width in zip(names, kinds, map(int, widths), strict=True):
        found.append(_Column(name, kind, at, at + width))
        at += width
    return tuple(found), at


def _columns(text: str, n_atoms: int, properties: str) -> dict[str, Any]:
    """Per-atom arrays: (N,) or (N, width) numbers or truth values; texts as a list."""
    columns, total = _layout(properties)
    # All lines at once, with a mark between them: each must have exactly as many words as the properties say.
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
    """The numbers that ``float`` makes of the words, by a parser of JSON where all are written as JSON has them."""
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
