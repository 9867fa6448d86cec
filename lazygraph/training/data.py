"""``LazyGraphDataModule``: the training, validation and test loaders of a dataset, for Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np

from lazygraph.errors import InputError
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.loading.loader import Loader, loader
from lazygraph.writing.splits import SPLITS, SplitRule

__all__ = ["LazyGraphDataModule", "check_ratios", "has_splits", "split_dataset"]


def has_splits(dataset: LazyGraphDataset) -> bool:
    """Whether the dataset has splits of its own for training, validation and test; InputError where it lacks some."""
    column = dataset.manifest.columns.get("split")
    found = set() if column is None else set(column.categories or ())
    if found and not set(SPLITS) <= found:
        # To split it anew would train on graphs that somebody has kept for testing.
        msg = f"{dataset.path} has the splits {', '.join(sorted(found))}; required: train, val and test, or none at all"
        raise InputError(msg)
    return bool(found)


def split_dataset(
    dataset: LazyGraphDataset, ratios: Sequence[float] | None = None, seed: int = 123
) -> dict[str, LazyGraphDataset]:
    """The training, validation and test graphs: ``train``, ``val`` and ``test``.

    Args:
        dataset: all graphs.
        ratios: the share of each, shuffled as the published crystal networks do; None for the dataset's own splits.
        seed: of the shuffle.

    Raises:
        InputError: the dataset has no such splits, or one of them would be without graphs though it is asked for.
    """
    if ratios is None:
        return {name: dataset.split(name) for name in SPLITS}
    check_ratios(len(dataset), ratios)
    codes = SplitRule(ratios, seed).codes(len(dataset), None)
    return {name: dataset[np.flatnonzero(codes == code)] for code, name in enumerate(SPLITS)}


def check_ratios(n: int, ratios: Sequence[float]) -> None:
    """Refuse ratios by which a split of n graphs would be without graphs though it is asked for."""
    for name, ratio in zip(SPLITS, ratios, strict=True):
        if ratio > 0 and int(ratio * n) == 0:
            msg = (
                f"found {n} graphs, of which {name} would get none at the ratios {tuple(ratios)}; "
                "required: more graphs, or other ratios"
            )
            raise InputError(msg)


class LazyGraphDataModule(lightning.LightningDataModule):
    """Loaders of a dataset's splits, with the options of :func:`lazygraph.loader`.

    Validation, test and prediction read in order, in batches of ``min(4 x batch_size, 128)``. The loaders share the
    epochs of a run over its ranks, and their state is saved in its checkpoints.

    Args:
        dataset: all graphs, with the target that ``y`` is to be.
        ratios: shares of train, val and test; None for the dataset's own splits.
        seed: of the order.
        split_seed: of the split by ratios.
        options: of the loader, such as ``batch_size=64`` or ``max_atoms=4000``.

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
        dataset: LazyGraphDataset,
        ratios: Sequence[float] | None = None,
        *,
        seed: int = 123,
        split_seed: int = 123,
        **options: Any,
    ) -> None:
        super().__init__()
        self.splits = split_dataset(dataset, ratios, split_seed)
        self._options = {"shuffle": True, "seed": seed, **options}
        self.train = loader(self.splits["train"], **self._options)

    @property
    def batch_size(self) -> int | None:
        """Graphs in a batch of training; None where only budgets limit it. Lightning's ``Tuner`` sets it."""
        return self.train.batch_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        self.train.close()
        self._options["batch_size"] = batch_size
        self.train = loader(self.splits["train"], **self._options)

    def train_dataloader(self) -> Loader:
        """Shuffled, another order in every epoch."""
        if self.trainer is not None:
            # Lightning asks for the length before it restores where the loader was; budgets make it another each epoch.
            self.train.set_epoch(self.trainer.current_epoch)
        return self.train

    def val_dataloader(self) -> Loader:
        """In order."""
        return self.train.evaluation(self.splits["val"])

    def test_dataloader(self) -> Loader:
        """In order."""
        return self.train.evaluation(self.splits["test"])

    def predict_dataloader(self) -> Loader:
        """The test graphs, in order."""
        return self.test_dataloader()
