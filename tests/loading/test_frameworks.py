"""What Lightning's Trainer and Tuner, Accelerate and torch's own subsets ask of a loader."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, random_split

import lazygraph as lg

PLAIN = {"num_workers": 0, "threads": 0}

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, target="density")


def ids(batches):
    return [batch.id for batch in batches]


# ---- Lightning ----

lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import BatchSizeFinder, ModelCheckpoint  # noqa: E402
from lightning.pytorch.tuner import Tuner  # noqa: E402
from lightning.pytorch.utilities import CombinedLoader  # noqa: E402


class Recorder(lightning.LightningModule):
    """Writes down the ids that it is presenter."""

    def __init__(self, stop=None):
        super().__init__()
        self.layer, self.stop = torch.nn.Linear(1, 1), stop
        self.trained, self.validated = {}, []

    def training_step(self, batch, batch_idx):
        batches = batch if isinstance(batch, dict) else {"": batch}
        step = [(name, part.id) for name, part in batches.items()]
        self.trained.setdefault(self.current_epoch, []).append(step)
        if self.stop == self.global_step:
            raise KeyError("killed")
        return sum(self.layer(part.y).square().mean() for part in batches.values())

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.validated.append(batch.id)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def trainer(**options):
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    return lightning.Trainer(**quiet, **{"enable_model_summary": False, "enable_checkpointing": False, **options})


@pytest.mark.parametrize("way", [{"threads": 1}, {"num_workers": 1}], ids=str)
def test_overfitting_sees_the_same_batches_in_every_epoch(ds, way):
    model, loader = Recorder(), lg.loader(ds, 64, shuffle=True, **way)
    run = trainer(max_epochs=3, overfit_batches=2)
    run.fit(model, loader, lg.loader(ds, 64, shuffle=True, seed=5, **PLAIN))
    assert run.train_dataloader is loader
    wanted = [[("", batch)] for batch in ids(lg.loader(ds, 64, shuffle=True, **PLAIN))[:2]]
    assert model.trained == dict.fromkeys(range(3), wanted)
    assert model.validated[:2] == model.validated[2:4] == model.validated[4:]
    loader.close()


def test_lightning_trains_and_resumes_on_a_mix(ds, tmp_path):
    mix = lg.mix({"a": ds[:200], "b": ds[200:]}, rates={"a": 1, "b": 1})
    whole = Recorder()
    trainer(max_epochs=2).fit(whole, lg.loader(mix, 32, shuffle=True, **PLAIN))
    plain = lg.loader(mix, 32, shuffle=True, **PLAIN)
    assert whole.trained == {epoch: [[("", batch)] for batch in ids(plain)] for epoch in range(2)}
    assert whole.trained[0] != whole.trained[1]
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    run = trainer(max_epochs=2, enable_checkpointing=True, callbacks=[keep])
    with pytest.raises(KeyError, match="killed"):
        run.fit(Recorder(9), lg.loader(mix, 32, shuffle=True, **PLAIN))
    rest = Recorder()
    trainer(max_epochs=2).fit(rest, lg.loader(mix, 32, shuffle=True, **PLAIN), ckpt_path=tmp_path / "step=9.ckpt")
    steps = [step for epoch in whole.trained.values() for step in epoch]
    assert [step for epoch in rest.trained.values() for step in epoch] == steps[9:]


def test_a_data_module_of_a_mix_splits_all_graphs_by_ratios(ds):
    mix = lg.mix({"a": ds[:200], "b": ds[200:]}, rates={"a": 1, "b": 1})
    data, model = lg.LazyGraphDataModule(mix, (0.8, 0.1, 0.1), batch_size=16), Recorder()
    trainer(max_epochs=1).fit(model, data)
    train, val = data.splits["train"], data.splits["val"]
    visits = sum(train.visits().values())
    assert len({*train.visits().values()}) == 1
    assert sum(len(names) for step in model.trained[0] for _, names in step) == visits
    assert sum(model.validated, []) == val.ids.tolist()
    with pytest.raises(lg.InputError, match="unknown split 'train'"):
        lg.LazyGraphDataModule(mix, batch_size=16)


def test_overfitting_with_a_data_module_and_without_overfitting_epochs_differ(ds):
    data = lg.LazyGraphDataModule(ds, (0.8, 0.1, 0.1), batch_size=64)
    model = Recorder()
    trainer(max_epochs=3, overfit_batches=1).fit(model, data)
    assert model.trained[0] == model.trained[1] == model.trained[2]
    model = Recorder()
    trainer(max_epochs=2).fit(model, data)
    assert model.trained[0] != model.trained[1]


def cycled(ds):
    parts = {"long": lg.loader(ds, 32, shuffle=True, **PLAIN), "short": lg.loader(ds[:50], 16, shuffle=True, seed=3)}
    return CombinedLoader(parts, "max_size_cycle")


def test_a_cycled_loader_reads_further_epochs_within_one_of_lightnings(ds):
    model = Recorder()
    trainer(max_epochs=1).fit(model, cycled(ds))
    short = [names for step in model.trained[0] for part, names in step if part == "short"]
    plain = lg.loader(ds[:50], 16, shuffle=True, seed=3, **PLAIN)
    assert short == (ids(plain) + ids(plain) + ids(plain))[: len(short)]
    assert len(short) == 10


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 6, 9, 10, 13, 17])
def test_a_run_with_a_cycled_loader_is_resumed_with_the_batches_that_it_had_not_seen(ds, tmp_path, stop):
    whole = Recorder()
    trainer(max_epochs=2).fit(whole, cycled(ds))
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(KeyError, match="killed"):
        trainer(max_epochs=2, enable_checkpointing=True, callbacks=[keep]).fit(Recorder(stop), cycled(ds))
    rest = Recorder()
    trainer(max_epochs=2).fit(rest, cycled(ds), ckpt_path=tmp_path / f"step={stop}.ckpt")
    steps = [step for epoch in whole.trained.values() for step in epoch]
    assert [step for epoch in rest.trained.values() for step in epoch] == steps[stop:]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_tuner_scales_the_batch_size_of_a_data_module(ds, mode):
    data, model = lg.LazyGraphDataModule(ds, (0.8, 0.1, 0.1), batch_size=16), Recorder()
    run = trainer(max_epochs=1)
    found = Tuner(run).scale_batch_size(model, mode=mode, datamodule=data, max_trials=3, steps_per_trial=2)
    assert data.batch_size == data.train.batch_size == found
    model.trained.clear()
    run.fit(model, data)
    sizes = [len(names) for step in model.trained[0] for _, names in step]
    assert (max(sizes), sum(sizes)) == (found, 240)


@pytest.mark.slow
def test_a_run_that_finds_its_batch_size_first(ds):
    data, model = lg.LazyGraphDataModule(ds, (0.8, 0.1, 0.1), batch_size=64), Recorder()
    trainer(max_epochs=2, callbacks=[BatchSizeFinder(max_trials=2, steps_per_trial=1)]).fit(model, data)
    sizes = {len(names) for step in model.trained[1] for _, names in step}
    assert sizes == {data.batch_size}


# ---- Accelerate ----


@pytest.mark.parametrize(
    "options", [{"batch_size": 32}, {"max_atoms": 400}, {"batch_size": 32, "rank": 1, "world_size": 2}]
)
def test_accelerate_skips_batches_and_keeps_the_state(ds, options, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    loader = lg.loader(ds, shuffle=True, **options, **PLAIN)
    whole = [ids(loader) for _ in range(3)]
    for skipped in (0, 2):
        loader.set_epoch(1)
        rest = accelerate.skip_first_batches(loader, skipped)
        assert len(rest) == len(whole[1]) - skipped
        assert ids(rest) == whole[1][skipped:]
        assert ids(loader) == whole[2]

    accelerator = accelerate.Accelerator(cpu=True)
    assert accelerator.prepare(loader) is loader
    accelerator.register_for_checkpointing(loader)
    loader.set_epoch(0)
    iterator = iter(loader)
    begun = [next(iterator).id for _ in range(2)]
    accelerator.save_state(tmp_path)
    assert begun + ids(iterator) == whole[0]
    accelerator.load_state(tmp_path)
    assert begun + ids(loader) == whole[0]


# ---- torch ----


def test_the_batches_of_a_loader_for_torchs(ds):
    loader = lg.loader(ds, 64, shuffle=True, **PLAIN)
    whole = [ids(loader) for _ in range(3)]
    loader.set_epoch(0)
    for device in (None, "cpu"):
        sampled = lg.loader(ds, 64, shuffle=True, device=device)
        plain = DataLoader(ds, batch_sampler=sampled.batch_sampler, collate_fn=sampled.collate_fn)
        assert len(plain) == 5
        assert [ids(plain), ids(plain)] == whole[:2]
    assert [ids(loader)] == whole[:1]
    assert len(loader.sampler) == 300
    assert [str(ds.ids[n]) for n in loader.sampler] == sum(whole[1], [])
    assert not isinstance(loader.sampler, RandomSampler)


def test_subsets_of_torch_are_read_as_such(ds):
    train, rest = random_split(ds, [0.8, 0.2], torch.Generator().manual_seed(0))
    parts = (train, rest, Subset(rest, [5, 3, 3, -1]), Subset(ds, torch.tensor([4, 2])), Subset(ds, range(3, 9)))
    for part in parts:
        loader = lg.loader(part, 16, **PLAIN)
        assert sum(ids(loader), []) == [part[n].id for n in range(len(part))]
        assert sum(ids(loader.evaluation(part)), []) == [part[n].id for n in range(len(part))]


class Own(Subset):
    """A subset that may give what it likes."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ds: ConcatDataset([ds, list(ds)]), "found a list; required: a LazyGraphDataset, a mix, or torch's Sub"),
        (
            lambda ds: ConcatDataset([ds, lg.mix({"a": ds})]),
            "must not contain a mix; give all the datasets to lg.mix",
        ),
        (
            lambda ds: Own(ds, [1]),
            "found a Own; required: a LazyGraphDataset, a mix, or torch's Subset or ConcatDataset",
        ),
        (list, "found a list.*collate_fn=lg.collate"),
        (lambda ds: ds.path, "found a str"),
    ],
    ids=["concat of lists", "concat of a mix", "own class", "list", "path"],
)
def test_other_datasets_are_refused_by_name(ds, make, message):
    with pytest.raises(lg.InputError, match=message):
        lg.loader(make(ds[:3]), 8)
