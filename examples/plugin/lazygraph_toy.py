"""A plug-in for lazygraph: a format to read and to write, two presets, a view, a model and a storage.

pyproject.toml declares them as entry points. When the package is installed, lazygraph finds them by name:

    lazygraph-write crystals.toy -o toy.lg --graph toy
    lazygraph train toy.lg --target energy --model toy -o run
    lazygraph export toy.lg -o copy.toy --format toy
"""

from __future__ import annotations

import getpass
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.graphs import Angles, ChosenEdges, Preset, Radius
from lazygraph.graphs.neighbors import Search
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views.base import EDGE, EDGE_INDEX, NODE, Arrays, View, cast
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph
from lazygraph.sources.base import Cut, Entry, Scan, attempt, hash_file, read_entry
from lazygraph.storage.files import FileRef, write_atomic
from lazygraph.training.models import ModelEntry

# ---- an input format: one simple cubic crystal per line, "ID EDGE_IN_ANGSTROM ATOMIC_NUMBER ENERGY" ----

MAGIC = b"# toy crystals\n"


@dataclass(frozen=True)
class ToySource:
    """A ``.toy`` file: the line ``# toy crystals``, then one crystal per line.

    Args:
        path: the file.
    """

    kind: ClassVar[str] = "toy"

    path: str

    @staticmethod
    def recognizes(head: bytes, name: str) -> bool:
        """Return True if a file that begins with these bytes has this format."""
        return head.startswith(MAGIC)

    @property
    def name(self) -> str:
        """The name of the file in notes and ids."""
        return Path(self.path).stem

    def scan(self, every: int, spool: Path) -> Scan:
        """Count the lines. The mark of an entry is the position of the first byte of its line."""
        marks, count = [], 0
        with Path(self.path).open("rb") as file:
            file.readline()
            while True:
                at = file.tell()
                if not file.readline():
                    break
                if count % every == 0:
                    marks.append(at)
                count += 1
        return Scan(count, tuple(marks), (hash_file(Path(self.path)),))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield the entries of one cut."""
        with Path(self.path).open("rb") as file:
            file.seek(cut.mark)
            for number in range(cut.start, cut.start + cut.count):
                yield read_entry(f"{self.name}-{number}", entry_of, file.readline().decode())


def entry_of(line: str) -> Entry:
    """Return a line as an entry. If the crystal is invalid, the entry holds the error."""
    graph_id, edge, number, energy = line.split()
    return Entry(graph_id, attempt(cubic, edge, number), {"energy": energy})


def cubic(edge: str, number: str) -> Crystal:
    return Crystal(np.eye(3) * float(edge), [[0.0, 0.0, 0.0]], [int(number)])


# ---- an export format: the same lines ----


class ToyExport(CrystalFormat):
    """A ``.toy`` file with the ids, the volumes as cubes, the first elements and the label ``energy``."""

    kind: ClassVar[str] = "toy"
    suffixes: ClassVar[tuple[str, ...]] = (".toy",)

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> bytes:
        """Return some lines. Worker processes call this."""
        return "".join(map(_line, graphs)).encode()

    def save(self, path: Path, contents: Contents, pieces: Iterator[bytes]) -> None:
        """Write the file. ``pieces`` are the results of ``encode``, in order."""
        with path.open("xb") as file:
            file.write(MAGIC)
            file.writelines(pieces)


def _line(graph: ExportedGraph) -> str:
    edge = round(graph.crystal.volume ** (1 / 3), 9)
    return f"{graph.id} {edge} {graph.crystal.numbers[0]} {graph.labels.get('energy', 0.0)!r}\n"


# ---- a preset of one of lazygraph's rules ----

TOY = Preset(rule="radius", parameters={"cutoff": 3.3})


# ---- a preset with its own rule and angles ----


@dataclass(frozen=True, kw_only=True, repr=False)
class Alike(Radius):
    """Every neighbour of the same element within a cutoff."""

    name: ClassVar[str] = "alike"

    @property
    def is_complete(self) -> bool:
        """False, because some neighbours within the cutoff are left out."""
        return False

    def edges(self, search: Search) -> ChosenEdges:
        """Return the edges of the rule ``radius`` between atoms of the same element."""
        (edge_index, images), distances = super().edges(search)
        numbers = search.crystal.numbers
        kept = np.flatnonzero(numbers[edge_index[0]] == numbers[edge_index[1]])
        return ChosenEdges((edge_index[:, kept], images[kept]), distances[kept])


@dataclass(frozen=True, kw_only=True, repr=False)
class ToyAngles(Angles):
    """Pairs of edges with the same centre. Both may be the same edge."""

    name: ClassVar[str] = "toy"
    shares_centre: ClassVar[bool] = True
    with_itself: ClassVar[bool] = True


TOY_ALIKE = Preset(rule=Alike, angles=ToyAngles, parameters={"cutoff": 5.0}, summary="neighbours of the same element")


# ---- a view ----


@dataclass(frozen=True, repr=False)
class ToyView(View):
    """The arrays ``z`` (N,) int64, atomic numbers; ``edge_index`` (2, E) int64; ``length`` (E,), A."""

    name: ClassVar[str] = "toy"
    layout: ClassVar = {"z": NODE, "edge_index": EDGE_INDEX, "length": EDGE}

    def arrays(self, crystals: Crystals, spec) -> Arrays:
        """Return the arrays of a whole batch."""
        return Arrays(
            {
                "z": cast(crystals.numbers, "int64"),
                "edge_index": cast(crystals.edge_index, "int64"),
                "length": self.real(crystals.distances),
            }
        )


# ---- a model ----


def _network(outputs: int, width: int = 8):
    from lazygraph_toy_network import ToyNetwork

    return ToyNetwork(outputs, width)


TOY_MODEL = ModelEntry("toy", view="toy", preset="toy", build=_network)


# ---- a storage: a dataset in a zip file, "toyzip://PATH" ----

PIECE = 2**20  # bytes that are read at once


@dataclass(frozen=True)
class ToyZip:
    """The files of a dataset in one zip file. Records are read in place; whole files are unpacked into a user folder.

    Args:
        url: ``toyzip://`` and the path of the zip file. The names in the zip file are the names of the dataset's files.
    """

    url: str

    @property
    def name(self) -> str:
        """The name of the dataset in errors."""
        return self.url

    def manifest(self) -> bytes:
        """Return the content of the manifest."""
        return self._read("manifest.json", 0, -1)

    def is_at_hand(self, file: FileRef) -> bool:
        """Return whether the file was unpacked before."""
        return self._target(file).exists()

    def descriptor(self, file: FileRef) -> int:
        """Return a descriptor of the file, which is unpacked at its first use."""
        target = self._target(file)
        if not target.exists():
            content = self._read(file.name, 0, -1)
            target.parent.mkdir(exist_ok=True, mode=0o700)
            write_atomic(target, content)
        return os.open(file._replace(name=target.name).check_size(target.parent), os.O_RDONLY)

    def renew(self, file: FileRef) -> bool:
        """Remove an unpacked file whose bytes are wrong, and return whether it was there."""
        was_there = self.is_at_hand(file)
        self._target(file).unlink(missing_ok=True)
        return was_there

    @staticmethod
    def _target(file: FileRef) -> Path:
        """Return where a file is unpacked. The hash in its name identifies the content."""
        return Path(tempfile.gettempdir(), f"toyzip-{getpass.getuser()}", file.name.replace("/", "-"))

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file."""
        return [self._read(file.name, offset, length) for offset, length in ranges]

    def stream(self, file: FileRef) -> Iterator[bytes]:
        """Yield a whole file in pieces."""
        for offset in range(0, file.size, PIECE):
            yield self._read(file.name, offset, min(PIECE, file.size - offset))

    def state(self) -> object:
        """Return a value that changes when the zip file is replaced."""
        found = self._zip.stat()
        return found.st_ino, found.st_mtime_ns

    @property
    def _zip(self) -> Path:
        return Path(self.url.partition("://")[2])

    def _read(self, name: str, offset: int, length: int) -> bytes:
        with zipfile.ZipFile(self._zip) as archive:
            try:
                member = archive.open(name)
            except KeyError as error:
                msg = f"{self.url} has no {name}"
                raise FileNotFoundError(msg) from error
            with member:
                member.seek(offset)
                return member.read(length)
