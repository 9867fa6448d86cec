"""``HubTarget``: a repository of the Hugging Face Hub where a dataset is published in one commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazygraph.errors import TransferError
from lazygraph.extras import require
from lazygraph.storage.files import FileRef
from lazygraph.storage.hub import HubTransport, hub_errors
from lazygraph.storage.local import MANIFEST
from lazygraph.storage.target import ChangedMeanwhile
from lazygraph.storage.transport import ATTEMPTS, TransientError, VersionedManifest, repeated

__all__ = ["HubTarget"]

ASKED = 500  # paths of one request


class HubTarget(HubTransport):
    """A folder of a repository; the repository is made if it does not exist.

    Large files are sent one by one. They become visible with the commit, which holds all other files, the manifest and
    the card. The Hub refuses the commit if somebody else has published since the manifest was read.

    Args:
        url: ``hf://datasets/ORG/NAME[@BRANCH][/FOLDER]``.
        public: whether a repository that is made is public; it is private by default.
    """

    takes_card = True

    def __init__(self, url: str, *, public: bool = False) -> None:
        super().__init__(url)
        self._public = public
        self._added: list[Any] = []

    @property
    def _api(self) -> Any:
        return require("huggingface_hub", "hub", "hf:// URLs").HfApi()

    def manifest(self, known: str | None = None, attempts: int = ATTEMPTS) -> VersionedManifest | None:
        """Return the published manifest, or None."""
        try:
            self._commit = self._head(attempts)
        except FileNotFoundError:
            self._create()
            self._commit = self._head(attempts)
        try:
            return super().manifest(known, attempts)
        except FileNotFoundError:
            return None

    def _create(self) -> None:
        def ask() -> None:
            with hub_errors(self.name):
                self._api.create_repo(
                    self.address.repository, repo_type="dataset", private=not self._public, exist_ok=True
                )

        repeated(ask, self.name)

    def present(self, files: Sequence[FileRef]) -> set[FileRef]:
        """Return those of these files that are in the last commit, by name, size, and sha256 where the Hub says it."""
        found: dict[str, Any] = {}
        for start in range(0, len(files), ASKED):
            paths = [self.address.path(file.name) for file in files[start : start + ASKED]]

            def ask(paths: list[str] = paths) -> Any:
                with hub_errors(self.name):
                    return self._api.get_paths_info(
                        self.address.repository, paths, repo_type="dataset", revision=self._commit
                    )

            found |= {one.path: one for one in repeated(ask, self.name)}
        return {file for file in files if _is_file(found.get(self.address.path(file.name)), file)}

    def put(self, file: FileRef, path: Path) -> None:
        """Send a file, if it is large; small ones are sent with the commit."""
        added = self._add(file.name, str(path))

        def send() -> None:
            with hub_errors(self.name):
                self._api.preupload_lfs_files(
                    self.address.repository, [added], repo_type="dataset", revision=self.address.revision
                )

        repeated(send, self.name)

    def _add(self, name: str, content: str | bytes) -> Any:
        hub = require("huggingface_hub", "hub", "hf:// URLs")
        added = hub.CommitOperationAdd(self.address.path(name), content)
        self._added.append(added)
        return added

    def read_text(self, name: str) -> str | None:
        """Return a text file at the root of the repository, or None."""
        hub = require("huggingface_hub", "hub", "hf:// URLs")

        def ask() -> str | None:
            with hub_errors(self.name):
                path = hub.hf_hub_download(self.address.repository, name, repo_type="dataset", revision=self._commit)
            return Path(path).read_text(encoding="utf-8")

        try:
            return repeated(ask, self.name)
        except FileNotFoundError:
            return None

    def publish(self, content: bytes, before: VersionedManifest | None, extras: Mapping[str, bytes]) -> str | None:
        """Commit all files with the manifest, and the extras at the root of the repository."""
        hub, parent = require("huggingface_hub", "hub", "hf:// URLs"), self._commit
        last = hub.CommitOperationAdd(self.address.path(MANIFEST), content)
        message = f"{'Publish' if before is None else 'Update'} {self.address.folder or 'dataset'}"
        operations = [*self._added, last, *(hub.CommitOperationAdd(name, extra) for name, extra in extras.items())]

        def ask() -> str:
            try:
                with hub_errors(self.name):
                    found = self._api.create_commit(
                        self.address.repository, operations, repo_type="dataset", revision=self.address.revision,
                        commit_message=message,
                        parent_commit=parent,
                    )  # fmt: skip
                return str(found.oid)
            except (TransientError, TransferError) as error:
                # The answer may have been lost: what is there now says whether it was done. Never again blindly.
                head = self._head()
                if head == parent:
                    raise
                self._commit = head
                now = super(HubTarget, self).manifest(None)
                if now is not None and now.content == content:
                    return head
                raise ChangedMeanwhile from error

        return repeated(ask, self.name)


def _is_file(found: Any, file: FileRef) -> bool:
    """Whether an entry of the Hub is a file of a dataset."""
    if found is None or getattr(found, "size", None) != file.size:
        return False
    large = getattr(found, "lfs", None)
    return large is None or large.sha256 == file.sha256
