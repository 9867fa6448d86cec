"""``GraphWriter``: a dataset of graphs that are made already, PyG ``Data`` or any mapping of arrays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError, OutputExists
from lazygraph.format.columns import text_array, unsigned, write_column
from lazygraph.format.files import FileRef, named_after_content
from lazygraph.format.manifest import MANIFEST, Manifest, Provenance, Shard, content_id, graph_digest
from lazygraph.format.record import Compressor, pack, train_dictionary
from lazygraph.format.schema import DTYPES, Field, Schema
from lazygraph.format.shard import write_shard
from lazygraph.writing.labels import Label, LabelSet, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.plan import versions
from lazygraph.writing.publish import publish
from lazygraph.writing.rows import RowBuffer, ShardRows

__all__ = ["GraphWriter"]

SAMPLES = 1024  # graphs that the dictionary is trained on
SHARD = 4096  # graphs a shard
# As in torch_geometric.data.Data.num_nodes: the keys whose length is the number of nodes.
NODE_KEYS = ("x", "pos", "z", "numbers", "atomic_numbers", "batch", "node_species")


class GraphWriter:
    """Writes graphs one by one, and publishes the dataset when it is closed; nothing appears if an error leaves it.

    The first graph fixes the fields: their names, types and shapes, and which of them grow with nodes or edges. A
    later graph must have the same ones. Indices are recognised as PyG does: a key that contains ``index``, or is
    ``face``, counts nodes and is (k, M); say ``counts`` for others, such as ids of edges. Not for several threads.

    Args:
        path: the dataset to make.
        overwrite: replace a dataset that is there already.
        counts: key -> ``"node"`` or ``"edge"``, where an index field counts something else than its name tells.
        units: name -> unit of fields and labels.
        level: zstd level.

    Raises:
        OutputExists: there is something at the path.
        WriterBusy: another process is writing it.

    Example:
        >>> import tempfile, numpy as np, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> with GraphWriter(folder.name + "/any.lg") as writer:
        ...     for n in (3, 5):
        ...         ring = np.stack([np.arange(n), (np.arange(n) + 1) % n])
        ...         writer.add({"z": np.full(n, 6), "edge_index": ring}, id=f"ring-{n}", labels={"size": n})
        >>> ds = lg.LazyGraphDataset(folder.name + "/any.lg", target="size")
        >>> ds["ring-5"].edge_index.shape, ds["ring-5"].y
        (torch.Size([2, 5]), tensor([[5.]]))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        counts: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        level: int = 9,
    ) -> None:
        self._layout = Layout.of(path)
        self._counts, self._units, self._level = dict(counts or {}), dict(units or {}), level
        self._held = ExitStack()
        self._held.enter_context(exclusive(self._layout))
        try:
            if self._layout.final.exists() and not (overwrite and (self._layout.final / MANIFEST).exists()):
                msg = f"{self._layout.final} exists; choose another name, or replace a dataset with overwrite=True"
                raise OutputExists(msg)
            if self._layout.plan.exists():
                msg = f"{self._layout.partial} holds an unfinished dataset; finish it, or delete that folder"
                raise OutputExists(msg)
            shutil.rmtree(self._layout.dataset, ignore_errors=True)
        except BaseException:
            self._held.close()
            raise
        self._schema: Schema | None = None
        self._labels: LabelSet | None = None
        self._compress: Compressor | None = None
        self._dictionary: FileRef | None = None
        self._waiting: list[tuple[bytes, bytes]] = []
        self._rows: RowBuffer | None = None
        self._frames: list[bytes] = []
        self._shards: list[ShardRows] = []
        self._ids: set[str] = set()
        self._open = True

    def add(self, data: Any, *, id: str | None = None, labels: Mapping[str, Any] | None = None) -> None:  # noqa: A002
        """Add one graph.

        Args:
            data: a PyG ``Data``, or a mapping of names to arrays, tensors, numbers or texts.
            id: unique; ``graph-0000012`` unless said.
            labels: name -> number, or array of a fixed shape; None and NaN are missing. The first graph's are kept.

        Raises:
            InputError: the graph has other fields than the first one, or a type that cannot be stored.
            LabelError: a label has another type or shape than in the first graph.
        """
        if not self._open:
            msg = "the writer is closed; make a new one"
            raise InputError(msg)
        arrays, n_nodes = _arrays(data)
        number = len(self._ids)
        graph_id = f"graph-{number:07d}" if id is None else id
        if graph_id in self._ids:
            msg = f"the id {graph_id!r} was added before; required: unique ids"
            raise InputError(msg)
        raw_id: bytes = text_array([graph_id]).item()
        if self._schema is None:
            self._begin(arrays, n_nodes, labels or {})
        schema, chosen, rows = self._schema, self._labels, self._rows
        if schema is None or chosen is None or rows is None:  # pragma: no cover - set by _begin
            return
        _same_fields(schema, arrays, graph_id)
        if stray := [name for name in labels or {} if name not in {label.name for label in chosen.graph}]:
            msg = f"graph {graph_id!r} has the label {stray[0]!r}, which the first graph has not; give it None there"
            raise InputError(msg)
        values, _ = chosen.row(labels or {}, n_nodes)
        raw, counts = pack(schema, number, arrays)
        self._ids.add(graph_id)
        rows.add(number, graph_id, "", counts, values, graph_digest(raw_id, raw))
        self._waiting.append((raw_id, raw))
        if self._compress is None and len(self._waiting) < SAMPLES:
            return
        self._flush()

    def close(self) -> None:
        """Publish the dataset. Called at the end of a ``with`` block that no error leaves.

        Raises:
            InputError: no graph was added.
        """
        if not self._open:
            return
        self._open = False
        with self._held:
            schema = self._schema
            if schema is None:
                msg = f"no graph was added to {self._layout.final}; required: at least one"
                raise InputError(msg)
            self._flush()
            if self._frames:
                self._finish_shard()
            publish(self._layout, self._layout.dataset, self._manifest(schema))

    def __enter__(self) -> GraphWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._open:
            self._open = False
            self._held.close()  # drops what was begun

    def _begin(self, arrays: Mapping[str, Any], n_nodes: int, labels: Mapping[str, Any]) -> None:
        self._schema = infer_schema(arrays, n_nodes, self._counts, self._units)
        found, _ = choose_labels([(-1, labels)], list(labels), {k: v for k, v in self._units.items() if k in labels})
        self._labels = LabelSet([Label(label.name, "graph", label.shape, label.unit) for label in found])
        self._new_rows()

    def _new_rows(self) -> None:
        graph = self._labels.graph if self._labels else []
        axes = len(self._schema.axes) if self._schema else 0
        self._rows = RowBuffer([label.name for label in graph], [label.shape for label in graph], axes)

    def _flush(self) -> None:
        """Compress what waits, after the dictionary was trained on the first graphs."""
        if self._compress is None:
            trained = train_dictionary([raw for _, raw in self._waiting], len(self._waiting))
            if trained is not None:
                self._dictionary = named_after_content(self._layout.dataset, "dictionary", ".zstd", trained)
            self._compress = Compressor(self._level, trained)
        self._frames += [self._compress(raw) for _, raw in self._waiting]
        self._waiting.clear()
        if len(self._frames) >= SHARD:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._rows is None:
            return
        file, record = write_shard(self._layout.dataset, len(self._shards), self._frames)
        self._shards.append(self._rows.finish(file, record))
        self._frames = []
        self._new_rows()

    def _manifest(self, schema: Schema) -> Manifest:
        folder, shards = self._layout.dataset, self._shards
        ids = np.concatenate([rows.id for rows in shards])
        order = np.argsort(ids, kind="stable")
        counts = np.concatenate([rows.counts for rows in shards])
        columns = {
            "record": write_column(folder, "record", np.concatenate([rows.record for rows in shards])),
            "id": write_column(folder, "id", ids),
            "id_order": write_column(folder, "id_order", order.astype("<u4" if len(order) < 2**32 else "<u8")),
        }
        for number, axis in enumerate(schema.axes):
            columns[f"n_{axis}"] = write_column(folder, f"n_{axis}", unsigned(counts[:, number]))
        for label in self._labels.graph if self._labels else []:
            values = np.concatenate([rows.labels[label.name] for rows in shards])
            columns[label.name] = write_column(folder, label.name, values, role="label", unit=label.unit)
        digests = (digest.tobytes() for rows in shards for digest in rows.digest)
        return Manifest(
            graphs=len(ids),
            inputs=len(ids),
            recipe=None,
            schema=schema,
            level=self._level,
            dictionary=self._dictionary,
            shards=tuple(Shard(rows.file, len(rows.id), len(rows.id)) for rows in shards),
            columns=columns,
            quarantine=None,
            provenance=Provenance(versions=versions()),
            content_id=content_id(None, schema, digests),
        )


def infer_schema(
    arrays: Mapping[str, Any], n_nodes: int, counts: Mapping[str, str], units: Mapping[str, str]
) -> Schema:
    """The schema of the first graph: an array as long as there are nodes or edges grows with them.

    An array of another length has an axis of its own, unless it has no dimensions. A field of one row is per graph.
    """
    edge_index = arrays.get("edge_index")
    n_edges = -1 if edge_index is None else edge_index.shape[-1]
    axes = ["node", "edge"] if edge_index is not None else ["node"]
    fields = []
    for name, value in arrays.items():
        if isinstance(value, str):
            fields.append(Field(name, "str"))
            continue
        by_index = "index" in name or name == "face"
        counted = counts.get(name, "node" if by_index and value.dtype.kind in "iu" else None)
        dim = value.ndim - 1 if by_index and value.ndim else 0
        axis = None
        if value.ndim:
            rows = value.shape[dim]
            if name == "edge_index":
                axis = "edge"
            elif rows == n_nodes and not by_index and (rows != 1 or name in NODE_KEYS):
                axis = "node"
            elif rows == n_edges and (rows != 1 or name.startswith("edge")):
                axis = "edge"
            elif rows != 1 or by_index:
                axis = re_identifier(name)
                axes.append(axis)
        shape = tuple(n for d, n in enumerate(value.shape) if axis is None or d != dim)
        pair = "swap" if name == "edge_index" and shape == (2,) else None
        dim = dim if axis is not None else 0
        fields.append(Field(name, value.dtype.name, shape, axis, dim, units.get(name), counted, pair))
    return Schema(tuple(axes), tuple(fields))


def re_identifier(name: str) -> str:
    """The name of a field's own axis."""
    out = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:60]
    return out if out.isidentifier() and out not in ("node", "edge") else f"axis_{out}"


def _same_fields(schema: Schema, arrays: Mapping[str, Any], graph_id: str) -> None:
    """Raise InputError where a graph differs from the schema in more than the lengths of axes."""
    if set(arrays) != set(schema.names):
        extra, missing = sorted(set(arrays) - set(schema.names)), sorted(set(schema.names) - set(arrays))
        msg = f"graph {graph_id!r} has other fields than the first one: {extra} too many, {missing} missing"
        raise InputError(msg)
    for field in schema.fields:
        value = arrays[field.name]
        if isinstance(value, str) or field.dtype == "str":
            same = isinstance(value, str) and field.dtype == "str"
            found = "text" if isinstance(value, str) else f"{value.dtype}"
        else:
            shape = tuple(n for d, n in enumerate(value.shape) if field.axis is None or d != field.axis_dim)
            same = value.dtype.name == field.dtype and shape == field.shape
            same &= value.ndim == len(field.shape) + (field.axis is not None)
            found = f"{value.dtype} {value.shape}"
        if not same:
            grows = "" if field.axis is None else f" growing with {field.axis!r} in dimension {field.axis_dim}"
            msg = f"graph {graph_id!r}: {field.name!r} is {found}; required: {field.dtype} {field.shape}{grows}, as in the first"
            raise InputError(msg)


def _arrays(data: Any) -> tuple[dict[str, Any], int]:
    """Every field of a graph as numpy array or text, and its number of nodes."""
    items = data if isinstance(data, Mapping) else data.to_dict()
    arrays = {str(name): _array(str(name), value) for name, value in items.items() if value is not None}
    if "num_nodes" in arrays:
        return arrays, int(arrays["num_nodes"])
    for name in NODE_KEYS:
        if name in arrays and not isinstance(arrays[name], str) and arrays[name].ndim:
            return arrays, arrays[name].shape[0]
    index = arrays.get("edge_index")
    return arrays, int(index.max()) + 1 if index is not None and index.size else 0


def _array(name: str, value: Any) -> NDArray[Any] | str:
    if isinstance(value, str):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        msg = (
            f"the field {name!r} is {type(value).__name__} of type {array.dtype}; required: numbers, booleans or a text, "
            f"of type {', '.join(DTYPES)}"
        )
        raise InputError(msg)
    return array
