"""ASE trajectories (``.traj``): one entry a frame, with the results of its calculator. Nothing in them is a pickle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.sources.base import Cut, Entry, Scan, attempt, default_id, hash_file
from lazygraph.sources.extxyz import take_id
from lazygraph.sources.objects import labels_of_object
from lazygraph.sources.units import ASE

__all__ = ["TrajectorySource", "sniff"]

_BEGIN = b"- of UlmASE-Trajectory"


def sniff(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an ASE trajectory."""
    return head.startswith(_BEGIN)


@dataclass(frozen=True, slots=True)
class TrajectorySource:
    """One entry a frame, in the order of the file; the id is ``NAME-0000012``.

    Labels are the info and the results of the calculator. Holds a path only: picklable, safe in any process.

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
        with _opened(Path(self.path)) as frames:
            count = len(frames)
        return Scan(count, tuple(range(0, count, every)), (hash_file(Path(self.path)),), implied=ASE)

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:  # noqa: ARG002  # nothing was unpacked
        """Yield the frames of one range."""
        path, name = Path(self.path), self.name
        size = path.stat().st_size
        with _opened(path) as frames:
            for number in range(cut.start, cut.start + cut.count):
                labels: dict[str, Any] = {}
                of_atoms: dict[str, Any] = {}
                default = default_id(name, number)
                crystal: Crystal | InputError = attempt(_read, frames, number, size, (labels, of_atoms))
                try:
                    default = take_id(labels, self.id_key, default)
                except UnreadableInput as error:
                    crystal = error if isinstance(crystal, Crystal) else crystal
                yield Entry(default, crystal, labels, atom_labels=of_atoms)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from ase.io.trajectory import TrajectoryReader

    try:
        frames = TrajectoryReader(path)
    except Exception as error:  # a damaged file fails in many ways
        msg = f"cannot read {path}: {type(error).__name__}: {error}; required: a trajectory written by ASE"
        raise UnreadableInput(msg) from error
    try:
        yield frames
    finally:
        frames.close()


def _read(frames: Any, number: int, size: int, beside: tuple[dict[str, Any], dict[str, Any]]) -> Crystal:
    """The crystal of one frame; what it carries besides is left in ``beside``."""
    for item in {0, number}:  # what does not change stands in the first frame only
        _require_arrays_within(frames.backend[item], size)
    atoms = frames[number]
    for target, found in zip(beside, labels_of_object(atoms), strict=True):
        target.update(found)
    return Crystal.from_any(atoms)


def _require_arrays_within(item: Any, size: int) -> None:
    """Refuse arrays that say to be larger than the file, before memory is taken for them.

    Raises:
        UnreadableInput: one does.
    """
    from ase.io.ulm import NDArrayReader, Reader

    for name in item.keys():  # noqa: SIM118  # no mapping
        try:
            value = item.proxy(name)
        except AssertionError:  # it is no array
            value = item.get(name)
        if isinstance(value, NDArrayReader):
            claimed = math.prod(value.shape) * np.dtype(value.dtype).itemsize
            if claimed > size:
                msg = f"the array {name} says to have {claimed} bytes, in a file of {size}; required: a whole file"
                raise UnreadableInput(msg)
        elif isinstance(value, Reader):
            _require_arrays_within(value, size)
