"""What is wrong with labels, sizes and elements is said before training begins, with ids and what helps."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.training.checks import check_network
from lazygraph.training.module import GraphModule
from lazygraph.training.run import prepare

SPLIT = (0.8, 0.1, 0.1)


def cubic(number, length):
    return lg.Crystal(np.eye(3) * length, [[0, 0, 0]], [number])


def write(path, labels, *, numbers=(11, 29, 47), graph="comformer", lengths=(3.0,)):
    """Write one cubic crystal with each of the labels: mappings, or numbers of the label ``gap``."""
    inputs = [
        (
            f"c{n}",
            cubic(numbers[n % len(numbers)], lengths[n % len(lengths)]),
            of if isinstance(of, dict) else {"gap": of},
        )
        for n, of in enumerate(labels)
    ]
    names = list(inputs[0][2])
    lg.write(inputs, path, graph=graph, workers=1, progress=False, split=SPLIT, labels=names)
    return path


def warned(path, **options):
    """The warnings of lazygraph before training, and what was prepared."""
    settings = lg.TrainOptions.of({"target": "gap", "model": "nets:Composition", "batch_size": 4, **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(path, settings)
    return [str(each.message) for each in caught]


def rising(n):
    return [k / 7 for k in range(n)]


def test_nothing_is_said_of_good_data(tmp_path):
    assert warned(write(tmp_path / "x.lg", rising(60))) == []


# ---- labels ----


def test_missing_labels_are_counted_by_split(tmp_path):
    path = write(tmp_path / "x.lg", [value if k % 3 else None for k, value in enumerate(rising(60))])
    ds = lg.LazyGraphDataset(path)
    counts = {name: int(np.isnan(ds.split(name).columns["gap"]).sum()) for name in ("train", "val", "test")}
    (said,) = warned(path)
    listed = ", ".join(f"{counts[name]} of the {len(ds.split(name))} graphs of {name}" for name in counts)
    train = ds.split("train")
    first = train.ids[np.isnan(train.columns["gap"])][:3]
    assert said.startswith(f"'gap' has no value in {listed} (the first: {', '.join(map(repr, first.tolist()))}, ...)")
    assert "'lazygraph labels' adds values" in said


def test_a_test_split_without_labels_has_no_scores(tmp_path):
    path = write(tmp_path / "x.lg", rising(60))
    test = set(lg.LazyGraphDataset(path).split("test").ids.tolist())
    labels = [None if f"c{k}" in test else value for k, value in enumerate(rising(60))]
    (said,) = warned(write(tmp_path / "y.lg", labels))
    assert "without a label in test there are no scores" in said


def test_constant_labels_are_named(tmp_path):
    labels = [{"gap": 1.5, "v": [k, 2.0, 3.0]} for k in range(60)]
    said = warned(write(tmp_path / "x.lg", labels), target=("gap", "v"))
    assert [text.partition(";")[0] for text in said] == [
        "all training labels are equal, so there is nothing to learn, for gap (1.5)",
        "all training labels are equal, so there is nothing to learn, for v[1] (2), v[2] (3)",
    ]


def test_labels_that_look_like_classes(tmp_path):
    path = write(tmp_path / "x.lg", [float(k % 2) for k in range(60)])
    (said,) = warned(path)
    assert "have only 2 different values (0, 1); if these are classes, use task='classification'" in said
    assert warned(path, task="classification") == []
    few = write(tmp_path / "few.lg", [float(k % 5) for k in range(60)])  # each is there 12 times
    assert warned(few) == []


def test_a_value_that_most_labels_have(tmp_path):
    path = write(tmp_path / "x.lg", [0.0 if k % 3 else value for k, value in enumerate(rising(90))])
    (said,) = warned(path)
    assert re.search(r"^\d+ of the 72 training labels of 'gap' are 0\. The loss 'l1' .* loss='mse' or 'huber'", said)
    assert warned(path, loss="mse") == []


def test_classes_that_training_does_not_know(tmp_path):
    path = write(tmp_path / "x.lg", [float(k % 2) for k in range(60)])
    test = lg.LazyGraphDataset(path).split("test").ids.tolist()
    labels = [7.0 if f"c{k}" == test[2] else float(k % 2) for k in range(60)]
    (said,) = warned(write(tmp_path / "y.lg", labels), task="classification")
    assert said.startswith("1 of the 6 graphs of test have a class of 'gap' that no training graph has (7; the first")
    assert repr(test[2]) in said


# ---- sizes ----


def test_batches_and_the_number_of_graphs(tmp_path):
    path = write(tmp_path / "x.lg", rising(60))
    (said,) = warned(path, batch_size=64)
    assert said.startswith("batch_size=64 is more than the 48 training graphs, so every epoch is a single step")
    assert warned(path, batch_size=48) == []
    message = (
        r"drop_last='train' leaves no batch, because the 48 graphs of train do not fill one batch \(batch_size=49\)"
    )
    with pytest.raises(InputError, match=message):
        warned(path, batch_size=49, drop_last="train")
    message = (
        r"drop_last='train_val' leaves no batch, because the 6 graphs of val do not fill one batch \(batch_size=7\)"
    )
    with pytest.raises(InputError, match=message):
        warned(path, batch_size=7, drop_last="train_val")
    for needed in ({"patience": 3}, {"schedule": "plateau"}):
        with pytest.raises(InputError, match=message):
            warned(path, batch_size=7, drop_last="train_val", weights="last", **needed)
    (said,) = warned(path, batch_size=7, drop_last="train_val", weights="last")
    assert said.startswith("this run has no validation: drop_last='train_val' leaves no batch")
    assert warned(path, batch_size=6, drop_last="train_val") == []


def test_graphs_that_are_larger_than_a_batch(tmp_path):
    path = tmp_path / "p.lg"
    lg.write("prototypes:60?seed=0", path, graph="comformer", workers=1, progress=False, split=SPLIT)
    ds = lg.LazyGraphDataset(path)
    for part in ("train", "val", "test"):
        sizes = ds.split(part).columns["n_atoms"]
        options = {"target": "density", "batch_size": None, "max_atoms": int(sizes.max()) - 1}
        with pytest.raises(InputError, match=r"too large for any batch: .*; raise the limits, or .*; their ids: "):
            warned(path, **options)


def test_graphs_without_edges_are_named(tmp_path):
    recipe = lg.graph("radius", cutoff=4.0)
    path = write(tmp_path / "x.lg", rising(60), graph=recipe, lengths=(3.0, 3.5, 9.0))
    (said,) = warned(path, model="cgcnn")
    assert said.startswith("20 of the 60 graphs have no edges (the first: ")
    assert "'cgcnn' sees their atoms but no distance" in said
    assert "--graph-option cutoff=" in said
    assert warned(path) == []  # the view pyg needs no edges


# ---- the network ----


def test_elements_that_the_network_does_not_know(tmp_path):
    path = write(tmp_path / "x.lg", rising(60), numbers=(11, 29, 55, 92))
    ids = [f"'c{k}'" for k in range(60) if k % 4 > 1][:3]
    message = (
        r"the model 'nets:FewElements' fails for graphs with Cs, U: IndexError: index out of range in self\. These are "
        rf"30 of the 60 graphs, the first: {', '.join(ids)}, \.\.\.\. Leave them out "
        r"""\('lazygraph subset OLD\.lg -o NEW\.lg --where "'Cs' not in elements and 'U' not in elements"'\)"""
    )
    with pytest.raises(InputError, match=message):
        warned(path, model="nets:FewElements")
    # What the message says to do helps.
    lg.subset(path, tmp_path / "y.lg", where="'Cs' not in elements and 'U' not in elements")
    assert warned(tmp_path / "y.lg", model="nets:FewElements") == []


def test_elements_that_the_view_does_not_know(tmp_path):
    path = write(tmp_path / "x.lg", rising(60), numbers=(11, 29, 47, 110), graph="cgcnn")
    with pytest.raises(InputError, match=r"'cgcnn' fails for graphs with Ds: found an atom of Ds; .* 15 of the 60"):
        warned(path, model="cgcnn")


def test_elements_that_are_not_in_the_list_of_mace(tmp_path):
    pytest.importorskip("mace")
    path = write(tmp_path / "x.lg", rising(60), graph="mace")
    message = r"20 of the 60 graphs hold Ag \(the first: 'c2', 'c5', 'c8', \.\.\.\), .* only the elements Na, Cu; add"
    with pytest.raises(InputError, match=message):
        warned(path, model="mace", model_options={"elements": ["Na", "Cu"]})


@pytest.mark.parametrize(
    ("strict", "reason"), [(False, "its output is NaN or infinite"), (True, "ValueError: a graph has no edge")]
)
@pytest.mark.filterwarnings("ignore")
def test_networks_that_need_edges(tmp_path, strict, reason):
    path = write(tmp_path / "x.lg", rising(60), graph=lg.graph("radius", cutoff=4.0), lengths=(3.0, 9.0, 3.5, 3.6))
    message = (
        rf"'nets:MeanLength' fails for graphs without edges: .*{reason}\. These are 15 of the 60 .*'c1', 'c5', 'c9'"
    )
    with pytest.raises(InputError, match=message):
        warned(path, model="nets:MeanLength", model_options={"strict": strict})
    lg.subset(path, tmp_path / "y.lg", where="n_edges > 0")
    assert warned(tmp_path / "y.lg", model="nets:MeanLength", model_options={"strict": strict}) == []


def test_outputs_of_the_wrong_shape_are_not_blamed_on_graphs(tmp_path):
    """Also if the smallest graph has a single atom, so that a value for each atom is one for each graph."""
    crystals = [
        lg.Crystal(np.eye(3) * 3, [[0, 0, 0], [0.5, 0.5, 0.5]][: 1 + k % 2], [11, 29][: 1 + k % 2]) for k in range(60)
    ]
    inputs = [(f"c{k}", crystal, {"gap": k / 7}) for k, crystal in enumerate(crystals)]
    lg.write(inputs, tmp_path / "x.lg", graph="comformer", workers=1, progress=False, split=SPLIT)
    with pytest.raises(InputError, match=r"the model gives an output of shape \(3, 1\) for 2 graphs"):
        warned(tmp_path / "x.lg", model="nets:Wrong")


def test_a_network_that_fails_for_every_graph_raises_its_own_error(tmp_path):
    path = write(tmp_path / "x.lg", rising(60))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        warned(path, model="nets:Mismatched")


def test_the_check_leaves_no_trace(tmp_path):
    """Weights, running means, the mode and the random numbers are those of a network that was not checked."""
    path = write(tmp_path / "x.lg", rising(60))
    prepared = prepare(path, lg.TrainOptions(target="gap", model="nets:Drawing", batch_size=4))
    module, before = prepared.module, torch.get_rng_state()
    module.train()
    module.network.norm = torch.nn.BatchNorm1d(8)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    check_network(module, prepared.dataset, prepared.data.splits)
    assert module.training
    assert module.network.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters())


def test_every_element_is_seen_once(tmp_path):
    """In the smallest graphs, whatever their number."""
    path = tmp_path / "p.lg"
    lg.write("prototypes:300?seed=2", path, graph="comformer", workers=1, progress=False, split=SPLIT)
    seen = []

    class Seen(GraphModule):
        def forward(self, batch):
            seen.append(batch)
            return super().forward(batch)

    prepared = prepare(path, lg.TrainOptions(target="density", model="nets:Composition"))
    old = prepared.module
    check_network(Seen(old.network, old.targets, old.options), prepared.dataset, prepared.data.splits)
    (batch,) = seen
    ds = lg.LazyGraphDataset(path)
    everywhere = {symbol for formula in ds.columns["formula"].tolist() for symbol in re.findall("[A-Z][a-z]?", formula)}
    assert len(set(batch.x[:, 0].tolist())) == len(everywhere) > 80
    assert batch.num_graphs <= len(everywhere)
    assert batch.num_nodes / batch.num_graphs < ds.columns["n_atoms"].mean()
