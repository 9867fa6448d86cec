"""Writes what ``windows.c`` reads of a dataset, and compares what it found with what this Python reads.

python tools/proofs/windows_job.py write mp.lg JOB
python tools/proofs/windows_job.py compare mp.lg OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lazygraph.format.native_reader import RecordIndex, _supports
from lazygraph.format.native_types import CField
from lazygraph.format.store import Store
from lazygraph.native import address

MOST = 2**40  # bytes that the values may take


def rows_of(store):
    """All rows, from the last to the first."""
    return np.arange(len(store), dtype=np.int64)[::-1].copy()


def write(store, path):
    index = store._index or store._open_index()
    located: RecordIndex = index.located
    schema, rows = store.manifest.schema, rows_of(store)
    fields = (CField * len(schema.fields))(*(CField.of(schema, field) for field in schema.fields))
    allowed = np.array([[_supports(field, code) for code in range(256)] for field in schema.fields], np.uint8)
    offset, length = (located.record.dtype[name].itemsize for name in ("offset", "length"))
    files = [store.path / shard.file.name for shard in store.manifest.shards]
    head = (
        len(schema.axes), len(schema.fields), len(store), len(files), len(store.manifest.dictionaries), len(rows), MOST,
        offset, length,
    )  # fmt: skip
    parts = [np.array(head, np.int64), bytes(fields), allowed, located.record, *located.counts, located.ends]
    parts += [located.sizes, located.codecs, *(f"Z:{file.resolve()}".encode() for file in files)]
    parts += [store.file(dictionary) for dictionary in store.manifest.dictionaries]
    with path.open("wb") as out:
        for part in (*parts, rows):
            content = part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
            out.write(len(content).to_bytes(8, "little") + content)


def compare(store, path):
    schema, rows = store.manifest.schema, rows_of(store)
    batch = store.read_batch(rows)
    if batch.buffer is None:
        sys.exit("the compiled loops of this machine did not read the dataset")
    content = path.read_bytes()
    n, axes, fields = len(rows), len(schema.axes), len(schema.fields)
    numbers = np.frombuffer(content, np.int64, axes * n + 2 * fields + axes + 1)
    counts, offsets = numbers[: axes * n].reshape(axes, n), numbers[axes * n + fields :][:fields]
    buffer = content[8 * len(numbers) :]
    for k, axis in enumerate(schema.axes):
        if not np.array_equal(counts[k], batch.counts[axis]):
            sys.exit(f"{store.name}: the counts of {axis} differ")
    for field, offset in zip(schema.names, offsets.tolist(), strict=True):
        value = batch.fields[field]
        if isinstance(value, list):
            expected = "".join(value).encode()
        else:
            if value.size and offset != address(value) - address(batch.buffer):
                sys.exit(f"{store.name}: {field} lies elsewhere")
            expected = value.tobytes()
        if buffer[offset : offset + len(expected)] != expected:
            sys.exit(f"{store.name}: the bytes of {field} differ")
    print(f"{store.path.name}: {n} graphs, {len(buffer)} bytes, the same")


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](Store(Path(sys.argv[2])), Path(sys.argv[3]))
