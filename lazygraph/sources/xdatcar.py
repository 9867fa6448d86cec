"""VASP's XDATCAR: the frames of a run, with one cell for all frames or a cell before each."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar, NamedTuple

import numpy as np

from lazygraph.errors import UnreadableInput
from lazygraph.sources.base import MAX_TEXT, Cut, Entry, Scan, attempt, default_id, read_entry, too_long
from lazygraph.sources.poscar import CONFIGURATION, counts_of, parse_poscar
from lazygraph.sources.unpack import Intake, bare_name, body, naming

__all__ = ["XdatcarSource", "sniff"]

_FRAME = re.compile(CONFIGURATION.pattern.encode(), re.IGNORECASE)
_MAX_HEADER = 200  # lines before the first frame; VASP wraps lists of elements
_MAX_LINE = 10_000  # bytes of a line of the header; VASP wraps much shorter lines
_PLACE = np.dtype([("header", "<i8"), ("header_end", "<i8"), ("frame", "<i8"), ("end", "<i8")])


def sniff(head: bytes) -> bool:
    """Tell whether the first 64 KiB of a file are a cell and the beginning of a frame."""
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
    """One entry per frame, ``NAME-0000012``. A file called XDATCAR is named after its folder. There are no labels.

    The source holds only a path: it is picklable and safe in any process. ``scan`` lists the start of each frame and of
    its cell.

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
        with body(Path(self.path), spool).open("rb") as file:
            for position, place in enumerate(places.tolist(), cut.start):
                default = default_id(name, position)
                yield read_entry(default, _entry, file, place, default)


def _entry(file: BinaryIO, place: tuple[int, int, int, int], default: str) -> Entry:
    header, header_end, frame, end = place
    if header_end - header + end - frame > MAX_TEXT:
        raise too_long()
    cell = _between(file, header, header_end).decode("utf-8", "replace").replace("\r\n", "\n")
    atoms = _between(file, frame, end).decode("utf-8", "replace").partition("\n")[2]
    return Entry(default, attempt(parse_poscar, f"{cell}Direct\n{atoms}"), {})


def _between(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _index(spool: Path) -> Path:
    spool.parent.mkdir(parents=True, exist_ok=True)
    return spool.with_name(f"{spool.name}.frames")


def _frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the beginning and end of the cell of each frame, and of the frame.

    Raises:
        UnreadableInput: there is no frame or cell where one should begin.
    """
    header = _Header()
    cell: _Cell | None = None  # the cell of the present frames
    lines = _lines(chunks)
    for offset, line, end in lines:
        if not _FRAME.match(line):
            header.add(offset, line)
            continue
        cell = header.cell_before(offset) or cell
        if cell is None:
            msg = (
                f"a frame begins at byte {offset}, before any cell; comment, scale, vectors and counts must come first"
            )
            raise UnreadableInput(msg)
        for _, _, end in islice(lines, min(cell.atoms, sys.maxsize)):  # noqa: B007, PLW2901  # the last one ends the frame
            pass
        yield cell.begin, cell.end, offset, end
    header.require_none()


class _Cell(NamedTuple):
    begin: int
    end: int
    atoms: int


class _Header:
    """The lines of a cell that is being read."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._begin = 0

    def add(self, offset: int, line: bytes) -> None:
        """Add a line. Blank lines may stand between frames."""
        if not self._lines:
            if not line.strip():
                return
            self._begin = offset
        self._lines.append(line.decode("utf-8", "replace"))
        if len(self._lines) > _MAX_HEADER:
            msg = (
                f"no frame begins in {_MAX_HEADER} lines from byte {self._begin} on; a frame begins with 'Direct "
                "configuration='"
            )
            raise UnreadableInput(msg)

    def cell_before(self, frame: int) -> _Cell | None:
        """Return the cell before a frame; None if the frame before has the same cell."""
        if not self._lines:
            return None
        try:
            atoms = sum(counts_of(self._lines))
        except (ValueError, IndexError) as error:
            msg = f"no cell before a frame ({error}); it must have comment, scale, three vectors, symbols and counts"
            raise UnreadableInput(msg) from error
        self._lines = []
        return _Cell(self._begin, frame, atoms)

    def require_none(self) -> None:
        """Refuse a cell without frames."""
        if any(line.strip() for line in self._lines):
            msg = (
                f"no frame follows the lines from byte {self._begin} on; a frame is 'Direct configuration=' and "
                "positions"
            )
            raise UnreadableInput(msg)


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Yield the beginning of each line, its first 10,000 bytes without its line feed, and its end."""
    head, begin, offset = b"", 0, 0  # head and begin belong to the unfinished line, offset to the present piece
    for chunk in chunks:
        at = 0
        for end in np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")).tolist():
            yield begin, head + chunk[at : min(end, at + _MAX_LINE - len(head))], offset + end + 1
            head, at, begin = b"", end + 1, offset + end + 1
        head += chunk[at : at + _MAX_LINE - len(head)]
        offset += len(chunk)
    if begin < offset:
        yield begin, head, offset
