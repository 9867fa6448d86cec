"""docs/views.md names every view, its parameters, recipes and arrays as they are; its examples run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.errors import RecipeMismatch
from lazygraph.reading.views import VIEWS

DOC = Path(__file__).parent.parent / "docs" / "views.md"
TEXT = DOC.read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| ?(.*?) ?\|$", re.MULTILINE)
SECTION = re.compile(r"^### (`.+?`)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"`([\w-]+)`")
LETTERS = ("N", "E", "T", "B", "k", "G", "K", "P")
OF_BATCHES = {"batch", "ptr", "num_nodes", "to_dict", "to_data_list"}


def overview():
    """View -> its recipes and parameters, of the first table."""
    rows = ROW.findall(TEXT[: TEXT.index("\n## Arrays")])
    return {name: (recipes, NAME.findall(parameters)) for name, _, recipes, parameters in rows}


def sections():
    """View -> the text of its section; two views may share one."""
    return {name: text for names, text in SECTION.findall(TEXT) for name in NAME.findall(names)}


def view_of(name, **parameters):
    own = {"mace": {"elements": ["Na", "Cl", "Fe"]}, "potnet": {"sums": True}}
    return lg.view(name, **own.get(name, {}), **parameters)


def test_the_page_lists_every_view_once():
    assert list(overview()) == list(VIEWS)
    assert set(sections()) == set(VIEWS)


@pytest.mark.parametrize("name", VIEWS)
def test_parameters_and_recipes(name):
    recipes, parameters = overview()[name]
    assert ["dtype", *parameters] == [field.name for field in dataclasses.fields(VIEWS[name])]
    for preset in NAME.findall(recipes):
        view_of(name).check(lg.graph(preset, max_neighbors=12, cutoff=5.0) if preset == "nearest" else lg.graph(preset))
    if not recipes.startswith("any"):
        with pytest.raises(RecipeMismatch):
            view_of(name).check(lg.graph("mace"))


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """(view, dtype) -> a batch of three crystals of three elements, as the first recipe named has it."""
    folder = tmp_path_factory.mktemp("doc")
    rng = np.random.default_rng(2)
    crystals = [
        lg.Crystal(np.diag(rng.uniform(3.9, 4.2, 3)), [[0, 0, 0], [0.5, 0.52, 0.47]], [z, 17]) for z in (11, 26, 11)
    ]

    def read(name, dtype):
        preset = "comformer" if name == "pyg" else NAME.findall(overview()[name][0])[-1]
        spec = lg.graph("nearest", max_neighbors=12, cutoff=5.0) if preset == "nearest" else lg.graph(preset)
        path = folder / f"{preset}.lg"
        if not path.exists():
            lg.write(crystals, path, graph=spec, workers=1, progress=False)
        return lg.LazyGraphDataset(path, view=view_of(name, dtype=dtype)).batch([0, 1, 2])

    return read


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", VIEWS)
def test_arrays_are_those_of_the_layout_with_their_types_and_shapes(read, name, dtype):
    rows = {array: (kind, shape) for array, kind, shape, _ in ROW.findall(sections()[name])}
    assert list(rows) == list(VIEWS[name].layout)
    batch = read(name, dtype)
    known = {"N": len(batch.batch), "E": int(batch._slice_dict[edges_of(batch)][-1]), "B": 3, "elements": 3}
    for array, (kind, shape) in rows.items():
        value = batch[array]
        assert value.dtype == getattr(torch, dtype if kind == "float" else kind), array
        wanted = [part.strip() for part in shape.strip("()").split(",") if part.strip()]
        assert len(wanted) == value.dim(), array
        for symbol, length in zip(wanted, value.shape, strict=True):
            if symbol in LETTERS:
                assert known.setdefault(symbol, length) == length, f"{array}: {symbol}"
            else:
                product = symbol.replace("3B", "3*B").replace("E/2", "E//2")
                assert eval(product, {}, known) == length, f"{array}: {symbol}"


def edges_of(batch):
    return next((name for name in ("edge_index", "atom_graph") if name in batch), "nbr_fea_idx")


@pytest.mark.parametrize("name", VIEWS)
def test_calls_name_arrays_that_the_view_has(name):
    (block,) = [code for kind, code in BLOCK.findall(sections()[name]) if kind == "python"]
    compile(block, str(DOC), "exec")
    named = set(re.findall(r"batch\.(\w+)", block))
    assert "batch" in block
    assert named <= set(VIEWS[name].layout) | OF_BATCHES


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    """All but the calls of models, in one namespace, in the order in which they stand."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "views"}
    for kind, block in BLOCK.findall(SECTION.sub("", TEXT)):
        if kind == "bash":
            command, *arguments = shlex.split(block)
            assert {"lazygraph-write": main_write, "lazygraph": main}[command](arguments) == 0
        else:
            exec(compile(block, str(DOC), "exec"), namespace)
    assert lg.LazyGraphDataset("alignn.lg", view="alignn")[0].line_graph.shape[0] == 2
    assert "n_edges" in lg.LazyGraphDataset("crystals.lg", graph="mace").columns
    assert "torch.float64 torch.Size([2, " in capsys.readouterr().out
