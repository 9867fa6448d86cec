"""``HubTransport``: a dataset in a repository of the Hugging Face Hub, read from one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lazygraph.errors import InputError, TransferError
from lazygraph.extras import require
from lazygraph.storage.http import HttpTransport, request
from lazygraph.storage.local import MANIFEST
from lazygraph.storage.transport import ATTEMPTS, TransientError, VersionedManifest, repeated, shown
from lazygraph.text import printable, shortened

__all__ = ["HubAddress", "HubTransport", "hub_errors", "hub_headers"]

REVISION = "main"


class HubAddress(NamedTuple):
    """A folder of a dataset repository.

    Example:
        >>> HubAddress.of("hf://datasets/group/crystals@v1/mp.lg")
        HubAddress(repository='group/crystals', revision='v1', folder='mp.lg')
    """

    repository: str
    revision: str
    folder: str

    @classmethod
    def of(cls, url: str) -> HubAddress:
        """Parse ``hf://datasets/ORG/NAME[@REVISION][/FOLDER]``.

        Raises:
            InputError: the URL has another form.
        """
        name = r"[A-Za-z0-9][A-Za-z0-9._-]*"
        found = re.fullmatch(rf"hf://datasets/({name}/{name})(?:@([^/@]+))?((?:/[^/]+)*)/?", url)
        if found is None or any(part in (".", "..") for part in found[3].split("/")):
            msg = (
                f"{shown(url)!r} is not the URL of a dataset on the Hub; give hf://datasets/ORG/NAME, with @REVISION "
                "and /FOLDER if you want"
            )
            raise InputError(msg)
        revision = REVISION if found[2] is None else found[2].replace("%2F", "/")
        return cls(found[1], revision, found[3].strip("/"))

    def path(self, name: str) -> str:
        """The path of a file of the folder within the repository."""
        return f"{self.folder}/{name}" if self.folder else name


class HubTransport(HttpTransport):
    """The files of a dataset on the Hub, of the commit that its revision had when the manifest was read.

    A dataset that somebody publishes meanwhile changes nothing here, as the files of a commit stay. The token of the
    Hub (``hf auth login`` or ``HF_TOKEN``) goes to the Hub alone, and not to the servers that it redirects to.

    Args:
        url: ``hf://datasets/ORG/NAME[@REVISION][/FOLDER]``.
    """

    def __init__(self, url: str) -> None:
        self.address = HubAddress.of(url)
        self._given = url.rstrip("/")
        self._commit: str | None = None

    @property
    def name(self) -> str:
        """The URL."""
        return self._given

    def _url(self, name: str) -> str:
        hub = require("huggingface_hub", "hub", "hf:// URLs")
        if self._commit is None:
            self._commit = self._head()
        address = self.address
        return str(hub.hf_hub_url(address.repository, address.path(name), repo_type="dataset", revision=self._commit))

    def _headers(self) -> dict[str, str]:
        return hub_headers()

    @contextmanager
    def _request(self, name: str, **options: Any) -> Iterator[Any]:
        headers = {**self._headers(), **options.pop("headers", {})}
        with request(self._url(name), headers=headers, other_hosts=True, **options) as answer:
            yield answer

    def manifest(self, known: str | None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the manifest of the commit that the revision has now; None if that is the commit ``known``."""
        commit = self._head(attempts)
        if commit == known:
            self._commit = commit
            return None
        self._commit = commit
        found = repeated(lambda: self._manifest({}), f"{self.name}/{MANIFEST}", attempts)
        return None if found is None else VersionedManifest(found.content, commit)

    def version(self) -> str:
        """Return the commit that the revision has now."""
        return self._head()

    def pin(self, version: str | None) -> None:
        """Read from this commit."""
        self._commit = version

    def _head(self, attempts: int = ATTEMPTS) -> str:
        hub, address = require("huggingface_hub", "hub", "hf:// URLs"), self.address

        def ask() -> str:
            with hub_errors(self._given):
                found = hub.HfApi().repo_info(
                    address.repository, repo_type="dataset", revision=address.revision, timeout=30
                )
            return str(found.sha)

        return repeated(ask, self.name, attempts)


def hub_headers() -> dict[str, str]:
    """The headers with the token of the Hub, for requests to the Hub alone; none if nobody is logged in."""
    headers = require("huggingface_hub.utils", "hub", "hf:// URLs").build_hf_headers()
    return {"Authorization": headers["authorization"]} if "authorization" in headers else {}


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Raise what ``huggingface_hub`` raises as errors of this package.

    Args:
        name: the URL, for the message.
    """
    errors = require("huggingface_hub.errors", "hub", "hf:// URLs")
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        said = "no such revision" if isinstance(error, errors.RevisionNotFoundError) else "no such repository"
        raise FileNotFoundError(2, f"{said}, or no access with your token (hf auth login)", name) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        msg = f"the Hub answers {status}"
        if status is not None and (status == 429 or status >= 500):
            raise TransientError(msg) from None
        if status in (401, 403):
            msg = f"{name}: the Hub refuses access ({status}); log in with 'hf auth login' or set HF_TOKEN"
            raise TransferError(msg) from None
        detail = str(getattr(error, "server_message", None) or "").strip()
        msg = f"{name}: {msg}{': ' + shortened(printable(detail), 200) if detail else ''}"
        raise TransferError(msg) from None
    except (OSError, ValueError) as error:
        if isinstance(error, (TransferError, FileNotFoundError)):
            raise
        msg = f"the Hub cannot be reached: {type(error).__name__}"
        raise TransientError(msg) from None
    except Exception as error:
        if type(error).__module__.startswith(("httpx", "httpcore")):  # what newer versions speak through
            msg = f"the Hub cannot be reached: {type(error).__name__}"
            raise TransientError(msg) from None
        raise
