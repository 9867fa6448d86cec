"""Facts that a scan finds and every read needs, in a small JSON file beside the spool.

The scan makes each choice that depends on the content once, such as the column of the structures or the separator of
cells. Every worker then uses the same choice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["recall", "remember"]


def remember(spool: Path, facts: dict[str, Any]) -> None:
    """Store the facts for every read of this input."""
    spool.parent.mkdir(parents=True, exist_ok=True)
    _place(spool).write_text(json.dumps(facts), encoding="utf-8")


def recall(spool: Path) -> dict[str, Any]:
    """Return the facts that the scan kept."""
    facts: dict[str, Any] = json.loads(_place(spool).read_text(encoding="utf-8"))
    return facts


def _place(spool: Path) -> Path:
    return spool.with_name(f"{spool.name}.facts.json")
