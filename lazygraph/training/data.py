"""The class ``LazyGraphDataModule``: training, validation and test loaders for Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import lightning
import numpy as np
import torch
from torch_geometric.data import Batch

from lazygraph.errors import InputError
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.loader import Loader, loader
from lazygraph.loading.mixing import LoadableDataset
from lazygraph.registry import unknown_name
from lazygraph.writing.shares import shuffled
from lazygraph.writing.splits import DEFAULT, SPLITS, SplitRule, split_codes

__all__ = ["LazyGraphDataModule", "check_ratios", "column_of_splits", "split_dataset", "with_labels"]

D = TypeVar("D", bound=LoadableDataset)


def column_of_splits(dataset: LazyGraphDataset, name: str | None = None) -> str | None:
    """Return the column with the training, validation and test splits; None if the dataset has no splits.

    Args:
        dataset: all graphs.
        name: the column, if the dataset has several; None for the default one, if there is one.

    Raises:
        InputError: there is no column of splits with this name, or it has only some of the three splits.
    """
    columns = dataset.manifest.splits()
    if name is not None and name not in columns:
        hint = "" if columns else f"; 'lazygraph split {dataset.path} 0.8,0.1,0.1 --name {name}' makes one"
        raise InputError(unknown_name("column of splits", name, columns) + hint)
    column = columns.get(name or DEFAULT)
    found = set() if column is None else set(column.categories or ())
    if (found or name) and not set(SPLITS) <= found:
        # Splitting it again would train on graphs that somebody has kept for testing.
        where = f" in the column {name!r}" if name else ""
        required = "train, val and test" if name else "train, val and test, or none at all"
        has = f"the splits {', '.join(sorted(found))}" if found else "no splits"
        msg = f"{dataset.path} has {has}{where}; required: {required}"
        raise InputError(msg)
    return (name or DEFAULT) if found else None


def with_labels(dataset: LazyGraphDataset, targets: Sequence[str]) -> LazyGraphDataset:
    """Return the graphs that have a finite value of at least one target, in their order."""
    there = np.zeros(len(dataset), dtype=bool)
    for target in targets:
        there |= np.isfinite(dataset.columns[target].reshape(len(dataset), -1)).any(axis=1)
    return dataset if there.all() else dataset.index_select(np.flatnonzero(there))


def split_dataset(
    dataset: D,
    ratios: Sequence[float] | None = None,
    seed: int = 123,
    *,
    counts: Sequence[int] | None = None,
    of: str = DEFAULT,
) -> dict[str, D]:
    """Return the training, validation and test graphs as ``train``, ``val`` and ``test``.

    Args:
        dataset: all graphs; of a mix, every member is split by its own splits, or all graphs together by ratios.
        ratios: the share of each, shuffled as the published crystal networks do; None for the dataset's own splits.
        seed: random seed of the shuffle.
        counts: the number of graphs of each, instead of the ratios.
        of: the column of the dataset's own splits, if it has several.

    Raises:
        InputError: the dataset has no such splits, a split with a positive ratio would have no graphs, or there are
            fewer graphs than ``counts``.
    """
    if counts is not None:
        if sum(counts) > len(dataset):
            msg = (
                f"train, val and test shall have {', '.join(map(str, counts))} graphs, together {sum(counts)}, but "
                f"only {len(dataset)} graphs can be split; use lower counts, or ratios"
            )
            raise InputError(msg)
        codes = shuffled(len(dataset), counts, seed)
    elif ratios is None:
        return {name: cast("D", dataset.split(name, of=of)) for name in SPLITS}
    else:
        check_ratios(len(dataset), ratios)
        rule = SplitRule(ratios, seed)
        codes = split_codes(len(dataset), rule.fractions, rule.seed)
    return {name: cast("D", dataset.index_select(np.flatnonzero(codes == code))) for code, name in enumerate(SPLITS)}


def check_ratios(n: int, ratios: Sequence[float]) -> None:
    """Refuse ratios that leave a requested split of n graphs empty."""
    for name, ratio in zip(SPLITS, ratios, strict=True):
        if ratio > 0 and int(ratio * n) == 0:
            msg = (
                f"{n} graphs are too few for the ratios {tuple(ratios)}: {name} would get no graph; use more graphs, "
                "or other ratios"
            )
            raise InputError(msg)


class LazyGraphDataModule(lightning.LightningDataModule):
    """A Lightning data module with the loaders of a dataset's splits.

    Validation, test and prediction read in order, in batches of ``min(4 x batch_size, 128)``, without augmentation and
    without ``batch_transform``. With ``drop_last_val``, the validation has batches of ``batch_size``. The loaders share
    each epoch between the ranks, and checkpoints save their state.

    Args:
        dataset: all graphs, opened with the target for ``y``; or a mix of several datasets (:func:`lazygraph.mix`).
        ratios: shares of train, val and test; None for the dataset's own splits.
        seed: random seed of the order.
        split_seed: random seed of the split by ratios or counts.
        counts: numbers of graphs of train, val and test, instead of the ratios.
        drop_last_val: leave out the last batch of a validation if it is not full.
        splits: the column of the dataset's own splits, if it has several, such as ``"fold_0"``.
        options: options of :func:`lazygraph.loader`, such as ``batch_size=64`` or ``max_atoms=4000``.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:50?seed=0", folder.name + "/p.lg", graph="comformer", workers=1, progress=False)
        >>> data = LazyGraphDataModule(lg.LazyGraphDataset(folder.name + "/p.lg"), (0.8, 0.1, 0.1), batch_size=8)
        >>> len(data.train_dataloader()), len(data.val_dataloader())
        (5, 1)
        >>> folder.cleanup()
    """

    def __init__(
        self,
        dataset: LoadableDataset,
        ratios: Sequence[float] | None = None,
        *,
        seed: int = 123,
        split_seed: int = 123,
        counts: Sequence[int] | None = None,
        drop_last_val: bool = False,
        splits: str = DEFAULT,
        **options: Any,
    ) -> None:
        super().__init__()
        self.splits: dict[str, Any] = split_dataset(dataset, ratios, split_seed, counts=counts, of=splits)
        self._drop_last_val = drop_last_val
        self._options = {"shuffle": True, "seed": seed, **options}
        self.train = loader(self.splits["train"], **self._options)

    @property
    def batch_size(self) -> int | None:
        """Graphs in a training batch; None if only budgets limit it. Lightning's ``Tuner`` sets it."""
        return self.train.batch_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        self.train.close()
        self._options["batch_size"] = batch_size
        self.train = loader(self.splits["train"], **self._options)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy a pinned batch while the device computes."""
        if isinstance(batch, Batch):
            return batch.to(device, non_blocking=True)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def train_dataloader(self) -> Loader:
        """Return the loader of the training graphs, shuffled in every epoch."""
        if self.trainer is not None:
            # Lightning asks for the length before it restores where the loader was; budgets make it another each epoch.
            self.train.set_epoch(self.trainer.current_epoch)
        return self.train

    def val_dataloader(self) -> Loader:
        """Return the loader, in order."""
        return self.train.evaluation(self.splits["val"].unaugmented(), drop_last=self._drop_last_val)

    def test_dataloader(self) -> Loader:
        """Return the loader, in order."""
        return self.train.evaluation(self.splits["test"].unaugmented())

    def predict_dataloader(self) -> Loader:
        """Return the loader of the test graphs, in order."""
        return self.test_dataloader()
