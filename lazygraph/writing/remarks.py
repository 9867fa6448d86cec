"""Remarks of the report about inputs that became graphs: how many inputs share a remark, and the first of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lazygraph.sources.base import Remark, readable
from lazygraph.text import shortened

__all__ = ["Remarks"]

NAMED = 5  # inputs that a note names
KINDS = 100  # kinds of remarks; further kinds are counted together
LENGTH = 400  # characters that one note repeats from an input
OTHERS = "have other remarks, of more kinds than can be told apart here"


@dataclass(slots=True)
class Remarks:
    """Counts of remarks, with the first few inputs of each kind. The size is bounded for any number of inputs."""

    found: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Remark -> the number of inputs, and the first of them with their details."""

    def add(self, graph_id: str, remarks: Iterable[Remark]) -> None:
        """Add the remarks of one input."""
        for what, detail in remarks:
            self._join(readable(shortened(what, LENGTH)), 1, [f"{graph_id!r} ({readable(shortened(detail, LENGTH))})"])

    def join(self, other: Remarks) -> None:
        """Add the remarks of the inputs that follow."""
        for what, (count, first) in other.found.items():
            self._join(what, count, first)

    def notes(self) -> tuple[str, ...]:
        """One sentence for each kind of remark.

        Example:
            >>> remarks = Remarks()
            >>> remarks.add("mp-1", [Remark("were kept", "formula H2 O, sites H O")])
            >>> remarks.notes()
            ("1 inputs were kept: 'mp-1' (formula H2 O, sites H O)",)
        """
        return tuple(
            f"{count} inputs {what}: {', '.join(first)}{', ...' if count > len(first) else ''}"
            for what, (count, first) in self.found.items()
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {what: [count, first] for what, (count, first) in self.found.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Remarks:
        """Read the JSON form."""
        return cls({what: (count, first) for what, (count, first) in data.items()})

    def _join(self, what: str, count: int, first: list[str]) -> None:
        if what not in self.found and len(self.found) >= KINDS:
            what = OTHERS
        before, named = self.found.get(what, (0, []))
        self.found[what] = (before + count, [*named, *first][:NAMED])
