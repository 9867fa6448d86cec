"""Descriptions of labels (per cell or atom, one line of text) and of a dataset (title, citation, licence)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lazygraph.errors import InputError, LabelError
from lazygraph.format.manifest import ABOUT, MAX_LINE, PER
from lazygraph.registry import unknown_name
from lazygraph.sources.base import Label

__all__ = ["Descriptions", "check_about"]


@dataclass(frozen=True, slots=True)
class Descriptions:
    """The descriptions of labels.

    Args:
        per: name -> ``cell`` or ``atom``, for labels of numbers that are per cell or per atom.
        lines: name -> one line of text that describes the label.
        required: labels that every graph must have; a single name need not be in a list.

    Raises:
        LabelError: ``per`` is neither ``cell`` nor ``atom``, or a description is not one line.
    """

    per: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)
    required: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, per in self.per.items():
            if per not in PER:
                msg = f"found per={per!r} for the label {name!r}; required: {' or '.join(PER)}"
                raise LabelError(msg)
        for name, line in self.lines.items():
            _check_line(f"the description of the label {name!r}", line)
        object.__setattr__(
            self, "required", (self.required,) if isinstance(self.required, str) else tuple(self.required)
        )

    def __bool__(self) -> bool:
        return bool(self.per or self.lines or self.required)

    def names(self) -> list[str]:
        """The labels that have a description."""
        return list(dict.fromkeys((*self.per, *self.lines, *self.required)))

    def applied(self, labels: Sequence[Label]) -> list[Label]:
        """Return the labels with their descriptions.

        Raises:
            LabelError: a label does not exist, or is a label of atoms, or ``per`` names a label of texts.
        """
        known = {label.name: label for label in labels}
        for name in self.names():
            if name not in known:
                raise LabelError(unknown_name("label", name, known))
            if known[name].level == "node":
                msg = (
                    f"{name!r} is a label of the atoms; only labels of crystals can have per, a description or be "
                    "required"
                )
                raise LabelError(msg)
            if name in self.per and known[name].dtype == "text":
                msg = (
                    f"per={self.per[name]!r} is given for {name!r}, whose values are texts; only labels of numbers "
                    "can have per"
                )
                raise LabelError(msg)
        return [
            replace(
                label,
                per=self.per.get(label.name, label.per),
                description=self.lines.get(label.name, label.description),
                required=label.required or label.name in self.required,
            )
            for label in labels
        ]


def check_about(about: Mapping[str, str]) -> dict[str, str]:
    """Check the description of a dataset, and return it.

    Raises:
        InputError: a key is unknown, or a value is not a text.
    """
    for key, value in about.items():
        if key not in ABOUT:
            raise InputError(unknown_name("key of about", key, ABOUT))
        if not isinstance(value, str) or not value.strip() or not _fits(value):
            msg = f"found about {key}={value!r:.80}; required: a text of 1 to {MAX_LINE:,} bytes"
            raise InputError(msg)
    return dict(about)


def _fits(value: str) -> bool:
    """Whether UTF-8 can encode a text, and the text is not too long."""
    try:
        return 0 < len(value.encode()) <= MAX_LINE
    except UnicodeEncodeError:
        return False


def _check_line(what: str, line: str) -> None:
    if not isinstance(line, str) or not line.isprintable() or not _fits(line):
        msg = f"{what} is {line!r:.80}; required: one printable line of 1 to {MAX_LINE:,} bytes"
        raise LabelError(msg)
