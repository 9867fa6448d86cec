"""Conversion of a CIF data block into a crystal: cell, sites, symmetry, all atoms, comparison with the formula."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import gemmi
import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import ATOMIC_NUMBERS, Crystal
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.base import Remark
from lazygraph.sources.cif.formula import Formula, formula_of, formula_text
from lazygraph.sources.cif.orbits import expand
from lazygraph.sources.cif.sites import ABSENT, HEAVIEST, species_of
from lazygraph.sources.cif.symmetry import P1, Setting, require_three_dimensions, settings_of
from lazygraph.sources.cif.text import parse, with_underscores
from lazygraph.sources.cif.trigonometry import arc_cosine, cosine_and_sine
from lazygraph.sources.options import CifFormula

__all__ = ["lattice_from_parameters", "parse_cif"]

ANGLES = ("alpha", "beta", "gamma")
# Tags of the cell, and their defaults in the CIF core dictionary.
CELL = {f"_cell_length_{axis}": None for axis in "abc"} | {f"_cell_angle_{angle}": "90" for angle in ANGLES}
SITE_TAGS = tuple(f"_atom_site{dot}{name}" for dot in "_." for name in ("label", "type_symbol", "fract_x"))
COLUMNS = {
    name: f"_atom_site_{name}"
    for name in "label type_symbol fract_x fract_y fract_z occupancy disorder_group disorder_assembly "
    "attached_hydrogens calc_flag".split()
}
DUMMY = frozenset({"dum", "'dum'", '"dum"'})
SAME_POSITION = 1e-4  # fractional
DECIMALS = re.compile(r"\.(\d+)(?![\deE])")
WHOLE = 1e-8  # an occupancy may differ from 1 by this much
CONTRADICTS = "contradict the formula or Z of their CIF and were kept all the same"
UNREADABLE = "have a formula that could not be read, so their composition was not compared with it"
LEFT_OUT = "have lines that are not valid CIF; these were left out, because they do not describe the structure"
DUMMIES = "have dummy sites (_atom_site_calc_flag dum); these are not atoms, and were left out"


@dataclass(frozen=True, slots=True)
class _Sites:
    """The sites of a data block that are atoms."""

    numbers: NDArray[np.uint8]  # (S,)
    frac_coords: NDArray[np.float64]  # (S, 3)
    texts: tuple[list[str], ...]
    """The written coordinates: x, y and z of all sites."""
    doubtful: str | None
    """A text that can be read in two ways, so that the formula must confirm the reading; None if there is none."""
    dummies: tuple[str, ...]
    """The names of dummy sites that were left out."""


def parse_cif(text: str, formula: CifFormula = "error", remarks: list[Remark] | None = None) -> Crystal:
    """Return the crystal of a text with one structure. The text may have other data blocks without sites.

    The function takes the symmetry from the first of these items that the file has: listed operations, Hall symbol,
    Hermann-Mauguin symbol, number of the space group. If they can be read in several ways (two origins; operations and
    a symbol of different size), the formula and Z decide. Every operation is applied to every site. If several
    operations move a site to the same special position, up to the rounding of its digits, they give one atom there.

    In P 1, coordinates stay as written. Otherwise they are wrapped into [0, 1). Atoms are in the order of the sites in
    the file, and then of the operations.

    Args:
        text: the CIF.
        formula: what to do if the atoms contradict ``_chemical_formula_sum`` (their ratio) or
            ``_cell_formula_units_Z`` (their number): ``error`` (default), ``warn`` (keep the crystal, with a remark) or
            ``ignore``.
        remarks: a list to which the function appends remarks about a crystal that it keeps.

    Raises:
        StructureError: the crystal is disordered or modulated, a site is not one element, the formula contradicts the
            atoms, or nothing decides between several readings.
        UnreadableInput: the text is not CIF, holds several structures, or lacks the cell, the sites or the symmetry.

    Example:
        >>> text = '''data_NaCl
        ... _cell_length_a 5.64
        ... _cell_length_b 5.64
        ... _cell_length_c 5.64
        ... _cell_angle_alpha 90
        ... _cell_angle_beta 90
        ... _cell_angle_gamma 90
        ... _symmetry_space_group_name_H-M 'F m -3 m'
        ... loop_
        ...   _atom_site_type_symbol
        ...   _atom_site_fract_x
        ...   _atom_site_fract_y
        ...   _atom_site_fract_z
        ...   Na  0 0 0
        ...   Cl  0.5 0.5 0.5
        ... '''
        >>> len(parse_cif(text))
        8
    """
    remarks = [] if remarks is None else remarks
    blocks, left_out = parse(text)
    block = _only_structure(blocks)
    if block.find_value("_cell_length_a") is None or ".xyz" in text or "symop." in text:
        block = with_underscores(block)
    if left_out:
        remarks.append(Remark(LEFT_OUT, ", ".join(left_out)))
    stated = formula_of(block)
    lattice = lattice_from_parameters(*_cell(block))
    sites = _sites(block, stated)
    if sites.dummies:
        remarks.append(Remark(DUMMIES, ", ".join(sites.dummies)))
    if "ssg" in text or "_modulation_" in text:  # searching the text is faster than looking up each tag
        require_three_dimensions(block)
    crystal = _decided(settings_of(block, lattice), sites, lattice, stated)
    counts = _counts(crystal)
    if sites.doubtful is not None and not stated.confirms(counts):
        found = stated.contradiction(counts) or "the file has no formula"
        msg = f"{sites.doubtful}; only the formula of the file could decide it: {found}"
        raise StructureError(msg)
    if formula != "ignore":
        _judge(stated, counts, formula, remarks)
    return crystal


def lattice_from_parameters(lengths: Sequence[float], angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the lattice vectors of a cell: c along z, a in the xz plane.

    The function performs the operations of ``pymatgen.core.Lattice.from_parameters`` in the same order, but rounds each
    cosine, sine and arc cosine correctly, so that every machine gets the same bits.

    Args:
        lengths: a, b and c, A.
        angles: alpha, beta and gamma, degrees.

    Returns:
        (3, 3) lattice vectors, A.

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
    (cos_alpha, sin_alpha), (cos_beta, sin_beta), (cos_gamma, _) = (cosine_and_sine(math.radians(x)) for x in angles)
    area = max(sin_alpha * sin_beta, sys.float_info.min)  # which rounds to 0 in flat cells; the crystal refuses them
    cos_star = (cos_alpha * cos_beta - cos_gamma) / area
    cos_star, sin_star = cosine_and_sine(arc_cosine(min(max(cos_star, -1.0), 1.0)))
    return np.array(
        [
            [a * sin_beta, 0.0, a * cos_beta],
            [-b * sin_alpha * cos_star, b * sin_alpha * sin_star, b * cos_alpha],
            [0.0, 0.0, c],
        ]
    )


# ---- what the file says ----


def _only_structure(blocks: gemmi.cif.Document) -> gemmi.cif.Block:
    """Return the one data block with sites.

    Raises:
        UnreadableInput: there is none, or there are several.
    """
    if len(blocks) == 1:
        return blocks[0]
    found = [block for block in blocks if any(map(block.find_values, SITE_TAGS))]
    if len(found) == 1:
        return found[0]
    if not found:
        msg = "the CIF holds no data block with atoms (_atom_site_label, _atom_site_fract_x)"
        raise UnreadableInput(msg)
    names = ", ".join(block.name for block in found[:5]) + (", ..." if len(found) > 5 else "")
    msg = (
        f"the CIF holds {len(found)} structures ({names}), but only one is allowed here. Give the text as a separate "
        "CIF file; lazygraph then reads all of them"
    )
    raise UnreadableInput(msg)


def _cell(block: gemmi.cif.Block) -> tuple[list[float], list[float]]:
    """Lengths and angles; an angle that the file leaves out is 90 degrees (CIF core dictionary)."""
    values = []
    for tag, default in CELL.items():
        text = block.find_value(tag) or default
        if text is None:
            msg = f"the CIF has no {tag}; it must give the three lengths of the cell"
            raise UnreadableInput(msg)
        values.append(_number(text, tag))
    return values[:3], values[3:]


def _number(text: str, what: str) -> float:
    """Return the value of a CIF number; digits of uncertainty in brackets are dropped."""
    try:
        value = float(text)
    except ValueError:
        value = gemmi.cif.as_number(gemmi.cif.as_string(text))
    if not math.isfinite(value) or "_" in text:  # Python reads 1_000 as a number, CIF does not
        msg = f"{what} in the CIF is {text!r}; required: a number"
        raise UnreadableInput(msg)
    return value


def _columns(block: gemmi.cif.Block) -> dict[str, list[str]]:
    """Return the columns of the sites by name, without ``_atom_site_``. A column that the file lacks is empty."""
    loop = block.find_loop("_atom_site_fract_x").get_loop()
    found: dict[str, list[str]] = {}
    if loop is not None:
        values, tags = loop.values, loop.tags
        width = len(tags)
        found = {tag.lower(): values[i::width] for i, tag in enumerate(tags)}
    columns = {}
    for name, tag in COLUMNS.items():
        column = found.get(tag)
        if column is None:  # a pair, in another loop, or nowhere
            column = list(elsewhere) if (elsewhere := block.find_values(tag)) else []
        columns[name] = column
    return columns


def _sites(block: gemmi.cif.Block, stated: Formula) -> _Sites:
    """Return the sites that are atoms, after checking that each is one whole atom."""
    columns = _columns(block)
    if not (columns["fract_x"] and columns["fract_y"] and columns["fract_z"]):
        msg = "the CIF has no atoms with fractional coordinates (_atom_site_fract_x, _y, _z); each site needs three"
        raise UnreadableInput(msg)
    names = columns["label"] or columns["type_symbol"]
    if not names or len({len(column) for column in columns.values() if column}) != 1:
        msg = "the sites of the CIF stand in several loops of different lengths; one loop must list all sites"
        raise UnreadableInput(msg)
    dummies: tuple[str, ...] = ()
    if any(flag.lower() in DUMMY for flag in columns["calc_flag"]):
        atoms = [flag.lower() not in DUMMY for flag in columns["calc_flag"]]
        dummies = tuple(name for name, atom in zip(names, atoms, strict=True) if not atom)
        columns = {name: list(compress(column, atoms)) for name, column in columns.items()}
        names = list(compress(names, atoms))
    _require_whole_atoms(names, columns)
    numbers, doubtful = _numbers(columns["type_symbol"], names, block, stated)
    places = columns["fract_x"], columns["fract_y"], columns["fract_z"]
    coordinates = _plain(places)
    if coordinates is None:
        coordinates, unsaid = _coordinates(places, names, numbers)
        doubtful = doubtful or unsaid
    return _Sites(numbers, coordinates.T, places, doubtful, dummies)


def _plain(columns: Sequence[Sequence[str]]) -> NDArray[np.float64] | None:
    """Return (3, S) coordinates, if all texts are plain numbers without an uncertainty; otherwise None."""
    text = "".join(map("".join, columns))
    if "_" in text or not text.isascii():  # Python accepts underscores and other digits in numbers, CIF does not
        return None
    try:
        values = np.array(columns, dtype=np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _coordinates(
    columns: Sequence[Sequence[str]], names: Sequence[str], numbers: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], str | None]:
    """Return (3, S) coordinates, and the reason why the formula must confirm them, or None.

    ``.`` means the default of the CIF dictionary, which is 0; old files of the ICSD write zeros in this way. For a
    hydrogen atom, ``.`` means that the position is not known.
    """
    reason = None
    rows = []
    for axis, column in zip("xyz", columns, strict=True):
        row = []
        for i, text in enumerate(column):
            if text == "." and numbers[i] != 1:
                reason = f"the {axis} of site {names[i]!r} is '.', which could stand for 0 or for a position not known"
                row.append(0.0)
            else:
                row.append(_number(text, f"the {axis} of site {names[i]!r}"))
        rows.append(row)
    return np.array(rows), reason


def _require_whole_atoms(names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse sites with an occupancy other than 1, with disorder, or with attached hydrogens.

    Raises:
        StructureError: a site is not one whole atom.
    """
    for i, text in enumerate(columns["occupancy"]):
        if text in {"1", "1.0"} or text in ABSENT:  # the CIF core dictionary: a missing occupancy is 1
            continue
        if abs(_number(text, f"the occupancy of site {names[i]!r}") - 1) > WHOLE:
            msg = (
                f"site {i} ({names[i]}) has occupancy {text}; required: 1, because crystals with disorder are not read"
            )
            raise StructureError(msg)
    for name in ("disorder_group", "disorder_assembly"):
        for i, text in enumerate(columns[name]):
            if text not in ABSENT and text != "0":
                msg = f"site {i} ({names[i]}) is in {name} {text}; crystals with disorder are not read"
                raise StructureError(msg)
    for i, text in enumerate(columns["attached_hydrogens"]):
        if text not in ABSENT and _number(text, f"attached_hydrogens of site {names[i]!r}") > 0:
            msg = f"site {i} ({names[i]}) has {text} attached hydrogens that are not sites; every atom needs a site"
            raise StructureError(msg)


def _numbers(
    types: Sequence[str], names: Sequence[str], block: gemmi.cif.Block, stated: Formula
) -> tuple[NDArray[np.uint8], str | None]:
    """Return (S,) atomic numbers, and the reason why the formula must confirm them, or None."""
    numbers = [ATOMIC_NUMBERS.get(text, 0) for text in types]
    doubtful = None
    if not numbers or 0 in numbers or "T" in types or max(numbers) > HEAVIEST:
        known = stated.elements or _listed_types(block)
        texts = [gemmi.cif.as_string(text) for text in types] or [""] * len(names)
        names = [gemmi.cif.as_string(text) or text for text in names]
        species = [species_of(text, name, known) for text, name in zip(texts, names, strict=True)]
        numbers = [one.number for one in species]
        for one, name in zip(species, names, strict=True):
            if not one.certain:
                doubtful = f"the label {name!r} could stand for an element or for a group of atoms"
                break
    return np.array(numbers, dtype=np.uint8), doubtful


def _listed_types(block: gemmi.cif.Block) -> frozenset[int]:
    """Return the elements of ``_atom_type_symbol``, the list of all types in the file."""
    texts = (gemmi.cif.as_string(text).rstrip("0123456789+-") for text in block.find_values("_atom_type_symbol"))
    return frozenset(ATOMIC_NUMBERS[text] for text in texts if text in ATOMIC_NUMBERS)


# ---- all atoms ----


def _decided(settings: list[Setting], sites: _Sites, lattice: NDArray[np.float64], stated: Formula) -> Crystal:
    """Return the crystal of the only setting, or of the settings that the formula confirms, if they agree.

    Raises:
        StructureError: the formula confirms no setting, or settings that give different crystals.
        UnreadableInput: there is no setting, and the sites are not known to be all atoms of the cell.
    """
    if len(settings) == 1:
        return _crystal(settings[0], sites, lattice)
    if not settings:
        crystal = _crystal(P1, sites, lattice)
        if stated.units is not None and stated.confirms(_counts(crystal)):
            return crystal
        msg = (
            "the CIF does not state its symmetry; it must give operations (_symmetry_equiv_pos_as_xyz, or 'x, y, z' "
            "if the sites are all atoms of the cell), a space group symbol or a space group number"
        )
        raise UnreadableInput(msg)
    confirmed, reasons = [], []
    for setting in settings:
        try:
            crystal = _crystal(setting, sites, lattice)
        except StructureError as error:
            reasons.append(f"{setting.name}: {error}")
            continue
        counts = _counts(crystal)
        if stated.confirms(counts):
            confirmed.append(crystal)
        reasons.append(f"{setting.name}: {stated.contradiction(counts) or formula_text(counts)}")
    if not confirmed or not all(_same_crystal(confirmed[0], other) for other in confirmed[1:]):
        none = "all agree with the formula" if confirmed else "none is confirmed by formula and Z"
        msg = f"the symmetry of the CIF can be read in {len(settings)} ways, and {none}: {'; '.join(reasons)}"
        raise StructureError(msg)
    return confirmed[0]


def _same_crystal(one: Crystal, other: Crystal) -> bool:
    """Tell whether two crystals have the same atoms on the same positions, in any order."""
    if len(one) != len(other):
        return False
    partners = np.zeros(len(other), dtype=np.intp)
    for position, number in zip(one.frac_coords, one.numbers, strict=True):
        apart = other.frac_coords - position
        near = (np.abs(apart - np.rint(apart)) <= SAME_POSITION).all(axis=1) & (other.numbers == number)
        if np.count_nonzero(near) != 1:
            return False
        partners += near
    return bool((partners == 1).all())


def _crystal(setting: Setting, sites: _Sites, lattice: NDArray[np.float64]) -> Crystal:
    """Return the crystal that a setting generates from the sites."""
    if setting.operations is None:
        return Crystal(lattice, sites.frac_coords, sites.numbers)
    rounding = np.array([[_last_digit(text) for text in column] for column in sites.texts]).T
    positions, of_site = expand(sites.frac_coords, setting.operations, lattice, rounding)
    return Crystal(lattice, positions, sites.numbers[of_site])


def _last_digit(text: str) -> float:
    """Return one unit of the last decimal of a number: 0.001 for ``0.333(2)``."""
    decimals = DECIMALS.search(text)
    return 0.0 if decimals is None else 10.0 ** -len(decimals[1])


def _counts(crystal: Crystal) -> dict[int, int]:
    return Counter(crystal.numbers.tolist())


def _judge(stated: Formula, counts: Mapping[int, int], formula: CifFormula, remarks: list[Remark]) -> None:
    """Raise an error or append a remark if the atoms contradict the formula, or if the formula is unreadable.

    Raises:
        StructureError: the atoms contradict the formula or Z, and ``formula`` is ``error``.
    """
    if stated.unreadable:
        remarks.append(Remark(UNREADABLE, str(stated.text)))
    reason = stated.contradiction(counts)
    if reason is None:
        return
    if formula == "error":
        msg = f"{reason}; use --cif-formula warn (cif_formula='warn') to keep such crystals"
        raise StructureError(msg)
    remarks.append(Remark(CONTRADICTS, reason))
