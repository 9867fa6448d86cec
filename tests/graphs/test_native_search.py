"""The compiled rules against the plain ones: the same graphs to the bit, or left to them."""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph import native
from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError
from lazygraph.graphs.backends import pymatgen_pairs
from lazygraph.graphs.compiled import PackedCrystals, build_edges
from lazygraph.graphs.effort import MAX_IMAGES
from lazygraph.graphs.lattice import comformer_images
from lazygraph.graphs.neighbors import BackendSearch
from lazygraph.graphs.rule import native_rule
from lazygraph.native.source_hash import source_hash

pytestmark = pytest.mark.skipif(native.kernels() is None, reason="there are no compiled loops here")

PRESETS = ["comformer", "matformer", "alignn", "alignn-2026", "cgcnn", "m3gnet", "chgnet", "mace"]
RULES = {
    "radius": lg.Radius(cutoff=4.0),
    "shell": lg.Shell(max_neighbors=6, tolerance=1e-4, duplicates=True),
    "nearest": lg.Nearest(max_neighbors=6, cutoff=4.0),
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
    (edge_index, images), distances = RULES[rule].compiled(search(silicon))
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
    ],
    ids=["image", "overflow", "atoms too close", "image too close", "tiny", "skewed", "huge"],
)
def test_what_the_loops_are_no_good_for_is_left_to_the_plain_rules(rule, crystal):
    with np.errstate(all="ignore"):
        assert RULES[rule].compiled(search(crystal)) is None


@pytest.mark.parametrize("k", [1, 1000, 10**6])
def test_a_search_of_too_many_relations_ends(k):
    small = search(Crystal(np.eye(3) * 0.2, [[0, 0, 0]], [6]))
    assert lg.Radius(cutoff=100.0).compiled(small) is None
    assert lg.Nearest(max_neighbors=k, cutoff=0.25).compiled(small).distances.size == min(k, 6)
    assert k < 10**6 or lg.Shell(max_neighbors=k).compiled(small) is None


def test_a_crystal_that_needs_more_room_than_expected_is_whole():
    cluster = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3) / 100
    crystal = Crystal(np.eye(3) * 100.0, cluster, np.full(64, 6))  # 64 atoms in a corner of an empty cell
    for spec in (lg.graph("radius", cutoff=5.0), lg.graph("shell", max_neighbors=60)):
        assert spec.build(crystal).n_edges > 64 * len(crystal) / 2
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")
    dense = Crystal(np.eye(3) * 2.0, [[0, 0, 0]], [6])
    for spec in (lg.graph("radius", cutoff=6.0), lg.graph("nearest", max_neighbors=90, cutoff=9.0)):
        assert spec.build(dense).n_edges > 64  # what is left of the room
        assert built(spec, dense, "native") == built(spec, dense, "pymatgen")


@pytest.mark.parametrize("n_atoms", [150, 511, 512, 600])
@pytest.mark.parametrize("shape", ["cube", "flat", "needle", "skewed", "slab", "cluster", "unwrapped"])
def test_crystals_of_many_atoms_are_searched_in_boxes(n_atoms, shape):
    rng = np.random.default_rng(n_atoms)
    side = (12.0 * n_atoms) ** (1 / 3)
    lattice = np.diag(
        {"flat": [4, side**1.5 / 2, side**1.5 / 2], "needle": [4, 4, side**3 / 16]}.get(shape, [side] * 3)
    )
    if shape == "skewed":
        lattice += np.array([[0, 0, 0], [0.9, 0, 0], [-1.2, 0.8, 0]]) * side
    grid = np.stack(np.meshgrid(*[np.arange(9)] * 3), -1).reshape(-1, 3)
    frac = (rng.permutation(grid)[:n_atoms] + 0.5 * rng.random((n_atoms, 3))) / 9
    if shape == "unwrapped":
        frac += rng.integers(-3, 4, frac.shape)
    pbc = {"slab": (True, True, False), "cluster": (False, False, False)}.get(shape, (True, True, True))
    crystal = Crystal(lattice, frac, np.full(n_atoms, 6), pbc)
    recipes = [lg.graph("radius", cutoff=5.0), lg.graph("shell", max_neighbors=12), lg.graph("cgcnn", cutoff=6.0)]
    for spec in recipes:
        assert spec.rule.compiled(search(crystal)) is not None or isinstance(built(spec, crystal, "native"), str)
        assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")


@pytest.mark.slow
@given(several=st.lists(crystals(), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_a_batch_has_the_edges_of_its_crystals(several):
    for spec in (*map(lg.graph, PRESETS), lg.graph("radius", cutoff=3.0)):
        told = native_rule(spec.rule)
        packed = PackedCrystals(
            np.concatenate([c.frac_coords for c in several]), np.stack([c.lattice for c in several]),
            np.array([c.pbc for c in several]), np.array([len(c) for c in several]),
        )  # fmt: skip
        found = build_edges(told, packed, MAX_IMAGES, distances=True)
        narrow = build_edges(told, packed, MAX_IMAGES)
        assert np.array_equal(found.images, narrow.images)
        assert narrow.images.dtype == (np.int8 if np.abs(found.images.astype(int)).max(initial=0) < 128 else np.int16)
        edge = atom = 0
        for number, crystal in enumerate(several):
            n = int(found.n_edge[number])
            if n >= 0:
                graph = spec.build(crystal, backend="pymatgen")
                here = slice(edge, edge + n)
                assert np.array_equal(found.edge_index[:, here] - atom, graph.edge_index)
                assert np.array_equal(found.images[here], graph.images)
                assert found.distances[here].tobytes() == graph.distances.tobytes()
                if graph.lattice_images is not None:
                    assert np.array_equal(found.lattice_images[number], graph.lattice_images)
                edge += n
            atom += len(crystal)
        assert edge == len(found.images)


def test_more_edges_than_memory_suffices_for_are_not_made(silicon):
    packed = PackedCrystals(silicon.frac_coords, silicon.lattice[None], np.array([silicon.pbc]), np.array([2]))
    told = native_rule(lg.Radius(cutoff=4.0))
    assert build_edges(told, packed, MAX_IMAGES, most_edges=32).n_edge.tolist() == [32]
    assert build_edges(told, packed, MAX_IMAGES, most_edges=31) is None


def test_a_subclass_with_other_edges_has_no_compiled_loop(silicon):
    class Half(lg.Radius):
        name = "half"

        def edges(self, search):
            (edge_index, images), distances = super().edges(search)
            return lg.ChosenEdges((edge_index[:, :2], images[:2]), distances[:2])

    assert native_rule(Half(cutoff=4.0)) is None
    assert lg.GraphSpec("custom", Half(cutoff=4.0)).build(silicon).n_edges == 2


@pytest.mark.slow
@pytest.mark.parametrize("function", ["propose", "propose_256"])
def test_processors_without_the_widest_vectors_propose_the_same(function, golden_crystals, tmp_path, monkeypatch):
    """The loops choose by processor, so the others are compiled alone."""
    compiler = shutil.which("gcc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("needs gcc on x86-64")
    if function == "propose_256" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the processor has no AVX2")
    folder = native.LIBRARY.parent
    sources = map(str, sorted(folder.glob("*.c")))
    flags = ["-O2", "-std=c11", "-fPIC", "-shared", "-ffp-contract=off", "-DLG_ONE_VERSION"]
    macros = [f"-DLG_PROPOSALS={function}", f'-DLG_SOURCES="{source_hash(tmp_path)}"']
    subprocess.run([compiler, *flags, *macros, *sources, "-o", tmp_path / "kernels.so", "-lm"], check=True)
    jobs = list(itertools.product(map(lg.graph, PRESETS), golden_crystals[::6]))
    expected = [built(spec, crystal, "native") for spec, crystal in jobs]
    usual = native.kernels()
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "kernels.so")
    native.kernels.cache_clear()
    try:
        assert native.kernels() is not None
        assert native.kernels() is not usual
        assert [built(spec, crystal, "native") for spec, crystal in jobs] == expected
        dense = Crystal(np.eye(3) * 2.0, [[0, 0, 0]], [6])
        large = Crystal(np.eye(3) * 12.0, np.random.default_rng(0).permutation(GRID)[:100] / 6, np.full(100, 6))
        for crystal in (dense, large):
            for spec in map(lg.graph, ("comformer", "mace")):
                assert built(spec, crystal, "native") == built(spec, crystal, "pymatgen")
    finally:
        native.kernels.cache_clear()


GRID = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)


def test_threads_do_not_disturb_one_another(golden_crystals):
    jobs = list(itertools.product(map(lg.graph, PRESETS), golden_crystals[::12]))
    alone = [built(spec, crystal, "native") for spec, crystal in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda job: built(*job, "native"), jobs)) == alone


@pytest.mark.usefixtures("plain")
@each_rule
def test_without_compiled_loops_the_plain_rules_answer(rule, silicon):
    assert RULES[rule].compiled(search(silicon)) is None
    assert lg.graph("radius", cutoff=4.0).build(silicon).n_edges == 32
