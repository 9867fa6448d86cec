"""Every private name of PyG and torch that lazygraph uses: fast ways that have no public one.

No other module reaches into either library; tests/loading/test_pyg_internals.py compares what is done here with what
the public, slower ways give, for the installed version, and ``./tools/test --lowest`` for the lowest supported ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch_geometric.data import Batch, Data
from torch_geometric.data.storage import N_KEYS, GlobalStorage

__all__ = ["NODE_KEYS", "empty_batch", "end_workers", "set_batch", "set_values"]

NODE_KEYS: frozenset[str] = frozenset(N_KEYS)
"""The names of which PyG takes the first that a graph has to count its nodes."""


def set_values(data: Data, values: Mapping[str, Any]) -> None:
    """Give an empty graph its values, as ``Data(**values)`` does.

    The public way sets one attribute after another, 19 us for eight of them; the storage takes all in 1 us.
    """
    data._store._mapping.update(values)  # noqa: SLF001


def empty_batch(kind: Any) -> Batch:
    """A batch of no graphs of a class of graphs, ``Data`` or one of its subclasses, as ``Batch(_base_cls=kind)`` is.

    PyG makes a class each time, which takes 90 us; this takes 2.
    """
    cls, prototype = _prototype(kind)
    batch = cls.__new__(cls)
    batch.__dict__.update(prototype, _store=GlobalStorage(_parent=batch))
    return batch


def set_batch(
    batch: Batch,
    values: Mapping[str, Any],
    *,
    slices: Mapping[str, Any],
    increments: Mapping[str, Any],
    n_graphs: int,
    n_nodes: list[int] | None,
) -> None:
    """Give an empty batch its values and what ``batch[i]`` and ``to_data_list`` need, as ``from_data_list`` does.

    Args:
        batch: the batch.
        values: name -> joined tensor, or list with one object a graph.
        slices: name -> (B + 1,) where the rows of each graph begin.
        increments: name -> (B, ...) what the ids of each graph were raised by; None for a list.
        n_graphs: B.
        n_nodes: the nodes of each graph, where PyG cannot tell them from the values.
    """
    store = batch._store  # noqa: SLF001
    store._mapping.update(values)  # noqa: SLF001
    if n_nodes is not None:
        store._num_nodes = n_nodes  # noqa: SLF001
    store.__dict__.update(_num_graphs=n_graphs, _slice_dict=slices, _inc_dict=increments)


def end_workers(iterator: Any) -> None:
    """End the worker processes of an iterator of torch's ``DataLoader``.

    They would otherwise live as long as the iterator, which a traceback may hold.
    """
    iterator._shutdown_workers()  # noqa: SLF001


@lru_cache(maxsize=8)
def _prototype(kind: Any) -> tuple[Any, dict[str, Any]]:
    """The class of a batch, and what it has beside its store."""
    batch = Batch(_base_cls=kind)
    return type(batch), dict(batch.__dict__)
