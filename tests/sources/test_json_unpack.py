"""Bytes in pieces: plain, gzip and zip are alike, the hash is that of the file given, a broken archive is named."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from lazygraph.errors import UnreadableInput
from lazygraph.sources import unpack
from lazygraph.sources.csv_cif import CsvSource
from lazygraph.sources.jarvis import JarvisSource
from lazygraph.sources.unpack import HEAD, Intake, bare_name, body, marked, pieces, read_head

CONTENT = bytes(range(256)) * 700


def packed(folder: Path, how: str, content: bytes = CONTENT, name: str = "set.json") -> Path:
    path = folder / {"plain": name, "gzip": f"{name}.gz", "zip": f"{name}.zip"}[how]
    if how == "plain":
        path.write_bytes(content)
    elif how == "gzip":
        path.write_bytes(gzip.compress(content))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            archive.writestr("__MACOSX/._" + name, b"resource fork")
            archive.writestr("folder/", b"")
    return path


@pytest.mark.parametrize("how", ["plain", "gzip", "zip"])
@pytest.mark.parametrize("size", [7, 4096, 1 << 20])
def test_intake_gives_the_content_and_describes_the_file(tmp_path, monkeypatch, how, size):
    monkeypatch.setattr(unpack, "_CHUNK", size)
    path, spool = packed(tmp_path, how), tmp_path / "spool"
    intake = Intake(path, spool)
    chunks = list(intake)
    assert b"".join(chunks) == CONTENT
    assert max(map(len, chunks)) <= size
    raw = path.read_bytes()
    assert intake.file == (path.name, len(raw), hashlib.sha256(raw).hexdigest())
    assert body(path, spool).read_bytes() == CONTENT
    assert spool.exists() == (how != "plain"), "a plain file is never copied"
    assert read_head(path) == CONTENT[:HEAD]


@pytest.mark.parametrize("how", ["plain", "gzip", "zip"])
def test_a_byte_order_mark_is_blank_and_offsets_stay_true(tmp_path, monkeypatch, how):
    monkeypatch.setattr(unpack, "_CHUNK", 5)
    path = packed(tmp_path, how, b"\xef\xbb\xbf[1, 2]\xef\xbb\xbf")
    intake = Intake(path, tmp_path / "spool")
    assert b"".join(intake) == b"   [1, 2]\xef\xbb\xbf"
    assert read_head(path) == b"   [1, 2]\xef\xbb\xbf"
    if how == "plain":
        assert intake.file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        if how == "plain":
            assert b"".join(pieces(file)) == b"   [1, 2]\xef\xbb\xbf"
            file.seek(9)
            assert b"".join(pieces(file)) == b"\xef\xbb\xbf", "only the first three bytes of a file are a mark"


@pytest.mark.parametrize("how", ["gzip", "zip"])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_broken_archive_is_named(tmp_path, how, damage):
    path = packed(tmp_path, how, bytes(i * i % 251 for i in range(100_000)))
    raw = bytearray(path.read_bytes())
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        raw[len(raw) // 3] ^= 0x55
    path.write_bytes(raw)
    with pytest.raises(UnreadableInput, match="is broken after .*copy or download it again") as caught:
        list(Intake(path, tmp_path / "spool"))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("names", [[], ["a.json", "b.json"]])
def test_a_zip_must_hold_one_file(tmp_path, names):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "[]")
    with pytest.raises(UnreadableInput, match=rf"holds {len(names)} files .*required: exactly one"):
        read_head(path)


def test_a_zip_with_a_password_is_refused(tmp_path):
    path = packed(tmp_path, "zip", b"[]")
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1  # bit 0 of the flags: encrypted
    path.write_bytes(raw)
    with pytest.raises(UnreadableInput, match="cannot be unpacked"):
        read_head(path)


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    with pytest.raises(UnreadableInput, match="No such file"):
        read_head(tmp_path / "nothing.json")
    with pytest.raises(UnreadableInput, match="is a folder; give a file"):
        read_head(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/set.json.zip", "set"),
        ("set.CSV", "set"),
        ("v1.2.json.gz", "v1.2"),
        (".json", ".json"),
        ("plain", "plain"),
    ],
)
def test_bare_names(path, name):
    assert bare_name(path) == name


@pytest.mark.parametrize("every", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_marks_are_every_so_many_offsets(count, every):
    offsets = list(range(100, 100 + count))
    assert marked(iter(offsets), every) == (count, tuple(offsets[::every]))


@pytest.mark.slow
# The promise behind "any size": a scan holds one piece and one entry, whatever the file.
@pytest.mark.parametrize("source", [JarvisSource, CsvSource])
@pytest.mark.parametrize("how", ["plain", "gzip"])
def test_a_scan_of_60_mb_stays_small(tmp_path, source, how):
    filler = [[0.123456789, 0.25, 0.5]] * 200
    record = json.dumps({"jid": "JVASP-1", "atoms": {"lattice_mat": [], "coords": filler}}) + ", "
    row = '1,"' + "data_x\n_cell_length_a 3.0\n" * 200 + '",0.5\n'
    one, head, tail = (record, "[", "null]") if source is JarvisSource else (row, "id,cif,y\n", "")
    count = 60_000_000 // len(one)
    path = tmp_path / ("big" if how == "plain" else "big.gz")
    with path.open("wb") if how == "plain" else gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head.encode())
        for _ in range(count // 100):
            file.write(one.encode() * 100)
        file.write(tail.encode())
    entries = count // 100 * 100 + (source is JarvisSource)
    tracemalloc.start()
    try:
        scan = source(str(path)).scan(1000, tmp_path / "spool")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scan.entries == entries
    assert peak < 40_000_000
