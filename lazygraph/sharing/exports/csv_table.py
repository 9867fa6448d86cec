"""CSV: one row a graph, with the structure as the JSON of pymatgen in the last column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson

from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, LeftOut, finite, taken_names
from lazygraph.sharing.exports.pymatgen_json import STRUCTURE, structure_dict

__all__ = ["CsvFormat"]

_SPECIAL = frozenset(',"\r\n')


class CsvFormat(CrystalFormat):
    """A table in UTF-8 with commas, a header, and lines that end in a line feed.

    Numbers have the fewest digits that give back all bits, and truth values are ``True`` and ``False``. A cell is empty
    where a value is missing. Vectors are JSON in a cell. Labels of atoms are site properties in the structure. Texts
    are written as they are, also texts that a spreadsheet takes for formulas.
    """

    kind: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def left_out(self, contents: Contents) -> Iterator[LeftOut]:
        """Yield the name that the column of structures has."""
        yield from taken_names(contents, (STRUCTURE,), "the column of structures")

    def notes(self, contents: Contents) -> Iterator[str]:
        """Yield what stands in cells as JSON."""
        if vectors := [repr(label.name) for label in contents.labels if label.shape]:
            yield f"cells of {', '.join(vectors)} are lists in JSON, because a cell of CSV holds one value"
        if of_atoms := [repr(label.name) for label in contents.atom_labels]:
            yield f"the labels of atoms {', '.join(of_atoms)} are site properties in the column {STRUCTURE!r}"

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> bytes:
        """Return some rows."""
        names = [*(label.name for label in contents.labels), *contents.splits]
        return "".join(_row(names, graph) for graph in graphs).encode()

    def save(self, path: Path, contents: Contents, pieces: Iterator[bytes]) -> None:
        """Write the header and the rows."""
        names = [contents.id_key, *(label.name for label in contents.labels), *contents.splits, STRUCTURE]
        with path.open("xb") as file:
            file.write((",".join(map(_cell, names)) + "\n").encode())
            file.writelines(pieces)


def _row(names: list[str], graph: ExportedGraph) -> str:
    values = {**graph.labels, **graph.splits}
    cells = [graph.id, *(_text(name, graph, values.get(name)) for name in names)]
    cells.append(orjson.dumps(structure_dict(graph)).decode())
    return ",".join(map(_cell, cells)) + "\n"


def _text(name: str, graph: ExportedGraph, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return repr(value)
    return orjson.dumps(finite(name, graph, value).tolist()).decode()


def _cell(text: str) -> str:
    """A cell, in quotes where its text needs them; Python's csv leaves a lone carriage return without."""
    if _SPECIAL.isdisjoint(text) and text.strip() == text:
        return text
    return '"' + text.replace('"', '""') + '"'
