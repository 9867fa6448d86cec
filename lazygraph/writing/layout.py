"""Where things lie while a dataset is being made."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lazygraph.errors import InputError
from lazygraph.storage.base import is_url
from lazygraph.storage.transport import shown

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a dataset ``NAME.lg`` and of ``NAME.lg.partial`` beside it."""

    final: Path
    spool_folder: str = "spool"

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Layout:
        """The layout of a dataset at this path.

        A link is followed, so that all who write the folder that it leads to share a lock.

        Raises:
            InputError: the path is a URL, or empty, has no name such as ``/``, or is a link that leads to itself.
        """
        if is_url(os.fspath(path)):
            msg = (
                f"{shown(os.fspath(path))} is on a server, where nothing can be written; pull it (lazygraph pull), "
                "change the copy, and push it"
            )
            raise InputError(msg)
        final = Path(path).absolute()
        try:
            if final.name == ".." or final.is_symlink():
                final = final.resolve()
        except (OSError, RuntimeError) as error:
            msg = f"the output {path} cannot be followed: {error}"
            raise InputError(msg) from error
        if not (os.fspath(path) and final.name):
            msg = f"found the output {os.fspath(path)!r}; required: a folder with a name, such as mp.lg"
            raise InputError(msg)
        return cls(final)

    @property
    def partial(self) -> Path:
        """Everything that is not finished."""
        return self.final.with_name(self.final.name + ".partial")

    @property
    def lock(self) -> Path:
        """Held while a process works here."""
        return self.partial / "lock"

    @property
    def plan(self) -> Path:
        """The plan, once it is made."""
        return self.partial / "plan"

    @property
    def spools(self) -> Path:
        """Inputs that cannot be entered in the middle, unpacked."""
        return self.partial / self.spool_folder

    def staged(self) -> Layout:
        """The same, with spools of its own: a plan that is refused must not touch those of the plan that is there."""
        return replace(self, spool_folder="spool.new")

    def spool(self, source: int) -> Path:
        """The spool file of one source."""
        return self.spools / f"{source:05d}"

    @property
    def dataset(self) -> Path:
        """The files of a dataset that is being written, as they will be published."""
        return self.partial / "dataset"

    @property
    def edit(self) -> Path:
        """The new files of a finished dataset that is being changed (labels, splits)."""
        return self.partial / "edit"

    @property
    def pull(self) -> Path:
        """The files of a dataset that is being copied from another place, whole and checked."""
        return self.partial / "pull"

    @property
    def rows(self) -> Path:
        """The folder of what is known of finished shards."""
        return self.partial / "done"

    def done(self, shard: int) -> Path:
        """What is known of a finished shard; it exists once the shard does."""
        return self.rows / f"{shard:05d}.msgpack"

    @property
    def notes(self) -> Path:
        """The folder in which workers write down what they are at."""
        return self.partial / "at"

    def at(self, shard: int, plan: str) -> Path:
        """Which input of a shard of a plan (by its digest) a process is at; left behind by one that was killed."""
        return self.notes / f"{shard:05d}-{plan[:12]}"

    @property
    def planning(self) -> Path:
        """Which sample a process that plans is at; left behind by one that was killed."""
        return self.partial / "planning"
