"""JSON with pymatgen's ``Structure.as_dict()``, an id and labels in each entry: one list, or one entry a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson

from lazygraph.crystal import SYMBOLS
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, LeftOut, finite, taken_names

__all__ = ["JsonFormat", "JsonLinesFormat", "structure_dict"]

STRUCTURE = "structure"
_MONTY = ("@module", "@class", "@version")  # keys by which monty finds the class of an object


class JsonLinesFormat(CrystalFormat):
    """One entry a line: the id, the structure, labels and splits. Labels of atoms are properties of the sites.

    A missing component of a vector is ``null``, because JSON has no NaN.
    """

    kind: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl",)

    def left_out(self, contents: Contents) -> Iterator[LeftOut]:
        """Yield names that an entry uses."""
        yield from taken_names(contents, (STRUCTURE, *_MONTY), "a part of every entry")

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> list[bytes]:
        """Return the entries."""
        return [orjson.dumps(_entry(contents, graph), option=orjson.OPT_SERIALIZE_NUMPY) for graph in graphs]

    def save(self, path: Path, contents: Contents, pieces: Iterator[list[bytes]]) -> None:  # noqa: ARG002
        """Write the entries, each in a line."""
        with path.open("xb") as file:
            for entries in pieces:
                file.writelines(entry + b"\n" for entry in entries)


class JsonFormat(JsonLinesFormat):
    """A list of the same entries."""

    kind: ClassVar[str] = "json"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def save(self, path: Path, contents: Contents, pieces: Iterator[list[bytes]]) -> None:  # noqa: ARG002
        """Write the list, with one entry a line."""
        with path.open("xb") as file:
            separator = b"[\n"
            for entries in pieces:
                for entry in entries:
                    file.write(separator + entry)
                    separator = b",\n"
            file.write(b"\n]\n" if separator == b",\n" else b"[]\n")


def structure_dict(graph: ExportedGraph) -> dict[str, Any]:
    """Return the dict that pymatgen's ``Structure.from_dict`` takes, with the labels of the atoms."""
    crystal = graph.crystal
    symbols = [SYMBOLS[number] for number in crystal.numbers.tolist()]
    of_atoms = {name: _json(name, graph, array) for name, array in graph.of_atoms.items()}
    rows = zip(symbols, crystal.frac_coords.tolist(), crystal.cart_coords.tolist(), strict=True)
    sites = [
        {
            "species": [{"element": symbol, "occu": 1}],
            "abc": abc,
            "xyz": xyz,
            "label": symbol,
            "properties": {name: values[atom] for name, values in of_atoms.items()},
        }
        for atom, (symbol, abc, xyz) in enumerate(rows)
    ]
    lattice = {"matrix": crystal.lattice.tolist(), "pbc": list(crystal.pbc)}
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": lattice,
        "properties": {},
        "sites": sites,
    }


def _entry(contents: Contents, graph: ExportedGraph) -> dict[str, Any]:
    labels = {name: _json(name, graph, value) for name, value in graph.labels.items()}
    return {contents.id_key: graph.id, STRUCTURE: structure_dict(graph), **labels, **graph.splits}


def _json(name: str, graph: ExportedGraph, value: Any) -> Any:
    """A value as JSON has it: float32 widened, so that its digits give back all bits of either type."""
    if isinstance(value, (str, bool, int)):
        return value
    value = finite(name, graph, value)
    if isinstance(value, float):
        return value
    return (value.astype(np.float64) if value.dtype == np.float32 else value).tolist()
