"""A request for splits of a dataset: its options are checked together, and give the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lazygraph.errors import InputError
from lazygraph.writing.split_rules import (
    BINS,
    CountsRule,
    FoldRule,
    LabelledRule,
    LeaveOutRule,
    Rule,
    SplitRule,
    Strata,
)
from lazygraph.writing.splits import DEFAULT
from lazygraph.writing.value_groups import PROTOTYPE, RuleColumns

__all__ = ["FOLD", "SplitRequest"]

_OPTIONS = {
    "fractions": ("group", "stratify", "bins", "symprec", "labelled"),
    "counts": ("labelled",),
    "names": (),
    "folds": ("val", "group", "stratify", "bins", "symprec", "labelled"),
    "leave_out": ("val", "labelled"),
}
"""Way to split -> the further options that it allows."""
_NAMES = {"names": "names (--from)", "labelled": "labelled (--for)"}
"""Option -> how messages name it, if its name on the command line is another one."""
FOLD = "fold"  # the names of the columns of folds begin with this


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """The options of ``set_splits``, which documents them.

    Raises:
        InputError: options cannot be used together.
    """

    fractions: Sequence[float] | None
    counts: Sequence[int] | None
    names: Mapping[str, Iterable[str]] | None
    folds: int | None
    leave_out: Sequence[str] | None
    val: float | None
    seed: int
    group: str | None
    stratify: str | None
    bins: int | None
    symprec: float | None
    labelled: str | None
    name: str | None

    def __post_init__(self) -> None:
        given = [kind for kind in _OPTIONS if getattr(self, kind) is not None]
        if len(given) != 1:
            msg = f"give exactly one of {', '.join(_OPTIONS)}; found {' and '.join(given) or 'none'}"
            raise InputError(msg)
        allowed = _OPTIONS[given[0]]
        for option in ("val", "group", "stratify", "bins", "symprec", "labelled"):
            if getattr(self, option) is not None and option not in allowed:
                shown = [_NAMES.get(name, name) for name in (option, given[0], *allowed)]
                others = ", ".join(shown[2:]) or "no other option"
                msg = f"{shown[0]} cannot be used with {shown[1]}; allowed: {others}"
                raise InputError(msg)
        if self.bins is not None and self.stratify is None:
            msg = "bins needs stratify; name the label whose numbers are divided into bins"
            raise InputError(msg)
        if self.symprec is not None and not self.needs_prototypes:
            msg = f"symprec works only for prototypes; give the group {PROTOTYPE!r} too"
            raise InputError(msg)
        if self.group is not None and self.stratify is not None:
            msg = f"the group {self.group!r} and strata by {self.stratify!r} are given; give one of them"
            raise InputError(msg)
        list(self._rules(None))  # wrong numbers are refused before prototypes and strata are computed
        if self.needs_prototypes and PROTOTYPE in self.columns:
            msg = f"splits by prototypes cannot have the name {PROTOTYPE!r}; choose another name"
            raise InputError(msg)

    @property
    def needs_prototypes(self) -> bool:
        """Whether the rules read the prototypes of the crystals."""
        return PROTOTYPE in (self.group, self.stratify)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of splits that are made."""
        if self.folds is None:
            return (DEFAULT if self.name is None else self.name,)
        stem = FOLD if self.name is None else self.name
        return tuple(f"{stem}_{fold}" for fold in range(max(1, self.folds)))  # the rule refuses folds < 2

    def rules(self, columns: RuleColumns) -> Iterator[Rule]:
        """Return the rule for each of ``self.columns``; empty if splits are given by ids.

        Args:
            columns: the columns of the dataset, for the strata.

        Raises:
            InputError: numbers or names of columns that cannot be used.
        """
        bins = BINS if self.bins is None else self.bins
        rules = self._rules(None if self.stratify is None else Strata.of(self.stratify, bins, self.chosen(columns)))
        return rules if self.labelled is None else (LabelledRule(self.labelled, rule) for rule in rules)

    def chosen(self, columns: RuleColumns) -> RuleColumns:
        """Return the columns of the graphs that are split, which are all graphs or those with a value of a label."""
        return columns if self.labelled is None else columns.labelled(self.labelled).columns

    def _rules(self, strata: Strata | None) -> Iterator[SplitRule | CountsRule | FoldRule | LeaveOutRule]:
        val = 0.0 if self.val is None else self.val
        if self.fractions is not None:
            yield SplitRule(self.fractions, self.seed, self.group, strata)
        elif self.counts is not None:
            yield CountsRule(self.counts, self.seed)
        elif self.folds is not None:
            first = FoldRule(0, self.folds, val, self.seed, self.group, strata)
            yield from (replace(first, fold=fold) for fold in range(self.folds))
        elif self.leave_out is not None:
            yield LeaveOutRule(self.leave_out, val, self.seed)

    def missing_notes(self, columns: RuleColumns) -> Iterator[str]:
        """Yield a sentence if graphs have no value in the column of the groups or of the strata."""
        for name, what in ((self.group, "group, which stays whole"), (self.stratify, "stratum")):
            if name is not None and (missing := self.chosen(columns).groups(name).missing()):
                of = "" if self.labelled is None else f" with a value of {self.labelled!r}"
                yield f"{missing:,} graphs{of} have no value of {name!r}; they are one {what}"
