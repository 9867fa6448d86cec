"""Several nodes that train together, each with a copy of the dataset of its own: the same data on all, or none trains.

A node is a process of torchrun on this machine.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.format.manifest import Manifest
from lazygraph.training import folder as folder_module
from lazygraph.training.folder import Folder
from lazygraph.training.ranks import Ranks
from lazygraph.writing.edit import set_labels, set_splits

OPTIONS = {
    "target": "density", "model": "nets:Composition", "n_epochs": 3, "learning_rate": 0.05, "schedule": "none",
    "splits": "fold_0",
}  # fmt: skip

DIFFER = "InputError: the processes of this training differ:"

SCRIPT = """
import json, os, sys
sys.path.append({tests!r})
import lazygraph as lg
from lazygraph.cli.main import main

cases, out = json.loads(sys.argv[1]), sys.argv[2]
rank, node = os.environ["RANK"], int(os.environ["GROUP_RANK"])
told = {{}}
for name, paths in cases.items():
    options = lg.TrainOptions(batch_size=15, devices=2, num_nodes=2, **{options!r})
    try:
        results = lg.train(paths[node], options, f"{{out}}/{{name}}", progress=False)
    except lg.LazyGraphError as error:
        told[name] = f"{{type(error).__name__}}: {{error}}"
    else:
        told[name] = results.scores, [row.id for row in results.predictions]
command = ["train", cases["resplit"][node], "--config", out + "/good/options.toml", "--model", "nets:Composition"]
told["command"] = main([*command, "-o", out + "/again", "--no-progress"])
json.dump(told, open(f"{{out}}/{{rank}}.json", "w"))
"""


def losses(path):
    with path.open(newline="") as file:
        return [(float(row["train_loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def on_two_nodes(processes, *command, cwd):
    """Run a script under torchrun on two nodes of so many processes each; code, stdout and stderr of both."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", str(processes)]
    launch += ["--rdzv-backend", "static", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    environment = os.environ | {"PYTHONPATH": str(Path(lg.__file__).parents[1])}
    nodes = [
        subprocess.Popen(
            [*launch, "--node-rank", str(node), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=cwd, env=environment,
        )
        for node in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=300) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    return [(node.returncode, out, error) for node, (out, error) in zip(nodes, said, strict=True)]


@pytest.fixture
def dataset(tmp_path):
    """Two columns of splits: the graphs that are for tests in ``split`` are for training in ``fold_0``."""
    path = tmp_path / "mp.lg"
    lg.write("prototypes:120?seed=1", path, graph="cgcnn", workers=1, progress=False, split=(0.5, 0.25, 0.25))
    ids = lg.LazyGraphDataset(path).ids.tolist()
    set_splits(path, names={"train": ids[:90], "val": ids[90:105], "test": ids[105:]}, name="fold_0")
    return path


def copies(dataset, folder):
    """The dataset on each of two nodes."""
    return [str(lg.pull(dataset, folder / f"node-{node}" / "mp.lg", progress=False).path) for node in range(2)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_are_one_process_or_all_of_their_processes_refuse(dataset, tmp_path):
    good = copies(dataset, tmp_path)
    fewer = lg.subset(dataset, tmp_path / "fewer.lg", where="n_atoms > 1").path
    relabelled = Path(shutil.copytree(good[1], tmp_path / "relabelled.lg"))
    resplit = Path(shutil.copytree(good[1], tmp_path / "resplit.lg"))
    set_splits(resplit, (0.5, 0.25, 0.25), name="fold_0")
    ids, column = lg.LazyGraphDataset(dataset).ids.tolist(), lg.LazyGraphDataset(dataset).columns["density"]
    set_labels(relabelled, {one: {"density": 1.5 * value} for one, value in zip(ids, column.tolist(), strict=True)})
    cases = {
        "missing": [good[0], str(tmp_path / "none.lg")],
        "fewer": [good[0], str(fewer)],
        "relabelled": [str(relabelled), good[1]],
        "resplit": [good[0], str(resplit)],
        "good": good,
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), options=OPTIONS))
    said = on_two_nodes(2, script, json.dumps(cases), tmp_path, cwd=tmp_path)
    for code, _, error in said:
        assert code == 0, error
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]

    host = socket.gethostname()
    first, second = (f"processes {ranks} on node {node} ({host})" for node, ranks in enumerate(("0, 1", "2, 3")))
    stops = f"InputError: this process stops, because {second} cannot train: DatasetNotFound: there is no dataset at "
    for rank, one in enumerate(told):
        assert one["missing"].startswith("DatasetNotFound: there is no dataset at" if rank > 1 else stops)
        assert one["missing"].endswith("/none.lg")
    contents = [Manifest.load(Path(path)).content_id for path in cases["fewer"]]
    differ = f"the content id is {contents[0]} for {first} and {contents[1]} for {second}"
    for one in told:
        assert one["fewer"].startswith(f"{DIFFER} {differ}; ")
    (refusal,) = {one["relabelled"] for one in told}
    assert refusal.startswith(f"{DIFFER} the digest of the label 'density' is xxh3 ")
    assert {one["resplit"].partition(", xxh3")[0] for one in told} == {f"{DIFFER} the split train is 90 graphs"}
    assert [one["command"] for one in told] == [2] * 4
    assert f"{DIFFER} the split train is 90 graphs".replace("InputError", "lazygraph: error") in said[1][2]
    assert not any((tmp_path / name).exists() for name in ("missing", "fewer", "relabelled", "resplit", "again"))

    ds = lg.LazyGraphDataset(dataset)
    assert all(one["good"] == told[0]["good"] for one in told)
    scores, predicted = told[0]["good"]
    assert predicted == ds.split("test", of="fold_0").ids.tolist()
    alone = lg.train(dataset, lg.TrainOptions(batch_size=60, **OPTIONS), tmp_path / "alone", progress=False)
    for four, one in zip(losses(tmp_path / "good" / "metrics.csv"), losses(alone.folder.metrics), strict=True):
        assert four == pytest.approx(one, rel=1e-4)
    assert scores["density"]["mae"] == pytest.approx(alone.scores["density"]["mae"], rel=1e-4)


def one_process(nodes=1, **changes):
    return lightning.Trainer(
        accelerator="cpu", devices=1, num_nodes=nodes, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, **changes,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_several_nodes_need_a_launcher():
    with pytest.raises(InputError, match="num_nodes=2 needs a launcher.* torchrun --nnodes 2"):
        Ranks.of(one_process(nodes=2))


@pytest.mark.filterwarnings("ignore")
def test_one_process_agrees_with_itself():
    ranks = Ranks.of(one_process())
    assert (ranks.rank, ranks.is_first, len(ranks.nodes)) == (0, True, 1)
    assert ranks.together(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        ranks.together(lambda: 1 / 0)
    ranks.agree({"dataset": {"content_id": "c", "recipe": "r", "labels": {}, "splits": {}}, "seed": np.int64(1)})


def test_a_folder_that_a_node_does_not_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "SEEN_WITHIN", 0.2)
    with pytest.raises(InputError, match="does not see .*options.toml.*choose an output_dir .* all nodes share"):
        Folder(tmp_path / "run").resume({"seed": 1})
    Folder(tmp_path / "run").claim({"seed": 1})
    assert Folder(tmp_path / "run").resume({"seed": 1}) is None


def test_differences_name_nodes_and_not_every_process(monkeypatch):
    nodes = tuple(f"node {rank // 2} (n{rank // 2})" for rank in range(16))
    ranks = Ranks(0, True, nodes)
    identity = {"content_id": "a", "recipe": "r", "labels": {}, "splits": {}}
    own = {"dataset": identity, "seed": 1, "loss": "l1", "keep": 1, "patience": None, "num_workers": 4}
    odd = {**own, "seed": 2, "loss": "mse", "keep": 2, "patience": 3, "num_workers": 0}

    def gathered(_, value):
        other = dict(value) | {f"the option {name}": repr(odd[name]) for name in ("seed", "loss", "keep", "patience")}
        return [value if rank < 6 or rank == 15 else other for rank in range(16)]

    monkeypatch.setattr(Ranks, "_gathered", gathered)
    with pytest.raises(InputError) as told:
        ranks.agree(own)
    assert str(told.value).startswith(
        "the processes of this training differ: the option seed is 1 for processes 0, 1 on node 0 (n0), processes 2, 3 "
        "on node 1 (n1), processes 4, 5 on node 2 (n2), process 15 on node 7 (n7) and 2 for processes 6, 7 on node 3 "
        "(n3), processes 8, 9 on node 4 (n4), processes 10, 11 on node 5 (n5), processes 12, 13 on node 6 (n6), and "
        "those on 1 more nodes; the option loss is"
    )
    assert "and 1 more differences. Required: the same on all nodes" in str(told.value)
