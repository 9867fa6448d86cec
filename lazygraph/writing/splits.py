"""The splits of a dataset: the split of each graph, also of graphs that are added later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.columns import NO_SPLIT, ColumnWriter, Pieces
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.registry import unknown_name
from lazygraph.writing.shares import SPLITS, split_codes
from lazygraph.writing.split_rules import CountsRule, LabelledRule, Rule, SplitRule, rule_from_json
from lazygraph.writing.value_groups import RuleColumns

__all__ = ["DEFAULT", "SPLITS", "SplitRule", "Splits", "recorded_rule", "split_codes", "write_split"]

DEFAULT = "split"  # the default column of splits


def recorded_rule(manifest: Manifest, name: str = DEFAULT) -> Rule | None:
    """Return the rule by which all graphs were split, if there is one. ``name`` is the column of the splits."""
    column = manifest.splits().get(name)
    return None if column is None or column.rule is None else rule_from_json(column.rule)


def write_split(columns: ColumnWriter, name: str, codes: Pieces, names: Sequence[str], rule: Rule | None) -> None:
    """Write one column of splits, whose codes come in pieces."""
    columns.stream(name, codes, role="split", categories=names, rule=None if rule is None else rule.to_json())


@dataclass(frozen=True, slots=True)
class Splits:
    """The split of each graph of a dataset.

    Attributes:
        codes: (n,) uint8, an index into ``names``; 255 for graphs in no split.
        names: the names of the splits.
    """

    codes: NDArray[np.uint8]
    names: tuple[str, ...]

    @classmethod
    def of(cls, store: Store, name: str = DEFAULT) -> Splits:
        """Read one column of splits of a finished dataset."""
        column = store.manifest.splits().get(name)
        if column is None:
            return cls.none(len(store))
        return cls(store.column(name), column.categories or ())

    @classmethod
    def none(cls, n: int) -> Splits:
        """Return no splits for n graphs."""
        return cls(np.full(n, NO_SPLIT, np.uint8), ())

    def take(self, rows: NDArray[Any]) -> Splits:
        """Return the splits of some of the graphs."""
        return Splits(self.codes[rows], self.names)

    def recoded(self, names: Sequence[str]) -> Splits:
        """Return the same splits with codes for other names, which include all names of these splits.

        Raises:
            InputError: there are more names than codes.
        """
        if len(names) >= NO_SPLIT:
            msg = f"found {len(names)} splits; required: at most {NO_SPLIT - 1}"
            raise InputError(msg)
        table = np.full(256, NO_SPLIT, np.uint8)
        table[: len(self.names)] = [names.index(name) for name in self.names]
        return Splits(table[self.codes], tuple(names))

    def with_added(self, old: int, split: Rule | str | None, before: Rule | None, columns: RuleColumns) -> Splits:
        """Return the splits after graphs were added. The splits of the old graphs stay as they are.

        Args:
            old: the number of old graphs, which come first.
            split: a rule for the new graphs, or one split for all of them; it replaces splits that they have. If it
                is None, new graphs in no split follow ``before``.
            before: the rule by which the old graphs were split.
            columns: the columns of all graphs.

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
            return Splits(rule.codes(len(codes), columns), SPLITS)
        ordered = (*SPLITS, *(name for name in self.names if name not in SPLITS))
        codes = Splits(codes, self.names).recoded(ordered).codes
        codes = rule.extended(codes, old, columns, continued=rule == before)
        return Splits(codes, ordered).recoded((*self.names, *(name for name in SPLITS if name not in self.names)))

    def check_name(self, name: str) -> None:
        """Refuse the name of an unknown split.

        Raises:
            InputError: the split is unknown; the message names the known ones.
        """
        if name not in self.names:
            msg = (
                f"{unknown_name('split', name, self.names)}. Name one of them, or give fractions of train, val and "
                "test such as 0.8,0.1,0.1"
            )
            raise InputError(msg)

    @property
    def unsplit(self) -> int:
        """The number of graphs in no split, if there are splits."""
        return int((self.codes == NO_SPLIT).sum()) if self.names else 0

    def notes(self, rule: Rule | None, columns: RuleColumns) -> tuple[str, ...]:
        """Return sentences if there are splits and some graphs are in none.

        Args:
            rule: the rule that all graphs follow, if there is one.
            columns: the columns of all graphs.
        """
        told: list[str] = []
        left, n, of = self.unsplit, len(self.codes), ""
        if isinstance(rule, LabelledRule):
            without, unlabelled = self._without_value(rule.label, columns)
            left, n, of = left - unlabelled, n - without, f" with a value of {rule.label!r}"
            if unlabelled:
                told.append(
                    f"{unlabelled:,} of {len(self.codes):,} graphs have no value of {rule.label!r} and are in no split"
                )
            if without > unlabelled:
                told.append(
                    f"{without - unlabelled:,} graphs in splits have no value of {rule.label!r} any more; 'lazygraph "
                    "split' splits the whole dataset again"
                )
            rule = rule.rule
        if left:
            sizes = ", ".join(f"{name} {int((self.codes == code).sum()):,}" for code, name in enumerate(self.names))
            why = ", because the splits have exact numbers of graphs" if isinstance(rule, CountsRule) else ""
            told.append(
                f"{left:,} of {n:,} graphs{of} are in no split ({sizes}){why}, so training does not use them; "
                "'lazygraph split' splits the whole dataset, and --split (split=) says where graphs go that are added"
            )
        return tuple(told)

    def _without_value(self, label: str, columns: RuleColumns) -> tuple[int, int]:
        """Return how many graphs have no value of a label, and how many of these are in no split."""
        without = unsplit = row = 0
        for there in columns.with_value(label):
            codes = self.codes[row : row + len(there)]
            without += int((~there).sum())
            unsplit += int((~there & (codes == NO_SPLIT)).sum())
            row += len(there)
        return without, unsplit
