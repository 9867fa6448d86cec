"""Digests by blocks of 4,096 rows: what the content id is made of, and what the values of columns are checked with.

One file holds 32 bytes for every block of the graphs, then 32 bytes for every block of each column, by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset
from lazygraph.format.schema import Schema
from lazygraph.format.strict_json import canonical_json
from lazygraph.storage.files import FileRef, named_after_content

__all__ = [
    "BLOCK",
    "BlockHasher",
    "Blocks",
    "CheckedColumn",
    "blocks_of_column",
    "blocks_of_graphs",
    "content_id",
    "digests_size",
    "graph_digest",
    "read_digests",
    "write_digests",
]

BLOCK = 4096  # rows
SIZE = 32  # bytes of a sha256

Blocks = NDArray[np.void]
"""(B,) ``V32``: the digest of rows ``4096 b`` to ``4096 (b + 1) - 1`` for each b."""


class BlockHasher:
    """Digests of blocks of rows that come in pieces of any lengths.

    Args:
        known: the digests of full blocks that come before the first row.

    Example:
        >>> hasher = BlockHasher()
        >>> for start in range(0, 10_000, 1_000):
        ...     hasher.add(np.arange(start, start + 1_000))
        >>> bool((hasher.blocks() == blocks_of_column(np.arange(10_000))).all())
        True
    """

    def __init__(self, known: Blocks | None = None) -> None:
        self._done = bytearray(b"" if known is None else known.tobytes())
        self._block, self._rows = hashlib.sha256(), 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows."""
        at = 0
        while at < len(rows):
            taken = rows[at : at + BLOCK - self._rows]
            self._block.update(_bytes(np.ascontiguousarray(taken)))
            self._rows += len(taken)
            at += len(taken)
            if self._rows == BLOCK:
                self._done += self._block.digest()
                self._block, self._rows = hashlib.sha256(), 0

    def blocks(self) -> Blocks:
        """The digests of all blocks, the last of which may not be full."""
        last = self._block.digest() if self._rows else b""
        return np.frombuffer(bytes(self._done) + last, f"V{SIZE}")


def graph_digest(graph_id: bytes, record: bytes) -> bytes:
    """The digest of one graph: sha256 over its id and its decompressed record."""
    return hashlib.sha256(len(graph_id).to_bytes(4, "little") + graph_id + record).digest()


def blocks_of_graphs(digests: NDArray[np.void]) -> Blocks:
    """The digests of blocks of graphs.

    Args:
        digests: (N,) ``V32``, the digest of each graph, from the first of a block on.
    """
    return _blocks(digests)


def blocks_of_column(values: NDArray[Any]) -> Blocks:
    """The digests of the values of a column, as they lie in its file."""
    return _blocks(values)


def _blocks(rows: NDArray[Any]) -> Blocks:
    rows = np.ascontiguousarray(rows)
    found = b"".join(hashlib.sha256(_bytes(rows[k : k + BLOCK])).digest() for k in range(0, len(rows), BLOCK))
    return np.frombuffer(found, f"V{SIZE}")


def _bytes(rows: NDArray[Any]) -> Any:
    # Of no components there are no bytes, and no memory to view.
    return rows.reshape(-1).view(np.uint8).data if rows.size and rows.dtype.itemsize else b""


def content_id(recipe: dict[str, Any] | None, schema: Schema, blocks: Blocks) -> str:
    """The identity of a dataset's graphs: over recipe, schema, and the digests of the blocks of graphs in order."""
    total = hashlib.sha256(canonical_json({"recipe": recipe, "schema": schema.to_json()}))
    total.update(blocks.tobytes())
    return total.hexdigest()


def digests_size(graphs: int, columns: int) -> int:
    """The bytes of the file of digests."""
    return SIZE * -(-graphs // BLOCK) * (1 + columns)


def write_digests(directory: Path, graphs: Blocks, columns: Mapping[str, Blocks]) -> FileRef:
    """Write the file of digests below the directory of a dataset."""
    content = graphs.tobytes() + b"".join(columns[name].tobytes() for name in sorted(columns))
    return named_after_content(directory, "digests", ".bin", content)


def read_digests(content: bytes, graphs: int, columns: Mapping[str, Any]) -> tuple[Blocks, dict[str, Blocks]]:
    """The digests of blocks of graphs, and those of each column, from the content of their file."""
    all_blocks = np.frombuffer(content, f"V{SIZE}").reshape(1 + len(columns), -(-graphs // BLOCK))
    return all_blocks[0], dict(zip(sorted(columns), all_blocks[1:], strict=True))


class CheckedColumn:
    """A mapped column, of which each block is compared with its digest before its first use. For any number of threads.

    Args:
        name: where it lies, for errors.
        values: (N, ...) the rows.
        blocks: their digests.
        renew: called where a block is damaged; removes a copy that was damaged and says whether there was one.
    """

    def __init__(
        self, name: str, values: NDArray[Any], blocks: Blocks, renew: Callable[[], bool] = lambda: False
    ) -> None:
        self.values, self.blocks, self._renew = values, blocks, renew
        self._name = name
        self._checked = np.zeros(len(blocks), bool)
        self._complete = not len(blocks)

    def whole(self) -> NDArray[Any]:
        """All rows.

        Raises:
            CorruptDataset: a block is not as it was written.
        """
        if not self._complete:
            for block in np.flatnonzero(~self._checked).tolist():
                self._check(block)
            self._complete = True
        return self.values

    def row(self, row: int) -> Any:
        """One row. Raises as ``whole`` does."""
        if not self._complete and not self._checked[block := row // BLOCK]:
            self._check(block)
        return self.values[row]

    def rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Several rows. Raises as ``whole`` does."""
        self.check(rows)
        return self.values[rows]

    def check(self, rows: NDArray[np.int64]) -> None:
        """Check the blocks of several rows. Raises as ``whole`` does."""
        if not self._complete and not self._checked[blocks := rows // BLOCK].all():
            for block in np.unique(blocks[~self._checked[blocks]]).tolist():
                self._check(block)

    def problems(self) -> Iterator[str]:
        """A sentence for every block that is not as it was written."""
        for block in range(len(self.blocks)):
            try:
                self._check(block)
            except CorruptDataset as error:
                yield str(error)

    def _check(self, block: int) -> None:
        start, end = block * BLOCK, min((block + 1) * BLOCK, len(self.values))
        found = hashlib.sha256(_bytes(self.values[start:end])).digest()
        if found != self.blocks[block].tobytes():
            msg = (
                f"{self._name}: the values of rows {start} to {end - 1} are not as they were written: their sha256 is "
                f"{found.hex()}; required: {self.blocks[block].tobytes().hex()}, as the file of digests says"
            )
            if self._renew():
                msg += ". The damaged copy was removed from the cache: open the dataset again"
            raise CorruptDataset(msg)
        self._checked[block] = True
