"""A folder on a disk of this machine, for files that are written in small pieces and belong on a shared file system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["local_scratch"]

VARIABLE = "TMPDIR"  # which clusters set to a folder on the disk of the node, for each job


@contextmanager
def local_scratch(folder: Path, size: int) -> Iterator[Path | None]:
    """A new folder in ``$TMPDIR``, if that is set, is on another file system than ``folder``, and has room.

    Removed at the end.

    Args:
        folder: where the file belongs.
        size: how many bytes it may have.

    Yields:
        The folder; None where the file is to be written in its place.
    """
    made = None
    with suppress(OSError):
        scratch = os.environ.get(VARIABLE, "")
        if scratch and Path(scratch).stat().st_dev != folder.stat().st_dev and shutil.disk_usage(scratch).free > size:
            made = tempfile.mkdtemp(prefix="lazygraph-", dir=scratch)
    try:
        yield None if made is None else Path(made)
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
