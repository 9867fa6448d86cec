"""Download of the files of the catalogue into the cache of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lazygraph.errors import InputError, TransferError
from lazygraph.sources.catalogue.hub import hub_entry, keep_entry, token_headers
from lazygraph.sources.catalogue.table import HUB, CatalogueEntry, CatalogueFile, find_entry
from lazygraph.storage.cache import cache
from lazygraph.storage.files import fsync_directory, make_folder, move_file, write_atomic
from lazygraph.storage.http import request
from lazygraph.storage.locks import lock
from lazygraph.storage.positioned import open_file, sync
from lazygraph.storage.transport import ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE, TransientError, UnreachableError

__all__ = ["downloaded", "entry_of", "folder_of", "is_downloaded"]

PIECE = 2**20  # bytes that are held at once
Headers = Callable[[str], dict[str, str]]
"""Gives the headers of a request for an address, such as those with a token."""
PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml[^>]*>\s*<error)", re.IGNORECASE)


def entry_of(name: str) -> CatalogueEntry:
    """Return the entry of a name: of the table, or of the Hugging Face Hub, which is asked.

    Raises:
        InputError: the entry does not exist.
        TransferError: the Hub cannot be reached.
    """
    return hub_entry(name, folder_of(name)) if name.startswith(f"{HUB}:") else find_entry(name)


def folder_of(name: str) -> Path:
    """Return the folder of the cache in which the files of a data set lie under their names."""
    group, _, rest = name.partition(":")
    return cache().folder / "catalogue" / group / rest


def is_downloaded(entry: CatalogueEntry) -> bool:
    """Whether all files of a data set are in the cache."""
    folder = folder_of(entry.name)
    return bool(entry.files) and all(_kept(folder / file.name, file) for file in entry.files)


def downloaded(entry: CatalogueEntry) -> list[Path]:
    """Return the files of a data set, which are downloaded if they are not in the cache.

    A download that was stopped continues where it ended. A file is compared with the size and the sums that the
    catalogue has, and gets its name when it is complete. Its sha256 is kept beside it. Processes that want the same
    file wait for one another.

    Raises:
        InputError: no addresses are known, or the files cannot be read as they are.
        TransferError: the server cannot be reached, or sends something else.
        StorageError: the cache cannot be written.
    """
    if not entry.files:
        where = f"; see {entry.homepage}" if entry.homepage else ""
        msg = f"the catalogue has no addresses of the files of {entry.name}{where}"
        raise InputError(msg)
    folder = folder_of(entry.name)
    make_folder(folder)
    is_of_hub = entry.name.startswith(f"{HUB}:")
    paths = [_downloaded(folder / file.name, file, token_headers if is_of_hub else _no_headers) for file in entry.files]
    if is_of_hub:
        keep_entry(entry, folder)
    return paths


def _kept(path: Path, file: CatalogueFile) -> bool:
    """Whether a file was downloaded from the present address of the catalogue, and has not changed."""
    try:
        told = json.loads(_notes(path).read_bytes())
        return bool(told["url"] == file.url and told["size"] == path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _notes(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _no_headers(url: str) -> dict[str, str]:
    del url
    return {}


def _downloaded(path: Path, file: CatalogueFile, headers: Headers) -> Path:
    if _kept(path, file):
        return path
    partial = path.with_name(f".{path.name}.part")
    with _alone(partial):
        if _kept(path, file):  # another process has downloaded it meanwhile
            return path
        _fetch(partial, file, headers)
        size, sums = _sums(partial)
        _check(partial, file, size, sums)
        told = {"url": file.url, "size": size, "sha256": sums["sha256"]}
        write_atomic(_notes(path), json.dumps(told).encode() + b"\n")
        move_file(partial, path)
        fsync_directory(path.parent)
    _version(partial).unlink(missing_ok=True)
    return path


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Wait until no other process of this machine downloads the file."""
    descriptor = open_file(partial.with_name(f"{partial.name}.lock"), os.O_RDWR | os.O_CREAT)
    try:
        lock(descriptor, shared=False, wait=True)
        yield
    finally:
        os.close(descriptor)


def _version(partial: Path) -> Path:
    """The file with the identity of the bytes of a part: its address and its ETag."""
    return partial.with_name(f"{partial.name}.version")


def _fetch(partial: Path, file: CatalogueFile, headers: Headers) -> None:
    """Download the rest of a file. After a failure the download continues, a few times in a row.

    Raises:
        TransferError: several attempts gave no further byte, or the server refuses.
    """
    failures, before = 0, -1
    shown = tqdm(
        desc=f"downloading {file.name}", total=file.size, unit="B", unit_scale=True,
        disable=sys.stderr is None or not sys.stderr.isatty(),
    )  # fmt: skip
    with shown:
        while True:
            try:
                if _append(partial, file, headers, shown):
                    return
            except TransientError as error:
                size = partial.stat().st_size if partial.exists() else 0
                failures, before = (0 if size > before else failures) + 1, size
                if failures >= ATTEMPTS:
                    msg = f"{file.url}: {error}, at {failures} attempts; try again later"
                    raise UnreachableError(msg) from error
                time.sleep(max(FIRST_PAUSE * 2 ** (failures - 1), min(error.pause or 0.0, LONGEST_PAUSE)))


def _append(partial: Path, file: CatalogueFile, headers_of: Headers, shown: Any) -> bool:
    """Request the missing bytes and append them. Return whether the file is then complete."""
    version = _version(partial)
    known = version.read_text("utf-8") if version.exists() else ""
    url, _, tag = known.partition("\n")
    start = partial.stat().st_size if partial.exists() and url == file.url and tag else 0
    headers = headers_of(file.url) | ({"Range": f"bytes={start}-", "If-Range": tag} if start else {})
    try:
        with request(file.url, headers=headers, other_hosts=True) as answer:
            if answer.status_code == 416 and start:  # the part is complete already, or belongs to another file
                version.unlink()
                return bool(answer.headers.get("Content-Range", "") == f"bytes */{start}")
            start, total = _where(answer, start, file)
            tag = answer.headers.get("ETag", "W/")
            strong = answer.headers.get("Last-Modified", "") if tag.startswith("W/") else tag
            version.write_text(f"{file.url}\n{strong}", "utf-8")
            with partial.open("r+b" if start else "wb") as part:
                part.truncate(start)
                part.seek(start)
                shown.reset(total)
                shown.update(start)
                start += _copy(answer, part, file, shown)
    except FileNotFoundError:
        msg = f"{file.url}: the server has no such file (any more); see the page of the data set for its new address"
        raise TransferError(msg) from None
    if total is not None and start < total:
        msg = f"it ended after {start} of {total} bytes"
        raise TransientError(msg)
    if total is not None and start > total:
        msg = f"{file.url}: more than {total} bytes came, which the server had announced"
        raise TransferError(msg)
    return True


def _where(answer: Any, start: int, file: CatalogueFile) -> tuple[int, int | None]:
    """Return the position of the first byte of an answer, and the size of the whole file, if it is known."""
    if answer.status_code == 206 and start:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start or int(found[2]) != int(found[3]) - 1:
            msg = (
                f"{file.url}: the server sent {answer.headers.get('Content-Range')!r:.100} for the rest from {start} on"
            )
            raise TransferError(msg)
        return start, int(found[3])
    if answer.status_code != 200:
        msg = f"{file.url}: the server answers {answer.status_code} instead of 200"
        raise TransferError(msg)
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if file.size is not None and total not in (None, file.size):
        msg = f"{file.url} has {total} bytes; required: {file.size}, as the catalogue says"
        raise TransferError(msg)
    return 0, total


def _copy(answer: Any, part: Any, file: CatalogueFile, shown: Any) -> int:
    """Write the body of an answer, and return its length."""
    import urllib3

    if (encoding := answer.headers.get("Content-Encoding", "identity")) != "identity":
        msg = f"{file.url}: the server compresses its answers ({encoding:.30}), although the request forbids it"
        raise TransferError(msg)
    size = 0
    try:
        while piece := answer.raw.read(PIECE, decode_content=False):
            part.write(piece)
            size += len(piece)
            shown.update(len(piece))
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of the disk
        msg = f"the connection broke off: {type(error).__name__}"
        raise TransientError(msg) from None
    finally:
        part.flush()
        sync(part.fileno())
    return size


def _sums(path: Path) -> tuple[int, dict[str, str]]:
    """Return the size of a file, and its checksums by name."""
    size = path.stat().st_size
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            for digest in (sha256, md5, git):
                digest.update(piece)
    return size, {"sha256": sha256.hexdigest(), "md5": md5.hexdigest(), "git": git.hexdigest()}


def _check(partial: Path, file: CatalogueFile, size: int, sums: dict[str, str]) -> None:
    """Refuse and remove a file that differs from the catalogue.

    Raises:
        TransferError: the file differs; the message says how.
    """
    problem = None
    if file.size is not None and size != file.size:
        problem = f"the server sent {size} bytes; required: {file.size}, as the catalogue says"
    for name, value in file.sums.items():
        if sums[name] != value:
            problem = f"its {name} is {sums[name]}; required: {value}, as the catalogue says"
    if problem is None and not file.sums:
        with partial.open("rb") as part:
            if PAGE.match(part.read(512)):
                problem = "the server sent a web page; see the page of the data set for its address"
    if problem is not None:
        partial.unlink()
        msg = f"{file.url}: {problem}"
        raise TransferError(msg)
