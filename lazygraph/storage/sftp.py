"""``SftpTransport``: a dataset on a machine that is reached by SSH."""

from __future__ import annotations

import getpass
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from lazygraph.errors import CorruptDataset, InputError, LazyGraphError, TransferError
from lazygraph.extras import require
from lazygraph.storage.files import FileRef
from lazygraph.storage.http import parsed
from lazygraph.storage.local import MANIFEST, MAX_MANIFEST
from lazygraph.storage.target import ChangedMeanwhile
from lazygraph.storage.transport import ATTEMPTS, TransientError, VersionedManifest, complete, repeated, shown
from lazygraph.text import printable, shortened

__all__ = ["SftpTarget", "SftpTransport"]

T = TypeVar("T")
TIMEOUT = 20.0  # s
PIECE = 2**15  # bytes of one request; servers send no more at once
READ = 2**22  # bytes that are asked for ahead

MOST_IDLE = 8  # connections to one place that are kept

_IDLE: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
"""Connections that nobody uses, by process and place. Each has one user at a time."""


class SftpTransport:
    """The files of a dataset in a folder of another machine.

    The key of the host must be in ``~/.ssh/known_hosts``: log in once with ``ssh``. Names, users, ports and key files
    of ``~/.ssh/config`` are used, and the keys of an agent.

    Args:
        url: such as ``"sftp://host/data/mp.lg"`` or ``"sftp://me@host:2222/data/mp.lg"``. The path begins at the root
            of the server; ``/~/`` begins in the home folder. A password in the URL is refused, because URLs are logged.
    """

    def __init__(self, url: str) -> None:
        parts = parsed(url)
        if parts is None or not parts.hostname or parts.password is not None or not parts.path.strip("/"):
            msg = f"the URL {shown(url)!r} cannot be used; give sftp://[USER@]HOST[:PORT]/PATH, without a password"
            raise InputError(msg)
        self._host, self._port = parts.hostname, parts.port
        self._user = None if parts.username is None else unquote(parts.username)
        path = unquote(parts.path).rstrip("/")
        self.folder = path.removeprefix("/~/")
        self._name = shown(url)

    @property
    def name(self) -> str:
        """The URL without a user name."""
        return self._name

    def path(self, name: str) -> str:
        """The path of a file on the server."""
        return f"{self.folder}/{name}"

    def manifest(self, known: str | None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the manifest. It is always read: time and size do not tell two versions of one second apart."""
        del known
        return repeated(partial(self.call, MANIFEST, self._manifest), self._what(MANIFEST), attempts)

    def _manifest(self, client: Any) -> VersionedManifest:
        with client.open(self.path(MANIFEST), "rb") as file:
            version = _version(found := file.stat())
            if found.st_size > MAX_MANIFEST:
                msg = f"it has {found.st_size} bytes; required: at most {MAX_MANIFEST}"
                raise CorruptDataset(msg)
            return VersionedManifest(_range(file, 0, found.st_size), version)

    def version(self) -> str:
        """Return time and size of the manifest."""
        return repeated(
            partial(self.call, MANIFEST, lambda client: _version(client.stat(self.path(MANIFEST)))),
            self._what(MANIFEST),
        )

    def read(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of a file, which are asked for all at once."""

        def ask(client: Any) -> list[bytes]:
            with client.open(self.path(file.name), "rb") as opened:
                return [_range(opened, offset, length) for offset, length in ranges]

        return repeated(partial(self.call, file.name, ask), self._what(file.name))

    def stream(self, file: FileRef, offset: int) -> Iterator[bytes]:
        """Yield a file from an offset on."""
        return complete(partial(self._from, file), file, offset, self._what(file.name))

    def _from(self, file: FileRef, offset: int) -> Iterator[bytes]:
        with self._errors(file.name), self._client() as client, client.open(self.path(file.name), "rb") as opened:
            size = opened.stat().st_size
            if size != file.size:
                msg = f"{self._what(file.name)} has {size} bytes; required: {file.size}, as the manifest says"
                raise CorruptDataset(msg)
            for start in range(offset, file.size, READ):
                yield _range(opened, start, min(READ, file.size - start))

    def _what(self, name: str) -> str:
        return f"{self.name}/{name}"

    def call(self, name: str, call: Callable[[Any], T]) -> T:
        """Return what a function of the connection gives, with the errors of this package.

        Args:
            name: the file that is read, for the error.
            call: takes paramiko's ``SFTPClient``.
        """
        with self._errors(name), self._client() as client:
            return call(client)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        paramiko = require("paramiko", "sftp", "sftp:// URLs")
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(2, "the server has no such file", self._what(name)) from None
        except (LazyGraphError, TransientError, ChangedMeanwhile):
            raise
        except PermissionError:
            msg = f"{self._what(name)}: the server denies permission"
            raise TransferError(msg) from None
        except paramiko.BadHostKeyException:
            msg = f"{self._host}: the key of the host is another one than in known_hosts; this may be an attack"
            raise TransferError(msg) from None
        except paramiko.AuthenticationException:
            msg = f"{self._host}: the server refuses your keys; check 'ssh {self._host}'"
            raise TransferError(msg) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            said = shortened(printable(str(error)), 100)
            if "not found in known_hosts" in said:
                msg = f"{self._host}: the key of the host is not in known_hosts; log in once with 'ssh {self._host}'"
                raise TransferError(msg) from None
            msg = f"the connection failed: {type(error).__name__}: {said}"
            raise TransientError(msg) from None

    def _key(self) -> tuple[Any, ...]:
        return os.getpid(), self._host, self._port, self._user

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """A connection for one caller at a time; kept for the next caller unless something failed."""
        idle = _IDLE.setdefault(self._key(), [])
        try:
            connection, client = idle.pop()
        except IndexError:
            connection, client = self._connect(require("paramiko", "sftp", "sftp:// URLs"))
        try:
            yield client
        except (FileNotFoundError, PermissionError):  # which the server says, and goes on
            idle.append((connection, client))
            raise
        except BaseException:
            connection.close()
            raise
        if len(idle) < MOST_IDLE:
            idle.append((connection, client))
        else:
            connection.close()

    def _connect(self, paramiko: Any) -> tuple[Any, Any]:
        config = paramiko.SSHConfig()
        path = Path("~/.ssh/config").expanduser()
        if path.is_file():
            config = paramiko.SSHConfig.from_path(str(path))
        told = config.lookup(self._host)
        connection = paramiko.SSHClient()
        connection.load_system_host_keys()
        connection.set_missing_host_key_policy(paramiko.RejectPolicy())
        connection.connect(
            told.get("hostname", self._host),
            port=self._port or int(told.get("port", 22)),
            username=self._user or told.get("user") or getpass.getuser(),
            key_filename=told.get("identityfile"),
            timeout=TIMEOUT,
            banner_timeout=TIMEOUT,
            auth_timeout=TIMEOUT,
        )
        client = connection.open_sftp()
        client.get_channel().settimeout(3 * TIMEOUT)
        return connection, client


class SftpTarget(SftpTransport):
    """A folder of another machine where a dataset is published.

    Files are sent under another name and renamed. The manifest is compared right before it is replaced, in one step.
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
        sizes: dict[str, int] = {}
        for folder in sorted({PurePosixPath(file.name).parent.as_posix() for file in files}):
            try:
                found = repeated(partial(self.call, folder, partial(self._listing, folder)), self._what(folder))
            except FileNotFoundError:
                continue
            sizes |= {(PurePosixPath(folder) / one.filename).as_posix(): one.st_size for one in found}
        return {file for file in files if sizes.get(file.name) == file.size}

    def _listing(self, folder: str, client: Any) -> Any:
        return client.listdir_attr(self.path(folder))

    def put(self, file: FileRef, path: Path) -> None:
        """Send a file under another name, and rename it."""

        def send(client: Any) -> None:
            with path.open("rb") as content:
                self._send(client, file.name, content, file.size)

        repeated(partial(self.call, file.name, send), self._what(file.name))

    def read_text(self, name: str) -> str | None:  # noqa: ARG002  # no card is written
        """Return None."""
        return None

    def publish(self, content: bytes, before: VersionedManifest | None, extras: Mapping[str, bytes]) -> str | None:
        """Put the manifest in its place."""
        del extras

        def put(client: Any) -> None:
            now = self.manifest()
            if now is not None and now.content == content:
                return  # the answer to the last attempt was lost
            if now != before:
                raise ChangedMeanwhile
            self._send(client, MANIFEST, io.BytesIO(content), len(content))

        repeated(partial(self.call, MANIFEST, put), self._what(MANIFEST))
        return None

    def _send(self, client: Any, name: str, content: Any, size: int) -> None:
        final = PurePosixPath(self.path(name))
        for folder in (*reversed(final.parent.parents), final.parent):
            if folder.as_posix() not in ("/", "."):
                with suppress(OSError):  # it is there, or the next step says what is wrong
                    client.mkdir(folder.as_posix())
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp").as_posix()
        try:
            client.putfo(content, temporary, file_size=size, confirm=True)
            client.posix_rename(temporary, final.as_posix())
        except BaseException:
            with suppress(Exception):
                client.remove(temporary)
            raise


def _range(file: Any, offset: int, length: int) -> bytes:
    """A range of an open file, asked for in pieces that are on their way at the same time."""
    pieces = [(at, min(PIECE, offset + length - at)) for at in range(offset, offset + length, PIECE)]
    content = b"".join(file.readv(pieces))
    if len(content) != length:
        msg = f"received {len(content)} of the {length} bytes that were requested"
        raise TransientError(msg)
    return content


def _version(found: Any) -> str:
    return f"{found.st_mtime} {found.st_size} {stat.S_IFMT(found.st_mode or 0)}"
