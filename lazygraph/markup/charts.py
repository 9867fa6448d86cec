"""Histograms, bars and scatter plots as SVG, which need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lazygraph.markup.elements import Html, number, tag
from lazygraph.text import shortened

__all__ = ["COLORS", "bars", "histogram", "legend", "scatter"]

# The palette of Okabe and Ito (Color Universal Design, 2008), which people with any colour vision can tell apart.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 20
LONGEST = 20  # characters beside a bar


def histogram(edges: Sequence[float], counts: Mapping[str, Sequence[int]], *, title: str, steps: bool = False) -> Html:
    """Return a histogram. Of several groups, each is an outline of the share of its values in each bin.

    Args:
        edges: (B + 1,) increasing limits of the bins.
        counts: group -> (B,) values in each bin.
        title: what the values are, for people who cannot see the chart.
        steps: the bins are the integers between the limits, and the axis names these.
    """
    shares = len(counts) > 1
    heights = {group: _shares(values) if shares else list(values) for group, values in counts.items()}
    top = max((max(values, default=0) for values in heights.values()), default=0) or 1
    x = _scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    drawn = [
        _outline([x(edge) for edge in edges], [_y(value / top) for value in values], color, shares=shares)
        for values, color in zip(heights.values(), _colors(), strict=False)
    ]
    hovered = [_hovered(x(low), x(high), _told(low, high, k, counts, steps)) for k, (low, high) in _bins(edges)]
    ends = (edges[0] + 0.5, edges[-1] - 0.5) if steps else (edges[0], edges[-1])
    said = f"{top:.0%}" if shares and top >= 0.1 else f"{top:.2%}" if shares else number(int(top))
    axis = [
        tag("path", d=f"M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}", stroke="currentColor", stroke_opacity=0.4),
        _text(LEFT - 4, TOP + 8, said, "end"),
        _text(LEFT - 4, HEIGHT - BOTTOM, "0", "end"),
    ]
    if ends[0] == ends[1]:
        axis.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, _axis_number(ends[0]), "middle"))
    else:
        middle = ends[0] / 2 + ends[1] / 2
        axis.append(_text(LEFT, HEIGHT - 6, _axis_number(ends[0]), "start"))
        if not steps or middle == int(middle):
            axis.append(_text(x(middle), HEIGHT - 6, _axis_number(middle), "middle"))
        axis.append(_text(WIDTH - RIGHT, HEIGHT - 6, _axis_number(ends[1]), "end"))
    groups = "; ".join(f"{group}: {sum(values):,}" for group, values in counts.items())
    label = f"Histogram of {title}, {_axis_number(ends[0])} to {_axis_number(ends[1])}. {groups}"
    return _svg(HEIGHT, label, *drawn, *axis, *hovered)


def bars(counts: Mapping[str, int], *, title: str) -> Html:
    """Return horizontal bars, one for each text, in the order of the mapping."""
    most, step = max(counts.values(), default=0) or 1, 17
    left, right = 150, WIDTH - 56
    drawn = []
    for k, (text, count) in enumerate(counts.items()):
        y = k * step
        drawn += [
            _text(left - 6, y + 12, shortened(text, LONGEST), "end"),
            tag(
                "rect", tag("title", f"{text}: {count:,}"), x=left, y=y + 3, height=step - 6,
                width=f"{max(count / most * (right - left), 0.5):.1f}", fill=COLORS[0], class_="g0",
            ),
            _text(left + count / most * (right - left) + 4, y + 12, f"{count:,}", "start"),
        ]  # fmt: skip
    said = ", ".join(f"{text} {count:,}" for text, count in counts.items())
    return _svg(max(len(counts), 1) * step, f"Graphs by {title}: {said}", *drawn)


def scatter(points: Sequence[tuple[float, float]], *, title: str) -> Html:
    """Return points (x, y) with one range for both axes, and the line where both are equal."""
    size = 260
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    x, y = _scale(low, high, LEFT, size - RIGHT), _scale(low, high, size - BOTTOM, TOP)
    dots = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in points)
    return _svg(
        size,
        title,
        tag("path", d=f"M{LEFT} {size - BOTTOM}L{size - RIGHT} {TOP}", stroke="currentColor", stroke_opacity=0.4),
        tag("path", d=dots, stroke=COLORS[0], stroke_width=4, stroke_linecap="round", stroke_opacity=0.5, fill="none"),
        _text(LEFT, size - 6, _axis_number(low), "start"),
        _text(size - RIGHT, size - 6, _axis_number(high), "end"),
        _text(LEFT - 4, TOP + 8, _axis_number(high), "end"),
        width=size,
    )


def legend(groups: Mapping[str, int]) -> Html:
    """Return the colours of the groups of histograms, with the number of graphs in each."""
    items = [
        tag(
            "span",
            tag(
                "svg",
                tag("rect", width=12, height=12, rx=2, fill=color, class_=f"g{k}"),
                width=12, height=12, aria_hidden="true",
            ),
            f" {group} {count:,}",
        )
        for k, ((group, count), color) in enumerate(zip(groups.items(), COLORS, strict=False))
    ]  # fmt: skip
    return tag("div", *items, class_="legend")


def _shares(values: Sequence[int]) -> list[float]:
    total = sum(values) or 1
    return [value / total for value in values]


def _colors() -> list[tuple[int, str]]:
    return list(enumerate(COLORS))


def _bins(edges: Sequence[float]) -> list[tuple[int, tuple[float, float]]]:
    return list(enumerate(pairwise(edges)))


def _told(low: float, high: float, k: int, counts: Mapping[str, Sequence[int]], steps: bool) -> str:
    """The text that appears over a bin."""
    single = steps and high - low <= 1
    place = _axis_number(low + 0.5) if single else f"{_axis_number(low)} to {_axis_number(high)}"
    if len(counts) == 1:
        return f"{place}: {next(iter(counts.values()))[k]:,}"
    return f"{place}: " + ", ".join(f"{group} {values[k]:,}" for group, values in counts.items())


def _outline(xs: Sequence[float], ys: Sequence[float], color: tuple[int, str], *, shares: bool) -> Html:
    """The outline of a histogram, from the left to the right. Of several, only the first is filled, and lightly."""
    base = HEIGHT - BOTTOM
    path = f"M{xs[0]:.1f} {base}" + "".join(f"V{y:.1f}H{right:.1f}" for y, right in zip(ys, xs[1:], strict=True))
    place, value = color
    if not shares:
        return tag("path", d=f"{path}V{base}Z", fill=value, fill_opacity=0.85, class_=f"g{place}")
    opacity = 0 if place else 0.18
    return tag(
        "path", d=f"{path}V{base}", stroke=value, stroke_width=1.5, fill=value, fill_opacity=opacity, class_=f"g{place}"
    )


def _hovered(left: float, right: float, text: str) -> Html:
    shape: dict[str, str | float] = {
        "x": f"{left:.1f}",
        "y": TOP,
        "width": f"{right - left:.1f}",
        "height": HEIGHT - BOTTOM - TOP,
    }
    return tag("rect", tag("title", text), fill="transparent", class_="bin", **shape)


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return _Scale(low, high, start, end)


class _Scale:
    """A linear map that does not overflow between the greatest numbers."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.half = low, high / 2 - low / 2
        self.start, self.length = start, end - start

    def __call__(self, value: float) -> float:
        share = (value / 2 - self.low / 2) / self.half if self.half else 0.5
        return self.start + share * self.length


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _axis_number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e7 else f"{value:.4g}"


def _text(x: float, y: float, text: str, anchor: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, font_size=11, fill="currentColor")


def _svg(height: int, label: str, *content: Html, width: int = WIDTH) -> Html:
    return tag("svg", *content, viewBox=f"0 0 {width} {height}", role="img", aria_label=label, class_="chart")
