"""The symmetry of a CIF: all sets of symmetry operations that its text can mean.

The operations listed in the file come first, then the Hall symbol, the Hermann-Mauguin symbol and the number of the
group. A symbol may stand for several settings: two origins, hexagonal or rhombohedral axes, three unique axes. Settings
that do not preserve the cell are excluded. The formula decides between the others, see
:mod:`lazygraph.sources.cif`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.cif.orbits import Operations, strain
from lazygraph.sources.cif.sites import ABSENT

__all__ = ["P1", "Setting", "require_three_dimensions", "settings_of"]

LISTED = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_operation_mxmymz")
MAGNETIC_CENTRING = ("_space_group_symop_magn_centering_xyz", "_space_group_symop_magn_centering_mxmymz")
HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
HERMANN_MAUGUIN = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_H-M_full",
    "_space_group_name_H-M_ref",
)
NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
SUPERSPACE = (
    "_space_group_symop_ssg_operation_algebraic",
    "_space_group_ssg_name",
    "_space_group_ssg_name_IT",
    "_space_group_ssg_name_WJJ",
    "_cell_modulation_dimension",
)
IDENTITY = frozenset({"x,y,z", "+x,+y,+z"})
# The operations that pymatgen reads. gemmi reads only translations that occur in space groups.
OPERATION = re.compile(r"(?:(?:^|,)[0-9+*/. -]*[xyz][xyz0-9+*/. -]*){3}", re.IGNORECASE)
# The qualifiers that the ICSD writes after a symbol, and their names in gemmi's table.
SUFFIX = re.compile(r"(.*\S)\s*(?:(?<![HR]):\s*([12HRhr])|(?<=[\sa-z\d:])(HR|RS|H|R|S|Z))")
QUALIFIERS = {"HR": "H", "RS": "R", "S": "1", "Z": "2"}
PREFERENCES = ("1H", "2H", "1R", "2R")
FITS = 0.02  # relative; operations may change the lengths of a cell by this much, because cells are rounded
EQUAL = 1e-5  # two settings fit a cell equally well if their strains differ by less than this
MAX_OPERATIONS = 2_000  # in one file; each is compared with all others. A supercell may list a group several times
WHOLE = 1e-6  # the elements of a rotation may differ from whole numbers by this much
STEPS = 72  # translations are compared in steps of 1/72 of a cell; those of space groups are multiples of 1/24


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to read the symmetry of a file."""

    name: str
    """Its name in messages."""
    operations: Operations | None
    """None if the only operation is the identity."""
    axis: str = ""
    """The unique axis of a monoclinic setting that a Hermann-Mauguin symbol names; otherwise empty."""

    def __len__(self) -> int:
        return 1 if self.operations is None else len(self.operations)


P1 = Setting("P 1", None)


def settings_of(block: gemmi.cif.Block, lattice: NDArray[np.float64]) -> list[Setting]:
    """Return all ways to read the symmetry of a data block; an empty list if it does not state its symmetry.

    There are several ways if a symbol has several settings that fit the cell, or if the listed operations and the
    symbol belong to groups of different size. The symmetry alone cannot decide between them.

    Args:
        block: the data block.
        lattice: (3, 3) lattice vectors, A.

    Raises:
        StructureError: the listed operations do not form a group or do not fit the cell, or the group does not fit the
            cell.
        UnreadableInput: a symbol or an operation cannot be read.
    """
    listed = _listed(block)
    symbol = _given(block, HERMANN_MAUGUIN)
    if listed is P1 and symbol is not None and symbol.replace(" ", "") == "P1":
        return [P1]
    if listed is not None and listed.operations is not None and strain(listed.operations, lattice) > FITS:
        msg = (
            f"the {len(listed)} symmetry operations of the file do not fit its cell: they change its lengths or angles"
        )
        raise StructureError(msg)
    named = _named(block, symbol, lattice, required=listed is None)
    return named if listed is None else _joined([listed], named)


def require_three_dimensions(block: gemmi.cif.Block) -> None:
    """Refuse a modulated structure, whose operations act in more than three dimensions.

    Raises:
        StructureError: the file names a superspace group, its operations, or modulated dimensions.
    """
    for tag in SUPERSPACE:
        if _given(block, (tag,)) not in {None, "0"}:
            msg = (
                f"the CIF has {tag}: it is a modulated structure, and only crystals that repeat in three dimensions "
                "are read"
            )
            raise StructureError(msg)


def _given(block: gemmi.cif.Block, tags: Iterable[str]) -> str | None:
    """Return the first text that the file has under one of several tags."""
    for tag in tags:
        column = block.find_values(tag)
        if column and (text := gemmi.cif.as_string(column[0]).strip()) not in ABSENT:
            return " ".join(text.split())
    return None


def _joined(some: list[Setting], others: list[Setting]) -> list[Setting]:
    """Return the first settings, and also the others if none of the first has as many operations."""
    sizes = {len(setting) for setting in some}
    return some if not others or sizes & {len(setting) for setting in others} else [*some, *others]


# ---- operations that are listed ----


def _listed(block: gemmi.cif.Block) -> Setting | None:
    if texts := _texts(block, MAGNETIC):
        return _magnetic(texts, _texts(block, MAGNETIC_CENTRING))
    texts = _texts(block, LISTED)
    if len(texts) == 1 and texts[0].replace(" ", "").lower() in IDENTITY:
        return P1
    return _group(texts) if texts else None


def _texts(block: gemmi.cif.Block, tags: Iterable[str]) -> tuple[str, ...]:
    for tag in tags:
        if column := block.find_values(tag):
            if len(column) > MAX_OPERATIONS:
                msg = (
                    f"found {len(column):,} symmetry operations; required: at most {MAX_OPERATIONS:,} (a space group "
                    "has at most 192)"
                )
                raise UnreadableInput(msg)
            # By index: an iteration over a gemmi column ends with a C++ exception, which takes longer than the rest.
            values = [column[i] for i in range(len(column))]
            if texts := tuple(gemmi.cif.as_string(text) for text in values if text not in ABSENT):
                return texts
    return ()


@lru_cache(maxsize=1024)
def _group(texts: Sequence[str]) -> Setting:
    return _checked([_operation(text) for text in texts], f"the {len(texts)} operations of the file")


@lru_cache(maxsize=256)
def _magnetic(texts: Sequence[str], centring: Sequence[str]) -> Setting:
    """Return the operations of a magnetic group, combined with each centring translation.

    Time reversal (the ``+1`` of ``x,y,z,+1``) is ignored.
    """
    operations = [_operation(text.rpartition(",")[0]) for text in texts]
    shifts = [_operation(text.rpartition(",")[0])[1] for text in centring] or [np.zeros(3)]
    every = [(rotation, translation + shift) for rotation, translation in operations for shift in shifts]
    return _checked(every, "the magnetic operations of the file")


def _operation(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        operation = gemmi.Op(text)
    except (ValueError, RuntimeError):
        return _unusual(text)
    rotation, translation = np.array(operation.rot, np.float64), np.array(operation.tran, np.float64)
    return rotation / gemmi.Op.DEN, translation / gemmi.Op.DEN


def _unusual(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return an operation with a translation that no space group has, such as the x+1/5 of a supercell."""
    from pymatgen.core.operations import SymmOp

    if OPERATION.fullmatch(text) is None:
        msg = f"cannot read the symmetry operation {text!r}; write it as in 'x, -y, z+1/2'"
        raise UnreadableInput(msg)
    operation = SymmOp.from_xyz_str(text)
    return np.array(operation.rotation_matrix), np.array(operation.translation_vector)


def _checked(operations: Sequence[tuple[Any, Any]], name: str) -> Setting:
    """Return the operations without repetitions, with the identity first, after checking that they form a group."""
    found: dict[bytes, tuple[Any, Any]] = {}
    for rotation, translation in operations:
        found.setdefault(_key(rotation, translation).tobytes(), (rotation, translation))
    rotations = np.array([rotation for rotation, _ in found.values()])
    if (
        np.abs(rotations - np.rint(rotations)).max() > WHOLE
        or np.abs(np.abs(np.linalg.det(rotations)) - 1).max() > WHOLE
    ):
        msg = f"{name} are no symmetry operations: a rotation has whole numbers and the determinant 1 or -1"
        raise StructureError(msg)
    translations = np.array([translation for _, translation in found.values()])
    for rotation, translation in found.values():
        products = _key(rotation @ rotations, translations @ rotation.T + translation)
        if not {key.tobytes() for key in products} <= found.keys():
            msg = f"{name} are no group: one after another they give operations that are not among them"
            raise StructureError(msg)
    identity = list(found).index(_key(np.eye(3), np.zeros(3)).tobytes())
    order = [identity, *(i for i in range(len(found)) if i != identity)]
    if len(order) == 1:
        return P1
    return Setting(name, Operations(rotations[order], translations[order]))


def _key(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    """(..., 12) integers that are equal for equal operations, up to translations by whole cells."""
    rotations = np.rint(rotations).astype(np.int64)
    steps = np.rint(translations * STEPS).astype(np.int64) % STEPS
    return np.concatenate([rotations.reshape(*rotations.shape[:-2], 9), steps], axis=-1)


# ---- groups that are named ----


def _named(
    block: gemmi.cif.Block, symbol: str | None, lattice: NDArray[np.float64], *, required: bool
) -> list[Setting]:
    """Return the settings of the group that the Hall symbol, the Hermann-Mauguin symbol or the number names.

    Args:
        block: the data block.
        symbol: its Hermann-Mauguin symbol, if it has one.
        lattice: (3, 3) lattice vectors, A.
        required: whether the file lists no operations, so that a name is needed. If False, a name that is unknown or
            does not fit the cell is ignored.
    """
    hall = _given(block, HALL)
    by_hall = [] if hall is None else _fitting(_of_hall(hall), lattice)
    by_symbol: list[Setting] = []
    if symbol is not None:
        every = _of_symbol(symbol)
        if not every and required and not by_hall:
            msg = f"unknown space group symbol {symbol!r}; list the symmetry operations in the file"
            raise UnreadableInput(msg)
        by_symbol = _fitting(every, lattice)
        if every and not by_symbol and required and not by_hall:
            raise _unfit(symbol)
    if by_hall or by_symbol or symbol is not None:
        return _joined(by_hall, by_symbol) if by_hall else by_symbol
    number = _given(block, NUMBER)
    if hall is not None and required:
        msg = f"the Hall symbol {hall!r} is unknown or does not fit the cell; list the symmetry operations in the file"
        raise UnreadableInput(msg)
    if number is None:
        return []
    every = _of_number(number)
    if not every and required:
        msg = f"unknown space group number {number!r}; allowed: 1 to 230"
        raise UnreadableInput(msg)
    fitting = _fitting(every, lattice)
    if every and not fitting and required:
        name = f"number {number}, in its standard setting,"
        raise _unfit(name)
    return fitting


def _unfit(name: str) -> StructureError:
    return StructureError(
        f"the space group {name} does not fit the cell: its operations change the lengths or angles of the cell; "
        "list the symmetry operations in the file"
    )


def _fitting(settings: Sequence[Setting], lattice: NDArray[np.float64]) -> list[Setting]:
    """Return the settings that preserve the cell.

    If all of them are monoclinic settings that differ in the unique axis, return only the setting with the smallest
    strain. If several fit equally well, return the first in gemmi's table, which has the unique axis b.
    """
    changes = {s.name: 0.0 if s.operations is None else strain(s.operations, lattice) for s in settings}
    fitting = [s for s in settings if changes[s.name] <= FITS]
    if len(fitting) > 1 and all(setting.axis for setting in fitting):
        least = min(changes[s.name] for s in fitting)
        return [next(s for s in fitting if changes[s.name] <= least + EQUAL)]
    return fitting


@lru_cache(maxsize=1024)
def _of_hall(symbol: str) -> tuple[Setting, ...]:
    try:
        operations = gemmi.symops_from_hall(symbol.replace("_", " "))
    except (ValueError, RuntimeError):
        return ()
    return (_of_gemmi(f"Hall symbol {symbol}", operations),)


@lru_cache(maxsize=1024)
def _of_number(text: str) -> tuple[Setting, ...]:
    """Return the standard settings of a group: unique axis b and cell choice 1, with both origins or both R axes."""
    try:
        number = int(text)
    except ValueError:
        return ()
    group = gemmi.find_spacegroup_by_number(number) if 1 <= number <= 230 else None
    return () if group is None else _siblings(group)


@lru_cache(maxsize=1024)
def _of_symbol(text: str) -> tuple[Setting, ...]:
    """Return the settings that a Hermann-Mauguin symbol may stand for, old and full ones too; none if it is unknown."""
    symbol = re.sub(r"[_~]|\(([0-9])\)", r"\1", text)  # 6_3, 2~1~ and 2(1) are screw axes
    qualifier = None
    if (match := SUFFIX.fullmatch(symbol)) is not None:
        suffix = (match[2] or match[3]).upper()
        symbol, qualifier = match[1].rstrip(" :"), QUALIFIERS.get(suffix, suffix)
    groups = _by_name(symbol) or _by_name(_short(symbol))
    if qualifier is not None:
        groups = [group for group in groups if group.ext == qualifier]
    return tuple(
        replace(_of_gemmi(group.xhm(), group.operations()), axis=group.monoclinic_unique_axis().strip("\0"))
        for group in groups
    )


def _by_name(symbol: str) -> list[gemmi.SpaceGroup]:
    """Return the settings in gemmi's table that a symbol names, each once."""
    found: dict[str, gemmi.SpaceGroup] = {}
    for preference in PREFERENCES:
        group = gemmi.find_spacegroup_by_name(symbol, prefer=preference)
        if group is not None:
            found[group.xhm()] = group
    if all(group.crystal_system_str() == "monoclinic" for group in found.values()):
        for group in _monoclinic().get(symbol.replace(" ", ""), ()):
            found.setdefault(group.xhm(), group)
    return list(found.values())


@cache
def _monoclinic() -> dict[str, list[gemmi.SpaceGroup]]:
    """Return a map from the short symbols of monoclinic groups, without blanks, to their settings, one per axis."""
    table: dict[str, list[gemmi.SpaceGroup]] = {}
    for group in gemmi.spacegroup_table():
        if group.crystal_system_str() == "monoclinic":
            lattice, *axes = group.hm.split()
            table.setdefault(lattice + "".join(axis for axis in axes if axis != "1"), []).append(group)
    return table


def _short(symbol: str) -> str:
    """Return the short form of a full symbol: ``F 4/m -3 2/m`` is F m -3 m, ``P 21/n 21/m 21/a`` is P n m a."""
    short, planes = re.subn(r"(?<![46])21?/([a-n])", r"\1", symbol)
    short, cubic = re.subn(r"4[123]?/([a-n])(?=\s*-3)", r"\1", short)
    return short if planes > 1 or cubic or "-3" in short else symbol


def _siblings(group: gemmi.SpaceGroup) -> tuple[Setting, ...]:
    """Return the settings that have the same Hermann-Mauguin symbol as a group: other origins, or other R axes."""
    same = (g for g in gemmi.spacegroup_table() if g.number == group.number and g.hm == group.hm)
    return tuple(_of_gemmi(g.xhm(), g.operations()) for g in same)


def _of_gemmi(name: str, operations: gemmi.GroupOps) -> Setting:
    every = list(operations)
    if len(every) == 1:
        return P1
    rotations = np.array([operation.rot for operation in every], np.float64) / gemmi.Op.DEN
    translations = np.array([operation.tran for operation in every], np.float64) / gemmi.Op.DEN
    return Setting(name, Operations(rotations, translations))
