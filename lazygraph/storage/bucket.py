"""``BucketTransport``: a dataset in an object store (S3, Google Cloud Storage, Azure), through fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from lazygraph.errors import CorruptDataset, InputError, LazyGraphError, TransferError
from lazygraph.extras import require
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import MANIFEST, MAX_MANIFEST
from lazygraph.storage.target import ChangedMeanwhile
from lazygraph.storage.transport import TransientError, VersionedManifest, complete, repeated, shown
from lazygraph.text import printable, shortened

__all__ = ["BUCKETS", "BucketTarget", "BucketTransport"]

T = TypeVar("T")
ATTEMPTS = 2  # the packages of the stores repeat requests themselves
PIECE = 2**23  # bytes of one request
AT_ONCE = 4  # requests for one file at the same time
REFUSED_CONDITION = ("PreconditionFailed", "pre-condition", "ConditionalRequestConflict", "FileExistsError")
CLIENTS = ("aiohttp", "aiobotocore", "azure", "botocore", "gcsfs", "google")  # packages that speak to servers


SETTINGS = ("AWS_", "AZURE_", "FSSPEC_", "GCSFS_", "GOOGLE_")  # beginnings of environment variables

_SYSTEMS: dict[tuple[Any, ...], Any] = {}


class _Kind(NamedTuple):
    """One kind of object store."""

    module: str
    """The package with its fsspec file system, which is also the name of the extra's package."""
    extra: str


BUCKETS = {
    "s3": _Kind("s3fs", "s3"),
    "gs": _Kind("gcsfs", "gs"),
    "gcs": _Kind("gcsfs", "gs"),
    "az": _Kind("adlfs", "az"),
    "abfs": _Kind("adlfs", "az"),
}
"""Scheme of a URL -> the package that speaks to the store."""


class BucketTransport:
    """The files of a dataset below a prefix of a bucket.

    Credentials, region and endpoint are those that the package of the store finds, for example in environment variables
    such as ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` or ``AWS_PROFILE``, or in ``FSSPEC_S3_...``. They are written
    nowhere.

    Args:
        url: such as ``"s3://bucket/datasets/mp.lg"``.
    """

    def __init__(self, url: str) -> None:
        self._scheme, _, rest = url.partition("://")
        self._root = rest.rstrip("/")
        if not self._root or "@" in urlsplit(url).netloc:
            msg = (
                f"the URL {shown(url)!r} cannot be used; give {self._scheme}://BUCKET/PATH, without user name and "
                "password"
            )
            raise InputError(msg)

    @property
    def name(self) -> str:
        """The URL."""
        return printable(f"{self._scheme}://{self._root}")

    def path(self, name: str) -> str:
        """The path of a file as the file system takes it."""
        return f"{self._root}/{name}"

    @property
    def system(self) -> Any:
        """The fsspec file system of this process and of the credentials that are set, without a cache of listings."""
        told = sorted((name, value) for name, value in os.environ.items() if name.startswith(SETTINGS))
        key = os.getpid(), self._scheme, tuple(told)
        found = _SYSTEMS.get(key)
        if found is None:
            kind = BUCKETS[self._scheme]
            require(kind.module, kind.extra, f"{self._scheme}:// URLs")
            fsspec = require("fsspec", kind.extra, f"{self._scheme}:// URLs")
            found = fsspec.filesystem(self._scheme, skip_instance_cache=True, use_listings_cache=False)
            _SYSTEMS.clear()  # of a parent process, or of other credentials
            _SYSTEMS[key] = found
        return found

    def manifest(self, known: str | None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the manifest; None if its version is still ``known``."""
        path = self.path(MANIFEST)

        def ask() -> VersionedManifest | None:
            info = self._call(MANIFEST, lambda: self.system.info(path, refresh=True))
            version = _version(info)
            if known is not None and version == known:
                return None
            if info["size"] > MAX_MANIFEST:
                msg = f"it has {info['size']} bytes; required: at most {MAX_MANIFEST}"
                raise CorruptDataset(msg)
            content = self._call(MANIFEST, lambda: self.system.cat_file(path))
            return VersionedManifest(content, version if len(content) == info["size"] else None)

        return repeated(ask, f"{self.name}/{MANIFEST}", min(attempts, ATTEMPTS))

    def version(self) -> str:
        """Return the ETag of the manifest, or its time and length."""
        path = self.path(MANIFEST)
        info = repeated(
            lambda: self._call(MANIFEST, lambda: self.system.info(path, refresh=True)),
            f"{self.name}/{MANIFEST}",
            ATTEMPTS,
        )
        return _version(info) or repr(sorted((key, str(value)) for key, value in info.items()))

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file, several at the same time."""
        return repeated(partial(self._ranges, file, ranges), f"{self.name}/{file.name}", ATTEMPTS)

    def _ranges(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        path = self.path(file.name)
        wanted = [(offset, offset + length) for offset, length in ranges if length]
        starts, ends = [start for start, _ in wanted], [end for _, end in wanted]
        found = self._call(
            file.name, lambda: self.system.cat_ranges([path] * len(wanted), starts, ends, on_error="return")
        )
        contents = iter(found)
        answers = []
        for _, length in ranges:
            content = next(contents) if length else b""
            if isinstance(content, BaseException):
                self._call(file.name, partial(_raise, content))
            if len(content) != length:
                msg = f"received {len(content)} of the {length} bytes that were requested"
                raise TransientError(msg)
            answers.append(content)
        return answers

    def stream(self, file: FileRef, offset: int) -> Iterator[bytes]:
        """Yield a file from an offset on, in pieces of 8 MiB of which some are on their way at the same time."""
        return complete(partial(self._from, file), file, offset, f"{self.name}/{file.name}")

    def _from(self, file: FileRef, offset: int) -> Iterator[bytes]:
        info = self._call(file.name, lambda: self.system.info(self.path(file.name)))
        if info["size"] != file.size:
            msg = f"{self.name}/{file.name} has {info['size']} bytes; required: {file.size}, as the manifest says"
            raise CorruptDataset(msg)
        for start in range(offset, file.size, AT_ONCE * PIECE):
            end = min(start + AT_ONCE * PIECE, file.size)
            yield from self._ranges(file, [(at, min(PIECE, end - at)) for at in range(start, end, PIECE)])

    def _call(self, name: str, call: Callable[[], T]) -> T:
        """Return what a call of fsspec gives, with the errors of this package."""
        try:
            return call()
        except FileNotFoundError:
            raise FileNotFoundError(2, "the store has no such object", f"{self.name}/{name}") from None
        except (LazyGraphError, TransientError, ChangedMeanwhile):
            raise
        except PermissionError as error:
            msg = f"{self.name}/{name}: the store refuses access ({_said(error)}); check your credentials for it"
            raise TransferError(msg) from None
        except Exception as error:
            if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
                msg = f"{self.name}/{name}: no credentials were found; set those of the store ({type(error).__name__})"
                raise TransferError(msg) from None
            if isinstance(error, (OSError, TimeoutError)) or _of_connection(error):
                raise TransientError(_said(error)) from None
            raise


class BucketTarget(BucketTransport):
    """A prefix of a bucket where a dataset is published.

    The manifest of S3 is put by a conditional request, so of two that publish at the same time one is refused. Of the
    other stores the manifest is compared right before it is put.
    """

    takes_card = False

    def manifest(self, known: str | None = None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the published manifest, or None."""
        try:
            return super().manifest(known, attempts)
        except FileNotFoundError:
            return None

    def present(self, files: Sequence[FileRef]) -> set[FileRef]:
        """Return those of these files that are there, by name and size."""
        what = self.name

        def ask() -> dict[str, int]:
            found = self._call("", lambda: self.system.find(self._root, detail=True))
            start = len(self._root.removeprefix("/")) + 1
            return {path[start:]: info["size"] for path, info in found.items()}

        try:
            sizes = repeated(ask, what, ATTEMPTS)
        except FileNotFoundError:
            return set()
        return {file for file in files if sizes.get(file.name) == file.size}

    def put(self, file: FileRef, path: Path) -> None:
        """Send a file. An object appears when all of it was sent."""
        remote = self.path(file.name)
        repeated(lambda: self._call(file.name, lambda: self.system.put_file(str(path), remote)), self.name, ATTEMPTS)

    def read_text(self, name: str) -> str | None:  # noqa: ARG002  # no card is written
        """Return None."""
        return None

    def publish(self, content: bytes, before: VersionedManifest | None, extras: Mapping[str, bytes]) -> str | None:
        """Put the manifest in its place."""
        del extras

        def put() -> None:
            now = self.manifest()
            if now is not None and now.content == content:
                return  # the answer to the last attempt was lost
            if now != before:
                raise ChangedMeanwhile
            condition: dict[str, str] | None = {"IfNoneMatch": "*"}
            if before is not None:
                condition = None if before.version is None else {"IfMatch": f'"{before.version}"'}
            self._call(MANIFEST, lambda: self._put_manifest(content, condition))

        repeated(put, f"{self.name}/{MANIFEST}", ATTEMPTS)
        return None

    def _put_manifest(self, content: bytes, condition: dict[str, str] | None) -> None:
        path = self.path(MANIFEST)
        if self._scheme != "s3" or condition is None:
            self.system.pipe_file(path, content)
            return
        bucket, key, _ = self.system.split_path(path)
        try:
            self.system.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
        except Exception as error:
            said = f"{type(error).__name__} {error}"
            if any(word in said for word in REFUSED_CONDITION):
                raise ChangedMeanwhile from None
            if "NotImplemented" not in said:
                raise
            self.system.pipe_file(path, content)  # a store that knows no conditions; compared right before


def _version(info: dict[str, Any]) -> str | None:
    found = info.get("ETag") or info.get("etag") or info.get("generation")
    return None if found is None else str(found).strip('"')


def _raise(error: BaseException) -> Any:
    raise error


def _of_connection(error: Exception) -> bool:
    """Whether an error is of the packages that speak to servers."""
    return type(error).__module__.partition(".")[0] in CLIENTS


def _said(error: BaseException) -> str:
    # Without the query of a URL, which may be a signature.
    return shortened(printable(re.sub(r"\?\S+", "?...", f"{type(error).__name__}: {error}")), 200)
