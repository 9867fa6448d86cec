"""Shards are LMDB files whose values lie where the column says, with the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import lmdb
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset, LazyGraphError
from lazygraph.format import shard as shard_module
from lazygraph.format.shard import PAGE, read_value, record_dtype, write_shard
from lazygraph.storage.files import sha256_of


def values(sizes):
    random = np.random.default_rng(0)
    return [random.bytes(size) for size in sizes]


def assert_whole(directory, file, index, records):
    """Everything that docs/format.md says of a shard."""
    path = directory / file.name
    content = path.read_bytes()
    assert (file.size, file.sha256) == (len(content), sha256_of(path))
    assert len(index) == len(records)
    for (offset, length, digest), record in zip(index.tolist(), records, strict=True):
        assert content[offset : offset + length] == record
        assert (length, digest) == (len(record), xxhash.xxh3_64_intdigest(record))
    with path.open("rb") as opened:
        found = [read_value(opened.fileno(), file.size, *row) for row in index.tolist()]
    assert found == records
    with (
        lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        assert list(transaction.cursor()) == [(n.to_bytes(4, "big"), record) for n, record in enumerate(records)]
        assert len(content) == (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]


SIZES = {
    "no record": [],
    "one empty record": [0],
    "one byte": [1],
    "empty records": [0] * 300,
    "a page and around it": [n + d for n in (PAGE // 2, PAGE, 2 * PAGE) for d in range(-20, 21)],
    "many pages each": [5 * PAGE + 7, 1, 9 * PAGE, 0, 3 * PAGE - 16],
    "typical": [300 + n % 700 for n in range(4096)],
    "thousands of one byte": [1] * 20_000,
    "half a page, three levels deep": [PAGE // 2 - 40] * 5000,
    "one of 3 MB": [3_000_000],
    "more than one map": [1_000_000] * 20,
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_of_all_sizes(sizes, tmp_path):
    records = values(sizes)
    file, index = write_shard(tmp_path, 7, records)
    assert file.name == f"shards/00007-{file.sha256[:16]}.lmdb"
    # No lock file, and nothing temporary.
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == [file.name]
    assert_whole(tmp_path, file, index, records)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.integers(0, 200), st.integers(PAGE // 2 - 40, 3 * PAGE)), max_size=40))
def test_values_of_any_sizes(sizes):
    with tempfile.TemporaryDirectory() as folder:
        records = values(sizes)
        file, index = write_shard(Path(folder), 0, records)
        assert_whole(Path(folder), file, index, records)


def test_the_same_records_give_the_same_bytes_anywhere(tmp_path):
    """Also in another process, with other memory, and beside a file of the same name."""
    records = values([n * 37 % 6000 for n in range(300)])
    first, index = write_shard(tmp_path / "a", 3, records)
    write_shard(tmp_path / "b", 3, values([5000] * 50))
    again, index_again = write_shard(tmp_path / "b", 3, records)
    assert again == first
    assert index_again.tobytes() == index.tobytes()
    code = (
        "import sys, numpy as np; from pathlib import Path; from lazygraph.format.shard import write_shard\n"
        "junk = [bytes([n % 256]) * 5000 for n in range(3000)]; del junk[::2]\n"
        "random = np.random.default_rng(0)\n"
        "print(write_shard(Path(sys.argv[1]), 3, [random.bytes(n * 37 % 6000) for n in range(300)])[0].sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c")], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (first.sha256, "")


def test_the_files_of_two_shards_stand_beside_one_another(tmp_path):
    one, _ = write_shard(tmp_path, 0, [b"a"])
    two, _ = write_shard(tmp_path, 123456, [b"a"])
    assert sorted(os.listdir(tmp_path / "shards")) == [Path(one.name).name, Path(two.name).name]
    assert two.name.startswith("shards/123456-")
    assert one.sha256 == two.sha256


def test_a_failed_shard_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_shard(tmp_path, 0, [b"a", "no bytes"])
    assert os.listdir(tmp_path / "shards") == []


def test_offsets_that_are_wrong_are_never_published(tmp_path, monkeypatch):
    """If some LMDB lays out its pages in another way, writing must fail, not reading."""
    locate = shard_module.locate
    monkeypatch.setattr(shard_module, "locate", lambda *shard: locate(*shard) + (locate(*shard) > 9000))
    with pytest.raises(LazyGraphError, match=r"record \d+ is not where LMDB was seen to put it"):
        write_shard(tmp_path, 0, values([100] * 100))
    assert os.listdir(tmp_path / "shards") == []


@pytest.mark.parametrize(
    ("file_size", "longest", "offset", "length"),
    [
        (2**32 - 1, 2**16 - 1, "<u4", "<u2"),
        (2**32, 2**16 - 1, "<u8", "<u2"),
        (2**32 - 1, 2**16, "<u4", "<u4"),
        (2**40, 2**30, "<u8", "<u4"),
        (8192, 0, "<u4", "<u2"),
    ],
)
def test_the_column_is_as_narrow_as_the_file_allows(file_size, longest, offset, length):
    assert record_dtype(file_size, longest).descr == [("offset", offset), ("length", length), ("xxh3", "<u8")]


# ---- damage ----


@pytest.fixture
def shard(tmp_path):
    """A shard's path, file, index and records."""
    records = values([200, 1, 5000, 700, 3000, 9000])
    file, index = write_shard(tmp_path, 0, records)
    return tmp_path / file.name, file, index.tolist(), records


def read(path, size, row):
    with path.open("rb") as opened:
        return read_value(opened.fileno(), size, *row)


def test_every_flipped_byte_of_a_record_is_found(shard):
    path, file, index, records = shard
    content = path.read_bytes()
    for number, (offset, length, _) in enumerate(index):
        for place in {0, length // 2, length - 1}:
            damaged = bytearray(content)
            damaged[offset + place] ^= 1 << place % 8
            path.write_bytes(damaged)
            with pytest.raises(CorruptDataset, match=f"the {length} bytes at {offset} do not have the checksum"):
                read(path, file.size, index[number])
            others = [n for n in range(len(records)) if n != number]
            assert [read(path, file.size, index[n]) for n in others] == [records[n] for n in others]


def test_pages_that_only_lmdb_reads_may_be_damaged(shard):
    """A flipped bit in a page header makes LMDB miss keys or abort; the records are where they were."""
    path, file, index, records = shard
    content = bytearray(path.read_bytes())
    values_at = {at for offset, length, _ in index for at in range(offset, offset + length)}
    for at in range(len(content)):
        if at not in values_at:
            content[at] ^= 0xFF
    path.write_bytes(content)
    assert [read(path, file.size, row) for row in index] == records


def test_a_file_cut_off_is_an_error_and_never_a_signal(shard):
    path, file, index, _ = shard
    content = path.read_bytes()
    for offset, length, digest in index:
        for keep in {0, offset, offset + length - 1}:
            path.write_bytes(content[:keep])
            found = max(keep - offset, 0)
            with pytest.raises(CorruptDataset, match=f"cut off: found {found} of the {length} bytes at {offset}$"):
                read(path, file.size, (offset, length, digest))


@pytest.mark.parametrize("offset", [2**40, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("length", [0, 1, 2**32 - 1])
def test_a_place_beyond_the_file_is_damage(shard, offset, length):
    path, file, _, _ = shard
    with pytest.raises(CorruptDataset, match=f"the shard ends at byte {file.size}"):
        read(path, file.size, (offset, length, 0))


def test_a_huge_length_takes_no_memory(shard):
    path, file, index, _ = shard
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDataset, match="required: 4294967295 bytes"):
            read(path, file.size, (index[0][0], 2**32 - 1, 0))
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
