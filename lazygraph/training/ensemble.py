"""The function ``train_ensemble``: several models with different seeds on one dataset."""

from __future__ import annotations

import json
import os
from functools import partial

from torch import distributed

from lazygraph.training.folder import Folder, wait_for
from lazygraph.training.option_types import whole_number
from lazygraph.training.options import TrainOptions
from lazygraph.training.potential import terms_of
from lazygraph.training.predict import Trained, joined, predictions
from lazygraph.training.quiet import quiet
from lazygraph.training.ranks import Ranks
from lazygraph.training.report import scores_of
from lazygraph.training.residuals import Composition, worst_of
from lazygraph.training.results import Results, write_results
from lazygraph.training.run import claimed, prepare, train, trainer_of

__all__ = ["train_ensemble"]


@quiet()
def train_ensemble(
    path: str | os.PathLike[str],
    options: TrainOptions,
    output_dir: str | os.PathLike[str],
    members: int,
    *,
    progress: bool = True,
) -> Results:
    """Train several models that differ in the seed of weights and order, but have the same split.

    The members are trained one after another. They read the same files, so the operating system keeps one copy in
    memory. Finished members are not trained again. Several processes train each member together. Every process returns
    all predictions, and the first process writes them.

    Args:
        path: the dataset directory.
        options: the options of a run; member k has the seed ``options.seed + k``.
        output_dir: the folder of the ensemble, with one folder per member and the joint predictions, scores and plots.
        members: number of members.
        progress: show progress bars.

    Returns:
        The results of :func:`train` for the mean of the models. ``checkpoint`` belongs to the first member.

    Raises:
        InputError: fewer than two members, or seeds beyond 4294967295. Also the errors of :func:`train`.
        OutputExists: the folder, or the folder of a member, holds a run with other options, labels, units or splits.
    """
    members = whole_number("members", members, 2)
    folder = Folder.of(output_dir)
    of_members = [options.changed(seed=options.seed + number) for number in range(members)]
    ranks = Ranks.of(trainer_of(options, logger=False, enable_checkpointing=False, enable_progress_bar=False))
    _, _, data, identity, _ = ranks.together(partial(prepare, path, options))
    claimed(folder, options.to_json() | {"dataset": identity | {"members": members}}, ranks)
    runs, models = [], []
    for number, settings in enumerate(of_members):
        member = folder.member(number)
        if not member.results.exists():
            train(path, settings, member.path, progress=progress)
        wait_for(member.results)
        # A member that was trained before must have the same options and data, also if the dataset has changed since.
        member.check_same(settings.to_json() | {"dataset": identity})
        runs.append(json.loads(member.results.read_text(encoding="utf-8")))
        models.append(Trained.load(member.path, options.model))
    targets = models[0].module.targets
    told = [predictions(model, data.splits["test"], progress and ranks.is_first) for model in models]
    rows = joined(told, targets)
    results = Results(
        options=options,
        members=members,
        parameters=runs[0]["parameters"],
        graphs=runs[0]["graphs"],
        scores=scores_of(rows, targets),
        terms=terms_of(models[0].module, rows),
        baseline=runs[0]["baseline"],
        predictions=rows,
        worst=worst_of(rows, targets, Composition.of(data.splits["test"], rows)),
        checkpoint=folder.member(0).path / runs[0]["checkpoint"],
        folder=folder,
        epochs=sum(run["epochs"] for run in runs),
        seconds={name: sum(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]},
        waited=sum(run["waited"] for run in runs) / members,
        quarantined=runs[0]["quarantined"],
        unlabelled=runs[0]["unlabelled"],
        in_no_split=runs[0]["in_no_split"],
        splits=runs[0]["splits"],
    )
    if ranks.is_first:
        write_results(results, targets, data.splits["test"])
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()  # a later call finds the files
    return results
