"""ASE trajectories (``.traj``): one entry per frame, with the results of its calculator. Nothing is unpickled."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import (
    MAX_TEXT,
    Cut,
    Entry,
    Scan,
    attempt,
    default_id,
    hash_file,
    open_regular,
    read_entry,
    too_long,
)
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.objects import labels_of_object
from lazygraph.sources.units import ASE

__all__ = ["TrajectorySource", "sniff"]

_BEGIN = b"- of UlmASE-Trajectory"


def sniff(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of an ASE trajectory."""
    return head.startswith(_BEGIN)


@dataclass(frozen=True, slots=True)
class TrajectorySource:
    """One entry per frame, in the order of the file; the id is ``NAME-0000012``.

    Labels are the info and the results of the calculator. The source holds only a path: it is picklable and safe in any
    process.

    Args:
        path: the file.
        id_key: the key of the info that holds the id.
    """

    kind: ClassVar[str] = "ase-traj"

    path: str
    id_key: str | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return Path(self.path).name.removesuffix(".traj")

    def scan(self, every: int, spool: Path) -> Scan:  # noqa: ARG002  # nothing to unpack
        """Count the frames, and hash the file."""
        with _opened(Path(self.path)) as (frames, _):
            count = len(frames)
        return Scan(count, tuple(range(0, count, every)), (hash_file(Path(self.path)),), implied=ASE)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:  # noqa: ARG002  # nothing was unpacked
        """Yield the frames of one range."""
        name = self.name
        with _opened(Path(self.path)) as (frames, size):
            for number in range(cut.start, cut.start + cut.count):
                default = default_id(name, number)
                yield read_entry(default, self._entry, frames, number, size, default)

    def _entry(self, frames: Any, number: int, size: int, default: str) -> Entry:
        labels: dict[str, Any] = {}
        of_atoms: dict[str, Any] = {}
        crystal: Crystal | InputError = attempt(_read, frames, number, size, (labels, of_atoms))
        try:
            default = take_id(labels, self.id_key, default)
        except UnreadableInput as error:
            crystal = error if isinstance(crystal, Crystal) else crystal
        return Entry(default, crystal, labels, atom_labels=of_atoms)


class _Bounded(BufferedReader):
    """A file with bounded reads, because ASE reads as many bytes as a number in the file says."""

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, if they are not too many."""
        if size is None or not 0 <= size <= MAX_TEXT:
            raise too_long()
        return super().read(size)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int]]:
    """Open a trajectory, and yield its frames and the size of the file in bytes.

    Raises:
        UnreadableInput: it is not a trajectory, or its beginning is damaged.
    """
    from ase.io.trajectory import TrajectoryReader

    with ExitStack() as stack:
        try:
            file = stack.enter_context(_Bounded(open_regular(path).detach()))
            size = os.fstat(file.fileno()).st_size
            frames = TrajectoryReader(file)
            len(frames)
        except Exception as error:  # a damaged file fails in many ways
            reason = str(error) if isinstance(error, UnreadableInput) else f"{type(error).__name__}: {error}"
            msg = f"cannot read {path}: {reason}; required: a trajectory written by ASE"
            raise UnreadableInput(msg) from error
        yield frames, size


def _read(frames: Any, number: int, size: int, beside: tuple[dict[str, Any], dict[str, Any]]) -> Crystal:
    """Return the crystal of one frame. Its other values go to ``beside``."""
    for item in {0, number}:  # values that do not change are only in the first frame
        claimed = _claimed(frames.backend[item])
        if claimed > size:
            msg = (
                f"the arrays of frame {item} claim {claimed} bytes, but the file has {size}; copy or download it again"
            )
            raise UnreadableInput(msg)
    atoms = frames[number]
    for target, found in zip(beside, labels_of_object(atoms), strict=True):
        target.update(found)
    return Crystal.from_any(atoms)


def _claimed(item: Any) -> int:
    """Return the number of bytes that the arrays of a frame claim, before memory is allocated for them."""
    from ase.io.ulm import NDArrayReader, Reader

    claimed = 0
    for name in item.keys():  # noqa: SIM118  # no mapping
        try:
            value = item.proxy(name)
        except AssertionError:  # it is not an array
            value = item.get(name)
        if isinstance(value, NDArrayReader):
            claimed += abs(math.prod(value.shape)) * np.dtype(value.dtype).itemsize
        elif isinstance(value, Reader):
            claimed += _claimed(value)
    return claimed
