"""``Storage``: where the files of one dataset lie. Readers ask it for files and ranges, and know no places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.registry import Registry
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import LocalStorage

__all__ = ["STORAGES", "Storage", "is_url", "open_storage", "read_checked"]


@runtime_checkable
class Storage(Protocol):
    """Read access to the files of one dataset, for any number of threads. Picklable; keeps no file open.

    A file that a manifest names never changes, so what was read once may be kept for ever. Readers compare checksums
    with the manifest, whatever a storage has checked.
    """

    @property
    def name(self) -> str:
        """What errors call the dataset, such as its path or its URL."""

    def manifest(self) -> bytes:
        """Return the content of ``manifest.json``, of which a reader takes at most 256 MiB.

        Raises:
            FileNotFoundError: there is no dataset.
            OSError: the storage failed.
        """

    def is_at_hand(self, file: FileRef) -> bool:
        """Return whether the whole file is on this machine, so that ``descriptor`` transfers nothing."""

    def descriptor(self, file: FileRef) -> int:
        """Return an open descriptor of a whole file on this machine, with the size that the manifest says.

        The file is fetched if it is not there. The caller closes the descriptor.

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

    def stream(self, file: FileRef) -> Iterator[bytes]:
        """Yield a whole file from its beginning to its end, in pieces of at most 8 MiB; less where it was cut off.

        Raises:
            FileNotFoundError: the storage does not have it.
            OSError: the storage failed.
        """

    def state(self) -> Any:
        """Return what changes when the dataset is replaced by another one; compared with ``==``.

        Raises:
            OSError: there is no dataset, or the storage failed.
        """

    def renew(self, file: FileRef) -> bool:
        """Give up a copy of a file in which wrong bytes were found.

        Returns:
            Whether there was a copy, so that reading the file again may give other bytes.
        """


def _remote(url: str) -> Storage:
    from lazygraph.storage.remote import RemoteStorage

    return RemoteStorage(url)


_REMOTE = ("abfs", "az", "gcs", "gs", "hf", "http", "https", "s3", "sftp")
STORAGES: Registry[Callable[[str], Storage]] = Registry(
    "storage", dict.fromkeys(_REMOTE, _remote), group="lazygraph.storages", error=InputError
)
"""Scheme of a URL -> what is called with the URL and gives a ``Storage``."""


def is_url(place: object) -> bool:
    """Return whether a text is a URL such as ``"s3://bucket/mp.lg"``, and not a path.

    Example:
        >>> is_url("s3://bucket/mp.lg"), is_url("data/mp.lg"), is_url("prototypes:30"), is_url("C://data/mp.lg")
        (True, False, False, False)
    """
    scheme, separator, _ = str(place).partition("://")
    return bool(separator) and scheme.isalnum() and len(scheme) > 1  # one letter is a drive of Windows


def open_storage(place: str | os.PathLike[str] | Storage) -> Storage:
    """The storage of a dataset: a directory, or the storage of the scheme of a URL.

    The schemes are those of :mod:`lazygraph.storage.remote`, and those that installed packages declare as
    ``lazygraph.storages``.

    Args:
        place: a path, a URL such as ``"s3://bucket/mp.lg"``, or a storage.

    Raises:
        InputError: there is no storage for the scheme.
    """
    if isinstance(place, (str, os.PathLike)):
        if is_url(os.fspath(place)):
            return STORAGES.get(os.fspath(place).partition("://")[0])(os.fspath(place))
        return LocalStorage(place)
    return place


def read_checked(storage: Storage, file: FileRef) -> bytes:
    """Return the content of a whole file, after its sha256 was compared.

    Raises:
        FileNotFoundError: the storage does not have it.
        CorruptDataset: it is not the file that the manifest names.
        OSError: the storage failed.
    """
    for attempt in range(3):
        with os.fdopen(storage.descriptor(file), "rb") as opened:
            content = opened.read(file.size + 1)
        found = hashlib.sha256(content).hexdigest() if len(content) == file.size else "of another size"
        if found == file.sha256:
            return content
        # A second look, for another process may have removed a damaged copy meanwhile.
        if not storage.renew(file) and attempt:
            break
    msg = f"{storage.name}/{file.name} has the sha256 {found}; required: {file.sha256}, as the manifest says"
    raise CorruptDataset(msg)
