"""The options of published trainings, by name."""

from __future__ import annotations

from typing import Any

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name

__all__ = ["PUBLISHED", "published_options"]

PUBLISHED: dict[str, dict[str, Any]] = {
    # The authors' program, github.com/divelab/AIRS, OpenMat/ComFormer: the settings of train_jarvis.py and train.py.
    "comformer-2024": {
        "model": "icomformer",
        "graph": "comformer",
        "graph_options": {"ties": "reference"},
        "loss": "mse",
        "n_epochs": 500,
        "batch_size": 64,
        "drop_last": "train_val",
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "weight_decay_on": "weights",
        "schedule": "onecycle",
        "weights": "last",
        "seed": 123,
        "split_seed": 123,
        "unlabelled": "drop",
        "train_ratio": 0.8,
        "val_ratio": 0.1,
        "test_ratio": 0.1,
    },
    # The authors' program, github.com/divelab/AIRS, OpenMat/Matformer: the same program, with another network.
    "matformer-2022": {
        "model": "matformer",
        "graph": "matformer",
        "graph_options": {"ties": "reference"},
        "loss": "mse",
        "n_epochs": 500,
        "batch_size": 64,
        "drop_last": "train_val",
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "weight_decay_on": "weights",
        "schedule": "onecycle",
        "weights": "last",
        "seed": 123,
        "split_seed": 123,
        "unlabelled": "drop",
        "train_ratio": 0.8,
        "val_ratio": 0.1,
        "test_ratio": 0.1,
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
        "seed": 123,
        "split_seed": 123,
        "unlabelled": "drop",
        "train_ratio": 0.8,
        "val_ratio": 0.1,
        "test_ratio": 0.1,
    },
}
"""Name -> options of a training as its authors published it. docs/training.md says what each of them was."""


def published_options(name: str, **changes: Any) -> dict[str, Any]:
    """Return the options of a published training, with some of them changed.

    Args:
        name: a name of ``PUBLISHED``.
        changes: options that replace the published ones.

    Raises:
        InputError: the name is unknown.

    Example:
        >>> published_options("comformer-2024", n_epochs=50)["n_epochs"]
        50
        >>> published_options("cgcnn-2018", task="classification")["model_options"]
        {'dropout': 0.5}
    """
    if not (isinstance(name, str) and name in PUBLISHED):
        raise InputError(unknown_name("published training", name, PUBLISHED))
    options = {**PUBLISHED[name], **changes}
    if options.get("task") == "classification":
        options["loss"] = changes.get("loss", "cross_entropy")
        if options["model"] == "cgcnn":
            options["model_options"] = {"dropout": 0.5, **changes.get("model_options", {})}
    return options
