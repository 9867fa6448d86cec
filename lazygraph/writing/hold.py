"""The right to change a dataset. It ends if the locked file is no longer the lock file of the folder."""

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
        layout: the paths of the dataset and its lock.
        descriptor: the locked file, open.
        finished: whether this lock finished a write that a killed process had decided.
    """

    layout: Layout
    descriptor: int
    finished: bool = False

    def lasts(self) -> bool:
        """Whether the folder of the lock is still the same, and was not deleted or replaced."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.layout.lock.stat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Refuse all changes if the lock is lost, because another process may work in the same place.

        Raises:
            StorageError: the folder was deleted or replaced.
        """
        if not self.lasts():
            msg = (
                f"{self.layout.partial} was deleted or replaced while this process worked in it, so nothing was "
                "published; run the command again, and leave that folder alone until it ends"
            )
            raise StorageError(msg)
