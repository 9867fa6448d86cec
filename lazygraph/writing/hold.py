"""The right to change a dataset: it lasts as long as the lock file in the folder is the one that was locked."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lazygraph.errors import StorageError
from lazygraph.writing.layout import Layout

__all__ = ["Hold"]


@dataclass(frozen=True, slots=True)
class Hold:
    """The exclusive lock on a dataset.

    Attributes:
        layout: where the dataset and its lock lie.
        descriptor: the locked file, open.
        finished: whether a write was finished that a killed process had decided.
    """

    layout: Layout
    descriptor: int
    finished: bool = False

    def lasts(self) -> bool:
        """Whether the folder of the lock is still there, and nobody deleted it and began other work in its place."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.layout.lock.stat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Refuse to change anything once the lock is lost: another process may be at work in the same place.

        Raises:
            StorageError: the folder was deleted or replaced.
        """
        if not self.lasts():
            msg = (
                f"{self.layout.partial} was deleted or replaced while this process worked in it, so nothing was "
                "published; run the command again, and leave that folder alone until it ends"
            )
            raise StorageError(msg)
