"""What is known of a finished shard: the rows that it will add to the columns, and what it had to leave out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.columns import NO_SPLIT, text_array
from lazygraph.sources.base import NO_LABELS, Label, Remark
from lazygraph.storage.files import FileRef, make_folder, write_atomic
from lazygraph.writing.label_columns import gather
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.quarantine import Rejected
from lazygraph.writing.remarks import Remarks
from lazygraph.writing.splits import Splits

__all__ = ["Maker", "RowBuffer", "ShardRows", "finished"]


@dataclass(frozen=True, slots=True)
class Maker:
    """What made a shard: the digest and the title of its plan, and the versions of the packages that decide bytes."""

    plan: str
    title: str
    versions: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> Maker:
        """What makes the shards of a plan: nobody with other versions may."""
        return cls(plan.digest, plan.title, plan.versions)


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard, as arrays of equal length.

    ``counts`` has a column for each of ``fields.count_columns``, ``labels`` are by name, and ``splits`` by the name of
    their column.
    """

    file: FileRef
    record: NDArray[Any]
    position: NDArray[np.int64]
    id: NDArray[np.bytes_]
    formula: NDArray[np.bytes_]
    counts: NDArray[np.int64]
    splits: dict[str, Splits]
    labels: dict[str, NDArray[Any]]
    digest: NDArray[np.void]
    rejected: tuple[Rejected, ...]
    remarks: Remarks
    maker: Maker | None
    """None where the shard is of no plan, and not saved."""

    def save(self, path: Path) -> None:
        """Write atomically; the file ends in its own sha256."""
        body = msgpack.packb(
            {
                "maker": None if self.maker is None else list(astuple(self.maker)),
                "file": list(self.file),
                "arrays": {name: _pack(getattr(self, name)) for name in _ARRAYS},
                "labels": {name: _pack(array) for name, array in self.labels.items()},
                "splits": {name: [_pack(one.codes), list(one.names)] for name, one in self.splits.items()},
                "rejected": [list(astuple(r)) for r in self.rejected],
                "remarks": self.remarks.to_json(),
            }
        )
        make_folder(path.parent)
        write_atomic(path, body + hashlib.sha256(body).digest())

    @classmethod
    def load(cls, path: Path) -> ShardRows:
        """Read back what ``save`` wrote.

        Raises:
            FileNotFoundError: the shard is not finished.
            CorruptDataset: the file was damaged.
        """
        data = path.read_bytes()
        body, digest = data[:-32], data[-32:]
        if hashlib.sha256(body).digest() != digest:
            msg = f"{path} is damaged; delete it and run the same command again"
            raise CorruptDataset(msg)
        try:
            raw = msgpack.unpackb(body)
            return cls(
                file=FileRef(*raw["file"]),
                splits={name: Splits(_unpack(codes), tuple(names)) for name, (codes, names) in raw["splits"].items()},
                labels={name: _unpack(array) for name, array in raw["labels"].items()},
                rejected=tuple(Rejected(*r) for r in raw["rejected"]),
                remarks=Remarks.from_json(raw["remarks"]),
                maker=None if raw["maker"] is None else Maker(*raw["maker"]),
                **{name: _unpack(array) for name, array in raw["arrays"].items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path} was written by another version of lazygraph; delete it and run the same command again"
            raise CorruptDataset(msg) from error


def finished(layout: Layout, task: int, maker: Maker) -> ShardRows | None:
    """What is known of a shard of a plan, if it is finished: its row file is whole, and the shard has the size it says.

    After a power failure one of them may be there without the other; the shard is then made again. So is one that a
    worker of another plan left behind.
    """
    try:
        rows = ShardRows.load(layout.done(task))
        rows.file.check_size(layout.dataset)
    except (FileNotFoundError, CorruptDataset):
        return None
    return rows if rows.maker == maker else None


_ARRAYS = ("record", "position", "id", "formula", "counts", "digest")


class RowBuffer:
    """Collects the rows of one shard as its graphs are made.

    Args:
        labels: of the crystals.
        counts: how many counts a row has.
        splits: column of splits -> its splits in order, as the sources declare them.
    """

    def __init__(self, labels: Sequence[Label], counts: int, splits: Mapping[str, Sequence[str]] = NO_LABELS) -> None:
        self._labels, self._counts = labels, counts
        self._rows: list[tuple[Any, ...]] = []
        self._splits = {column: {name: code for code, name in enumerate(names)} for column, names in splits.items()}
        self.rejected: list[Rejected] = []
        self.remarks = Remarks()

    def __len__(self) -> int:
        return len(self._rows)

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
        """One graph that was written; ``splits`` says by the column of splits in which one it is.

        Raises:
            InputError: there are more splits than codes for them.
        """
        codes = {}
        for column, split in splits.items():
            known = self._splits.setdefault(column, {})
            if split not in known and len(known) == NO_SPLIT:
                msg = f"found {NO_SPLIT} splits and {split!r}; required: at most {NO_SPLIT - 1}"
                raise InputError(msg)
            codes[column] = known.setdefault(split, len(known))
        self._rows.append((position, graph_id, formula, counts, labels, digest, codes))

    def finish(self, file: FileRef, record: NDArray[Any], maker: Maker | None = None) -> ShardRows:
        """All rows as arrays."""
        n = len(self._rows)
        position, ids, formulas, counts, labels, digests, codes = zip(*self._rows, strict=True) if n else ([],) * 7
        return ShardRows(
            file=file,
            record=record,
            position=np.array(position, dtype=np.int64),
            id=text_array(ids),
            formula=text_array(formulas, "formula"),
            counts=np.array(counts, dtype=np.int64).reshape(n, self._counts),
            splits={
                column: Splits(np.array([one.get(column, NO_SPLIT) for one in codes], np.uint8), tuple(names))
                for column, names in self._splits.items()
            },
            labels={
                label.name: self._column(label, ids, [row[k] for row in labels]) for k, label in enumerate(self._labels)
            },
            digest=np.frombuffer(b"".join(digests), "V32"),
            rejected=tuple(self.rejected),
            remarks=self.remarks,
            maker=maker,
        )

    def _column(self, label: Label, ids: Sequence[str], values: list[Any]) -> NDArray[Any]:
        """The values of one label; the remarks name the graphs whose value had to be rounded."""
        found = gather(label, values)
        what = f"have an integer under {label.name!r} that float64 rounds; other values of the label are no integers"
        for row in found.rounded.tolist():
            self.remarks.add(ids[row], [Remark(what, str(values[row]))])
        return found.values


def _pack(array: NDArray[Any]) -> list[Any]:
    descr = array.dtype.descr if array.dtype.names else array.dtype.str
    return [descr, list(array.shape), np.ascontiguousarray(array).tobytes()]


def _unpack(packed: list[Any]) -> NDArray[Any]:
    descr, shape, data = packed
    dtype = np.dtype([(n, t) for n, t in descr] if isinstance(descr, list) else descr)
    return np.frombuffer(data, dtype).reshape(shape)
