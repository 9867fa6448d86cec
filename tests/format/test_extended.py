"""A column that begins with the rows of a finished one has the bytes and digests of a column that is written anew."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset
from lazygraph.format.columns import ColumnWriter, Extended, open_column
from lazygraph.format.digests import BLOCK, CheckedColumn, read_digests
from lazygraph.format.shard import record_dtype
from lazygraph.storage.files import FileRange, streamed
from lazygraph.storage.local import LocalStorage


def finished(folder, values, **description):
    """A column as a dataset has it: what the manifest says of it, its checked rows, and what opens it."""
    folder.mkdir(exist_ok=True)
    writer = ColumnWriter(folder)
    writer.write("some", values, **description)
    column, storage = writer.columns["some"], LocalStorage(folder)
    blocks = read_digests((folder / writer.digests(no_graphs(len(values))).name).read_bytes(), len(values), ["some"])
    rows = CheckedColumn("some", open_column(storage, column, check=False), blocks[1]["some"])
    return column, rows, partial(storage.descriptor, column.file)


def no_graphs(rows):
    return np.zeros(-(-rows // BLOCK), "V32")


def content(folder, pieces, rows, **description):
    """Everything that writing these pieces leaves."""
    writer = ColumnWriter(folder)
    writer.stream("some", pieces, **description)
    writer.digests(no_graphs(rows))
    column = writer.columns["some"]
    raw = (folder / column.file.name).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == column.file.sha256
    assert sorted(path.name for path in (folder / "columns").iterdir()) == [Path(column.file.name).name]
    return column, raw, [path.read_bytes() for path in folder.glob("digests-*")]


def some(kind, n, seed):
    """n values of a kind."""
    numbers = np.random.default_rng(seed).integers(0, 200, n)
    if kind == "record":
        out = np.zeros(n, record_dtype(10, 10))
        out["xxh3"] = numbers
        return out
    if kind == "vectors":
        return np.stack([numbers, numbers + 0.5, numbers - 3.0], axis=1)
    return numbers.astype(kind)


KINDS = ["u1", "u4", "f8", "i8", "?", "S3", "S9", "record", "vectors"]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([1, 7, 94, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 20_000]),
    st.lists(st.sampled_from([0, 1, 7, 900, BLOCK - 7, BLOCK, 2 * BLOCK + 3]), max_size=3),
    st.integers(0, 100),
)
def test_any_extended_column_is_that_of_all_rows(tmp_path_factory, kind, old, added, seed):
    """The length of the header changes with the number of rows, and so does the place of the values."""
    folder = tmp_path_factory.mktemp("extended")
    role = "label" if kind in ("f8", "i8", "?", "vectors") else "index"
    before = some(kind, old, seed)
    more = [some(kind, n, seed + 1) for n in added]
    column, rows, descriptor = finished(folder / "old", before, role=role)
    pieces = Extended(column, rows, descriptor, more)
    every = np.concatenate([before, *more])
    found = content(folder / "new", pieces, len(every), role=role)
    assert found == content(folder / "whole", [every], len(every), role=role)


@pytest.mark.parametrize(
    ("old", "new", "dtype"),
    [("u1", "u2", None), ("S3", "S9", None), ("?", "f8", None), ("i8", "f8", None), ("u1", "u1", "u4")],
)
def test_a_column_that_changes_its_type_is_written_anew(old, new, dtype, tmp_path):
    before, more = some(old, 9000, 0), some(new, 100, 1)
    pieces = Extended(*finished(tmp_path / "old", before), [more])
    kind = np.result_type(before, more) if dtype is None else np.dtype(dtype)
    every = np.concatenate([before.astype(kind), more.astype(kind)])
    found = content(tmp_path / "new", pieces, len(every), dtype=dtype)
    assert found == content(tmp_path / "whole", [every], len(every))


@pytest.mark.parametrize("new", ["f8", "i8"], ids=["copied", "written anew"])
@pytest.mark.parametrize("row", [0, BLOCK, 9999])
def test_damaged_rows_are_refused_and_not_copied(row, new, tmp_path):
    """Their digests would otherwise be those of the damaged values, or the new file's sha256 would vouch for them."""
    column, rows, descriptor = finished(tmp_path / "old", some("i8", 10_000, 0))
    with (tmp_path / "old" / column.file.name).open("r+b") as file:
        file.seek(column.file.size - 8 * (10_000 - row))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CorruptDataset, match="are not as they were written"):
        ColumnWriter(tmp_path / "new").stream("some", Extended(column, rows, descriptor, [some(new, 5, 1)]))
    assert not list(tmp_path.glob("new/**/*.npy"))


# ---- bytes that the system copies ----


def other_file_system(folder):
    """A folder on another file system than this one, from which the system may refuse to copy."""
    there = Path("/dev/shm")
    if not there.is_dir() or there.stat().st_dev == folder.stat().st_dev:
        pytest.skip("there is only one file system")
    return there / f"lazygraph-{os.getpid()}-{folder.name}"


@pytest.mark.parametrize("how", ["same file system", "other file system", "no such call"])
@pytest.mark.parametrize(
    ("start", "place", "size"), [(64, 64, 200_000), (64, 128, 200_000), (0, 64, 70_001), (5, 5, 0)]
)
def test_copied_bytes_are_those_of_the_pieces(how, start, place, size, tmp_path, monkeypatch):
    source = other_file_system(tmp_path) if how == "other file system" else tmp_path / "source"
    raw = np.random.default_rng(0).bytes(start + size)
    source.write_bytes(raw)
    if how == "no such call":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    head, rest = b"h" * place, b"r" * 1000
    body = memoryview(raw)[start:]
    # The third piece of the copied bytes ends beyond them.
    pieces = [head, body[:1000], body[1000:-10], bytes(body[-10:]) + rest, rest]
    whole = head + bytes(body) + rest + rest if size else head + rest + rest
    if not size:
        pieces = [head, rest, rest]
    descriptor = os.open(source, os.O_RDONLY)
    try:
        file = streamed(tmp_path, "digests", ".bin", pieces, FileRange(descriptor, start, place, size))
    finally:
        os.close(descriptor)
        source.unlink()
    assert (tmp_path / file.name).read_bytes() == whole
    assert (file.size, file.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


def test_a_source_that_is_shorter_than_said_changes_nothing(tmp_path):
    """The pieces decide."""
    (tmp_path / "source").write_bytes(b"x" * 100)
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    try:
        file = streamed(tmp_path, "digests", ".bin", [b"x" * 50, b"x" * 100, b"y"], FileRange(descriptor, 0, 0, 150))
    finally:
        os.close(descriptor)
    assert (tmp_path / file.name).read_bytes() == b"x" * 150 + b"y"
