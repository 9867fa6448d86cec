"""The page of a report: sections from a summary of a dataset, with styles and script in the same file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from lazygraph.crystal import SYMBOLS
from lazygraph.markup.elements import Html, facts, join, tag
from lazygraph.markup.periodic_table import element_buttons
from lazygraph.sharing.report_graphs import SampledGraphs

__all__ = ["Section", "Summary", "page"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report below a heading."""

    name: str
    content: Html


@dataclass(frozen=True, slots=True)
class Summary:
    """What the page shows of a dataset.

    Attributes:
        title: of the dataset.
        about: the description below the title.
        figures: the numbers at the top, with what they count.
        before: sections before the elements.
        after: sections after the graphs.
        elements: symbol -> number of graphs; None if there is no column of formulas.
        elements_note: what is counted.
        sample: the graphs that are shown one by one.
        sample_note: how they were chosen.
        version: of lazygraph.
    """

    title: str
    about: str
    figures: Sequence[tuple[str, str]]
    before: Sequence[Section]
    after: Sequence[Section]
    elements: dict[str, int] | None
    elements_note: str
    sample: SampledGraphs
    sample_note: str
    version: str
    facts: Sequence[tuple[str, str]] = field(default=())


def page(summary: Summary) -> bytes:
    """Return the whole HTML file.

    Its policy allows the two scripts and styles in it by their hashes, and nothing else: no address is ever opened, and
    no script that a text of the dataset might bring would run.
    """
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    sections = [*summary.before, _elements(summary), _graphs(summary), *summary.after]
    links = [tag("a", section.name, href=f"#{_anchor(section.name)}") for section in sections]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=f"lazygraph {summary.version}"),
        tag("title", f"{summary.title} - lazygraph report"),
        tag("style", style),
    )
    figures = [tag("div", tag("strong", value), tag("span", what), class_="figure") for what, value in summary.figures]
    header = tag(
        "header",
        tag("h1", summary.title),
        tag("p", summary.about, class_="about") if summary.about else Html(""),
        facts(summary.facts),
        tag("div", *figures, class_="figures"),
        tag("nav", *links, aria_label="Sections"),
    )
    main = tag(
        "main",
        *(tag("section", tag("h2", section.name), section.content, id=_anchor(section.name)) for section in sections),
    )
    data = tag("script", summary.sample.json, type="application/json", id="data")
    footer = tag("footer", f"Made by lazygraph {summary.version}. This file opens without a network.")
    body = tag("body", header, main, footer, data, tag("script", script))
    return b"<!doctype html>\n" + tag("html", head, body, lang="en").encode() + b"\n"


def _elements(summary: Summary) -> Section:
    if summary.elements is None:
        return Section("Elements", tag("p", "The dataset has no column of formulas, so its elements are not counted."))
    table = element_buttons(summary.elements, SYMBOLS)
    return Section("Elements", join([tag("p", summary.elements_note, class_="note"), table]))


def _graphs(summary: Summary) -> Section:
    controls = tag(
        "div",
        tag("label", "Find ", tag("input", type="search", id="find", autocomplete="off", placeholder="id or formula")),
        tag("button", "Show all", type="button", id="all", hidden=True),
        tag("span", id="shown", role="status"),
        class_="controls",
    )
    table = tag(
        "div",
        tag("table", tag("thead", id="titles"), tag("tbody", id="rows")),
        class_="scroll graphs", tabindex=0, role="region", aria_label="Graphs",
    )  # fmt: skip
    buttons = [
        tag("button", text, type="button", id=name, title=said, aria_label=said)
        for text, name, said in (
            ("+", "nearer", "nearer"),
            ("-", "farther", "farther"),
            ("reset", "reset", "first view"),
        )
    ]
    help_text = "Drag, or use the arrow keys, to turn the crystal; + and - to zoom; 0 for the first view."
    viewer = tag(
        "div",
        tag("canvas", id="crystal", tabindex=0, role="img", aria_label="Crystal", aria_describedby="help"),
        tag("div", *buttons, class_="zoom"),
        tag("p", id="what", role="status"),
        tag("div", id="atoms", class_="legend"),
        tag("p", help_text, id="help", class_="note"),
        tag(
            "p",
            "Sticks join atoms that are closer than 1.15 times the sum of their covalent radii. They help the eye and "
            "are not the edges of the graph. Atoms at the faces of the cell are drawn on both sides.",
            class_="note",
        ),
        class_="viewer",
    )
    notes = tag("p", join([summary.sample_note, *(f" {note[0].upper()}{note[1:]}." for note in summary.sample.notes)]),
                class_="note")  # fmt: skip
    missing = tag("noscript", tag("p", "The table of graphs and the crystals need JavaScript."))
    parts = [viewer] if summary.sample.drawn else []
    if not summary.sample.drawn:
        notes = join([notes, tag("p", "There are no crystals to draw.", class_="note")])
    split = tag("div", tag("div", controls, table, class_="list"), *parts, class_="split")
    return Section("Graphs", join([notes, missing, split]))


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _asset(name: str) -> Html:
    return Html(files("lazygraph.sharing").joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
