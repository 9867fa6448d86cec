"""The row file of a finished shard: the rows that it adds to the columns, and the inputs that it left out."""

from __future__ import annotations

import hashlib
import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.columns import NO_SPLIT, text_array
from lazygraph.sources.base import NO_LABELS, Label, Remark
from lazygraph.storage.descriptors import opening
from lazygraph.storage.files import FileRef, make_folder, write_atomic
from lazygraph.storage.mapping import mapped
from lazygraph.writing.label_columns import gather
from lazygraph.writing.layout import Layout
from lazygraph.writing.parts import Part
from lazygraph.writing.plan import Job, Plan
from lazygraph.writing.quarantine import Rejected
from lazygraph.writing.remarks import Remarks

__all__ = ["LABEL", "SPLIT", "Maker", "RowBuffer", "ShardRows", "finished"]


@dataclass(frozen=True, slots=True)
class Maker:
    """The origin of a shard: digest and title of its plan, and the versions of the packages that decide bytes."""

    plan: str
    title: str
    versions: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> Maker:
        """Return the maker of the shards of a plan. No other maker may make them."""
        return cls(plan.digest, plan.title, plan.versions)

    @classmethod
    def of_job(cls, job: Job) -> Maker:
        """Return the same for a plan of which one shard was read."""
        return cls(job.head.digest, job.head.title, job.plan.versions)


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The facts of one shard: its file, its rows as arrays of equal length, and its quarantined inputs.

    ``arrays`` has ``record``, ``position``, ``id``, ``formula``, ``counts`` (a column for each of
    ``fields.count_columns``), ``digest``, and ``split:NAME`` for each column of splits, with indices into the names
    that ``splits`` has for it. ``labels`` has the labels by name. Loaded shards map their file at each access, so any
    number of shards take no memory.
    """

    file: FileRef
    rows: int
    arrays: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]]
    splits: Mapping[str, tuple[str, ...]]
    rejected: tuple[Rejected, ...]
    remarks: Remarks
    maker: Maker | None
    """None if the shard belongs to no plan."""

    def save(self, path: Path) -> None:
        """Write atomically: a header, the arrays as they are in memory, and the sha256 of both."""
        packed = [np.ascontiguousarray(array) for array in (*self.arrays.values(), *self.labels.values())]
        header = msgpack.packb(
            {
                "maker": None if self.maker is None else list(astuple(self.maker)),
                "file": list(self.file),
                "rows": self.rows,
                "arrays": list(self.arrays),
                "labels": list(self.labels),
                "types": [[_descr(array.dtype), list(array.shape)] for array in packed],
                "splits": {name: list(names) for name, names in self.splits.items()},
                "rejected": [list(astuple(r)) for r in self.rejected],
                "remarks": self.remarks.to_json(),
            }
        )
        pieces = [len(header).to_bytes(8, "little"), header]
        end = 8 + len(header)
        for column in packed:
            pieces += [bytes(-end % ALIGNED), column.tobytes()]
            end += -end % ALIGNED + column.nbytes
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        make_folder(path.parent)
        write_atomic(path, b"".join([*pieces, digest.digest()]))

    @classmethod
    def load(cls, path: Path) -> ShardRows:
        """Open the file that ``save`` wrote, after comparing its sha256.

        Raises:
            FileNotFoundError: the shard is not finished.
            CorruptDataset: the file was damaged.
        """
        content = _content(path)
        body, digest = content[:-32], content[-32:]
        if hashlib.sha256(body.data).digest() != digest.tobytes():
            msg = f"{path} is damaged; delete it and run the same command again"
            raise CorruptDataset(msg)
        length = int.from_bytes(body[:8].tobytes(), "little")
        try:
            raw = msgpack.unpackb(body[8 : 8 + length].tobytes())
            sections: list[_Section] = []
            end = 8 + length
            for descr, shape in raw["types"]:
                sections.append(_Section(path, len(content), end + -end % ALIGNED, _dtype(descr), tuple(shape)))
                end = sections[-1].end
            names = len(raw["arrays"])
            return cls(
                file=FileRef(*raw["file"]),
                rows=raw["rows"],
                arrays=_Mapped(dict(zip(raw["arrays"], sections[:names], strict=True))),
                labels=_Mapped(dict(zip(raw["labels"], sections[names:], strict=True))),
                splits={name: tuple(texts) for name, texts in raw["splits"].items()},
                rejected=tuple(Rejected(*r) for r in raw["rejected"]),
                remarks=Remarks.from_json(raw["remarks"]),
                maker=None if raw["maker"] is None else Maker(*raw["maker"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path} was written by another version of lazygraph; delete it and run the same command again"
            raise CorruptDataset(msg) from error

    def part(self) -> Part:
        """Return the rows, for a dataset of several shards. The column of a label is called ``label:NAME``."""
        labels = {f"{LABEL}{name}": name for name in self.labels}
        return Part(self.rows, lambda name: self.labels[labels[name]] if name in labels else self.arrays[name])


LABEL, SPLIT = "label:", "split:"
ALIGNED = 64  # arrays in a row file begin at multiples of so many bytes


class _Section(NamedTuple):
    """The position of one array in a row file with a given size."""

    path: Path
    size: int
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.dtype.itemsize * math.prod(self.shape)


class _Mapped(Mapping[str, NDArray[Any]]):
    """The arrays of a row file. Each access maps the file again."""

    def __init__(self, sections: Mapping[str, _Section]) -> None:
        self._sections = sections

    def __getitem__(self, name: str) -> NDArray[Any]:
        section = self._sections[name]
        content = _content(section.path)
        if len(content) != section.size:
            msg = f"{section.path} was changed while it was read; run the same command again"
            raise CorruptDataset(msg)
        return np.ndarray(section.shape, section.dtype, content, section.start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)


def _content(path: Path) -> NDArray[np.uint8]:
    with opening(path, lambda: path.open("rb")) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 40:
            msg = f"{path} is damaged; delete it and run the same command again"
            raise CorruptDataset(msg)
        return mapped(file.fileno(), size)


def _descr(dtype: np.dtype[Any]) -> Any:
    return dtype.descr if dtype.names else dtype.str


def _dtype(descr: Any) -> np.dtype[Any]:
    return np.dtype([(name, kind) for name, kind in descr] if isinstance(descr, list) else descr)


def finished(layout: Layout, task: int, maker: Maker) -> ShardRows | None:
    """Return the facts of a shard if it is finished: the row file is intact, and the shard has the stated size.

    After a power failure, one of the two files may be missing. The shard is then made again, as is one that a worker of
    another plan left behind.
    """
    try:
        rows = ShardRows.load(layout.done(task))
        rows.file.check_size(layout.dataset)
    except (FileNotFoundError, CorruptDataset):
        return None
    return rows if rows.maker == maker else None


class RowBuffer:
    """A collector of the rows of one shard while its graphs are made.

    Args:
        labels: the labels of crystals.
        counts: the number of counts of a row.
        splits: column of splits -> its splits in order, as the sources declare them.
    """

    def __init__(self, labels: Sequence[Label], counts: int, splits: Mapping[str, Sequence[str]] = NO_LABELS) -> None:
        self._labels, self._axes = labels, counts
        # A Python object for each value of a row would take twice the memory.
        self._positions, self._counts, self._digests = array("q"), array("q"), bytearray()
        self._ids: list[str] = []
        self._formulas: list[str] = []
        self._values: list[Sequence[Any]] = []  # of the labels
        self._codes: list[Mapping[str, int]] = []  # column of splits -> code
        self._splits = {column: {name: code for code, name in enumerate(names)} for column, names in splits.items()}
        self.rejected: list[Rejected] = []
        self.remarks = Remarks()

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self,
        position: int,
        graph_id: str,
        formula: str,
        counts: tuple[int, ...],
        *,
        labels: Sequence[Any],
        digest: bytes,
        splits: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """Add the row of a written graph. ``splits`` is column of splits -> the split of the graph.

        Raises:
            InputError: there are more splits than codes for them.
        """
        codes: dict[str, int] = {}
        for column, split in splits.items():
            known = self._splits.setdefault(column, {})
            if split not in known and len(known) == NO_SPLIT:
                msg = f"the split {split!r} is one too many; a dataset has at most {NO_SPLIT - 1} splits"
                raise InputError(msg)
            codes[column] = known.setdefault(split, len(known))
        self._positions.append(position)
        self._ids.append(graph_id)
        self._formulas.append(formula)
        self._counts.extend(counts)
        self._values.append(labels or ())
        self._digests += digest
        self._codes.append(codes or NO_LABELS)

    def id(self, row: int) -> str:
        """Return the id of one of the rows."""
        return self._ids[row]

    def finish(self, file: FileRef, record: NDArray[Any], maker: Maker | None = None) -> ShardRows:
        """Return all rows as arrays."""
        n = len(self)
        return ShardRows(
            file,
            n,
            arrays={
                "record": record,
                "position": np.array(self._positions, np.int64),
                "id": text_array(self._ids),
                "formula": text_array(self._formulas, "formula"),
                "counts": np.array(self._counts, np.int64).reshape(n, self._axes),
                "digest": np.frombuffer(bytes(self._digests), "V32"),
                **{
                    f"{SPLIT}{column}": np.array([one.get(column, NO_SPLIT) for one in self._codes], np.uint8)
                    for column in self._splits
                },
            },
            labels={
                label.name: self._column(label, [row[k] for row in self._values])
                for k, label in enumerate(self._labels)
            },
            splits={column: tuple(names) for column, names in self._splits.items()},
            rejected=tuple(self.rejected),
            remarks=self.remarks,
            maker=maker,
        )

    def _column(self, label: Label, values: list[Any]) -> NDArray[Any]:
        """Return the values of one label. The remarks name the graphs with rounded values."""
        found = gather(label, values)
        what = f"have an integer under {label.name!r} that float64 rounds; other values of the label are not integers"
        for row in found.rounded.tolist():
            self.remarks.add(self._ids[row], [Remark(what, str(values[row]))])
        return found.values
