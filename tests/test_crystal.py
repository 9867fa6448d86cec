"""``Crystal``: what it takes, what it refuses, and the arithmetic of coordinates behind it."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lazygraph.coordinates import determinant, to_cartesian, to_fractional
from lazygraph.crystal import ATOMIC_NUMBERS, SYMBOLS, Crystal
from lazygraph.errors import StructureError

CUBE = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]
finite = st.floats(-50, 50, allow_nan=False)


@pytest.fixture
def rutile():
    lattice = [[4.6, 0, 0], [0, 4.6, 0], [0, 0, 2.96]]
    coords = [
        [0, 0, 0],
        [0.5, 0.5, 0.5],
        [0.305, 0.305, 0],
        [0.695, 0.695, 0],
        [0.195, 0.805, 0.5],
        [0.805, 0.195, 0.5],
    ]
    return Crystal(lattice, coords, [22, 22, 8, 8, 8, 8])


def test_the_table_of_elements_is_whole():
    from ase.data import chemical_symbols

    assert list(SYMBOLS) == chemical_symbols
    assert ATOMIC_NUMBERS["Og"] == 118
    assert ATOMIC_NUMBERS["D"] == ATOMIC_NUMBERS["T"] == 1


def test_arrays_have_the_stated_types(rutile):
    assert (rutile.lattice.dtype, rutile.frac_coords.dtype, rutile.numbers.dtype) == (np.float64, np.float64, np.uint8)
    assert len(rutile) == 6
    assert rutile.formula == "O2Ti"
    assert rutile.volume == pytest.approx(4.6 * 4.6 * 2.96)
    assert np.allclose(rutile.cart_coords[1], [2.3, 2.3, 1.48])


def test_coordinates_are_kept_as_given_but_for_the_sign_of_zero():
    given_ = [[1.5, -0.25, 3.0], [-0.0, 0.1, 1e-17]]
    crystal = Crystal(CUBE, given_, [1, 1])
    assert crystal.frac_coords.tolist() == given_
    assert not np.signbit(crystal.frac_coords[1, 0])


def test_the_input_is_copied():
    lattice, coords = np.array(CUBE), np.zeros((1, 3))
    crystal = Crystal(lattice, coords, [1])
    lattice[0, 0] = coords[0, 0] = 9
    assert crystal.lattice[0, 0] == 4
    assert crystal.frac_coords[0, 0] == 0


@pytest.mark.parametrize(
    ("lattice", "coords", "numbers", "message"),
    [
        (CUBE, [], [], "no atoms; required: at least one"),
        (CUBE, [[0, 0]], [1], r"shape \(1, 2\); required: \(N, 3\)"),
        (CUBE[:2], [[0, 0, 0]], [1], r"lattice has shape \(2, 3\)"),
        ([["a", 0, 0], *CUBE[1:]], [[0, 0, 0]], [1], "lattice is not numeric"),
        (CUBE, [["x", 0, 0]], [1], "coordinates are not numeric"),
        (CUBE, [[0, 0, 0], [0, float("nan"), 0]], [1, 1], "of atom 1 are"),
        (CUBE, [[float("inf"), 0, 0]], [1], "required: finite"),
        (CUBE, [[1e308, 0, 0], [1e308, 0, 0]], [1, 1], "of atom 0 are .* at most 1,000,000 from zero"),
        (CUBE, [[0, 0, 0], [0.5, 0, 0]], [1], "2 atoms; required: one per atom"),
        ([[1e15, 0, 0], *CUBE[1:]], [[0, 0, 0]], [1], r"reaches 1e\+15 A; required: at most 1,000,000 A"),
        ([[float("nan"), 0, 0], *CUBE[1:]], [[0, 0, 0]], [1], "lattice holds NaN"),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 0, 0]], [1], r"cell is singular: \|det\| = 0 A\^3"),
        ([[1e-2, 0, 0], [0, 1e-2, 0], [0, 0, 9e-3]], [[0, 0, 0]], [1], "singular"),
        (CUBE, [[0, 0, 0]], [0], "atomic number 0; required: 1 to 118"),
        (CUBE, [[0, 0, 0]], [119], "atomic number 119"),
        (CUBE, [[0, 0, 0]], [1.5], "required: integers"),
        (CUBE, [[0, 0, 0]], [1, 2], "required: one per atom"),
    ],
)
def test_what_is_no_crystal_is_refused(lattice, coords, numbers, message):
    with pytest.raises(StructureError, match=message):
        Crystal(lattice, coords, numbers)


def test_left_handed_and_huge_cells_are_fine():
    crystal = Crystal([[0, 4, 0], [4, 0, 0], [0, 0, 4]], [[0, 0, 0]], [1])
    assert crystal.volume == 64
    assert determinant(crystal.lattice) == -64
    assert Crystal(np.eye(3) * 1e4, [[1e3, 0, 0]], [1]).volume == 1e12


@pytest.mark.parametrize(
    ("numbers", "formula"),
    [
        ([1, 1, 8], "H2O"),
        ([6, 1, 1, 1, 1], "CH4"),
        ([6, 8, 8], "CO2"),
        ([11, 17, 11, 17], "ClNa"),
        ([6], "C"),
        ([8] * 4, "O"),
    ],
)
def test_formulas_are_reduced_hill(numbers, formula):
    coords = np.arange(3 * len(numbers)).reshape(-1, 3) / 20
    assert Crystal(CUBE, coords, numbers).formula == formula


def test_pymatgen_ase_and_jarvis_there_and_back(rutile):
    for there in (rutile.to_pymatgen(), rutile.to_ase(), rutile.to_jarvis()):
        back = Crystal.from_any(there)
        assert back.numbers.tolist() == rutile.numbers.tolist()
        assert np.allclose(back.lattice, rutile.lattice, atol=1e-9)
        assert np.allclose(back.frac_coords, rutile.frac_coords, atol=1e-12)
    assert Crystal.from_any(rutile.to_pymatgen()) == rutile
    assert Crystal.from_any(rutile) is rutile


def test_their_dicts(rutile):
    for there in (rutile.to_pymatgen().as_dict(), rutile.to_ase().todict(), rutile.to_jarvis().to_dict()):
        back = Crystal.from_any(there)
        assert back.numbers.tolist() == rutile.numbers.tolist()
        assert np.allclose(back.frac_coords, rutile.frac_coords, atol=1e-12)


def test_oxidation_states_make_no_other_graph():
    from pymatgen.core import Structure

    charged = Structure(CUBE, ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert Crystal.from_any(charged).numbers.tolist() == [11, 17]
    assert Crystal.from_any(charged.as_dict()).numbers.tolist() == [11, 17]


def test_disorder_and_unknown_elements_are_refused():
    from pymatgen.core import DummySpecies, Structure

    mixed = Structure(CUBE, [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]])
    vacant = Structure(CUBE, [{"Fe": 0.9}], [[0, 0, 0]])
    for structure in (mixed, vacant):
        for form in (structure, structure.as_dict()):
            with pytest.raises(StructureError, match="site 0 is disordered"):
                Crystal.from_any(form)
    with pytest.raises(StructureError, match="unknown element 'X"):
        Crystal.from_any(Structure(CUBE, [DummySpecies("X")], [[0, 0, 0]]))
    for nonsense in (3, object(), {}, {"lattice": 1, "sites": []}, {"numbers": [1]}):
        with pytest.raises(StructureError, match="required"):
            Crystal.from_any(nonsense)


def test_molecules_and_slabs_get_a_whole_cell():
    from ase.build import fcc100, molecule

    water = Crystal.from_any(molecule("H2O"))
    assert water.pbc == (False, False, False)
    assert np.array_equal(water.lattice, np.eye(3))
    slab = fcc100("Cu", (1, 1, 3))
    crystal = Crystal.from_any(slab)
    assert crystal.pbc == (True, True, False)
    assert np.allclose(crystal.cart_coords, slab.get_positions())
    wire = Crystal.from_cartesian([[0, 0, 3.0], [0, 0, 0], [0, 0, 0]], [[1, 2, 0]], [6], (True, False, False))
    assert np.allclose(wire.lattice @ wire.lattice.T, np.diag([9.0, 1, 1]))
    with pytest.raises(StructureError, match="singular"):
        Crystal.from_cartesian(np.zeros((3, 3)), [[0, 0, 0]], [6])


def test_crystals_compare_copy_and_pickle(rutile):
    for other in (pickle.loads(pickle.dumps(rutile)), copy.deepcopy(rutile), eval(repr(rutile))):
        assert other == rutile
        assert other is not rutile
    assert rutile != Crystal(rutile.lattice, rutile.frac_coords, rutile.numbers, (True, True, False))
    assert rutile != "rutile"
    with pytest.raises(TypeError):
        hash(rutile)


@given(
    hnp.arrays(np.float64, (3, 3), elements=finite).filter(lambda m: abs(np.linalg.det(m)) > 1),
    hnp.arrays(np.float64, (4, 3), elements=st.floats(-3, 3)),
)
def test_the_two_expressions_are_each_others_inverse(lattice, frac):
    cart = to_cartesian(frac, lattice)
    scale = np.abs(lattice).max() ** 3 / abs(determinant(lattice))
    assert np.allclose(cart, frac @ lattice, atol=1e-9)
    assert np.allclose(to_fractional(cart, lattice), frac, atol=1e-12 * max(scale, 1) * 100)


@pytest.mark.slow
@given(hnp.arrays(np.float64, (3, 3), elements=finite), hnp.arrays(np.float64, (2, 3), elements=finite))
def test_the_expressions_are_elementwise(lattice, coords):
    """One row at a time gives the bits of all rows together: no library may sum in an order of its own."""
    whole = to_cartesian(coords, lattice)
    single = np.concatenate([to_cartesian(row[None], lattice) for row in coords])
    assert whole.tobytes() == single.tobytes()
    by_hand = [[(f[0] * lattice[0, k] + f[1] * lattice[1, k]) + f[2] * lattice[2, k] for k in range(3)] for f in coords]
    assert np.array_equal(whole, by_hand)
