"""The order of an epoch over several datasets: when each of them is visited.

The number of visits to each member is the same in every epoch (``mixing_rates.py``). The members are therefore mixed
exactly at their rates, and only the order of the visits is random. The order of an epoch is a pure function of its
fields, a seed and the epoch, as all orders are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lazygraph.loading.orders import MEMBERS, PART, EpochOrder, InParts, Order, random_keys

__all__ = ["MemberOrder", "Mixed", "member_seed"]


@dataclass(frozen=True, slots=True, eq=False)
class MemberOrder:
    """How the epochs visit the graphs of one member.

    A member is visited in passes: each pass visits every graph once, in the order of ``order``. If an epoch visits at
    least as many graphs as the member has, it begins a new pass. If it visits fewer, the next epoch continues the pass,
    so that all graphs are visited equally often in the long run.

    Args:
        order: the order of one pass.
        visits: number of visits in an epoch.
        independent: whether every epoch draws ``visits`` different graphs, whatever other epochs draw. Then ``visits``
            is at most the number of graphs.
    """

    order: Order
    visits: int
    independent: bool = False

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of the visits of one epoch."""
        return _Passes(self, seed, epoch)

    def __repr__(self) -> str:
        return f"{self.visits} of {self.order!r}{', drawn in every epoch' if self.independent else ''}"


class _Passes:
    """The visits of one epoch to one member. The last two passes that were asked for are kept."""

    def __init__(self, member: MemberOrder, seed: int, epoch: int) -> None:
        self._order, self._seed = member.order, seed
        self._n = n = member.order.n
        if member.independent:
            self._first = epoch * n
        elif member.visits < n:
            self._first = epoch * member.visits
        else:
            self._first = epoch * -(-member.visits // max(n, 1)) * n
        self._kept: dict[int, EpochOrder] = {}

    def part(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the graphs that are visited from place ``start`` to before ``stop``, (stop - start,) int64."""
        pieces = [np.empty(0, np.int64)]
        place, end = self._first + start, self._first + stop
        while place < end:
            number, within = divmod(place, self._n)
            until = min(self._n, within + end - place)
            pieces.append(self._pass(number).part(within, until))
            place += until - within
        return np.concatenate(pieces)

    def _pass(self, number: int) -> EpochOrder:
        kept = self._kept
        if (found := kept.get(number)) is None:
            found = self._order.draw(self._seed, number)
            self._kept = {**dict(list(kept.items())[-1:]), number: found}  # replaced, as several threads may ask
        return found


class Mixed:
    """Several members visited in turn, each as often as its order says.

    The visits are cut into blocks of about 65,536. Each block has its exact share of every member, rounded to whole
    graphs. If ``shuffle`` is set, the members are in random order within a block. Otherwise they alternate as evenly as
    whole numbers allow. A block is computed when it is reached.

    Args:
        members: the order of each member.
        positions: the positions of the graphs of each member: a range, or (n,) int64.
        shuffle: whether members come in random order.
    """

    __slots__ = ("members", "positions", "shuffle")

    def __init__(
        self, members: Sequence[MemberOrder], positions: Sequence[range | NDArray[np.int64]], *, shuffle: bool
    ) -> None:
        self.members, self.positions, self.shuffle = tuple(members), tuple(positions), shuffle

    @property
    def n(self) -> int:
        """The number of visits in an epoch."""
        return sum(member.visits for member in self.members)

    @property
    def graphs(self) -> int:
        """The number of graphs of all members."""
        return sum(map(len, self.positions))

    def draw(self, seed: int, epoch: int) -> EpochOrder:
        """Return the order of one epoch."""
        visits = np.array([member.visits for member in self.members], np.int64)
        drawn = [member.draw(member_seed(seed, k), epoch) for k, member in enumerate(self.members)]
        blocks = max(1, -(-self.n // PART))
        # (M, blocks + 1): visits to each member before each block, rounded half up. They never decrease.
        before = (2 * visits[:, None] * np.arange(blocks + 1) + blocks) // (2 * blocks)
        starts = before.sum(axis=0)

        def block(number: int) -> NDArray[np.int64]:
            first, last = before[:, number], before[:, number + 1]
            count = int(starts[number + 1] - starts[number])
            if self.shuffle:
                keys = random_keys(count, seed, epoch, MEMBERS, start=int(starts[number]))
                in_turn = np.repeat(np.arange(len(visits)), last - first)[np.argsort(keys, kind="stable")]
            else:
                in_turn = _evenly(first, last, visits)
            out = np.empty(count, np.int64)
            for k, positions in enumerate(self.positions):
                own = drawn[k].part(int(first[k]), int(last[k]))
                out[in_turn == k] = own + positions.start if isinstance(positions, range) else positions[own]
            return out

        return InParts(starts, block)

    def __repr__(self) -> str:
        return f"Mixed({', '.join(map(repr, self.members))}, shuffle={self.shuffle})"


def member_seed(seed: int, number: int) -> int:
    """Return the seed of one member. Members of equal size are then shuffled differently."""
    # Three words, where the keys of an epoch have two: no member shares a stream with an epoch.
    words = np.random.SeedSequence(seed, spawn_key=(MEMBERS, number, 0)).generate_state(4, np.uint32)
    return int.from_bytes(words.astype("<u4").tobytes(), "little")


def _evenly(first: NDArray[np.int64], last: NDArray[np.int64], visits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whose turn it is at each visit of a block if visit i to a member is due at (i + 1/2) / visits."""
    due = [(2 * np.arange(a, b) + 1) / (2 * max(v, 1)) for a, b, v in zip(first, last, visits, strict=True)]
    members = np.repeat(np.arange(len(visits)), last - first)
    out: NDArray[np.int64] = members[np.argsort(np.concatenate(due), kind="stable")]
    return out
