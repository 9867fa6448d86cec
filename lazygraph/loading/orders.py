"""Orders in which an epoch visits the graphs: in position, shuffled, shuffled within windows, or drawn by weight.

Every order is a pure function of its fields, a seed and the epoch. Graphs are shuffled by sorting random 64-bit keys.
numpy guarantees the stream of these keys forever, but not the stream of ``Generator.permutation``. An interrupted epoch
therefore continues in the same order on another platform and after an update.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from lazygraph.errors import InputError

__all__ = [
    "BATCHES",
    "TRANSFORMS",
    "Order",
    "Sequential",
    "Shuffled",
    "Weighted",
    "Windowed",
    "check_whole",
    "digest",
    "order_of",
    "random_keys",
]

# What a stream of keys is for, so that no two uses share one.
GRAPHS, BLOCKS, BATCHES, TRANSFORMS = range(4)
BLOCK = 1024  # graphs; some hundred kB on disk, which a network file system fetches at once


class Order(Protocol):
    """An order of ``n`` graphs. Different orders have different reprs."""

    @property
    def n(self) -> int:
        """The number of graphs."""

    def positions(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the graphs of one epoch, (n,) int64."""


@dataclass(frozen=True, slots=True)
class Sequential:
    """Every graph once, by position."""

    n: int

    def positions(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the graphs of one epoch, (n,) int64."""
        del seed, epoch
        return np.arange(self.n)


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Every graph once, in an order drawn uniformly from all orders."""

    n: int

    def positions(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the graphs of one epoch, (n,) int64."""
        return np.argsort(random_keys(self.n, seed, epoch, GRAPHS), kind="stable")


@dataclass(frozen=True, slots=True)
class Windowed:
    """Every graph once, shuffled within windows so that a cold disk reads neighbouring graphs together.

    The graphs form blocks of ``block`` consecutive graphs. The blocks are shuffled and grouped into windows, and the
    graphs within a window are shuffled. The graphs of a block are therefore visited within ``window`` consecutive
    visits, and a page cache for ``window`` graphs reads every block once. Neighbours in position are neighbours on disk
    if the positions are in file order, as in a dataset, its splits and its selections.

    Args:
        n: number of graphs.
        window: greatest number of graphs that are shuffled together; a larger window is more random.
        block: number of consecutive graphs that stay in one window; at most ``window``.
    """

    n: int
    window: int
    block: int = BLOCK

    def __post_init__(self) -> None:
        check_whole("window", self.window, 1)
        check_whole("block", self.block, 1)
        if self.block > self.window:
            msg = f"found blocks of {self.block} graphs in windows of {self.window}; required: blocks that fit in"
            raise InputError(msg)

    def positions(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the graphs of one epoch, (n,) int64."""
        blocks = -(-self.n // self.block)
        windows = -(-blocks // (self.window // self.block))
        order = np.argsort(random_keys(blocks, seed, epoch, BLOCKS), kind="stable")
        # Windows differ by one block at most; a last one of what is left over would be hardly shuffled.
        window = np.arange(blocks) * windows // max(blocks, 1)
        graphs = (order[:, None] * self.block + np.arange(self.block)).ravel()
        real = graphs < self.n
        graphs, window = graphs[real], np.repeat(window, self.block)[real]
        out: NDArray[np.int64] = graphs[np.lexsort((random_keys(self.n, seed, epoch, GRAPHS), window))]
        return out


class Weighted:
    """As many draws as there are graphs, with replacement, like torch's ``WeightedRandomSampler``.

    Some graphs come several times, others not at all. The expected share of a graph is its weight divided by the sum.

    Args:
        weights: (n,) finite numbers, at least 0, not all 0.

    Raises:
        InputError: they are something else.
    """

    __slots__ = ("weights",)

    def __init__(self, weights: ArrayLike) -> None:
        values = np.asarray(weights, dtype=np.float64)
        if values.ndim != 1:
            msg = f"found weights of shape {values.shape}; required: one number for each graph"
            raise InputError(msg)
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            msg = (
                f"{len(wrong)} of {len(values)} weights cannot be used, the first at position {wrong[0]}: "
                f"{values[wrong[0]]}; required: finite numbers, at least 0"
            )
            raise InputError(msg)
        if len(values) and not values.any():
            msg = f"found {len(values)} weights, all of them 0; required: at least one above"
            raise InputError(msg)
        self.weights = values

    @property
    def n(self) -> int:
        """The number of graphs, which is also the number of draws."""
        return len(self.weights)

    def positions(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the graphs of one epoch, (n,) int64."""
        if self.n == 0:
            return np.arange(0)
        # Divided by the greatest, no weights sum to infinity, and none so small that a product would round up to the
        # sum. Sums are cumulated one by one, as a pairwise sum may differ between platforms in its last bit.
        total = np.cumsum(self.weights / self.weights.max())
        uniform = (random_keys(self.n, seed, epoch, GRAPHS) >> np.uint64(11)) * 2.0**-53
        # Draws are looked up in ascending order, which spares the processor's cache and so half of the time.
        ascending = np.argsort(uniform)
        drawn = np.empty(self.n, np.int64)
        drawn[ascending] = np.searchsorted(total, uniform[ascending] * total[-1], side="right")
        return drawn

    def __repr__(self) -> str:
        return f"Weighted({self.n} weights, xxh3 {digest(self.weights)})"


def order_of(n: int, *, shuffle: bool, window: int | None = None, weights: ArrayLike | None = None) -> Order:
    """Return the order of ``n`` graphs for these options.

    Raises:
        InputError: two options exclude each other, or one is impossible.

    Example:
        >>> order_of(5000, shuffle=True, window=4096)
        Windowed(n=5000, window=4096, block=1024)
    """
    if weights is not None:
        if shuffle or window is not None:
            msg = f"found weights and shuffle={shuffle}, window={window}; required: weights alone, as draws are random"
            raise InputError(msg)
        order = Weighted(weights)
        if order.n != n:
            msg = f"found {order.n} weights; required: one for each of the {n} graphs"
            raise InputError(msg)
        return order
    if window is not None:
        if not shuffle:
            msg = f"found window={window} without shuffle; required: shuffle=True, or no window"
            raise InputError(msg)
        check_whole("window", window, 1)
        return Windowed(n, window, min(BLOCK, window))
    return Shuffled(n) if shuffle else Sequential(n)


def random_keys(n: int, seed: int, epoch: int, purpose: int, *, start: int = 0) -> NDArray[np.uint64]:
    """Return (n,) uint64 of PCG64's raw stream for a seed, epoch and purpose; the same on every platform."""
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, purpose)))
    keys: NDArray[np.uint64] = stream.advance(start).random_raw(n)
    return keys


def digest(array: Any) -> str:
    """Return XXH3-128 in hex of the values of an integer or float array, independent of width and byte order."""
    values = np.asarray(array)
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(values, "<f8" if values.dtype.kind == "f" else "<i8").data)


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse a value that is not a whole number.

    Raises:
        InputError: the value is not a whole number, or is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        msg = f"found {name}={value!r}; required: a whole number, at least {least}"
        raise InputError(msg)
