"""A plug-in of lazygraph: a format, two presets (one with a rule and angles of its own), a view, a model, a storage.

pyproject.toml declares them as entry points. Install the package, and lazygraph finds them by name:

    lazygraph-write crystals.toy -o toy.lg --graph toy
    lazygraph train toy.lg --target energy --model toy -o run
"""

from __future__ import annotations

import getpass
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
from lazygraph.sources.base import Cut, Entry, Scan, attempt, hash_file, read_entry
from lazygraph.storage.files import FileRef, write_atomic
from lazygraph.training.models import ModelEntry

# ---- an input format: one simple cubic crystal a line, "ID EDGE_IN_ANGSTROM ATOMIC_NUMBER ENERGY" ----

MAGIC = b"# toy crystals\n"


@dataclass(frozen=True)
class ToySource:
    """A ``.toy`` file: the line ``# toy crystals``, then one crystal a line.

    Args:
        path: the file.
    """

    kind: ClassVar[str] = "toy"

    path: str

    @staticmethod
    def recognizes(head: bytes, name: str) -> bool:
        """Whether a file that begins so is one of these."""
        return head.startswith(MAGIC)

    @property
    def name(self) -> str:
        """What notes call the file."""
        return Path(self.path).stem

    def scan(self, every: int, spool: Path) -> Scan:
        """Count the lines; the mark of an entry is the byte where its line begins."""
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
        """The entries of one cut."""
        with Path(self.path).open("rb") as file:
            file.seek(cut.mark)
            for number in range(cut.start, cut.start + cut.count):
                yield read_entry(f"{self.name}-{number}", entry_of, file.readline().decode())


def entry_of(line: str) -> Entry:
    """One line as an entry. A line with a bad crystal is an entry with the reason."""
    graph_id, edge, number, energy = line.split()
    return Entry(graph_id, attempt(cubic, edge, number), {"energy": energy})


def cubic(edge: str, number: str) -> Crystal:
    return Crystal(np.eye(3) * float(edge), [[0.0, 0.0, 0.0]], [int(number)])


# ---- a preset of one of lazygraph's rules ----

TOY = Preset(rule="radius", parameters={"cutoff": 3.3})


# ---- a preset with a rule and angles of its own ----


@dataclass(frozen=True, kw_only=True, repr=False)
class Alike(Radius):
    """Every neighbour of the same element within a cutoff."""

    name: ClassVar[str] = "alike"

    @property
    def is_complete(self) -> bool:
        """Not every neighbour within the cutoff is there."""
        return False

    def edges(self, search: Search) -> ChosenEdges:
        """The edges of the rule ``radius`` between atoms of one element."""
        (edge_index, images), distances = super().edges(search)
        numbers = search.crystal.numbers
        kept = np.flatnonzero(numbers[edge_index[0]] == numbers[edge_index[1]])
        return ChosenEdges((edge_index[:, kept], images[kept]), distances[kept])

    def compiled(self, search: Search) -> None:
        """There is no compiled loop."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ToyAngles(Angles):
    """Two edges of one centre, which may be the same edge."""

    name: ClassVar[str] = "toy"
    shares_centre: ClassVar[bool] = True
    with_itself: ClassVar[bool] = True


TOY_ALIKE = Preset(rule=Alike, angles=ToyAngles, parameters={"cutoff": 5.0}, summary="neighbours of the same element")


# ---- a view ----


@dataclass(frozen=True, repr=False)
class ToyView(View):
    """``z`` (N,) int64 atomic numbers, ``edge_index`` (2, E) int64, ``length`` (E,) A."""

    name: ClassVar[str] = "toy"
    layout: ClassVar = {"z": NODE, "edge_index": EDGE_INDEX, "length": EDGE}

    def arrays(self, crystals: Crystals, spec) -> Arrays:
        """See the class."""
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


@dataclass(frozen=True)
class ToyZip:
    """The files of a dataset in one zip file, read in place; whole files are unpacked into a folder of the user.

    Args:
        url: ``toyzip://`` and the path of the zip file, whose names are those of the dataset's files.
    """

    url: str

    @property
    def name(self) -> str:
        """What errors call the dataset."""
        return self.url

    @property
    def is_local(self) -> bool:
        """False: there is no file of its own for a shard."""
        return False

    def manifest(self) -> bytes:
        """The content of the manifest."""
        return self._read("manifest.json", 0, -1)

    def path(self, file: FileRef) -> Path:
        """A file, unpacked where that was not done yet; its name says what is in it."""
        target = Path(tempfile.gettempdir(), f"toyzip-{getpass.getuser()}", file.name.replace("/", "-"))
        if not target.exists():
            content = self._read(file.name, 0, -1)
            target.parent.mkdir(exist_ok=True, mode=0o700)
            write_atomic(target, content)
        return file._replace(name=target.name).check_size(target.parent)

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Ranges of a file."""
        return [self._read(file.name, offset, length) for offset, length in ranges]

    def state(self) -> object:
        """What changes when the zip file is replaced."""
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
