"""VASP's XDATCAR: the frames of a run, with one cell for all of them or with one before each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, attempt, default_id
from lazygraph.sources.poscar import CONFIGURATION, counts_of, parse_poscar
from lazygraph.sources.unpack import Intake, bare_name, body, naming

__all__ = ["XdatcarSource", "sniff"]

_FRAME = re.compile(CONFIGURATION.pattern.encode(), re.IGNORECASE)
_MAX_HEADER = 200  # lines before the first frame; VASP wraps lists of elements
_PLACE = np.dtype([("header", "<i8"), ("frame", "<i8")])


def sniff(head: bytes) -> bool:
    """Whether the first 64 KiB of a file are a cell and the beginning of a frame."""
    lines = head.split(b"\n")[: _MAX_HEADER + 1]
    place = next((number for number, line in enumerate(lines) if _FRAME.match(line)), None)
    if place is None:
        return False
    try:
        counts_of([line.decode() for line in lines[:place]])
    except (ValueError, IndexError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class XdatcarSource:
    """One entry a frame, ``NAME-0000012``; a file called XDATCAR is named after its folder. There are no labels.

    Holds a path only: picklable, safe in any process. ``scan`` lists where each frame and its cell begin.

    Args:
        path: the file, plain or in a zip or gzip.
    """

    kind: ClassVar[str] = "xdatcar"

    path: str

    @property
    def name(self) -> str:
        """The file's name without suffixes, or its folder's."""
        name = bare_name(self.path)
        return Path(self.path).resolve().parent.name if name.upper() == "XDATCAR" else name

    def scan(self, every: int, spool: Path) -> Scan:
        """Find where the frames begin, and hash the file."""
        path = Path(self.path)
        intake = Intake(path, spool)
        with naming(path):
            places = np.array(list(_frames(intake)), _PLACE)
        places.tofile(_index(spool))
        return Scan(len(places), tuple(range(0, len(places), every)), (intake.file,))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the frames of one range."""
        places = np.fromfile(_index(spool), _PLACE, cut.count, offset=cut.start * _PLACE.itemsize)
        name = self.name
        header, at, count = "", -1, 0
        with body(Path(self.path), spool).open("rb") as file:
            for position, (place, frame) in enumerate(places.tolist(), cut.start):
                if place != at:
                    header, count = _header(file, place)
                    at = place
                file.seek(frame)
                text = b"".join(islice(file, count + 1)).decode("utf-8", "replace").partition("\n")[2]
                yield Entry(default_id(name, position), attempt(parse_poscar, f"{header}Direct\n{text}"), {})


def _index(spool: Path) -> Path:
    spool.parent.mkdir(parents=True, exist_ok=True)
    return spool.with_name(f"{spool.name}.frames")


def _header(file: BinaryIO, place: int) -> tuple[str, int]:
    """The lines of a cell, and the number of its atoms."""
    file.seek(place)
    lines = []
    for line in file:
        if _FRAME.match(line):
            break
        lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
    return "\n".join(lines) + "\n", sum(counts_of(lines))


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Where the cell of each frame begins, and the frame.

    Raises:
        UnreadableInput: something else stands where a frame or a cell should begin.
    """
    header: list[str] = []  # the lines of a cell that is being read
    begin = place = skip = 0  # where it begins; where the cell of the present frames begins; atom lines to come
    atoms = 0
    for offset, line in _lines(chunks):
        if skip:
            skip -= 1
        elif _FRAME.match(line):
            if header:
                place, atoms = begin, _atoms(header)
                header = []
            if not atoms:
                msg = f"a frame begins at byte {offset}, before any cell; required: comment, scale, vectors, counts"
                raise UnreadableInput(msg)
            yield place, offset
            skip = atoms
        elif header or line.strip():
            if not header:
                begin = offset
            header.append(line.decode("utf-8", "replace"))
            if len(header) > _MAX_HEADER:
                msg = f"no frame begins in {_MAX_HEADER} lines from byte {begin} on; required: 'Direct configuration='"
                raise UnreadableInput(msg)
    if any(line.strip() for line in header):
        msg = f"no frame follows the lines from byte {begin} on; required: 'Direct configuration=' and positions"
        raise UnreadableInput(msg)


def _atoms(header: list[str]) -> int:
    try:
        return sum(counts_of(header))
    except (ValueError, IndexError) as error:
        msg = f"no cell before a frame ({error}); required: comment, scale, three vectors, symbols, counts"
        raise UnreadableInput(msg) from error


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its line feed) of every line."""
    held: list[bytes] = []
    offset = 0
    for chunk in chunks:
        first, *lines = chunk.split(b"\n")
        held.append(first)
        if not lines:
            continue
        *whole, rest = lines
        for line in (b"".join(held), *whole):
            yield offset, line
            offset += len(line) + 1
        held = [rest]
    if rest := b"".join(held):
        yield offset, rest
