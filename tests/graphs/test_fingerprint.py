"""Fingerprints do not depend on the cell, and differ within bounds that are stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError, StructureError
from lazygraph.graphs.fingerprint import LENGTH, Tolerance, fingerprint


def crystal(rng, n_atoms):
    """A random crystal without atoms that nearly coincide, of a skewed cell."""
    while True:
        lattice = np.diag(rng.uniform(3, 6, 3)) * n_atoms ** (1 / 3) + rng.uniform(-1, 1, (3, 3))
        made = lg.Crystal(lattice, rng.random((n_atoms, 3)), rng.choice([8, 22, 38], n_atoms))
        try:
            fingerprint(made)
        except StructureError:
            continue
        return made


def another_cell(rng, made):
    """The same crystal by another cell, in another order, turned, shifted, and mirrored or not."""
    structure = made.to_pymatgen()
    matrix = np.eye(3, dtype=int)
    matrix[tuple(rng.permutation(3)[:2])] = rng.integers(-2, 3)
    matrix[0] *= rng.integers(1, 4)
    structure.make_supercell(matrix)
    order = rng.permutation(len(structure))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    coordinates = structure.frac_coords[order] + rng.random(3)
    return lg.Crystal(structure.lattice.matrix @ turn, coordinates, np.array(structure.atomic_numbers)[order])


def within(tolerance, one, other):
    return bool((np.maximum(one, other) <= tolerance.reach(np.minimum(one, other))).all())


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_a_fingerprint_is_the_same_for_all_cells(seed, n_atoms):
    rng = np.random.default_rng(seed)
    made = crystal(rng, n_atoms)
    assert within(Tolerance(0, 0), fingerprint(made), fingerprint(another_cell(rng, made)))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0, 0.1), st.floats(0, 0.05), st.floats(0.5, 2))
def test_strained_displaced_and_scaled_crystals_are_within_the_tolerance(seed, n_atoms, strain, displacement, scale):
    rng = np.random.default_rng(seed)
    made = crystal(rng, n_atoms)
    cell = another_cell(rng, made)
    # Singular values of 1 - strain to 1 + strain: the greatest and the least change of a length.
    left, right = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    lattice = cell.lattice @ (left * rng.uniform(1 - strain, 1 + strain, 3)) @ right
    length = (abs(np.linalg.det(lattice)) / len(cell)) ** (1 / 3)
    moves = rng.normal(size=(len(cell), 3))
    moves *= displacement * length * rng.random((len(cell), 1)) / np.linalg.norm(moves, axis=1, keepdims=True)
    coordinates = cell.frac_coords + moves @ np.linalg.inv(lattice)
    try:
        moved = fingerprint(lg.Crystal(lattice * scale, coordinates, cell.numbers))
    except StructureError:  # atoms that are too close now
        return
    assert within(Tolerance(strain, displacement), fingerprint(made), moved)


def test_fingerprints_tell_structures_apart():
    salt = lg.Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
    blende = lg.Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.25, 0.25, 0.25]], [11, 17])
    cesium = lg.Crystal(np.eye(3) * 3.5, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
    marks = [fingerprint(one) for one in (salt, blende, cesium)]
    assert not any(within(Tolerance(0.05, 0.05), marks[i], marks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    # The mean distances of the first element to 12 atoms, in units of 2.8 A.
    assert marks[0][:12].tolist() == pytest.approx([1.0] * 6 + [2**0.5] * 6)
    assert marks[0].shape == (LENGTH,)


def test_more_elements_than_numbers_have_a_fingerprint():
    made = lg.Crystal(np.eye(3) * 12, np.stack(np.meshgrid(*[[0, 0.25, 0.5]] * 3), -1).reshape(-1, 3), range(1, 28))
    assert np.isfinite(fingerprint(made)).all()


def test_a_lonely_atom_has_no_fingerprint():
    with pytest.raises(StructureError, match="neighbours within 100 A"):
        fingerprint(lg.Crystal(np.eye(3) * 80, [[0, 0, 0]], [2]))


@pytest.mark.parametrize("given", [(-0.1, 0), (0.6, 0), (0, -1), (0, 2), (float("nan"), 0)])
def test_a_tolerance_that_cannot_be_used_is_refused(given):
    with pytest.raises(InputError, match="required: a strain from 0 to 0.5"):
        Tolerance(*given)
