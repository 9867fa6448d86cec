"""Random splits by fractions: which graphs train, validate and test, and where graphs go that are added later."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.columns import NO_SPLIT, Column, ColumnWriter, Pieces, texts_of
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.registry import unknown_name

__all__ = [
    "DEFAULT",
    "SPLITS",
    "Groups",
    "SplitRule",
    "Splits",
    "can_group",
    "check_group",
    "grouped_codes",
    "groups_of",
    "recorded_rule",
    "split_codes",
    "write_split",
]

SPLITS = ("train", "val", "test")
DEFAULT = "split"  # the column of the splits that are meant where none is named
Groups: TypeAlias = Callable[[str], NDArray[Any]]
"""The name of a column -> its values: graphs with equal ones are one group."""


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Fractions of train, val and test, the seed of the shuffle, and the column whose equal values stay together.

    Raises:
        InputError: they are not three fractions of a whole.
    """

    fractions: Sequence[float]
    seed: int = 123
    group: str | None = None

    def __post_init__(self) -> None:
        fractions = self.fractions
        if not (len(fractions) == 3 and all(0 <= f <= 1 for f in fractions) and 0 < math.fsum(fractions) <= 1 + 1e-9):
            msg = (
                f"found the fractions {tuple(fractions)}; required: three from 0 to 1 for train, val and test, "
                "together at most 1"
            )
            raise InputError(msg)
        object.__setattr__(self, "fractions", tuple(map(float, fractions)))  # equal however they were given

    def codes(self, n: int, groups: Groups) -> NDArray[np.uint8]:
        """(n,) uint8, an index into ``SPLITS`` for each of n graphs; 255 for those that are in none.

        Args:
            n: the number of graphs.
            groups: gives the values of the column to group by. Graphs without a value are one group.
        """
        if self.group is None:
            return split_codes(n, self.fractions, self.seed)
        _, members = np.unique(groups(self.group), return_inverse=True)
        return grouped_codes(members, self.fractions, self.seed)

    def extended(self, codes: NDArray[np.uint8], old: int, groups: Groups, *, continued: bool) -> NDArray[np.uint8]:
        """Splits of graphs that were added to others, whose splits stay as they are.

        The new graphs are shuffled by the same seed. With ``continued`` each split gets as many of them as it lacks of
        its share of all graphs, so that a dataset that grew has the shares of one that was written at once; else the
        fractions are those of the new graphs alone. A group that has a graph in a split goes there as a whole.

        Args:
            codes: (n,), an index into ``SPLITS`` for each graph, 255 in none; the old ones come first. New graphs that
                are in a split already stay there.
            old: how many are old.
            groups: gives the values of the column to group by.
            continued: whether the old graphs were split by this rule.

        Returns:
            (n,) as ``codes``.

        Raises:
            InputError: the old graphs of one group are in several splits, so no split keeps them together.
        """
        codes = codes.copy()
        values = None if self.group is None else groups(self.group)
        if values is not None:
            _follow_groups(codes, old, values, self.group)
        free = np.flatnonzero(codes[old:] == NO_SPLIT) + old
        fractions, counts = self.fractions, [int(fraction * len(free)) for fraction in self.fractions]
        if continued:
            have = [int((codes == code).sum()) for code in range(len(SPLITS))]
            lacking = [fraction * len(codes) - n for fraction, n in zip(self.fractions, have, strict=True)]
            rest = (1 - math.fsum(self.fractions)) * len(codes) - int((codes[:old] == NO_SPLIT).sum())
            total = sum(max(0.0, n) for n in (*lacking, rest))
            fractions = [max(0.0, n) / total for n in lacking] if total else fractions
            counts = [max(0, int(f * len(codes)) - n) for f, n in zip(self.fractions, have, strict=True)]
            counts = _at_most(len(free), counts)
        if values is None:
            codes[free] = _shuffled(len(free), counts, self.seed)
        elif len(free):
            _, members = np.unique(values[free], return_inverse=True)
            codes[free] = grouped_codes(members, fractions, self.seed)
        return codes

    def to_json(self) -> dict[str, Any]:
        """The form in which a dataset keeps it."""
        return {"fractions": list(self.fractions), "seed": self.seed, "group": self.group}


def recorded_rule(manifest: Manifest, name: str = DEFAULT) -> SplitRule | None:
    """The rule by which all graphs of a dataset were split, if there is one; ``name`` is the column of the splits."""
    column = manifest.splits().get(name)
    return None if column is None or column.rule is None else SplitRule(**column.rule)


def groups_of(columns: Mapping[str, Column], values: Callable[[str], NDArray[Any]]) -> Groups:
    """The groups of a dataset by the name of a column.

    Args:
        columns: of the dataset.
        values: name -> the stored values of a column.
    """

    def groups(name: str) -> NDArray[Any]:
        check_group(name, [known for known, column in columns.items() if known == "formula" or can_group(column)])
        column = columns[name]
        # As texts: the codes of a category depend on what else is in it.
        return texts_of(column, values(name)) if column.role == "category" else values(name)

    return groups


def can_group(column: Column) -> bool:
    """Whether graphs can be grouped by a column: a label of one value a graph."""
    return column.role in ("category", "text", "label") and len(column.shape) == 1


def check_group(name: str, known: Iterable[str]) -> None:
    """Refuse to group by what is not there, and by vectors.

    Raises:
        InputError: with the columns that can be grouped by.
    """
    names = list(known)
    if name not in names:
        msg = f"{unknown_name('group', name, names)}; required: formula, or a label of one value a graph"
        raise InputError(msg)


def write_split(columns: ColumnWriter, name: str, codes: Pieces, names: Sequence[str], rule: SplitRule | None) -> None:
    """Write one column of splits, whose codes come in pieces."""
    columns.stream(name, codes, role="split", categories=names, rule=None if rule is None else rule.to_json())


@dataclass(frozen=True, slots=True)
class Splits:
    """In which split each graph of a dataset is.

    Attributes:
        codes: (n,) uint8, an index into ``names``; 255 for those that are in none.
        names: of the splits.
    """

    codes: NDArray[np.uint8]
    names: tuple[str, ...]

    @classmethod
    def of(cls, store: Store, name: str = DEFAULT) -> Splits:
        """The splits of a finished dataset in one of its columns of splits."""
        column = store.manifest.splits().get(name)
        if column is None:
            return cls.none(len(store))
        return cls(store.column(name), column.categories or ())

    @classmethod
    def none(cls, n: int) -> Splits:
        """No splits for n graphs."""
        return cls(np.full(n, NO_SPLIT, np.uint8), ())

    def take(self, rows: NDArray[Any]) -> Splits:
        """The splits of some of the graphs."""
        return Splits(self.codes[rows], self.names)

    def recoded(self, names: Sequence[str]) -> Splits:
        """The same with codes that count in other names, among which are all of these.

        Raises:
            InputError: there are more names than codes.
        """
        if len(names) >= NO_SPLIT:
            msg = f"found {len(names)} splits; required: at most {NO_SPLIT - 1}"
            raise InputError(msg)
        table = np.full(256, NO_SPLIT, np.uint8)
        table[: len(self.names)] = [names.index(name) for name in self.names]
        return Splits(table[self.codes], tuple(names))

    def with_added(self, old: int, split: SplitRule | str | None, before: SplitRule | None, groups: Groups) -> Splits:
        """The splits after graphs were added; those of the old graphs stay as they are.

        Args:
            old: how many graphs are old; they come first.
            split: where the new ones go, by a rule or all to one split, whatever they are in. Without it those that
                are in none are split by ``before``.
            before: the rule that the old graphs were split by.
            groups: gives the values of the column to group by.

        Raises:
            InputError: there is no split of this name, or the rule cannot keep its groups together.
        """
        codes = self.codes.copy()
        if split is not None:
            codes[old:] = NO_SPLIT
        if isinstance(split, str):
            self.check_name(split)
            codes[old:] = self.names.index(split)
            return Splits(codes, self.names)
        rule = split or before
        if rule is None:
            return self
        if old == 0:
            return Splits(rule.codes(len(codes), groups), SPLITS)
        ordered = (*SPLITS, *(name for name in self.names if name not in SPLITS))
        codes = Splits(codes, self.names).recoded(ordered).codes
        codes = rule.extended(codes, old, groups, continued=rule == before)
        return Splits(codes, ordered).recoded((*self.names, *(name for name in SPLITS if name not in self.names)))

    def check_name(self, name: str) -> None:
        """Refuse the name of a split that is not there.

        Raises:
            InputError: with the names that are.
        """
        if name not in self.names:
            found = f"only {', '.join(map(repr, self.names))}" if self.names else "none"
            msg = (
                f"the dataset has no split {name!r}, {found}; required: one of its splits, or fractions of train, val "
                "and test such as 0.8,0.1,0.1"
            )
            raise InputError(msg)

    @property
    def unsplit(self) -> int:
        """How many graphs are in no split, where there are splits."""
        return int((self.codes == NO_SPLIT).sum()) if self.names else 0

    def notes(self) -> tuple[str, ...]:
        """A sentence where there are splits and some graphs are in none."""
        if not self.unsplit:
            return ()
        sizes = ", ".join(f"{name} {int((self.codes == code).sum()):,}" for code, name in enumerate(self.names))
        told = (
            f"{self.unsplit:,} of {len(self.codes):,} graphs are in no split ({sizes}), so training does not use them; "
            "'lazygraph split' splits the whole dataset, and --split (split=) says where graphs go that are added"
        )
        return (told,)


def split_codes(n: int, fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A random split as published crystal networks make theirs (``get_id_train_val_test`` of ALIGNN, and successors).

    ``random.Random(seed)`` shuffles the rows; train is the beginning, test the end, val what lies before test. Sizes
    are rounded down as there, so that a few graphs can be in no split.

    Example:
        >>> split_codes(10, (0.8, 0.1, 0.1), 123).tolist()
        [2, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    """
    return _shuffled(n, [int(fraction * n) for fraction in fractions], seed)


def _shuffled(n: int, counts: Sequence[int], seed: int) -> NDArray[np.uint8]:
    """So many rows of n for train, val and test."""
    # An array takes 4 bytes a graph where a list takes 40. It is shuffled in the same way.
    rows = array("I" if n < 2**32 else "Q", range(n))
    random.Random(seed).shuffle(rows)  # noqa: S311 - a split, not a secret
    order = np.frombuffer(rows, rows.typecode) if n else np.empty(0, np.uint32)
    train, val, test = counts
    codes = np.full(n, NO_SPLIT, np.uint8)
    codes[order[:train]] = 0
    codes[order[n - test - val : n - test]] = 1
    codes[order[n - test :]] = 2
    return codes


def grouped_codes(members: NDArray[np.int64], fractions: Sequence[float], seed: int) -> NDArray[np.uint8]:
    """A split that keeps groups whole: shuffled groups fill train, then val, then test, up to their share of rows."""
    sizes = np.bincount(members)
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    # A group belongs where its middle falls, so shares are met as closely as whole groups allow.
    ends = np.cumsum(sizes[order])
    middles = (ends - sizes[order] / 2) / len(members)
    code = np.searchsorted(np.cumsum(fractions), middles, side="right")
    of_group = np.empty(len(sizes), np.uint8)
    of_group[order] = np.where(code > 2, NO_SPLIT, code)
    out: NDArray[np.uint8] = of_group[members]
    return out


def _at_most(n: int, counts: Sequence[int]) -> list[int]:
    """Counts that add up to no more than n, in the same proportions, by largest remainders."""
    total = sum(counts)
    if total <= n:
        return list(counts)
    out = [count * n // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda code: (-(counts[code] * n % total), code))
    for code in by_remainder[: n - sum(out)]:
        out[code] += 1
    return out


def _follow_groups(codes: NDArray[np.uint8], old: int, values: NDArray[Any], group: str | None) -> None:
    """Put new graphs where the old ones of their group are."""
    names, members = np.unique(values, return_inverse=True)
    known = np.full(len(names), NO_SPLIT, np.uint8)
    placed = np.flatnonzero(codes[:old] != NO_SPLIT)
    known[members[placed]] = codes[placed]
    new = np.arange(old, len(codes))
    mixed = placed[codes[placed] != known[members[placed]]]
    if len(mixed) and (met := np.intersect1d(members[mixed], members[new])).size:
        name = names[met[0]].item()
        name = name.decode() if isinstance(name, bytes) else name
        msg = (
            f"the graphs with {group} {name!r} in the dataset are in several splits, so no split keeps them "
            f"together; append without a group, or split the whole dataset by it first: lazygraph split --group {group}"
        )
        raise InputError(msg)
    new = new[codes[new] == NO_SPLIT]
    codes[new] = known[members[new]]
