"""Orders in which an epoch visits the graphs: in position, shuffled, shuffled within windows, or drawn by weight.

Every order is a pure function of its fields, a seed and the epoch. Graphs are shuffled by sorting random keys. numpy
guarantees the stream of these keys forever, but not the stream of ``Generator.permutation``. An interrupted epoch
therefore continues in the same order on another platform and after an update.

What an epoch takes in memory: a full shuffle holds 8 bytes per graph. A shuffle within windows is computed window by
window, and holds the graphs of two windows and 8 bytes per block.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray

from lazygraph.errors import InputError

__all__ = [
    "AUGMENTATIONS",
    "BATCHES",
    "BATCH_TRANSFORMS",
    "MEMBERS",
    "PART",
    "SAMPLES",
    "STEPS",
    "TRANSFORMS",
    "Drawn",
    "EpochOrder",
    "InParts",
    "Order",
    "Sequential",
    "Shuffled",
    "Weighted",
    "Windowed",
    "check_whole",
    "digest",
    "order_of",
    "random_keys",
    "weights_of",
]

# What a stream of keys is for, so that no two uses share one.
GRAPHS, BLOCKS, BATCHES, TRANSFORMS, AUGMENTATIONS, BATCH_TRANSFORMS, STEPS, MEMBERS, SAMPLES = range(9)
BLOCK = 1024  # graphs; some hundred kB on disk, which a network file system fetches at once
PART = 65536  # graphs that are drawn or looked at together


class EpochOrder(Protocol):
    """The order of one epoch, computed where it is asked for."""

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the graphs that are visited from place ``start`` to before ``stop``, (stop - start,) int64."""


class Order(Protocol):
    """An order of graphs. Different orders have different reprs."""

    @property
    def n(self) -> int:
        """The number of visits in an epoch; of most orders this is the number of graphs."""

    @property
    def graphs(self) -> int:
        """The number of graphs that are ordered: positions are below it."""

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""


class InParts:
    """An array that is computed in parts, of which the last two are kept, such as an order.

    Args:
        starts: (k + 1,) the index at which each part begins, and the end.
        make: number of a part -> its values, int64: the graphs that an order visits.
    """

    def __init__(self, starts: NDArray[np.int64], make: Callable[[int], NDArray[np.int64]]) -> None:
        self._starts, self._make = starts, make
        self._kept: dict[int, NDArray[np.int64]] = {}

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the values from index ``start`` to before ``stop``, (stop - start, ...) int64."""
        if start >= stop:
            return np.empty(0, np.int64)
        first, last = (int(k) for k in np.searchsorted(self._starts, (start, stop - 1), side="right") - 1)
        pieces = []
        for number in range(first, last + 1):
            begin = int(self._starts[number])
            pieces.append(self._of(number)[max(start - begin, 0) : stop - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _of(self, number: int) -> NDArray[np.int64]:
        kept = self._kept
        if (found := kept.get(number)) is None:
            found = self._make(number)
            # Replaced and not changed, for several threads may ask.
            self._kept = {**dict(list(kept.items())[-1:]), number: found}
        return found


@dataclass(frozen=True, slots=True)
class Sequential:
    """Every graph once, by position."""

    n: int

    @property
    def graphs(self) -> int:
        """The number of graphs."""
        return self.n

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""
        del seed, epoch
        return self

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the graphs that are visited from place ``start`` to before ``stop``, (stop - start,) int64."""
        return np.arange(start, stop)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """An order that is held in memory."""

    positions: NDArray[np.int64]

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the graphs that are visited from place ``start`` to before ``stop``, (stop - start,) int64."""
        return self.positions[start:stop]


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Every graph once, in random order.

    The key of a graph has the position of the graph in its low bits, and random bits above them. One array is therefore
    sorted in place. Two graphs with equal random bits keep their order. For 10 million graphs there are 40 random bits:
    about 45 of the 5e13 pairs of graphs keep their order for this reason.
    """

    n: int

    @property
    def graphs(self) -> int:
        """The number of graphs."""
        return self.n

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""
        keys = random_keys(self.n, seed, epoch, GRAPHS)
        bits = np.uint64(max(self.n - 1, 1).bit_length())
        keys >>= bits
        keys <<= bits
        for start in range(0, self.n, PART):
            keys[start : start + PART] |= np.arange(start, min(start + PART, self.n), dtype=np.uint64)
        keys.sort()
        keys &= (np.uint64(1) << bits) - np.uint64(1)
        return Drawn(keys.view(np.int64))


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

    @property
    def graphs(self) -> int:
        """The number of graphs."""
        return self.n

    def __post_init__(self) -> None:
        check_whole("window", self.window, 1)
        check_whole("block", self.block, 1)
        if self.block > self.window:
            msg = f"blocks of {self.block} graphs do not fit into windows of {self.window}; give block <= window"
            raise InputError(msg)

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""
        n, block = self.n, self.block
        blocks = -(-n // block)
        windows = -(-blocks // (self.window // block))
        order = np.argsort(random_keys(blocks, seed, epoch, BLOCKS), kind="stable")
        # Windows differ by one block at most; a last one of what is left over would be hardly shuffled.
        first = -(-np.arange(windows + 1) * blocks // max(windows, 1))
        short = blocks * block - n  # graphs that the last block lacks
        lacking = int(np.argmax(order == blocks - 1)) if blocks else 0  # where it comes
        starts = first * block - short * (first > lacking)

        def window(number: int) -> NDArray[np.int64]:
            chosen = order[first[number] : first[number + 1]]
            graphs = (chosen[:, None] * block + np.arange(block)).ravel()
            graphs = graphs[graphs < n]
            keys = random_keys(len(graphs), seed, epoch, GRAPHS, start=int(starts[number]))
            shuffled: NDArray[np.int64] = graphs[np.argsort(keys, kind="stable")]
            return shuffled

        return InParts(starts, window)


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
            msg = f"all {len(values)} weights are 0; at least one must be above 0"
            raise InputError(msg)
        self.weights = values

    @property
    def n(self) -> int:
        """The number of graphs, which is also the number of draws."""
        return len(self.weights)

    @property
    def graphs(self) -> int:
        """The number of graphs."""
        return len(self.weights)

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""
        # Divided by the greatest, no weights sum to infinity, and none so small that a product would round up to the
        # sum. Sums are cumulated one by one, as a pairwise sum may differ between platforms in its last bit.
        total = np.cumsum(self.weights / self.weights.max()) if self.n else self.weights
        starts = np.append(np.arange(0, self.n, PART), self.n)

        def draws(number: int) -> NDArray[np.int64]:
            start, stop = starts[number : number + 2].tolist()
            uniform = (random_keys(stop - start, seed, epoch, GRAPHS, start=start) >> np.uint64(11)) * 2.0**-53
            # Draws are looked up in ascending order, which spares the processor's cache and so half of the time.
            ascending = np.argsort(uniform)
            drawn = np.empty(len(uniform), np.int64)
            drawn[ascending] = np.searchsorted(total, uniform[ascending] * total[-1], side="right")
            return drawn

        return InParts(starts, draws)

    def __repr__(self) -> str:
        return f"Weighted({self.n} weights, xxh3 {digest(self.weights)})"


def order_of(
    n: int, *, shuffle: bool, window: int | None = None, block: int | None = None, weights: ArrayLike | None = None
) -> Order:
    """Return the order of ``n`` graphs for these options.

    Raises:
        InputError: two options exclude each other, or one is impossible.

    Example:
        >>> order_of(5000, shuffle=True, window=4096)
        Windowed(n=5000, window=4096, block=1024)
    """
    if weights is not None:
        if shuffle or window is not None:
            msg = (
                f"weights cannot be used with shuffle={shuffle}, window={window}, because they already draw at random; "
                "give weights alone"
            )
            raise InputError(msg)
        order = Weighted(weights)
        if order.n != n:
            msg = f"found {order.n} weights; required: one for each of the {n} graphs"
            raise InputError(msg)
        return order
    if window is not None:
        if not shuffle:
            msg = f"window={window} needs shuffle=True; set it, or leave window out"
            raise InputError(msg)
        check_whole("window", window, 1)
        return Windowed(n, window, min(BLOCK if block is None else block, window))
    return Shuffled(n) if shuffle else Sequential(n)


def weights_of(column: NDArray[Any]) -> NDArray[Any]:
    """Return the weights of graphs that a column gives: its numbers, or of texts what makes all texts equally likely.

    Example:
        >>> weights_of(np.array(["a", "b", "b", "b"]))
        array([1.        , 0.33333333, 0.33333333, 0.33333333])
    """
    if column.dtype.kind != "U":
        return column
    _, members, counts = np.unique(column, return_inverse=True, return_counts=True)
    out: NDArray[Any] = 1 / counts[members]
    return out


def random_keys(n: int, seed: int, epoch: int, purpose: int, *, start: int = 0) -> NDArray[np.uint64]:
    """Return (n,) uint64 of PCG64's raw stream for a seed, epoch and purpose; the same on every platform."""
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, purpose)))
    keys: NDArray[np.uint64] = stream.advance(start).random_raw(n)
    return keys


def digest(values: Sequence[int] | NDArray[Any]) -> str:
    """Return XXH3-128 in hex of integers or floats, independent of width and byte order."""
    found = xxhash.xxh3_128()
    for start in range(0, len(values), PART):
        part = np.asarray(values[start : start + PART])
        found.update(np.ascontiguousarray(part, "<f8" if part.dtype.kind == "f" else "<i8").data)
    return found.hexdigest()


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse a value that is not a whole number.

    Raises:
        InputError: the value is not a whole number, or is less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        said = f"found {name}={value!r}" if name.isidentifier() else f"{name} is {value!r}"
        msg = f"{said}; required: a whole number, at least {least}"
        raise InputError(msg)
