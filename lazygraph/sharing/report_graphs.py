"""The graphs that a report shows one by one: which they are, their values, and their crystals as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazygraph.crystal import SYMBOLS, Crystal
from lazygraph.errors import CorruptDataset, StructureError
from lazygraph.format.store import Store
from lazygraph.graphs.crystal_records import check_crystals
from lazygraph.graphs.spec import GraphSpec
from lazygraph.markup.elements import Html
from lazygraph.reading.distributions import ElementCounts
from lazygraph.reading.table import Columns
from lazygraph.text import printable, shortened

__all__ = ["SampledGraphs", "sample_graphs"]

VALUES = 12  # labels of a graph that the table shows
LONGEST = 80  # characters of a text in the table
MOST_ATOMS = 2000  # of a crystal that is drawn
EXTRA = ("n_atoms", "n_edges", "formula", "split")  # columns beside labels
RADIUS = 1.5  # A, of elements without a measured one


@dataclass(frozen=True, slots=True)
class SampledGraphs:
    """The graphs that a report shows one by one.

    Attributes:
        json: what the script of the page reads, in a form that ends no ``<script>`` element.
        count: number of graphs.
        drawn: number of graphs with a crystal.
        covered: whether the graphs hold every element of the dataset.
        notes: one sentence for everything that is left out.
    """

    json: Html
    count: int
    drawn: int
    covered: bool
    notes: tuple[str, ...]


def sample_graphs(
    store: Store,
    rows: Any,
    elements: ElementCounts | None,
    *,
    most: int,
    room: int,
    names: Sequence[str],
    of_crystals: bool = False,
) -> SampledGraphs:
    """Choose graphs and read their values and crystals.

    The first graph of each element comes first, from the rarest element on, as long as there is room for it. The
    others are at even distances.

    Args:
        store: the dataset.
        rows: the graphs to choose from.
        elements: how many graphs hold each element, and the first of them.
        most: number of graphs.
        room: bytes of JSON that all crystals together may take.
        names: of the labels, the first twelve of which are shown.
        of_crystals: leave out the sizes of the stored graphs, because others are built at every read.

    Raises:
        CorruptDataset: a record is damaged.
    """
    positions, covered = _chosen(store, rows, elements, most)
    chosen = np.array([rows[position] for position in positions], np.int64)
    columns = Columns(store, chosen, of_crystals=of_crystals)
    shown = names[:VALUES]
    values = {name: columns[name] for name in [*shown, *(extra for extra in EXTRA if extra in columns)]}
    spec = None if store.manifest.recipe is None else GraphSpec.from_json(store.manifest.recipe)
    if spec is not None:
        check_crystals(store.manifest.schema, spec)
    graphs: list[dict[str, Any]] = []
    numbers: set[int] = set()
    too_large, no_room = 0, 0
    for k, row in enumerate(chosen.tolist()):
        graph: dict[str, Any] = {
            "id": _text(store.graph_id(row)),
            "atoms": int(values["n_atoms"][k]) if "n_atoms" in values else None,
            "edges": int(values["n_edges"][k]) if "n_edges" in values else None,
            "formula": _text(str(values["formula"][k])) if "formula" in values else None,
            "split": _text(str(values["split"][k])) if "split" in values else None,
            "values": [_value(values[name][k]) for name in shown],
        }
        if spec is not None:
            crystal = _crystal(store, row)
            structure = _structure(crystal) if len(crystal) <= MOST_ATOMS else None
            size = len(json.dumps(structure))
            if structure is None:
                too_large += 1
            elif size > room:
                no_room += 1
            else:
                room -= size
                graph["structure"] = structure
                numbers |= set(structure["numbers"])
        graphs.append(graph)
    titles = [_text(name) + _unit(store.manifest.columns[name].unit) for name in shown]
    data = {"columns": titles, "graphs": graphs, "elements": _elements(numbers)}
    notes = []
    if len(names) > VALUES:
        notes.append(f"the table of graphs shows {VALUES} of the {len(names)} labels")
    if too_large:
        notes.append(f"{too_large} crystals have more than {MOST_ATOMS:,} atoms and are not drawn")
    if no_room:
        notes.append(f"{no_room} crystals are not drawn, so that the file has at most 2 MB")
    drawn = sum("structure" in graph for graph in graphs)
    return SampledGraphs(_embedded(data), len(graphs), drawn, covered, tuple(notes))


def _chosen(store: Store, rows: Any, elements: ElementCounts | None, most: int) -> tuple[list[int], bool]:
    """The positions of the graphs, in order, and whether they hold every element."""
    found: set[int] = set()
    missing = set(elements.graphs) if elements is not None else set()
    if elements is not None:
        formulas = store.column("formula")
        for symbol in sorted(elements.graphs, key=lambda symbol: (elements.graphs[symbol], symbol)):
            if symbol in missing and len(found) < most:
                position = elements.first[symbol]
                found.add(position)
                missing -= _symbols_of(formulas[rows[position]])
    spread = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64).tolist()
    for position in spread:
        if len(found) < most:
            found.add(position)
    return sorted(found), not missing


def _symbols_of(formula: bytes) -> set[str]:
    letters = formula.decode("utf-8", "replace")
    starts = [k for k, letter in enumerate(letters) if "A" <= letter <= "Z"]
    return {letters[k : k + 2] if "a" <= letters[k + 1 : k + 2] <= "z" else letters[k] for k in starts}


def _crystal(store: Store, row: int) -> Crystal:
    fields: dict[str, Any] = store.arrays(row)
    try:
        return Crystal(fields["lattice"], fields["frac_coords"], fields["numbers"], tuple(fields["pbc"].tolist()))
    except StructureError as error:
        store.raise_corrupt(row, CorruptDataset(str(error)))


def _structure(crystal: Crystal) -> dict[str, Any]:
    """A crystal with four decimals, which is more than a picture shows; atoms are moved into the cell."""
    places = np.where(crystal.pbc, crystal.frac_coords % 1.0, crystal.frac_coords)
    return {
        "lattice": [round(x, 4) for x in crystal.lattice.reshape(-1).tolist()],
        "pbc": [int(periodic) for periodic in crystal.pbc],
        "numbers": crystal.numbers.tolist(),
        "places": [round(x, 4) for x in places.reshape(-1).tolist()],
    }


def _elements(numbers: set[int]) -> dict[str, list[Any]]:
    """Symbol, colour and covalent radius in A of each element that is drawn.

    The radii are those of Cordero et al. (2008, doi.org/10.1039/b801115j), the colours those of Jmol, both as ASE has
    them. Elements that a table lacks are grey, with a radius of 1.5 A.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    out = {}
    for z in sorted(numbers):
        red, green, blue = (round(255 * x) for x in jmol_colors[z]) if z < len(jmol_colors) else (150, 150, 150)
        radius = float(covalent_radii[z]) if z < len(covalent_radii) and covalent_radii[z] > 0.2 else RADIUS
        out[str(z)] = [SYMBOLS[z], f"#{red:02x}{green:02x}{blue:02x}", round(radius, 2)]
    return out


def _value(value: Any) -> str:
    """A label as a text for the table."""
    if isinstance(value, str):
        return _text(value)
    if np.ndim(value):
        return shortened(np.array2string(np.asarray(value), precision=4, threshold=9, separator=", "), LONGEST)
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if np.isnan(value):
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def _text(text: str) -> str:
    return shortened(printable(text), LONGEST)


def _unit(unit: str | None) -> str:
    return "" if unit is None else f" [{_text(unit)}]"


def _embedded(data: Any) -> Html:
    """JSON in ASCII that holds none of the characters by which HTML would end the element around it."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)
