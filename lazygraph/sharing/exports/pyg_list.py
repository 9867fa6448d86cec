"""A list of PyG ``Data`` in a file of torch, with edges and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import NotEnoughMemory
from lazygraph.machine import memory_limit
from lazygraph.sharing.exports.base import Contents, GraphFormat

__all__ = ["PygFormat"]

OVERHEAD = 2**13  # bytes of the objects of one graph
SHARE = 2  # part of the memory of the process that the list may take: one half


class PygFormat(GraphFormat):
    """The graphs as ``LazyGraphDataset`` gives them, each with its labels as further attributes.

    Labels of one number are tensors of shape (1,), vectors have a first dimension of 1, and texts are texts. As in a
    dataset, a missing number is NaN and a missing text is empty. ``torch.load(..., weights_only=True)`` reads the file
    if PyG's classes are allowed. The whole list is in memory when it is written and when it is loaded.
    """

    kind: ClassVar[str] = "pyg"
    suffixes: ClassVar[tuple[str, ...]] = (".pt",)

    def write(self, dataset: Any, path: Path, contents: Contents, tell: Callable[[int], None]) -> list[str]:
        """Write the graphs of an open dataset.

        Raises:
            NotEnoughMemory: the list would take more than half of the memory that the process may use.
        """
        import torch

        _check_memory(dataset)
        graphs: list[Any] = []
        left_out: set[str] = set()
        names = [label.name for label in contents.labels]
        columns = {name: dataset.columns[name] for name in (*names, *contents.splits)}
        for place, data in enumerate(_single(dataset)):
            graph = data.clone()  # whose tensors have storages of their own
            for name, column in columns.items():
                if name in graph:
                    left_out.add(name)
                else:
                    graph[name] = _value(column[place])
            graphs.append(graph)
            tell(1)
        with path.open("xb") as file:
            torch.save(graphs, file)
        notes = [
            f"the label {name!r} is left out, because an array of the graphs has this name" for name in sorted(left_out)
        ]
        if graphs and type(graphs[0]).__module__.startswith("lazygraph"):
            notes.append(
                "the graphs keep how lazygraph collates them, so loading them needs lazygraph, and weights_only=False"
            )
        return notes


def _single(dataset: Any) -> Iterator[Any]:
    return (dataset[place] for place in range(len(dataset)))


def _value(value: Any) -> Any:
    import torch

    if isinstance(value, str):
        return str(value)
    array: NDArray[Any] = np.asarray(value)
    return torch.from_numpy(np.array(array[None]))


def _check_memory(dataset: Any) -> None:
    size = int(dataset.record_bytes().sum(dtype=np.int64)) + OVERHEAD * len(dataset)
    if size > memory_limit() // SHARE:
        msg = (
            f"{len(dataset):,} graphs as a list take up to {size / 2**30:.3g} GiB. A .pt file is held in memory as a "
            f"whole, and this process may use {memory_limit() / 2**30:.3g} GiB. Export fewer graphs (--where), or use "
            "LazyGraphDataset, which reads graphs from the disk"
        )
        raise NotEnoughMemory(msg)
