"""The compiled rules against the plain ones: the same graphs to the bit, or left to them."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph import native
from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs import compiled
from lazygraph.graphs.backends import pymatgen_pairs
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.neighbors import BackendSearch

pytestmark = pytest.mark.skipif(native.kernels() is None, reason="there are no compiled loops here")

PRESETS = ["comformer", "matformer", "alignn", "alignn-2026", "cgcnn", "m3gnet", "chgnet", "mace"]
RULES = {
    "radius": lambda search: compiled.radius_edges(search, 4.0),
    "shell": lambda search: compiled.shell_edges(search, 6, 1e-4, duplicates=True),
    "nearest": lambda search: compiled.nearest_edges(search, 6, 4.0),
}
each_rule = pytest.mark.parametrize("rule", RULES)


@pytest.fixture
def plain(monkeypatch):
    """Switches the compiled loops off."""
    monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
    native.kernels.cache_clear()
    yield
    native.kernels.cache_clear()


def built(spec, crystal, backend):
    """Everything that a rule decides, as bytes; or why it refused."""
    try:
        graph = spec.build(crystal, backend=backend)
    except StructureError as error:
        return str(error)
    arrays = (graph.edge_index, graph.images, graph.distances)
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


def search(crystal):
    return BackendSearch(crystal, pymatgen_pairs)


KINDS = ("plain", "skewed", "left-handed", "flat", "needle", "unwrapped", "one atom")


@st.composite
def crystals(draw, periodic=False):
    """Awkward crystals, some with coordinates that are multiples of 1/4: many equal distances."""
    kind = draw(st.sampled_from(KINDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = np.diag(rng.choice([2.5, 3.0, 4.0, 4.7], 3)) + rng.choice([0.0, 0.5], (3, 3)) * draw(st.booleans())
    if kind == "skewed":
        row = rng.integers(3)
        lattice[row] += rng.integers(-6, 7, 2) @ np.delete(lattice, row, 0)
    elif kind == "left-handed":
        lattice = lattice[[1, 0, 2]]
    elif kind in ("flat", "needle"):
        lattice[rng.integers(3)] *= 0.4 if kind == "flat" else 8.0
    n_atoms = 1 if kind == "one atom" else int(rng.integers(2, 7))
    frac = rng.integers(0, 4, (n_atoms, 3)) / 4 if draw(st.booleans()) else rng.random((n_atoms, 3))
    if kind == "unwrapped":
        frac += rng.integers(-4, 5, (n_atoms, 3))
    assume(abs(np.linalg.det(lattice)) > 1)
    pbc = (True, True, True) if periodic else draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    return Crystal(lattice, frac, np.full(n_atoms, 6), pbc)


@pytest.mark.slow
@given(crystals(), st.integers(1, 16), st.floats(0.5, 6.0), st.sampled_from(["<", "<="]))
@settings(max_examples=150)
def test_every_rule_makes_the_graph_of_the_plain_one(crystal, k, cutoff, boundary):
    for spec in (
        lg.graph("radius", cutoff=cutoff, boundary=boundary),
        lg.graph("nearest", max_neighbors=k, cutoff=cutoff, boundary=boundary),
        lg.graph("shell", max_neighbors=k),
        lg.graph("alignn", max_neighbors=k, tolerance=0.05),
        lg.graph("matformer", max_neighbors=k, cutoff=cutoff),
    ):
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen"), spec


@given(crystals(periodic=True), st.sampled_from(["<", "<="]), st.data())
@settings(max_examples=60)
def test_a_neighbour_exactly_at_the_cutoff_is_judged_alike(crystal, boundary, data):
    try:
        distances = np.unique(lg.graph("radius", cutoff=5.0).build(crystal, backend="pymatgen").distances)
    except StructureError:  # atoms too close
        assume(False)
    assume(len(distances))
    cutoff = data.draw(st.sampled_from(distances.tolist()))
    for preset, parameters in (("radius", {}), ("nearest", {"max_neighbors": 5})):
        spec = lg.graph(preset, cutoff=cutoff, boundary=boundary, **parameters)
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")


@pytest.mark.parametrize("preset", PRESETS)
def test_real_crystals_make_the_same_graphs(golden_crystals, preset):
    spec = lg.graph(preset)
    for crystal in golden_crystals[::4]:
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")


def lattice_images(crystal):
    try:
        return comformer_images(crystal).tolist()
    except StructureError as error:
        return str(error)


def test_lattice_vectors_are_those_of_the_plain_function(request, golden_crystals):
    rng = np.random.default_rng(0)
    skewed = [
        Crystal(np.diag([3.0, 3.0, 4.0]) + np.tril(rng.integers(-9, 10, (3, 3)), -1) * 3.0, rng.random((n, 3)), [6] * n)
        for n in (1, 1, 1, 2, 2, 2)
    ]
    absurd = [Crystal([[2.0, 0, 0], [0, 2.0, 0], [90001.0, 0, 2.0]], [[0, 0, 0]], [6])]
    everything = [*golden_crystals, *skewed, *absurd]
    loops = [lattice_images(crystal) for crystal in everything]
    request.getfixturevalue("plain")
    assert loops == [lattice_images(crystal) for crystal in everything]


@each_rule
def test_ordinary_crystals_are_not_left_to_the_plain_rules(rule, silicon):
    (edge_index, images), distances = RULES[rule](search(silicon))
    assert edge_index.base is None  # and so keeps no larger array alive
    assert edge_index.shape == (2, len(images))
    assert len(images) == len(distances) > 0


@each_rule
@pytest.mark.parametrize(
    "crystal",
    [
        Crystal(np.eye(3) * 4.0, [[0, 0, 0], [40000.5, 0, 0]], [11, 17]),
        Crystal(np.eye(3) * 4.0, [[0, 0, 0], [1e6, 0, 0]], [11, 17]),
        Crystal(np.eye(3) * 5.0, [[0, 0, 0], [0.01, 0, 0]], [1, 1]),
        Crystal(np.diag([4, 4, 0.1]), [[0, 0, 0]], [6]),
        Crystal([[1e-3, 0, 0], [0, 1e-3, 0], [0, 0, 1.0]], [[0, 0, 0]], [6]),
        Crystal([[2.0, 0, 0], [1e6, 2.0, 0], [1e6, 1e6, 2.0]], [[0, 0, 0]], [6]),
        Crystal(np.diag([1e6, 1e6, 1e6]), [[0, 0, 0], [0.5, 0.5, 0.5]], [6, 6]),
        Crystal(np.eye(3) * 30.0, np.random.default_rng(0).random((600, 3)), np.full(600, 6)),
    ],
    ids=["image", "overflow", "atoms too close", "image too close", "tiny", "skewed", "huge", "many atoms"],
)
def test_what_the_loops_are_no_good_for_is_left_to_the_plain_rules(rule, crystal):
    with np.errstate(all="ignore"):
        assert RULES[rule](search(crystal)) is None


@pytest.mark.parametrize("k", [1, 2**40, 10**30])
def test_a_search_of_too_many_relations_ends(k):
    small = search(Crystal(np.eye(3) * 0.2, [[0, 0, 0]], [6]))
    assert compiled.radius_edges(small, 100.0) is None
    assert compiled.nearest_edges(small, k, 0.25)[1].size == min(k, 6)
    assert k == 1 or compiled.shell_edges(small, k, 1e-4, duplicates=False) is None


def test_a_crystal_that_needs_more_room_than_expected_is_whole(monkeypatch):
    cluster = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3) / 100
    crystal = Crystal(np.eye(3) * 100.0, cluster, np.full(64, 6))  # 64 atoms in a corner of an empty cell
    monkeypatch.setattr(compiled, "MAX_ROOM", 0)
    for spec in (lg.graph("radius", cutoff=5.0), lg.graph("shell", max_neighbors=60)):
        assert spec.build(crystal).n_edges > 64 * len(crystal) / 2
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")
    dense = Crystal(np.eye(3) * 2.0, [[0, 0, 0]], [6])
    for spec in (lg.graph("radius", cutoff=6.0), lg.graph("nearest", max_neighbors=90, cutoff=9.0)):
        assert spec.build(dense).n_edges > 64  # what is left of the room
        assert built(spec, dense, "native") == built(spec, dense, "pymatgen")


def test_threads_do_not_disturb_one_another(golden_crystals):
    jobs = list(itertools.product(map(lg.graph, PRESETS), golden_crystals[::12]))
    alone = [built(spec, crystal, "native") for spec, crystal in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda job: built(*job, "native"), jobs)) == alone


@pytest.mark.usefixtures("plain")
@each_rule
def test_without_compiled_loops_the_plain_rules_answer(rule, silicon):
    assert RULES[rule](search(silicon)) is None
    assert lg.graph("radius", cutoff=4.0).build(silicon).n_edges == 32
