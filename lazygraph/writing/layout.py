"""The paths of the files while a dataset is made."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lazygraph.errors import InputError
from lazygraph.storage.base import is_url
from lazygraph.storage.files import resolved_path
from lazygraph.storage.names import check_path
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

        A link is followed, so that all writers of the same folder share a lock.

        Raises:
            InputError: the path is a URL, is empty, has no name (such as ``/``), is a link that leads to itself, or is
                no path that this system can have.
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
                final = resolved_path(final)
        except OSError as error:
            msg = f"the output {path} cannot be followed: {error}"
            raise InputError(msg) from error
        if not (os.fspath(path) and final.name):
            msg = f"the output {os.fspath(path)!r} has no name; give a folder with a name, such as mp.lg"
            raise InputError(msg)
        check_path(final)
        return cls(final)

    @property
    def partial(self) -> Path:
        """The folder of all unfinished files."""
        return self.final.with_name(self.final.name + ".partial")

    @property
    def lock(self) -> Path:
        """The file that a process locks while it works here."""
        return self.partial / "lock"

    @property
    def plan(self) -> Path:
        """The file of the plan."""
        return self.partial / "plan"

    @property
    def spools(self) -> Path:
        """The folder of unpacked inputs, for files that cannot be read from the middle."""
        return self.partial / self.spool_folder

    def staged(self) -> Layout:
        """Return a layout with other spools, so that a plan that may be refused leaves the present spools alone."""
        return replace(self, spool_folder="spool.new")

    def spool(self, source: int) -> Path:
        """The spool file of one source."""
        return self.spools / f"{source:05d}"

    @property
    def dataset(self) -> Path:
        """The folder of a dataset that is being written, in its final form."""
        return self.partial / "dataset"

    @property
    def edit(self) -> Path:
        """The folder of new files for a change to a finished dataset (labels, splits)."""
        return self.partial / "edit"

    @property
    def pull(self) -> Path:
        """The folder of complete, checked files of a dataset that is being downloaded."""
        return self.partial / "pull"

    @property
    def rows(self) -> Path:
        """The folder of the row files of finished shards."""
        return self.partial / "done"

    def done(self, shard: int) -> Path:
        """The row file of a finished shard. It is written after the shard."""
        return self.rows / f"{shard:05d}.msgpack"

    @property
    def notes(self) -> Path:
        """The folder in which workers note their present inputs."""
        return self.partial / "at"

    def at(self, shard: int, plan: str) -> Path:
        """The file in which a process notes its present input of a shard. A killed process leaves it behind."""
        return self.notes / f"{shard:05d}-{plan[:12]}"

    @property
    def planning(self) -> Path:
        """The file in which a planning process notes its present sample. A killed process leaves it behind."""
        return self.partial / "planning"
