"""What lazygraph does with private names of PyG and torch is what their public ways do."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader
from torch_geometric.data import Batch, Data

from lazygraph.loading.pyg_internals import NODE_KEYS, empty_batch, end_workers, set_batch, set_values


def values(n):
    return {
        "x": torch.arange(2.0 * n).reshape(n, 2),
        "edge_index": torch.stack([torch.arange(n), torch.arange(n).roll(1)]),
        "y": torch.tensor([[float(n)]]),
        "id": f"graph {n}",
    }


class Mine(Data):
    pass


def assert_same(one, other):
    assert sorted(one.keys()) == sorted(other.keys())  # PyG collates in the order of a set
    for key in other.keys():  # noqa: SIM118  # of a Data
        mine, theirs = one[key], other[key]
        assert torch.equal(mine, theirs) if isinstance(theirs, torch.Tensor) else mine == theirs, key


def test_the_names_that_count_nodes():
    assert {"x", "pos", "batch"} <= NODE_KEYS
    for name in NODE_KEYS - {"feat"}:
        assert Data(**{name: torch.zeros(7, 1)}).num_nodes == 7, name


def test_a_graph_gets_its_values():
    data = Data()
    set_values(data, values(3))
    assert_same(data, Data(**values(3)))
    assert data.num_nodes == 3
    assert data.x is data["x"]


@pytest.mark.parametrize("kind", [Data, Mine])
def test_a_batch_is_the_batch_of_its_graphs(kind):
    graphs = [kind(**values(n)) for n in (2, 3, 1)]
    expected = Batch.from_data_list(graphs)
    batch = empty_batch(kind)
    assert type(batch) is type(expected)
    assert isinstance(batch, kind)
    joined = {key: expected[key] for key in expected.keys()}  # noqa: SIM118
    starts, ones = torch.tensor([0, 2, 5, 6]), torch.arange(4)
    slices = {"x": starts, "edge_index": starts, "y": ones, "id": ones}
    increments = {"x": torch.zeros(3, dtype=torch.int64), "edge_index": starts[:-1], "y": torch.zeros(3), "id": None}
    set_batch(batch, joined, slices=slices, increments=increments, n_graphs=3, n_nodes=None)
    assert (batch.num_graphs, batch.num_nodes, len(batch)) == (3, 6, len(expected))
    assert_same(batch, expected)
    for mine, graph in zip(batch.to_data_list(), graphs, strict=True):
        assert type(mine) is kind
        assert_same(mine, graph)
    assert_same(batch[1], graphs[1])
    assert_same(batch.index_select([2, 0])[1], graphs[0])


def test_batches_share_nothing():
    one, other = empty_batch(Data), empty_batch(Data)
    set_batch(one, {"x": torch.zeros(1)}, slices={}, increments={}, n_graphs=1, n_nodes=None)
    assert "x" not in other


def test_the_nodes_of_a_batch_may_be_told():
    graphs = [Data(num_nodes=n, z=torch.zeros(1)) for n in (2, 3)]
    expected = Batch.from_data_list(graphs)
    batch = empty_batch(Data)
    slices, increments = {"z": torch.arange(3)}, {"z": torch.zeros(2)}
    told = {"z": torch.zeros(2), "num_nodes": 5, "batch": expected.batch, "ptr": expected.ptr}
    set_batch(batch, told, slices=slices, increments=increments, n_graphs=2, n_nodes=[2, 3])
    assert batch.num_nodes == expected.num_nodes == 5
    assert [graph.num_nodes for graph in batch.to_data_list()] == [2, 3]


def test_worker_processes_end():
    iterator = iter(DataLoader(list(range(4)), num_workers=1, multiprocessing_context="fork"))
    assert next(iterator).item() == 0
    (worker,) = iterator._workers
    end_workers(iterator)
    assert not worker.is_alive()
    assert worker not in multiprocessing.active_children()
