"""``ties="reference"`` against the published loops, in plain Python with exact fractions for fused steps."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError

SIX = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]


def positions(crystal, rounded):
    """What ``numpy.dot`` makes of all atoms: fused steps, unless there is one row only."""

    def step(a, b, c):
        return float(Fraction(a) * Fraction(b) + Fraction(c)) if len(crystal) > 1 else a * b + c

    columns = rounded.T.tolist()
    return [[step(f[2], m[2], step(f[1], m[1], f[0] * m[0])) for m in columns] for f in crystal.frac_coords.tolist()]


def published_neighbors(crystal, r):
    """Per atom, (distance, j, image) in the published order."""
    rounded = np.around(crystal.lattice, 5)
    reciprocal = np.around(2 * np.pi * np.linalg.inv(rounded).T, 5)
    reach = [math.ceil((r + 0.15) * round(math.hypot(*row), 6) / (2 * math.pi)) for row in reciprocal.tolist()]
    low = [math.floor(x) - m for x, m in zip(crystal.frac_coords.min(axis=0).tolist(), reach, strict=True)]
    high = [math.ceil(x) + m for x, m in zip(crystal.frac_coords.max(axis=0).tolist(), reach, strict=True)]
    cart, columns = positions(crystal, rounded), crystal.lattice.T.tolist()
    neighbors = [[] for _ in cart]
    for image in itertools.product(*map(range, low, high)):
        shift = [(image[0] * m[0] + image[1] * m[1]) + image[2] * m[2] for m in columns]
        for j, i in itertools.product(range(len(cart)), repeat=2):
            x, y, z = ((shift[c] + cart[j][c]) - cart[i][c] for c in range(3))
            distance = math.sqrt((x * x + y * y) + z * z)
            if distance <= r and distance > 0.15:
                neighbors[i].append((distance, j, image))
    return neighbors


def published_edges(crystal, k, cutoff, lattice_edges=()):
    """The published graph as a multiset; lattice edges as Matformer's, forgotten where the cutoff had to grow."""
    neighbors = published_neighbors(crystal, cutoff)
    if min(map(len, neighbors)) < k:
        longest = max(round(math.hypot(*row), 6) for row in np.around(crystal.lattice, 5).tolist())
        if cutoff > 12:
            reject()  # too slow here
        return published_edges(crystal, k, longest if cutoff < longest else 2 * cutoff)
    edges = defaultdict(set)
    for i, found in enumerate(neighbors):
        farthest = sorted(d for d, *_ in found)[k - 1]
        for distance, j, image in found:
            if distance <= farthest:
                edges[min(i, j), max(i, j)].add(tuple(-s for s in image) if j < i else image)
        edges[i, i] |= set(lattice_edges)
    pairs = [(i, j, *s) for (i, j), images in edges.items() for s in images]
    return Counter(pairs) + Counter((j, i, *(-x for x in s)) for i, j, *s in pairs)


@st.composite
def crystals(draw):
    """Cells with many nearly equal distances, as in real files: thirds cut off, lattices with odd last digits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = rng.uniform(2.5, 4.5)
    shape = draw(st.sampled_from(["cubic", "hexagonal", "fcc", "needle", "skewed", "left-handed"]))
    lattice = {
        "cubic": np.eye(3) * a,
        "hexagonal": np.array([[a, 0, 0], [-a / 2, a * math.sqrt(3) / 2, 0], [0, 0, a * 1.3]]),
        "fcc": np.array([[0, a, a], [a, 0, a], [a, a, 0]]) * 0.75,
        "needle": np.diag([a, a, 4 * a]),
        "skewed": np.array([[a, 0, 0], [0, a, 0], [2 * a, a, a]]),
        "left-handed": np.diag([a, a, -a]),
    }[shape]
    if draw(st.booleans()):
        lattice = lattice @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    frac = rng.choice([0, 0.25, 1 / 3, 0.5, 0.6666667, 0.75], (draw(st.integers(1, 3)), 3))
    if draw(st.booleans()):
        frac = frac + rng.normal(size=3)
    if draw(st.booleans()):
        frac = frac + rng.integers(-1, 2, frac.shape)  # spans more than one cell: the published search loses neighbours
    return Crystal(lattice, frac, np.full(len(frac), 14))


def edges_of(graph):
    return Counter(map(tuple, np.column_stack([graph.edge_index.T, graph.images]).astype(int).tolist()))


@given(crystals(), st.integers(1, 14), st.sampled_from([2.0, 4.0, 5.5]))
@settings(max_examples=60, deadline=None)
def test_every_bit_of_the_published_rule(crystal, k, cutoff):
    graph = lg.graph("alignn", cutoff=cutoff, max_neighbors=k, ties="reference").build(crystal)
    assert edges_of(graph) == published_edges(crystal, k, cutoff)


@given(crystals(), st.integers(1, 14), st.sampled_from([2.0, 4.0, 5.5]))
@settings(max_examples=40, deadline=None)
def test_matformer_forgets_its_lattice_edges_where_the_cutoff_grows(crystal, k, cutoff):
    graph = lg.graph("matformer", cutoff=cutoff, max_neighbors=k, ties="reference").build(crystal)
    assert edges_of(graph) == published_edges(crystal, k, cutoff, SIX)


def test_growth_shows_only_in_the_lattice_edges_where_the_larger_box_holds_nearer_neighbours():
    """Found by hypothesis: the published cutoff grows because its box lost neighbours that are within the cutoff."""
    lattice = [
        [-2.874895227361848, 0.7859166149354995, -2.8339565290025477],
        [-1.7620082873041478, -3.6333376648894156, 0.7798598018767249],
        [-2.3546340117689932, 1.7593150910169637, 2.8765441389550066],
    ]
    frac = [
        [-0.08677700997975135, 0.49089888097905976, -0.7048404493382496],
        [-1.7534437099797513, 1.4908988809790598, 1.211826217328417],
    ]
    crystal = Crystal(lattice, frac, [14, 14])
    edges = edges_of(lg.graph("matformer", cutoff=5.5, max_neighbors=12, ties="reference").build(crystal))
    assert edges == published_edges(crystal, 12, 5.5, SIX)
    assert all(len([d for d, *_ in row if d <= 5.5]) >= 12 for row in published_neighbors(crystal, 11.0))
    assert (0, 0, 0, 1, 1) not in edges


@given(crystals(), st.integers(1, 10))
@settings(max_examples=30, deadline=None)
def test_edges_come_in_the_specified_order(crystal, k):
    graph = lg.graph("comformer", max_neighbors=k, ties="reference").build(crystal)
    edges = list(map(tuple, np.column_stack([graph.edge_index.T, graph.images]).astype(int).tolist()))
    assert edges[::2] == sorted(set(edges[::2]))
    assert edges[1::2] == [(j, i, *(-x for x in s)) for i, j, *s in edges[::2]]
    own = {(i, i, *s) for i in range(len(crystal)) for s in graph.lattice_images.tolist()}
    assert own <= set(edges[::2])


def test_rounding_splits_a_shell_that_ties_shell_keeps_whole():
    """The incident behind the two modes: hexagonal neighbours that are equally far, but not to the last bit."""
    a = 3.1903157
    lattice = [[a, 0, 0], [-a / 2, a * math.sqrt(3) / 2, 0], [0, 0, 1.6 * a]]
    crystal = Crystal(lattice, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], [30, 30])
    whole, split = (
        edges_of(lg.graph("alignn", max_neighbors=14, ties=ties).build(crystal)) for ties in ("shell", "reference")
    )
    # Six in the plane, each edge twice, six in the planes above and below, and another shell of six.
    assert sum(whole.values()) == 2 * 6 * 2 + 2 * 6 + 2 * 6
    assert sum(split.values()) < sum(whole.values())
    assert not split - whole


def test_atoms_closer_than_the_published_bound_are_dropped_without_an_error():
    crystal = Crystal(np.eye(3) * 4.0, [[0, 0, 0], [0.03, 0, 0]], [14, 14])
    edges = edges_of(lg.graph("alignn", max_neighbors=4, ties="reference").build(crystal))
    assert edges == published_edges(crystal, 4, 8.0)
    assert (0, 1, 0, 0, 0) not in edges
    with pytest.raises(StructureError, match="A apart"):
        lg.graph("alignn", max_neighbors=4).build(crystal)


def test_without_duplicates_the_two_images_of_an_atom_are_one_pair():
    spec = lg.GraphSpec("mine:bare", lg.Shell(cutoff=8.0, max_neighbors=6, ties="reference"))
    edges = edges_of(spec.build(Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [84])))
    assert sorted(edges) == sorted((0, 0, *s) for s in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, s)) == 1)
    assert set(edges.values()) == {1}


def test_what_the_published_code_never_saw_is_refused():
    spec = lg.graph("alignn", ties="reference")
    with pytest.raises(StructureError, match=r"pbc=\(True, True, False\), and ties='reference' needs.*ties='shell'"):
        spec.build(Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [6], pbc=(True, True, False)))
    with pytest.raises(StructureError, match="rounded to 5 decimals is singular"):
        spec.build(Crystal(np.diag([4e-6, 1e3, 1e3]), [[0, 0, 0]], [6]))
    with pytest.raises(StructureError, match="atom 0 has 0 neighbours within 100 A; required: at least max_neighbors="):
        spec.build(Crystal(np.eye(3) * 150.0, [[0, 0, 0]], [2]))
