"""Random numbers for many crystals at once, each of which has a seed of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError

__all__ = ["Draws", "derived_seeds"]

# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a number is a mix of a counter, so any of them can be computed
# without those before it, and all of them at once.
STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Draws:
    """Random numbers of the crystals of a batch.

    The numbers of a crystal depend only on its seed, on the number of calls before, and on the arguments. They do not
    depend on the other crystals of the batch.

    Args:
        seeds: (B,) uint64, one for each crystal.
        n_node: (B,) atoms of each crystal.

    Example:
        >>> draws = Draws(np.array([3, 4], np.uint64), np.array([2, 1]))
        >>> draws.normal("atom", 3).shape, draws.uniform("crystal").shape
        ((3, 3), (2,))
        >>> alone = Draws(np.array([4], np.uint64), np.array([1]))
        >>> both = Draws(np.array([3, 4], np.uint64), np.array([2, 1]))
        >>> bool((alone.normal("atom", 3)[0] == both.normal("atom", 3)[2]).all())
        True
    """

    def __init__(self, seeds: NDArray[np.uint64], n_node: NDArray[np.int64]) -> None:
        self._seeds, self._n_node, self._calls = seeds, n_node, 0

    def uniform(self, per: str, *shape: int) -> NDArray[np.float64]:
        """Draw numbers from 0 to below 1.

        Args:
            per: ``"atom"`` or ``"crystal"``.
            shape: the shape of what each of them gets; none for one number.

        Returns:
            (N, ...) or (B, ...) float64, with the shape at the end.
        """
        bits = self._bits(per, shape, 1)[..., 0] >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def normal(self, per: str, *shape: int) -> NDArray[np.float64]:
        """Draw numbers of the standard normal distribution; the arguments are those of ``uniform``."""
        bits = self._bits(per, shape, 2) >> np.uint64(11)
        # Box and Muller; above 0, of which there is no logarithm.
        radius = np.sqrt(-2.0 * np.log((bits[..., 0] + 0.5) * 2.0**-53))
        out: NDArray[np.float64] = radius * np.cos(bits[..., 1] * (2.0**-53 * 2.0 * math.pi))
        return out

    def _bits(self, per: str, shape: tuple[int, ...], each: int) -> NDArray[np.uint64]:
        """(rows, *shape, each) uint64."""
        if per not in ("atom", "crystal"):
            msg = f"found per={per!r}; required: 'atom' or 'crystal'"
            raise InputError(msg)
        keys = derived_seeds(self._seeds, self._calls)
        self._calls += 1
        values = each * math.prod(shape)
        if per == "atom":
            n_node = self._n_node
            inside = np.arange(int(n_node.sum())) - (n_node.cumsum() - n_node).repeat(n_node)
            keys, first = keys.repeat(n_node), (inside * values).astype(np.uint64)
        else:
            first = np.zeros(len(keys), np.uint64)
        counters = first[:, None] + np.arange(1, values + 1, dtype=np.uint64)
        out: NDArray[np.uint64] = _mixed(keys[:, None] + counters * STEP).reshape(len(keys), *shape, each)
        return out


def derived_seeds(seeds: NDArray[np.uint64], number: int) -> NDArray[np.uint64]:
    """Return other seeds, (B,) uint64, for the use of this number.

    Example:
        >>> derived_seeds(np.array([1, 2], np.uint64), 0) == derived_seeds(np.array([1, 2], np.uint64), 1)
        array([False, False])
    """
    # By Python's integers: numpy warns where a product of two numbers overflows, but not where one of arrays does.
    offset = np.uint64(number * int(SECOND) % 2**64)
    return _mixed(_mixed(seeds + offset) + STEP)


def _mixed(bits: NDArray[Any]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * SECOND
    out: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return out
