"""The periodic table of the elements, with a count for each element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lazygraph.markup.charts import COLORS
from lazygraph.markup.elements import Html, tag

__all__ = ["element_buttons", "element_picture", "place_of"]

LEVELS = 8  # of colour, by the logarithm of the count
NOBLE = (2, 10, 18, 36, 54, 86, 118)  # the last element of each period


def place_of(number: int) -> tuple[int, int]:
    """Return row and column of an element, from 1; the lanthanides and actinides are in the rows 9 and 10.

    Example:
        >>> place_of(1), place_of(2), place_of(26), place_of(57), place_of(72), place_of(103)
        ((1, 1), (1, 18), (4, 8), (9, 3), (6, 4), (10, 17))
    """
    if 57 <= number <= 71:
        return 9, number - 54
    if 89 <= number <= 103:
        return 10, number - 86
    period = next(k for k, last in enumerate(NOBLE) if number <= last)
    last = NOBLE[period]
    first = NOBLE[period - 1] + 1 if period else 1
    # The first two elements of a period are at its left, and the others at its right.
    column = number - first + 1 if number - first < 2 and number != last else 18 - (last - number)
    return period + 1, column


def element_buttons(counts: Mapping[str, int], symbols: Sequence[str]) -> Html:
    """Return one button for each element; the script of a report lets them select graphs.

    Args:
        counts: symbol -> number of graphs that hold the element.
        symbols: of all elements, in order; the one at 0 stands for no element.
    """
    most = max(counts.values(), default=0)
    buttons = []
    for z, symbol in enumerate(symbols):
        if z == 0:
            continue
        row, column = place_of(z)
        count = counts.get(symbol, 0)
        said = f"{symbol}: {count:,} graphs"
        buttons.append(
            tag(
                "button", tag("span", symbol, class_="symbol"), tag("span", _short(count), class_="count"),
                type="button", class_=f"element r{row} c{column} h{_level(count, most)}", data_symbol=symbol,
                title=said, aria_label=said, aria_pressed="false" if count else None, disabled=not count,
            )
        )  # fmt: skip
    return tag("div", *buttons, class_="periodic", role="group", aria_label="Periodic table")


def element_picture(counts: Mapping[str, int], symbols: Sequence[str]) -> Html:
    """Return the table as a picture, which needs no script. Arguments as for :func:`element_buttons`."""
    most, size = max(counts.values(), default=0), 30
    cells = []
    for z, symbol in enumerate(symbols):
        if z == 0:
            continue
        row, column = place_of(z)
        count = counts.get(symbol, 0)
        x, y = (column - 1) * size, (row - 1 - (row > 8) * 0.6) * size
        opacity = 0.06 if not count else 0.1 + 0.75 * _level(count, most) / LEVELS
        cells += [
            tag(
                "rect", tag("title", f"{symbol}: {count:,} graphs"), x=x + 1, y=f"{y + 1:.1f}", width=size - 2,
                height=size - 2, rx=3, fill=COLORS[0], fill_opacity=f"{opacity:.2f}",
            ),
            tag(
                "text", symbol, x=x + size / 2, y=f"{y + 14:.1f}", text_anchor="middle", font_size=11,
                fill="currentColor", pointer_events="none",
            ),
            tag(
                "text", _short(count), x=x + size / 2, y=f"{y + 25:.1f}", text_anchor="middle", font_size=8,
                fill="currentColor", pointer_events="none",
            ),
        ]  # fmt: skip
    label = "Graphs that hold each element: " + ", ".join(f"{symbol} {count:,}" for symbol, count in counts.items())
    return tag("svg", *cells, viewBox=f"0 0 {18 * size} {9.4 * size:.0f}", role="img", aria_label=label)


def _level(count: int, most: int) -> int:
    """The level of colour, 0 for none; by the logarithm, because few elements are in most graphs."""
    if not count:
        return 0
    return 1 + min(LEVELS - 1, int((LEVELS - 1) * math.log1p(count) / math.log1p(most)))


def _short(count: int) -> str:
    """A count in at most four characters, where that is possible."""
    if not count:
        return ""
    for unit, one in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= one:
            value = count / one
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return str(count)
