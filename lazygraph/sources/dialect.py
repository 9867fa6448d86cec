"""Dialects of text tables: the separator of cells, and decimal commas."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

from lazygraph.errors import UnreadableInput

__all__ = ["DELIMITERS", "cells_of", "decimal_comma", "delimiter_of", "with_points"]

DELIMITERS = (",", ";", "\t")
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
# 1,234 and 12,345,678 may be whole numbers; 0,123 cannot.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


def cells_of(row: str, delimiter: str) -> list[str]:
    """Return the cells of one row.

    Raises:
        csv.Error: the quotes are wrong.
    """
    limit = csv.field_size_limit()
    if len(row) <= limit:
        return next(csv.reader([row], strict=True, delimiter=delimiter))
    # The csv module refuses long cells, by a limit that the whole process shares.
    csv.field_size_limit(len(row))
    try:
        return next(csv.reader([row], strict=True, delimiter=delimiter))
    finally:
        csv.field_size_limit(limit)


def delimiter_of(rows: Sequence[str]) -> str:
    """Return the separator with which all these rows have the same number of cells, at least two.

    If no separator or several separators fit, the separator that gives the most cells in the first row wins, then comma
    before semicolon before tab.

    Example:
        >>> delimiter_of(["id;gap", "mp-1;0,5"]), delimiter_of(["id,gap", "mp-1,0.5"])
        (';', ',')
    """

    def rank(delimiter: str) -> tuple[bool, int]:
        widths = []
        for row in rows:
            try:
                widths.append(len(cells_of(row, delimiter)))
            except csv.Error:
                widths.append(0)
        return widths[0] > 1 and len(set(widths)) == 1, widths[0]

    return max(DELIMITERS, key=rank) if rows else ","


def decimal_comma(cells: Iterable[str]) -> str | None:
    """Return a cell with a decimal comma, if there is one. Commas for thousands in whole numbers do not count.

    Raises:
        UnreadableInput: there are numbers with decimal points too.

    Example:
        >>> decimal_comma(["mp-1", "0,5", "7"]), decimal_comma(["0.5", "1,234"])
        ('0,5', None)
    """
    comma = point = None
    for cell in cells:
        text = cell.strip()
        if comma is None and _COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text):
            comma = text
        if point is None and _POINT.fullmatch(text):
            point = text
    if comma is not None and point is not None:
        msg = f"numbers are written with a comma ({comma!r}) and with a point ({point!r}); write all with points"
        raise UnreadableInput(msg)
    return comma


def with_points(text: str) -> str:
    """Return a number with a point for its decimal comma, and any other text unchanged."""
    return text.replace(",", ".") if _COMMA.fullmatch(text.strip()) else text
