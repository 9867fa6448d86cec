"""``Storage``: where the files of one dataset lie. Readers ask it for files and ranges, and know no places."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lazygraph.errors import InputError
from lazygraph.registry import Registry
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage

__all__ = ["STORAGES", "Storage", "open_storage"]


@runtime_checkable
class Storage(Protocol):
    """Read access to the files of one dataset, for any number of threads. Picklable; keeps no file open.

    A file that a manifest names never changes, so what was read once may be kept for ever. No method checks what is in
    a file: readers compare sizes and checksums with the manifest.
    """

    @property
    def name(self) -> str:
        """What errors call the dataset, such as its path or its URL."""

    @property
    def is_local(self) -> bool:
        """Whether the files lie in a file system of this machine, so that shards are best read through descriptors."""

    def manifest(self) -> bytes:
        """Return the content of ``manifest.json``, of which a reader takes at most 256 MiB.

        Raises:
            FileNotFoundError: there is no dataset.
            OSError: the storage failed.
        """

    def path(self, file: FileRef) -> Path:
        """Return the path of a whole file on this machine, with the size that the manifest says; fetched if need be.

        Raises:
            FileNotFoundError: the storage does not have it.
            CorruptDataset: it has another size, or is no regular file.
            OSError: the storage failed.
        """

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file, each (offset, length) within its size; fewer bytes where it was cut off.

        Raises:
            FileNotFoundError: the storage does not have it.
            OSError: the storage failed.
        """

    def state(self) -> Any:
        """Return what changes when the dataset is replaced by another one; compared with ``==``.

        Raises:
            OSError: there is no dataset, or the storage failed.
        """


STORAGES: Registry[type[Storage]] = Registry("storage", {}, group="lazygraph.storages", error=InputError)
"""Scheme of a URL -> what is called with the URL and gives a ``Storage``."""


def open_storage(place: str | os.PathLike[str] | Storage) -> Storage:
    """The storage of a dataset: a directory, or what ``lazygraph.storages`` has for the scheme of a URL.

    Args:
        place: a path, a URL such as ``"s3://bucket/mp.lg"``, or a storage.

    Raises:
        InputError: no installed package declares a storage for the scheme.
    """
    if isinstance(place, (str, os.PathLike)):
        scheme, separator, _ = os.fspath(place).partition("://")
        if separator and scheme.isalnum():
            return STORAGES.get(scheme)(os.fspath(place))  # type: ignore[call-arg]
        return LocalStorage(place)
    return place
