"""Codecs: how the records of a shard are compressed, and how a reader undoes it. A new one is a line in ``CODECS``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import zstandard

from lazygraph.errors import CorruptDataset

__all__ = [
    "CODECS",
    "MAX_RECORD",
    "Codec",
    "Compressor",
    "Decoder",
    "Decompressor",
    "Encoder",
    "Uncompressed",
    "train_dictionary",
]

MAX_RECORD = 2**30  # bytes of a decompressed record

# With fewer records than this, a dictionary saves less than it takes.
MIN_TRAINING = 64


class Encoder(Protocol):
    """Record -> what a shard holds of it. Not for several threads at once."""

    def __call__(self, raw: bytes, /) -> bytes:
        """Return the compressed form of one record."""


class Decoder(Protocol):
    """What a shard holds of a record -> the record. For any number of threads."""

    def __call__(self, frame: bytes, bound: int, /) -> bytes:
        """Return the record.

        Raises:
            CorruptDataset: the bytes are not a compressed record, or the record has more than ``bound`` bytes. The size
                is checked before memory is allocated.
        """


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec: the functions that make its encoder and its decoder.

    Attributes:
        name: what the entry of a shard calls it.
        encoder: (level, dictionary or None) -> Encoder. The level is the writer's business and is not stored.
        decoder: (dictionary or None) -> Decoder.
        takes_dictionary: whether its records may be compressed with a dictionary.
    """

    name: str
    encoder: Callable[[int, bytes | None], Encoder]
    decoder: Callable[[bytes | None], Decoder]
    takes_dictionary: bool


class Compressor:
    """Records to zstd frames with content size, without dictionary id and checksum. Not for several threads at once."""

    def __init__(self, level: int, dictionary: bytes | None) -> None:
        data = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
        if data is not None:
            data.precompute_compress(level=level)
        self._context = zstandard.ZstdCompressor(
            level=level, dict_data=data, write_dict_id=False, write_content_size=True, write_checksum=False
        )

    def __call__(self, raw: bytes) -> bytes:
        """The frame of one record."""
        return bytes(self._context.compress(raw))


class Decompressor:
    """Zstd frames to records. Safe in threads (one context each) and after pickling, which carries the dictionary."""

    def __init__(self, dictionary: bytes | None) -> None:
        self._dictionary = dictionary
        self._local = threading.local()

    def __call__(self, frame: bytes, bound: int) -> bytes:
        """The record in a frame.

        Raises:
            CorruptDataset: not one frame and nothing else, no content size or one over ``bound``, or broken data.
        """
        try:
            context = self._local.context
        except AttributeError:
            context = self._local.context = self._new_context()
        try:
            size = zstandard.frame_content_size(frame)
            # An empty frame is no record, and zstandard does not look at what follows it.
            content: bytes | None = (
                context.decompress(frame, allow_extra_data=False) if 0 < size <= bound and size <= MAX_RECORD else None
            )
        except zstandard.ZstdError as error:
            msg = f"the record is not a zstd frame: {error}"
            raise CorruptDataset(msg) from error
        if content is None:
            msg = f"the frame declares {size} bytes; required: 1 to {min(bound, MAX_RECORD)}"
            raise CorruptDataset(msg)
        return content

    def _new_context(self) -> zstandard.ZstdDecompressor:
        try:
            data = None if self._dictionary is None else zstandard.ZstdCompressionDict(self._dictionary)
            return zstandard.ZstdDecompressor(dict_data=data)
        except zstandard.ZstdError as error:
            msg = f"the dictionary is not a zstd dictionary: {error}"
            raise CorruptDataset(msg) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"dictionary": self._dictionary}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dictionary"])  # type: ignore[misc]


class Uncompressed:
    """Records as they are: the fastest to read, at about twice the bytes."""

    def __call__(self, frame: bytes, bound: int = MAX_RECORD) -> bytes:
        """The record itself.

        Raises:
            CorruptDataset: it is empty, or has more than ``bound`` bytes.
        """
        if not 0 < len(frame) <= min(bound, MAX_RECORD):
            msg = f"the record has {len(frame)} bytes; required: 1 to {min(bound, MAX_RECORD)}"
            raise CorruptDataset(msg)
        return frame


def _uncompressed(level: int, dictionary: bytes | None) -> Encoder:  # noqa: ARG001
    return Uncompressed()


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "zstd": Codec("zstd", Compressor, Decompressor, takes_dictionary=True),
        "none": Codec("none", _uncompressed, lambda _: Uncompressed(), takes_dictionary=False),
    }
)


def train_dictionary(records: Sequence[bytes], graphs: int) -> bytes | None:
    """A zstd dictionary for records like these, or None where there are too few to learn from.

    16 KiB, and 64 KiB from 65,536 graphs on: on 1,000 crystals of four data sets the larger one saved another 1 to 4
    percent, which a small data set would not earn back.
    """
    if len(records) < MIN_TRAINING:
        return None
    size = 65536 if graphs >= 65536 else 16384
    try:
        # Segments of 512 bytes that share runs of 8: within 3 percent of what a search over both finds on five data
        # sets (perovskites to MPtrj), in a fifth of its time.
        return bytes(zstandard.train_dictionary(size, list(records), level=9, k=512, d=8).as_bytes())
    except zstandard.ZstdError:  # records too uniform to train on compress well without
        return None
