"""``Target``: a place on a server where a dataset is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lazygraph.storage.files import FileRef
from lazygraph.storage.transport import VersionedManifest

__all__ = ["ChangedMeanwhile", "Target"]


class ChangedMeanwhile(Exception):
    """Another manifest was published since this one was read."""


class Target(Protocol):
    """Write access to the place of one dataset.

    Files are sent first, under names that hold their hash, so that nobody reads them. The manifest comes last, in one
    step, if the one that was read first is still there.
    """

    @property
    def name(self) -> str:
        """The URL without credentials."""

    def manifest(self) -> VersionedManifest | None:
        """Return the published manifest, or None."""

    def present(self, files: Sequence[FileRef]) -> set[FileRef]:
        """Return those of these files that are there already."""

    def put(self, file: FileRef, path: Path) -> None:
        """Send a file; it appears whole or not at all."""

    def publish(self, content: bytes, before: VersionedManifest | None, extras: Mapping[str, bytes]) -> str | None:
        """Put the manifest in its place.

        Args:
            content: the manifest.
            before: the manifest that it replaces; None if there was none.
            extras: name -> content of other files that appear with it, if the place takes them.

        Returns:
            A name of the new state, such as a commit; None if the place has none.

        Raises:
            ChangedMeanwhile: another manifest is there.
        """

    def read_text(self, name: str) -> str | None:
        """Return the content of a file that is not part of the dataset, such as its card, or None."""

    takes_card: bool
    """Whether the place shows a card, so that one is written."""
