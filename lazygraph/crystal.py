"""The class ``Crystal``, the common form of all structures in lazygraph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazygraph.cached import cached_property
from lazygraph.coordinates import determinant, to_cartesian, to_fractional
from lazygraph.errors import LazyGraphError, StructureError

if TYPE_CHECKING:
    from ase import Atoms as AseAtoms
    from jarvis.core.atoms import Atoms as JarvisAtoms
    from pymatgen.core import Structure

__all__ = ["ATOMIC_NUMBERS", "SYMBOLS", "Crystal", "symbols_to_numbers"]

# Index = atomic number, 0 stands for no element (IUPAC, 118 elements).
SYMBOLS: tuple[str, ...] = tuple(
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb "
    "Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf "
    "Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og".split()
)
# Deuterium and tritium are hydrogen: a graph knows charges of nuclei, not masses.
ATOMIC_NUMBERS: dict[str, int] = {s: z for z, s in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}

MIN_CELL_VOLUME = 1e-6  # A^3; below it a cell has no inverse worth computing with
# Far beyond any crystal, and so small that nothing computed from them overflows.
MAX_LENGTH = 1e6  # A, of a component of a lattice vector
MAX_COORDINATE = 1e6  # cells, of a fractional coordinate


class Crystal:
    """A periodic arrangement of atoms. It is checked when it is created, and never changes.

    It owns four small arrays. It is picklable, and threads may share it. Creating it takes about 3 us.

    Args:
        lattice: (3, 3) float64, rows are the lattice vectors, A. Left-handed cells are allowed.
        frac_coords: (N, 3) float64, fractional coordinates. They are kept as given and not wrapped into the cell,
            except that -0.0 becomes 0.0.
        numbers: (N,) atomic numbers, 1 to 118.
        pbc: whether the crystal is periodic along each lattice vector.

    Raises:
        StructureError: no atoms, wrong shapes, NaN or infinity, an atomic number outside 1..118, a cell with
            ``|det| < 1e-6`` A^3, a lattice vector longer than 1,000,000 A, or an atom more than 1,000,000 cells away.

    Example:
        >>> si = Crystal([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]], [[0, 0, 0], [0.25, 0.25, 0.25]], [14, 14])
        >>> si.formula, len(si), round(si.volume, 3)
        ('Si', 2, 39.366)
    """

    __slots__ = ("__dict__", "frac_coords", "lattice", "numbers", "pbc")

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    numbers: NDArray[np.uint8]
    pbc: tuple[bool, bool, bool]

    def __init__(
        self,
        lattice: ArrayLike,
        frac_coords: ArrayLike,
        numbers: ArrayLike,
        pbc: tuple[bool, bool, bool] = (True, True, True),
    ) -> None:
        self.lattice = _lattice(lattice)
        self.frac_coords = _coordinates(frac_coords, "fractional coordinates", MAX_COORDINATE)
        self.numbers = _numbers(numbers, len(self.frac_coords))
        self.pbc = _directions(pbc)

    @classmethod
    def from_cartesian(
        cls,
        lattice: ArrayLike,
        cart_coords: ArrayLike,
        numbers: ArrayLike,
        pbc: tuple[bool, bool, bool] = (True, True, True),
    ) -> Crystal:
        """Create a crystal from Cartesian coordinates (N, 3) in A.

        Along non-periodic directions, a zero lattice vector is replaced by a unit vector normal to the others, as in
        ``ase.geometry.complete_cell``. Molecules and slabs thus have fractional coordinates too.
        """
        cell, repeats = _vectors(lattice), _directions(pbc)
        crystal = cls.__new__(cls)  # what is checked here need not be checked again
        crystal.lattice = _spanning(cell if all(repeats) else _complete_cell(cell, repeats))
        cart = _rows(cart_coords, "Cartesian coordinates")
        with np.errstate(over="ignore", invalid="ignore"):  # infinite positions are refused below
            places = to_fractional(cart, crystal.lattice)
        try:
            crystal.frac_coords = _coordinates(places, "fractional coordinates", MAX_COORDINATE)
        except StructureError:
            _require_within(cart, "Cartesian coordinates", MAX_COORDINATE * MAX_LENGTH)
            raise
        crystal.numbers = _numbers(numbers, len(cart))
        crystal.pbc = repeats
        return crystal

    @classmethod
    def from_any(cls, structure: Any) -> Crystal:
        """Create a crystal from a pymatgen ``Structure``, ASE ``Atoms``, jarvis ``Atoms`` or one of their dicts.

        Raises:
            StructureError: the object has another type, is disordered, or cannot be read.
        """
        if isinstance(structure, Crystal):
            return structure
        try:
            return _from_foreign(structure)
        except LazyGraphError:
            raise
        except Exception as error:
            msg = f"the {type(structure).__name__} cannot be read: {type(error).__name__}: {error}"
            raise StructureError(msg) from error

    @cached_property
    def cart_coords(self) -> NDArray[np.float64]:
        """The Cartesian coordinates in A, (N, 3) float64: ``(f0*L0 + f1*L1) + f2*L2``, elementwise in that order."""
        return to_cartesian(self.frac_coords, self.lattice)

    @property
    def volume(self) -> float:
        """The volume of the cell, A^3; also positive for left-handed cells."""
        return abs(determinant(self.lattice))

    @property
    def formula(self) -> str:
        """The reduced formula in Hill order: carbon and hydrogen first if there is carbon, then elements by symbol.

        Example:
            >>> Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0], [.5, .5, .5], [.5, .5, 0]], [8, 22, 8]).formula
            'O2Ti'
        """
        counts: dict[str, int] = {}
        for z in self.numbers.tolist():
            symbol = SYMBOLS[z]
            counts[symbol] = counts.get(symbol, 0) + 1
        divisor = math.gcd(*counts.values())
        first = [s for s in ("C", "H") if s in counts] if "C" in counts else []
        order = first + sorted(s for s in counts if s not in first)
        return "".join(s if (n := counts[s] // divisor) == 1 else f"{s}{n}" for s in order)

    def to_pymatgen(self) -> Structure:
        """Convert to a pymatgen ``Structure``."""
        from pymatgen.core import Lattice, Structure

        lattice = Lattice(self.lattice, pbc=self.pbc)
        return Structure(lattice, self.numbers.tolist(), self.frac_coords)

    def to_ase(self) -> AseAtoms:
        """Convert to ASE ``Atoms``."""
        from ase import Atoms

        return Atoms(numbers=self.numbers, scaled_positions=self.frac_coords, cell=self.lattice, pbc=self.pbc)

    def to_jarvis(self) -> JarvisAtoms:
        """Convert to jarvis ``Atoms``, which round the lattice to five decimals internally."""
        from jarvis.core.atoms import Atoms

        return Atoms(
            lattice_mat=self.lattice.tolist(),
            coords=self.frac_coords.tolist(),
            elements=[SYMBOLS[z] for z in self.numbers.tolist()],
            cartesian=False,
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Crystal):
            return NotImplemented
        return (
            self.pbc == other.pbc
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.lattice, other.lattice)
            and np.array_equal(self.frac_coords, other.frac_coords)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __repr__(self) -> str:
        return (
            f"Crystal(lattice={self.lattice.tolist()!r}, frac_coords={self.frac_coords.tolist()!r}, "
            f"numbers={self.numbers.tolist()!r}, pbc={self.pbc!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self.lattice, self.frac_coords, self.numbers, self.pbc))


def _restore(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    pbc: tuple[bool, bool, bool],
) -> Crystal:
    """Rebuild a pickled crystal, whose arrays were checked when it was created."""
    crystal = Crystal.__new__(Crystal)
    crystal.lattice, crystal.frac_coords, crystal.numbers, crystal.pbc = lattice, frac_coords, numbers, pbc
    return crystal


def _from_foreign(structure: Any) -> Crystal:
    if isinstance(structure, Mapping):
        return _from_mapping(structure)
    if hasattr(structure, "lattice") and hasattr(structure, "sites"):
        return _from_pymatgen(structure)
    if hasattr(structure, "lattice_mat") and hasattr(structure, "elements"):
        return _from_jarvis(structure.lattice_mat, structure.frac_coords, structure.elements, cartesian=False)
    if hasattr(structure, "get_atomic_numbers") and hasattr(structure, "get_cell"):
        return Crystal.from_cartesian(
            structure.get_cell()[:],
            structure.get_positions(),
            structure.get_atomic_numbers(),
            tuple(structure.get_pbc()),
        )
    msg = (
        f"found {type(structure).__module__}.{type(structure).__qualname__}; required: a pymatgen Structure, "
        "ASE Atoms, jarvis Atoms, a dict of one of them, or lazygraph.Crystal"
    )
    raise StructureError(msg)


def _vectors(value: ArrayLike) -> NDArray[np.float64]:
    """Check three vectors and return them, (3, 3)."""
    try:
        lattice = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"the lattice is not numeric ({error}); required: three vectors of three numbers, A"
        raise StructureError(msg) from error
    if lattice.shape != (3, 3):
        msg = f"the lattice has shape {lattice.shape}; required: (3, 3), rows are the lattice vectors in A"
        raise StructureError(msg)
    if not np.abs(lattice).max() <= MAX_LENGTH:
        if not np.isfinite(lattice).all():
            msg = f"the lattice holds NaN or infinity: {lattice.tolist()}"
            raise StructureError(msg)
        msg = f"a lattice vector reaches {np.abs(lattice).max():.3g} A; required: at most {MAX_LENGTH:,.0f} A"
        raise StructureError(msg)
    return lattice


def _directions(value: Any) -> tuple[bool, bool, bool]:
    try:
        a, b, c = value
    except (TypeError, ValueError) as error:
        msg = f"found pbc={value!r}; required: three booleans, one for each lattice vector"
        raise StructureError(msg) from error
    return bool(a), bool(b), bool(c)


def _lattice(value: ArrayLike) -> NDArray[np.float64]:
    return _spanning(_vectors(value))


def _spanning(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the three vectors if they span a cell."""
    if abs(det := determinant(lattice)) < MIN_CELL_VOLUME:
        msg = f"the cell is singular: |det| = {abs(det):.3g} A^3; required: at least {MIN_CELL_VOLUME:g} A^3"
        raise StructureError(msg)
    lattice += 0.0
    return lattice


def _coordinates(value: ArrayLike, what: str, most: float) -> NDArray[np.float64]:
    coordinates = _rows(value, what)
    _require_within(coordinates, what, most)
    coordinates += 0.0  # files write -0.00000000; without its sign a record can hold the number as an integer
    return coordinates


def _rows(value: ArrayLike, what: str) -> NDArray[np.float64]:
    """Check coordinates and return them, (N, 3)."""
    try:
        coordinates = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"the {what} are not numeric ({error}); required: three numbers per atom"
        raise StructureError(msg) from error
    if coordinates.size == 0:
        msg = "the structure has no atoms; required: at least one"
        raise StructureError(msg)
    if coordinates.ndim != 2 or coordinates.shape[1] != 3:
        msg = f"the {what} have shape {coordinates.shape}; required: (N, 3)"
        raise StructureError(msg)
    return coordinates


def _require_within(coordinates: NDArray[np.float64], what: str, most: float) -> None:
    if not np.abs(coordinates).max() <= most:
        bad = int(np.flatnonzero(~(np.abs(coordinates) <= most).all(axis=1))[0])
        required = "finite numbers" if not np.isfinite(coordinates[bad]).all() else f"at most {most:,.0f} from zero"
        msg = f"the {what} of atom {bad} are {coordinates[bad].tolist()}; required: {required}"
        raise StructureError(msg)


def _numbers(value: ArrayLike, n_atoms: int) -> NDArray[np.uint8]:
    try:
        numbers = np.asarray(value)
    except ValueError as error:
        msg = f"the atomic numbers are not an array ({error}); required: one integer per atom"
        raise StructureError(msg) from error
    if numbers.shape != (n_atoms,):
        msg = f"found atomic numbers of shape {numbers.shape} for {n_atoms} atoms; required: one per atom"
        raise StructureError(msg)
    if numbers.dtype.kind not in "iu":
        msg = f"the atomic numbers have type {numbers.dtype}; required: integers"
        raise StructureError(msg)
    found = numbers.tolist()  # Python's min and max of a few dozen integers take 1 us, numpy's up to 60
    if min(found) < 1 or max(found) >= len(SYMBOLS):
        bad = int(np.flatnonzero((numbers < 1) | (numbers >= len(SYMBOLS)))[0])
        msg = f"atom {bad} has atomic number {int(numbers[bad])}; required: 1 to {len(SYMBOLS) - 1}"
        raise StructureError(msg)
    return numbers.astype(np.uint8)


def _complete_cell(cell: NDArray[np.float64], pbc: tuple[bool, ...]) -> NDArray[np.float64]:
    """Replace zero vectors along non-periodic directions by unit vectors normal to the others."""
    missing = [i for i in range(3) if not pbc[i] and not cell[i].any()]
    if len(missing) == 3:
        return np.eye(3)
    if len(missing) == 2:
        kept = cell[({0, 1, 2} - set(missing)).pop()]
        axis = np.eye(3)[int(np.argmin(np.abs(kept)))]
        first = np.cross(kept, axis)
        length = float(np.linalg.norm(first))
        if length == 0:  # a zero vector along which the crystal should repeat
            return cell
        cell[missing[0]] = first / length
        missing = missing[1:]
    if missing:
        i = missing[0]
        normal = np.cross(cell[(i + 1) % 3], cell[(i + 2) % 3])
        length = float(np.linalg.norm(normal))
        if length > 0:
            cell[i] = normal / length
    return cell


def symbols_to_numbers(symbols: Any) -> NDArray[np.uint8]:
    """Return the atomic numbers of element symbols, (N,); StructureError names the first unknown symbol."""
    try:
        return np.array([ATOMIC_NUMBERS[s] for s in symbols], dtype=np.uint8)
    except KeyError as error:
        msg = f"unknown element {error.args[0]!r}; required: a symbol of the periodic table (H to Og)"
        raise StructureError(msg) from None


def _from_jarvis(lattice: ArrayLike, coords: ArrayLike, elements: Any, *, cartesian: bool) -> Crystal:
    numbers = symbols_to_numbers([str(e).strip() for e in elements])
    return (Crystal.from_cartesian if cartesian else Crystal)(lattice, coords, numbers)


def _from_pymatgen(structure: Any) -> Crystal:
    symbols = []
    for i, site in enumerate(structure.sites):
        species = site.species
        if not site.is_ordered:
            msg = f"site {i} is disordered ({species}); required: one whole atom per site"
            raise StructureError(msg)
        symbols.append(next(iter(species)).symbol)
    lattice = structure.lattice
    return Crystal(lattice.matrix, structure.frac_coords, symbols_to_numbers(symbols), tuple(lattice.pbc))


def _from_mapping(data: Mapping[str, Any]) -> Crystal:
    if "lattice_mat" in data:  # jarvis Atoms.to_dict()
        return _from_jarvis(
            data["lattice_mat"], data.get("coords", ()), data.get("elements", ()), cartesian=bool(data.get("cartesian"))
        )
    if "sites" in data and "lattice" in data:  # pymatgen Structure.as_dict()
        return _from_pymatgen_dict(data)
    if "numbers" in data and ("positions" in data or "scaled_positions" in data):  # ASE Atoms.todict()
        cell = data.get("cell", np.zeros((3, 3)))
        pbc = np.broadcast_to(np.asarray(data.get("pbc", False), dtype=bool), (3,))
        if "scaled_positions" in data:
            return Crystal(cell, data["scaled_positions"], data["numbers"], tuple(pbc))
        return Crystal.from_cartesian(cell, data["positions"], data["numbers"], tuple(pbc))
    msg = (
        f"found a dict with the keys {sorted(map(str, data))[:8]}; required: a jarvis dict (lattice_mat, coords, "
        "elements), a pymatgen dict (lattice, sites) or an ASE dict (numbers, positions, cell)"
    )
    raise StructureError(msg)


def _from_pymatgen_dict(data: Mapping[str, Any]) -> Crystal:
    try:
        lattice = data["lattice"]["matrix"]
        pbc = data["lattice"].get("pbc", (True, True, True))
        coordinates, symbols = [], []
        for i, site in enumerate(data["sites"]):
            species = site["species"]
            if len(species) != 1 or abs(species[0].get("occu", 1) - 1) > 1e-8:
                msg = f"site {i} is disordered ({species}); required: one whole atom per site"
                raise StructureError(msg)
            symbols.append(_bare_symbol(species[0]["element"]))
            coordinates.append(site["abc"])
    except (KeyError, TypeError, AttributeError) as error:
        msg = (
            f"a pymatgen dict cannot be read ({type(error).__name__}: {error}); required: lattice.matrix and, per "
            "site, species and abc"
        )
        raise StructureError(msg) from error
    return Crystal(lattice, coordinates, symbols_to_numbers(symbols), tuple(pbc))


def _bare_symbol(species: str) -> str:
    """Return ``Fe`` for ``Fe3+``, because oxidation states do not change a graph."""
    return species.rstrip("+-.0123456789")
