"""CIF against pymatgen: every CIF of the data folder, every rule, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifParser, CifWriter

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.cif import lattice_from_parameters, parse_cif, sniff
from tests.real import DATA, needs_whole

TABLES = ("perov_5/val.csv", "perov_5/test.csv", "carbon_24/val.csv", "carbon_24/test.csv")
PARTS = 8  # of each table, so that several test processes share the work of pymatgen

CELL = """data_test
_cell_length_a 4.0
_cell_length_b 5.0(2)
_cell_length_c 6.0
_cell_angle_alpha 90
_cell_angle_beta 95.5(10)
_cell_angle_gamma 90
"""
P1 = "loop_\n _symmetry_equiv_pos_as_xyz\n 'x, y, z'\n"
CENTRE = "loop_\n _space_group_symop_operation_xyz\n 'x,y,z'\n '-x,-y,-z'\n"


def sites(*rows: str, columns: str = "label fract_x fract_y fract_z") -> str:
    header = "".join(f" _atom_site_{name}\n" for name in columns.split())
    return "loop_\n" + header + "".join(f" {row}\n" for row in rows)


def by_pymatgen(text: str, frac_tolerance: float = 1e-4) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = CifParser.from_str(text, frac_tolerance=frac_tolerance, check_cif=False)
        return parser.parse_structures(primitive=False, on_error="raise")[0]


def assert_same(crystal: Crystal, structure: Structure, tolerance: float) -> None:
    """The same lattice to rounding, and the same sites in any order and any cell."""
    assert np.allclose(crystal.lattice, structure.lattice.matrix, rtol=0, atol=1e-13)
    assert len(crystal) == len(structure)
    apart = crystal.frac_coords[:, None] - structure.frac_coords[None]
    same = (np.abs(apart - np.rint(apart)) <= tolerance).all(axis=2)
    same &= crystal.numbers[:, None] == np.array(structure.atomic_numbers)[None]
    assert (same.sum(axis=0) == 1).all(), "a site of pymatgen has no or several partners"
    assert (same.sum(axis=1) == 1).all(), "a site of ours has no or several partners"


def cifs_of(table: str) -> list[str]:
    with (DATA / table).open(newline="") as file:
        return [row["cif"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("table", TABLES)
def test_every_cif_of_the_tables_is_what_pymatgen_reads(table, part):
    """Without its rounding of 0.3333 to 1/3, which is for symmetry, and these files have none."""
    texts = cifs_of(table)
    assert texts
    for text in texts[part::PARTS]:
        assert_same(parse_cif(text), by_pymatgen(text, frac_tolerance=0), 1e-12)


@needs_whole
@pytest.mark.parametrize("table", TABLES)
def test_coordinates_of_p1_files_are_the_numbers_of_the_text(table):
    site = re.compile(r"^ +([A-Z][a-z]?) +\S+ +1 +(\S+) +(\S+) +(\S+) +1 *$", re.MULTILINE)
    for text in cifs_of(table):
        crystal = parse_cif(text)
        written = site.findall(text)
        assert crystal.frac_coords.tolist() == [[float(x) for x in row[1:]] for row in written]
        assert len(written) == len(crystal)


@needs_whole
@pytest.mark.parametrize("path", sorted(DATA.glob("folders/cgcnn/*.cif")), ids=lambda path: path.stem)
def test_every_cif_with_symmetry_is_what_pymatgen_reads(path):
    text = path.read_text()
    assert_same(parse_cif(text), by_pymatgen(text), 1e-9)


@given(
    st.tuples(*[st.floats(0.5, 100)] * 3),
    st.tuples(*[st.floats(20, 160)] * 3).filter(lambda angles: sum(angles) < 355),
)
def test_the_lattice_is_that_of_pymatgen_to_rounding(lengths, angles):
    """The arc cosine of numpy, which pymatgen takes, may be wrong in the last bits."""
    expected = Lattice.from_parameters(*lengths, *angles).matrix
    assert np.allclose(lattice_from_parameters(lengths, angles), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("angle", [1e-300, 1e-160, 1e-20, 1e-9, 180 - 1e-13])
def test_a_flat_cell_is_no_error_of_arithmetic(angle):
    for angles in ((angle, 90, 90), (90, 90, angle), (angle, angle, 90), (angle, angle, angle)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(lattice_from_parameters((4, 5, 6), angles)).all()


@pytest.mark.parametrize("cell", [(4, 5, 0, 90, 90, 90), (4, 5, 6, 90, 180, 90), (4, float("nan"), 6, 90, 90, 90)])
def test_a_cell_that_no_crystal_has_is_refused(cell):
    with pytest.raises(StructureError, match="required: positive lengths and angles between 0 and 180"):
        lattice_from_parameters(cell[:3], cell[3:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "lattice", "species", "coords"),
    [
        ("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        ("P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]),
        ("R-3m", Lattice.hexagonal(4.4, 30.5), ["Bi", "Te", "Te"], [[0, 0, 0.4], [0, 0, 0], [0, 0, 0.21]]),
        ("Pnma", Lattice.orthorhombic(5.4, 7.6, 5.3), ["Ca", "O"], [[0.03, 0.25, 0.99], [0.29, 0.04, 0.71]]),
        ("C2/c", Lattice.monoclinic(9.7, 8.9, 5.3, 105), ["Si", "O"], [[0.29, 0.09, 0.23], [0.11, 0.08, 0.14]]),
        ("P-1", Lattice([[5, 0.3, 0.1], [0.4, 6, 0.2], [0.9, 0.5, 7]]), ["Fe", "O"], [[0, 0, 0], [0.2, 0.3, 0.4]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_pymatgen_writes_with_symmetry_comes_back(group, lattice, species, coords):
    structure = Structure.from_spacegroup(group, lattice, species, coords)
    text = str(CifWriter(structure, symprec=0.01))
    assert text.count("\n  1  ") == 1
    assert len(re.findall(r"^ +\d+ +'", text, re.MULTILINE)) > 1, "the file was to list several operations"
    crystal = parse_cif(text)
    assert_same(crystal, by_pymatgen(text), 1e-9)
    assert sorted(crystal.numbers.tolist()) == sorted(structure.atomic_numbers)


def test_p1_coordinates_are_neither_wrapped_nor_rounded():
    crystal = parse_cif(CELL + P1 + sites("Na1 -0.25 1.5 0.3333", "Cl2 0.6667 2 -3"))
    assert crystal.frac_coords.tolist() == [[-0.25, 1.5, 0.3333], [0.6667, 2, -3]]
    assert crystal.numbers.tolist() == [11, 17]


def test_uncertainties_in_brackets_are_dropped():
    crystal = parse_cif(CELL + P1 + sites("Na1 0.25(3) 0.5(10) 0.125(2)"))
    assert crystal.frac_coords.tolist() == [[0.25, 0.5, 0.125]]
    assert np.array_equal(crystal.lattice, lattice_from_parameters((4, 5, 6), (90, 95.5, 90)))


def test_images_on_a_special_position_are_one_atom():
    crystal = parse_cif(CELL + CENTRE + sites("Na1 0 0 0", "Cl1 0.5 0.5 0.50004", "O1 0.1 0.2 0.3"))
    assert crystal.numbers.tolist() == [11, 17, 8, 8]
    assert np.allclose(crystal.frac_coords[2:], [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])


def test_thirds_are_completed_before_symmetry_is_applied():
    """COD writes 0.3333 and 0.6667; unless they become thirds, a three-fold axis makes three atoms of one."""
    threefold = "loop_\n _symmetry_equiv_pos_as_xyz\n x,y,z\n -y,x-y,z\n y-x,-x,z\n"
    cell = CELL.replace("95.5(10)", "90").replace("gamma 90", "gamma 120").replace("5.0(2)", "4.0")
    crystal = parse_cif(cell + threefold + sites("Zn1 0.3333 0.6667 0.1"))
    assert crystal.frac_coords.tolist() == [[1 / 3, 2 / 3, 0.1]]


@given(st.lists(st.tuples(*[st.sampled_from([0.1, 0.25, 0.4])] * 3), min_size=1, max_size=5, unique=True))
def test_a_centre_of_symmetry_doubles_every_general_site(places):
    rows = [f"C{i + 1} {x} {y} {z}" for i, (x, y, z) in enumerate(places)]
    coords = parse_cif(CELL + CENTRE + sites(*rows)).frac_coords
    assert np.allclose(coords[::2], np.array(places))
    assert np.allclose(coords[1::2], 1 - coords[::2])


def test_two_sites_that_symmetry_puts_on_one_position_are_refused():
    text = CELL + CENTRE + sites("Na1 0.1 0.2 0.3", "K1 -0.1 -0.2 0.7")
    with pytest.raises(StructureError, match=r"symmetry puts sites . and . 0\.00 A from one another"):
        parse_cif(text)


@pytest.mark.parametrize("operations", [P1, CENTRE])
def test_disorder_is_refused_with_the_site(operations):
    columns = "label fract_x fract_y fract_z occupancy"
    text = CELL + operations + sites("Na1 0 0 0 1.0", "K1 0.5 0.5 0.5 0.75(2)", columns=columns)
    with pytest.raises(StructureError, match=r"site 1 \(K1\) has occupancy 0.75\(2\); required: 1"):
        parse_cif(text)


@pytest.mark.parametrize("occupancy", ["1", "1.", "1.000", "1.0(1)", ".", "?"])
def test_a_whole_or_missing_occupancy_is_one(occupancy):
    columns = "label fract_x fract_y fract_z occupancy"
    crystal = parse_cif(CELL + P1 + sites(f"Na1 0 0 0 {occupancy}", columns=columns))
    assert crystal.numbers.tolist() == [11]


@pytest.mark.parametrize(
    ("symbol", "number"),
    [("Fe3+", 26), ("O2-", 8), ("Cl1-", 17), ("Na+1", 11), ("C", 6), ("'Ti4+'", 22), ("D", 1), ("Cu0+", 29)],
)
def test_type_symbols_name_elements_with_or_without_charge(symbol, number):
    columns = "type_symbol label fract_x fract_y fract_z"
    crystal = parse_cif(CELL + P1 + sites(f"{symbol} Xx1 0 0 0", columns=columns))
    assert crystal.numbers.tolist() == [number]


@pytest.mark.parametrize(
    "symmetry",
    [
        "_symmetry_space_group_name_H-M 'P -1'\n",
        "_space_group_IT_number 2\n",
        "_symmetry_space_group_name_H-M 'P 1'\n",
    ],
)
def test_without_operations_the_group_is_that_of_pymatgen(symmetry):
    text = CELL + symmetry + sites("Na1 0.1 0.2 0.3", "Cl1 0 0 0.5")
    assert_same(parse_cif(text), by_pymatgen(text), 1e-9)


def test_a_magnetic_group_is_its_operations_without_time_reversal():
    magnetic = "loop_\n _space_group_symop_magn_operation.xyz\n x,y,z,+1\n -x,-y,-z,+1\n"
    centring = "loop_\n _space_group_symop_magn_centering.xyz\n x,y,z,+1\n x+1/2,y+1/2,z,-1\n"
    site = sites("Fe1 0.1 0.2 0.3")
    assert len(parse_cif(CELL + magnetic + site)) == len(by_pymatgen(CELL + magnetic + site)) == 2
    assert len(parse_cif(CELL + magnetic + centring + site)) == 4


def test_data_blocks_without_atoms_stand_beside_the_structure():
    empty = "data_global\n_publ_author_name 'Nobody'\n"
    assert parse_cif(empty + CELL + P1 + sites("Na1 0 0 0")).formula == "Na"


def test_several_structures_in_one_text_are_refused_by_name():
    second = (CELL + P1 + sites("K1 0 0 0")).replace("data_test", "data_second")
    with pytest.raises(UnreadableInput, match=r"the CIF holds 2 structures \(test, second\)"):
        parse_cif(CELL + P1 + sites("Na1 0 0 0") + second)


def test_tags_with_dots_are_read_as_those_with_underscores():
    """The newer dictionaries write _cell.length_a."""
    text = CELL.replace("_cell_", "_cell.") + P1.replace("equiv_pos", "equiv.pos") + sites("Na1 0 0 0")
    assert parse_cif(text.replace("_atom_site_", "_atom_site.")) == parse_cif(CELL + P1 + sites("Na1 0 0 0"))


# ---- syntax ----


def test_a_tag_that_stands_twice_with_one_value_is_read():
    """American Mineralogist's files: the formula, and an empty one."""
    text = CELL + "_cell_length_a 4.0\n_chemical_formula_sum 'Na'\n_chemical_formula_sum ''\n"
    assert parse_cif(text + P1 + sites("Na1 0 0 0")).formula == "Na"
    assert parse_cif(text + "_x 1\n_x 2\n" + P1 + sites("Na1 0 0 0")).formula == "Na"


@pytest.mark.parametrize("again", ["_cell_length_a 4.1\n", "_chemical_formula_sum K\n", P1 + P1])
def test_a_tag_of_the_structure_that_stands_twice_with_two_values_is_refused(again):
    text = CELL + "_chemical_formula_sum Na\n" + again + P1 + sites("Na1 0 0 0")
    with pytest.raises(UnreadableInput, match="appears more than once in the data block 'test'"):
        parse_cif(text)


@pytest.mark.parametrize("lattice", [Lattice.cubic(5.64), Lattice.hexagonal(3, 5)])
def test_what_jarvis_writes_is_read(lattice, tmp_path):
    """It begins with a comment without "#", and names the group of a crystal of which it lists all atoms."""
    structure = Structure.from_spacegroup("P 1", lattice, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.make_supercell([1, 2, 2])
    crystal = Crystal.from_any(structure)
    crystal.to_jarvis().write_cif(str(tmp_path / "a.cif"))
    remarks = []
    read = parse_cif((tmp_path / "a.cif").read_text(), remarks=remarks)
    assert sorted(read.numbers.tolist()) == sorted(crystal.numbers.tolist())
    assert np.allclose(read.lattice @ read.lattice.T, crystal.lattice @ crystal.lattice.T, atol=1e-2)
    assert "what stands before data_" in remarks[0].detail


@pytest.mark.parametrize("words", ["_cell_length_a 5\n", "_symmetry_Int_Tables_number 2\n"])
def test_tags_of_the_structure_before_the_first_block_are_refused(words):
    with pytest.raises(UnreadableInput, match="expected block header"):
        parse_cif(words + CELL + P1 + sites("Na1 0 0 0"))


def test_a_broken_line_that_says_nothing_of_the_structure_is_left_out_with_a_remark():
    remarks = []
    text = CELL + "_citation_title 'On salt',\n" + P1 + sites("Na1 0 0 0")
    assert parse_cif(text, remarks=remarks).formula == "Na"
    assert [remark.detail for remark in remarks] == ["_citation_title"]


@pytest.mark.parametrize(
    "broken",
    [
        "_chemical_formula_sum 'Na',\n",
        "_symmetry_space_group_name_H-M 'P -1'x\n",
        "stray\n",
        "loop_\n _a\n _b\n 1 2 3\n",
    ],
)
def test_broken_syntax_is_refused_with_the_line(broken):
    with pytest.raises(UnreadableInput, match=r"not a CIF that can be read: \d+:"):
        parse_cif(CELL + broken + P1 + sites("Na1 0 0 0"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a cif",
        "data_empty\n",
        CELL,
        CELL + P1 + "loop_\n _atom_site_label\n Na1\n",
        CELL.replace("_cell_length_a 4.0\n", "") + P1 + sites("Na1 0 0 0"),
        CELL + P1 + sites("Na1 ? ? ?"),
        CELL + P1 + sites("Na1 zero 0 0"),
        CELL.replace("4.0", "four") + P1 + sites("Na1 0 0 0"),
    ],
)
def test_a_text_that_is_no_structure_is_an_input_error(text):
    with pytest.raises(UnreadableInput, match="CIF"):
        parse_cif(text)


@pytest.mark.parametrize("coordinate", ["nan", "inf"])
def test_numbers_that_are_none_are_refused(coordinate):
    with pytest.raises(InputError):
        parse_cif(CELL + P1 + sites(f"Na1 {coordinate} 0 0"))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"data_x\n_cell_length_a 1", True),
        (b"# made by hand\n\n  # twice\nDATA_x\n", True),
        (b'id,cif\n1,"data_x\n_cell_length_a 1', False),
        (b"# data_x\n", False),
        (b"", False),
        (b"#" * 65536, False),
        (b"\n" * 65536, False),
    ],
)
def test_sniff_asks_for_a_data_block_first(head, expected):
    assert sniff(head) is expected
