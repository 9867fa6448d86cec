"""CIF text -> Crystal: gemmi reads the file, and the symmetry operations written in it are applied here.

A P1 file (every data set that pymatgen wrote) takes about 40 us; pymatgen's own parser takes 1 ms. What is not
expressed this way (no operations in the file, unusual symbols, magnetic groups, broken syntax) is handed to pymatgen.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

import gemmi
import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import ATOMIC_NUMBERS, Crystal
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.base import Remark
from lazygraph.sources.options import CifFormula

__all__ = ["lattice_from_parameters", "parse_cif", "sniff"]

CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
MAGNETIC = ("_space_group_symop_magn", "_space_group_magn", "_atom_site_moment")
# An element, then nothing, a site number (with one letter at most) or a charge: Na, Na1, O1A, Fe3+, O2-, Cl-1.
SITE = re.compile(r"([A-Z][a-z]?)(?:\d+[A-Za-z]?\d*[+-]?|[+-]\d*)?")
BLOCK = re.compile(rb"(?:\s|#[^\n]*\n)*+data_", re.IGNORECASE)
SAME_POSITION = 1e-4  # fractional; pymatgen's site_tolerance
IDEAL_FRACTION = 1e-4  # relative; pymatgen's frac_tolerance
WHOLE = 1e-8  # how far an occupancy may be from 1


class _ForPymatgen(Exception):  # a signal inside this module, never seen by a caller
    """The text says something that only pymatgen's reader understands."""


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file open a CIF data block; comments may stand before it."""
    return BLOCK.match(head) is not None


def parse_cif(text: str, formula: CifFormula = "error", remarks: list[Remark] | None = None) -> Crystal:
    """The crystal of the first data block that holds atoms.

    Coordinates of a P1 file stay as written. Elsewhere every operation listed in the file is applied to every site:
    coordinates within 1e-4 (relative) of 1/3 and 2/3 are taken as thirds first, images are wrapped into [0, 1), and
    images of one site that agree within 1e-4 in each coordinate (a special position) are one atom. These tolerances
    are pymatgen's. Atoms are in the order of the file's sites, then of its operations.

    Raises:
        StructureError: a site is partly occupied, or symmetry puts two sites at one position.
        UnreadableInput: neither gemmi nor pymatgen can read the text.

    Example:
        >>> text = '''data_CsCl
        ... _cell_length_a 4.11
        ... _cell_length_b 4.11
        ... _cell_length_c 4.11
        ... _cell_angle_alpha 90
        ... _cell_angle_beta 90
        ... _cell_angle_gamma 90
        ... _symmetry_equiv_pos_as_xyz 'x, y, z'
        ... loop_
        ...   _atom_site_type_symbol
        ...   _atom_site_fract_x
        ...   _atom_site_fract_y
        ...   _atom_site_fract_z
        ...   Cs  0 0 0
        ...   Cl  0.5 0.5 0.5
        ... '''
        >>> parse_cif(text).formula
        'ClCs'
    """
    try:
        return _with_gemmi(text)
    except _ForPymatgen:
        return _with_pymatgen(text)


def lattice_from_parameters(lengths: Sequence[float], angles: Sequence[float]) -> NDArray[np.float64]:
    """(3, 3) lattice vectors, A, of three lengths in A and three angles in degrees: a in the xz plane, c along z.

    The operations of ``pymatgen.core.Lattice.from_parameters`` in the same order, so the same 64 bits.

    Raises:
        StructureError: a length or an angle that no cell has.
    """
    if not (all(x > 0 for x in lengths) and all(0 < x < 180 for x in angles)):
        msg = (
            f"found the lengths {lengths} A and the angles {angles} degrees; "
            "required: positive lengths and angles between 0 and 180 degrees"
        )
        raise StructureError(msg)
    a, b, c = lengths
    radians = np.radians(angles)
    cos_alpha, cos_beta, cos_gamma = np.cos(radians)
    sin_alpha, sin_beta, _ = np.sin(radians)
    cos_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    gamma_star = np.arccos(min(max(cos_star, -1.0), 1.0))
    return np.array(
        [
            [a * sin_beta, 0.0, a * cos_beta],
            [-b * sin_alpha * np.cos(gamma_star), b * sin_alpha * np.sin(gamma_star), b * cos_alpha],
            [0.0, 0.0, c],
        ]
    )


def _with_gemmi(text: str) -> Crystal:
    if any(tag in text for tag in MAGNETIC):
        raise _ForPymatgen
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError):  # gemmi's two ways to refuse a syntax; pymatgen forgives more
        raise _ForPymatgen from None
    block = next((b for b in document if b.find_values("_atom_site_fract_x")), None)
    if block is None:
        raise _ForPymatgen
    operations = _operations(block)
    symbols = list(block.find_values("_atom_site_type_symbol") or block.find_values("_atom_site_label"))
    columns = [[_number(v) for v in block.find_values(f"_atom_site_fract_{x}")] for x in "xyz"]
    if not len(symbols) == len(columns[0]) == len(columns[1]) == len(columns[2]):
        raise _ForPymatgen
    _require_whole(block.find_values("_atom_site_occupancy"), symbols)
    numbers = np.array([_atomic_number(s) for s in symbols], dtype=np.uint8)
    cell = [_number(block.find_value(f"_cell_{x}")) for x in CELL]
    lattice = lattice_from_parameters(cell[:3], cell[3:])
    sites = np.array(columns).T
    if operations is None:
        return Crystal(lattice, sites, numbers)
    positions, of_site = _expand(_thirds(sites), *operations)
    return Crystal(lattice, positions, numbers[of_site])


def _number(text: str | None) -> float:
    """The value of a CIF number; digits of uncertainty in brackets are dropped."""
    if text is None:
        raise _ForPymatgen
    try:
        return float(text)
    except ValueError:
        try:
            return float(gemmi.cif.as_string(text).split("(")[0])
        except ValueError:
            raise _ForPymatgen from None


@lru_cache(maxsize=4096)
def _atomic_number(symbol: str) -> int:
    match = SITE.fullmatch(gemmi.cif.as_string(symbol))
    if match is None or match[1] not in ATOMIC_NUMBERS:
        raise _ForPymatgen
    return ATOMIC_NUMBERS[match[1]]


def _require_whole(occupancies: gemmi.cif.Column, symbols: list[str]) -> None:
    for i, text in enumerate(occupancies):
        if text == "1" or text in {"?", "."}:  # the CIF core dictionary: a missing occupancy is 1
            continue
        if abs(_number(text) - 1) > WHOLE:
            msg = f"site {i} ({symbols[i]}) has occupancy {text}; required: 1, a crystal without disorder"
            raise StructureError(msg)


def _operations(block: gemmi.cif.Block) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(M, 3, 3) rotations and (M, 3) translations listed in the file; None if the identity is the only one."""
    found = next((column for tag in OPERATIONS if (column := block.find_values(tag))), None)
    if found is None:
        raise _ForPymatgen
    texts = [gemmi.cif.as_string(text) for text in found]
    if len(texts) == 1 and texts[0].replace(" ", "").lower() == "x,y,z":
        return None
    try:
        operations = [gemmi.Op(text) for text in texts]
    except (ValueError, RuntimeError):
        raise _ForPymatgen from None
    rotations = np.array([operation.rot for operation in operations], dtype=np.float64)
    translations = np.array([operation.tran for operation in operations], dtype=np.float64)
    return rotations / gemmi.Op.DEN, translations / gemmi.Op.DEN


def _thirds(sites: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates written as 0.3333 or 0.6667 become 1/3 and 2/3, so that special positions meet."""
    out = sites.copy()
    for ideal in (1 / 3, 2 / 3):
        out[np.abs(sites / ideal - 1) <= IDEAL_FRACTION] = ideal
    return out


def _expand(
    sites: NDArray[np.float64], rotations: NDArray[np.float64], translations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(N, 3) images of (S, 3) sites under all operations, each position once, and (N,) the site of each."""
    images = np.einsum("mij,sj->smi", rotations, sites) + translations
    images -= np.floor(images)
    # the first of each position: no earlier image of the site is the same
    kept = [image[_same(image, image).argmax(axis=1) == np.arange(len(image))] for image in images]
    positions = np.concatenate(kept)
    of_site = np.repeat(np.arange(len(sites)), [len(k) for k in kept])
    # two orbits are disjoint or the same, so one image of each site tells
    site, position = np.nonzero(_same(images[:, 0], positions))
    other = np.flatnonzero(of_site[position] != site)
    if len(other):
        msg = (
            f"symmetry puts sites {site[other[0]]} and {of_site[position[other[0]]]} on one position; "
            "required: one whole atom per position"
        )
        raise StructureError(msg)
    return positions, of_site


def _same(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, M) whether two positions agree up to whole cells and the tolerance."""
    apart = some[:, None] - others[None]
    apart -= np.rint(apart)
    return np.asarray((np.abs(apart) <= SAME_POSITION).all(axis=2))


def _with_pymatgen(text: str) -> Crystal:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pymatgen repairs on its way is not our caller's to act on
        try:
            structures = CifParser.from_str(text, check_cif=False).parse_structures(primitive=False, on_error="raise")
        except Exception as error:
            msg = f"neither gemmi nor pymatgen can read the CIF: {type(error).__name__}: {error}"
            raise UnreadableInput(msg) from error
    if not structures:
        msg = "the CIF holds no data block with a cell and atoms; required: one structure"
        raise UnreadableInput(msg)
    # pymatgen makes up a species for a symbol that it does not know
    unknown = [symbol for symbol in structures[0].symbol_set if symbol not in ATOMIC_NUMBERS]
    if unknown:
        msg = f"found the element {unknown[0]!r}; required: a symbol of the periodic table (H to Og)"
        raise StructureError(msg)
    return Crystal.from_any(structures[0])
