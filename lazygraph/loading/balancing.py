"""Batches of equal cost for all ranks of a step, by pure functions.

Graphs of similar cost form groups of one graph for each rank, so every rank gets as many graphs as the others. A step
consists of such groups. Within a step, the largest groups are handed out first, and of each group, the graph of the
greatest cost goes to the rank that has least so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError

__all__ = ["Balanced", "balance", "imbalance"]

POOL = 512  # groups whose graphs are sorted together
EVEN = 1.005  # of the greatest cost over the mean: such a step is left as it is
GROUPS, PARTS = 4096, 64  # groups that are filled one after the other, about; parts that are filled beside each other
SWAPS = 32  # graphs that two ranks of a step exchange, at most
NONE = -1  # in the place of a graph


class Balanced(NamedTuple):
    """Balanced batches: those of the ranks of the first step, of the second step, and so on."""

    positions: NDArray[np.int64]
    """(n,) the graphs, batch by batch."""
    counts: NDArray[np.int64]
    """(steps * ranks,) the number of graphs in each batch."""


class _Groups(NamedTuple):
    """Groups of graphs in the order in which they are visited. The graphs of a group come by falling cost."""

    members: NDArray[np.int64]
    """(m, ranks) places of graphs; ``NONE`` where the last group has fewer."""
    step: NDArray[np.int64]
    """(m,) the step of each group."""
    rank: NDArray[np.int64]
    """(m, ranks) the rank that each graph goes to, by a choice that keeps the limits."""


def balance(
    costs: NDArray[np.float64],
    sizes: Mapping[str, NDArray[Any]],
    limits: Mapping[str, int],
    ranks: int,
    keys: NDArray[np.uint64],
    *,
    drop_last: bool = False,
) -> Balanced:
    """Form batches so that the batches of a step cost the same on every rank.

    Args:
        costs: (n,) float64, at least 0, of the graphs in the order of the epoch.
        sizes: name -> (n,) integers of the same graphs, for every limit but ``graphs``.
        limits: greatest contents of a batch by name. No graph exceeds one.
        ranks: number of batches in a step.
        keys: (n,) random numbers.
        drop_last: leave out graphs that do not fill a group, and a last step that fills none of its limits.

    Returns:
        The places of the graphs in the order of the epoch.

    Raises:
        InputError: there are too few graphs for a batch on every rank, or those that are left over fit nowhere.

    Example:
        >>> costs = np.array([9.0, 1, 8, 2, 6, 4])
        >>> made = balance(costs, {}, {"graphs": 3}, 2, np.arange(6, dtype=np.uint64))
        >>> [float(costs[part].sum()) for part in np.split(made.positions, made.counts.cumsum()[:-1])]
        [15.0, 15.0]
    """
    n = len(costs)
    if n == 0:
        return Balanced(np.empty(0, np.int64), np.empty(0, np.int64))
    if n < ranks:
        msg = f"{n} graphs cannot fill {ranks} batches, one on each of {ranks} ranks; use at most {n} ranks"
        raise InputError(msg)
    members, rest = _grouped(costs, ranks, keys)
    values = {name: np.ones(n, np.int64) if name == "graphs" else sizes[name] for name in limits}
    groups, is_full = _stepped(members, costs, values, limits)
    if drop_last:
        kept = groups.step < int(groups.step[-1]) + is_full
        groups = _Groups(*(part[kept] for part in groups))
    elif len(rest):
        groups = _with_rest(groups, rest, costs, values, limits)
    rank = _evened(groups, costs)
    over = np.unique(np.flatnonzero(_exceeds(groups, rank, values, limits)) // ranks)
    rank[np.isin(groups.step, over)] = groups.rank[np.isin(groups.step, over)]
    _exchange(groups, rank, costs, values, limits)
    return _listed(groups, rank)


def imbalance(costs: NDArray[np.float64], made: Balanced, ranks: int) -> NDArray[np.float64]:
    """Return the greatest cost of the batches of each step divided by their mean, (steps,).

    Example:
        >>> imbalance(np.array([3.0, 1.0]), Balanced(np.array([0, 1]), np.array([1, 1])), 2)
        array([1.5])
    """
    starts = made.counts.cumsum() - made.counts
    of_batches = np.add.reduceat(costs[made.positions], starts).reshape(-1, ranks)
    found: NDArray[np.float64] = of_batches.max(axis=1) / of_batches.mean(axis=1)
    return found


def _grouped(
    costs: NDArray[np.float64], ranks: int, keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group graphs of similar cost, (m, ranks), in random order within each pool; and those that are left over."""
    n = len(costs)
    # Were all sorted together, a small dataset would have the same groups in every epoch.
    pool = max(min(POOL, n // 4 // ranks), 1) * ranks
    in_order = np.lexsort((-costs, np.arange(n) // pool))
    whole = n // ranks
    members = in_order[: whole * ranks].reshape(whole, ranks)
    shuffled = np.lexsort((keys[:whole], np.arange(whole) // (pool // ranks)))
    return members[shuffled], in_order[whole * ranks :]


def _stepped(
    members: NDArray[np.int64],
    costs: NDArray[np.float64],
    values: Mapping[str, NDArray[Any]],
    limits: Mapping[str, int],
) -> tuple[_Groups, bool]:
    """Fill steps with groups, one after the other, and tell whether the last step fills one of its limits."""
    m, ranks = members.shape
    same = np.broadcast_to(np.arange(ranks), members.shape)
    if set(limits) == {"graphs"}:
        return _Groups(members, np.arange(m) // limits["graphs"], same), m % limits["graphs"] == 0
    # Parts of the groups are filled beside each other, so that numpy does the work. Each part ends in a smaller step.
    parts = min(max(m // GROUPS, 1), PARTS)
    begins = np.arange(parts) * m // parts
    lengths = np.diff(np.append(begins, m))
    most = np.array(list(limits.values()))
    sizes = np.stack([values[name] for name in limits], axis=1).astype(np.int64)
    step, rank, number = np.zeros(m, np.int64), np.empty((m, ranks), np.int64), np.zeros(parts, np.int64)
    loads, used = np.zeros((parts, ranks)), np.zeros((parts, ranks, len(most)), np.int64)
    for turn in range(int(lengths.max())):
        now = np.flatnonzero(turn < lengths)
        group = begins[now] + turn
        more = sizes[members[group]]
        least = np.argsort(loads[now], axis=1, kind="stable")
        full = (used[now[:, None], least] + more > most).any(axis=(1, 2))
        ended = now[full]
        number[ended] += 1
        loads[ended], used[ended], least[full] = 0, 0, np.arange(ranks)
        loads[now[:, None], least] += costs[members[group]]
        used[now[:, None], least] += more
        step[group], rank[group] = number[now], least
    step += (np.cumsum(number + 1) - number - 1).repeat(lengths)
    return _Groups(members, step, rank), bool((used[-1] >= most).any())


def _with_rest(
    groups: _Groups,
    rest: NDArray[np.int64],
    costs: NDArray[np.float64],
    values: Mapping[str, NDArray[Any]],
    limits: Mapping[str, int],
) -> _Groups:
    """Add the graphs that fill no group: to the last step with room for them, or with one of its groups as a step more.

    Raises:
        InputError: they fit nowhere.
    """
    ranks = groups.members.shape[1]
    added = np.full((1, ranks), NONE)
    added[0, : len(rest)] = rest
    loads = _sums(groups, groups.rank, costs).reshape(-1, ranks)
    least = np.argsort(loads, axis=1, kind="stable")[:, : len(rest)]
    fits = np.ones(len(loads), bool)
    for name, limit in limits.items():
        used = np.take_along_axis(_sums(groups, groups.rank, values[name]).reshape(-1, ranks), least, axis=1)
        fits &= (used + values[name][rest] <= limit).all(axis=1)
    if fits.any():
        step = int(np.flatnonzero(fits)[-1])
        row = np.argsort(loads[step], kind="stable")[None]
        return _Groups(
            np.concatenate([groups.members, added]), np.append(groups.step, step), np.concatenate([groups.rank, row])
        )
    # The smallest graphs are left over, so those of another group that have least beside them are most likely to fit.
    several = np.flatnonzero(np.bincount(groups.step)[groups.step] > 1)
    for group in several[::-1]:
        beside = groups.members[group][::-1]
        pairs = beside[: len(rest)]
        if all((values[name][pairs] + values[name][rest] <= limit).all() for name, limit in limits.items()):
            last = int(groups.step[-1]) + 1
            steps = groups.step.copy()
            steps[group] = last
            chosen = groups.rank.copy()
            chosen[group] = np.arange(ranks)
            reverse = np.arange(ranks)[::-1][None]
            return _Groups(
                np.concatenate([groups.members, added]), np.append(steps, last), np.concatenate([chosen, reverse])
            )
    n = int((groups.members != NONE).sum()) + len(rest)
    msg = (
        f"{n} graphs cannot be shared evenly by {ranks} ranks: {len(rest)} are left over and fit into no batch; use "
        "drop_last=True, larger batches or fewer ranks"
    )
    raise InputError(msg)


def _evened(groups: _Groups, costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Hand out the graphs of all steps at once, the largest groups first; (m, ranks) the rank of each graph."""
    m, ranks = groups.members.shape
    if m == 0:
        return groups.rank.copy()
    of_groups = np.where(groups.members == NONE, 0.0, costs[groups.members])
    in_order = np.lexsort((-of_groups[:, 0], groups.step))
    per_step = np.bincount(groups.step)
    turn = np.arange(m) - (per_step.cumsum() - per_step).repeat(per_step)  # of each group in its step
    loads = np.zeros((len(per_step), ranks))
    rank = np.empty_like(groups.members)
    by_turn = np.argsort(turn, kind="stable")
    for now in np.split(in_order[by_turn], np.bincount(turn).cumsum()[:-1]):
        steps = groups.step[now]
        least = np.argsort(loads[steps], axis=1, kind="stable")
        rank[now] = least
        loads[steps[:, None], least] += of_groups[now]
    return rank


def _exchange(
    groups: _Groups,
    rank: NDArray[np.int64],
    costs: NDArray[np.float64],
    values: Mapping[str, NDArray[Any]],
    limits: Mapping[str, int],
) -> None:
    """Change ``rank``: in steps that are not even, the ranks of the most and the least cost exchange graphs."""
    ranks = groups.members.shape[1]
    loads = _sums(groups, rank, costs).reshape(-1, ranks)
    uneven = np.flatnonzero(loads.max(axis=1) > EVEN * loads.mean(axis=1))
    by_step = np.argsort(groups.step, kind="stable")
    ends = np.bincount(groups.step, minlength=len(loads)).cumsum()
    for step in uneven.tolist():
        rows = by_step[(ends[step - 1] if step else 0) : ends[step]]
        members, place = groups.members[rows].ravel(), rank[rows].ravel()
        real = np.flatnonzero(members != NONE)
        graphs, place = members[real], place[real]
        own = costs[graphs]
        for _ in range(SWAPS):
            load = np.bincount(place, own, minlength=ranks)
            most, least = int(load.argmax()), int(load.argmin())
            if load[most] <= EVEN * load.mean():
                break
            mine, theirs = np.flatnonzero(place == most), np.flatnonzero(place == least)
            gap = load[most] - load[least]
            left = np.abs(gap - 2 * (own[mine][:, None] - own[theirs]))  # the gap after an exchange
            for name, limit in limits.items():
                size = values[name][graphs]
                more = size[mine][:, None] - size[theirs]
                left[size[theirs].sum() + more > limit] = np.inf
                left[size[mine].sum() - more > limit] = np.inf
            best = np.unravel_index(int(left.argmin()), left.shape)
            if left[best] >= gap:
                break
            place[mine[best[0]]], place[theirs[best[1]]] = least, most
        flat = rank[rows].ravel()
        flat[real] = place
        rank[rows] = flat.reshape(-1, ranks)


def _exceeds(
    groups: _Groups, rank: NDArray[np.int64], values: Mapping[str, NDArray[Any]], limits: Mapping[str, int]
) -> NDArray[np.bool_]:
    """(steps * ranks,) whether a batch exceeds a limit."""
    found = np.zeros((int(groups.step.max(initial=-1)) + 1) * groups.members.shape[1], bool)
    for name, limit in limits.items():
        found |= _sums(groups, rank, values[name]) > limit
    return found


def _sums(groups: _Groups, rank: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:
    """(steps * ranks,) the sum of values of each batch."""
    ranks = groups.members.shape[1]
    real = groups.members != NONE
    batch = (groups.step[:, None] * ranks + rank)[real]
    steps = int(groups.step.max(initial=-1)) + 1
    out: NDArray[Any] = np.bincount(batch, values[groups.members[real]], minlength=steps * ranks)
    return out


def _listed(groups: _Groups, rank: NDArray[np.int64]) -> Balanced:
    """The graphs of each batch, one batch after the other."""
    ranks = groups.members.shape[1]
    real = groups.members != NONE
    batch = (groups.step[:, None] * ranks + rank)[real]
    in_order = np.argsort(batch, kind="stable")
    steps = int(groups.step.max(initial=-1)) + 1
    return Balanced(groups.members[real][in_order], np.bincount(batch, minlength=steps * ranks).astype(np.int64))
