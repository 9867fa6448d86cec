"""``GraphWriter``: a dataset of graphs that are made already, PyG ``Data`` or any mapping of arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from lazygraph.errors import InputError, LabelError, OutputExists
from lazygraph.format.codec import CODECS, train_dictionary
from lazygraph.format.columns import ColumnWriter, text_array, unsigned
from lazygraph.format.digests import blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import Manifest, Provenance, Shard
from lazygraph.format.record import pack
from lazygraph.format.schema import Schema
from lazygraph.format.shard import write_shard
from lazygraph.registry import unknown_name
from lazygraph.storage.files import FileRef, named_after_content
from lazygraph.writing.descriptions import Descriptions, check_about
from lazygraph.writing.infer import SchemaGuess
from lazygraph.writing.label_columns import label_column
from lazygraph.writing.labels import LabelSet, choose_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.lock import exclusive
from lazygraph.writing.owned import is_dataset
from lazygraph.writing.plan import versions
from lazygraph.writing.publish import publish
from lazygraph.writing.ready_made import Arrays, ReadyMade
from lazygraph.writing.rows import RowBuffer, ShardRows

__all__ = ["GraphWriter"]

SAMPLES = 1024  # graphs that tell the schema, and that the dictionary is trained on
MOST_WAITING = 2**26  # bytes of their arrays, after which fewer must do
SHARD = 4096  # graphs a shard


@dataclass(frozen=True, slots=True)
class _Graph:
    """One graph that was checked."""

    number: int
    id: str
    arrays: Arrays
    n_nodes: int
    labels: list[Any]

    @property
    def size(self) -> int:
        return sum(len(value) if isinstance(value, str) else value.nbytes for value in self.arrays.values())

    def copy(self) -> _Graph:
        """One that the caller cannot change while it waits."""
        arrays = {name: value if isinstance(value, str) else value.copy() for name, value in self.arrays.items()}
        return replace(self, arrays=arrays)


class GraphWriter:
    """Writes graphs one by one, and publishes the dataset when it is closed; nothing appears if an error leaves it.

    The first graph fixes the names, types and shapes of the fields; the first 1024 together tell which of them grow
    with nodes or edges. Batches of the dataset are those that PyG makes of the graphs:

    - ``num_nodes`` is the number of nodes; else the rows of ``x``, ``pos`` or another array of nodes are counted. Where
      PyG could only guess it from ``edge_index``, the rows of ``z``, ``numbers`` or ``atomic_numbers`` say it, and
      without them it is guessed as PyG does, with a warning.
    - Integers under a key that contains ``index``, or is ``face``, count nodes and are (k, M); say ``counts`` for
      others, such as ids of edges. Indices of nodes or edges that the graph does not have are refused.
    - A class of its own, derived from ``Data``, decides by ``__inc__`` and ``__cat_dim__`` what is joined how. Graphs
      come back as ``Data``, joined in the same way.
    - A Python number comes back as a tensor of one value, as PyG's ``InMemoryDataset`` gives it; arrays of numpy come
      back as tensors.

    What could not come back so, such as lists, PyG's ``EdgeIndex`` and ``HeteroData``, is refused when it is added. Not
    for several threads.

    Args:
        path: the dataset to make.
        overwrite: replace a dataset that is there already.
        counts: key -> ``"node"`` or ``"edge"``, where a field is an index (k, M) that its name does not tell, or counts
            something else.
        units: name -> unit of fields and labels.
        per: name -> ``cell`` or ``atom``: what a label of numbers is given per.
        describe: name -> one line that says what a label is.
        required: labels that no graph may lack, such as charge and spin; ``add`` refuses a graph without one.
        codec: how records are compressed: ``"zstd"``, or ``"none"`` for the fastest reading at about twice the bytes.
        level: zstd level.
        about: what the dataset is: some of title, description, license, citation, doi, homepage, level_of_theory.

    Raises:
        LabelError: ``per`` is something else than ``cell`` or ``atom``, or a description is not one line. ``add``
            raises it too if the first graph has no such label, or a text is given per something.
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
        self._ids: set[str] = set()
        # The first graphs wait: together they tell the schema, and the dictionary is trained on them.
        self._waiting: list[_Graph] = []
        self._waiting_bytes = 0
        self._schema: Schema | None = None
        self._compress = self._codec.encoder(level, None)
        self._dictionary: FileRef | None = None
        self._rows = RowBuffer((), 0)
        self._frames: list[bytes] = []
        self._shards: list[ShardRows] = []
        self._open = True

    def add(self, data: Any, *, id: str | None = None, labels: Mapping[str, Any] | None = None) -> None:  # noqa: A002
        """Add one graph.

        Args:
            data: a PyG ``Data``, or a mapping of names to arrays, tensors, numbers or texts.
            id: unique; the text in the field ``id`` unless said, or else ``graph-0000012``.
            labels: name -> number, truth value, text of at most 255 bytes, or array of a fixed shape; None and NaN are
                missing. The first graph's are kept.

        Raises:
            InputError: the graph has other fields than those before, a field that cannot come back as PyG has it, or
                indices of nodes that it does not have. The writer goes on without it.
            LabelError: a label has another shape than in the first graph, is a text where that is a number or the
                other way round, is too long a text, or is required and missing. The writer goes on without the graph.
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
        if graph_id in self._ids:
            msg = f"the id {graph_id!r} was added before; required: unique ids"
            raise InputError(msg)
        text_array([graph_id])
        chosen = self._labels or self._first_labels(labels or {}, ready.arrays)
        names = [label.name for label in chosen.graph]
        if stray := [name for name in labels or {} if name not in names]:
            msg = f"graph {graph_id!r} has the label {stray[0]!r}, which the first graph has not; give it None there"
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
        if self._schema is not None:
            self._write(graph, self._schema)
            return
        self._waiting.append(graph.copy())
        self._waiting_bytes += graph.size
        if len(self._waiting) == SAMPLES or self._waiting_bytes > MOST_WAITING:
            self._settle()

    def close(self) -> None:
        """Publish the dataset. Called at the end of a ``with`` block that no error leaves.

        Raises:
            InputError: no graph was added.
        """
        if not self._open:
            return
        self._open = False
        with self._held:
            if not self._ids:
                msg = f"no graph was added to {self._layout.final}; required: at least one"
                raise InputError(msg)
            schema = self._schema or self._settle()
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
            self._held.close()  # drops what was begun

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
            msg = f"found a unit for {stray[0]!r}; the first graph has no such field or label"
            raise InputError(msg)
        units = {name: unit for name, unit in self._units.items() if name in labels}
        return LabelSet(self._descriptions.applied(choose_labels([(-1, labels, {})], list(labels), units).labels))

    def _settle(self) -> Schema:
        """Fix the schema, train the dictionary, and write the graphs that waited for both."""
        labels = self._labels.graph if self._labels else []
        schema = self._schema = self._guess.settle(frozenset(label.name for label in labels))
        records = [pack(schema, graph.arrays, {"node": graph.n_nodes})[0] for graph in self._waiting]
        trained = train_dictionary(records, len(records)) if self._codec.takes_dictionary else None
        if trained is not None:
            self._dictionary = named_after_content(self._layout.dataset, "dictionary", ".zstd", trained)
        self._compress = self._codec.encoder(self._level, trained)
        self._rows = self._new_rows(schema)
        for graph in self._waiting:
            self._write(graph, schema)
        self._waiting.clear()
        return schema

    def _write(self, graph: _Graph, schema: Schema) -> None:
        raw, counts = pack(schema, graph.arrays, {"node": graph.n_nodes})
        digest = graph_digest(graph.id.encode(), raw)
        self._rows.add(graph.number, graph.id, "", counts, labels=graph.labels, digest=digest)
        self._frames.append(self._compress(raw))
        if len(self._frames) == SHARD:
            self._finish_shard()
            self._rows = self._new_rows(schema)

    def _new_rows(self, schema: Schema) -> RowBuffer:
        labels = self._labels.graph if self._labels else []
        return RowBuffer(labels, len(schema.axes))

    def _finish_shard(self) -> None:
        file, record = write_shard(self._layout.dataset, len(self._shards), self._frames)
        self._shards.append(self._rows.finish(file, record))
        self._frames = []

    def _manifest(self, schema: Schema) -> Manifest:
        folder, shards = self._layout.dataset, self._shards
        ids = np.concatenate([rows.id for rows in shards])
        order = np.argsort(ids, kind="stable")
        counts = np.concatenate([rows.counts for rows in shards])
        columns = ColumnWriter(folder)
        columns.write("record", np.concatenate([rows.record for rows in shards]))
        columns.write("id", ids)
        columns.write("id_order", order.astype("<u4" if len(order) < 2**32 else "<u8"))
        for number, axis in enumerate(schema.axes):
            columns.write(f"n_{axis}", unsigned(counts[:, number]))
        notes: list[str] = []
        for label in self._labels.graph if self._labels else []:
            notes += label_column(columns, label, [rows.labels[label.name] for rows in shards])
        for rows in shards:
            notes += rows.remarks.notes()
        for note in notes:
            warnings.warn(note, stacklevel=3)
        blocks = blocks_of_graphs(np.concatenate([rows.digest for rows in shards]))
        dictionary = None if self._dictionary is None else 0
        return Manifest(
            graphs=len(ids),
            inputs=len(ids),
            recipe=None,
            schema=schema,
            dictionaries=() if self._dictionary is None else (self._dictionary,),
            shards=tuple(Shard(rows.file, len(rows.id), (), self._codec.name, dictionary) for rows in shards),
            columns=columns.columns,
            digests=columns.digests(blocks),
            quarantine=None,
            provenance=Provenance(versions=versions(), notes=tuple(notes)),
            content_id=content_id(None, schema, blocks),
            about=self._about,
        )


def _label_values(chosen: LabelSet, labels: Mapping[str, Any], graph_id: str) -> list[Any]:
    """The values of the labels of one graph, none of which may be left out."""
    try:
        values, _, left_out = chosen.row(labels, 0)
    except LabelError as error:
        msg = f"graph {graph_id!r}: {error}"
        raise LabelError(msg) from None
    if left_out:
        msg = f"graph {graph_id!r}: the labels {left_out[0].what}: {left_out[0].detail}"
        raise LabelError(msg)
    return values
