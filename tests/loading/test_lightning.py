"""The loader inside Lightning: every graph once an epoch, on one rank or two; a run goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import lazygraph as lg

lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
STEPS = 5  # batches of 64 in an epoch of 300 graphs

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice


class Recorder(lightning.LightningModule):
    """Writes down the ids that it is presenter."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.trained, self.validated = {}, []

    def training_step(self, batch, batch_idx):
        self.trained.setdefault(self.current_epoch, []).append(batch.id)
        return self.layer(batch.y).square().mean()

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.validated.append(batch.id)

    def predict_step(self, batch, batch_idx):
        return batch.id

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, target="density")


def trainer(**options):
    return lightning.Trainer(**QUIET, **{"enable_model_summary": False, "enable_checkpointing": False, **options})


def epochs(loader, n):
    """What the loader gives without Lightning."""
    return {epoch: [batch.id for batch in loader] for epoch in range(n)}


def flat(batches):
    return [graph_id for batch in batches for graph_id in batch]


@pytest.mark.parametrize("way", [{"threads": 1}, {"num_workers": 1}], ids=str)
def test_fit_validate_and_predict(ds, way):
    loader = lg.loader(ds, 64, shuffle=True, **way)
    evaluation = loader.evaluation(ds)
    model, run = Recorder(), trainer(max_epochs=2)
    run.fit(model, loader, evaluation)
    assert run.train_dataloader is loader
    assert run.val_dataloaders is evaluation
    assert model.trained == epochs(lg.loader(ds, 64, shuffle=True), 2)
    assert model.trained[0] != model.trained[1]
    assert flat(model.validated) == ds.ids.tolist() * 2  # after each epoch

    model.validated.clear()
    run.validate(model, evaluation)
    assert flat(model.validated) == ds.ids.tolist()
    assert flat(run.predict(model, evaluation)) == ds.ids.tolist()
    assert run.predict_dataloaders is evaluation
    loader.close()
    evaluation.close()


def test_a_loader_that_was_used_before_begins_with_the_first_epoch(ds):
    loader = lg.loader(ds, 64, shuffle=True)
    expected = epochs(loader, 2)
    next(iter(loader))
    model = Recorder()
    trainer(max_epochs=2).fit(model, loader)
    assert model.trained == expected


def test_limited_epochs_are_different_ones(ds):
    model = Recorder()
    trainer(max_epochs=3, limit_train_batches=2).fit(model, lg.loader(ds, 64, shuffle=True, num_workers=1))
    assert model.trained == {epoch: ids[:2] for epoch, ids in epochs(lg.loader(ds, 64, shuffle=True), 3).items()}


def test_overfitting_reads_no_more_than_it_says(ds):
    model = Recorder()
    trainer(max_epochs=2, overfit_batches=1).fit(model, lg.loader(ds, 64), lg.loader(ds, 128))
    assert model.trained == {0: [ds.ids[:64].tolist()], 1: [ds.ids[:64].tolist()]}
    assert model.validated == [ds.ids[:128].tolist()] * 2


def test_epochs_of_different_lengths_are_read_to_their_ends(ds):
    """Lightning remembers the length of the first epoch, unless it is told to ask again."""
    budget = {"max_atoms": 200, "shuffle": True, "seed": 1}
    expected = epochs(lg.loader(ds, **budget), 4)
    lengths = [len(batches) for batches in expected.values()]
    assert min(after - before for before, after in pairwise(lengths)) < 0 < max(b - a for a, b in pairwise(lengths))
    model = Recorder()
    run = trainer(max_epochs=4, reload_dataloaders_every_n_epochs=1)
    run.fit(model, lg.loader(ds, **budget), lg.loader(ds, 128))
    assert model.trained == expected
    assert flat(model.validated) == ds.ids.tolist() * 4


@pytest.fixture(scope="module")
def checkpoints(prototypes, tmp_path_factory):
    """A run of three epochs, and its checkpoints: after every batch, and after every epoch."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = Recorder()
    each = {"dirpath": folder, "save_top_k": -1}
    keep = [
        ModelCheckpoint(filename="batch-{step}", every_n_train_steps=1, **each),
        ModelCheckpoint(filename="epoch-{step}", every_n_epochs=1, save_on_train_epoch_end=True, **each),
    ]
    run = trainer(max_epochs=3, enable_checkpointing=True, callbacks=keep)
    run.fit(model, lg.loader(lg.LazyGraphDataset(prototypes, target="density"), 64, shuffle=True))
    return folder, model.trained


@pytest.mark.parametrize(
    ("name", "step"),
    [*(("batch", step) for step in range(1, 3 * STEPS)), *(("epoch", step) for step in range(STEPS, 3 * STEPS, STEPS))],
)
def test_a_run_goes_on_with_the_batches_that_it_had_not_seen(ds, checkpoints, name, step):
    folder, whole = checkpoints
    model = Recorder()
    way = {"num_workers": 1} if step == STEPS + 2 else {"threads": step % 2}
    loader = lg.loader(ds, 64, shuffle=True, **way)
    trainer(max_epochs=3).fit(model, loader, ckpt_path=folder / f"{name}-step={step}.ckpt")
    assert flat(model.trained.values()) == flat(whole.values())[step:]
    loader.close()


def test_a_run_that_is_stopped_after_every_step(ds, checkpoints, tmp_path):
    _, whole = checkpoints
    path, seen = None, []
    for step in range(1, 2 * STEPS + 2):
        keep = ModelCheckpoint(dirpath=tmp_path / str(step), every_n_train_steps=1)
        model, run = Recorder(), trainer(max_steps=step, enable_checkpointing=True, callbacks=[keep])
        run.fit(model, lg.loader(ds, 64, shuffle=True, threads=0), ckpt_path=path)
        seen += flat(model.trained.values())
        path = keep.best_model_path
    assert seen == flat(whole.values())[: 2 * STEPS + 1]


def test_a_checkpoint_of_other_batches_is_refused(ds, checkpoints):
    folder, _ = checkpoints
    loader = lg.loader(ds, 32, shuffle=True)
    with pytest.raises(lg.InputError, match="max_graphs is 64 there and 32 here"):
        trainer(max_epochs=3).fit(Recorder(), loader, ckpt_path=folder / "batch-step=7.ckpt")


TWO_RANKS = """
import json, sys

sys.path.insert(0, {tests!r})
import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from test_lightning import Recorder
import lazygraph as lg

path, out = sys.argv[1:]
ds = lg.LazyGraphDataset(path, target="density")
loader = lg.loader(ds, 32, shuffle=True)
evaluation = loader.evaluation(ds)
keep = ModelCheckpoint(dirpath=out, filename="{{step}}", every_n_train_steps=3, save_top_k=-1)
trainer = lightning.Trainer(
    strategy="ddp", devices=2, accelerator="cpu", max_epochs=2, default_root_dir=out, callbacks=[keep]
)
model, resumed = Recorder(), Recorder()
trainer.fit(model, loader, evaluation)
told = {{"ours": trainer.train_dataloader is loader, "fit": list(model.trained.values()), "validated": model.validated}}
model.validated = []
trainer.validate(model, evaluation)
told["validate"] = model.validated
told["predict"] = trainer.predict(model, evaluation)
trainer.fit(resumed, lg.loader(ds, 32, shuffle=True, num_workers=1), ckpt_path=out + "/step=6.ckpt")
told["resumed"] = list(resumed.trained.values())
json.dump(told, open(f"{{out}}/{{trainer.global_rank}}.json", "w"))
"""


@pytest.mark.slow
def test_two_ranks_with_default_settings(ds, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(TWO_RANKS.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, script, ds.path, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    a, b = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert a["ours"]
    assert b["ours"]
    for one, other in zip(a["fit"], b["fit"], strict=True):
        assert len(one) == len(other) == 5
        assert sorted(flat(one + other)) == ds.ids.tolist()
    assert a["fit"][0] != a["fit"][1]
    assert sorted(flat(a["validated"] + b["validated"])) == sorted(ds.ids.tolist() * 2)
    for stage in ("validate", "predict"):
        assert sorted(flat(a[stage] + b[stage])) == ds.ids.tolist()
        for batch in a[stage] + b[stage]:
            assert batch == sorted(batch)
    for rank in (a, b):
        assert rank["resumed"] == [rank["fit"][1][1:]]
