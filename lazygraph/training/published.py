"""The options of published trainings, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name

__all__ = ["PUBLISHED", "published_options"]

# All have it: the rule of the split, and the seeds.
SPLIT: dict[str, Any] = {
    "seed": 123,
    "split_seed": 123,
    "unlabelled": "drop",
    "train_ratio": 0.8,
    "val_ratio": 0.1,
    "test_ratio": 0.1,
}
# The training program of ALIGNN, which ComFormer, Matformer and PotNet also use.
ALIGNN: dict[str, Any] = {
    "graph_options": {"ties": "reference"},
    "loss": "mse",
    "batch_size": 64,
    "drop_last": "train_val",
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 1e-5,
    "weight_decay_on": "weights",
    "schedule": "onecycle",
    "weights": "last",
    **SPLIT,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    # The authors' program, github.com/divelab/AIRS, OpenMat/ComFormer: the settings of train_jarvis.py and train.py.
    "comformer-2024": {**ALIGNN, "model": "icomformer", "graph": "comformer", "n_epochs": 500},
    # The authors' program, github.com/divelab/AIRS, OpenMat/Matformer.
    "matformer-2022": {**ALIGNN, "model": "matformer", "graph": "matformer", "n_epochs": 500},
    # The authors' program, github.com/divelab/AIRS, OpenMat/PotNet: the settings of configs/potnet.yaml.
    "potnet-2023": {
        **ALIGNN,
        "model": "potnet",
        "model_options": {"infinite": True},
        "graph": "potnet",
        "n_epochs": 500,
        "weight_decay": 0.0,
        "warmup_steps": 2000,
    },
    # The publication, Choudhary and DeCost, npj Comput. Mater. 7, 185, 2021, and the authors' program of November 2021,
    # github.com/usnistgov/alignn, with the settings of examples/sample_data/config_example.json.
    "alignn-2021": {
        **ALIGNN,
        "model": "alignn",
        "model_options": {"norm": "batch"},
        "graph": "alignn",
        "n_epochs": 300,
    },
    # The defaults of the authors' program, github.com/txie-93/cgcnn. For classes, it also has the dropout 0.5.
    "cgcnn-2018": {
        "model": "cgcnn",
        "graph": "cgcnn",
        "loss": "mse",
        "n_epochs": 30,
        "batch_size": 256,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "multistep",
        "milestones": [100],
        "weights": "best",
        **SPLIT,
    },
}
"""Name -> options of a training as its authors published it. docs/training.md says what each of them was."""


def published_options(name: str, **changes: Any) -> dict[str, Any]:
    """Return the options of a published training, with some of them changed.

    Args:
        name: a name of ``PUBLISHED``.
        changes: options that replace the published ones. ``model_options`` and ``graph_options`` are added to the
            published ones, and replace them all if another ``model`` or ``graph`` is given.

    Raises:
        InputError: the name is unknown.

    Example:
        >>> published_options("comformer-2024", n_epochs=50)["n_epochs"]
        50
        >>> published_options("comformer-2024", graph_options={"cutoff": 5.0})["graph_options"]
        {'ties': 'reference', 'cutoff': 5.0}
        >>> published_options("cgcnn-2018", task="classification")["model_options"]
        {'dropout': 0.5}
    """
    if not (isinstance(name, str) and name in PUBLISHED):
        raise InputError(unknown_name("published training", name, PUBLISHED))
    published = PUBLISHED[name]
    options = {**published, **changes}
    if options.get("task") == "classification":
        options["loss"] = changes.get("loss", "cross_entropy")
        if name == "cgcnn-2018":
            published = {**published, "model_options": {"dropout": 0.5}}
    for owner in ("model", "graph"):
        of_owner = f"{owner}_options"
        given = changes.get(of_owner, {})
        if options[owner] != published[owner]:
            options[of_owner] = given
        elif of_owner in published and isinstance(given, Mapping):
            options[of_owner] = {**published[of_owner], **given}
    return options
