"""What differs between two datasets: recipe, labels, ids, and graphs, compared block by block where they are equal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        labels: a sentence for each label that only one has, or whose unit or values differ.
        removed: a sentence for each time that graphs which the other one has were removed, with the reason.
        only_a: ids that only ``a`` has.
        only_b: ids that only ``b`` has.
        different: ids of both, of graphs that differ. Where recipes or fields differ, only what both store is compared:
            of crystals, that is the structures.
        same: how many graphs are equal.
        order: whether the graphs of both stand in one order, where both have the same ids.
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

    Blocks of 4,096 graphs with equal digests are not read; of the others, every graph that both have is.

    Args:
        a: a dataset.
        b: another one.

    Returns:
        The differences; ``str`` of it is a report, ``equal`` says whether there are none.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: one of them cannot be read.

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
        removed=(*_removed("a", one.manifest, other), *_removed("b", other.manifest, one)),
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
        yield f"the graphs of {'a' if a.recipe is None else 'b'} came ready-made"
        return
    yield from GraphSpec.from_json(a.recipe).diff(GraphSpec.from_json(b.recipe))


def _removed(name: str, manifest: Manifest, other: Store) -> Iterator[str]:
    known = set(other.column("id").tolist()) if manifest.history else set()
    for one in manifest.history:
        if there := [graph_id for graph_id in one.removed if graph_id.encode() in known]:
            yield f"{len(there):,} from {name}, because: {one.reason}{_some(tuple(there))}"


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
    return [name for name in names if a.schema[name].axis != "edge" and name != "lattice_images"]


def _same_fields(a: dict[str, Any], b: dict[str, Any], names: list[str]) -> bool:
    return all(_bits(a[name]) == _bits(b[name]) for name in names)


def _bits(value: Any) -> Any:
    return value if isinstance(value, str) else (value.dtype, value.shape, value.tobytes())


def _labels(a: Store, b: Store, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> Iterator[str]:
    mine, theirs = a.manifest.labels(), b.manifest.labels()
    for name in {**mine, **theirs}:
        if name not in mine or name not in theirs:
            yield f"{name!r} is only in {'a' if name in mine else 'b'}"
            continue
        if mine[name].unit != theirs[name].unit:
            yield f"{name!r} has the unit {mine[name].unit} in a, and {theirs[name].unit} in b"
        if mine[name].shape[1:] != theirs[name].shape[1:]:
            yield f"{name!r} has the shape {mine[name].shape[1:]} in a, and {theirs[name].shape[1:]} in b"
            continue
        one, other = a.column(name)[rows_a], b.column(name)[rows_b]
        same = one == other
        if one.dtype.kind == "f" and other.dtype.kind == "f":
            same |= np.isnan(one) & np.isnan(other)
        different = len(one) - int(same.reshape(len(one), -1).all(axis=1).sum()) if len(one) else 0
        if different:
            yield f"{name!r} differs in {different:,} of the {len(one):,} graphs that both have"
