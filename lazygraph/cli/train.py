"""``lazygraph train``."""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

from lazygraph.cli.options import add_dataset, add_json, import_from_here
from lazygraph.cli.output import say, say_json
from lazygraph.errors import InputError

SUMMARY = "Train a model on a dataset: checkpoints, metrics, predictions and plots in one folder."
EXAMPLES = """\
examples:
  lazygraph train mp.lg --target band_gap -o run
      iComFormer with its published settings, on the dataset's own splits or 80, 10 and 10 percent; the same command
      goes on where a run was stopped
  lazygraph train mp.lg --target band_gap --model cgcnn --n-epochs 30 --loss mse -o run
  lazygraph train mp.lg --config run/options.toml --learning-rate 5e-4 -o run2
      the options of another run, one of them changed
  lazygraph train mp.lg --target band_gap --ensemble 5 -o run
      five models of different seeds: predictions come with their deviation
  lazygraph train mp.lg --target gap --model mypkg.models:Net --model-option hidden=128 -o run
"""

# Those of TrainOptions that are one number or text, listed here so that the command's help needs no torch; a test
# compares them.
OPTIONS: dict[str, type] = {
    "model": str,
    "task": str,
    "n_epochs": int,
    "batch_size": int,
    "max_atoms": int,
    "max_edges": int,
    "learning_rate": float,
    "weight_decay": float,
    "schedule": str,
    "loss": str,
    "gradient_clip": float,
    "accumulate": int,
    "precision": str,
    "patience": int,
    "ema_decay": float,
    "keep": int,
    "checkpoint_every": int,
    "seed": int,
    "split_seed": int,
    "train_ratio": float,
    "val_ratio": float,
    "test_ratio": float,
    "num_workers": int,
    "devices": int,
    "num_nodes": int,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command: those of ``TrainOptions`` under the same names."""
    add_dataset(parser)
    parser.add_argument("-o", "--output-dir", required=True, metavar="FOLDER", help="the folder of the run")
    parser.add_argument("--config", metavar="FILE.toml", help="options under the same names; those given here go first")
    parser.add_argument("--target", action="append", metavar="LABEL", help="a label to learn; repeat for more")
    parser.add_argument(
        "--model-option", action="append", metavar="NAME=VALUE", default=[], dest="model_options",
        help="a keyword argument of the model; repeat for more",
    )  # fmt: skip
    group = parser.add_argument_group("training", "help(lazygraph.TrainOptions) explains each")
    for name, kind in OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper())
    parser.add_argument(
        "--ensemble", type=int, metavar="N", help="train so many models, with seeds that follow one another"
    )
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no bar")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the scores."""
    from lazygraph.training.ensemble import train_ensemble
    from lazygraph.training.models import MODELS
    from lazygraph.training.module import own_rank
    from lazygraph.training.options import TrainOptions, read_toml
    from lazygraph.training.run import train

    # Once it is imported: it tells of devices, and advertises.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    values = {} if arguments.config is None else read_toml(arguments.config)
    values.pop("dataset", None)  # of the run that the options are taken from
    given = {name: getattr(arguments, name) for name in OPTIONS}
    given |= {"target": arguments.target, "model_options": _pairs(arguments.model_options) or None}
    values |= {name: value for name, value in given.items() if value is not None}
    if arguments.model is None and "model" in values and values["model"] not in MODELS:
        # The file may be a stranger's, as a checkpoint may.
        msg = (
            f"{arguments.config} names the model {values['model']!r}, which would be imported and called; if you trust "
            f"it, name it too: --model {values['model']}"
        )
        raise InputError(msg)
    if ":" in (arguments.model or ""):
        import_from_here()
    options, where = TrainOptions.of(values), (arguments.dataset, arguments.output_dir)
    if arguments.ensemble is None:
        results = train(where[0], options, where[1], progress=arguments.progress)
    else:
        results = train_ensemble(where[0], options, where[1], arguments.ensemble, progress=arguments.progress)
    if own_rank():
        return 0
    if arguments.json:
        say_json(results.to_json(), indent=1)
        return 0
    say(
        f"{results.epochs} epochs in {results.seconds['training']:.0f} s; {100 * results.waited:.1f} % waiting for data"
    )
    for name, score in results.scores.items():
        parts = [_score(score), f"a mean predictor: {_score(results.baseline[name])}"]
        say(f"{name}, {score['count']} test graphs: {'; '.join(parts)}")
    say(f"everything is in {results.folder.path}")
    return 0


def _score(score: dict[str, Any]) -> str:
    if "accuracy" in score:
        area = f", ROC AUC {score['roc_auc']:.3f}" if "roc_auc" in score else ""
        return f"accuracy {score['accuracy']:.3f}{area}"
    if "mae" not in score:
        return "no labels"
    unit = f" {score['unit']}" if score["unit"] else ""
    return f"MAE {score['mae']:.4g}{unit}, RMSE {score['rmse']:.4g}{unit}"


def _pairs(texts: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts; a value that reads as JSON is what it says, any other one is text."""
    out: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator):
            msg = f"found --model-option {text!r}; required: NAME=VALUE, such as hidden=128"
            raise InputError(msg)
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out
