"""Every view gives of torch tensors, on each device that there is, what it gives of numpy arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views import VIEWS

ELEMENTS = ["O", "Na", "Cl", "Fe"]
CASES = {
    "pyg": (lg.view("pyg"), lg.graph("comformer")),
    "pyg-cgcnn": (lg.view("pyg", features="cgcnn"), lg.graph("mace")),
    "pyg-one-hot": (lg.view("pyg", features=ELEMENTS), lg.graph("mace")),
    "comformer": (lg.view("comformer"), lg.graph("comformer")),
    "comformer-reference": (lg.view("comformer"), lg.graph("comformer", ties="reference")),
    "matformer": (lg.view("matformer"), lg.graph("matformer")),
    "potnet": (lg.view("potnet", sums=True), lg.graph("potnet")),
    "alignn": (lg.view("alignn"), lg.graph("alignn")),
    "alignn-2026": (lg.view("alignn"), lg.graph("alignn-2026")),
    "cgcnn": (lg.view("cgcnn"), lg.graph("cgcnn")),
    "atlas": (lg.view("atlas"), lg.graph("atlas")),
    "megnet": (lg.view("megnet"), lg.graph("megnet")),
    "m3gnet": (lg.view("m3gnet"), lg.graph("m3gnet")),
    "matgl-chgnet": (lg.view("matgl-chgnet"), lg.graph("chgnet")),
    "chgnet": (lg.view("chgnet"), lg.graph("chgnet")),
    "mace": (lg.view("mace", elements=ELEMENTS), lg.graph("mace")),
}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def inputs():
    """Crystals in general position, where no distance is within rounding of a cutoff, and one atom alone."""
    rng = np.random.default_rng(11)
    out = [lg.Crystal(np.diag([2.9, 3.1, 3.3]), [[0.1, 0.2, 0.3]], [26])]
    for n in (2, 3, 4, 5):
        # Atoms on a line with room between them, shaken.
        frac = (np.arange(n)[:, None] + rng.uniform(0.1, 0.4, (n, 3))) / n
        lattice = np.diag(rng.uniform(4.0, 5.0, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
        out.append(lg.Crystal(lattice * n ** (1 / 3), frac - 0.3, rng.choice([8, 11, 17, 26], n)))
    return out


@pytest.fixture(scope="module")
def crystals(tmp_path_factory, inputs):
    """What a view is given of a batch of these, for a recipe; with forces, for there may be labels of atoms."""
    folder = tmp_path_factory.mktemp("namespaces")

    def read(case, spec):
        path = folder / f"{case}.lg"
        if not path.exists():
            entries = [(str(n), c, {"forces": np.full((len(c), 3), n / 7).tolist()}) for n, c in enumerate(inputs)]
            lg.write(entries, path, graph=spec, workers=1, progress=False)
        return Crystals.of(lg.LazyGraphDataset(path)._store.read_batch(np.array([3, 0, 4, 1, 2, 0])))

    return read


def as_tensors(crystals, where):
    """The same crystals in torch: every array but the numbers of nodes and edges."""
    own = {field.name: getattr(crystals, field.name) for field in dataclasses.fields(crystals)}
    arrays = {k: torch.tensor(v, device=where) for k, v in own.items() if isinstance(v, np.ndarray)}
    arrays |= {"n_node": crystals.n_node, "n_edge": crystals.n_edge}
    return dataclasses.replace(crystals, **arrays)


def check_same(found, expected, name, where):
    assert isinstance(found, torch.Tensor), name
    assert found.device.type == where, name
    assert str(found.dtype) == f"torch.{expected.dtype}", name
    assert tuple(found.shape) == expected.shape, name
    if np.issubdtype(expected.dtype, np.floating):
        assert np.abs(found.cpu().numpy() - expected).max(initial=0.0) < 1e-6, name
    else:
        assert np.array_equal(found.cpu().numpy(), expected), name


def test_every_view_is_tried():
    assert {view.name for view, _ in CASES.values()} == set(VIEWS)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_view_of_tensors_is_that_of_arrays(crystals, case, dtype, where):
    view, spec = CASES[case]
    view = dataclasses.replace(view, dtype=dtype)
    plain = crystals(case, spec)
    expected, rows = view.arrays(plain, spec)
    found, rows_found = view.arrays(as_tensors(plain, where), spec)
    assert list(found) == list(expected)
    for name, array in expected.items():
        check_same(found[name], array, name, where)
    assert list(rows_found) == list(rows)
    for axis, counts in rows.items():
        assert isinstance(rows_found[axis], np.ndarray), axis
        assert np.array_equal(rows_found[axis], counts), axis
