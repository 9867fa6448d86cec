"""``HttpTransport``: the files of a dataset on a web server, by requests that check every answer."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from lazygraph.errors import CorruptDataset, InputError, TransferError
from lazygraph.storage.files import FileRef
from lazygraph.storage.local import MANIFEST, MAX_MANIFEST
from lazygraph.storage.transport import ATTEMPTS, NoRanges, TransientError, VersionedManifest, complete, repeated, shown

__all__ = ["HttpTransport", "parsed", "request"]

PIECE = 2**20  # bytes that are taken from the connection at once
TIMEOUT = (10.0, 60.0)  # s, to connect, and without a byte
CONNECTIONS = 16  # requests of one process at the same time
MOST_REDIRECTS = 5
MANIFEST_SECONDS = 300.0  # s, for a whole manifest
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
NOT_FOUND = (404, 410)
REFUSED = (401, 403, 407)

_SESSIONS: dict[int, Any] = {}
_SLOTS: dict[int, threading.BoundedSemaphore] = {}


class HttpTransport:
    """The files of a dataset below a URL.

    Ranges need status 206 with exactly the ``Content-Range`` that was asked for, so a server that ignores or shifts
    ranges cannot give wrong bytes. Redirects to another host, or to anything but http and https, are refused.
    User name and password of the URL, or of ``~/.netrc``, go to the host of the URL alone.

    Args:
        url: of the dataset, such as ``"https://example.org/data/mp.lg"``. A query, such as the signature of a bucket,
            is sent with every request.
    """

    def __init__(self, url: str) -> None:
        parts = parsed(url)
        if parts is None or not parts.hostname:
            msg = f"{shown(url)!r} is not a complete URL; give one such as https://example.org/mp.lg"
            raise InputError(msg)
        self._parts = parts

    @property
    def name(self) -> str:
        """The URL without credentials."""
        return shown(urlunsplit(self._parts))

    def _url(self, name: str) -> str:
        return urlunsplit(self._parts._replace(path=f"{self._parts.path.rstrip('/')}/{quote(name)}", fragment=""))

    def _headers(self) -> dict[str, str]:
        """The headers of every request to the host of the dataset, such as those with its credentials."""
        return {}

    def _request(self, name: str, **options: Any) -> Any:
        return request(self._url(name), headers={**self._headers(), **options.pop("headers", {})}, **options)

    def manifest(self, known: str | None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the manifest; None if the server says that it did not change."""
        headers = {} if known is None else {"If-None-Match": known}
        return repeated(lambda: self._manifest(headers), f"{self.name}/{MANIFEST}", attempts)

    def _manifest(self, headers: Mapping[str, str]) -> VersionedManifest | None:
        with self._request(MANIFEST, headers=headers) as answer:
            if answer.status_code == 304 and headers:
                return None
            _require(answer, 200)
            content, end = bytearray(), time.monotonic() + MANIFEST_SECONDS
            for piece in _pieces(answer, rest=lambda: end - time.monotonic()):
                content += piece
                if len(content) > MAX_MANIFEST:
                    msg = f"it has more than {MAX_MANIFEST} bytes; required: at most {MAX_MANIFEST}"
                    raise CorruptDataset(msg)
            length = answer.headers.get("Content-Length")
            if length is not None and length != str(len(content)):
                msg = f"it ended after {len(content)} of {length} bytes"
                raise TransientError(msg)
            return VersionedManifest(bytes(content), answer.headers.get("ETag"))

    def version(self) -> str:
        """Return ETag, time and length of the manifest."""

        def ask() -> str:
            with self._request(MANIFEST, method="HEAD") as answer:
                _require(answer, 200)
                return "\n".join(answer.headers.get(k, "") for k in ("ETag", "Last-Modified", "Content-Length"))

        return repeated(ask, f"{self.name}/{MANIFEST}")

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file, several at the same time."""
        return in_parallel([partial(self._range, file, offset, length) for offset, length in ranges])

    def _range(self, file: FileRef, offset: int, length: int) -> bytes:
        if not length:
            return b""
        what = f"{self.name}/{file.name}"

        def ask() -> bytes:
            with self._opened(file, offset, offset + length - 1) as answer:
                if answer.status_code == 200:
                    raise NoRanges(what)
                content = b"".join(_pieces(answer, length))
            if len(content) != length:
                msg = f"received {len(content)} of the {length} bytes that were requested"
                raise TransientError(msg)
            return content

        return repeated(ask, what)

    def stream(self, file: FileRef, offset: int) -> Iterator[bytes]:
        """Yield a file from an offset on."""
        return complete(partial(self._from, file), file, offset, f"{self.name}/{file.name}")

    def _from(self, file: FileRef, offset: int) -> Iterator[bytes]:
        with self._opened(file, offset, file.size - 1) as answer:
            skip = offset if answer.status_code == 200 else 0  # where a server sends whole files alone
            for piece in _pieces(answer):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    @contextmanager
    def _opened(self, file: FileRef, first: int, last: int) -> Iterator[Any]:
        """The answer with the bytes ``first`` to ``last`` of a file, or with the whole file."""
        headers = {} if (first, last) == (0, file.size - 1) else {"Range": f"bytes={first}-{last}"}
        with self._request(file.name, headers=headers) as answer:
            if answer.status_code == 416:
                msg = f"{self.name}/{file.name} has fewer bytes than the {file.size} that the manifest says"
                raise CorruptDataset(msg)
            if answer.status_code == 200:
                _check_length(answer, file.size, f"{self.name}/{file.name}")
                yield answer
                return
            _require(answer, 206)
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if headers and found is not None and int(found[1]) == first and int(found[2]) < last:
                msg = f"the server sent the bytes only up to {found[2]}, and not up to {last}"
                raise TransientError(msg)
            if not headers or found is None or (int(found[1]), int(found[2])) != (first, last):
                said = answer.headers.get("Content-Range")
                msg = f"{self.name}/{file.name}: the server sent {said!r:.100}; required: bytes {first}-{last}"
                raise TransferError(msg)
            if found[3] not in ("*", str(file.size)):
                msg = f"{self.name}/{file.name} has {found[3]:.30} bytes; required: {file.size}, as the manifest says"
                raise CorruptDataset(msg)
            yield answer


def in_parallel(calls: Sequence[Callable[[], bytes]]) -> list[bytes]:
    """Return what each call gives; several run at the same time."""
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(min(CONNECTIONS, max(len(calls), 1))) as pool:
        begun = [pool.submit(call) for call in calls]
        try:
            return [one.result() for one in begun]
        except BaseException:
            for one in begun:
                one.cancel()
            raise


@contextmanager
def request(
    url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, other_hosts: bool = False
) -> Iterator[Any]:
    """Open the answer to a request, after redirects that are allowed. Its body was not read yet.

    Args:
        url: where to.
        method: ``"GET"`` or ``"HEAD"``.
        headers: sent to the host of the URL alone.
        other_hosts: whether the server may redirect to other hosts, without these headers.

    Raises:
        FileNotFoundError: there is nothing at the URL.
        TransferError: the server refuses, or redirects to where it may not.
        TransientError: it cannot be reached, or is busy.
    """
    first, told = urlsplit(url), dict(headers or {})
    with _slots():
        for _ in range(MOST_REDIRECTS + 1):
            with _answer(method, url, told) as answer:
                if answer.status_code not in (301, 302, 303, 307, 308):
                    _check_status(answer, url)
                    yield answer
                    return
                url, told = _redirected(url, answer.headers.get("Location", ""), first, told, other_hosts=other_hosts)
    msg = f"{shown(urlunsplit(first))}: more than {MOST_REDIRECTS} redirects"
    raise TransferError(msg)


def _answer(method: str, url: str, headers: Mapping[str, str]) -> Any:
    """The answer to one request, whatever its status."""
    import requests
    import urllib3

    # A header with a token counts more than what ~/.netrc has for the host.
    auth = _unchanged if "Authorization" in headers else None
    sent = {"Accept-Encoding": "identity", **headers}
    failure: Exception
    try:
        return _session().request(
            method, url, headers=sent, auth=auth, stream=True, allow_redirects=False, timeout=TIMEOUT
        )
    except requests.exceptions.SSLError as error:
        failure = TransferError(f"{shown(url)}: the certificate of the server cannot be trusted: {_reason(error)}")
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        failure = TransientError(f"{urlsplit(url).hostname} cannot be reached: {_reason(error)}")
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        failure = TransferError(f"{shown(url)}: {type(error).__name__}")
    raise failure  # here, and so without the error of the connection, which holds the whole URL


def _unchanged(prepared: Any) -> Any:
    return prepared


def parsed(url: str) -> SplitResult | None:
    """The parts of a URL; None if it has a host or a port that cannot be."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _redirected(
    url: str, location: str, first: Any, headers: dict[str, str], *, other_hosts: bool
) -> tuple[str, dict[str, str]]:
    """Where a redirect leads, and the headers that may be sent there."""
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    there, here = parsed(target), urlsplit(url)
    if there is None or not target:
        msg = f"{shown(url)} redirects to something that is not a URL"
        raise TransferError(msg)
    if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
        msg = f"{shown(url)} redirects to {there.scheme[:20]}:, which is refused; a redirect must lead to https"
        raise TransferError(msg)
    same = there.hostname == first.hostname and _port(there) in (_port(first), 443)
    if not same and not other_hosts:
        msg = (
            f"{shown(url)} redirects to another host, {there.hostname!r:.100}, which is refused; "
            "use the URL there if you trust it"
        )
        raise TransferError(msg)
    return target, headers if same else {k: v for k, v in headers.items() if k.lower() == "range"}


def _port(parts: Any) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _check_status(answer: Any, url: str) -> None:
    status = answer.status_code
    if status in TRANSIENT:
        after = answer.headers.get("Retry-After", "")
        msg = f"the server answers {status} {answer.reason!s:.50}"
        raise TransientError(msg, float(after) if after.isdecimal() and len(after) < 6 else None)
    if status in NOT_FOUND:
        raise FileNotFoundError(2, "the server has no such file", shown(url))
    if status in REFUSED:
        msg = f"{shown(url)}: the server refuses access ({status}); check your credentials for it"
        raise TransferError(msg)


def _require(answer: Any, status: int) -> None:
    if answer.status_code != status:
        msg = f"{shown(answer.url)}: the server answers {answer.status_code} instead of {status}"
        raise TransferError(msg)


def _check_length(answer: Any, size: int, what: str) -> None:
    length = answer.headers.get("Content-Length")
    if length is not None and length != str(size):
        msg = f"{what} has {length:.30} bytes; required: {size}, as the manifest says"
        raise CorruptDataset(msg)


def _pieces(answer: Any, most: int | None = None, rest: Callable[[], float] | None = None) -> Iterator[bytes]:
    """The body of an answer, no more than a byte beyond ``most``, in the seconds that ``rest`` says are left."""
    import urllib3

    if (encoding := answer.headers.get("Content-Encoding", "identity")) != "identity":
        msg = (
            f"{shown(answer.url)}: the server compresses its answers ({encoding:.30}), although the request forbids it"
        )
        raise TransferError(msg)
    left = most
    # With a limit of time, what has come is looked at piece by piece, and not only a whole MiB.
    read = answer.raw.read if rest is None else getattr(answer.raw, "read1", answer.raw.read)
    try:
        while left is None or left >= 0:
            piece = read(PIECE if left is None else min(PIECE, left + 1), decode_content=False)
            if not piece:
                return
            if rest is not None and rest() < 0:
                msg = "the server sends too slowly"
                raise TransientError(msg)
            left = None if left is None else left - len(piece)
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        msg = f"the connection broke off: {_reason(error)}"
        raise TransientError(msg) from None


def _reason(error: BaseException) -> str:
    """The innermost reason of an error of the connection. Its full text may show a URL with credentials."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None) or error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    said = getattr(error, "strerror", None)
    return str(said) if said else type(error).__name__


def _slots() -> threading.BoundedSemaphore:
    """The requests that this process may still begin. Those of a parent process may be taken for ever."""
    found = _SLOTS.get(os.getpid())
    return found if found is not None else _SLOTS.setdefault(os.getpid(), threading.BoundedSemaphore(CONNECTIONS))


def _session() -> Any:
    """The connections of this process, which its threads share; none are shared with a parent process."""
    import requests

    session = _SESSIONS.get(os.getpid())
    if session is None:
        session = requests.Session()
        session.headers["User-Agent"] = "lazygraph"
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = requests.adapters.HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        _SESSIONS.clear()  # of the parent: its sockets are not ours
        session = _SESSIONS.setdefault(os.getpid(), session)
    return session
