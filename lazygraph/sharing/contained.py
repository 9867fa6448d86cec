"""What of a published dataset would be lost if another one took its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import Column, dtype_of, missing_code, texts_of
from lazygraph.format.digests import BLOCK, blocks_of_column, blocks_of_graphs, graph_digest
from lazygraph.format.store import Store

__all__ = ["losses"]


def losses(there: Store, new: Store) -> Iterator[str]:
    """Yield a sentence for everything of ``there`` that ``new`` does not hold: graphs, in order, and their labels.

    The first graphs of the new dataset must be those of the old one, as after an append. Graphs and values are compared
    by their digests, so no graph that is there is read.

    Args:
        there: the dataset that is published.
        new: the dataset that would take its place, in a folder of this machine.
    """
    if (there.manifest.recipe, there.manifest.schema) != (new.manifest.recipe, new.manifest.schema):
        yield "its graphs have another recipe, or other fields"
        return
    if there.manifest.content_id != new.manifest.content_id:
        if len(new) < len(there):
            yield f"it has {len(there):,} graphs, and this one {len(new):,}"
            return
        if not np.array_equal(_first_graphs(new, len(there)), there.digests()[0]):
            yield "its graphs are not the first graphs of this one"
            return
    yield from _lost_descriptions(there, new)
    known = new.manifest.columns
    for name, column in there.manifest.columns.items():
        if column.role == "index":
            continue
        if name not in known:
            yield f"it has the column {name!r}, which this one lacks"
        elif known[name] != column and not _same_values(there, new, name):
            yield f"it has other values in the column {name!r}"


def _lost_descriptions(there: Store, new: Store) -> Iterator[str]:
    lost = sorted(set(there.manifest.about) - set(new.manifest.about))
    if lost:
        yield f"it has {', '.join(lost)}, which this one lacks (lazygraph about)"
    if there.manifest.quarantine is not None and new.manifest.quarantine is None:
        yield "it has a list of quarantined inputs, which this one lacks"


def _first_graphs(store: Store, graphs: int) -> NDArray[np.void]:
    """The digests of the blocks of the first graphs of a dataset, the last of which may not be full."""
    full = graphs // BLOCK
    rest = b"".join(
        graph_digest(store.checked_column("id").row(row), store.raw(row)) for row in range(full * BLOCK, graphs)
    )
    blocks = [store.digests()[0][:full]]
    if rest:
        blocks.append(blocks_of_graphs(np.frombuffer(rest, "V32")))
    return np.concatenate(blocks)


def _same_values(there: Store, new: Store, name: str) -> bool:
    """Whether the first rows of a column have the values that are there, in whichever width."""
    old, own = there.manifest.columns[name], new.manifest.columns[name]
    if {old.role, own.role} == {"category", "text"}:  # of many texts no categories are made
        before, after = there.column(name), new.column(name)[: len(there)]
        return np.array_equal(texts_of(old, before), texts_of(own, after))
    if (old.role, old.unit, old.per, old.shape[1:]) != (own.role, own.unit, own.per, own.shape[1:]):
        return False
    names = old.categories or ()
    if (own.categories or ())[: len(names)] != names:
        return False
    values = _narrowed(new.column(name)[: len(there)], old, own)
    return values is not None and np.array_equal(blocks_of_column(values), there.digests()[1][name])


def _narrowed(values: NDArray[Any], old: Column, own: Column) -> NDArray[Any] | None:
    """Values in the type that an older column has; None where they do not fit into it."""
    wanted = dtype_of(old)
    if values.dtype == wanted:
        return values
    if values.dtype.kind != wanted.kind:
        return None
    found = values.astype(wanted)
    if own.categories is not None:
        found[values == missing_code(values.dtype)] = missing_code(wanted)
        values = np.where(values == missing_code(values.dtype), missing_code(wanted), values)
    return found if np.array_equal(found.astype(values.dtype), values) else None
