"""Cells from 1e-300 to 1e300 A, flat, needle-like, skewed: a graph or an error of lazygraph's, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph import native
from lazygraph.crystal import Crystal
from lazygraph.errors import LazyGraphError, RecipeError, StructureError
from lazygraph.graphs.backends import pymatgen_pairs
from lazygraph.graphs.effort import MAX_IMAGES, Effort
from lazygraph.graphs.presets import PRESETS, REQUIRED

NEEDED = {"cutoff": 4.0, "max_neighbors": 6}
SPECS = [
    lg.graph(name, **{key: NEEDED[key] for key, default in preset.parameters.items() if default is REQUIRED})
    for name, preset in PRESETS.items()
]
SPECS += [lg.graph(name, ties="reference") for name in ("comformer", "matformer", "potnet", "alignn")]

exponents = st.one_of(st.integers(-300, 300), st.integers(-12, 12), st.integers(-3, 3))


@st.composite
def numbers(draw):
    """Any finite number, of any magnitude alike."""
    return draw(st.sampled_from((-1.0, 1.0))) * draw(st.floats(1.0, 9.99)) * 10.0 ** draw(exponents)


def vectors(n):
    return st.lists(st.lists(st.one_of(numbers(), st.just(0.0)), min_size=3, max_size=3), min_size=n, max_size=n)


@st.composite
def lattices(draw):
    """Random, or an ordinary cell that is scaled, stretched, flattened or far from reduced."""
    kind = draw(st.sampled_from(("random", "scaled", "stretched", "flat", "sheared")))
    if kind == "random":
        return np.array(draw(vectors(3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell = np.diag(rng.uniform(2.5, 6.0, 3)) + rng.uniform(-1.0, 1.0, (3, 3))
    power = 10.0 ** draw(exponents)
    if kind == "scaled":
        return cell * power
    if kind == "stretched":
        cell[rng.integers(3)] *= power
    elif kind == "flat":
        cell = cell[0] + (cell - cell[0]) * power
        cell[0] = cell[1] + rng.uniform(-1.0, 1.0, 3) * power
    else:
        cell[0] += float(np.clip(round(power), 0, 1e18)) * cell[rng.integers(1, 3)]
    return cell


@st.composite
def structures(draw):
    """Arguments of a ``Crystal``."""
    n = draw(st.integers(1, 8))
    if draw(st.booleans()):
        frac = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random((n, 3))
        if draw(st.booleans()):
            frac = frac * 10.0 ** draw(exponents)
    else:
        frac = np.array(draw(vectors(n)))
    pbc = draw(st.one_of(st.just((True, True, True)), st.tuples(st.booleans(), st.booleans(), st.booleans())))
    return draw(lattices()), frac, np.full(n, 6), pbc


def outcome(make):
    """What a call gives; the error, if that is one of lazygraph's. Any other error, and any warning, is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return make()
        except LazyGraphError as error:
            return error


def told(graph):
    if isinstance(graph, LazyGraphError):
        assert len(str(graph)) > 20
        return type(graph), str(graph)
    arrays = (graph.edge_index, graph.images, graph.distances, graph.vectors)
    assert all(np.isfinite(array).all() for array in arrays)
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


@pytest.mark.slow
@given(structures(), st.sampled_from(SPECS), st.sampled_from((1_000, 30_000, 300_000)))
@settings(max_examples=1500)
def test_every_recipe_makes_a_graph_or_says_why_not(structure, spec, most):
    crystal = outcome(lambda: Crystal(*structure))
    if not isinstance(crystal, Crystal):
        assert isinstance(crystal, StructureError)
        return
    graph = outcome(lambda: spec.build(crystal, max_images=most))
    plain = outcome(lambda: spec.build(crystal, backend="pymatgen", max_images=most))
    assert told(graph) == told(plain)
    if not isinstance(graph, LazyGraphError):
        assert told(spec.build(crystal, max_images=MAX_IMAGES)) == told(graph)


@pytest.mark.slow
@given(structures(), st.sampled_from(SPECS))
@settings(max_examples=150)
def test_the_limits_that_hold_unless_said_are_enough(structure, spec):
    crystal = outcome(lambda: Crystal(*structure))
    if isinstance(crystal, Crystal):
        told(outcome(lambda: spec.build(crystal)))


@pytest.mark.slow
@given(structures())
@settings(max_examples=300)
def test_cartesian_coordinates_make_a_crystal_or_say_why_not(structure):
    crystal = outcome(lambda: Crystal.from_cartesian(*structure))
    assert isinstance(crystal, (Crystal, StructureError))
    if isinstance(crystal, Crystal):
        assert isinstance(outcome(lambda: Crystal.from_any(crystal.to_ase())), (Crystal, StructureError))


@pytest.mark.slow
@given(structures(), st.floats(0.2, 12.0))
@settings(max_examples=300)
def test_no_search_looks_at_more_images_or_finds_more_neighbours_than_was_told(structure, radius):
    crystal = outcome(lambda: Crystal(*structure))
    if not isinstance(crystal, Crystal):
        return
    effort = Effort.of(crystal)
    if effort.images(radius) > 100_000 or effort.rounding(radius) > 1e-7:
        return
    i, _, image = pymatgen_pairs(crystal, radius)
    cells = np.ptp(image, axis=0) - np.ptp(np.floor(crystal.frac_coords), axis=0) + 1
    assert np.prod(np.maximum(cells, 1)) <= effort.cells(radius)
    assert len(i) <= effort.atoms * effort.images(radius)
    if all(crystal.pbc) and len(i) > 1000 * len(crystal):
        assert 0.3 * len(i) < effort.neighbors(radius) < 30 * len(i)


@pytest.mark.parametrize("radius", [0.01, 0.06, 0.5, 1.0])
def test_a_short_radius_costs_what_pymatgen_looks_at(radius):
    """It searches within 1 A at least, and drops what is farther: in a cell of 0.05 A these are many images."""
    crystal = Crystal(np.eye(3) * 0.05, [[0, 0, 0]], [26])
    assert Effort.of(crystal).images(radius) >= (2 / 0.05) ** 3


@pytest.mark.parametrize("preset", ["comformer", "cgcnn", "m3gnet", "mace"])
@pytest.mark.parametrize("native_loops", [True, False])
def test_a_flat_cell_is_refused_before_the_search_begins(preset, native_loops, monkeypatch):
    if not native_loops:
        monkeypatch.setenv("LAZYGRAPH_NATIVE", "0")
        native.kernels.cache_clear()
    flat = Crystal([[3, 0, 0], [3, 1e-3, 0], [3, 0, 1e-3]], np.random.default_rng(0).random((8, 3)), np.full(8, 26))
    with pytest.raises(StructureError, match=r"looks at [0-9,]+ images of atoms; required: at most 10,000,000|cells"):
        lg.graph(preset).build(flat)
    native.kernels.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("atoms", [400, 60_000])
def test_atoms_on_one_spot_take_little_memory(atoms):
    """60,000 of them are 3.6 billion pairs, of 48 bytes each."""
    code = f"""
import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)
import numpy as np, lazygraph as lg
try:
    lg.graph("mace").build(lg.Crystal(np.eye(3) * 9.0, np.zeros(({atoms}, 3)), np.full({atoms}, 6)))
except lg.StructureError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "apart" in done.stdout or "neighbours" in done.stdout, done.stderr


def test_a_limit_that_no_search_keeps_is_refused(silicon):
    assert lg.graph("mace").build(silicon, max_images=713).n_edges
    with pytest.raises(StructureError, match="max_images"):
        lg.graph("mace").build(silicon, max_images=700)
    for most in (0, -1, 2_000_000_000):
        with pytest.raises(RecipeError, match="max_images"):
            lg.graph("mace").build(silicon, max_images=most)


@pytest.mark.parametrize(
    "broken",
    [
        {"lattice_mat": [[3, 0, 0], [0, 3, 0], [0, 0, 3]], "coords": 7, "elements": 7},
        {"lattice_mat": [[3, 0, 0], [0, 3, 0], [0, 0, 3]], "coords": [[0, 0, 0]], "elements": None},
        {"lattice": 3, "sites": 4},
        {"numbers": [6], "positions": [[0, 0, 0]], "cell": [[3, 0, 0]], "pbc": [1, 2]},
        {"numbers": [[6], [6, 7]], "positions": [[0, 0, 0]], "cell": np.eye(3)},
        {"numbers": [6], "positions": [[0, 0, 10**400]], "cell": np.eye(3)},
    ],
)
def test_dicts_that_hold_no_structure_are_errors_of_the_structure(broken):
    with pytest.raises(StructureError):
        lg.graph("mace").build(broken)
