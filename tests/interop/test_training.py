"""matgl's M3GNet trains on a dataset and predicts, as one of the models by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.training.models import find_model

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {"dim_node_embedding": 8, "dim_edge_embedding": 8, "units": 8, "nblocks": 1}


@pytest.fixture(autouse=True)
def in_single_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


def test_m3gnet_trains_and_predicts(tmp_path):
    rng = np.random.default_rng(0)
    inputs = []
    for n in range(40):
        crystal = lg.Crystal(np.eye(3) * (3 + n / 40), [[0, 0, 0], [0.5, 0.5, 0.5]], rng.choice([11, 17, 29], 2))
        inputs.append((f"c{n}", crystal, {"density": n / 40}))
    lg.write(inputs, tmp_path / "p.lg", graph="m3gnet", workers=1, progress=False)
    options = lg.TrainOptions(target="density", model="m3gnet", model_options=SMALL, n_epochs=2, batch_size=8)
    results = lg.train(tmp_path / "p.lg", options, tmp_path / "run", progress=False)
    assert math.isfinite(results.scores["density"]["mae"])
    found = {row.id: row.predicted for row in lg.predict(tmp_path / "run", tmp_path / "p.lg", progress=False).rows}
    for row in results.predictions:
        assert found[row.id] == pytest.approx(row.predicted, rel=1e-4)


def test_it_gives_what_matgl_gives_with_triplets_of_its_own(tmp_path):
    lg.write("prototypes:6?seed=2", tmp_path / "p.lg", graph="m3gnet", workers=1, progress=False)
    batch = lg.LazyGraphDataset(tmp_path / "p.lg", view="m3gnet").batch(range(6))
    model = find_model("m3gnet").build(outputs=2, **SMALL).eval()
    assert model(batch).shape == (6, 2)
    assert torch.allclose(model(batch), model.network(batch), atol=1e-5)
