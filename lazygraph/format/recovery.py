"""What is left of a damaged dataset: every record that is provably the one that was written, and in which row."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.cached import cached_property
from lazygraph.errors import CorruptDataset, StorageError
from lazygraph.format.columns import dtype_of, invalid_values, open_column
from lazygraph.format.manifest import Manifest, Shard, row_starts
from lazygraph.format.pages import locate
from lazygraph.format.record import MAX_RECORD, Decompressor, Record, check_counts, unpack
from lazygraph.format.shard import read_value
from lazygraph.storage.descriptors import opening

__all__ = ["DamagedDataset", "LostRecord", "RecoveredRecord"]

BLOCK = 4096  # bytes that are given up where a disk cannot read one of them


@dataclass(frozen=True, slots=True)
class RecoveredRecord:
    """A record that was found: compressed, decompressed and split into its parts."""

    row: int
    frame: bytes
    raw: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class LostRecord:
    """A row whose record was not found, and why."""

    row: int
    reason: str


class DamagedDataset:
    """A dataset directory of which any file but the manifest and the dictionary may be damaged or gone.

    A column whose hash is right is believed. Where the column ``record`` is damaged, a shard whose hash is right says
    by its page tree where its records lie. Where both are, an entry of the column must lead to bytes with the checksum
    that it states, and to the input whose turn it is: bytes that moved within the column would otherwise give a record
    to another row.

    Args:
        path: the dataset directory.
        manifest: its manifest.
        quarantined: the positions of the inputs that are no graphs; None where that is not known.

    Raises:
        DatasetNotFound, CorruptDataset, UnsupportedFormat: the manifest cannot be read, or the dictionary is damaged,
            without which there is no record.
        StorageError: the process can open no more files, which says nothing of the dataset.
    """

    def __init__(self, path: Path, manifest: Manifest, quarantined: NDArray[np.int64] | None) -> None:
        self.path, self.manifest = path, manifest
        self.damaged: dict[str, str] = {}
        """Column -> what is wrong with its file."""
        self._columns: dict[str, NDArray[Any]] = {}
        for name, column in manifest.columns.items():
            try:
                array = open_column(path, column)
                problem = invalid_values(column, array)
            except StorageError:
                raise
            except (CorruptDataset, OSError) as error:
                problem = str(error)
            if problem is None:
                self._columns[name] = array
            else:
                self.damaged[name] = problem
        self._check_promise()
        self._decompress = Decompressor(self._dictionary())
        self._record = self._columns["record"] if "record" in self._columns else self._as_read("record")
        self._positions: NDArray[np.int64] | None = None
        if quarantined is not None and manifest.inputs == manifest.graphs + len(quarantined):
            self._positions = np.setdiff1d(np.arange(manifest.inputs), quarantined)
        self._quarantined = quarantined

    def column(self, name: str) -> NDArray[Any] | None:
        """A column; None where it is damaged."""
        return self._columns.get(name)

    def _as_read(self, name: str) -> NDArray[Any]:
        """A damaged column with zeros for all that cannot be read: none of its values is proven."""
        column = self.manifest.columns[name]
        dtype = dtype_of(column)
        size = self.manifest.graphs * dtype.itemsize  # columns of the index have one value a row
        if not size <= column.file.size <= size + 2**17:  # before memory is taken for it
            return np.zeros(self.manifest.graphs, dtype)
        content = _readable(self.path / column.file.name, column.file.size)
        return np.frombuffer(content, dtype, offset=column.file.size - size)

    @cached_property
    def ids(self) -> NDArray[np.bytes_]:
        """The column ``id``; as far as it can be read, where it is damaged."""
        known = self.column("id")
        return self._as_read("id") if known is None else known

    def graph_id(self, row: int) -> str:
        """The id of a row, with marks for what is no text."""
        return bytes(self.ids[row]).decode(errors="replace")

    def shards(self) -> Iterator[Iterator[RecoveredRecord | LostRecord]]:
        """For every shard, its rows in order."""
        starts = row_starts(self.manifest.shards).tolist()
        for shard, start in zip(self.manifest.shards, starts, strict=False):
            yield self._of_shard(shard, start)

    def _of_shard(self, shard: Shard, start: int) -> Iterator[RecoveredRecord | LostRecord]:
        rows = range(start, start + shard.rows)
        path = self.path / shard.file.name
        try:
            descriptor = _open_regular(path)
        except StorageError:
            raise
        except (CorruptDataset, OSError) as error:
            reason = f"{shard.file.name}: {getattr(error, 'strerror', None) or error}"
            yield from (LostRecord(row, reason) for row in rows)
            return
        try:
            size = os.fstat(descriptor).st_size
            places = self._by_tree(shard, descriptor) if "record" in self.damaged else None
            for row in rows:
                try:
                    if places is not None:
                        frame = os.pread(descriptor, int(places[row - start, 1]), int(places[row - start, 0]))
                    else:
                        frame = read_value(descriptor, size, *self._record[row].item())
                    yield self._whole(row, frame, proven=places is not None or "record" not in self.damaged)
                except CorruptDataset as error:
                    yield LostRecord(row, str(error))
                except StorageError:
                    raise
                except OSError as error:
                    yield LostRecord(row, f"{shard.file.name}: {error.strerror}")
        finally:
            os.close(descriptor)

    def _by_tree(self, shard: Shard, descriptor: int) -> NDArray[np.int64] | None:
        """(rows, 2) offset and length as the page tree of a shard with the right hash says; None for any other."""
        try:
            shard.file.check(self.path)
            places = locate(descriptor, shard.file.size, shard.records)
            if shard.rows == shard.records:
                return places
            if self._quarantined is None:
                return None
            # The others are duplicates, which the merge found and put on the list of quarantined inputs.
            frames = (os.pread(descriptor, length, offset) for offset, length in places.tolist())
            positions = [unpack(self.manifest.schema, self._decompress(one, MAX_RECORD)).position for one in frames]
            kept = places[~np.isin(positions, self._quarantined)]
        except StorageError:
            raise
        except (CorruptDataset, OSError):
            return None
        return kept if len(kept) == shard.rows else None

    def _whole(self, row: int, frame: bytes, *, proven: bool) -> RecoveredRecord:
        """A row's record, if it keeps all that the format promises of it.

        Raises:
            CorruptDataset: it does not.
        """
        schema = self.manifest.schema
        said = [self._columns.get(f"n_{axis}") for axis in schema.axes]
        known = [None if column is None else int(column[row]) for column in said]
        bound = MAX_RECORD if None in known else schema.bound([n for n in known if n is not None])
        raw = self._decompress(frame, bound)
        record = unpack(schema, raw)
        if record.position >= min(self.manifest.inputs, 2**63):
            msg = f"it is of input {record.position}; the manifest says that there were {self.manifest.inputs}"
            raise CorruptDataset(msg)
        check_counts(record, [n if said is None else said for n, said in zip(record.counts, known, strict=True)])
        if invalid := record.invalid_indices():  # decodes every field
            raise CorruptDataset(invalid[0])
        if not proven and (self._positions is None or record.position != self._positions[row]):
            msg = "the column record and the shard are both damaged, and it cannot be proven that this is its record"
            raise CorruptDataset(msg)
        return RecoveredRecord(row, frame, raw, record)

    def _check_promise(self) -> None:
        """No memory and no time for more graphs than the files that are there can hold."""
        there = sum(
            path.stat().st_size for path in (self.path / file.name for file in self.manifest.files()) if path.is_file()
        )
        if self.manifest.graphs > there:
            msg = f"{self.path}: the manifest promises {self.manifest.graphs} graphs; its files have {there} bytes"
            raise CorruptDataset(msg)

    def _dictionary(self) -> bytes | None:
        file = self.manifest.dictionary
        if file is None:
            return None
        try:
            path = file.check(self.path)
            return opening(path, path.read_bytes)
        except StorageError:
            raise
        except (CorruptDataset, OSError) as error:
            msg = (
                f"{error}; without its dictionary no record of the dataset can be read: put a copy of {file.name} "
                "there, from a backup or from anyone who has the same dataset"
            )
            raise CorruptDataset(msg) from error


def _open_regular(path: Path) -> int:
    """Open a file; CorruptDataset where it is no regular file: opening a pipe would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        msg = "it is no regular file"
        raise CorruptDataset(msg)
    return opening(path, lambda: os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))


def _readable(path: Path, size: int) -> bytes:
    """The first bytes of a file, with zeros where there are none, or none that can be read."""
    content = bytearray(size)
    try:
        descriptor = _open_regular(path)
    except StorageError:
        raise
    except (CorruptDataset, OSError):
        return bytes(content)
    try:
        for start in range(0, size, BLOCK):
            with suppress(OSError):
                piece = os.pread(descriptor, min(BLOCK, size - start), start)
                content[start : start + len(piece)] = piece
    finally:
        os.close(descriptor)
    return bytes(content)
