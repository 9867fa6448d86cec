"""The class ``GraphWriter``, which writes ready-made graphs (PyG ``Data`` or mappings of arrays) as a dataset."""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from lazygraph.errors import InputError, LabelError, OutputExists
from lazygraph.format.codec import CODECS, train_dictionary
from lazygraph.format.columns import ColumnWriter, text_array
from lazygraph.format.digests import BlockHasher, content_id, graph_digest
from lazygraph.format.manifest import Manifest, Provenance, Shard
from lazygraph.format.record_encoder import RecordEncoder
from lazygraph.format.schema import Schema
from lazygraph.format.shard import write_shard
from lazygraph.registry import unknown_name
from lazygraph.storage.files import FileRef, named_after_content
from lazygraph.writing.descriptions import Descriptions, check_about
from lazygraph.writing.id_order import order_ids
from lazygraph.writing.id_set import IdSet
from lazygraph.writing.infer import SchemaGuess
from lazygraph.writing.label_columns import label_column
from lazygraph.writing.labels import LabelSet, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.owned import is_dataset
from lazygraph.writing.parts import Part, Parts, write_index
from lazygraph.writing.plan import shard_size, versions
from lazygraph.writing.publish import publish
from lazygraph.writing.ready_made import Arrays, ReadyMade
from lazygraph.writing.rows import LABEL, RowBuffer, ShardRows
from lazygraph.writing.temporary_arrays import TemporaryArrays

__all__ = ["GraphWriter"]

SAMPLES = 1024  # graphs that decide the schema and train the dictionary
MOST_WAITING = 2**26  # bytes of their arrays, after which fewer graphs are used
SHARD = 4096  # graphs per shard of a small dataset
MOST_HELD = 2**26  # bytes of records; a shard with more gets no more than SHARD graphs


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph that was checked."""

    number: int
    id: str
    arrays: Arrays
    n_nodes: int
    labels: list[Any]

    @property
    def size(self) -> int:
        return sum(len(value) if isinstance(value, str) else value.nbytes for value in self.arrays.values())

    def copy(self) -> _Graph:
        """Return a copy, which the caller cannot change while the graph waits."""
        arrays = {name: value if isinstance(value, str) else value.copy() for name, value in self.arrays.items()}
        return replace(self, arrays=arrays)


class GraphWriter:
    """A writer that takes ready-made graphs one by one, and publishes the dataset when it is closed.

    If an error leaves the ``with`` block, no dataset appears. The first graph fixes the names, types and shapes of the
    fields. The first 1024 graphs together show which fields grow with the number of nodes or edges. Batches of the
    dataset equal the batches that PyG makes of the graphs:

    - ``num_nodes`` is the number of nodes. If it is missing, the rows of ``x``, ``pos`` or another array of nodes are
      counted. If PyG could only guess the number from ``edge_index``, the rows of ``z``, ``numbers`` or
      ``atomic_numbers`` are counted. If these are missing too, the writer uses PyG's guess and warns.
    - An integer field whose name contains ``index``, or is ``face``, holds indices of nodes, of shape (k, M). For other
      indices, such as indices of edges, use ``counts``. The writer refuses indices of nodes or edges that the graph
      does not have.
    - In your own class, derived from ``Data``, ``__inc__`` and ``__cat_dim__`` say how fields are joined. Graphs come
      back as ``Data``, and are joined in the same way.
    - A Python number comes back as a tensor with one value, as in PyG's ``InMemoryDataset``. Numpy arrays come back as
      tensors.

    ``add`` refuses data that could not come back in this way, such as lists, PyG's ``EdgeIndex`` and ``HeteroData``. Do
    not use a writer from several threads.

    Args:
        path: the dataset directory to write.
        overwrite: replace an existing dataset.
        counts: field -> ``"node"`` or ``"edge"``, for fields of indices (k, M) whose name does not show this, or shows
            something else.
        units: name -> unit of fields and labels.
        per: name -> ``cell`` or ``atom``, for labels of numbers that are per cell or per atom.
        describe: name -> one line of text that describes a label.
        required: labels that every graph must have, such as charge and spin; ``add`` refuses a graph without such a
            label.
        codec: compression of the records: ``"zstd"`` (default), or ``"none"``, which is faster to read and takes about
            twice the bytes.
        level: zstd level, 1 to 22.
        about: a description of the dataset, with some of the keys title, description, license, citation, doi, homepage,
            level_of_theory.

    Raises:
        LabelError: ``per`` is neither ``cell`` nor ``atom``, or a description is not one line. ``add`` also raises it
            if the first graph does not have such a label, or if ``per`` names a label of texts.
        OutputExists: the path already exists.
        WriterBusy: another process is writing the same dataset.

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
        per: Mapping[str, str] | None = None,
        describe: Mapping[str, str] | None = None,
        required: Sequence[str] = (),
        codec: str = "zstd",
        level: int = 9,
        about: Mapping[str, str] | None = None,
    ) -> None:
        if codec not in CODECS:
            raise InputError(unknown_name("codec", codec, CODECS))
        self._about = check_about(about or {})
        self._descriptions = Descriptions(per or {}, describe or {}, required)
        self._layout = Layout.of(path)
        self._units, self._codec, self._level = dict(units or {}), CODECS[codec], level
        self._held = ExitStack()
        self._hold = self._held.enter_context(exclusive(self._layout))
        try:
            self._refuse_what_is_there(overwrite=overwrite)
        except BaseException:
            self._held.close()
            raise
        self._guess = SchemaGuess(counts or {}, self._units)
        self._labels: LabelSet | None = None
        self._ids = IdSet(TemporaryArrays(self._layout.partial), self._id_of)
        # The first graphs wait, because together they decide the schema and train the dictionary.
        self._waiting: list[_Graph] = []
        self._waiting_bytes = 0
        self._encoder: RecordEncoder | None = None
        self._compress = self._codec.encoder(level, None)
        self._dictionary: FileRef | None = None
        self._rows = RowBuffer((), 0)
        self._frames: list[bytes] = []
        self._frames_size = self._written = 0
        self._most = SHARD
        self._ends = [0]
        self._shards: list[ShardRows] = []
        self._open = True

    def add(self, data: Any, *, id: str | None = None, labels: Mapping[str, Any] | None = None) -> None:  # noqa: A002
        """Add one graph.

        Args:
            data: a PyG ``Data``, or a mapping of names to arrays, tensors, numbers or texts.
            id: a unique id. Default: the text in the field ``id``, or else a number such as ``graph-0000012``.
            labels: name -> number, boolean, text of at most 255 bytes, or array of a fixed shape. None and NaN are
                missing labels. A label that the first graph does not have is refused.

        Raises:
            InputError: the graph has other fields than earlier graphs, a field that cannot come back as in PyG, or
                indices of nodes that it does not have. The writer continues without this graph.
            LabelError: a label has another shape than in the first graph, is a text instead of a number or a number
                instead of a text, is too long, or is required but missing. The writer continues without this graph.
        """
        if not self._open:
            msg = "the writer is closed; make a new one"
            raise InputError(msg)
        number = len(self._ids)
        graph_id: Any = f"graph-{number:07d}" if id is None else id
        try:
            ready = ReadyMade.of(data)
        except InputError as error:
            msg = f"graph {graph_id!r}: {error}"
            raise InputError(msg) from error
        if id is None and ready.own_id is not None:
            graph_id = ready.own_id
        if not isinstance(graph_id, str):
            msg = f"found an id of type {type(graph_id).__name__}; required: a text"
            raise InputError(msg)
        text_array([graph_id])
        if graph_id in self._ids:
            msg = f"the id {graph_id!r} was added before; give each graph an id of its own"
            raise InputError(msg)
        chosen = self._labels or self._first_labels(labels or {}, ready.arrays)
        names = [label.name for label in chosen.graph]
        if stray := [name for name in labels or {} if name not in names]:
            msg = (
                f"graph {graph_id!r} has the label {stray[0]!r}, which the first graph does not have; give the first "
                "graph this label, with None if it has no value"
            )
            raise InputError(msg)
        values = _label_values(chosen, labels or {}, graph_id)
        try:
            self._guess.narrow(ready)
        except InputError as error:
            msg = f"graph {graph_id!r}: {error}"
            raise InputError(msg) from error
        self._labels = chosen
        self._ids.add(graph_id)
        graph = _Graph(number, graph_id, ready.arrays, ready.n_nodes, values)
        if self._encoder is not None:
            self._write(graph, self._encoder)
            return
        self._waiting.append(graph.copy())
        self._waiting_bytes += graph.size
        if len(self._waiting) == SAMPLES or self._waiting_bytes > MOST_WAITING:
            self._settle()

    def close(self) -> None:
        """Publish the dataset. A ``with`` block that ends without an error calls this method.

        Raises:
            InputError: no graph was added.
        """
        if not self._open:
            return
        self._open = False
        with self._held:
            if not len(self._ids):
                msg = f"no graph was added to {self._layout.final}; add at least one"
                raise InputError(msg)
            schema = (self._encoder or self._settle()).schema
            if self._frames:
                self._finish_shard()
            publish(self._hold, self._layout.dataset, self._manifest(schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._open:
            self._open = False
            self._held.close()  # drops the unfinished dataset

    def _refuse_what_is_there(self, *, overwrite: bool) -> None:
        final = self._layout.final
        if final.exists() and not (overwrite and is_dataset(final)):
            msg = f"{final} exists; choose another name, or replace a dataset with overwrite=True"
            raise OutputExists(msg)
        if self._layout.plan.exists():
            msg = f"{self._layout.partial} holds an unfinished dataset; finish it, or delete that folder"
            raise OutputExists(msg)

    def _first_labels(self, labels: Mapping[str, Any], arrays: Arrays) -> LabelSet:
        if stray := sorted(self._units.keys() - labels.keys() - arrays.keys()):
            msg = f"there is a unit for {stray[0]!r}, but the first graph has no such field or label"
            raise InputError(msg)
        units = {name: unit for name, unit in self._units.items() if name in labels}
        return LabelSet(self._descriptions.applied(choose_labels([(-1, labels, {})], list(labels), units).labels))

    def _settle(self) -> RecordEncoder:
        """Fix the schema, train the dictionary, and write the waiting graphs."""
        labels = self._labels.graph if self._labels else []
        schema = self._guess.settle(frozenset(label.name for label in labels))
        encoder = self._encoder = RecordEncoder(schema)
        records = [encoder.pack(graph.arrays, {"node": graph.n_nodes})[0] for graph in self._waiting]
        trained = train_dictionary(records, len(records)) if self._codec.takes_dictionary else None
        if trained is not None:
            self._dictionary = named_after_content(self._layout.dataset, "dictionary", ".zstd", trained)
        self._compress = self._codec.encoder(self._level, trained)
        self._rows = self._new_rows(schema)
        for graph in self._waiting:
            self._write(graph, encoder)
        self._waiting.clear()
        return encoder

    def _write(self, graph: _Graph, encoder: RecordEncoder) -> None:
        raw, counts = encoder.pack(graph.arrays, {"node": graph.n_nodes})
        digest = graph_digest(graph.id.encode(), raw)
        self._rows.add(graph.number, graph.id, "", counts, labels=graph.labels, digest=digest)
        frame = self._compress(raw)
        self._frames.append(frame)
        self._frames_size += len(frame)
        held = len(self._frames)
        if held == self._most or (held >= SHARD and self._frames_size >= MOST_HELD):
            self._finish_shard()
            self._most = max(SHARD, shard_size(self._written))
            self._rows = self._new_rows(encoder.schema)

    def _id_of(self, number: int) -> str:
        """Return the id of the graph with this number."""
        if number < self._written:
            shard = bisect_right(self._ends, number) - 1
            raw: bytes = self._shards[shard].arrays["id"][number - self._ends[shard]]
            return raw.decode()
        return self._waiting[number].id if self._waiting else self._rows.id(number - self._written)

    def _new_rows(self, schema: Schema) -> RowBuffer:
        labels = self._labels.graph if self._labels else []
        return RowBuffer(labels, len(schema.axes))

    def _finish_shard(self) -> None:
        number = len(self._shards)
        file, record = write_shard(self._layout.dataset, number, self._frames)
        place = self._layout.done(number)
        self._rows.finish(file, record).save(place)
        self._shards.append(ShardRows.load(place))
        self._written += len(self._frames)
        self._ends.append(self._written)
        self._frames, self._frames_size = [], 0

    def _manifest(self, schema: Schema) -> Manifest:
        folder, shards = self._layout.dataset, self._shards
        table = Parts([_part(rows, schema) for rows in shards])
        order = order_ids(table.column("id"), TemporaryArrays(self._layout.partial))
        columns = ColumnWriter(folder)
        write_index(columns, table, order, [f"n_{axis}" for axis in schema.axes])
        notes: list[str] = []
        for label in self._labels.graph if self._labels else []:
            notes += label_column(columns, label, table.column(f"{LABEL}{label.name}"))
        for rows in shards:
            notes += rows.remarks.notes()
        for note in notes:
            warnings.warn(note, stacklevel=3)
        hasher = BlockHasher()
        for digests in table.column("digest"):
            hasher.add(digests)
        blocks = hasher.blocks()
        dictionary = None if self._dictionary is None else 0
        return Manifest(
            graphs=len(table),
            inputs=len(table),
            recipe=None,
            schema=schema,
            dictionaries=() if self._dictionary is None else (self._dictionary,),
            shards=tuple(Shard(rows.file, rows.rows, (), self._codec.name, dictionary) for rows in shards),
            columns=columns.columns,
            digests=columns.digests(blocks),
            quarantine=None,
            provenance=Provenance(versions=versions(), notes=tuple(notes)),
            content_id=content_id(None, schema, blocks),
            about=self._about,
        )


def _part(rows: ShardRows, schema: Schema) -> Part:
    """Return the rows of a shard, with one column for each count."""
    counts = {f"n_{axis}": number for number, axis in enumerate(schema.axes)}
    own = rows.part()
    return Part(own.rows, lambda name: rows.arrays["counts"][:, counts[name]] if name in counts else own.column(name))


def _label_values(chosen: LabelSet, labels: Mapping[str, Any], graph_id: str) -> list[Any]:
    """Return the values of the labels of one graph. Every value must fit its label."""
    try:
        values, _, left_out = chosen.row(labels, 0)
    except LabelError as error:
        msg = f"graph {graph_id!r}: {error}"
        raise LabelError(msg) from None
    if left_out:
        msg = f"graph {graph_id!r}: the labels {left_out[0].what}: {left_out[0].detail}"
        raise LabelError(msg)
    return values
