"""Two processes that train together: every graph once an epoch, and the loss curve of one process."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lazygraph as lg

SCRIPT = """
import json, os, sys
sys.path.append({tests!r})
from lightning.pytorch.callbacks import Callback
import lazygraph as lg

class Seen(Callback):
    ids = {{}}
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.ids.setdefault(trainer.current_epoch, []).extend(batch.id)

path, out = sys.argv[1:]
options = lg.TrainOptions(target="density", model="nets:Composition", n_epochs=4, batch_size=30, learning_rate=0.05,
                          schedule="none", devices=2)
results = lg.train(path, options, out + "/run", progress=False, callbacks=(Seen(),))
rank = int(os.environ.get("LOCAL_RANK", 0))
told = {{"ids": Seen.ids, "scores": results.scores, "predicted": [row.id for row in results.predictions]}}
json.dump(told, open(f"{{out}}/{{rank}}.json", "w"))
"""


def losses(path):
    with path.open(newline="") as file:
        return [(float(row["train_loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore")
def test_two_ranks_are_one_process_with_the_same_batches(tmp_path):
    import json

    dataset = tmp_path / "p.lg"
    lg.write("prototypes:300?seed=1", dataset, graph="comformer", workers=1, progress=False, split=(0.8, 0.1, 0.1))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, script, dataset, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    a, b = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    ds = lg.LazyGraphDataset(dataset)
    for epoch in "0123":
        assert sorted(a["ids"][epoch] + b["ids"][epoch]) == sorted(ds.split("train").ids)
    for told in (a, b):
        assert told["predicted"] == ds.split("test").ids.tolist()
        assert told["scores"] == a["scores"]

    options = lg.TrainOptions(
        target="density", model="nets:Composition", n_epochs=4, batch_size=60, learning_rate=0.05, schedule="none"
    )
    alone = lg.train(dataset, options, tmp_path / "alone", progress=False)
    for two, one in zip(losses(tmp_path / "run" / "metrics.csv"), losses(alone.folder.metrics), strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert a["scores"]["density"]["mae"] == pytest.approx(alone.scores["density"]["mae"], rel=1e-4)


KILLED = """
import os, signal, sys
sys.path.append({tests!r})
from lightning.pytorch.callbacks import Callback
import lazygraph as lg

class Kill(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

options = lg.TrainOptions(target="density", model="nets:Composition", model_options={{"dropout": 0.3}}, n_epochs=3,
                          batch_size=30, learning_rate=0.05, devices=2, checkpoint_every=1)
lg.train(sys.argv[1], options, sys.argv[2], progress=False, callbacks=(Kill(),))
"""


@pytest.mark.filterwarnings("ignore")
def test_two_ranks_that_are_killed_go_on_to_the_same_losses(tmp_path):
    """Each with its own random numbers, which differ, for their last batches are of different sizes."""
    dataset = tmp_path / "p.lg"
    lg.write("prototypes:265?seed=1", dataset, graph="comformer", workers=1, progress=False, split=(0.8, 0.1, 0.1))
    script = tmp_path / "script.py"
    script.write_text(KILLED.format(tests=str(Path(__file__).parent)))

    def run(name, step):
        command = [sys.executable, script, dataset, tmp_path / name, str(step)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    whole = run("whole", -1)
    assert whole.returncode == 0, whole.stderr
    assert run("killed", 6).returncode == -signal.SIGKILL
    done = run("killed", -1)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "killed" / "metrics.csv") == losses(tmp_path / "whole" / "metrics.csv")
