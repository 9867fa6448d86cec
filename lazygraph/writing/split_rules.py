"""Rules of splits, which decide whether a graph is in train, val or test, also for graphs that are added later.

``SplitRule`` divides all graphs by fractions, ``CountsRule`` by exact numbers, ``FoldRule`` is one fold of a
cross-validation, and ``LeaveOutRule`` tests on all crystals with some elements. ``LabelledRule`` applies one of these
to the graphs with a value of a label. A rule is a frozen dataclass, and the dataset stores its JSON form.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.columns import NO_SPLIT, bounded
from lazygraph.format.manifest import MAX_FOLDS
from lazygraph.reading.operands import Elements
from lazygraph.writing.folds import folds_of_graphs, folds_of_groups, folds_of_strata
from lazygraph.writing.shares import (
    SPLITS,
    at_most,
    chunks,
    group_sizes,
    grouped_codes,
    of_members,
    shuffled,
    stratified_codes,
)
from lazygraph.writing.value_groups import FORMULA, Groups, RuleColumns

__all__ = [
    "BINS",
    "CountsRule",
    "FoldRule",
    "LabelledRule",
    "LeaveOutRule",
    "Rule",
    "SplitRule",
    "Strata",
    "labels_of",
    "rule_from_json",
]

BINS = 10  # the default number of bins
MAX_STRATA = 1000
TEST = SPLITS.index("test")

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Strata:
    """Strata by the values of a column. Every split gets its share of each stratum.

    Args:
        label: the column. Graphs without a value are one stratum.
        edges: the greatest value of each bin except for the last; None if each value is a stratum.
    """

    label: str
    edges: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(map(float, self.edges)))

    @classmethod
    def of(cls, label: str, bins: int, columns: RuleColumns) -> Strata:
        """Return the strata of a dataset: its values, or equally full bins if there are more values than ``bins``.

        Args:
            label: the column.
            bins: the number of bins, 2 to 1,000. Equal numbers are in one bin, so bins can differ in size.
            columns: the columns of the dataset.

        Raises:
            InputError: there is no such column, or it has too many different texts, or ``bins`` is out of range.
        """
        if not 2 <= bins <= MAX_STRATA:
            msg = f"found {bins} bins; required: 2 to {MAX_STRATA:,}"
            raise InputError(msg)
        groups = columns.groups(label)
        if groups.values.dtype.kind == "S":
            if len(groups.values) > MAX_STRATA:
                msg = (
                    f"the column {label!r} has {len(groups.values):,} different texts; required: at most "
                    f"{MAX_STRATA:,} to stratify by; use it as a group instead"
                )
                raise InputError(msg)
            return cls(label)
        values = groups.values[: len(groups.values) - (1 if groups.missing() else 0)]
        if len(values) <= bins:
            return cls(label)
        places = _quantiles(group_sizes(groups.numbers)[: len(values)], bins)
        edges = np.unique(values[places].astype(np.float64))
        return cls(label, tuple(edges[edges < float(values[-1])].tolist()))

    def numbers(self, columns: RuleColumns) -> NDArray[Any]:
        """Return the number of the stratum of each graph, (n,) unsigned."""
        if self.edges is None:
            return columns.groups(self.label).numbers
        edges = np.array(self.edges)
        pieces = columns.values(self.label)
        out = columns.scratch.array(np.uint16, sum(map(len, pieces)))
        row = 0
        for piece in bounded(pieces):
            if piece.dtype.kind == "S":
                msg = f"the label {self.label!r} has texts, and the splits follow its numbers; split the dataset again"
                raise InputError(msg)
            values = piece.astype(np.float64)
            numbers = np.searchsorted(edges, values)
            out[row : row + len(piece)] = np.where(np.isnan(values), len(edges) + 1, numbers)
            row += len(piece)
        return out

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"label": self.label, "edges": None if self.edges is None else list(self.edges)}


class Rule(ABC):
    """A rule that decides the split of every graph of a dataset."""

    __slots__ = ()

    def codes(self, n: int, columns: RuleColumns) -> NDArray[np.uint8]:
        """(n,) uint8, an index into ``SPLITS`` for each of n graphs; 255 for graphs in no split.

        Args:
            n: the number of graphs.
            columns: the columns that the rule reads.

        Raises:
            InputError: there is no such column, or the rule cannot be applied to these graphs.
        """
        return self.extended(np.full(n, NO_SPLIT, np.uint8), 0, columns, continued=False)

    @abstractmethod
    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """Split added graphs. The splits of the old graphs stay as they are.

        With ``continued``, new graphs fill each split up to its share of all graphs. A dataset that grew then has the
        same shares as a dataset that was written at once. Otherwise the shares are those of the new graphs alone. New
        graphs of a group go to the split that has old graphs of this group.

        Args:
            codes: (n,), an index into ``SPLITS`` for each graph, 255 for no split; the old graphs come first. New
                graphs that are in a split already stay there.
            old: the number of old graphs.
            columns: the columns of all graphs.
            continued: whether the old graphs were split by this rule.

        Returns:
            (n,) as ``codes``.

        Raises:
            InputError: the old graphs of one group are in several splits, so no split keeps them together.
        """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the JSON form of the rule, which a dataset stores."""

    @abstractmethod
    def in_words(self) -> str:
        """Return the rule in words, for ``lazygraph info``."""


@dataclass(frozen=True, slots=True)
class SplitRule(Rule):
    """Fractions of train, val and test, and the seed of the shuffle.

    Args:
        fractions: of train, val and test, together at most 1.
        seed: random seed of the shuffle.
        group: the column whose equal values stay in one split. Graphs without a value are one group.
        stratify: the strata of which every split gets its share.

    Raises:
        InputError: the fractions are not three parts of a whole, or ``group`` and ``stratify`` are both given.
    """

    fractions: Sequence[float]
    seed: int = 123
    group: str | None = None
    stratify: Strata | None = None

    def __post_init__(self) -> None:
        fractions = self.fractions
        if not (len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and 0 < math.fsum(fractions) <= 1 + 1e-9):
            msg = (
                f"found the fractions {tuple(fractions)}; required: three from 0 to 1 for train, val and test, "
                "together at most 1"
            )
            raise InputError(msg)
        _refuse_both(self)
        object.__setattr__(self, "fractions", tuple(map(float, fractions)))  # equal rules compare equal

    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """See :meth:`Rule.extended`."""
        codes = codes.copy()
        units = _Units.of(self, columns, codes, old)
        new = codes[old:]
        free = new == NO_SPLIT
        n, fractions = int(free.sum()), self.fractions
        counts: Sequence[int] = [int(fraction * n) for fraction in fractions]
        if continued:
            have = [int((codes == code).sum()) for code in range(len(SPLITS))]
            lacking = [fraction * len(codes) - n for fraction, n in zip(fractions, have, strict=True)]
            rest = (1 - math.fsum(fractions)) * len(codes) - int((codes[:old] == NO_SPLIT).sum())
            total = sum(max(0.0, n) for n in (*lacking, rest))
            counts = [max(0, int(f * len(codes)) - n) for f, n in zip(fractions, have, strict=True)]
            counts = at_most(n, counts)
            if total and self.stratify is None:
                fractions = [max(0.0, n) / total for n in lacking]
        new[free] = units.divided(codes, old, _Shares(fractions, counts, self.seed), continued=continued)
        return codes

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Rule.to_json`."""
        return {"fractions": list(self.fractions), "seed": self.seed, "group": self.group, **_stratify_json(self)}

    def in_words(self) -> str:
        """See :meth:`Rule.in_words`."""
        fractions = ", ".join(f"{fraction:g}" for fraction in self.fractions)
        return f"by the fractions {fractions}, seed {self.seed}{_units_in_words(self)}"


@dataclass(frozen=True, slots=True)
class CountsRule(Rule):
    """Exact numbers of graphs in train, val and test, and the seed of the shuffle.

    The order of the graphs is the order of ``SplitRule``: train is its beginning, test its end, and val comes before
    test. All other graphs are in no split, and so are graphs that are added later.

    Args:
        counts: the numbers of graphs in train, val and test.
        seed: random seed of the shuffle.

    Raises:
        InputError: these are not three integers, or one is negative, or all are 0.
    """

    counts: Sequence[int]
    seed: int = 123

    def __post_init__(self) -> None:
        try:
            counts = tuple(map(operator.index, self.counts))
        except TypeError:
            counts = ()
        if not (len(counts) == len(SPLITS) and min(counts) >= 0 and sum(counts) > 0):
            msg = (
                f"found the counts {self.counts!r}; required: three integers of at least 0 for train, val and test, "
                "such as 60000,5000,4239"
            )
            raise InputError(msg)
        object.__setattr__(self, "counts", counts)

    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """See :meth:`Rule.extended`. With ``continued``, new graphs are in no split, because the numbers are exact."""
        del columns
        codes = codes.copy()
        if continued:
            return codes
        new = codes[old:]
        free = new == NO_SPLIT
        n = int(free.sum())
        if sum(self.counts) > n:
            train, val, test = self.counts
            msg = (
                f"the counts {train:,} for train, {val:,} for val and {test:,} for test add up to "
                f"{sum(self.counts):,}, and there are {n:,} graphs; give smaller counts"
            )
            raise InputError(msg)
        new[free] = shuffled(n, self.counts, self.seed)
        return codes

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Rule.to_json`."""
        return {"counts": list(self.counts), "seed": self.seed}

    def in_words(self) -> str:
        """See :meth:`Rule.in_words`."""
        train, val, test = self.counts
        return f"exactly {train:,} graphs in train, {val:,} in val and {test:,} in test, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class FoldRule(Rule):
    """One fold of a cross-validation: its graphs are in test, and all others in train and val.

    Args:
        fold: the number of the fold, from 0. Every graph is in test for one of the folds 0 to ``folds`` - 1.
        folds: the number of folds, 2 to 100.
        val: the fraction of the other graphs that are in val.
        seed: random seed of the folds and of the choice of val, 0 to 2^32 - 1.
        group: the column whose equal values stay in one fold, and in one split. Graphs without a value are one group.
        stratify: the strata of which every fold gets its share.

    Raises:
        InputError: a number is out of range, or ``group`` and ``stratify`` are both given.
    """

    fold: int
    folds: int
    val: float = 0.0
    seed: int = 123
    group: str | None = None
    stratify: Strata | None = None

    def __post_init__(self) -> None:
        if not (2 <= self.folds <= MAX_FOLDS and 0 <= self.fold < self.folds):
            msg = f"found fold {self.fold} of {self.folds}; required: 2 to {MAX_FOLDS} folds, counted from 0"
            raise InputError(msg)
        if not 0 <= self.seed < 2**32:
            msg = f"found the seed {self.seed}; required: 0 to 2^32 - 1 for folds"
            raise InputError(msg)
        _check_val(self.val)
        _refuse_both(self)
        object.__setattr__(self, "val", float(self.val))

    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """See :meth:`Rule.extended`. New graphs continue the folds; see ``lazygraph.writing.folds``."""
        codes = codes.copy()
        units = _Units.of(self, columns, codes, old)
        if old == 0:
            self._check_enough(len(codes), units)
        new = codes[old:]
        free = new == NO_SPLIT
        numbers = units.folds(free, self.folds, self.seed, old)
        new[free] = np.where(numbers == self.fold, np.uint8(TEST), np.uint8(NO_SPLIT))
        return _train_and_val(codes, old, units, self.val, self.seed, continued=continued)

    def _check_enough(self, n: int, units: _Units) -> None:
        """Refuse folds if some of them would be empty."""
        found = n if units.groups is None else len(units.groups.values)
        if found < self.folds:
            what = "graphs" if units.groups is None else f"groups with different {self.group!r}"
            msg = f"found {found} {what} for {self.folds} folds; required: at least one for each fold"
            raise InputError(msg)

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Rule.to_json`."""
        numbers = {"fold": self.fold, "folds": self.folds, "val": self.val, "seed": self.seed}
        return {**numbers, "group": self.group, **_stratify_json(self)}

    def in_words(self) -> str:
        """See :meth:`Rule.in_words`."""
        return f"fold {self.fold} of {self.folds}, val {self.val:g}, seed {self.seed}{_units_in_words(self)}"


@dataclass(frozen=True, slots=True)
class LeaveOutRule(Rule):
    """All crystals with one of some elements are in test, and all others in train and val.

    Args:
        leave_out: the symbols of the elements.
        val: the fraction of the other crystals that are in val.
        seed: random seed of the choice of val.

    Raises:
        InputError: there is no element, or the fraction is out of range.
    """

    leave_out: Sequence[str]
    val: float = 0.0
    seed: int = 123

    def __post_init__(self) -> None:
        if isinstance(self.leave_out, str) or not self.leave_out:
            msg = f"found leave_out={self.leave_out!r}; required: a list of elements, such as ['Fe', 'Co']"
            raise InputError(msg)
        Elements(np.array([b"H"])).any_of(self.leave_out)  # refuses unknown elements
        _check_val(self.val)
        object.__setattr__(self, "leave_out", tuple(sorted(set(self.leave_out))))
        object.__setattr__(self, "val", float(self.val))

    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """See :meth:`Rule.extended`. A new crystal with one of the elements goes to test."""
        codes = codes.copy()
        if FORMULA not in columns.names:
            msg = "the graphs are ready-made, without formulas; only a dataset of crystals can leave elements out"
            raise InputError(msg)
        row, found = 0, 0
        for formulas in bounded(columns.values(FORMULA)):
            own = codes[row : row + len(formulas)]
            there = Elements(formulas).any_of(self.leave_out)
            there[: max(0, old - row)] = False
            own[there & (own == NO_SPLIT)] = TEST
            found += int(there.sum())
            row += len(formulas)
        if old == 0 and not found:
            msg = (
                f"none of the {len(codes):,} crystals has {' or '.join(self.leave_out)}; leave out an element that "
                "the dataset has"
            )
            raise InputError(msg)
        return _train_and_val(codes, old, _Units(None, None), self.val, self.seed, continued=continued)

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Rule.to_json`."""
        return {"leave_out": list(self.leave_out), "val": self.val, "seed": self.seed}

    def in_words(self) -> str:
        """See :meth:`Rule.in_words`."""
        return f"tests on crystals with {' or '.join(self.leave_out)}, val {self.val:g}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class LabelledRule(Rule):
    """Any other rule, applied to the graphs with a value of a label. All other graphs are in no split.

    The graphs with a value get the splits that they would have in a dataset of these graphs alone. Published networks
    are trained on such splits: their code drops the structures without a target, and then shuffles the rest.

    Args:
        label: the label. A graph has no value if its number is NaN, or its text is empty. If a label has several
            numbers per graph, all of them are NaN.
        rule: the rule for the graphs with a value.
    """

    label: str
    rule: SplitRule | CountsRule | FoldRule | LeaveOutRule

    def extended(
        self, codes: NDArray[np.uint8], old: int, columns: RuleColumns, *, continued: bool
    ) -> NDArray[np.uint8]:
        """See :meth:`Rule.extended`. New graphs without a value stay as they are."""
        codes = codes.copy()
        there, own = columns.labelled(self.label)
        if old == 0 and not there.any():
            msg = f"none of the {len(codes):,} graphs has a value of {self.label!r}; name another label"
            raise InputError(msg)
        try:
            codes[there] = self.rule.extended(codes[there], int(there[:old].sum()), own, continued=continued)
        except InputError as error:
            msg = f"among the graphs with a value of {self.label!r}: {error}"
            raise InputError(msg) from error
        return codes

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Rule.to_json`."""
        return {**self.rule.to_json(), "labelled": self.label}

    def in_words(self) -> str:
        """See :meth:`Rule.in_words`."""
        return f"{self.rule.in_words()}, of the graphs with a value of {self.label}"


def _quantiles(sizes: NDArray[Any], bins: int) -> list[int]:
    """Return the last group of each of some equally full bins, except for the last bin.

    Args:
        sizes: the number of rows of each group, in the order of the values.
        bins: the number of bins.
    """
    total, before, first = int(sizes.sum(dtype=np.int64)), 0, 0
    wanted = [total * number / bins for number in range(1, bins)]
    places: list[int] = []
    for part in chunks(sizes):
        ends = before + np.cumsum(part, dtype=np.int64)
        here = [rows for rows in wanted[len(places) :] if rows <= ends[-1]]
        places += (first + np.searchsorted(ends, here)).tolist()
        before, first = int(ends[-1]), first + len(part)
    return places


_KINDS: dict[str, Callable[..., SplitRule | CountsRule | FoldRule | LeaveOutRule]] = {
    "fractions": SplitRule,
    "counts": CountsRule,
    "fold": FoldRule,
    "leave_out": LeaveOutRule,
}
"""A key of the JSON form -> the class of the rule that has it."""


def rule_from_json(data: Mapping[str, Any]) -> Rule:
    """Read the JSON form of any rule."""
    values = dict(data)
    label = values.pop("labelled", None)
    if "stratify" in values:
        values["stratify"] = Strata(**values["stratify"])
    rule = next(kind for key, kind in _KINDS.items() if key in values)(**values)
    return rule if label is None else LabelledRule(label, rule)


def labels_of(data: Mapping[str, Any]) -> set[str]:
    """Return the columns whose values decide the splits, from the JSON form of a rule."""
    named = (data.get("group"), data.get("stratify", {}).get("label"), data.get("labelled"))
    return {name for name in named if name is not None}


class _Shares(NamedTuple):
    """The shares of train, val and test.

    Attributes:
        fractions: the fractions of these graphs, or with strata, of all graphs of each stratum.
        counts: the numbers of graphs, used without groups and strata.
        seed: random seed of the shuffle.
    """

    fractions: Sequence[float]
    counts: Sequence[int]
    seed: int


class _Units(NamedTuple):
    """The groups that stay together, or the strata that are divided evenly."""

    groups: Groups | None
    strata: NDArray[Any] | None

    @classmethod
    def of(cls, rule: SplitRule | FoldRule, columns: RuleColumns, codes: NDArray[np.uint8], old: int) -> _Units:
        """Return the units of a rule, after new graphs joined the old graphs of their groups."""
        groups = None if rule.group is None else columns.groups(rule.group)
        if groups is not None:
            _follow_groups(codes, old, groups, rule.group)
        return cls(groups, None if rule.stratify is None else rule.stratify.numbers(columns))

    def divided(self, codes: NDArray[np.uint8], old: int, shares: _Shares, *, continued: bool) -> NDArray[np.uint8]:
        """Return the splits of the new graphs that are in no split yet.

        Args:
            codes: (n,) the splits so far.
            old: the number of old graphs.
            shares: the shares of the splits.
            continued: whether the shares of a stratum count all its graphs, and not only the new ones.
        """
        free = codes[old:] == NO_SPLIT
        fractions, counts, seed = shares
        if self.groups is not None:
            return grouped_codes(_renumbered(_those(self.groups.numbers[old:], free)), fractions, seed)
        if self.strata is not None:
            strata = _those(self.strata[old:], free)
            have = np.zeros((max((int(part.max()) + 1 for part in chunks(self.strata)), default=0), 4), np.int64)
            if continued:
                rest = np.concatenate([np.ones(old, bool), ~free])
                code = np.minimum(codes[rest], len(SPLITS))
                np.add.at(have, (self.strata[rest], code), 1)
            return stratified_codes(strata, have, fractions, seed)
        return shuffled(int(free.sum()), counts, seed)

    def folds(self, free: NDArray[np.bool_], folds: int, seed: int, old: int) -> NDArray[np.uint8]:
        """Return the folds of some new graphs.

        Args:
            free: (n - old,) the mask of these graphs among the new ones.
            folds: the number of folds.
            seed: random seed of the shuffle.
            old: the number of old graphs.
        """
        if self.groups is not None:
            return folds_of_groups(_renumbered(_those(self.groups.numbers[old:], free)), folds, seed, old)
        if self.strata is not None:
            return folds_of_strata(_those(self.strata[old:], free), folds, seed, old)
        return folds_of_graphs(int(free.sum()), folds, seed, old)

    def take(self, rows: NDArray[np.bool_]) -> _Units:
        """Return the units of some of the graphs."""
        groups = None if self.groups is None else Groups(self.groups.numbers[rows], self.groups.values)
        return _Units(groups, None if self.strata is None else self.strata[rows])


def _train_and_val(
    codes: NDArray[np.uint8], old: int, units: _Units, val: float, seed: int, *, continued: bool
) -> NDArray[np.uint8]:
    """Divide the graphs that are not in test: this fraction, rounded down, goes to val, and all others to train."""
    rest = codes != TEST
    some, before = codes[rest], int(rest[:old].sum())
    new = some[before:]
    free = new == NO_SPLIT
    n = int(free.sum())
    if continued:
        wanted = max(0, min(n, int(val * len(some)) - int((some == SPLITS.index("val")).sum())))
    else:
        wanted = int(val * n)
    fraction = val if units.strata is not None else wanted / max(1, n)
    shares = _Shares((1 - fraction, fraction, 0.0), (n - wanted, wanted, 0), seed)
    new[free] = units.take(rest).divided(some, before, shares, continued=continued)
    codes[rest] = some
    return codes


def _those(values: NDArray[T], chosen: NDArray[np.bool_]) -> NDArray[T]:
    """Return some of the values, without a copy if these are all."""
    return values if chosen.all() else values[chosen]


def _renumbered(members: NDArray[Any]) -> NDArray[Any]:
    """Renumber groups without gaps, in the same order."""
    count = max((int(part.max()) + 1 for part in chunks(members)), default=0)
    there = np.zeros(count, bool)
    for part in chunks(members):
        there[part] = True
    if there.all():
        return members
    new = np.cumsum(there, dtype=members.dtype) - 1
    out, row = np.empty_like(members), 0
    for part in chunks(members):
        out[row : row + len(part)] = new[part]
        row += len(part)
    return out


def _follow_groups(codes: NDArray[np.uint8], old: int, groups: Groups, name: str | None) -> None:
    """Put new graphs into the split that has the old graphs of their group."""
    known = np.full(len(groups.values), NO_SPLIT, np.uint8)
    mixed = np.zeros(len(known), bool)
    for members, own in zip(chunks(groups.numbers[:old]), chunks(codes[:old]), strict=True):
        placed = own != NO_SPLIT
        free = placed & (known[members] == NO_SPLIT)
        known[members[free]] = own[free]
        mixed[members[placed & (known[members] != own)]] = True
    new = codes[old:]
    if mixed.any() and (met := np.unique(groups.numbers[old:][mixed[groups.numbers[old:]]])).size:
        msg = (
            f"the graphs with {name} {groups.shown(int(met[0]))} in the dataset are already in several splits, so they "
            "cannot be kept together; append without a group, or split the whole dataset by it first: lazygraph split "
            f"--group {name}"
        )
        raise InputError(msg)
    free = new == NO_SPLIT
    new[free] = of_members(known, groups.numbers[old:])[free]


def _check_val(val: float) -> None:
    if not 0 <= val < 1:
        msg = f"found the fraction {val} for val; required: from 0 to less than 1, of the graphs that are not in test"
        raise InputError(msg)


def _refuse_both(rule: SplitRule | FoldRule) -> None:
    if rule.group is not None and rule.stratify is not None:
        msg = (
            f"the group {rule.group!r} and strata by {rule.stratify.label!r} are given; give one of them, because "
            "whole groups cannot be shared out evenly"
        )
        raise InputError(msg)


def _stratify_json(rule: SplitRule | FoldRule) -> dict[str, Any]:
    return {} if rule.stratify is None else {"stratify": rule.stratify.to_json()}


def _units_in_words(rule: SplitRule | FoldRule) -> str:
    if rule.stratify is not None:
        bins = "" if rule.stratify.edges is None else f" in {len(rule.stratify.edges) + 1} bins"
        return f", stratified by {rule.stratify.label}{bins}"
    return f", by {rule.group}" if rule.group else ""
