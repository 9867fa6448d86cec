"""Columns come back as they were written, read-only, from the file that the manifest describes and from no other."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from drawing import arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.format.columns import Column, dtype_of, open_column, statistics, text_array, unsigned, write_column
from lazygraph.format.shard import record_dtype
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage

RECORD = np.array([(1, 2, 2**64 - 1), (3, 4, 5)], record_dtype(10, 10))


# ---- there and back ----


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5, dtype="u1"),
        np.arange(5, dtype="u2"),
        np.arange(5, dtype=">u4"),
        np.array([2**64 - 1], "u8"),
        np.array([-1, 2], "i8"),
        np.array([0.5, np.nan, -0.0, np.inf]),
        np.array([0.5], ">f8"),
        np.arange(24.0).reshape(4, 2, 3),
        np.arange(24.0).reshape(4, 6)[::2, ::-1],
        np.asfortranarray(np.arange(24.0).reshape(4, 6)),
        np.array([True, False]),
        np.array([b"a", b"", b"\xc3\xa9"]),
        RECORD,
        RECORD[::-1],
        *(np.empty((0, *tail), dtype) for dtype in ("f8", "S1", "u4", RECORD.dtype) for tail in ((), (3,))),
        np.empty((4, 0)),
        np.zeros((2**20,), "u1"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_come_back(array, tmp_path):
    column = write_column(tmp_path, "some", array)
    found = open_column(LocalStorage(tmp_path), column)
    assert found.shape == array.shape == column.shape
    assert found.dtype == array.dtype.newbyteorder("<")
    assert found.tobytes() == array.astype(found.dtype).tobytes()
    assert not found.flags.writeable
    assert found.flags.c_contiguous
    assert found.flags.aligned or array.dtype.names
    again = np.load(tmp_path / column.file.name, allow_pickle=False)
    assert (again.dtype, again.tobytes()) == (found.dtype, found.tobytes())


@settings(max_examples=60)
@given(st.data())
def test_any_label_comes_back(tmp_path_factory, data):
    shape = (data.draw(st.integers(0, 5)), *data.draw(st.sampled_from([(), (3,), (3, 3)])))
    array = data.draw(arrays("float64", shape))
    folder = tmp_path_factory.mktemp("any")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        column = write_column(folder, "label", array, role="label", unit="eV")
    assert (column.role, column.unit) == ("label", "eV")
    assert all(math.isfinite(value) for value in column.statistics.values())
    assert open_column(LocalStorage(folder), column).tobytes() == array.tobytes()


def test_a_column_is_named_after_what_it_holds(tmp_path):
    column = write_column(tmp_path, "density", np.arange(3.0))
    content = (tmp_path / column.file.name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert column.file == FileRef(f"columns/density-{digest[:16]}.npy", len(content), digest)
    assert write_column(tmp_path, "density", np.arange(3.0)) == column
    assert os.listdir(tmp_path / "columns") == [Path(column.file.name).name]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("band gap (eV)", "band_gap_eV_"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("a/b\\c\0d", "a_b_c_d"),
        ("\u0394H", "_H"),
        ("x" * 300, "x" * 100),
        ("", ""),
    ],
)
def test_any_name_makes_a_file_in_the_folder(name, stem, tmp_path):
    column = write_column(tmp_path, name, np.arange(3.0))
    assert column.file.name == f"columns/{stem}-{column.file.sha256[:16]}.npy"
    assert open_column(LocalStorage(tmp_path), column).tolist() == [0, 1, 2]


def test_what_the_manifest_says_of_a_column(tmp_path):
    assert write_column(tmp_path, "record", RECORD).dtype == [["offset", "<u4"], ["length", "<u2"], ["xxh3", "<u8"]]
    assert write_column(tmp_path, "id", np.array([b"abc"])).dtype == "|S3"
    assert write_column(tmp_path, "x", np.arange(2, dtype=">f8")).dtype == "<f8"
    split = write_column(tmp_path, "split", np.zeros(2, "u1"), role="split", categories=["train", "val"])
    assert (split.categories, split.role, split.statistics) == (("train", "val"), "split", None)


# ---- files that are something else ----


def forged(folder, content, column):
    """The same column, but with these bytes, whose size and hash the manifest knows."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"columns/forged-{digest[:16]}.npy"
    (folder / name).write_bytes(content)
    return dataclasses.replace(column, file=FileRef(name, len(content), digest))


def npy(header, values=np.arange(6.0).tobytes(), version=b"\1\0", align=64):
    """A .npy file with this header."""
    padding = -(10 + len(header) + 1) % align
    header = header.encode() + b" " * padding + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + values


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }"


@pytest.fixture
def column(tmp_path):
    return write_column(tmp_path, "label", np.arange(6.0))


def test_any_padding_of_a_right_header_is_read(column, tmp_path):
    """numpy has changed it before, and may again."""
    for padding in (0, 64, 640):
        content = npy(HEADER + " " * padding)
        assert open_column(LocalStorage(tmp_path), forged(tmp_path, content, column)).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "content",
    [
        npy(HEADER.replace("<f8", "<i8")),
        npy(HEADER.replace("<f8", ">f8")),
        npy(HEADER.replace("<f8", "|O")),
        npy(HEADER.replace("False", "True")),
        npy(HEADER.replace("(6,)", "(2, 3)")),
        npy(HEADER.replace("(6,)", "(3,)")),
        npy(HEADER.replace("(6,)", "(7,)")),
        npy(HEADER.replace("'<f8'", "[('a', '<f8')]")),
        npy(HEADER.replace(", }", "}")),
        npy("__import__('os').abort() or " + HEADER),
        npy(HEADER, version=b"\2\0"),
        npy(HEADER, values=np.arange(5.0).tobytes()),
        npy(HEADER, values=np.arange(6.0).tobytes() + b"\0"),
        npy(HEADER, values=np.arange(12.0).tobytes()),
        npy(HEADER, align=16),
        npy(HEADER)[:-48].replace(b"\n", b" ") + np.arange(6.0).tobytes(),
        npy(HEADER).replace(b"NUMPY", b"NUMPI"),
        b"",
        b"\x93NUMPY\1\0",
        b"\x93NUMPY\1\0\xff\xff" + HEADER.encode(),
        np.arange(6.0).tobytes(),
    ],
    ids=lambda content: f"{len(content)} {content[10:70]!r}",
)
def test_a_header_that_lies_is_refused(content, column, tmp_path):
    """Size and hash are those of the manifest: whoever made the file made the manifest too."""
    with pytest.raises(CorruptDataset, match=r"is not a .npy file of float64 and shape \(6,\), as the manifest says"):
        open_column(LocalStorage(tmp_path), forged(tmp_path, content, column))


@pytest.mark.parametrize("shape", [(5,), (7,), (2, 3), (6, 1), (), (2**62,), (10**30,), (0,), (6, 0)])
def test_a_manifest_with_another_shape_is_refused(shape, column, tmp_path):
    with pytest.raises(CorruptDataset, match="is not a .npy file"):
        open_column(LocalStorage(tmp_path), dataclasses.replace(column, shape=shape))


@pytest.mark.parametrize("shape", [(0, 10**30), (0, 2**40, 2**40), (0,) * 70], ids=str)
def test_shapes_that_numpy_cannot_count_are_refused(shape, column, tmp_path):
    content = npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape!r}, }}", b"")
    with pytest.raises(CorruptDataset, match="has the shape"):
        open_column(LocalStorage(tmp_path), dataclasses.replace(forged(tmp_path, content, column), shape=shape))


@pytest.mark.parametrize(
    "descr",
    [
        "|O", "O", "<U3", "<M8[s]", "<m8[s]", "<c16", "|V8", "f8", "d", "float64", ">f8", "=f8", "<f3", "|S0", "<u1",
        "|f8",
        "<i8,<i8", "(2,)<f8", "<f8 ", "", None, 8, 8.0, True, {}, {"names": ["a"], "formats": ["|O"]},
        [["a", "|O"]], [["a", [["b", "<f8"]]]], [["a", "<f8", [2]]], [["a", "<f8"], ["a", "<f8"]], [["a"]], [[]],
        [["", "<f8"]], [[5, "<f8"]], [["a", None]], [], ["<f8"],
    ],
    ids=repr,
)  # fmt: skip
def test_types_that_a_column_may_not_have(descr, column, tmp_path):
    with pytest.raises(CorruptDataset, match="has the type"):
        open_column(LocalStorage(tmp_path), dataclasses.replace(column, dtype=descr))


@pytest.mark.parametrize(
    "descr", ["|b1", "|i1", "<i8", "|u1", "<u8", "<f2", "<f8", "|S1", "|S255", [["a", "<u4"]]], ids=str
)
def test_types_that_a_column_may_have(descr, column):
    assert dtype_of(dataclasses.replace(column, dtype=descr)).itemsize > 0


def test_another_size_is_found_before_anything_is_read(column, tmp_path):
    path = tmp_path / column.file.name
    with path.open("ab") as file:
        file.truncate(2**40)  # sparse: a reader that took it in would not come back
    with pytest.raises(CorruptDataset, match=f"has 1099511627776 bytes; required: {column.file.size}"):
        open_column(LocalStorage(tmp_path), column)


def test_every_flipped_bit_is_found(column, tmp_path):
    path = tmp_path / column.file.name
    content = path.read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptDataset, match=path.name):
            open_column(LocalStorage(tmp_path), column)


def test_a_file_that_is_gone_is_told_apart(column, tmp_path):
    (tmp_path / column.file.name).unlink()
    with pytest.raises(FileNotFoundError):
        open_column(LocalStorage(tmp_path), column)


def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        size = (tmp_path / name).stat().st_size
        with pytest.raises(CorruptDataset, match="is no regular file"):
            open_column(LocalStorage(tmp_path), Column(FileRef(name, size, "0" * 64), "<f8", (0,), "index"))


def test_a_symbolic_link_is_followed(column, tmp_path):
    """Caches of downloads keep files so; hashes say what may be read, wherever it lies."""
    path = tmp_path / column.file.name
    path.replace(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert open_column(LocalStorage(tmp_path), column).tolist() == [0, 1, 2, 3, 4, 5]
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CorruptDataset, match="is no regular file"):
        open_column(LocalStorage(tmp_path), column)


# ---- texts, counts, statistics ----


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60), max_size=10))
def test_texts_come_back(texts):
    assert [raw.decode() for raw in text_array(texts).tolist()] == texts


def test_a_text_may_have_255_bytes():
    assert text_array(["\u00e9" * 127 + "x"]).dtype == "S255"
    with pytest.raises(InputError, match=r"the formula 'é+' has 256 bytes; required: at most 255, none of them zero"):
        text_array(["a", "\u00e9" * 128], "formula")


@pytest.mark.parametrize("text", ["a\0", "\0", "a\0b"])
def test_a_zero_byte_would_be_cut_off(text):
    with pytest.raises(InputError, match="the id .* none of them zero"):
        text_array([text])


def test_a_text_that_is_not_unicode_is_refused():
    r"""JSON may hold such as "\ud800"."""
    with pytest.raises(InputError, match="the id .* is not Unicode"):
        text_array(["fine", "\ud800"])


@pytest.mark.parametrize(
    ("greatest", "dtype"), [(0, "u1"), (255, "u1"), (256, "u2"), (65535, "u2"), (65536, "u4"), (2**32, "u8")]
)
def test_counts_are_as_narrow_as_they_can_be(greatest, dtype):
    found = unsigned(np.array([0, greatest]))
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), [0, greatest])
    assert unsigned(np.array([], "i8")).dtype == "u1"


def test_statistics_leave_missing_values_out():
    found = statistics(np.array([[1.0, np.nan], [3.0, np.inf]]))
    assert found == {"count": 3, "missing": 1, "mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0}
    assert statistics(np.array([np.nan, np.nan])) == {"count": 0, "missing": 2}
    assert statistics(np.empty(0)) == {"count": 0, "missing": 0}
    assert statistics(np.array([np.inf, -np.inf])) == {"count": 2, "missing": 0}


@pytest.mark.parametrize("values", [[1e308, 1e308], [-1.7e308, 1.7e308], [1e200, 0.0], [5e-324, 0.0]])
def test_statistics_of_the_largest_values_are_numbers(values):
    """A manifest holds no infinity: publishing a data set must not fail for one large label."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = statistics(np.array(values))
    low, high = sorted(values)
    assert found["mean"] == pytest.approx(low / 2 + high / 2)
    assert found["std"] == pytest.approx(high / 2 - low / 2)
    assert (found["min"], found["max"]) == (low, high)
