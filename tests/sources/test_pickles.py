"""Pickles of the libraries: refused unless they are trusted; every form that data sets have."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from torch_geometric.data import Data, InMemoryDataset

import lazygraph as lg
from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import open_sources
from lazygraph.sources.options import SourceOptions
from lazygraph.sources.pickles import PickleSource
from lazygraph.sources.pyg_data import entry_of_data

TRUSTED = SourceOptions(trust_pickle=True)
NACL = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
STRUCTURE = NACL.to_pymatgen()


def dump(path, value):
    path.write_bytes(pickle.dumps(value))
    return path


def structures():
    return [
        Structure(
            Lattice.cubic(4 + n), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3], site_properties={"magmom": [0.5, n]},
            properties={"gap": n / 2},
        )
        for n in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.dat", "a.pkl.gz", "a.pt"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_not_loaded_unless_it_is_trusted(name, protocol, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    if protocol == 0 and name == "a.dat":
        pytest.skip("a text that looks like nothing")
    raw = pickle.dumps([Hostile()], protocol)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    for kind in (None, "pickle"):
        (source,) = open_sources(tmp_path / name, format=kind)
        with pytest.raises(UnreadableInput, match="can run any code that is in it; .*--trust-pickle"):
            source.scan(10, tmp_path / "spool")
    with pytest.raises(lg.InputError, match="--trust-pickle"):
        lg.write(tmp_path / name, tmp_path / "o.lg", graph="cgcnn", workers=1, progress=False)
    assert not (tmp_path / "ran").exists()


def test_a_file_of_torch_is_not_loaded_unless_it_is_trusted(tmp_path):
    torch.save([1], tmp_path / "a.bin")
    with pytest.raises(UnreadableInput, match="--trust-pickle"):
        open_sources(tmp_path / "a.bin")[0].scan(10, tmp_path / "spool")


def test_structures_of_pymatgen(tmp_path, entries_of):
    path = dump(tmp_path / "set.pkl", structures())
    _, entries = entries_of(path, options=TRUSTED)
    for n, (entry, structure) in enumerate(zip(entries, structures(), strict=True)):
        assert (entry.id, entry.crystal) == (f"set-{n:07d}", Crystal.from_any(structure))
        assert entry.labels == {"gap": n / 2}
        assert entry.atom_labels == {"magmom": [0.5, n]}


@pytest.mark.parametrize(
    "content",
    [
        {f"m{n}": s for n, s in enumerate(structures())},
        [{"material_id": f"m{n}", "structure": s, "e": 1.0} for n, s in enumerate(structures())],
        [
            {"jid": f"m{n}", "atoms": Crystal.from_any(s).to_jarvis().to_dict(), "e": 1.0}
            for n, s in enumerate(structures())
        ],
        {f"m{n}": {"structure": s, "e": np.array(1.0)} for n, s in enumerate(structures())},
        pd.DataFrame({"material_id": ["m0", "m1", "m2"], "structure": structures(), "e": [1.0] * 3}),
        pd.DataFrame({"structure": structures(), "e": [1.0] * 3}, index=["m0", "m1", "m2"]),
        [(f"m{n}", s, {"e": 1.0}) for n, s in enumerate(structures())],
    ],
    ids=["mapping", "records", "jarvis records", "mapping of records", "pandas", "pandas index", "tuples"],
)
def test_every_form_that_data_sets_have(content, tmp_path, entries_of):
    _, entries = entries_of(dump(tmp_path / "set.pkl", content), options=TRUSTED)
    assert [entry.id for entry in entries] == ["m0", "m1", "m2"]
    for entry, structure in zip(entries, structures(), strict=True):
        assert np.allclose(entry.crystal.lattice, structure.lattice.matrix)
        assert entry.crystal.numbers.tolist() == [11, 17]
        assert isinstance(content, dict) or entry.labels["e"] == 1.0


@pytest.mark.parametrize("content", [STRUCTURE, NACL.to_ase(), {"structure": STRUCTURE, "e": 1.0}, NACL])
def test_one_structure(content, tmp_path, entries_of):
    _, (entry,) = entries_of(dump(tmp_path / "set.pkl", content), options=TRUSTED)
    assert entry.crystal == NACL


# ---- PyG


def data(n, **more):
    """Positions and a cell, as the data sets of potentials have them."""
    crystal = Crystal.from_cartesian(np.diag([4, 5, 6 + n]), [[0, 0, 0], [2, 2, 2 + n / 8]], [11, 17])
    values = {
        "pos": torch.tensor(crystal.cart_coords), "cell": torch.tensor(crystal.lattice)[None],
        "atomic_numbers": torch.tensor([11, 17]), "edge_index": torch.tensor([[0], [1]]), "y": torch.tensor([n / 2]),
        "forces": torch.full((2, 3), n / 4), "stress": torch.zeros(1, 3, 3), "material_id": f"m{n}",
    }  # fmt: skip
    return crystal, Data(**(values | more))


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "dict", "collated"])
def test_graphs_with_positions(form, tmp_path, entries_of):
    graphs = [data(n)[1] for n in range(3)]
    path = tmp_path / "set.pt"
    if form == "pickle":
        dump(path, graphs)
    elif form == "dict":
        dump(path, {f"m{n}": graph for n, graph in enumerate(graphs)})
    elif form == "collated":
        torch.save(InMemoryDataset.collate(graphs), path)
    else:
        torch.save(graphs, path, _use_new_zipfile_serialization=form == "torch")
    _, entries = entries_of(path, options=TRUSTED)
    for n, entry in enumerate(entries):
        assert (entry.id, entry.crystal) == (f"m{n}", data(n)[0])
        assert entry.labels["target"] == n / 2
        assert entry.labels.keys() == {"target", "stress"}
        assert np.array_equal(entry.atom_labels["forces"], np.full((2, 3), n / 4))


def comformer(crystal, keep_numbers=True):
    """What ComFormer keeps of a crystal: numbers, edges as vectors, the cell repeated for every atom."""
    graph = lg.graph("comformer").build(crystal)
    index = torch.tensor(graph.edge_index)
    cell = torch.tensor(crystal.lattice, dtype=torch.float32).repeat(len(crystal), 1, 1)
    numbers = torch.tensor(crystal.numbers.astype(np.float32))[:, None]
    return Data(
        x=numbers if keep_numbers else torch.zeros(len(crystal), 92), edge_index=index,
        edge_attr=torch.tensor(graph.vectors), edge_nei=torch.zeros(index.shape[1], 3, 3), atom_lat=cell,
    )  # fmt: skip


@given(st.integers(0, 10_000))
def test_crystals_come_back_from_the_graphs_of_comformer(number):
    """Up to the origin, and to single precision: the same distances, elements and cell."""
    (source,) = open_sources(f"prototypes:{number + 1}?seed=5")
    (entry,) = source.read(Cut(number, number, 1), None)
    crystal = entry.crystal
    if len(crystal) > 40:
        return
    found = entry_of_data(comformer(crystal)).crystal
    assert found.numbers.tolist() == crystal.numbers.tolist()
    assert np.allclose(found.lattice, crystal.lattice, atol=1e-5)
    apart = found.frac_coords - crystal.frac_coords
    apart -= apart[0]
    assert np.abs((apart - np.rint(apart)) @ crystal.lattice).max() < 1e-3


def test_graphs_that_tell_no_crystal_say_why(tmp_path, entries_of):
    big = Crystal(
        NACL.lattice * [[2], [1], [1]], [[0, 0, 0], [0.25, 0.5, 0.5], [0.5, 0, 0], [0.75, 0.5, 0.5]], [11, 17] * 2
    )
    other_cell = comformer(NACL)
    other_cell.atom_lat = torch.tensor(big.lattice, dtype=torch.float32).repeat(2, 1, 1)
    apart = comformer(NACL)
    apart.edge_index = torch.zeros_like(apart.edge_index)
    graphs = [comformer(NACL), comformer(NACL, keep_numbers=False), other_cell, apart, data(0, cell=None)[1]]
    _, entries = entries_of(dump(tmp_path / "set.pkl", graphs), options=TRUSTED)
    assert isinstance(entries[0].crystal, Crystal)
    assert all(isinstance(entry.crystal, InputError) for entry in entries[1:])
    messages = [
        "a crystal needs atomic numbers and a cell",
        "do not fit its cell",
        "do not lead to every atom",
        "GraphWriter",
    ]
    for entry, message in zip(entries[1:], messages, strict=True):
        assert message in str(entry.crystal)


def test_what_cannot_be_loaded_is_refused(tmp_path, entries_of):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1])[:-1])
    with pytest.raises(UnreadableInput, match="cannot load the pickle"):
        entries_of(tmp_path / "a.pkl", options=TRUSTED)
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04cno_such_module\nthing\n.")
    with pytest.raises(UnreadableInput, match="ModuleNotFoundError"):
        entries_of(tmp_path / "b.pkl", options=TRUSTED)


def test_items_that_are_nothing_are_bad_entries(tmp_path, entries_of):
    _, entries = entries_of(dump(tmp_path / "a.pkl", [STRUCTURE, 5, None, "text"]), options=TRUSTED)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, False, False]


def test_workers_need_no_pickle(tmp_path):
    path = dump(tmp_path / "a.pkl", structures())
    source = PickleSource(str(path), options=TRUSTED)
    scan = source.scan(10, tmp_path / "spool")
    path.unlink()
    assert len(list(source.read(Cut(0, 0, scan.entries), tmp_path / "spool"))) == 3
