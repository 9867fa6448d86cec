"""``find_budget``: the largest batches that a training step survives."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch_geometric.data import Batch

from lazygraph.errors import InputError, NotEnoughMemory
from lazygraph.loading.loader import Loader, loader
from lazygraph.loading.mixing import LoadableDataset, as_dataset
from lazygraph.loading.orders import check_whole
from lazygraph.registry import unknown_name

__all__ = ["find_budget"]

logger = logging.getLogger(__name__)

ANY = 2**40  # more than any batch holds
EPOCHS = 5  # whose heaviest batches are tried
OPTIONS = {"atoms": "max_atoms", "edges": "max_edges", "triplets": "max_triplets", "graphs": "batch_size"}
# What libraries write in a RuntimeError where memory is used up.
MESSAGES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED",
)


def find_budget(
    dataset: LoadableDataset | torch.utils.data.Subset[Any] | torch.utils.data.ConcatDataset[Any],
    step: Callable[[Batch], Any],
    *,
    of: str = "atoms",
    start: int | None = None,
    most: int | None = None,
    tolerance: float = 0.05,
    **options: Any,
) -> int:
    """Find the largest budget whose batches a training step survives.

    The budget is doubled until the step runs out of memory, and then bisected. At each budget, the step gets the
    heaviest batches of five epochs: those with the most atoms, edges, angles and graphs, as far as columns tell them.
    No other batches are read. Later epochs may have slightly heavier batches: use a little less, such as nine tenths.

    The step should do everything that a step of the training does, including the backward pass and the optimiser. It
    changes the model, so give it a copy, or load the weights again. Call this function in one process, without
    collective operations in the step.

    Args:
        dataset: the dataset of the training.
        step: a function of a batch. It runs out of memory by ``torch.OutOfMemoryError``, ``MemoryError``, or a
            ``RuntimeError`` that says so. Other errors are raised.
        of: what the budget counts: ``"atoms"``, ``"edges"``, ``"triplets"`` or ``"graphs"``, for ``max_atoms``,
            ``max_edges``, ``max_triplets`` or ``batch_size``.
        start: the first budget; default the largest graph, below which there is no budget.
        most: the greatest budget to try; default the whole dataset as one batch.
        tolerance: the search ends when the failed and the survived budget differ by less than this share.
        options: other options of :func:`lazygraph.loader`, such as ``device="cuda"``, ``pad="buckets"`` or further
            budgets.

    Returns:
        The largest budget that the step survived.

    Raises:
        InputError: an option is impossible.
        NotEnoughMemory: the step does not survive the first budget.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:50?seed=0", folder.name + "/p.lg", graph="comformer", workers=1, progress=False)
        >>> def step(batch):
        ...     if batch.num_nodes > 300:  # a stand-in for a device that is full
        ...         raise torch.OutOfMemoryError
        >>> 280 < find_budget(lg.LazyGraphDataset(folder.name + "/p.lg"), step, tolerance=0.01) <= 310
        True
        >>> folder.cleanup()
    """
    readable = as_dataset(dataset)
    option = _checked(readable, of, tolerance, options)
    given = {"shuffle": "weights" not in options, "rank": 0, "world_size": 1, **options, "num_workers": 0, "threads": 0}

    make: Any = loader  # whose options are not known here

    def survives(budget: int) -> bool:
        survived = _survives(make(readable, **given, **{option: budget}), step)
        logger.info("%s=%d: %s", option, budget, "survived" if survived else "out of memory")
        return survived

    sizes = make(readable, **given, **{option: ANY}).known_sizes().get(of)
    least, whole = (1, len(readable)) if sizes is None else (max(int(sizes.max()), 1), int(sizes.sum()))
    for name, value in (("start", start), ("most", most)):
        if value is not None:
            check_whole(name, value, least)
    limit = max(whole if most is None else min(most, whole), least)
    found = _largest(survives, least, limit, least if start is None else min(start, limit), tolerance)
    if found is None:
        msg = (
            f"the step runs out of memory with {option}={least}, the least budget that holds the largest graph of "
            f"{readable.path}; use a smaller model, or a subset without large graphs"
        )
        raise NotEnoughMemory(msg)
    return found


def _largest(survives: Callable[[int], bool], least: int, limit: int, start: int, tolerance: float) -> int | None:
    """Return the largest budget from ``least`` to ``limit`` that survives, or None; doubles, then bisects.

    Example:
        >>> _largest(lambda budget: budget <= 70, 1, 1000, 1, 0.01)
        70
    """
    low, high, budget = 0, None, start  # the greatest that survived, and the least that did not
    while True:
        if survives(budget):
            low = budget
        else:
            high = budget
        if high is None:
            if low == limit:
                return low
            budget = min(2 * budget, limit)
        elif high == least:
            return None
        elif low and high - low <= max(tolerance * low, 1):
            return low
        else:
            budget = least if high - least <= 1 else (max(low, least) + high) // 2


def _checked(dataset: LoadableDataset, of: str, tolerance: float, options: Any) -> str:
    """Return the option of the loader that is looked for."""
    if of not in OPTIONS:
        raise InputError(unknown_name("size", of, OPTIONS))
    if not 0 < tolerance < 1:
        msg = f"found tolerance={tolerance!r}; required: a number between 0 and 1"
        raise InputError(msg)
    if len(dataset) == 0:
        msg = f"{dataset.path} has no graphs; give a dataset with at least one graph"
        raise InputError(msg)
    if taken := [name for name in (OPTIONS[of], "num_workers", "threads") if name in options]:
        msg = f"find_budget sets {taken[0]} itself; leave it out"
        raise InputError(msg)
    return OPTIONS[of]


def _survives(trial: Loader, step: Callable[[Batch], Any]) -> bool:
    """Whether the step survives the heaviest batches of a loader."""
    for epoch, number in trial.heaviest_batches(EPOCHS):
        try:
            step(trial.read_batch(epoch, number))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            error.__traceback__ = None  # whose frames hold the tensors of the step
        else:
            continue
        _free()
        return False
    return True


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or its cause, tells that memory is used up."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and any(message.lower() in str(error).lower() for message in MESSAGES):
        return True
    return error.__cause__ is not None and _is_out_of_memory(error.__cause__)


def _free() -> None:
    """Give back what a step has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
