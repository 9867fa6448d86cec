"""Elements of HTML: tags, tables and cards. Text is escaped unless it is markup that this package made."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence

from lazygraph.text import printable, shortened

__all__ = ["Html", "bytes_in_words", "card", "facts", "join", "number", "or_plain", "statistics_cells", "table", "tag"]

LONGEST = 1000  # characters of one text
VOID = frozenset({"br", "hr", "meta", "input"})


class Html(str):
    """A text that is markup. Only this package makes it from other text, and escapes that text."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | float | None) -> Html:
    """Return one element.

    Args:
        name: the name of the tag.
        *content: ``Html`` is used as it is. Any other text may come from a file of a stranger: it is escaped, and cut
            after 1,000 characters.
        **attributes: escaped too. ``class_`` stands for ``class``, and other underscores for dashes. True gives an
            attribute without a value; None and False leave it out.

    Example:
        >>> tag("td", "<script>", class_="id", data_row=3)
        '<td class="id" data-row="3">&lt;script&gt;</td>'
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(printable(str(value)))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{join(content)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """Return several texts as one; those that are no ``Html`` are escaped."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def _escaped(text: str) -> str:
    return html.escape(shortened(printable(text), LONGEST))


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a table of names and values; pairs with an empty value are left out."""
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in pairs if value]
    return tag("table", *rows, class_="facts") if rows else Html("")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> Html:
    """Return a table.

    Args:
        titles: of the columns.
        rows: their cells.
        texts: the number of columns at the left that hold texts; the others hold numbers.
    """
    head = tag("tr", *(tag("th", title, scope="col", class_=_kind(k, texts)) for k, title in enumerate(titles)))
    body = [tag("tr", *(tag("td", cell, class_=_kind(k, texts)) for k, cell in enumerate(row))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def _kind(column: int, texts: int) -> str | None:
    return None if column < texts else "number"


def number(value: float | None) -> str:
    """Return a number as people read it.

    Example:
        >>> number(12345), number(-0.123456), number(1.5e-7), number(None)
        ('12,345', '-0.1235', '1.5e-07', '-')
    """
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def bytes_in_words(size: int) -> str:
    """Return a size with a unit.

    Example:
        >>> bytes_in_words(900), bytes_in_words(1_234_567)
        ('900 B', '1.23 MB')
    """
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size} B"


def statistics_cells(statistics: dict[str, float] | None) -> list[str]:
    """Return mean, deviation, minimum, maximum and the number of missing values of a label, as cells of a table."""
    known = statistics or {}
    missing = known.get("missing")
    return [
        *(number(known.get(key)) for key in ("mean", "std", "min", "max")),
        number(None if missing is None else int(missing)),
    ]


def card(title: str, *parts: str) -> Html:
    """Return what a notebook shows of an object: a title, and the parts below it.

    The styles apply to nothing else in the notebook, and use its own colours.
    """
    return tag("div", tag("style", _STYLE), tag("div", title, class_="title"), *parts, class_="lazygraph")


def or_plain(make: Callable[[], str], plain: Callable[[], str]) -> str:
    """Return the HTML of an object, or its plain text if there is an error: showing an object must not raise.

    Args:
        make: makes the HTML.
        plain: makes the text, such as ``self.__repr__``.
    """
    try:
        return make()
    except Exception:  # noqa: BLE001  # whatever it is, the next use of the object says it with its own error
        return tag("pre", *(join([line, Html("\n")]) for line in plain().split("\n")))


_STYLE = Html(
    ".lazygraph{font-family:system-ui,sans-serif;font-size:13px;max-width:760px}"
    ".lazygraph .title{font-weight:600;font-size:14px;margin-bottom:4px}"
    ".lazygraph table{border-collapse:collapse;margin:4px 0}"
    ".lazygraph th,.lazygraph td{padding:2px 10px 2px 0;text-align:left;vertical-align:top}"
    ".lazygraph th{font-weight:600;opacity:.75}"
    ".lazygraph .number{text-align:right;font-variant-numeric:tabular-nums}"
    ".lazygraph .scroll{overflow-x:auto}"
    ".lazygraph .charts{display:flex;flex-wrap:wrap;gap:8px}"
    ".lazygraph figure{margin:0;width:240px}"
    ".lazygraph figcaption{font-size:12px}"
    ".lazygraph .note{opacity:.75;font-size:12px;margin:2px 0}"
    ".lazygraph summary{cursor:pointer}"
)
