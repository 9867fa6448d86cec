"""Checks of labels, sizes and elements before training begins, so that a mistake does not cost hours.

What makes a run fail, at once or after many batches, is an error here. What makes a run pointless but possible is a
warning. Both give counts, the first ids, and the option or command that helps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.graph_list import collate
from lazygraph.text import printable
from lazygraph.training.data import LazyGraphDataModule
from lazygraph.training.module import TrainedModule, training_steps
from lazygraph.training.options import TrainOptions

__all__ = ["check_labels", "check_network", "check_sizes", "first_ids"]

NAMED = 3  # ids of a message
FEW = 10  # different values that look like classes ...
MANY = 20  # ... if each of them stands for so many training labels on average


def check_labels(splits: Mapping[str, LazyGraphDataset], options: TrainOptions) -> None:
    """Warn of labels that are missing, of which there is nothing to learn, or that look like classes.

    Args:
        splits: the graphs of ``train``, ``val`` and ``test``.
        options: the options of the training.
    """
    for label in options.targets:
        values = {name: _components(part, label) for name, part in splits.items()}
        _warn_of_missing(splits, label, values)
        if options.task == "classification":
            _warn_of_unknown_classes(splits, label, values)
        else:
            _warn_of_equal_values(label, values["train"], options)


def check_sizes(data: LazyGraphDataModule, options: TrainOptions) -> None:
    """Check the batches against the number of graphs, and warn of graphs without edges.

    Args:
        data: the loaders. They have refused graphs that are larger than ``max_atoms`` or ``max_edges``.
        options: the options of the training.

    Raises:
        InputError: ``drop_last`` leaves no batch for training, or none for a validation that the options need; or the
            training has no more steps than ``warmup_steps``.
    """
    limit = ", ".join(
        f"{name}={value}"
        for name in ("batch_size", "max_atoms", "max_edges")
        if (value := getattr(options, name)) is not None
    )
    for name, loader in (("train", data.train), ("val", data.val_dataloader())):
        if len(loader):
            continue
        msg = (
            f"drop_last={options.drop_last!r} leaves no batch, because the {len(data.splits[name])} graphs of {name} "
            f"do not fill one batch ({limit}); use smaller batches, more graphs, or drop_last='none' (--drop-last none)"
        )
        if name == "train" or options.weights == "best" or options.patience or options.schedule == "plateau":
            raise InputError(msg)
        _warn(f"this run has no validation: {msg}")
    training_steps(len(data.train), options)
    n = len(data.splits["train"])
    if options.batch_size is not None and options.batch_size > n:
        _warn(
            f"batch_size={options.batch_size} is more than the {n} training graphs, so every epoch is a single step; a "
            f"smaller batch_size (--batch-size) gives more steps"
        )
    _warn_of_isolated_atoms(data, options)


def check_network(module: TrainedModule, dataset: LazyGraphDataset, splits: Mapping[str, LazyGraphDataset]) -> None:
    """Run the network once on a few graphs that hold every element, before it is trained and moved to a device.

    The graphs are the smallest one with each element, and the smallest one without edges. The network does not train:
    its weights, its running means and torch's random numbers stay as they are.

    Args:
        module: the network, on the CPU.
        dataset: all graphs.
        splits: the graphs of the run.

    Raises:
        InputError: the network or its view fails for some of the graphs, or gives NaN. The message names the elements
            that the other graphs do not have.
        Exception: the network fails for every graph; this is its own error. On a machine with a GPU, training tries.
    """
    rows = np.concatenate([np.asarray(part.indices(), dtype=np.int64) for part in splits.values()])
    used = dataset[np.unique(rows)]
    probes = _probes(used)
    was_training = module.training
    module.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            failures = _failures(module, used, probes)
    finally:
        module.train(was_training)
    error = next(iter(failures.values()), None)
    # A network that fails for every graph may need the GPU, on which it will train.
    if error is None or (len(failures) == len(probes) and torch.cuda.is_available()):
        return
    if len(failures) == len(probes) and not isinstance(error, InputError):
        raise error
    raise InputError(_told(module, used, probes, failures)) from error


def first_ids(ids: Sequence[str] | NDArray[np.str_]) -> str:
    """Return the first three of some ids for a message.

    Example:
        >>> first_ids(["a", "b", "c", "d"])
        "'a', 'b', 'c', ..."
    """
    return ", ".join(repr(str(each)) for each in ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")


def _components(part: LazyGraphDataset, label: str) -> NDArray[np.float64]:
    """Return the components of a label, (n, components), also of no graph."""
    values = np.asarray(part.columns[label], dtype=np.float64)
    return values.reshape(len(part), math.prod(values.shape[1:]))


def _warn_of_missing(
    splits: Mapping[str, LazyGraphDataset], label: str, values: Mapping[str, NDArray[np.float64]]
) -> None:
    missing = {name: np.flatnonzero(np.isnan(of).all(axis=1)) for name, of in values.items()}
    if not any(map(len, missing.values())):
        return
    counts = ", ".join(f"{len(of):,} of the {len(splits[name]):,} graphs of {name}" for name, of in missing.items())
    first = first_ids(np.concatenate([splits[name].ids[of] for name, of in missing.items()]))
    test = values["test"]
    scores = "; without a label in test there are no scores" if len(test) and len(missing["test"]) == len(test) else ""
    _warn(
        f"{label!r} has no value in {counts} (the first: {first}). They do not count in the loss and the scores of "
        f"this target{scores}. 'lazygraph labels' adds values"
    )


def _warn_of_equal_values(label: str, values: NDArray[np.float64], options: TrainOptions) -> None:
    """Warn of components of a label with one value, with a value that most graphs have, or with few values."""
    constant = []
    for k, column in enumerate(values.T):
        name = label if values.shape[1] == 1 else f"{label}[{k}]"
        different, counts = np.unique(column[np.isfinite(column)], return_counts=True)
        n, most = int(counts.sum()), int(counts.max(initial=0))
        value = f"{different[counts.argmax()]:g}" if n else ""
        if len(different) == 1 and n > 1:
            constant.append(f"{name} ({value})")
        elif 1 < len(different) <= FEW and n >= MANY * len(different):
            listed = ", ".join(f"{each:g}" for each in different)
            _warn(
                f"the {n:,} training labels of {name!r} have only {len(different)} different values ({listed}); if "
                "these are classes, use task='classification' (--task classification)"
            )
        elif 2 * most > n >= MANY and options.loss == "l1":
            _warn(
                f"{most:,} of the {n:,} training labels of {name!r} are {value}. The loss 'l1' is low for a network "
                f"that always predicts {value}; loss='mse' or 'huber' (--loss) gives the other graphs more weight"
            )
    if constant:
        _warn(
            f"all training labels are equal, so there is nothing to learn, for {', '.join(constant[:NAMED])}"
            f"{', ...' if len(constant) > NAMED else ''}; choose another target (--target)"
        )


def _warn_of_unknown_classes(
    splits: Mapping[str, LazyGraphDataset], label: str, values: Mapping[str, NDArray[np.float64]]
) -> None:
    known = np.unique(values["train"])
    for name in ("val", "test"):
        column = values[name][:, 0]
        strange = np.flatnonzero(np.isfinite(column) & ~np.isin(column, known))
        if len(strange):
            listed = ", ".join(f"{each:g}" for each in np.unique(column[strange])[:NAMED])
            _warn(
                f"{len(strange):,} of the {len(column):,} graphs of {name} have a class of {label!r} that no training "
                f"graph has ({listed}; the first graphs: {first_ids(splits[name].ids[strange])}); every prediction for "
                "them is wrong. 'lazygraph split --stratify' gives each split every class"
            )


def _warn_of_isolated_atoms(data: LazyGraphDataModule, options: TrainOptions) -> None:
    parts = [part for part in data.splits.values() if len(part)]
    spec = parts[0].spec
    if not parts[0].view.needs_edges or spec is None or "n_edges" not in parts[0].columns:
        return
    ids = np.concatenate([part.ids[part.columns["n_edges"] == 0] for part in parts])
    if len(ids):
        _warn(
            f"{len(ids):,} of the {sum(map(len, parts)):,} graphs have no edges (the first: {first_ids(ids)}), so the "
            f"model {options.model!r} sees their atoms but no distance. A larger cutoff gives them edges "
            f"(graph_options={{'cutoff': ...}}, --graph-option cutoff=...); 'lazygraph subset --where \"n_edges > 0\"' "
            "leaves them out"
        )


def _probes(used: LazyGraphDataset) -> list[int]:
    """Return the positions of the smallest graph with each element, and of the smallest one without edges."""
    if not len(used):
        return []
    columns = used.columns
    atoms = columns["n_atoms"] if "n_atoms" in columns else np.ones(len(used), dtype=np.int64)
    edges = columns.get("n_edges", atoms)
    # Graphs with edges first, because one without may fail for another reason than its elements.
    order = np.lexsort((atoms, edges, edges == 0))
    found = {int(order[0])}
    if "formula" in columns:
        formulas, first = np.unique(columns.raw("formula")[order], return_index=True)
        seen: set[bytes] = set()
        for place in np.argsort(first, kind="stable").tolist():
            symbols = set(_symbols(formulas[place])) - seen
            if symbols:
                seen |= symbols
                found.add(int(order[first[place]]))
    isolated = order[edges[order] == 0]
    return sorted(found | {int(each) for each in isolated[:1]})


def _failures(module: TrainedModule, used: LazyGraphDataset, probes: Sequence[int]) -> dict[int, Exception]:
    """Return the error of each graph for which the view or the network fails.

    Raises:
        InputError: the outputs have the wrong shape, which is no matter of a single graph.
    """
    graphs: dict[int, Data] = {}
    found: dict[int, Exception] = {}
    for position in probes:
        try:
            graphs[position] = used[position]
        except CorruptDataset:
            raise
        except Exception as error:  # noqa: BLE001  # the view may belong to a plug-in, which raises anything
            found[position] = error
    if not graphs or _error_of(module, list(graphs.values())) is None:
        return found
    for position, graph in graphs.items():
        error_of = _error_of(module, [graph])
        if error_of is not None:
            found[position] = error_of
    return found


def _error_of(module: TrainedModule, graphs: Sequence[Data]) -> Exception | None:
    """Return the error of the network for a batch of graphs, also if an output is NaN.

    Raises:
        InputError: the outputs have the wrong shape.
    """
    try:
        # With gradients, which a network that derives forces from energies needs.
        out: Any = module(collate(graphs))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  # a network may raise anything
        return error
    # A potential gives forces too, and perhaps no stress.
    each = [one for one in (out if isinstance(out, tuple) else (out,)) if isinstance(one, Tensor)]
    if not all(bool(one.detach().isfinite().all()) for one in each):
        return InputError("its output is NaN or infinite")
    return None


def _told(
    module: TrainedModule, used: LazyGraphDataset, probes: Sequence[int], failures: Mapping[int, Exception]
) -> str:
    """Return the message about graphs for which the network fails."""
    error = next(iter(failures.values()))
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    columns = used.columns
    strange, affected = [], np.array(list(failures), dtype=np.int64)
    if "formula" in columns:
        formulas = columns.raw("formula")
        passed = {symbol for position in probes if position not in failures for symbol in _symbols(formulas[position])}
        failed = {symbol for position in failures for symbol in _symbols(formulas[position])}
        strange = sorted(symbol.decode() for symbol in failed - passed)
    if strange:
        having = columns.operand("elements")
        affected = np.flatnonzero(having.any_of(strange))
        condition = " and ".join(f"'{symbol}' not in elements" for symbol in strange)
        what, leave_out = f" with {', '.join(strange)}", f' --where "{condition}"'
    elif "n_edges" in columns and (columns["n_edges"][affected] == 0).all():
        affected = np.flatnonzero(columns["n_edges"] == 0)
        what, leave_out = " without edges", ' --where "n_edges > 0"'
    else:
        what, leave_out = "", ""
    return (
        f"the model {module.options.model!r} fails for graphs{what}: {reason}. These are {len(affected):,} of the "
        f"{len(used):,} graphs, the first: {first_ids(used.ids[affected])}. Leave them out "
        f"('lazygraph subset OLD.lg -o NEW.lg{leave_out}'), or choose another model or other model_options"
    )


def _symbols(formula: bytes) -> list[bytes]:
    return re.findall(rb"[A-Z][a-z]?", formula)


def _warn(message: str) -> None:
    rank_zero_warn(printable(message), category=UserWarning, stacklevel=4)
