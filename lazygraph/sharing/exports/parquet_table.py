"""Parquet: one row a graph, with numbers and arrays as columns of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lazygraph.errors import MissingExtra
from lazygraph.sharing.exports.base import Contents, CrystalFormat, ExportedGraph, LeftOut, taken_names
from lazygraph.sources.base import Label

__all__ = ["ParquetFormat"]

_STRUCTURE = ("numbers", "cell", "positions", "scaled_positions", "pbc")
GROUP_ROWS, GROUP_BYTES = 2**13, 2**25  # of a row group, which is held in memory


class ParquetFormat(CrystalFormat):
    """One row a graph; a missing value is null.

    The structure is in the columns ``numbers``, ``cell`` (A, rows are lattice vectors), ``positions`` (A),
    ``scaled_positions`` (fractional coordinates) and ``pbc``. Labels keep their types; arrays are lists. Units and
    descriptions are metadata of the columns, and ``about`` is metadata of the table.
    """

    kind: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    holds_descriptions: ClassVar[bool] = True

    def left_out(self, contents: Contents) -> Iterator[LeftOut]:
        """Yield the names of the columns of the structure."""
        yield from taken_names(contents, _STRUCTURE, "a column of the structure")

    def encode(self, contents: Contents, graphs: Sequence[ExportedGraph]) -> bytes:
        """Return some rows as a record batch of Arrow."""
        pyarrow = _pyarrow()
        schema = _schema(contents)
        crystals = [graph.crystal for graph in graphs]
        columns: dict[str, list[Any]] = {
            contents.id_key: [graph.id for graph in graphs],
            "numbers": [crystal.numbers.tolist() for crystal in crystals],
            "cell": [crystal.lattice.tolist() for crystal in crystals],
            "positions": [graph.positions.tolist() for graph in graphs],
            "scaled_positions": [crystal.frac_coords.tolist() for crystal in crystals],
            "pbc": [list(crystal.pbc) for crystal in crystals],
        }
        for label in contents.labels:
            columns[label.name] = [_plain(graph.labels.get(label.name)) for graph in graphs]
        for label in contents.atom_labels:
            columns[label.name] = [_plain(graph.of_atoms.get(label.name)) for graph in graphs]
        for name in contents.splits:
            columns[name] = [graph.splits.get(name) for graph in graphs]
        arrays = [pyarrow.array(columns[field.name], field.type, from_pandas=False) for field in schema]
        batch = pyarrow.record_batch(arrays, schema=schema)
        return batch.serialize().to_pybytes()  # type: ignore[no-any-return]

    def save(self, path: Path, contents: Contents, pieces: Iterator[bytes]) -> None:
        """Write row groups of 8,192 rows or 32 MiB."""
        pyarrow = _pyarrow()
        from pyarrow import ipc, parquet

        schema = _schema(contents)
        with path.open("xb") as file, parquet.ParquetWriter(file, schema) as writer:
            held: list[Any] = []

            def flush() -> None:
                if held:
                    writer.write_table(pyarrow.Table.from_batches(held, schema), row_group_size=GROUP_ROWS)
                    held.clear()

            for piece in pieces:
                held.append(ipc.read_record_batch(piece, schema))
                rows, size = sum(batch.num_rows for batch in held), sum(batch.nbytes for batch in held)
                if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                    flush()
            flush()


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        msg = "Parquet needs pyarrow; install it with: pip install 'lazygraph[parquet]'"
        raise MissingExtra(msg) from error
    return pa


def _schema(contents: Contents) -> Any:
    pyarrow = _pyarrow()
    real = pyarrow.float64()
    described = contents.described()
    fields = [
        pyarrow.field(contents.id_key, pyarrow.string(), nullable=False),
        pyarrow.field("numbers", pyarrow.list_(pyarrow.uint8())),
        pyarrow.field("cell", _nested(real, 2), metadata={"unit": "A"}),
        pyarrow.field("positions", _nested(real, 2), metadata={"unit": "A"}),
        pyarrow.field("scaled_positions", _nested(real, 2)),
        pyarrow.field("pbc", pyarrow.list_(pyarrow.bool_())),
    ]
    for label in (*contents.labels, *contents.atom_labels):
        depth = len(label.shape) + (label.level == "node")
        fields.append(
            pyarrow.field(label.name, _nested(_type(label), depth), metadata=described["labels"].get(label.name))
        )
    fields += (pyarrow.field(name, pyarrow.string()) for name in contents.splits)
    return pyarrow.schema(fields, metadata={"lazygraph": json.dumps(described)})


def _type(label: Label) -> Any:
    pyarrow = _pyarrow()
    types = {"bool": pyarrow.bool_, "int64": pyarrow.int64, "float32": pyarrow.float32, "text": pyarrow.string}
    return types.get(label.dtype, pyarrow.float64)()


def _nested(leaf: Any, depth: int) -> Any:
    for _ in range(depth):
        leaf = _pyarrow().list_(leaf)
    return leaf


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
