"""chgnet's CHGNet on lazygraph's view gives what it gives on chgnet's own graphs."""

from __future__ import annotations

import chgnet.graph.converter
import chgnet.model.model
import pytest
import torch
from chgnet.graph import CrystalGraph, CrystalGraphConverter
from chgnet.model import CHGNet
from chgnet.model.model import BatchedGraph

import lazygraph as lg

CUTOFFS = {"atom_graph_cutoff": 6.0, "bond_graph_cutoff": 3.0}
FIELDS = (
    "atomic_number",
    "atom_frac_coord",
    "atom_graph",
    "neighbor_image",
    "directed2undirected",
    "undirected2directed",
    "bond_graph",
)


@pytest.fixture(scope="module", autouse=True)
def chgnet_in_double_precision():
    """For coordinates and volumes chgnet names a type of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (chgnet.graph.converter, chgnet.model.model):
            patch.setattr(module, "TORCH_DTYPE", torch.float64)
        yield


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"atom_fea_dim": 8, "bond_fea_dim": 8, "angle_fea_dim": 8, "mlp_hidden_dims": (8, 8)}
    return CHGNet(**sizes, atom_conv_hidden_dim=8, bond_conv_hidden_dim=8, n_conv=3, composition_model=None).double()


@pytest.fixture(scope="module")
def theirs(model, crystals, learn):
    """What the model gives on chgnet's own graphs."""
    convert = CrystalGraphConverter(**CUTOFFS)
    graphs = [convert(crystal.to_pymatgen()) for crystal in crystals]
    return learn(model, results(model(graphs, task="efsm")))


def results(predicted):
    return {
        "energy": predicted["e"],
        "forces": torch.cat(predicted["f"]),
        "stress": torch.stack(predicted["s"]).reshape(-1, 3, 3),
        "magmoms": torch.cat(predicted["m"]),
    }


def crystal_graph(data):
    return CrystalGraph(**{name: data[name] for name in FIELDS}, lattice=data.lattice[0], **CUTOFFS)


def joined(model, batch):
    """What ``BatchedGraph.from_graphs`` makes of a list of graphs, of a whole batch at once."""
    strain = torch.zeros_like(batch.lattice, requires_grad=True)
    lattice = batch.lattice @ (torch.eye(3) + strain)
    positions = torch.einsum("ni,nij->nj", batch.atom_frac_coord, lattice[batch.batch])
    centre, neighbour = batch.atom_graph.T
    bases, bond_graph_bases, directions = model.bond_basis_expansion(
        center=positions[centre],
        neighbor=positions[neighbour],
        undirected2directed=batch.undirected2directed,
        image=torch.einsum("ei,eij->ej", batch.neighbor_image, lattice[batch.batch[centre]]),
        lattice=torch.eye(3),  # the images are translations already
    )
    return BatchedGraph(
        atomic_numbers=batch.atomic_number,
        bond_bases_ag=bases,
        bond_bases_bg=bond_graph_bases,
        angle_bases=model.angle_basis_expansion(*(directions[batch.bond_graph[:, column]] for column in (2, 4))),
        batched_atom_graph=batch.atom_graph,
        batched_bond_graph=batch.bond_graph[:, [0, 1, 3]],
        atom_owners=batch.batch,
        directed2undirected=batch.directed2undirected,
        atom_positions=[positions],
        strains=[strain],
        volumes=torch.linalg.det(batch.lattice)[None, :, None, None],
    )


def test_a_list_of_graphs(read, model, theirs, learn, assert_agree):
    graphs = read("chgnet", lg.view("chgnet", dtype="float64")).to_data_list()
    ours = results(model([crystal_graph(data) for data in graphs], task="efsm"))
    assert_agree(learn(model, ours), theirs)


def test_a_whole_batch(read, model, theirs, learn, assert_agree):
    graph = joined(model, read("chgnet", lg.view("chgnet", dtype="float64")))
    ours = results(model._compute(graph, compute_force=True, compute_stress=True, compute_magmom=True))
    assert_agree(learn(model, ours), theirs)
