"""PotNet's sums over all images: against direct sums, constants of crystals, and other ways to split them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import InputError, NotEnoughMemory, StructureError
from lazygraph.reading.views import image_sums as module
from lazygraph.reading.views import potnet
from lazygraph.reading.views.image_sums import erfcx, image_sums

ROCK_SALT = np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])


def random_cell(seed, n_atoms):
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(2.5, 5.0, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
    return lattice, rng.uniform(-1.5, 1.5, (n_atoms, 3))


def direct(lattice, frac, power=None, a=None, cells=40):
    """The sum over all cells up to 40 in each direction, of 1 / r^power or exp(-a r)."""
    steps = np.arange(-cells, cells + 1)
    translations = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3) @ lattice
    sums = np.empty((len(frac), len(frac)))
    for u, v in np.ndindex(*sums.shape):
        r = np.linalg.norm((frac[u] - frac[v]) @ lattice + translations, axis=1)
        sums[u, v] = np.exp(-a * r).sum() if power is None else (r[r > 1e-8] ** -power).sum()
    return sums


# ---- the sums themselves ----


@pytest.mark.parametrize("seed", [0, 1])
def test_fast_sums_are_direct_sums(seed):
    """Of 1/r^6, whose tail beyond 40 cells is about 1e-7, and of the exponential, whose tail is nothing."""
    lattice, frac = random_cell(seed, 3)
    found = image_sums(lattice, frac)
    np.testing.assert_allclose(found[:, :, 1], direct(lattice, frac, power=6), rtol=1e-5)
    a = 3.0 / math.sqrt(abs(np.linalg.det(lattice)) ** (1 / 3))
    np.testing.assert_allclose(found[:, :, 2], direct(lattice, frac, a=a, cells=20), rtol=1e-9)


def test_madelungs_constants():
    """Of rock salt and caesium chloride, by the distance of neighbours."""
    sums = image_sums(ROCK_SALT, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert (sums[0, 0, 0] - sums[0, 1, 0]) * 2.82 == pytest.approx(-1.7475645946, abs=1e-9)
    sums = image_sums(np.eye(3) * 4.1, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert (sums[0, 0, 0] - sums[0, 1, 0]) * 4.1 * math.sqrt(3) / 2 == pytest.approx(-1.7626747731, abs=1e-9)


def test_the_lattice_constant_of_1_over_r_6():
    """The Lennard-Jones sum of the cubic close packing, by the distance of neighbours."""
    sums = image_sums(ROCK_SALT, np.zeros((1, 3)))
    assert sums[0, 0, 1] * (2.82 * math.sqrt(2)) ** 6 == pytest.approx(14.45392104, abs=1e-7)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), n_atoms=st.integers(1, 4), factor=st.sampled_from([0.4, 0.7, 2.0]))
def test_it_does_not_matter_how_the_sums_are_split(seed, n_atoms, factor):
    lattice, frac = random_cell(seed, n_atoms)
    expected = image_sums(lattice, frac)
    before, module.SPLIT = module.SPLIT, module.SPLIT * factor
    try:
        found = image_sums(lattice, frac)
    finally:
        module.SPLIT = before
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), repeats=st.sampled_from([(2, 1, 1), (1, 3, 1), (2, 2, 1)]))
def test_the_sums_of_all_copies_in_a_supercell_are_those_of_the_cell(seed, repeats):
    lattice, frac = random_cell(seed, 2)
    steps = np.array(list(itertools.product(*map(range, repeats))))
    copies = (frac[None] + steps[:, None]).reshape(-1, 3) / repeats
    size = math.prod(repeats) ** (1 / 3)
    found = image_sums(lattice * np.array(repeats)[:, None], copies, exponent=3.0 * math.sqrt(size))
    of_copies = found[:2].reshape(2, len(steps), 2, 3).sum(axis=1)
    np.testing.assert_allclose(of_copies, image_sums(lattice, frac), rtol=1e-8, atol=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_another_cell_and_other_images_of_atoms_are_the_same(seed):
    lattice, frac = random_cell(seed, 3)
    rng = np.random.default_rng(seed)
    whole = np.eye(3)
    whole[rng.integers(3), rng.integers(3)] = 1
    whole[0, 1] += 1
    if abs(np.linalg.det(whole)) != 1:
        whole = np.array([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    other = (frac + rng.integers(-2, 3, frac.shape)) @ np.linalg.inv(whole)
    np.testing.assert_allclose(image_sums(whole @ lattice, other), image_sums(lattice, frac), rtol=1e-8, atol=1e-9)


def test_flat_and_left_handed_cells():
    lattice, frac = np.diag([2.5, 2.5, 30.0]), np.array([[0, 0, 0], [0.4, 0.5, 0.1]])
    found = image_sums(lattice, frac)
    np.testing.assert_allclose(found[:, :, 1], direct(lattice, frac, power=6, cells=30), rtol=1e-4)
    mirrored = image_sums(lattice * [1, 1, -1], frac)
    np.testing.assert_allclose(mirrored, found, rtol=1e-9)


def test_many_pairs_are_summed_in_parts(monkeypatch):
    lattice, frac = random_cell(4, 9)
    expected = image_sums(lattice, frac)
    monkeypatch.setattr(module, "CHUNK", 1)
    np.testing.assert_allclose(image_sums(lattice, frac), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("lattice", "frac", "message"),
    [
        (np.zeros((3, 3)), np.zeros((1, 3)), r"found a cell of 0 A\^3"),
        (np.eye(3) * np.nan, np.zeros((1, 3)), "a cell or coordinates that are not finite"),
        (np.eye(3), np.full((1, 3), np.inf), "a cell or coordinates that are not finite"),
        (np.array([[1, 0, 0], [400.0, 1e-3, 0], [0, 0, 1e3]]), np.zeros((1, 3)), "far from reduced. Reduce the cell"),
    ],
)
def test_cells_without_sums_are_refused(lattice, frac, message):
    with pytest.raises(StructureError, match=message):
        image_sums(lattice, frac)


def test_the_scaled_error_function():
    x = np.linspace(0, 6.5, 500)
    expected = [math.exp(value**2) * math.erfc(value) for value in x]
    np.testing.assert_allclose(erfcx(x), expected, rtol=5e-14)
    x = np.linspace(6.6, 20, 50)
    expected = [math.exp(value**2) * math.erfc(value) for value in x]
    np.testing.assert_allclose(erfcx(x), expected, rtol=3e-6)


# ---- the view ----


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    crystals = [lg.Crystal(*random_cell(seed, n), [11, 17, 8][:n]) for seed, n in ((1, 3), (2, 1), (3, 2))]
    out = tmp_path_factory.mktemp("sums") / "p.lg"
    lg.write(crystals, out, graph="potnet", workers=1, progress=False)
    return out


def test_the_view_has_the_sums_of_each_crystal(path):
    ds = lg.LazyGraphDataset(path, view=lg.view("potnet", sums=True, dtype="float64"))
    batch, crystals = ds.batch([0, 1, 2]), [ds.crystal(n) for n in range(3)]
    assert batch.inf_edge_index.shape == (2, 9 + 1 + 4)
    assert batch.inf_edge_attr.dtype == torch.float64
    begin = 0
    for n, (crystal, first) in enumerate(zip(crystals, batch.ptr.tolist(), strict=False)):
        pairs = list(np.ndindex(len(crystal), len(crystal)))
        own = slice(begin, begin + len(pairs))
        assert (batch.inf_edge_index[:, own].T - first).tolist() == [list(pair) for pair in pairs], n
        expected = image_sums(crystal.lattice, crystal.frac_coords).reshape(-1, 3)
        assert (batch.inf_edge_attr[own].numpy() == expected).all()
        begin += len(pairs)


def test_lengths_are_those_of_the_vectors(path):
    batch = lg.LazyGraphDataset(path, view=lg.view("potnet", dtype="float64")).batch([0, 1, 2])
    vectors = lg.LazyGraphDataset(path, view=lg.view("matformer", dtype="float64")).batch([0, 1, 2]).edge_attr
    torch.testing.assert_close(batch.edge_attr, vectors.norm(dim=1), rtol=1e-12, atol=1e-12)
    assert "inf_edge_attr" not in batch


def test_what_has_no_sums_is_refused(path, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="found sums='yes'; required: True or False"):
        lg.view("potnet", sums="yes")
    slab = lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11], pbc=(True, True, False))
    lg.write([slab], tmp_path / "slab.lg", graph="mace", workers=1, progress=False)
    assert lg.LazyGraphDataset(tmp_path / "slab.lg", view="potnet")[0].edge_attr.shape == (4,)
    with pytest.raises(StructureError, match=r"pbc=\(True, True, False\); PotNet's sums .*sums=False"):
        lg.LazyGraphDataset(tmp_path / "slab.lg", view=lg.view("potnet", sums=True))[0]
    monkeypatch.setattr(potnet, "memory_limit", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="3 graphs have 14 pairs of atoms"):
        lg.LazyGraphDataset(path, view=lg.view("potnet", sums=True)).batch([0, 1, 2])
