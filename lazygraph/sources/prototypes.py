"""Generated crystals without a download: real prototypes with other elements, strained and displaced.

The 288 structures of the AFLOW library of crystallographic prototypes (Mehl et al., Comput. Mater. Sci. 136, S1, 2017)
come with pymatgen. They serve for scale tests and first steps: the geometry is realistic, the chemistry is not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gemmi
import numpy as np
from numpy.typing import NDArray

from lazygraph.coordinates import to_cartesian
from lazygraph.crystal import Crystal, symbols_to_numbers
from lazygraph.errors import MissingExtra, UnreadableInput
from lazygraph.sources.base import Cut, Entry, InputFile, Scan, attempt, default_id, read_entry
from lazygraph.sources.time_limit import one_input

__all__ = ["PrototypesSource", "is_uri"]

URI = re.compile(r"prototypes:(\d+)(?:\?seed=(\d+))?")
MOST = 1_000_000_000  # crystals
MOST_SEEDS = 2**64
RECIPE = 1  # part of the hash; raise it with every change that makes other crystals
NOBLE = (2, 10, 18, 36, 54, 86)
ELEMENTS = np.array([z for z in range(1, 95) if z not in NOBLE])
STRAIN = 0.02  # standard deviation of each component of the strain tensor
RATTLE = 0.05  # A, standard deviation of each Cartesian displacement
CLOSEST = 1.2  # A, least distance before strain and rattle, which can bring two atoms 0.4 A closer
DECIMALS = 8
BATCH = 64  # crystals that are computed at a time
GRAMS = 1.66053906660  # g/cm^3 in one dalton per A^3 (CODATA 2018)
RADII = np.array([0.0] + [gemmi.Element(z).covalent_r for z in range(1, 119)])  # A, as gemmi tabulates them
# A^3 an atom: 8.9 for O, 15 for Fe, 22 for Na, 31 for U. Oxides, halides and metals are met within a third or so.
VOLUMES = 8 + 3 * RADII**3
WEIGHTS = np.array([0.0] + [gemmi.Element(z).weight for z in range(1, 119)])  # dalton


class _Prototype(NamedTuple):
    lattice: NDArray[np.float64]  # (3, 3), rows are the lattice vectors, A
    frac_coords: NDArray[np.float64]  # (N, 3)
    kinds: NDArray[np.intp]  # (N,) which of its distinct elements each atom is
    n_kinds: int
    volume: float  # A^3
    closest: float  # A, least distance between two atoms, images included


@dataclass(frozen=True, slots=True)
class PrototypesSource:
    """``prototypes:N?seed=S``: N crystals, each a function of the seed and its own position only.

    Entry i draws one of the 288 prototypes uniformly, and replaces each of its elements by one of Z = 1..94 without
    noble gases. The cell is scaled to ``8 + 3 r^3`` A^3 per atom (r: covalent radius), or larger, so that no two atoms
    come closer than 1.2 A. A symmetric strain (2 % per component) and displacements
    (0.05 A per component) follow, and all numbers are rounded to eight decimals, as files do. Labels are computed:
    ``density`` (g/cm^3), ``volume_per_atom`` (A^3) and ``mean_atomic_number``.

    The source holds only a string, so it is picklable. A crystal takes about 50 us. Each process reads the prototypes
    (1 to 105 atoms, 11.9 on average) once, in 0.2 s.

    Args:
        path: the URI; the default seed is 0.
    """

    kind: ClassVar[str] = "prototypes"

    path: str

    @property
    def name(self) -> str:
        """``prototype``, so that ids read ``prototype-0000012``."""
        return "prototype"

    def scan(self, every: int, spool: Path) -> Scan:  # noqa: ARG002  # nothing to unpack
        """Check the URI, and hash the prototypes with the parameters."""
        count, seed = _parameters(self.path)
        digest = hashlib.sha256(f"{RECIPE} {count} {seed}\n".encode() + _table()).hexdigest()
        marks = tuple(range(0, count, every))
        return Scan(count, marks, (InputFile(f"prototypes:{count}?seed={seed}", 0, digest),))

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:  # noqa: ARG002  # nothing was unpacked
        """Make the crystals of one range."""
        _, seed = _parameters(self.path)
        end = cut.start + cut.count
        for start in range(cut.start, end, BATCH):
            positions = range(start, min(start + BATCH, end))
            for position, made in zip(positions, _made_together(seed, positions), strict=True):
                default = default_id(self.name, position)
                yield read_entry(default, _entry, seed, position, default, made)


def is_uri(text: str) -> bool:
    """Tell whether a text asks for prototypes."""
    return text.startswith("prototypes:")


def _parameters(uri: str) -> tuple[int, int]:
    match = URI.fullmatch(uri)
    if match is None:
        msg = f"found {uri!r}; required: prototypes:N or prototypes:N?seed=S, such as prototypes:1000?seed=7"
        raise UnreadableInput(msg)
    # of the length first: Python makes no number of thousands of digits
    count, seed = (int(digits) if len(digits) <= 20 else MOST_SEEDS for digits in (match[1], match[2] or "0"))
    if count > MOST or seed >= MOST_SEEDS:
        msg = f"found {uri[:80]!r}; required: at most {MOST:,} crystals, and a seed below {MOST_SEEDS:,}"
        raise UnreadableInput(msg)
    return count, seed


def _entry(seed: int, position: int, default: str, made: _Numbers | None) -> Entry:
    crystal = attempt(_crystal, seed, position, made)
    return Entry(default, crystal, _labels(crystal) if isinstance(crystal, Crystal) else {})


class _Numbers(NamedTuple):
    """The numbers of a crystal; see ``Crystal``."""

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    numbers: NDArray[np.intp]


def _crystal(seed: int, position: int, made: _Numbers | None) -> Crystal:
    return Crystal(*(_make(seed, (position,))[0] if made is None else made))


def _made_together(seed: int, positions: Sequence[int]) -> Sequence[_Numbers | None]:
    """Return the numbers of several crystals; None for each if one of them fails."""
    try:
        with one_input():
            return _make(seed, positions)
    except Exception:  # noqa: BLE001  # they are made one by one, each with its own error
        return [None] * len(positions)


def _make(seed: int, positions: Sequence[int]) -> list[_Numbers]:
    """Return the numbers of crystals. They do not depend on the other crystals of the call."""
    table = _prototypes()
    chosen, numbers, scales, strains, shifts = [], [], [], [], []
    for position in positions:
        random = np.random.default_rng([seed, position])
        prototype = table[random.integers(len(table))]
        own = random.choice(ELEMENTS, prototype.n_kinds, replace=False)[prototype.kinds]
        scale = (float(VOLUMES[own].sum()) / prototype.volume) ** (1 / 3)
        chosen.append(prototype)
        numbers.append(own)
        scales.append(max(scale, CLOSEST / prototype.closest))
        strains.append(random.normal(0.0, STRAIN, 6))
        shifts.append(random.normal(0.0, RATTLE, prototype.frac_coords.shape))
    # Elementwise, in the order of to_cartesian and to_fractional, so each crystal has the same bits as alone.
    cells = np.array([prototype.lattice for prototype in chosen]) * np.array(scales)[:, None, None]
    strain = np.array(strains)[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3)  # of xx, yy, zz, yz, xz, xy
    strain[:, [0, 1, 2], [0, 1, 2]] += 1
    lattices = _to_cartesian(cells, strain).round(DECIMALS)
    ends = np.cumsum([len(own) for own in numbers])
    places = np.concatenate([prototype.frac_coords for prototype in chosen])
    places += _to_fractional(
        np.concatenate(shifts), lattices, np.repeat(np.arange(len(chosen)), np.diff(ends, prepend=0))
    )
    return [_Numbers(*one) for one in zip(lattices, np.split(places.round(DECIMALS), ends[:-1]), numbers, strict=True)]


def _to_cartesian(frac: NDArray[np.float64], lattices: NDArray[np.float64]) -> NDArray[np.float64]:
    """``to_cartesian`` of (M, 3, 3) rows, three in each of (M, 3, 3) lattices."""
    out: NDArray[np.float64] = frac[:, :, 0:1] * lattices[:, 0:1] + frac[:, :, 1:2] * lattices[:, 1:2]
    out += frac[:, :, 2:3] * lattices[:, 2:3]
    return out


def _to_fractional(
    cart: NDArray[np.float64], lattices: NDArray[np.float64], which: NDArray[np.intp]
) -> NDArray[np.float64]:
    """``to_fractional`` of (N, 3) positions, each in one of (M, 3, 3) lattices."""
    a, b, c = lattices.transpose(1, 2, 0)
    rows = np.array([_cross(b, c), _cross(c, a), _cross(a, b)])  # of a lattice: the components of each of three normals
    volumes = (a[0] * rows[0, 0] + a[1] * rows[0, 1]) + a[2] * rows[0, 2]
    x, y, z = rows.transpose(1, 2, 0)[:, which]
    out: NDArray[np.float64] = cart[:, 0:1] * x + cart[:, 1:2] * y
    out += cart[:, 2:3] * z
    out /= volumes[which, None]
    return out


def _cross(u: NDArray[np.float64], v: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]


def _labels(crystal: Crystal) -> dict[str, float]:
    volume, n_atoms = crystal.volume, len(crystal)
    return {
        "density": float(WEIGHTS[crystal.numbers].sum()) * GRAMS / volume,
        "volume_per_atom": volume / n_atoms,
        "mean_atomic_number": int(crystal.numbers.sum(dtype=np.int64)) / n_atoms,
    }


@lru_cache(maxsize=1)
def _table() -> bytes:
    """Return the prototypes as JSON: a list of pymatgen structures under ``snl``."""
    spec = find_spec("pymatgen.analysis.prototypes")
    files = sorted(Path(spec.origin).parent.glob("aflow_prototypes.json*")) if spec and spec.origin else []
    if not files:
        raise MissingExtra(
            "the installed pymatgen has no aflow_prototypes.json; install a newer one with: pip install -U pymatgen"
        )
    data = files[0].read_bytes()
    return gzip.decompress(data) if files[0].suffix == ".gz" else data


@lru_cache(maxsize=1)
def _prototypes() -> tuple[_Prototype, ...]:
    return tuple(_prototype(entry["snl"]) for entry in json.loads(_table()))


def _prototype(structure: dict[str, Any]) -> _Prototype:
    lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
    positions = np.array([site["abc"] for site in structure["sites"]], dtype=np.float64)
    numbers = symbols_to_numbers([site["species"][0]["element"] for site in structure["sites"]])
    distinct, kinds = np.unique(numbers, return_inverse=True)
    crystal = Crystal(lattice, positions, numbers)
    return _Prototype(lattice, positions, kinds, len(distinct), crystal.volume, _closest(lattice, positions))


def _closest(lattice: NDArray[np.float64], positions: NDArray[np.float64]) -> float:
    """Return the least distance between two atoms, A, an atom and its own images included."""
    apart = positions[:, None] - positions[None]
    apart -= np.rint(apart)
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ones(3, dtype=int)
    while True:
        images = np.array(list(product(*(range(-n, n + 1) for n in reach.tolist()))))
        vectors = to_cartesian((apart.reshape(-1, 1, 3) + images).reshape(-1, 3), lattice)
        distances = np.sqrt((vectors**2).sum(axis=1))
        closest = float(distances[distances > 1e-6].min())
        # a known distance bounds the cells in which a smaller one can be, mostly to the nearest ones
        needed = np.floor(closest / heights + 0.5).astype(int)
        if (needed <= reach).all():
            return closest
        reach = np.maximum(reach, needed)
