"""Two processes that train together: every graph once an epoch, and the loss curve of one process."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import InputError

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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_ranks_are_one_process_with_the_same_batches(tmp_path):
    dataset = tmp_path / "p.lg"
    rng = np.random.default_rng(1)  # labels are missing, here more of them than there
    inputs = [
        (
            f"c{n}",
            lg.Crystal(np.eye(3) * 3, [[0, 0, 0], [0.5, 0.5, 0.5]], rng.integers(11, 30, 2)),
            {"density": None if rng.random() < 0.7 else float(rng.normal())},
        )
        for n in range(300)
    ]
    lg.write(inputs, dataset, graph="comformer", workers=1, progress=False, split=(0.8, 0.1, 0.1), labels=["density"])
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


@pytest.mark.slow
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
    alone = lg.TrainOptions(
        target="density", model="nets:Composition", model_options={"dropout": 0.3}, n_epochs=3, batch_size=30,
        learning_rate=0.05, checkpoint_every=1,
    )  # fmt: skip
    with pytest.raises(InputError, match="processes is 1, but the run was started with 2. .* set devices"):
        lg.train(dataset, alone, tmp_path / "killed", progress=False)
    done = run("killed", -1)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "killed" / "metrics.csv") == losses(tmp_path / "whole" / "metrics.csv")


TOGETHER = """
import json, os, sys
sys.path.append({tests!r})
import numpy as np
import lazygraph as lg
from lazygraph.cli.main import main

path, out = sys.argv[1:]
small = dict(model="nets:Composition", n_epochs=1, batch_size=30, devices=2)
together = lg.train_ensemble(path, lg.TrainOptions(target="density", **small), out + "/run", 2, progress=False)
found = lg.predict(out + "/run", path, model="nets:Composition", progress=False)  # all ranks find it finished
rank = os.environ["RANK"]
command = ["predict", out + "/run", path, "-o", f"{{out}}/table.csv", "--no-progress", "--model", small["model"]]
assert main(command) == 0

crystals = [lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [11 + n % 3]) for n in range(60)]
listed = lg.train_from_list(crystals, list(range(60)), output_dir=out + "/list", graph_cache_dir=out + "/cache",
                            progress=False, **small)
told = {{"together": together.predictions, "found": found.rows, "listed": listed.predictions}}
json.dump(told, open(f"{{out}}/{{rank}}.json", "w"))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_processes_that_begin_together_share_folder_and_cache(tmp_path):
    """As torchrun starts them, and Slurm: none waits for another before all of them train."""
    dataset = tmp_path / "p.lg"
    lg.write("prototypes:120?seed=1", dataset, graph="comformer", workers=1, progress=False, split=(0.8, 0.1, 0.1))
    script = tmp_path / "script.py"
    script.write_text(TOGETHER.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, script, dataset, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    ds = lg.LazyGraphDataset(dataset)
    alone = lg.predict(tmp_path / "run", dataset, model="nets:Composition", progress=False)
    for told in (first, second):
        assert [row[0] for row in told["together"]] == ds.split("test").ids.tolist()
        assert [row[0] for row in told["found"]] == ds.ids.tolist()
        assert [row[1] for row in told["found"]] == [pytest.approx(row.predicted) for row in alone.rows]
        assert len(told["listed"]) == 6
    for name, rows in (("run/predictions.csv", first["together"]), ("table.csv", first["found"])):
        with (tmp_path / name).open(newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == [row[0] for row in rows]
    assert "process 1 leaves the predictions to process 0" in done.stderr
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert sorted(file.name for file in (tmp_path / "run").iterdir() if file.is_dir()) == ["member-0", "member-1"]
