"""Whatever a dataset holds, a batch of it is the one that PyG makes of its graphs, and they come out of it again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from same import same_batches, same_values
from torch_geometric.data import Batch, Data

import lazygraph as lg

ELEMENTS = {1: "H", 8: "O", 26: "Fe", 55: "Cs"}
# Every preset, and the views that show it.
PRESETS = {
    "comformer": ["pyg", "comformer", "matformer"],
    "matformer": ["matformer"],
    "potnet": ["pyg", "potnet"],
    "alignn": ["alignn"],
    "alignn-2026": ["alignn"],
    "cgcnn": ["cgcnn"],
    "atlas": ["atlas"],
    "megnet": ["megnet"],
    "m3gnet": ["m3gnet"],
    "chgnet": ["matgl-chgnet", "chgnet"],
    "mace": ["mace"],
    "nequip": ["mace", "pyg"],
    "sevennet": ["mace"],
    "radius": ["pyg"],  # of 1 A, within which most crystals have no neighbours
    "none": ["pyg"],
}
SHOWN = [(preset, view) for preset, views in PRESETS.items() for view in views]


def test_every_preset_and_every_view_is_here():
    from lazygraph.graphs.presets import PRESETS as known
    from lazygraph.reading.views import VIEWS

    assert PRESETS.keys() == set(known) - {"shell", "nearest"}  # of which presets are made
    assert {view for _, view in SHOWN} == set(VIEWS)


@st.composite
def inputs(draw):
    """Crystals of one to four atoms, some close together, with labels that may be missing, and ids of any text."""
    out = []
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
    ids = draw(st.lists(text, min_size=2, max_size=5, unique=True))
    for graph_id in ids:
        n = draw(st.integers(1, 4))
        sides = draw(st.lists(st.integers(20, 60), min_size=3, max_size=3))
        lattice = np.diag(sides) / 10 + draw(st.sampled_from([0.0, 0.3])) * np.tri(3, k=-1)
        frac = draw(st.lists(st.tuples(*[st.integers(-8, 15)] * 3), min_size=n, max_size=n, unique=True))
        numbers = draw(st.lists(st.sampled_from(sorted(ELEMENTS)), min_size=n, max_size=n))
        labels = {
            "gap": draw(st.one_of(st.none(), st.floats(-1e6, 1e6))),
            "dipole": [1.0, 2.0, float(n)],
            "charges": [[float(number)] for number in numbers],
        }
        out.append((graph_id, lg.Crystal(lattice, np.array(frac) / 8, numbers), labels))
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "view"), SHOWN)
@settings(max_examples=15)
@given(inputs=inputs(), data=st.data())
def test_any_crystals(tmp_path_factory, preset, view, inputs, data):
    assume(any(labels["gap"] is not None for _, _, labels in inputs))
    path = tmp_path_factory.mktemp("any") / "c.lg"
    spec = lg.graph("radius", cutoff=1.0) if preset == "radius" else lg.graph(preset)
    report = lg.write(inputs, path, graph=spec, workers=1, progress=False, labels=["gap", "dipole", "charges"])
    assume(report.written > 1)  # atoms at one place, and for some presets an atom that is alone
    made = lg.view(view, **{"elements": list(ELEMENTS.values())} if view == "mace" else {})
    check(lg.LazyGraphDataset(path, view=made, target=["gap", "dipole"]), data)


KINDS = ["node", "edge", "graph", "number", "text", "own_index"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.int8, torch.bool]


@st.composite
def graphs(draw):
    """PyG graphs with the same fields: many or few, some that grow with nodes, edges, or in a way of their own."""
    text = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=5)
    names = [f"f_{name}" for name in draw(st.lists(text, max_size=20, unique=True))]
    kinds = {name: draw(st.sampled_from(KINDS)) for name in names}
    dtypes = {name: draw(st.sampled_from(DTYPES)) for name in names}

    def values(name, *shape):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        array = rng.integers(-99, 99, shape) * (0.25 if dtypes[name].is_floating_point else 1)
        return torch.from_numpy(np.asarray(array)).to(dtypes[name])

    def graph():
        n, e = draw(st.integers(1, 4)), draw(st.integers(0, 5))
        ends = torch.tensor(draw(st.lists(st.integers(0, n - 1), min_size=2 * e, max_size=2 * e)), dtype=torch.int64)
        out = Data(z=torch.arange(n), edge_index=ends.reshape(2, e))
        for name, kind in kinds.items():
            match kind:
                case "node":
                    out[name] = values(name, n, 2)
                case "edge":
                    out[name] = values(name, e)
                case "graph":
                    out[name] = values(name, 1, 3)
                case "number":
                    out[name] = values(name)
                case "text":
                    out[name] = draw(st.text(st.characters(codec="utf-8"), max_size=5))
                case "own_index":
                    out[f"{name}_index"] = torch.zeros(2, draw(st.integers(0, 3)), dtype=torch.int64)
        return out

    return [graph() for _ in range(draw(st.integers(2, 4)))]


@pytest.mark.slow
@settings(max_examples=150)
@given(graphs=graphs(), data=st.data())
def test_any_data(tmp_path_factory, graphs, data):
    path = tmp_path_factory.mktemp("any") / "d.lg"
    with lg.GraphWriter(path) as writer:
        for number, graph in enumerate(graphs):
            writer.add(graph, id=f"g{number}", labels={"gap": None if number % 2 else 1.5})
    check(lg.LazyGraphDataset(path, target="gap"), data)


def check(ds, data):
    chosen = data.draw(st.lists(st.integers(0, len(ds) - 1), min_size=1, max_size=6))
    batch, pygs = ds.batch(chosen), Batch.from_data_list([ds[n] for n in chosen])
    same_batches(batch, pygs)
    for n in range(len(chosen)):
        same_values(batch.get_example(n), pygs.get_example(n))
    for mine, theirs in zip(batch.to_data_list(), pygs.to_data_list(), strict=True):
        same_values(mine, theirs)
    for mine, theirs in zip(batch[::-1], pygs[::-1], strict=True):
        same_values(mine, theirs)
