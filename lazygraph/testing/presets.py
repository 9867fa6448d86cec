"""What every preset, with its rule and its angles, promises."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import check_edges
from lazygraph.graphs.sizes import derived_names, derived_sizes
from lazygraph.graphs.spec import GraphSpec, graph
from lazygraph.graphs.vectors import edge_distances
from lazygraph.testing.crystals import sample_crystals
from lazygraph.writing.write import write

__all__ = ["PresetContract"]


class PresetContract:
    """Tests of a preset. A subclass names it.

    Example:
        class TestToy(PresetContract):
            preset = "toy"
    """

    preset: str
    """The name that :func:`lazygraph.graph` takes."""
    parameters: Mapping[str, Any] = MappingProxyType({})
    """The parameters to test it with."""

    def crystals(self) -> Sequence[Crystal]:
        """Crystals that can become graphs of the preset."""
        return sample_crystals()

    @property
    def spec(self) -> GraphSpec:
        """The recipe."""
        return graph(self.preset, **self.parameters)

    def test_the_recipe_is_a_value(self) -> None:
        """It travels by pickle and as JSON, and is hashed and compared."""
        spec = self.spec
        assert GraphSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301  # of a moment ago
        assert hash(spec) == hash(self.spec)
        assert spec.diff(self.spec) == []
        assert spec.preset == self.preset

    def test_edges_are_of_the_crystal_and_in_their_order(self) -> None:
        """Ends are atoms, types are those of the format, and the order is one of the two that records have."""
        for crystal in self.crystals():
            made = self.spec.build(crystal)
            assert made.edge_index.dtype == np.int32
            assert made.images.dtype == np.int16
            assert made.edge_index.shape == (2, made.n_edges)
            assert made.images.shape == (made.n_edges, 3)
            assert made.n_edges == 0 or (made.edge_index.min() >= 0 and made.edge_index.max() < len(crystal))
            assert not made.images[:, ~np.array(crystal.pbc)].any(), "an image along an axis that does not repeat"
            check_edges(self.spec, made.edge_index, made.images)

    def test_the_same_crystal_gives_the_same_edges(self) -> None:
        """With every neighbour search, and in the compiled loop as in the plain rule."""
        for crystal in self.crystals():
            first, again, plain = (self.spec.build(crystal, backend=b) for b in ("native", "native", "pymatgen"))
            _assert_same(first, again)
            _assert_same(first, plain)

    def test_distances_are_those_of_the_stated_expression(self) -> None:
        """To the bit, so that a graph that was read and one that was built agree; none exceeds the reach."""
        for crystal in self.crystals():
            made = self.spec.build(crystal)
            stated = edge_distances(crystal.frac_coords, crystal.lattice, made.edge_index, made.images)
            assert made.distances.tobytes() == np.asarray(stated).tobytes()
            assert self.spec.rule.replays_rounding or made.distances.max(initial=0.0) <= self.spec.rule.reach

    def test_angles_are_as_many_as_their_count(self) -> None:
        """The count limits batches, and memory."""
        angles = self.spec.angles
        for made in map(self.spec.build, self.crystals()):
            if angles is None:
                assert "n_triplets" not in derived_names(self.spec)
                continue
            pairs = angles.pairs(made)
            by_edge = np.bincount(pairs[0], minlength=made.n_edges)
            assert angles.count_by_edge(made).tolist() == by_edge.tolist()
            assert angles.count(made) == derived_sizes(self.spec, made)["n_triplets"] == pairs.shape[1]
            order = np.lexsort(pairs[::-1])
            assert np.array_equal(pairs, pairs[:, order]), "pairs are sorted by the first edge, then by the second"

    def test_a_dataset_gives_back_the_graphs(self, tmp_path: Path) -> None:
        """What is written is what was built, by worker processes too."""
        crystals = self.crystals()
        report = write(crystals, tmp_path / "made.lg", graph=self.spec, workers=2, shard_size=2, progress=False)
        assert (report.written, report.quarantined) == (len(crystals), 0)
        store = Store(tmp_path / "made.lg")
        for row, crystal in enumerate(crystals):
            made, read = self.spec.build(crystal), store.arrays(row)
            if self.spec.rule.has_edges:
                assert np.array_equal(read["edge_index"], made.edge_index)
                assert np.array_equal(read["images"], made.images)
            else:
                assert made.n_edges == 0
                assert not {"edge_index", "images"} & read.keys()
            for name, size in derived_sizes(self.spec, made).items():
                assert store.column(name)[row] == size

    def test_a_dataset_of_crystals_alone_is_read_as_these_graphs(self, tmp_path: Path) -> None:
        """``graph=`` builds the same graphs at every read."""
        from lazygraph.loading.dataset import LazyGraphDataset

        crystals = self.crystals()
        write(crystals, tmp_path / "alone.lg", graph="none", workers=1, progress=False)
        dataset = LazyGraphDataset(tmp_path / "alone.lg", graph=self.spec)
        batch = dataset.batch(range(len(crystals)))
        for read, again, crystal in zip(dataset, batch.to_data_list(), crystals, strict=True):
            made = self.spec.build(crystal)
            for data in (read, again):
                assert np.array_equal(data.edge_index.numpy(), made.edge_index)
                assert np.array_equal(data.images.numpy(), made.images)
                assert data.edge_attr.numpy().tobytes() == made.vectors.tobytes()


def _assert_same(one: CrystalGraph, other: CrystalGraph) -> None:
    for name in ("edge_index", "images", "distances", "lattice_images"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None and theirs is None) or mine.tobytes() == theirs.tobytes(), f"other {name}"
