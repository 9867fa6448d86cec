"""CIF and POSCAR files, given as paths, folders and glob patterns."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources import cif, poscar
from lazygraph.sources.base import (
    MAX_TEXT,
    Cut,
    Entry,
    InputFile,
    Remark,
    Scan,
    attempt,
    hash_file,
    read_entry,
    readable,
    require_length,
)
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.unpack import HEAD, Intake, is_packed, whole

__all__ = [
    "FilesSource",
    "expand",
    "hash_files",
    "is_structure_name",
    "named",
    "read_lines",
    "read_structure",
    "structure_id",
    "summary",
    "walk",
    "write_lines",
]

SUFFIXES = frozenset({".cif", ".vasp", ".poscar"})
BARE = ("POSCAR", "CONTCAR")
NAMED = 1000  # a manifest lists at most this many files by name; more are one digest of their digests


@dataclass(frozen=True, slots=True)
class FilesSource:
    """One entry per structure; the id is the file's stem, or the folder's name for a bare ``POSCAR`` or ``CONTCAR``.

    Each data block of a CIF that lists atoms is a structure. If a file has several, the id is ``STEM-BLOCK``. A note
    counts data blocks without atoms (``data_global``).

    The source holds only paths: it is picklable and safe in any thread or process. ``scan`` expands the paths once and
    lists the structures in the spool, so that all workers see the same list. It reads every file once to hash it.

    Args:
        paths: files of any name, folders (walked; files with the name of a CIF or POSCAR count) and glob patterns.
        options: options for reading CIF.
    """

    kind: ClassVar[str] = "files"

    paths: tuple[str, ...]
    options: SourceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """The folder, or the one structure, that ids and notes are named after."""
        place = Path(self.paths[0])
        if len(self.paths) == 1 and place.is_file():
            return structure_id(place)
        while not place.is_dir():
            place = place.parent
        return place.resolve().name

    def scan(self, every: int, spool: Path) -> Scan:
        """List the structures in the spool, and hash the files."""
        found = _Found()
        count, marks = write_lines(spool, found.structures(file for path in self.paths for file in expand(path)), every)
        hashed, notes = summary(found.hashed, found.unreadable)
        if found.beside:
            first = ", ".join(found.beside[:3]) + (", ..." if len(found.beside) > 3 else "")
            notes += (f"{found.n_beside} data blocks of CIFs list no atoms and were left out: {first}",)
        return Scan(count, marks, hashed, notes)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield one entry per structure."""
        held: dict[Path, bytes] = {}  # the bytes of the last packed file with several structures
        for line, name, *place in read_lines(spool, cut):
            yield read_entry(name, self._entry, Path(line), name, place, held)

    def _entry(self, path: Path, name: str, place: list[int], held: dict[Path, bytes]) -> Entry:
        remarks: list[Remark] = []
        crystal = attempt(_read, path, place, held, self.options, remarks)
        return Entry(name, crystal, {}, remarks=tuple(remarks))


class _Found:
    """The result of one pass over files: the structures in each, and notes for the report."""

    def __init__(self) -> None:
        self.hashed: list[InputFile] = []
        self.unreadable: list[Path] = []
        self.beside: list[str] = []
        """The first data blocks without atoms."""
        self.n_beside = 0

    def structures(self, files: Iterable[Path]) -> Iterator[tuple[Any, ...]]:
        """Yield path and id of each structure, with its first and last byte if the file holds other data too."""
        for file in files:
            name = structure_id(file)
            try:
                blocks, beside = self._blocks(file)
            except (OSError, UnreadableInput):  # the entry of this file says why, when its turn comes
                self.unreadable.append(file)
                blocks, beside = [], []
            if not blocks or (len(blocks) == 1 and not beside):
                yield str(file), name
                continue
            self.n_beside += len(beside)
            self.beside += [f"{block.name} of {file.name}" for block in beside[: NAMED - len(self.beside)]]
            for block in blocks:
                own = f"{name}-{block.name}" if len(blocks) > 1 else name
                yield str(file), own, block.begin, block.end

    def _blocks(self, file: Path) -> tuple[list[cif.Block], list[cif.Block]]:
        """Return the data blocks of a CIF with atoms, and those without; nothing for a POSCAR or a single block."""
        intake = Intake(file)
        pieces = iter(intake)
        head = next(pieces, b"")
        several = cif.sniff(head[:HEAD]) and head.lower().count(b"data_") > 1
        for _ in pieces:
            several = cif.sniff(head[:HEAD])
        self.hashed.append(intake.file)
        return cif.data_blocks(Intake(file)) if several else ([], [])


def _read(
    path: Path, place: list[int], held: dict[Path, bytes], options: SourceOptions, remarks: list[Remark]
) -> Crystal:
    if not place:
        return read_structure(path, options, remarks)
    begin, end = place
    if is_packed(path):
        if path not in held:
            held.clear()
            held[path] = whole(Intake(path))
        data = held[path][begin:end]
    else:
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read(min(end - begin, MAX_TEXT + 1))
    require_length(data)
    return cif.parse_cif(data.decode("utf-8", "replace"), options.cif_formula, remarks)


def read_structure(path: Path, options: SourceOptions, remarks: list[Remark]) -> Crystal:
    """Return the crystal of one CIF or POSCAR file, recognised by its text.

    Raises:
        UnreadableInput: it is neither, cannot be parsed, or holds several structures.
        StructureError: its structure is not a crystal without disorder.
    """
    data = whole(Intake(path))
    head, text = data[:HEAD], data.decode("utf-8", "replace")
    if cif.sniff(head) or _without_gz(path).suffix.lower() == ".cif":
        return cif.parse_cif(text, options.cif_formula, remarks)
    if poscar.sniff(head):
        return poscar.parse_poscar(text)
    msg = f"{path.name} begins with {text[:40]!r}; required: a CIF or a POSCAR"
    raise UnreadableInput(msg)


def is_structure_name(path: Path) -> bool:
    """Tell whether a file has the name of a CIF or POSCAR file, packed by gzip or not."""
    name = _without_gz(path)
    return name.suffix.lower() in SUFFIXES or name.name.upper().startswith(BARE)


def structure_id(path: Path) -> str:
    """Return the id of the structure in a file.

    Example:
        >>> structure_id(Path("set/POSCAR-JVASP-10.vasp")), structure_id(Path("mp-22862/POSCAR"))
        ('POSCAR-JVASP-10', 'mp-22862')
        >>> structure_id(Path("set/POSCAR.mp-22862")), structure_id(Path("set/1000041.cif.gz"))
        ('POSCAR.mp-22862', '1000041')
    """
    path = _without_gz(path)
    if path.stem.upper() not in BARE:
        return path.stem
    return path.absolute().parent.name if path.suffix.lower() in SUFFIXES | {""} else path.name


def _without_gz(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def expand(path: str) -> list[Path]:
    """Return the files that one path, folder or pattern stands for, sorted.

    Raises:
        UnreadableInput: there are none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        if found := sorted(walk(place)):
            return found
        msg = f"the folder {path} holds no CIF or POSCAR; it must hold files *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*"
        raise UnreadableInput(msg)
    matches = glob.glob(path, recursive=True)  # noqa: PTH207  # Path.glob refuses absolute patterns
    if found := sorted(file for match in matches if not (file := Path(match)).is_dir()):
        return found
    msg = f"nothing is at {path}; give a file, a folder, or a pattern that matches files"
    raise UnreadableInput(msg)


def walk(folder: Path) -> Iterator[Path]:
    """Return the files with the name of a CIF or POSCAR file, in a folder and in the folders in it.

    Pipes, devices and broken links are included. Their entries say what is wrong.
    """
    return (path for path in folder.rglob("*") if is_structure_name(path) and not path.is_dir())


def hash_files(files: Sequence[Path]) -> tuple[tuple[InputFile, ...], tuple[str, ...]]:
    """Name, size and sha256 of each file (beyond 1,000: one digest of all), and a note if some cannot be read."""
    hashed, unreadable = [], []
    for file in files:
        try:
            hashed.append(hash_file(file))
        except (OSError, UnreadableInput):  # the entry of this file says why, when its turn comes
            unreadable.append(file)
    return summary(hashed, unreadable)


def summary(hashed: Sequence[InputFile], unreadable: Sequence[Path]) -> tuple[tuple[InputFile, ...], tuple[str, ...]]:
    """The files as the manifest lists them, beyond 1,000 as one digest, and a note on those that cannot be read."""
    notes = (f"{len(unreadable)} files cannot be read: {named(unreadable)}",) if unreadable else ()
    if len(hashed) <= NAMED:
        return tuple(hashed), notes
    digest = hashlib.sha256("".join(f"{file.sha256} {file.name}\n" for file in hashed).encode())
    total = sum(file.size for file in hashed)
    return (InputFile(f"{len(hashed)} structure files", total, digest.hexdigest()),), notes


def named(files: Sequence[Path]) -> str:
    """Return the first few names of many files."""
    return ", ".join(readable(file.name) for file in files[:3]) + (", ..." if len(files) > 3 else "")


def write_lines(spool: Path, items: Iterable[Any], every: int) -> tuple[int, tuple[int, ...]]:
    """Write one JSON line per item; returns their number and the byte offset of every ``every``-th."""
    marks, count = [], 0
    with spool.open("wb") as file:
        for count, item in enumerate(items, start=1):
            if (count - 1) % every == 0:
                marks.append(file.tell())
            file.write(json.dumps(item).encode() + b"\n")
    return count, tuple(marks)


def read_lines(spool: Path, cut: Cut) -> Iterator[Any]:
    """Yield the items of one range of :func:`write_lines`."""
    with spool.open("rb") as file:
        file.seek(cut.mark)
        yield from map(json.loads, islice(file, cut.count))
