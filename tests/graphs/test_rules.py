"""The rules against a search that is short, slow and obviously right, and the symmetries that edges must have."""

from __future__ import annotations

import itertools
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import MissingExtra, RecipeError, StructureError
from lazygraph.graphs.backends import BACKENDS
from lazygraph.graphs.neighbors import BackendSearch, kth_distances
from lazygraph.graphs.vectors import edge_distances

TOLERANCE = 1e-4
CLEAR = 1e-7  # A; no decision of a test may be closer than this


def brute_force(crystal, radius):
    """All (i, j, S) -> d with d <= radius, the atom itself left out, from every image that could matter."""
    frac, lattice = crystal.frac_coords, crystal.lattice
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    most = np.ceil(radius / heights + np.ptp(frac, axis=0)).astype(int) * np.array(crystal.pbc)
    images = np.array(list(itertools.product(*(range(-m, m + 1) for m in most))))
    found = {}
    for i, j in itertools.product(range(len(crystal)), repeat=2):
        distance = np.linalg.norm((frac[j] - frac[i] + images) @ lattice, axis=1)
        for s in np.flatnonzero(distance <= radius):
            if i != j or images[s].any():
                found[i, j, *images[s].tolist()] = distance[s]
    return found


def brute_shell(crystal, k):
    """The shell rule, duplicates removed: the set of directed edges. Rejects crystals where rounding would decide."""
    radius = 3.0
    while True:
        found = brute_force(crystal, radius)
        shells = [sorted(d for (i, *_), d in found.items() if i == atom) for atom in range(len(crystal))]
        if all(len(shell) >= k and shell[k - 1] + TOLERANCE < radius for shell in shells):
            break
        radius *= 1.5
    limit = [shell[k - 1] + TOLERANCE for shell in shells]
    assume(all(abs(d - limit[i]) > CLEAR and abs(d - limit[j]) > CLEAR for (i, j, *_), d in found.items()))
    return {(i, j, *s) for (i, j, *s), d in found.items() if d <= max(limit[i], limit[j])}


def kth_distance(crystal, atom, k):
    radius = 3.0
    while len(found := sorted(d for (i, *_), d in brute_force(crystal, radius).items() if i == atom)) < k:
        radius *= 1.5
    return found[k - 1]


def edges_of(graph):
    return list(map(tuple, np.column_stack([graph.edge_index.T, graph.images]).astype(int).tolist()))


def reverse(edge):
    i, j, *s = edge
    return (j, i, *(-x for x in s))


KINDS = ("plain", "skewed", "left-handed", "flat", "needle", "unwrapped")


@st.composite
def crystals(draw, periodic=True, max_atoms=4):
    """Random crystals of every awkward kind, some coordinates multiples of 1/4: many equal distances."""
    kind = draw(st.sampled_from(KINDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = np.diag(rng.choice([2.5, 3.0, 4.0, 4.7], 3)) + rng.choice([0.0, 0.5], (3, 3)) * draw(st.booleans())
    if kind == "skewed":
        lattice[2] += rng.integers(-3, 4, 2) @ lattice[:2]
    elif kind == "left-handed":
        lattice = lattice[[1, 0, 2]]
    elif kind == "flat":
        lattice[2] *= 0.5
    elif kind == "needle":
        lattice[1] *= 6.0
    n_atoms = draw(st.integers(1, max_atoms))
    special = draw(st.booleans())
    frac = rng.integers(0, 4, (n_atoms, 3)) / 4 if special else rng.random((n_atoms, 3))
    if kind == "unwrapped":
        frac += rng.integers(-4, 5, (n_atoms, 3))
    pbc = (True, True, True) if periodic else draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    assume(abs(np.linalg.det(lattice)) > 1)
    crystal = Crystal(lattice, frac, rng.integers(1, 90, n_atoms), pbc)
    assume(min(brute_force(crystal, 1.5).values(), default=1.0) > 0.3)
    return crystal


@given(crystals(periodic=False), st.floats(1.0, 5.0), st.sampled_from(["<", "<="]))
@settings(max_examples=60, deadline=None)
def test_radius_rule_is_the_brute_force_search(crystal, cutoff, boundary):
    found = brute_force(crystal, cutoff + 0.1)
    assume(all(abs(d - cutoff) > CLEAR for d in found.values()))
    graph = lg.graph("radius", cutoff=cutoff, boundary=boundary).build(crystal)
    edges = edges_of(graph)
    assert Counter(edges) == Counter(e for e, d in found.items() if d <= cutoff)
    np.testing.assert_allclose(graph.distances, [found[e] for e in edges], atol=1e-9)


@pytest.mark.slow
@given(crystals(), st.integers(1, 14))
@settings(max_examples=80, deadline=None)
def test_shell_rule_is_the_brute_force_search(crystal, k):
    graph = lg.graph("shell", max_neighbors=k).build(crystal)
    assert Counter(edges_of(graph)) == Counter(brute_shell(crystal, k))


@given(crystals(periodic=False), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_shell_rule_in_slabs_wires_and_molecules(crystal, k):
    spec = lg.graph("shell", max_neighbors=k)
    if not any(crystal.pbc) and len(crystal) <= k:
        with pytest.raises(StructureError, match=rf"{len(crystal)} atoms and repeats in no direction.*={k} atoms"):
            spec.build(crystal)
        return
    assert Counter(edges_of(spec.build(crystal))) == Counter(brute_shell(crystal, k))


@given(crystals(), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_comformer_is_the_shell_rule_with_self_images_twice_and_three_lattice_edges(crystal, k):
    graph = lg.graph("comformer", max_neighbors=k).build(crystal)
    shell = brute_shell(crystal, k)
    own = {(i, i, *s) for i in range(len(crystal)) for s in graph.lattice_images.tolist()}
    pairs = {e for e in shell if e[0] < e[1]} | {e for e in shell if e[0] == e[1]} | own
    assert Counter(edges_of(graph)) == Counter(pairs) + Counter(map(reverse, pairs))
    without = lg.graph("comformer", max_neighbors=k, lattice_edges=False).build(crystal)
    pairs = {e for e in shell if e[0] <= e[1]}
    assert Counter(edges_of(without)) == Counter(pairs) + Counter(map(reverse, pairs))
    assert (without.lattice_images == graph.lattice_images).all()


def brute_nearest(crystal, k, cutoff):
    """The nearest rule: directed edges in order, ties by neighbour and image."""
    found = brute_force(crystal, cutoff)
    chosen = []
    for atom in range(len(crystal)):
        # The same bits as the builder's distances, which state ties; the search itself is the slow one.
        own = np.array([edge for edge in found if edge[0] == atom], dtype=int).reshape(-1, 5)
        exact = edge_distances(crystal.frac_coords, crystal.lattice, own[:, :2].T, own[:, 2:])
        chosen += [edge for _, edge in sorted(zip(exact.tolist(), map(tuple, own.tolist()), strict=True))[:k]]
    return chosen


@given(crystals(periodic=False), st.integers(1, 14), st.floats(1.0, 5.0), st.sampled_from(["<", "<="]))
@settings(max_examples=80, deadline=None)
def test_nearest_rule_is_the_brute_force_search(crystal, k, cutoff, boundary):
    assume(all(abs(d - cutoff) > CLEAR for d in brute_force(crystal, cutoff + 0.1).values()))
    graph = lg.graph("nearest", max_neighbors=k, cutoff=cutoff, boundary=boundary).build(crystal)
    assert edges_of(graph) == brute_nearest(crystal, k, cutoff)
    degrees = np.bincount(graph.edge_index[0], minlength=len(crystal))
    within = Counter(i for i, *_ in brute_force(crystal, cutoff))
    assert degrees.tolist() == [min(k, within[atom]) for atom in range(len(crystal))]


@given(crystals(), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_nearest_edges_turn_and_move_with_the_crystal_where_no_tie_decides(crystal, seed):
    k, rng = 5, np.random.default_rng(seed)
    spec = lg.graph("nearest", max_neighbors=k, cutoff=9.0)
    wider = lg.graph("nearest", max_neighbors=k + 1, cutoff=9.0).build(crystal)
    distances = wider.distances.reshape(len(crystal), k + 1)  # every atom has so many within 9 A
    assume((distances[:, k] - distances[:, k - 1] > CLEAR).all())
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = Crystal(crystal.lattice @ rotation, crystal.frac_coords + rng.normal(size=3), crystal.numbers)
    assert Counter(edges_of(spec.build(turned))) == Counter(edges_of(spec.build(crystal)))


def test_nearest_cuts_a_shell_by_neighbour_and_image():
    cubic = Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [14])
    edges = edges_of(lg.graph("cgcnn", max_neighbors=4).build(cubic))
    assert edges == [(0, 0, -1, 0, 0), (0, 0, 0, -1, 0), (0, 0, 0, 0, -1), (0, 0, 0, 0, 1)]


def test_an_atom_with_too_few_neighbours_has_fewer_edges():
    pair = Crystal(np.eye(3) * 30.0, [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]], [6, 8, 2])
    assert edges_of(lg.graph("cgcnn").build(pair)) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


@given(crystals(), st.integers(1, 14), st.floats(2.0, 6.0))
@settings(max_examples=40, deadline=None)
def test_matformer_has_six_lattice_edges_unless_the_cutoff_had_to_grow(crystal, k, cutoff):
    shell = brute_shell(crystal, k)
    farthest = max(kth_distance(crystal, atom, k) for atom in range(len(crystal)))
    assume(abs(farthest - cutoff - TOLERANCE) > CLEAR)
    six = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    own = {(i, i, *s) for i in range(len(crystal)) for s in six} if farthest <= cutoff + TOLERANCE else set()
    pairs = {e for e in shell if e[0] <= e[1]} | own
    edges = edges_of(lg.graph("matformer", max_neighbors=k, cutoff=cutoff).build(crystal))
    assert Counter(edges) == Counter(pairs) + Counter(map(reverse, pairs))


def test_chgnet_refuses_an_isolated_atom_and_mace_does_not():
    crystal = Crystal(np.eye(3) * 30.0, [[0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]], [6, 8, 2])
    with pytest.raises(StructureError, match="atom 2 has no neighbour within 6 A, which isolated_atoms='error'"):
        lg.graph("chgnet").build(crystal)
    assert lg.graph("mace").build(crystal).n_edges == 2


@pytest.mark.parametrize(
    "spec",
    [lg.graph("shell", max_neighbors=6), lg.graph("radius", cutoff=4.1), lg.graph("comformer", max_neighbors=9)],
    ids=str,
)
@given(crystal=crystals())
@settings(max_examples=25, deadline=None)
def test_order_is_the_specified_one(spec, crystal):
    edges = edges_of(spec.build(crystal))
    first, second = edges[::2], edges[1::2]
    assert first == sorted(first)
    assert second == list(map(reverse, first))
    assert all(i <= j for i, j, *_ in first)
    if not getattr(spec.rule, "duplicates", False):
        assert len(set(first)) == len(first)
        assert all(s > [0, 0, 0] for i, j, *s in first if i == j)


# -- symmetries of the bare shell rule ---------------------------------------------------------------------------------

K = 7
SHELL = lg.graph("shell", max_neighbors=K)


def shell_edges(crystal):
    return Counter(edges_of(SHELL.build(crystal)))


def checked_edges(crystal):
    """The edges of a crystal in which no decision is close, so that a moved copy must decide alike."""
    brute_shell(crystal, K)
    return shell_edges(crystal)


@given(crystals(), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_rotation_and_translation_change_nothing(crystal, seed):
    edges, rng = checked_edges(crystal), np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = Crystal(crystal.lattice @ rotation, crystal.frac_coords + rng.normal(size=3), crystal.numbers)
    assert shell_edges(turned) == edges


@given(crystals(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_permutation_renames_atoms(crystal, random):
    edges, order = checked_edges(crystal), list(range(len(crystal)))
    random.shuffle(order)
    shuffled = Crystal(crystal.lattice, crystal.frac_coords[order], crystal.numbers[order])
    assert Counter((order[i], order[j], *s) for i, j, *s in shell_edges(shuffled).elements()) == edges


@given(crystals(), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([-1, 1])), max_size=3))
@settings(max_examples=25, deadline=None)
def test_another_basis_of_the_same_lattice_renames_images(crystal, steps):
    edges, basis = checked_edges(crystal), np.eye(3)
    for row, onto, sign in steps:
        if row != onto:
            basis[onto] += sign * basis[row]
    other = Crystal(basis @ crystal.lattice, crystal.frac_coords @ np.linalg.inv(basis), crystal.numbers)
    back = Counter(
        (i, j, *np.rint(np.array(s) @ basis).astype(int).tolist()) for i, j, *s in shell_edges(other).elements()
    )
    assert back == edges


@given(crystals(max_atoms=3), st.lists(st.integers(-3, 3), min_size=9, max_size=9))
@settings(max_examples=25, deadline=None)
def test_moving_atoms_to_other_cells_renames_images(crystal, cells):
    cells = np.array(cells).reshape(3, 3)[: len(crystal)]
    moved = Crystal(crystal.lattice, crystal.frac_coords + cells, crystal.numbers)
    edges = checked_edges(crystal)
    assert Counter((i, j, *(np.array(s) + cells[j] - cells[i])) for i, j, *s in shell_edges(moved).elements()) == edges


@given(crystals(max_atoms=2), st.tuples(*[st.integers(1, 2)] * 3))
@settings(max_examples=25, deadline=None)
def test_supercell_graph_is_the_supercell_of_the_graph(crystal, size):
    edges, size = checked_edges(crystal), np.array(size)
    cells = np.array(list(itertools.product(*map(range, size))))
    frac = ((crystal.frac_coords[None] + cells[:, None]) / size).reshape(-1, 3)
    large = Crystal(crystal.lattice * size[:, None], frac, np.tile(crystal.numbers, len(cells)))
    n = len(crystal)
    folded = Counter(
        (i % n, j % n, *(cells[j // n] + size * np.array(s) - cells[i // n]))
        for i, j, *s in shell_edges(large).elements()
    )
    assert folded == Counter({edge: count * len(cells) for edge, count in edges.items()})


# -- the search itself -------------------------------------------------------------------------------------------------


@given(crystals(periodic=False), st.floats(0.5, 5.0))
@settings(max_examples=40, deadline=None)
def test_search_finds_all_neighbours_and_at_most_a_hair_more(crystal, radius):
    i, j, image, distance = BackendSearch(crystal, BACKENDS["pymatgen"]).within(radius)
    found = {(a, b, *s): d for a, b, s, d in zip(i.tolist(), j.tolist(), image.astype(int).tolist(), distance)}
    assert len(found) == len(i)
    assert brute_force(crystal, radius - CLEAR).keys() <= found.keys() <= brute_force(crystal, radius + 1e-5).keys()
    assert all(found[reverse(edge)] == d for edge, d in found.items() if reverse(edge) in found)


@pytest.mark.slow
@pytest.mark.parametrize("n_atoms", [1, 7, 2**15, 2**15 + 1])
@pytest.mark.parametrize("k", [1, 3])
def test_the_kth_distance_of_every_atom(n_atoms, k):
    rng = np.random.default_rng(n_atoms)
    counts = rng.integers(k, k + 3, n_atoms)
    rows = [np.sort(rng.choice([1.0, 2.0, 2.5, 3.0], count)) for count in counts.tolist()]
    order = rng.permutation(counts.sum())
    centre, distance = np.arange(n_atoms).repeat(counts)[order], np.concatenate(rows)[order]
    assert kth_distances(centre, distance, counts, k).tolist() == [row[k - 1] for row in rows]


@given(crystals(periodic=False), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_another_backend_makes_the_same_graph(crystal, seed):
    def slow_and_shuffled(crystal, radius):
        found = np.array([*brute_force(crystal, radius), *((a, a, 0, 0, 0) for a in range(len(crystal)))])
        i, j, *image = np.random.default_rng(seed).permutation(found).T
        return i, j, np.array(image, dtype=float).T

    assert_same_graphs(crystal, slow_and_shuffled)


@given(crystals(periodic=False))
@settings(max_examples=60, deadline=None)
def test_vesin_makes_the_same_graph(crystal):
    pytest.importorskip("vesin")
    assert_same_graphs(crystal, "vesin")


@given(crystals(periodic=False))
@settings(max_examples=60, deadline=None)
def test_nvalchemi_makes_the_same_graph(crystal):
    pytest.importorskip("nvalchemiops")
    assert_same_graphs(crystal, "nvalchemi")


def assert_same_graphs(crystal, backend):
    specs = [lg.graph("radius", cutoff=3.7), lg.graph("nearest", max_neighbors=5, cutoff=4.5)]
    if any(crystal.pbc) or len(crystal) > 3:
        specs.append(lg.graph("shell", max_neighbors=3))
    if all(crystal.pbc):
        specs += [lg.graph("alignn", max_neighbors=4, ties=ties) for ties in ("shell", "reference")]
    for spec in specs:
        graph, other = spec.build(crystal), spec.build(crystal, backend=backend)
        assert np.array_equal(graph.edge_index, other.edge_index), spec
        assert np.array_equal(graph.images, other.images), spec


def test_an_unknown_backend_is_refused(silicon):
    with pytest.raises(RecipeError, match="unknown search backend 'grid'; known: native, pymatgen"):
        lg.graph("radius", cutoff=3.0).build(silicon, backend="grid")


@pytest.mark.parametrize(
    ("backend", "module", "extra"), [("vesin", "vesin", "vesin"), ("nvalchemi", "nvalchemiops.torch.neighbors", "cuda")]
)
def test_a_backend_that_is_not_installed_is_named(silicon, monkeypatch, backend, module, extra):
    if backend == "nvalchemi":
        pytest.importorskip("torch")  # which a test of another platform may lack
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'lazygraph\[{extra}\]'"):
        lg.graph("radius", cutoff=3.0).build(silicon, backend=backend)


@pytest.mark.parametrize("guess", [0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("k", [2, 5, 6, 7])
def test_the_first_radius_does_not_matter_even_where_it_cuts_through_a_shell(monkeypatch, guess, k):
    crystal = Crystal(np.diag([4.0, 4.00004, 4.00008]), [[0, 0, 0]], [84])
    sphere = (0.75 / np.pi * (k + 1) * crystal.volume) ** (1 / 3)
    for factor in (guess, 4.00002 / sphere, 4.00006 / sphere):
        monkeypatch.setattr("lazygraph.graphs.neighbors.GUESS", factor)
        assert lg.graph("shell", max_neighbors=k).build(crystal).n_edges == (6 if k <= 6 else 18)


def test_boundary_decides_about_a_neighbour_exactly_at_the_cutoff():
    cubic = Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [14])
    assert lg.graph("radius", cutoff=4.0).build(cubic).n_edges == 6
    assert lg.graph("radius", cutoff=4.0, boundary="<").build(cubic).n_edges == 0


def test_tolerance_decides_which_neighbours_are_one_shell():
    cell = Crystal(np.diag([4.0, 4.0 + 2e-3, 9.0]), [[0, 0, 0]], [14])
    assert lg.graph("shell", max_neighbors=1).build(cell).n_edges == 2
    assert lg.graph("shell", max_neighbors=1, tolerance=3e-3).build(cell).n_edges == 4


@pytest.mark.parametrize("at", [0.0, 1e-9, 0.01, 0.99], ids="distance {}".format)
@pytest.mark.parametrize("spec", [lg.graph("shell", max_neighbors=2), lg.graph("radius", cutoff=0.2)], ids=str)
def test_atoms_too_close_are_named_whatever_the_rule(spec, at):
    crystal = Crystal(np.eye(3) * 5.0, [[0.5, 0.5, 0.5], [0, 0, 0], [at, 0, 0]], [1, 1, 1])
    with pytest.raises(
        StructureError, match=r"atoms [12] and [12] \(in the cell .*\) are .* A apart; required: at least"
    ):
        spec.build(crystal)


def test_an_atom_too_close_to_its_own_image_is_named():
    with pytest.raises(StructureError, match=r"atoms 0 and 0 \(in the cell \(0, 0, -?1\)\) are 0.1 A apart"):
        lg.graph("radius", cutoff=1.0).build(Crystal(np.diag([4, 4, 0.1]), [[0, 0, 0]], [6]))


def test_images_beyond_int16_are_refused():
    far = Crystal(np.eye(3) * 4.0, [[0, 0, 0], [40000.5, 0, 0]], [11, 17])
    with pytest.raises(StructureError, match=r"in the cell \(-?4000[01], .*required: cells within \+-32767. Wrap"):
        lg.graph("shell", max_neighbors=2).build(far)


def test_a_crystal_too_thin_for_k_neighbours_is_refused():
    with pytest.raises(
        StructureError, match="atom 0 has 0 neighbours within 100 A; required: at least max_neighbors=1"
    ):
        lg.graph("shell", max_neighbors=1).build(Crystal(np.eye(3) * 150.0, [[0, 0, 0]], [2]))


def test_lattice_vectors_need_three_directions_and_a_sane_cell():
    comformer = lg.graph("comformer")
    with pytest.raises(StructureError, match="periodic in all directions"):
        comformer.build(Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [6], pbc=(True, True, False)))
    with pytest.raises(StructureError, match="Reduce the cell"):
        comformer.build(Crystal([[2.0, 0, 0], [0, 2.0, 0], [90001.0, 0, 2.0]], [[0, 0, 0]], [6]))
