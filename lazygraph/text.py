"""Texts of strangers, made safe for people's eyes: what terminals, logs, tables and pictures show goes through here."""

from __future__ import annotations

__all__ = ["printable", "shortened"]


def printable(text: str) -> str:
    r"""Return the text with every character that is not printable in the form in which Python writes it.

    Line ends, tabs, escape codes, marks that turn the direction of writing, and halves of surrogate pairs are replaced:
    what is left is one line, steers no terminal and can be encoded as UTF-8.

    Example:
        >>> print(printable("eV\x1b[2J\nall is well"))
        eV\x1b[2J\nall is well
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shortened(text: str, most: int) -> str:
    """Return the beginning of a text, with an ellipsis where it has more than so many characters.

    Example:
        >>> shortened("formation energy", 10)
        'formation…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"
