"""The symmetry of a CIF: what the file lists, and what its symbols and numbers stand for."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.cif import parse_cif

HM, HALL, NUMBER = "_symmetry_space_group_name_H-M", "_symmetry_space_group_name_Hall", "_symmetry_Int_Tables_number"
CUBIC, HEXAGONAL, RHOMBOHEDRAL = (20, 20, 20, 90, 90, 90), (12, 12, 25, 90, 90, 120), (12, 12, 12, 60, 60, 60)
TETRAGONAL, ORTHORHOMBIC = (9, 9, 20, 90, 90, 90), (10, 14, 18, 90, 90, 90)
GENERAL = "C 0.0471 0.1413 0.2867"


def cif(cell, sites, formula=None, z=None, operations=(), **tags):
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_test", *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True))]
    lines += [f"{tag} {gemmi.cif.quote(str(value))}" for tag, value in tags.items()]
    lines += [f"_chemical_formula_sum '{formula}'"] * bool(formula) + [f"_cell_formula_units_Z {z}"] * bool(z)
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{o}'" for o in operations)] if operations else []
    lines += ["loop_", *(f"_atom_site_{name}" for name in ("type_symbol", "fract_x", "fract_y", "fract_z"))]
    return "\n".join([*lines, *sites, ""])


def read(cell, sites, *arguments, **tags):
    return parse_cif(cif(cell, [sites] if isinstance(sites, str) else sites, *arguments, **tags))


# ---- symbols ----


@pytest.mark.parametrize(
    ("symbol", "cell", "atoms"),
    [
        ("F m -3 m", CUBIC, 192),
        ("Fm-3m", CUBIC, 192),
        ("F m 3 m", CUBIC, 192),
        ("Fm3m", CUBIC, 192),
        ("F 4/m -3 2/m", CUBIC, 192),
        ("P 2/m -3", CUBIC, 24),
        ("P 21 3", CUBIC, 12),
        ("P2_13", CUBIC, 12),
        ("F d -3 m :1", CUBIC, 192),
        ("F d -3 m:2", CUBIC, 192),
        ("Fd-3mS", CUBIC, 192),
        ("F d -3 m Z", CUBIC, 192),
        ("R -3 m H", HEXAGONAL, 36),
        ("R -3 m :H", HEXAGONAL, 36),
        ("R-3mH", HEXAGONAL, 36),
        ("R -3 m HR", HEXAGONAL, 36),
        ("R -3 m", HEXAGONAL, 36),
        ("R -3 2/m", HEXAGONAL, 36),
        ("R -3 m", RHOMBOHEDRAL, 12),
        ("R -3 m :R", RHOMBOHEDRAL, 12),
        ("R -3 m R", RHOMBOHEDRAL, 12),
        ("H -3 m", HEXAGONAL, 36),
        ("R 3", (9, 9, 9, 90, 90, 90), 3),
        ("P 63/m m c", HEXAGONAL, 24),
        ("P6(3)/mmc", HEXAGONAL, 24),
        ("P 63/m 2/m 2/c", HEXAGONAL, 24),
        ("P 4/n :1", TETRAGONAL, 8),
        ("P 42/n 21/c 2/m :2", TETRAGONAL, 16),
        ("P 21/n 21/m 21/a", ORTHORHOMBIC, 8),
        ("P n m a", ORTHORHOMBIC, 8),
        ("P b n m", ORTHORHOMBIC, 8),
        ("B m a b", ORTHORHOMBIC, 16),
        ("C m c e", ORTHORHOMBIC, 16),
        ("C m c a", ORTHORHOMBIC, 16),
        ("C 2/m 2/c 21/a", ORTHORHOMBIC, 16),
        ("P2(1)2(1)2(1)", ORTHORHOMBIC, 4),
        ("P 2~1~/c", (10, 14, 18, 90, 100, 90), 4),
        ("P -1", (10, 14, 18, 80, 100, 95), 2),
        ("F -1", (10, 14, 18, 80, 100, 95), 8),
        ("P 1", (10, 14, 18, 80, 100, 95), 1),
    ],
)
def test_a_symbol_gives_as_many_general_positions_as_its_group_has(symbol, cell, atoms):
    assert len(read(cell, GENERAL, **{HM: symbol})) == atoms


@pytest.mark.parametrize(
    ("symbol", "cell", "full"),
    [
        ("P 21/n", (10, 14, 18, 90, 100, 90), "P 1 21/n 1"),
        ("P21/n", (10, 14, 18, 90, 90, 100), "P 1 1 21/n"),
        ("P 21/n", (10, 14, 18, 100, 90, 90), "P 21/n 1 1"),
        ("P 21/b", (10, 14, 18, 90, 90, 100), "P 1 1 21/b"),
        ("C 2/c", (10, 14, 18, 90, 90.3, 90), "C 1 2/c 1"),
        ("B 2/b", (10, 14, 18, 90, 90, 100), "B 1 1 2/b"),
        ("A 2/a", (10, 14, 18, 90, 100, 90), "A 1 2/a 1"),
        ("P 21/c", (10, 14, 18, 90, 90, 90), "P 1 21/c 1"),
    ],
)
def test_the_cell_says_which_axis_a_short_monoclinic_symbol_means(symbol, cell, full):
    found, expected = (read(cell, GENERAL, **{HM: name}) for name in (symbol, full))
    assert found == expected


@pytest.mark.parametrize("group", ["F d -3 m:2", "R -3 m:R", "P 1 1 21/b", "I 41/a:1", "P m n a"])
def test_the_hall_symbol_says_all(group):
    setting = gemmi.find_spacegroup_by_name(group)
    cell = RHOMBOHEDRAL if group.startswith("R") else (10, 14, 18, 90, 90, 100) if "21/b" in group else CUBIC
    assert len(read(cell, GENERAL, **{HALL: setting.hall})) == len(setting.operations())


@pytest.mark.parametrize("hall", ["-F 9 9 9", "Xc", "-F 4 2 3"])
def test_a_hall_symbol_that_means_nothing_here_is_refused(hall):
    with pytest.raises(UnreadableInput, match="the Hall symbol .* is unknown or does not fit the cell"):
        read((10, 14, 18, 80, 90, 90), GENERAL, **{HALL: hall, NUMBER: 2})


def test_the_number_1_is_p1():
    assert len(read(CUBIC, GENERAL, **{NUMBER: 1})) == 1


def test_the_symbol_goes_before_the_number_and_the_hall_symbol_before_both():
    assert len(read(CUBIC, GENERAL, **{HM: "F m -3 m", NUMBER: 221})) == 192
    tags = {HALL: "-F 4 2 3", HM: "F m -3 m", NUMBER: 1}
    assert len(read(CUBIC, GENERAL, **tags)) == 192


@pytest.mark.parametrize(
    ("number", "cell", "atoms"), [(225, CUBIC, 192), (166, HEXAGONAL, 36), (166, RHOMBOHEDRAL, 12), (2, CUBIC, 2)]
)
def test_the_number_alone_is_the_standard_setting(number, cell, atoms):
    assert len(read(cell, GENERAL, **{NUMBER: number})) == atoms


@pytest.mark.parametrize("symbol", ["X 2/q", "P 21/n :3", "C2:b1", "cubic"])
def test_an_unknown_symbol_is_refused_even_where_there_is_a_number(symbol):
    with pytest.raises(UnreadableInput, match="unknown space group symbol"):
        read(CUBIC, GENERAL, **{HM: symbol, NUMBER: 14})


@pytest.mark.parametrize("symbol", ["F m -3 m", "R -3 m", "P 63/m m c", "P 4/n :1"])
def test_a_group_that_does_not_fit_the_cell_is_refused(symbol):
    with pytest.raises(StructureError, match="does not fit the cell"):
        read((5, 6, 7, 80, 90, 90), GENERAL, **{HM: symbol})


@pytest.mark.parametrize("tags", [{}, {HM: "?"}, {HM: ".", NUMBER: "?"}, {"_symmetry_cell_setting": "cubic"}])
def test_a_file_without_symmetry_is_not_taken_for_p1(tags):
    with pytest.raises(UnreadableInput, match="does not state its symmetry"):
        read(CUBIC, GENERAL, **tags)
    with pytest.raises(UnreadableInput, match="does not state its symmetry"):
        read(CUBIC, GENERAL, "C", 4, **tags)


def test_a_formula_and_z_that_count_the_listed_sites_say_that_they_are_the_whole_cell():
    assert len(read(CUBIC, [GENERAL, "O 0.5 0.5 0.5"], "C O", 1)) == 2


# ---- two origins ----

SMALL = (8.08, 8.08, 8.08, 90, 90, 90)
SPINEL = ["Mg 0.125 0.125 0.125", "Al 0.5 0.5 0.5", "O 0.2623 0.2623 0.2623"]  # origin 2
DIAMOND = ["C 0 0 0"]  # origin 1


def test_formula_and_z_decide_between_two_origins():
    crystal = read(SMALL, SPINEL, "Mg Al2 O4", 8, **{HM: "F d -3 m"})
    assert crystal == read(SMALL, SPINEL, **{HM: "F d -3 m:2"})
    assert len(crystal) == 56
    assert read(SMALL, DIAMOND, "C", 8, **{NUMBER: 227}) == read(SMALL, DIAMOND, **{HM: "F d -3 m:1"})


@pytest.mark.parametrize(
    ("formula", "z", "message"),
    [
        (None, None, "none is confirmed by formula and Z: F d -3 m:1: .*; F d -3 m:2: Al16 Mg8 O32"),
        ("Mg Al O4", 8, "none is confirmed"),
        ("Mg Al2 O4", 4, "none is confirmed"),
    ],
)
def test_without_a_formula_that_confirms_one_origin_the_crystal_is_refused(formula, z, message):
    with pytest.raises(StructureError, match=f"can be read in 2 ways, and {message}"):
        read(SMALL, SPINEL, formula, z, **{HM: "F d -3 m"})


def test_a_formula_that_agrees_with_both_origins_decides_nothing():
    with pytest.raises(StructureError, match="all agree with the formula"):
        read(CUBIC, GENERAL, "C", 192, **{HM: "F d -3 m"})


# ---- operations ----


@pytest.mark.parametrize(
    ("operations", "atoms"),
    [
        (["x,y,z", "-x,-y,-z"], 2),
        (["-x,-y,-z", "x,y,z"], 2),
        (["x,y,z", "x,y,z", "-x,-y,-z"], 2),
        (["+x,+y,+z", "x,-y,z+1/2"], 2),
        (["X,Y,Z", "1/2+X,1/2+Y,Z"], 2),
        (["x,y,z", "x+0.5,y,z"], 2),
        (["x,y,z", "x+1/5,y,z", "x+2/5,y,z", "x+3/5,y,z", "x+4/5,y,z"], 5),
        (["x,y,z"], 1),
    ],
)
def test_operations_are_read_in_any_order_and_form(operations, atoms):
    assert len(read(ORTHORHOMBIC, GENERAL, operations=operations)) == atoms


@pytest.mark.parametrize(
    "operations",
    [
        ["x,y,z", "-x,y+1/2,-z+1/2", "-x,-y,-z"],
        ["x,y,z", "-y,x,z"],
        ["-x,-y,-z"],
        ["x,y,z", "x+1/2,-y,z+1/4"],
        ["x,y,z", "x,x,z"],
        ["x,y,z", "x/2,y,z"],
        ["x,y,z", "y,x+y,z"],
    ],
)
def test_operations_that_are_no_group_are_refused(operations):
    with pytest.raises(StructureError, match="are no group|are no symmetry operations|do not fit its cell"):
        read((5, 5, 9, 90, 90, 90), GENERAL, operations=operations)


def test_operations_that_do_not_fit_the_cell_are_refused():
    with pytest.raises(StructureError, match="do not fit its cell"):
        read(CUBIC, GENERAL, operations=["x,y,z", "-y,x-y,z", "y-x,-x,z"])


@pytest.mark.parametrize("operation", ["x,y", "x,y,q", "one"])
def test_an_operation_that_is_none_is_refused(operation):
    with pytest.raises(UnreadableInput, match="cannot read the symmetry operation"):
        read(CUBIC, GENERAL, operations=["x,y,z", operation])


def test_more_operations_than_any_cell_has_are_refused():
    with pytest.raises(UnreadableInput, match="found 2,001 symmetry operations; required: at most 2,000"):
        read(CUBIC, GENERAL, operations=["x,y,z"] * 2001)


def test_operations_and_symbol_of_one_size_are_no_contradiction():
    """Settings that no table has are common; the operations count."""
    operations = [o.triplet() for o in gemmi.find_spacegroup_by_name("P 1 21/n 1").operations()]
    assert len(read((10, 14, 18, 90, 100, 90), GENERAL, operations=operations, **{HM: "P 21/c"})) == 4
    assert len(read((10, 14, 18, 90, 100, 90), GENERAL, operations=operations, **{HM: "X 21/q"})) == 4


def test_where_operations_and_symbol_differ_in_size_the_formula_decides():
    """A list that was cut, or the name of the group that stayed over a list of all atoms."""
    rock_salt = ["Na 0 0 0", "Cl 0.5 0.5 0.5"]
    tags = {"operations": ["x,y,z"], HM: "F m -3 m"}
    assert len(read(CUBIC, rock_salt, "Na Cl", 4, **tags)) == 8
    assert len(read(CUBIC, rock_salt, "Na Cl", 1, **tags)) == 2
    with pytest.raises(StructureError, match="can be read in 2 ways, and none is confirmed.*P 1: Cl Na"):
        read(CUBIC, rock_salt, **tags)


def test_a_difference_in_size_that_changes_no_atom_is_none():
    """A subgroup that makes the same atoms of these sites."""
    operations = [o.triplet() for o in gemmi.find_spacegroup_by_name("F 2 3").operations()]
    assert len(read(CUBIC, ["Na 0 0 0"], "Na", 4, operations=operations, **{HM: "F m -3 m"})) == 4


# ---- modulated structures ----


@pytest.mark.parametrize(
    "tags",
    [
        {"_space_group_symop_ssg_operation_algebraic": "x1,x2,x3,x4"},
        {"_space_group_ssg_name": "P-1(abg)0"},
        {"_cell_modulation_dimension": 1},
        {"_space_group_ssg_name_IT": "Pnma(0b0)s00", HM: "P n m a"},
    ],
)
def test_a_modulated_structure_is_refused(tags):
    with pytest.raises(StructureError, match="a modulated structure"):
        read(ORTHORHOMBIC, GENERAL, operations=["x,y,z"], **tags)


def test_a_magnetic_file_that_only_names_its_group_is_refused():
    with pytest.raises(InputError, match="does not state its symmetry"):
        read(ORTHORHOMBIC, GENERAL, **{"_space_group_magn.name_BNS": "P n' m a"})


def test_images_are_wrapped_into_the_cell_in_the_order_of_sites_then_operations():
    crystal = read(ORTHORHOMBIC, ["Na 0.1 0.2 0.3", "Cl 0.25 -0.3 1.4"], operations=["x,y,z", "-x,-y,-z"])
    assert crystal.numbers.tolist() == [11, 11, 17, 17]
    expected = [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7], [0.25, 0.7, 0.4], [0.75, 0.3, 0.6]]
    assert np.allclose(crystal.frac_coords, expected)
