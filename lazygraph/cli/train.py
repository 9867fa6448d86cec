"""The command ``lazygraph train``."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lazygraph.cli.options import add_dataset, add_json, import_from_here
from lazygraph.cli.output import say, say_json
from lazygraph.cli.train_options import train_options
from lazygraph.errors import InputError
from lazygraph.graphs.presets import PRESETS

if TYPE_CHECKING:
    from lazygraph.training.options import TrainOptions
    from lazygraph.training.results import Results

SUMMARY = "Train a model on a dataset; write checkpoints, metrics, predictions and plots to one folder."
EXAMPLES = """\
examples:
  lazygraph train mp.lg --target band_gap -o run
      iComFormer with the default options, on the dataset's own splits or 80, 10 and 10 percent; if the run was stopped,
      the same command resumes it
  lazygraph train mp.lg --target band_gap --model cgcnn --n-epochs 30 --loss mse -o run
  lazygraph train dft.lg --target band_gap --preset-recipe comformer-2024 -o run
      iComFormer as its authors trained it: graphs, split, loss, optimizer, epochs, weights
  lazygraph train mp.lg --config run/options.toml --learning-rate 5e-4 -o run2
      the options of another run, with one change
  lazygraph train mp.lg --target band_gap --find-learning-rate
      try learning rates on a hundred batches, and suggest one
  lazygraph train new.lg --target band_gap --from-checkpoint run --freeze 'layers.0.*' --learning-rate 1e-4 -o fine
      begin with the weights of another run, and keep those of the first layer
  lazygraph train mp.lg --target band_gap --ensemble 5 -o run
      five models with different seeds; predictions have a standard deviation
  lazygraph train mp.lg --target band_gap --splits fold_0 -o run-0
      the first fold of a cross-validation, from the column fold_0 of lazygraph split --folds
  lazygraph train mp.lg --target band_gap --folds fold_0,fold_1,fold_2,fold_3,fold_4 -o run
      a whole cross-validation; the folder predicts with the mean of the five models
  torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --no-python \\
    lazygraph train /local/nvme/mp.lg --target band_gap --devices 4 --num-nodes 2 -o /shared/run
      on every node: two nodes with four devices each, each node with a copy of the dataset (lazygraph pull)
  lazygraph train mp.lg --target gap --model mypkg.models:Net --model-option hidden=128 -o run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command: the fields of ``TrainOptions`` under the same names."""
    add_dataset(parser)
    parser.add_argument(
        "-o", "--output-dir", metavar="FOLDER", help="the folder of the run; needed, but for --find-learning-rate"
    )
    parser.add_argument(
        "--config", metavar="FILE.toml", help="read options from this file; options on the command line override it"
    )
    parser.add_argument(
        "--preset-recipe", metavar="NAME",
        help="begin with the options of a published training, such as comformer-2024; all other options override it",
    )  # fmt: skip
    parser.add_argument("--target", action="append", metavar="LABEL", help="a label to learn; repeat for more")
    parser.add_argument(
        "--model-option", action="append", metavar="NAME=VALUE", default=[], dest="model_options",
        help="a keyword argument of the model; repeat for more",
    )  # fmt: skip
    parser.add_argument(
        "--graph-option", action="append", metavar="NAME=VALUE", default=[], dest="graph_options",
        help="a parameter of --graph, such as cutoff=5; repeat for more",
    )  # fmt: skip
    group = parser.add_argument_group("training", "the fields of lazygraph.TrainOptions")
    for option in train_options():
        group.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=option.kind,
            choices=option.choices,
            metavar=None if option.choices else option.metavar,
            help=option.text.replace("%", "%%"),
        )
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--ensemble", type=int, metavar="N", help="train N models with consecutive seeds")
    several.add_argument(
        "--folds", metavar="NAME,NAME,...",
        help="train one model for each of these columns of splits, and test each on its own test graphs",
    )  # fmt: skip
    parser.add_argument(
        "--find-learning-rate", action="store_true",
        help="try learning rates on a hundred batches, print the losses and a suggestion, and write nothing",
    )  # fmt: skip
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train the model and print the scores."""
    from lazygraph.training.cross_validation import cross_validate
    from lazygraph.training.ensemble import train_ensemble
    from lazygraph.training.module import own_rank
    from lazygraph.training.run import train

    options = _options(arguments)
    # The packages of some networks print to stdout, which is for the JSON alone.
    alone = redirect_stdout(sys.stderr) if arguments.json else nullcontext()
    if arguments.find_learning_rate:
        return _find_learning_rate(arguments, options, alone)
    if arguments.output_dir is None:
        raise InputError("no folder for the run is given; add -o FOLDER")
    where, progress = (arguments.dataset, options, arguments.output_dir), arguments.progress
    with alone:
        if arguments.folds is not None:
            results = cross_validate(*where, arguments.folds.split(","), progress=progress)
        elif arguments.ensemble is not None:
            results = train_ensemble(*where, arguments.ensemble, progress=progress)
        else:
            results = train(*where, progress=progress)
    if own_rank():
        return 0
    if arguments.json:
        say_json(results.to_json(), indent=1)
        return 0
    _say_results(results)
    return 0


def _options(arguments: argparse.Namespace) -> TrainOptions:
    """Return the options of a published training, of a file, and of the command line; the last ones count."""
    from lazygraph.training.models import MODELS
    from lazygraph.training.options import TrainOptions, read_toml
    from lazygraph.training.published import published_options

    values = {} if arguments.config is None else read_toml(arguments.config)
    values.pop("dataset", None)  # the dataset of the run that wrote the options
    given = {option.name: getattr(arguments, option.name) for option in train_options()}
    given |= {"target": arguments.target, "model_options": _pairs("--model-option", arguments.model_options)}
    given |= {"graph_options": _pairs("--graph-option", arguments.graph_options)}
    values |= {name: value for name, value in given.items() if value is not None}
    if arguments.preset_recipe is not None:
        values = published_options(arguments.preset_recipe, **values)
    if arguments.model is None and "model" in values and values["model"] not in MODELS:
        # The file may be a stranger's, as a checkpoint may.
        msg = (
            f"{arguments.config} names the model {values['model']!r}, which would be imported and called; if you trust "
            f"it, name it too: --model {values['model']}"
        )
        raise InputError(msg)
    if arguments.graph is None and values.get("graph") not in (None, *PRESETS):
        msg = (
            f"{arguments.config} names the preset {values['graph']!r}, whose module would be imported; if you trust "
            f"it, name it too: --graph {values['graph']}"
        )
        raise InputError(msg)
    if ":" in f"{arguments.model} {arguments.graph}":
        import_from_here()
    return TrainOptions.of(values)


def _find_learning_rate(
    arguments: argparse.Namespace, options: TrainOptions, alone: AbstractContextManager[Any]
) -> int:
    from lazygraph.training.rate_finder import find_learning_rate

    with alone:
        rates = find_learning_rate(arguments.dataset, options, progress=arguments.progress)
    if arguments.json:
        say_json(asdict(rates), indent=1)
    else:
        for line in str(rates).splitlines():
            say(line)
    return 0


def _say_results(results: Results) -> None:
    if not results.folds:  # whose graphs are in several splits
        seed, column = results.options.split_seed, results.splits
        counts = ", ".join(f"{count} {name}" for name, count in results.graphs.items())
        splits = f"shuffled with seed {seed}" if column is None else f"column {column}"
        left_out = f"; {results.unlabelled} without a label are not used" if results.unlabelled else ""
        say(f"graphs: {counts} ({splits}){left_out}")
    say(
        f"{results.epochs} epochs in {results.seconds['training']:.0f} s; {100 * results.waited:.1f} % waiting for data"
    )
    for name, score in results.scores.items():
        is_energy = results.options.forces is not None and name in results.options.targets
        baseline = "energies of the elements alone" if is_energy else "a mean predictor"
        parts = [_score(score), f"{baseline}: {_score(results.baseline[name])}"]
        say(f"{name}, {score['count']} test graphs: {'; '.join(parts)}")
    for fold, scores in results.folds.items():
        for name, score in scores.items():
            say(f"{fold}: {name}, {score['count']} test graphs: {_score(score)}")
    for name, score in results.terms.items():
        say(f"{name}: {_term(score)}")
    say(f"everything is in {results.folder.path}")


def _score(score: dict[str, Any]) -> str:
    if "accuracy" in score:
        area = f", ROC AUC {score['roc_auc']:.3f}" if "roc_auc" in score else ""
        return f"accuracy {score['accuracy']:.3f}{area}"
    if "mae" not in score:
        return "no labels"
    unit = f" {score['unit']}" if score["unit"] else ""
    determination = "" if score["r2"] is None else f", R2 {score['r2']:.3f}"
    return f"MAE {score['mae']:.4g}{unit}, RMSE {score['rmse']:.4g}{unit}{determination}"


def _term(score: dict[str, Any]) -> str:
    if "mae" not in score:
        return "no labels"
    figures = ", ".join(f"{name} {score[key]:.4g}" for name, key in (("MAE", "mae"), ("RMSE", "rmse")))
    of_labels = f"{score['count']:,} numbers with a standard deviation of {score['deviation']:.4g}"
    return f"{figures} {score['unit']}, {of_labels}"


def _pairs(option: str, texts: list[str]) -> dict[str, Any] | None:
    """Parse ``NAME=VALUE`` texts; None if there are none. Values that are valid JSON are decoded, others are text."""
    out: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (name and separator):
            msg = f"found {option} {text!r}; required: NAME=VALUE, such as hidden=128"
            raise InputError(msg)
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out or None
