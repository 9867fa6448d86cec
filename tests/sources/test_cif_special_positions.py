"""Images of a site that the operations put on one special position are one atom, however few digits were written."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazygraph.errors import StructureError
from lazygraph.sources.cif import parse_cif

HEXAGONAL = ("13.0", "13.0", "15.0", "90", "90", "120")
ORTHOGONAL = ("4.0", "5.0", "6.0", "90", "90", "90")


def cif(group, cell, *sites):
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    operations = gemmi.find_spacegroup_by_name(group).operations()
    lines = ["data_test", *(f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True))]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{operation.triplet()}'" for operation in operations)]
    lines += ["loop_", *(f"_atom_site_{name}" for name in ("label", "fract_x", "fract_y", "fract_z")), *sites]
    return "\n".join([*lines, ""])


def count(*arguments):
    return len(parse_cif(cif(*arguments)))


@pytest.mark.parametrize("digits", [3, 4, 5, 6])
@pytest.mark.parametrize(
    ("group", "site", "atoms"),
    [
        ("P 63/m m c", (1 / 3, 2 / 3, 1 / 4), 2),
        ("P 63/m m c", (1 / 3, 2 / 3, 0.56), 4),
        ("P 63/m m c", (0.1537, 2 * 0.1537, 0.25), 6),
        ("P 63/m m c", (0.1537, 2 * 0.1537, 0.0619), 12),
        ("P 63/m m c", (0.3516, 0.1072, 0.25), 12),
        ("R -3 m:H", (0.1378, -0.1378, 0.1004), 18),
        ("R -3 m:H", (1 / 3, 0, 1 / 2), 18),
        ("R -3 m:H", (0, 0, 0.2612), 6),
        ("P 6/m m m", (0.2077, 2 * 0.2077, 0), 6),
        ("P 31 2 1", (0.4697, 0, 1 / 3), 3),
        ("I -4 3 d", (0.0671, 0.0671, 0.0671), 16),
        ("I a -3 d", (1 / 8, 0.1124, 0.1124 + 1 / 4), 48),
    ],
)
def test_rounded_coordinates_are_on_the_special_position(group, site, atoms, digits):
    """The layouts of zeolites: two-fold axes and mirrors through (x, 2x, z), thirds, bridging oxygen atoms."""
    cubic = group.startswith("I")
    cell = ("12.0", "12.0", "12.0", "90", "90", "90") if cubic else HEXAGONAL
    text = cif(group, cell, "Si1 " + " ".join(f"{x:.{digits}f}" for x in site))
    assert len(parse_cif(text)) == atoms


def test_the_position_is_made_exact():
    crystal = parse_cif(cif("P 63/m m c", HEXAGONAL, "Si1 0.333 0.667 0.25", "O1 0.154 0.307 0.25"))
    assert crystal.frac_coords[0] == pytest.approx([1 / 3, 2 / 3, 1 / 4], abs=1e-12)
    x, y, _ = crystal.frac_coords[2]
    assert y == pytest.approx(2 * x, abs=1e-12)
    assert x == pytest.approx(0.1537, abs=5e-4)


def test_a_coordinate_that_is_exact_stays_as_it_is_written():
    crystal = parse_cif(cif("P n m a", ORTHOGONAL, "Na1 0.1 0.25 0.7", "Cl1 0.3 0.1 0.4"))
    assert crystal.frac_coords[0].tolist() == [0.1, 0.25, 0.7]


@pytest.mark.parametrize(("x", "atoms"), [("0.5", 1), ("0.501", 1), ("0.50999", 1), ("0.57", 2)])
def test_images_are_one_atom_or_two_by_their_distance(x, atoms):
    """The images of (x, 0.5, 0.5) by a centre are 2 (x - 0.5) 4 A apart."""
    assert count("P -1", ORTHOGONAL, f"Cl1 {x} 0.5 0.5") == atoms


@pytest.mark.parametrize("x", ["0.5140", "0.53000", "0.56"])
def test_images_that_are_neither_one_atom_nor_two_are_refused(x):
    with pytest.raises(StructureError, match="site 0 has an image of itself 0.[1-4]. A away"):
        parse_cif(cif("P -1", ORTHOGONAL, f"Cl1 {x} 0.5 0.5"))


def test_a_distance_that_the_digits_explain_is_a_special_position():
    """0.16 A between the images of 0.51 and 0.510 in a cell of 8 A: half of it could be rounding, or not."""
    cell = ("8.0", "8.0", "8.0", "90", "90", "90")
    assert count("P -1", cell, "Cl1 0.51 0.50 0.50") == 1
    with pytest.raises(StructureError, match="0.16 A away"):
        parse_cif(cif("P -1", cell, "Cl1 0.510 0.500 0.500"))


def test_near_images_that_no_common_position_explains_are_refused():
    """Close to a screw axis with a small step: the images form a chain, and no point of it stays in place."""
    text = cif("P 1", ORTHOGONAL, "Na1 0.1 0.2 0.3").replace("'x,y,z'\n", "'x,y,z'\n'x,y,z+1/72'\n")
    steps = "".join(f"'x,y,z+{n}/72'\n" for n in range(1, 72))
    with pytest.raises(StructureError, match="site 0 has an image of itself|are no group"):
        parse_cif(text.replace("'x,y,z+1/72'\n", steps))


@pytest.mark.parametrize("other", ["0.1 0.2 0.3", "0.1001 0.2 0.3", "-0.1 -0.2 0.7", "0.11 0.2 0.3", "0.9 0.8 0.75"])
def test_two_sites_on_one_position_are_refused(other):
    with pytest.raises(StructureError, match="symmetry puts sites 0 and 1 0.[0-4]. A from one another"):
        parse_cif(cif("P -1", ORTHOGONAL, "Na1 0.1 0.2 0.3", f"K1 {other}"))


@given(
    st.sampled_from(["P -1", "P n m a", "F m -3 m", "P 63/m m c", "I a -3 d", "R -3 m:H"]),
    st.tuples(*[st.floats(0, 0.9999)] * 3),
    st.integers(3, 6),
)
def test_as_many_atoms_as_gemmi_finds_wherever_it_finds_no_close_images(group, site, digits):
    cell = HEXAGONAL if group[0] == "R" or "63" in group else ("12.0", "12.0", "12.0", "90", "90", "90")
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*map(float, cell))
    small.spacegroup_hm = group
    small.determine_and_set_spacegroup("2")
    small.setup_cell_images()
    atom = gemmi.SmallStructure.Site()
    atom.element = gemmi.Element("Si")
    atom.fract = gemmi.Fractional(*(round(x, digits) for x in site))
    small.add_site(atom)
    positions = np.array([s.fract.tolist() for s in small.get_all_unit_cell_sites()])
    apart = positions[:1] - positions[1:]
    apart -= np.rint(apart)
    matrix = np.array(small.cell.orth.mat.tolist())
    assume(len(apart) == 0 or np.linalg.norm(apart @ matrix.T, axis=1).min() > 0.6)
    text = cif(group, cell, "Si1 " + " ".join(f"{x:.{digits}f}" for x in site))
    try:
        found = len(parse_cif(text))
    except StructureError:
        return  # between 0.1 A, where two images are one atom, and gemmi's 0.4 A
    assert found == len(positions)
