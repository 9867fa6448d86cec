"""What a dataset holds, on a terminal: a stranger's texts must not steer it."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """The text with every character that is not printable, line ends too, in the form in which Python writes it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
