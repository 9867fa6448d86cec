"""Triplets, line graphs and bond graphs, against their definitions as loops, and against the published codes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import RecipeError
from lazygraph.graphs import angles

ATOMS = 5


@st.composite
def edges(draw):
    """(2, E) ends of any edges, parallel ones and those of an atom with itself included, and which are kept."""
    ends = draw(st.lists(st.tuples(st.integers(0, ATOMS - 1), st.integers(0, ATOMS - 1)), max_size=14))
    kept = draw(st.lists(st.booleans(), min_size=len(ends), max_size=len(ends)))
    return np.array(ends, dtype=np.int64).reshape(-1, 2).T, np.array(kept, dtype=bool)


@st.composite
def paired_edges(draw):
    """(2, 2P) ends of edges in adjacent pairs, and lengths that often are exactly 3."""
    pairs = draw(st.lists(st.tuples(st.integers(0, ATOMS - 1), st.integers(0, ATOMS - 1)), max_size=7))
    lengths = draw(st.lists(st.sampled_from([1.0, 2.5, 3.0, 3.5]), min_size=len(pairs), max_size=len(pairs)))
    ends = np.array([end for i, j in pairs for end in ((i, j), (j, i))], dtype=np.int64).reshape(-1, 2)
    return ends.T, np.repeat(np.array(lengths), 2)


def loop(edge_index, kept, joined):
    """Pairs (a, b) of kept edges, in order, for which ``joined`` holds."""
    ids = np.flatnonzero(kept).tolist()
    return [[a, b] for a in ids for b in ids if joined(a, b, *edge_index[:, a], *edge_index[:, b])]


RULES = {
    angles.triplets: lambda a, b, start_a, end_a, start_b, end_b: start_a == start_b and a != b,
    angles.whole_line_graph: lambda a, b, start_a, end_a, start_b, end_b: end_a == start_b,
    angles.line_graph: lambda a, b, start_a, end_a, start_b, end_b: end_a == start_b and a != b,
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@given(drawn=edges())
def test_pairs_are_those_of_the_definition_in_numpy_and_in_torch(rule, drawn):
    edge_index, kept = drawn
    expected = np.array(loop(edge_index, kept, RULES[rule]), dtype=np.int32).reshape(-1, 2).T
    found = rule(edge_index, ATOMS, kept)
    assert np.array_equal(found, expected)
    in_torch = rule(torch.from_numpy(edge_index), ATOMS, torch.from_numpy(kept))
    assert torch.equal(in_torch, torch.from_numpy(expected))
    assert np.array_equal(rule(edge_index[:, kept], ATOMS), rule(edge_index[:, kept], ATOMS, np.ones(kept.sum(), bool)))


@given(drawn=edges())
def test_counts_are_known_without_making_the_pairs(drawn):
    edge_index, kept = drawn
    edges = SimpleNamespace(edge_index=edge_index, n_atoms=ATOMS, distances=np.where(kept, 2.0, 4.0))
    for kind, function, some in (
        (angles.Triplets(threebody_cutoff=3.0), angles.triplets, kept),
        (angles.LineGraph(), angles.line_graph, None),
        (angles.WholeLineGraph(threebody_cutoff=3.0), angles.whole_line_graph, kept),
    ):
        pairs = function(edge_index, ATOMS, some)
        assert np.array_equal(kind.pairs(edges), pairs)
        assert kind.count(edges) == pairs.shape[1]
        assert kind.count_by_edge(edges).tolist() == np.bincount(pairs[0], minlength=len(kept)).tolist()


@pytest.mark.slow
@given(drawn=paired_edges())
def test_a_bond_graph_takes_bonds_up_to_the_cutoff_first_and_shorter_ones_second(drawn):
    edge_index, distances = drawn
    everything = np.ones(len(distances), dtype=bool)

    def joined(a, b, start_a, end_a, start_b, end_b):
        return start_a == start_b and a != b and distances[a] <= 3 and distances[b] < 3

    expected = [[edge_index[0, a], a // 2, a, b // 2, b] for a, b in loop(edge_index, everything, joined)]
    found = angles.bond_graph(edge_index, ATOMS, distances, 3.0)
    assert np.array_equal(found, np.array(expected, dtype=np.int64).reshape(-1, 5))
    kind = angles.BondGraph(bond_cutoff=3.0)
    edges = SimpleNamespace(edge_index=edge_index, n_atoms=ATOMS, distances=distances)
    assert kind.count(edges) == len(expected)
    assert np.array_equal(kind.pairs(edges), found[:, [2, 4]].T)
    in_torch = angles.bond_graph(torch.from_numpy(edge_index), ATOMS, torch.from_numpy(distances), 3.0)
    assert np.array_equal(in_torch.numpy(), found)


@given(several=st.lists(edges(), min_size=1, max_size=4))
def test_pairs_of_a_batch_are_those_of_its_graphs_with_ids_of_edges_raised(several):
    sizes = [kept.size for _, kept in several]
    first_edge = np.cumsum([0, *sizes])
    joined = np.concatenate([edge_index + ATOMS * n for n, (edge_index, _) in enumerate(several)], axis=1)
    kept = np.concatenate([kept for _, kept in several])
    for rule in RULES:
        singles = [rule(edge_index, ATOMS, kept) + first_edge[n] for n, (edge_index, kept) in enumerate(several)]
        assert np.array_equal(rule(joined, ATOMS * len(several), kept), np.concatenate(singles, axis=1))


def keys_of(edge_index, images):
    """(E,) each edge as one text, which is the same whatever the order of edges."""
    rows = np.column_stack([edge_index.T, images]).astype(int)
    return np.array([" ".join(map(str, row)) for row in rows.tolist()])


def pairs_by_key(keys, pairs):
    return sorted(zip(keys[pairs[0]].tolist(), keys[pairs[1]].tolist(), strict=True))


def ragged(file, name, axis=0):
    rows = file[f"{name}_ptr"]
    return np.split(file[name], rows[1:-1], axis=axis)


def test_triplets_are_matgls(golden, golden_crystals):
    spec = lg.graph("m3gnet")
    total = 0
    with np.load(golden / "m3gnet_r5_r4.npz") as file:
        theirs = zip(
            ragged(file, "edge_index", 1), ragged(file, "image"), ragged(file, "triplet_index", 1), strict=True
        )
        for crystal, (edge_index, images, triplets) in zip(golden_crystals, theirs, strict=True):
            graph = spec.build(crystal)
            mine = pairs_by_key(keys_of(graph.edge_index, graph.images), graph.triplets(4.0))
            assert mine == pairs_by_key(keys_of(edge_index, images), triplets)
            total += len(mine)
    assert total > 250 * len(golden_crystals)


def test_bond_graphs_are_chgnets(golden, golden_crystals):
    spec = lg.graph("chgnet")
    total = 0
    with np.load(golden / "chgnet_r6_r3.npz") as file:
        theirs = zip(ragged(file, "edge_index", 1), ragged(file, "image"), ragged(file, "bond_graph"), strict=True)
        for crystal, (edge_index, images, rows) in zip(golden_crystals, theirs, strict=True):
            graph = spec.build(crystal)
            bonds = graph.bond_graph(3.0)
            mine = keys_of(graph.edge_index, graph.images)
            assert pairs_by_key(mine, bonds[:, [2, 4]].T) == pairs_by_key(
                keys_of(edge_index, images), rows[:, [2, 4]].T
            )
            assert np.array_equal(bonds[:, 0], graph.edge_index[0, bonds[:, 2]])
            assert np.array_equal(bonds[:, [1, 3]], bonds[:, [2, 4]] // 2)
            total += len(rows)
    assert total > 120 * len(golden_crystals)


def test_a_crystal_graph_gives_its_angles():
    nacl = lg.Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
    graph = lg.graph("radius", cutoff=3.0).build(nacl)
    assert graph.triplets(3.0).shape == (2, 2 * 6 * 5)
    assert graph.triplets(2.0).shape == (2, 0)
    assert graph.line_graph().shape == (2, 12 * 6)  # no edge of an atom with itself
    assert graph.line_graph(2.0).shape == (2, 0)
    assert graph.bond_graph(3.0).shape == (60, 5)


def test_a_bond_graph_of_directed_edges_is_refused():
    skewed = lg.Crystal(np.diag([3.0, 4.0, 5.0]), [[0, 0, 0], [0.4, 0.3, 0.1]], [11, 17])
    graph = lg.graph("nearest", cutoff=6.0, max_neighbors=3).build(skewed)
    with pytest.raises(RecipeError, match="a bond graph needs edges that come in pairs"):
        graph.bond_graph(3.0)
