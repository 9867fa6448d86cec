"""Extended XYZ, as ASE reads it: one frame a graph, labels in the comment line, labels of atoms in columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, LeftOut, taken_names
from lazygraph.sharing.exports.results import other_units

__all__ = ["ExtxyzFormat"]

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_TRUTH = frozenset({"T", "F", "true", "false", "True", "False", "TRUE", "FALSE"})
# ASE turns these values into results of a calculator, which are numbers.
_NUMBERS = frozenset({"energy", "free_energy", "magmom", "dipole", "stress", "virial"})
_MATRICES = frozenset({"stress", "virial"})  # of which ASE takes nine numbers and nothing else
# Columns that are the structure for ASE, or that it does not keep as they are.
_COLUMNS = (
    "species", "pos", "Z", "positions", "numbers", "symbols", "move_mask", "initial_charges", "charge"
)  # fmt: skip


class ExtxyzFormat(CrystalFormat):
    """One frame a graph. Numbers are written with the fewest digits that give back all bits.

    Vectors of a crystal are lists of numbers, and matrices are ASE's ``_JSON``. A text that ASE would read as a number,
    or that holds quotes or line ends, is ``_JSON`` too. Matrices of atoms are columns, row by row.
    """

    kind: ClassVar[str] = "extxyz"
    suffixes: ClassVar[tuple[str, ...]] = (".xyz", ".extxyz")
    exact_positions: ClassVar[bool] = False

    def left_out(self, contents: Contents) -> Iterator[LeftOut]:
        """Yield names that the format uses, and shapes that ASE does not read."""
        own = [name for name in contents.names if name.lower() in ("lattice", "pbc", "properties")]
        yield from taken_names(contents, own, "a part of every comment line")
        for label in contents.labels:
            if label.name.lower() == "uid":
                yield LeftOut(label.name, "ASE reads a key of this name as a text")
            elif label.name in _NUMBERS and label.dtype == "text":
                yield LeftOut(label.name, "ASE reads only numbers under this name")
            elif label.name in _MATRICES and label.shape != (3, 3) and (label.name, label.shape) != ("stress", (6,)):
                yield LeftOut(label.name, f"ASE reads only 3 x 3 numbers under this name, and it has {label.shape}")
        for label in contents.atom_labels:
            if label.name in _COLUMNS:
                yield LeftOut(label.name, "a column with another meaning has this name")
            elif ":" in label.name:
                yield LeftOut(label.name, "a column of extended XYZ cannot have a colon in its name")

    def notes(self, contents: Contents) -> Iterator[str]:
        """Yield notes about matrices, and about units other than those that ASE assumes."""
        yield from other_units(
            (*contents.labels, *contents.atom_labels), "ASE takes it for a result of a calculator in"
        )
        for label in contents.labels:
            if (label.name, label.shape) == ("stress", (6,)):
                yield "the components xx, yy, zz, yz, xz, xy of 'stress' are written as a 3 x 3 matrix, as ASE reads it"
        for label in contents.atom_labels:
            if len(label.shape) > 1:
                yield f"rows of {label.name!r} of the atoms have the shape {label.shape}, and are written flat"

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> bytes:
        """Return the text of some frames."""
        keys = {name: _key(name) for name in (contents.id_key, *contents.names)}
        return b"".join(_frame(contents, keys, graph) for graph in graphs)

    def save(self, path: Path, contents: Contents, pieces: Iterator[bytes]) -> None:  # noqa: ARG002
        """Write the frames."""
        with path.open("xb") as file:
            file.writelines(pieces)


def _frame(contents: Contents, keys: dict[str, str], graph: ExportedGraph) -> bytes:
    crystal = graph.crystal
    properties = ["species:S:1:pos:R:3"]
    columns: list[tuple[str, NDArray[Any]]] = [("R", graph.positions)]
    for label in contents.atom_labels:
        if (array := graph.of_atoms.get(label.name)) is not None:
            flat = array.reshape(len(array), -1)
            properties.append(f"{label.name}:R:{flat.shape[1]}")
            columns.append(("R", flat))
    lattice = " ".join(map(repr, crystal.lattice.ravel().tolist()))
    flags = " ".join("T" if flag else "F" for flag in crystal.pbc)
    words = [f'Lattice="{lattice}"', f"Properties={_quoted_if_needed(':'.join(properties))}", f'pbc="{flags}"']
    words.append(f"{keys[contents.id_key]}={_text(graph.id)}")
    words += (f"{keys[name]}={_value(name, value)}" for name, value in graph.labels.items())
    words += (f"{keys[name]}={_text(split)}" for name, split in graph.splits.items())
    head = f"{len(crystal)}\n{' '.join(words)}\n".encode()
    symbols = [SYMBOLS[number].encode() for number in crystal.numbers.tolist()]
    table = np.concatenate([array for _, array in columns], axis=1, dtype=np.float64)
    rows = _rows(table)
    return head + b"".join(b"%s %s\n" % row for row in zip(symbols, rows, strict=True))


def _rows(table: NDArray[np.float64]) -> list[bytes]:
    """The numbers of each row, with the fewest digits that give back all bits."""
    if np.isfinite(table).all():
        text = orjson.dumps(np.ascontiguousarray(table), option=orjson.OPT_SERIALIZE_NUMPY)
        return text[2:-2].replace(b",", b" ").split(b"] [")
    return [" ".join(map(repr, row)).encode() for row in table.tolist()]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _value(name: str, value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, (int, float)):
        return repr(value)
    if name in _MATRICES:
        matrix = value if value.shape == (3, 3) else value[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        return '"' + " ".join(map(repr, matrix.T.ravel().tolist())) + '"'
    if value.ndim == 1 and len(value) > 1 and value.dtype.kind in "if":
        return '"' + " ".join(map(repr, value.tolist())) + '"'
    return _quoted("_JSON " + json.dumps(value.tolist()))


def _text(text: str) -> str:
    """A text that ASE reads as this text, and not as a number, a truth value or a list."""
    words = re.findall(r"[^\s,]+", text)
    changed = not words or all(map(_is_number, words)) or all(word in _TRUTH for word in words)
    if changed or text.startswith("_JSON ") or not text.isprintable() or '"' in text or "\\" in text:
        return _quoted("_JSON " + json.dumps(text))
    return _quoted_if_needed(text)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _quoted_if_needed(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_.:+\-]+", text) else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
