"""matgl's models on lazygraph's views give what they give on matgl's own graphs."""

from __future__ import annotations

import matgl
import pytest
import torch
from matgl.apps.pes import Potential
from matgl.ext.pymatgen import Structure2Graph
from matgl.graph.data import collate_fn_graph
from matgl.models import CHGNet, M3GNet, MEGNet
from matgl.utils.training import ModelLightningModule

import lazygraph as lg


@pytest.fixture(scope="module", autouse=True)
def matgl_in_double_precision(double_precision):
    matgl.set_default_dtype("float", 64)
    yield
    matgl.set_default_dtype("float", 32)


@pytest.fixture(scope="module")
def own_graphs(crystals):
    """A model -> matgl's batch of all crystals, its lattices and its states."""

    def own_graphs(model):
        converter = Structure2Graph(model.element_types, model.cutoff)
        made = [converter.get_graph(crystal.to_pymatgen()) for crystal in crystals]
        items = [(graph, lattice, torch.as_tensor(state), {"none": 0.0}) for graph, lattice, state in made]
        return collate_fn_graph(items)[:3]

    return own_graphs


def as_potential(model, graph, lattice, line_graph=None):
    energy, forces, stress, _ = Potential(model)(graph, lattice, l_g=line_graph)
    return {"energy": energy, "forces": forces, "stress": stress}


class TestM3GNet:
    @pytest.fixture(scope="class")
    def model(self):
        torch.manual_seed(0)
        return M3GNet(dim_node_embedding=8, dim_edge_embedding=8, units=8, nblocks=2, is_intensive=False)

    @pytest.fixture(scope="class")
    def theirs(self, model, own_graphs, learn):
        graph, lattice, _ = own_graphs(model)
        return learn(model, as_potential(model, graph, lattice))

    @pytest.fixture
    def batch(self, read):
        return read("m3gnet", lg.view("m3gnet", dtype="float64"))

    @staticmethod
    def line_graph(batch):
        return {name: batch[name] for name in ("line_edge_index", "n_triple_ij", "kept_edge_ids")}

    def test_as_a_potential(self, model, theirs, batch, learn, assert_agree):
        assert_agree(learn(model, as_potential(model, batch, batch.lattice, self.line_graph(batch))), theirs)

    def test_called_itself_it_takes_the_positions(self, model, theirs, batch, assert_agree):
        assert_agree(model(batch, l_g=self.line_graph(batch)).detach(), theirs["energy"])

    def test_it_makes_the_same_triplets_of_the_edges(self, model, theirs, batch, assert_agree):
        assert_agree(model(batch).detach(), theirs["energy"])


class TestMEGNet:
    @pytest.fixture(scope="class")
    def model(self):
        torch.manual_seed(0)
        return MEGNet()

    @pytest.fixture(scope="class")
    def theirs(self, model, own_graphs, learn):
        graph, lattice, state = own_graphs(model)
        return learn(model, {"value": ModelLightningModule(model)(graph, lattice, state_attr=state)})

    def test_in_training(self, read, model, theirs, learn, assert_agree):
        batch = read("megnet", lg.view("megnet", dtype="float64"))
        assert_agree(learn(model, {"value": model(batch, batch.state_attr)}), theirs)


class TestCHGNet:
    @pytest.fixture(scope="class")
    def model(self):
        torch.manual_seed(0)
        return CHGNet(dim_atom_embedding=8, dim_bond_embedding=8, dim_angle_embedding=8, num_blocks=2)

    @pytest.fixture(scope="class")
    def theirs(self, model, own_graphs, learn):
        graph, lattice, _ = own_graphs(model)
        return learn(model, as_potential(model, graph, lattice))

    @pytest.fixture
    def batch(self, read):
        return read("chgnet", lg.view("matgl-chgnet", dtype="float64"))

    def test_as_a_potential(self, model, theirs, batch, learn, assert_agree):
        assert_agree(learn(model, as_potential(model, batch, batch.lattice)), theirs)

    def test_called_itself_it_takes_the_positions(self, model, theirs, batch, assert_agree):
        assert_agree(model(batch).detach(), theirs["energy"])
