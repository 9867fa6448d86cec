"""Crystal graphs on disk: written in parallel, read by index, shared safely.

Importing lazygraph is fast: torch is imported at the first use of a name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lazygraph.errors import (
    ContentMismatch,
    CorruptDataset,
    DatasetNotFound,
    DatasetReplaced,
    InputError,
    LazyGraphError,
    OutputExists,
    RecipeError,
    RecipeMismatch,
    StructureError,
    TransferError,
)

if TYPE_CHECKING:
    from lazygraph import executors
    from lazygraph.crystal import Crystal
    from lazygraph.graphs.crystal_graph import CrystalGraph
    from lazygraph.graphs.spec import GraphSpec, graph
    from lazygraph.loading.dataset import LazyGraphDataset
    from lazygraph.loading.graph_list import collate
    from lazygraph.loading.loader import Loader, loader
    from lazygraph.loading.memory_probe import find_budget
    from lazygraph.loading.mixing import Mix, mix
    from lazygraph.reading.augment import Rattle, Rotate, Strain, Supercell
    from lazygraph.reading.crystal_batch import CrystalBatch
    from lazygraph.reading.diff import diff
    from lazygraph.reading.views import View, view
    from lazygraph.sharing.export import ExportReport, export
    from lazygraph.sharing.pull import pull
    from lazygraph.sharing.push import push
    from lazygraph.sharing.report import report
    from lazygraph.training import models
    from lazygraph.training.cross_validation import cross_validate
    from lazygraph.training.data import LazyGraphDataModule
    from lazygraph.training.ensemble import train_ensemble
    from lazygraph.training.from_list import train_from_list
    from lazygraph.training.options import TrainOptions
    from lazygraph.training.predict import predict
    from lazygraph.training.rate_finder import find_learning_rate
    from lazygraph.training.run import train
    from lazygraph.writing.copy import concat, subset
    from lazygraph.writing.count import count
    from lazygraph.writing.duplicates import duplicates
    from lazygraph.writing.edit import set_splits
    from lazygraph.writing.graph_writer import GraphWriter
    from lazygraph.writing.remove import remove
    from lazygraph.writing.write import Report, append, retry_quarantined, write

__all__ = [
    "ContentMismatch",
    "CorruptDataset",
    "Crystal",
    "CrystalBatch",
    "CrystalGraph",
    "DatasetNotFound",
    "DatasetReplaced",
    "ExportReport",
    "GraphSpec",
    "GraphWriter",
    "InputError",
    "LazyGraphDataModule",
    "LazyGraphDataset",
    "LazyGraphError",
    "Loader",
    "Mix",
    "OutputExists",
    "Rattle",
    "RecipeError",
    "RecipeMismatch",
    "Report",
    "Rotate",
    "Strain",
    "StructureError",
    "Supercell",
    "TrainOptions",
    "TransferError",
    "View",
    "append",
    "collate",
    "concat",
    "count",
    "cross_validate",
    "diff",
    "duplicates",
    "executors",
    "export",
    "find_budget",
    "find_learning_rate",
    "graph",
    "loader",
    "mix",
    "models",
    "predict",
    "pull",
    "push",
    "remove",
    "report",
    "retry_quarantined",
    "set_splits",
    "subset",
    "train",
    "train_ensemble",
    "train_from_list",
    "view",
    "write",
]

__version__ = "0.2.0"

_HOMES = {
    "Crystal": "crystal",
    "CrystalBatch": "reading.crystal_batch",
    "CrystalGraph": "graphs.crystal_graph",
    "ExportReport": "sharing.export",
    "GraphSpec": "graphs.spec",
    "GraphWriter": "writing.graph_writer",
    "LazyGraphDataModule": "training.data",
    "LazyGraphDataset": "loading.dataset",
    "Loader": "loading.loader",
    "Mix": "loading.mixing",
    "Rattle": "reading.augment",
    "Report": "writing.write",
    "Rotate": "reading.augment",
    "Strain": "reading.augment",
    "Supercell": "reading.augment",
    "TrainOptions": "training.options",
    "View": "reading.views",
    "append": "writing.write",
    "collate": "loading.graph_list",
    "concat": "writing.copy",
    "count": "writing.count",
    "cross_validate": "training.cross_validation",
    "diff": "reading.diff",
    "duplicates": "writing.duplicates",
    "export": "sharing.export",
    "find_budget": "loading.memory_probe",
    "find_learning_rate": "training.rate_finder",
    "graph": "graphs.spec",
    "loader": "loading.loader",
    "mix": "loading.mixing",
    "predict": "training.predict",
    "pull": "sharing.pull",
    "push": "sharing.push",
    "remove": "writing.remove",
    "report": "sharing.report",
    "retry_quarantined": "writing.write",
    "set_splits": "writing.edit",
    "subset": "writing.copy",
    "train": "training.run",
    "train_ensemble": "training.ensemble",
    "train_from_list": "training.from_list",
    "view": "reading.views",
    "write": "writing.write",
}
_MODULES = {"executors": "executors", "models": "training.models"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"lazygraph.{_MODULES[name]}")
    if name not in _HOMES:
        msg = f"module 'lazygraph' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"lazygraph.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
