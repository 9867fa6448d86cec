"""Graphs cut out of a radius graph are those that the recipe builds, to the bit, or are refused beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import RecipeMismatch, StructureError
from lazygraph.graphs.recut import check_recut, recut
from lazygraph.graphs.sizes import derived_sizes

WIDE = lg.graph("radius", cutoff=8.0)
WANTED = [
    lg.graph("radius", cutoff=5.0),
    lg.graph("mace"),
    lg.graph("m3gnet"),
    lg.graph("radius", cutoff=8.0, boundary="<"),
    lg.graph("nearest", cutoff=8.0, max_neighbors=12),
    lg.graph("nearest", cutoff=20.0, max_neighbors=12),
    lg.graph("alignn-2026"),
    lg.graph("shell", max_neighbors=12),
    lg.graph("shell", max_neighbors=12, tolerance=0.1),
    lg.graph("alignn"),
    lg.graph("comformer", max_neighbors=12),
    lg.graph("comformer"),
    lg.graph("comformer", lattice_edges=False),
    lg.graph("matformer"),
    lg.graph("matformer", cutoff=3.0),
    lg.GraphSpec("mine", lg.Radius(cutoff=4.0, boundary="<", lattice_vectors="comformer")),
]


def assert_same(graph, other):
    assert graph.crystal is other.crystal
    for name in ("edge_index", "images", "lattice_images", "distances", "vectors"):
        one, two = getattr(graph, name), getattr(other, name)
        if two is None:
            assert one is None
        else:
            assert one.dtype == two.dtype, name
            assert one.tobytes() == two.tobytes(), name


def least(spec, crystal):
    """The dataset column ``min_neighbors`` of one crystal."""
    return np.array([derived_sizes(spec, spec.build(crystal))["min_neighbors"]])


@pytest.fixture(scope="session")
def wide_graphs(golden_crystals):
    return [WIDE.build(crystal) for crystal in golden_crystals]


@pytest.fixture(scope="session")
def min_neighbors(wide_graphs):
    return np.array([derived_sizes(WIDE, graph)["min_neighbors"] for graph in wide_graphs])


@pytest.mark.parametrize("spec", WANTED, ids=str)
def test_real_crystals(wide_graphs, min_neighbors, spec):
    proven = spec.rule.reach <= WIDE.rule.reach or min_neighbors >= spec.rule.max_neighbors
    rows = np.flatnonzero(np.broadcast_to(proven, min_neighbors.shape))
    assert len(rows) > 0.97 * len(wide_graphs)
    check_recut(WIDE, spec, min_neighbors[rows], str)
    for row in rows:
        assert_same(recut(spec, WIDE, wide_graphs[row]), spec.build(wide_graphs[row].crystal))


def test_the_wide_integers_of_a_reader_give_the_same(wide_graphs):
    spec = lg.graph("comformer", max_neighbors=12)
    for graph in wide_graphs[:40]:
        read = lg.CrystalGraph(graph.crystal, graph.edge_index.astype(np.int64), graph.images.astype(np.int64))
        assert_same(recut(spec, WIDE, read), spec.build(graph.crystal))


@st.composite
def crystals(draw):
    """Skewed, thin, one-atom and unwrapped cells with many equal distances, repeating in some directions or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = np.diag(rng.choice([2.0, 2.5, 3.0, 4.7], 3)) + rng.choice([0.0, 0.5], (3, 3)) * draw(st.booleans())
    if draw(st.booleans()):
        lattice[2] += rng.integers(-2, 3, 2) @ lattice[:2]
    n_atoms = draw(st.integers(1, 4))
    frac = rng.integers(0, 4, (n_atoms, 3)) / 4 if draw(st.booleans()) else rng.random((n_atoms, 3))
    frac += rng.integers(-1, 2, (n_atoms, 3)) * draw(st.booleans())
    pbc = draw(st.sampled_from([(True, True, True), (True, True, False), (False, True, False), (False, False, False)]))
    assume(abs(np.linalg.det(lattice)) > 1)
    return Crystal(lattice, frac, rng.integers(1, 90, n_atoms), pbc)


@st.composite
def recipes(draw):
    k, cutoff = draw(st.integers(1, 14)), draw(st.sampled_from([1.0, 2.5, 3.0, 4.0, 4.7, 6.0]))
    boundary, tolerance = draw(st.sampled_from(["<", "<="])), draw(st.sampled_from([0.0, 1e-4, 0.1]))
    return draw(
        st.sampled_from(
            [
                lg.graph("radius", cutoff=cutoff, boundary=boundary),
                lg.graph("nearest", cutoff=cutoff, max_neighbors=k, boundary=boundary),
                lg.graph("shell", max_neighbors=k, tolerance=tolerance),
                lg.graph("comformer", max_neighbors=k, tolerance=tolerance),
                lg.graph("matformer", max_neighbors=k, tolerance=tolerance, cutoff=cutoff),
            ]
        )
    )


# Multiples of the cells' lengths and of their tolerance beyond: neighbours lie on every boundary.
stored = st.builds(
    lambda cutoff, boundary: lg.graph("radius", cutoff=cutoff, boundary=boundary),
    st.sampled_from([2.5, 3.0, 3.1, 4.0, 4.7, 5.0, 6.1]),
    st.sampled_from(["<", "<="]),
)


def outcome(make):
    """What comes out, or the error."""
    try:
        return make()
    except (StructureError, RecipeMismatch) as error:
        return error


@pytest.mark.slow
@given(crystals(), recipes(), stored)
@settings(max_examples=300, deadline=None)
def test_a_cut_graph_is_the_built_one_and_only_what_is_not_proven_is_refused(crystal, wanted, stored):
    graph = outcome(lambda: stored.build(crystal))
    assume(not isinstance(graph, StructureError))  # atoms too close: no dataset holds them
    column = np.array([derived_sizes(stored, graph)["min_neighbors"]])
    unproven = outcome(lambda: check_recut(stored, wanted, column, str))
    cut, built = outcome(lambda: recut(wanted, stored, graph)), outcome(lambda: wanted.build(crystal))
    if isinstance(cut, RecipeMismatch):
        assert unproven
    elif isinstance(built, StructureError):  # it repeats in too few directions, or has too few atoms
        assert str(cut) == str(built)
    else:
        assert_same(cut, built)


@given(crystals(), stored)
@settings(max_examples=100, deadline=None)
def test_min_neighbors_is_the_least_number_of_neighbours_clear_of_the_cutoff(crystal, stored):
    graph = outcome(lambda: stored.build(crystal))
    assume(not isinstance(graph, StructureError))
    clear = graph.distances + 0.1 < stored.rule.cutoff
    if stored.rule.boundary == "<=":
        clear |= graph.distances + 0.1 == stored.rule.cutoff
    counts = [int(clear[graph.edge_index[0] == atom].sum()) for atom in range(len(crystal))]
    assert derived_sizes(stored, graph)["min_neighbors"] == min(counts)


# -- refusals ----------------------------------------------------------------------------------------------------------

CUBIC = Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [84])
SIX = lg.graph("shell", max_neighbors=6, tolerance=0.1)
ENOUGH = np.array([99, 99])


@pytest.mark.parametrize(
    ("cutoff", "boundary", "proven"),
    [(4.0, "<=", False), (4.05, "<=", False), (4.1, "<", False), (4.1, "<=", True), (4.2, "<", True)],
)
def test_a_shell_within_the_greatest_tolerance_of_the_cutoff_is_not_proven(cutoff, boundary, proven):
    stored = lg.graph("radius", cutoff=cutoff, boundary=boundary)
    column = least(stored, CUBIC)
    if proven:
        check_recut(stored, SIX, column, str)
        assert recut(SIX, stored, stored.build(CUBIC)).n_edges == 6
    else:
        with pytest.raises(RecipeMismatch, match="has 0 neighbours within"):
            check_recut(stored, SIX, column, str)


def test_an_unproven_shell_says_where_how_many_and_what_to_do():
    column = np.array([12, 6, 11, 30, 4], dtype=np.uint8)
    with pytest.raises(
        RecipeMismatch,
        match=r"an atom of 'mp-1' \(row 1\) has 6 neighbours within 7.9 A, and 3 of 5 graphs have such an atom; "
        r"required for lazygraph.graph\('alignn', .*\): at least 12, so .* lazygraph-write OLD.lg -o NEW.lg --graph",
    ):
        check_recut(WIDE, lg.graph("alignn"), column, "mp-{}".format)
    check_recut(WIDE, lg.graph("alignn", max_neighbors=4), column, "mp-{}".format)


@pytest.mark.parametrize(
    ("stored", "wanted", "column", "message"),
    [
        (lg.graph("alignn"), lg.graph("shell", max_neighbors=3), ENOUGH, "holds graphs of .*'alignn'.*rule 'radius'"),
        (lg.graph("cgcnn"), lg.graph("radius", cutoff=3.0), ENOUGH, "holds graphs of .*'cgcnn'.*rule 'radius'"),
        (WIDE, lg.graph("alignn", ties="reference"), ENOUGH, "required for ties='reference': those of the published"),
        (WIDE, lg.graph("radius", cutoff=8.1), ENOUGH, r"neighbours with d <= 8.0 A; required .*those with d <= 8.1 A"),
        (lg.graph("mace"), lg.graph("m3gnet"), ENOUGH, r"with d < 5.0 A; required .*those with d <= 5.0 A"),
        (WIDE, lg.graph("alignn"), None, "has no column 'min_neighbors'; required for .*'alignn'"),
        (WIDE, lg.graph("nearest", cutoff=9.0, max_neighbors=100), ENOUGH, r"an atom of '0' .*at least 100, so"),
    ],
)
def test_what_is_refused(stored, wanted, column, message):
    with pytest.raises(RecipeMismatch, match=message) as found:
        check_recut(stored, wanted, column, str)
    assert "lazygraph-write OLD.lg -o NEW.lg --graph" in str(found.value)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        (WIDE, lg.graph("radius", cutoff=8.0, boundary="<")),
        (lg.graph("mace"), lg.graph("nequip")),
        (lg.graph("mace"), lg.graph("radius", cutoff=np.nextafter(5.0, 0))),
        (lg.graph("chgnet"), lg.graph("m3gnet")),
        (WIDE, lg.graph("cgcnn")),
    ],
    ids=str,
)
def test_a_smaller_cutoff_needs_no_column(stored, wanted):
    check_recut(stored, wanted, None, str)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (lg.graph("radius", cutoff=4.6), "the stored edges end at 4.5 A; required: all neighbours within 4.6 A"),
        (lg.graph("shell", max_neighbors=7), "the stored edges end at 4.5 A; required: all neighbours within 5.85 A"),
        (lg.graph("cgcnn", max_neighbors=7), "the stored edges end at 4.5 A; required: all neighbours within 5.85 A"),
        (lg.graph("alignn", ties="reference"), "by the distances as they are; required for ties='reference'"),
    ],
)
def test_one_graph_whose_edges_do_not_reach_is_refused_too(wanted, message):
    stored = lg.graph("radius", cutoff=4.5)
    with pytest.raises(RecipeMismatch, match=message):
        recut(wanted, stored, stored.build(CUBIC))


def test_the_edges_of_another_rule_are_never_taken_for_a_search():
    spec = lg.graph("shell", max_neighbors=12)
    with pytest.raises(RecipeMismatch, match="required for .*: these very graphs, or graphs of the rule 'radius'"):
        recut(lg.graph("shell", max_neighbors=6), spec, spec.build(CUBIC))


def test_an_isolated_atom_is_the_error_that_building_gives():
    lonely = Crystal(np.eye(3) * 7.0, [[0, 0, 0]], [2])
    check_recut(WIDE, lg.graph("chgnet"), None, str)
    with pytest.raises(StructureError, match="atom 0 has no neighbour within 6 A; required with isolated_atoms="):
        recut(lg.graph("chgnet"), WIDE, WIDE.build(lonely))
    assert recut(lg.graph("mace"), WIDE, WIDE.build(lonely)).n_edges == 0
