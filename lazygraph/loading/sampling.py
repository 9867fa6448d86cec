"""Sampling: which graphs form which batch, in which epoch, on which rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.loading.balancing import balance
from lazygraph.loading.batch_table import Batches, BatchTable
from lazygraph.loading.orders import (
    BATCHES,
    PART,
    STEPS,
    Drawn,
    EpochOrder,
    InParts,
    Order,
    check_whole,
    digest,
    random_keys,
)
from lazygraph.loading.packing import refuse_oversized
from lazygraph.registry import unknown_name

__all__ = ["Sampling"]

RULES = 1  # raised when the same fields begin to give other batches
SECTION = 4096  # graphs whose batches are computed together
POOL = 100  # batches whose graphs are sorted by size together


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sampling:
    """The batches of every epoch, as a pure function of these fields. It reads no graph and keeps no state.

    An epoch is an order of graphs, packed into batches that are as long as the limits allow. Every rank gets the same
    number of batches: rank r gets the batches r, r + world_size, ... of the epoch. Together, the ranks visit exactly
    the graphs of the order. No graph is repeated to fill a batch, and no graph is left out. If the number of batches is
    not a multiple of the number of ranks, the largest batches are halved until it is. With ``drop_last``, the last
    batches are left out instead. With ``cost``, the batches of a step, one for each rank, cost nearly the same
    (``lazygraph.loading.balancing``); this holds 60 bytes per graph while an epoch is planned.

    The batches of an epoch are places in its order, which are computed section by section
    (``lazygraph.loading.batch_table``); the graphs in them are what the order holds or computes
    (``lazygraph.loading.orders``). Without budgets, planning looks at no graph. With budgets, it passes over the sizes
    of all graphs, in the order of the epoch: once, or twice if batches are halved. Every iteration over the batches
    passes over them again.

    Args:
        order: the order of an epoch, from ``lazygraph.loading.orders``.
        limits: greatest contents of a batch: ``graphs``, and any name in ``sizes``, such as ``atoms``.
        sizes: name -> (n,) integers, one per graph.
        bucket: the size in which the graphs of one batch are similar. Graphs are sorted by it in pools of about a
            hundred batches, and the batches of a pool are shuffled.
        cost: (n,) float64, what each graph costs. The batches of a step then cost nearly the same on every rank.
        seed: seed of all random choices.
        drop_last: leave out a last batch that fills none of its limits, and batches that cannot be shared evenly.
        rank: index of this process among those that share an epoch.
        world_size: number of processes that share an epoch.
        identity: identity of the graphs, such as a content id, for ``fingerprint``.

    Raises:
        OversizedGraphs: single graphs exceed a limit; the error has their positions.
        InputError: fields that do not fit together.

    Example:
        >>> from lazygraph.loading.orders import Sequential
        >>> atoms = np.array([4, 2, 5, 1, 1, 1, 6])
        >>> sampling = Sampling(order=Sequential(7), limits={"graphs": 3, "atoms": 8}, sizes={"atoms": atoms})
        >>> [batch.tolist() for batch in sampling.batches(epoch=0)]
        [[0, 1], [2, 3, 4], [5, 6]]
    """

    order: Order
    limits: Mapping[str, int]
    sizes: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    bucket: str | None = None
    cost: NDArray[np.float64] | None = field(default=None, repr=False)
    seed: int = 0
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    identity: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_whole("n", self.order.n, 0)
        check_whole("seed", self.seed, 0)
        check_whole("world_size", self.world_size, 1)
        check_whole("rank", self.rank, 0)
        if self.rank >= self.world_size:
            msg = f"found rank={self.rank} of world_size={self.world_size}; required: a rank below the world size"
            raise InputError(msg)
        for name, size in self.sizes.items():
            if size.shape != (self.order.graphs,) or size.dtype.kind not in "iu" or (len(size) and size.min() < 0):
                msg = (
                    f"found the size {name!r}, {size.dtype} of shape {size.shape}; required: an integer, at least 0, "
                    f"for each of the {self.order.graphs} graphs"
                )
                raise InputError(msg)
        for name, limit in self.limits.items():
            check_whole(f"the limit of {name}", limit, 1)
        if not self.limits:
            raise InputError("batches need a limit; give at least one, such as 64 graphs or 4000 atoms")
        for name in self._used():
            if name not in self.sizes:
                raise InputError(unknown_name("size", name, self.sizes))
        if self.cost is not None:
            self._check_cost(self.cost)
        budgets = {name: limit for name, limit in self.limits.items() if name != "graphs"}
        refuse_oversized({name: self.sizes[name] for name in budgets}, budgets)

    def batches(self, epoch: int) -> Batches:
        """Return the batches of this rank in one epoch."""
        return self.plan(epoch).take(slice(self.rank, None, self.world_size))

    def plan(self, epoch: int) -> Batches:
        """Return the batches of all ranks in one epoch; their number is a multiple of the world size.

        Raises:
            InputError: there are not enough graphs for every rank; the message gives the numbers and a remedy.
        """
        check_whole("epoch", epoch, 0)
        order = self.order.draw(self.seed, epoch)
        if self.cost is not None and self.world_size > 1:
            return self._balanced(order, self.cost, epoch)
        pool = None
        if self.bucket is not None:
            pool = self._pool()
            order = _sorted_in_pools(order, self.order.n, self.sizes[self.bucket], pool)
        table, is_full = self._packed(order, pool)
        if self.drop_last and len(table) and not is_full:
            table = table.without_last()
        if pool is not None:
            table = table.shuffled(
                lambda first, last: random_keys(last - first, self.seed, epoch, BATCHES, start=first), pool
            )
        over = len(table) % self.world_size
        if self.drop_last:
            self._refuse_empty(len(table))
            return Batches(order, table, range(len(table) - over))
        more = self.world_size - over if over else 0
        self._refuse_unfillable(len(table) + more)
        return Batches(order, table.halved(more))

    def _balanced(self, order: EpochOrder, cost: NDArray[np.float64], epoch: int) -> Batches:
        """The batches of all ranks, where those of a step cost nearly the same."""
        n = self.order.n
        positions = order.part(0, n)
        sizes = {name: self.sizes[name][positions] for name in self.limits if name != "graphs"}
        keys = random_keys(n, self.seed, epoch, STEPS)
        made = balance(cost[positions], sizes, self.limits, self.world_size, keys, drop_last=self.drop_last)
        if self.drop_last:
            self._refuse_empty(len(made.counts))
        return Batches(Drawn(positions[made.positions]), BatchTable.from_counts(made.counts))

    def _check_cost(self, cost: NDArray[Any]) -> None:
        """Refuse costs that are no numbers to add up, and a bucket beside them."""
        if self.bucket is not None:
            msg = f"bucket={self.bucket!r} cannot be used with balance, which also groups graphs by size; give only one"
            raise InputError(msg)
        if cost.shape != (self.order.graphs,) or cost.dtype != np.float64:
            msg = f"found costs of type {cost.dtype} and shape {cost.shape}; required: one number for each graph"
            raise InputError(msg)
        if len(wrong := np.flatnonzero(~(np.isfinite(cost) & (cost >= 0)))):
            msg = (
                f"{len(wrong)} of {len(cost)} costs cannot be used, the first at position {wrong[0]}: "
                f"{cost[wrong[0]]}; required: finite numbers, at least 0"
            )
            raise InputError(msg)

    def _packed(self, order: EpochOrder, pool: int | None) -> tuple[BatchTable, bool]:
        """Pack an order into batches, and tell whether the last one fills one of its limits.

        Args:
            order: the order of the epoch.
            pool: number of graphs that are sorted together, if any are. A section has whole pools.
        """
        n = self.order.n
        section = SECTION if pool is None else pool * max(SECTION // pool, 1)
        if set(self.limits) == {"graphs"}:
            size = int(self.limits["graphs"])
            return BatchTable.of_size(n, size, section), n % size == 0

        def sizes(start: int, stop: int) -> dict[str, NDArray[Any]]:
            positions = order.part(start, stop)
            return {
                name: np.ones(len(positions), np.int64) if name == "graphs" else self.sizes[name][positions]
                for name in self.limits
            }

        part = section * max(PART // section, 1)
        parts = (sizes(start, min(start + part, n)) for start in range(0, n, part))
        return BatchTable.within_limits(self.limits, parts, sizes, section)

    def _refuse_empty(self, full: int) -> None:
        """Refuse ``drop_last`` if it leaves the ranks without a batch. A single process may have none, as in torch.

        Args:
            full: number of batches before sharing.
        """
        n, ranks = self.order.n, self.world_size
        if ranks == 1 or full >= ranks or n == 0:
            return
        enough = "smaller batches, fewer ranks or drop_last=False"
        made = {0: "no full batch", 1: "1 full batch"}.get(full, f"{full} full batches")
        msg = (
            f"drop_last=True leaves no batch: {n} graphs make {made} for {ranks} ranks; "
            f"use {enough if n >= ranks else _fewer_ranks(n)}"
        )
        raise InputError(msg)

    def _refuse_unfillable(self, wanted: int) -> None:
        """Refuse an epoch with fewer graphs than batches, because every rank needs the same number of batches."""
        n, ranks = self.order.n, self.world_size
        if n >= wanted:
            return
        # More graphs than ranks, and yet too few: most batches hold one graph, and leaving out the last of them helps.
        enough = "drop_last=True, larger batches or fewer ranks"
        msg = (
            f"{n} graphs cannot fill {wanted} batches, {wanted // ranks} on each of {ranks} ranks; "
            f"use {enough if n >= ranks else _fewer_ranks(n)}"
        )
        raise InputError(msg)

    def fingerprint(self) -> dict[str, str | int | None]:
        """Return everything that the batches depend on except for rank and epoch; saved together with a position."""
        return {
            **self.identity,
            "order": repr(self.order),
            **{f"max_{name}": int(limit) for name, limit in self.limits.items()},
            **{name: f"xxh3 {digest(self.sizes[name])}" for name in self._used()},
            "bucket": self.bucket,
            "balance": None if self.cost is None else f"xxh3 {digest(self.cost)}",
            "seed": int(self.seed),
            "drop_last": self.drop_last,
            "world_size": int(self.world_size),
            "rules": RULES,
        }

    def check(self, saved: Mapping[str, Any]) -> None:
        """Refuse a position that was saved with other batches.

        Args:
            saved: a saved fingerprint.

        Raises:
            InputError: the fingerprint differs; the message names the fields.
        """
        own = self.fingerprint()
        differ = [name for name in {**own, **saved} if name not in own or name not in saved or own[name] != saved[name]]
        if differ:
            parts = (f"{name} is {saved.get(name)!r} there and {own.get(name)!r} here" for name in differ)
            msg = f"the state was saved with other batches: {'; '.join(parts)}; use the same dataset and options"
            raise InputError(msg)

    def _used(self) -> list[str]:
        """Return the names of the sizes that batches depend on."""
        return sorted({*self.limits} - {"graphs"} | ({self.bucket} if self.bucket else set()))

    def _pool(self) -> int:
        """Return how many graphs are sorted together: about a hundred batches, at most a quarter of all graphs."""
        n, graphs = self.order.n, self.order.graphs
        totals = {name: graphs if name == "graphs" else int(self.sizes[name].sum()) for name in self.limits}
        a_batch = min(int(limit) * graphs // max(totals[name], 1) for name, limit in self.limits.items())
        # Were all sorted together, a small dataset would have the same batches in every epoch.
        return max(min(POOL * a_batch, n // 4), 1)


def _fewer_ranks(n: int) -> str:
    return f"at most {n} {'rank' if n == 1 else 'ranks'}"


def _sorted_in_pools(order: EpochOrder, n: int, sizes: NDArray[Any], pool: int) -> EpochOrder:
    """An order of n visits in which every ``pool`` graphs that follow each other are sorted by their sizes."""

    def sorted_pool(number: int) -> NDArray[np.int64]:
        positions = order.part(number * pool, min((number + 1) * pool, n))
        in_order: NDArray[np.int64] = positions[np.argsort(sizes[positions], kind="stable")]
        return in_order

    return InParts(np.append(np.arange(0, n, pool), n), sorted_pool)
