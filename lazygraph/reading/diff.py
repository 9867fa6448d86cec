"""The function ``diff``, which compares recipe, labels, ids and graphs of two datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.format.columns import Column, texts_of
from lazygraph.format.digests import BLOCK
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.graphs.spec import GraphSpec

__all__ = ["DatasetDiff", "diff"]

SHOWN = 5  # ids that a sentence names


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """The differences of two datasets, ``a`` and ``b``.

    Attributes:
        recipe: a sentence for each difference of the recipes.
        labels: a sentence for each label, split or per-atom field that only one dataset has, or that differs.
        removed: a sentence for each removal of graphs that the other dataset still has, with the reason.
        only_a: ids that only ``a`` has.
        only_b: ids that only ``b`` has.
        different: ids that both datasets have, with different graphs. If recipes or fields differ, only the data that
            both store are compared: for crystals, the structures.
        same: number of equal graphs.
        order: whether both datasets have the same order, if they have the same ids.
    """

    recipe: tuple[str, ...]
    labels: tuple[str, ...]
    removed: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    different: tuple[str, ...]
    same: int
    order: bool

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.recipe or self.labels or self.only_a or self.only_b or self.different) and self.order

    def __str__(self) -> str:
        lines = [
            f"{len(self.only_a):,} only in a{_some(self.only_a)}",
            f"{len(self.only_b):,} only in b{_some(self.only_b)}",
            f"{len(self.different):,} different{_some(self.different)}",
            f"{self.same:,} the same",
        ]
        lines += [f"recipe: {sentence}" for sentence in self.recipe]
        lines += [f"label: {sentence}" for sentence in self.labels]
        lines += [f"removed: {sentence}" for sentence in self.removed]
        if not self.order:
            lines.append("the graphs are in another order")
        return "\n".join(lines)


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> DatasetDiff:
    """Compare two datasets: recipes, labels, ids, and the graphs that both have.

    Blocks of 4,096 graphs with equal digests are not read. In other blocks, every graph that both datasets have is
    read.

    Args:
        a: the first dataset.
        b: the second dataset.

    Returns:
        The differences. ``str`` of the result is a report, and ``equal`` is True if there are no differences.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: one of the datasets cannot be read.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> for n in (3, 5):
        ...     _ = lg.write(f"prototypes:{n}", f"{folder.name}/{n}.lg", workers=1)
        >>> print(diff(folder.name + "/3.lg", folder.name + "/5.lg"))
        0 only in a
        2 only in b: prototype-0000003, prototype-0000004
        0 different
        3 the same
        >>> folder.cleanup()
    """
    one, other = Store(a), Store(b)
    mine, theirs = one.column("id"), other.column("id")
    width = max(mine.dtype.itemsize, theirs.dtype.itemsize)
    mine, theirs = mine.astype(f"S{width}"), theirs.astype(f"S{width}")
    _, rows_a, rows_b = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    order = np.argsort(rows_a, kind="stable")
    rows_a, rows_b = rows_a[order].astype(np.int64), rows_b[order].astype(np.int64)
    changed = [row for row, _ in _changed(one, other, rows_a, rows_b)]
    return DatasetDiff(
        recipe=tuple(_recipe(one.manifest, other.manifest)),
        labels=tuple(_labels(one, other, rows_a, rows_b)),
        removed=(*_removed("a", one, other), *_removed("b", other, one)),
        only_a=_named(one, np.setdiff1d(np.arange(len(one)), rows_a)),
        only_b=_named(other, np.setdiff1d(np.arange(len(other)), rows_b)),
        different=_named(one, np.array(changed, np.int64)),
        same=len(rows_a) - len(changed),
        order=bool((np.diff(rows_b) > 0).all()),
    )


def _named(store: Store, rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(store.graph_ids(rows)) if len(rows) else ()


def _some(ids: tuple[str, ...]) -> str:
    return ": " * bool(ids) + ", ".join(ids[:SHOWN]) + ", ..." * (len(ids) > SHOWN)


def _recipe(a: Manifest, b: Manifest) -> Iterator[str]:
    if a.recipe == b.recipe:
        return
    if a.recipe is None or b.recipe is None:
        yield f"the graphs of {'a' if a.recipe is None else 'b'} are ready-made"
        return
    yield from GraphSpec.from_json(a.recipe).diff(GraphSpec.from_json(b.recipe))


def _removed(name: str, store: Store, other: Store) -> Iterator[str]:
    history = store.manifest.history
    own, known = (set(one.column("id").tolist()) if history else set() for one in (store, other))
    for one in history:
        # One of the same id may have been added again.
        gone = [graph_id for graph_id in one.removed if graph_id.encode() in known - own]
        if gone:
            yield f"{len(gone):,} from {name}, because: {one.reason}{_some(tuple(gone))}"


def _changed(a: Store, b: Store, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The rows of graphs that both have and that differ."""
    alike = (a.manifest.recipe, a.manifest.schema) == (b.manifest.recipe, b.manifest.schema)
    if alike:
        blocks_a, blocks_b = a.digests()[0], b.digests()[0]
        n = min(len(blocks_a), len(blocks_b))
        # The digest covers ids too; of a block that is not whole, both must have as many rows.
        equal = np.zeros(max(len(blocks_a), 1), bool)
        equal[:n] = blocks_a[:n] == blocks_b[:n]
        read = ~(equal[rows_a // BLOCK] & (rows_a == rows_b))
        rows_a, rows_b = rows_a[read], rows_b[read]
    names = _shared_fields(a.manifest, b.manifest)
    for row, other in zip(rows_a.tolist(), rows_b.tolist(), strict=True):
        if a.raw(row) != b.raw(other) and not (not alike and _same_fields(a.arrays(row), b.arrays(other), names)):
            yield row, other


def _shared_fields(a: Manifest, b: Manifest) -> list[str]:
    """The fields that both store and that no recipe decides: of crystals, the structure and the labels of atoms."""
    names = [field.name for field in a.schema.fields if field.name in b.schema.names]
    if a.recipe == b.recipe:
        return names
    return [name for name in names if a.schema[name].axis != "edge" and name not in _OF_RECIPES]


def _same_fields(a: dict[str, Any], b: dict[str, Any], names: list[str]) -> bool:
    return all(_bits(a[name]) == _bits(b[name]) for name in names)


def _bits(value: Any) -> Any:
    return value if isinstance(value, str) else (value.dtype, value.shape, value.tobytes())


def _labels(a: Store, b: Store, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> Iterator[str]:
    mine = {**a.manifest.all_labels(), **a.manifest.splits()}
    theirs = {**b.manifest.all_labels(), **b.manifest.splits()}
    for name in {**mine, **theirs}:
        if name not in mine or name not in theirs:
            yield f"{name!r} is only in {'a' if name in mine else 'b'}"
            continue
        one, other = mine[name], theirs[name]
        for what in ("unit", "per"):
            if getattr(one, what) != getattr(other, what):
                yield f"{name!r} has the {what} {getattr(one, what)} in a, and {getattr(other, what)} in b"
        kinds = [_kind(column) for column in (one, other)]
        if kinds[0] != kinds[1]:
            yield f"{name!r} is {kinds[0]} in a, and {kinds[1]} in b"
        elif one.shape[1:] != other.shape[1:]:
            yield f"{name!r} has the shape {one.shape[1:]} in a, and {other.shape[1:]} in b"
        elif different := _different(_values(a, name)[rows_a], _values(b, name)[rows_b]):
            yield f"{name!r} differs in {different:,} of the {len(rows_a):,} graphs that both have"
    yield from _atom_labels(a.manifest, b.manifest)


def _kind(column: Column) -> str:
    return {"label": "a number", "split": "a split"}.get(column.role, "a text")


def _values(store: Store, name: str) -> NDArray[Any]:
    column = store.manifest.columns[name]
    values = store.column(name)
    return values if column.role == "label" else texts_of(column, values)


def _different(one: NDArray[Any], other: NDArray[Any]) -> int:
    same = one == other
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        same |= np.isnan(one) & np.isnan(other)
    return len(one) - int(same.reshape(len(one), -1).all(axis=1).sum()) if len(one) else 0


def _atom_labels(a: Manifest, b: Manifest) -> Iterator[str]:
    """Fields that only one of them has, or that differ, and that no recipe decides."""
    for name in dict.fromkeys((*a.schema.names, *b.schema.names)):
        there = [manifest.schema[name] if name in manifest.schema.names else None for manifest in (a, b)]
        if a.recipe != b.recipe and any(
            field is not None and (field.axis == "edge" or name in _OF_RECIPES) for field in there
        ):
            continue
        if None in there:
            yield f"{name!r}, a field of the records, is only in {'b' if there[0] is None else 'a'}"
        elif there[0] != there[1]:
            yield f"{name!r}, a field of the records, is {there[0]} in a, and {there[1]} in b"


_OF_RECIPES = ("lattice_images",)
