"""The function ``cross_validate``: one model for each fold of a dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import distributed

from lazygraph.errors import InputError
from lazygraph.training.folder import Folder, wait_for
from lazygraph.training.options import TrainOptions
from lazygraph.training.predict import Trained, predictions
from lazygraph.training.quiet import quiet
from lazygraph.training.ranks import Ranks
from lazygraph.training.report import scores_of
from lazygraph.training.residuals import Composition, worst_of
from lazygraph.training.results import Results, write_results
from lazygraph.training.run import baseline_of, claimed, prepare, train, trainer_of

__all__ = ["cross_validate"]


@quiet()
def cross_validate(
    path: str | os.PathLike[str],
    options: TrainOptions,
    output_dir: str | os.PathLike[str],
    folds: Sequence[str],
    *,
    progress: bool = True,
) -> Results:
    """Train one model for each of several columns of splits, such as the folds of ``lazygraph split --folds 5``.

    Every model is tested on the test graphs of its own column. ``predict`` with the folder returns the mean of the
    models and its standard deviation, as for an ensemble. Finished folds are not trained again.

    Args:
        path: the dataset directory.
        options: the options of a run; ``splits`` must be None. Fold k has the seed ``options.seed + k``.
        output_dir: the folder, with one folder ``member-k`` per fold.
        folds: the columns of splits, at least two. No graph may be in the test split of two of them.
        progress: show progress bars.

    Returns:
        ``predictions`` has the test graphs of all folds, in this order. ``scores`` and ``baseline`` are computed over
        all of them together, and ``folds`` has the scores of each fold.

    Raises:
        InputError: fewer than two folds, a graph is tested twice, or ``options.splits`` is given. Also the errors of
            :func:`train`.
        OutputExists: the folder, or the folder of a fold, holds a run with other options, labels, units or splits.
    """
    if isinstance(folds, str) or len(folds) < 2 or len(set(folds)) < len(folds):
        msg = f"found folds={folds!r}; required: at least two different columns of splits, such as ['fold_0', 'fold_1']"
        raise InputError(msg)
    if options.splits is not None:
        msg = f"found splits={options.splits!r} and folds; each fold has splits of its own, so leave splits out"
        raise InputError(msg)
    if options.forces is not None:
        raise InputError("folds are not supported with forces; train each fold with splits= in a folder of its own")
    folder = Folder.of(output_dir)
    ranks = Ranks.of(trainer_of(options, logger=False, enable_checkpointing=False, enable_progress_bar=False))
    settings = {name: options.changed(splits=name, seed=options.seed + k) for k, name in enumerate(folds)}
    prepared = {name: ranks.together(partial(prepare, path, each)) for name, each in settings.items()}
    dataset = next(iter(prepared.values())).dataset
    tests = {name: np.asarray(each.data.splits["test"].indices()) for name, each in prepared.items()}
    rows_of_tests = np.concatenate(list(tests.values()))
    values, counts = np.unique(rows_of_tests, return_counts=True)
    if (counts > 1).any():
        graph_id = str(dataset.index_select(values[counts > 1][:1]).ids[0])
        msg = (
            f"{int((counts > 1).sum())} graphs are in the test split of more than one fold, the first {graph_id!r}; "
            "use columns of one cross-validation ('lazygraph split --folds')"
        )
        raise InputError(msg)
    identity = {name: each.identity for name, each in prepared.items()}
    claimed(folder, options.to_json() | {"dataset": _joined(identity)}, ranks)
    runs, found, guesses = [], [], []
    scores: dict[str, Any] = {}
    for number, (name, each) in enumerate(settings.items()):
        member = folder.member(number)
        if not member.results.exists():
            train(path, each, member.path, progress=progress)
        wait_for(member.results)
        member.check_same(each.to_json() | {"dataset": identity[name]})
        runs.append(json.loads(member.results.read_text(encoding="utf-8")))
        model, splits = Trained.load(member.path, options.model), prepared[name].data.splits
        own = predictions(model, splits["test"], progress and ranks.is_first)
        found += own
        guesses += baseline_of(model.module, own, splits)
        scores[name] = runs[-1]["test"]
        targets = model.module.targets
    test = dataset.index_select(rows_of_tests)
    results = Results(
        options=options,
        members=len(folds),
        parameters=runs[0]["parameters"],
        graphs={name: sum(run["graphs"][name] for run in runs) for name in runs[0]["graphs"]},
        scores=scores_of(found, targets),
        folds=scores,
        baseline=scores_of(guesses, targets),
        predictions=found,
        worst=worst_of(found, targets, Composition.of(test, found)),
        checkpoint=folder.member(0).path / runs[0]["checkpoint"],
        folder=folder,
        epochs=sum(run["epochs"] for run in runs),
        seconds={name: sum(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]},
        waited=sum(run["waited"] for run in runs) / len(runs),
        quarantined=runs[0]["quarantined"],
        unlabelled=runs[0]["unlabelled"],
        in_no_split=runs[0]["in_no_split"],
        splits=", ".join(folds),
    )
    if ranks.is_first:
        write_results(results, targets, test)
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()  # a later call finds the files
    return results


def _joined(identities: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one identity for all folds, with their digests one after another."""
    first, *_ = identities.values()
    splits = {name: "; ".join(each["splits"][name] for each in identities.values()) for name in first["splits"]}
    labels = {
        name: {**of, "values": "; ".join(each["labels"][name]["values"] for each in identities.values())}
        for name, of in first["labels"].items()
    }
    return {**first, "splits": splits, "labels": labels, "folds": list(identities)}
