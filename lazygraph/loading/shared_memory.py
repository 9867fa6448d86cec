"""Memory in which worker processes hand over what they fetched, copied once instead of seven times through a pipe.

Tensors travel as arrays do. Torch's own way needs an open file for each of them, for as long as it lives, so that a
list of a few hundred batches would use up all that a process may have.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections.abc import Iterator
from itertools import cycle
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Sent", "SharedBuffers", "pack", "unpack"]

SMALL = 4096  # bytes of an array that may as well go through the pipe
ALIGNMENT = 64


class Sent(NamedTuple):
    """A value on its way: what goes through the pipe, and where its arrays lie in the memory."""

    pickled: bytes
    arrays: list[tuple[int, int]]
    """The begin and the end of each; none where all goes through the pipe."""


def pack(value: Any) -> Sent:
    """A value that goes through the pipe as a whole."""
    return Sent(_pickled(value, None), [])


def unpack(sent: Sent) -> Any:
    """The value that was packed; its memory is the caller's own."""
    return pickle.loads(sent.pickled)  # noqa: S301 - data of this program's own workers, never of a file


class SharedBuffers:
    """Shared memory in slots, which each of several processes uses in turn.

    What ``receive`` gives is read-only, and holds until the process that sent it has sent ``each`` further values. The
    memory has no name and no place in /dev/shm: nothing is left of it when the last process that has it ends. Only
    pages that are written to exist.

    Picklable while a process is started, which then shares the memory; shared with forked ones too.

    Args:
        processes: how many send, numbered from 0.
        each: the slots of each.
        size: the bytes of a slot; what is larger goes through the pipe.
    """

    def __init__(self, processes: int, each: int, size: int) -> None:
        self._each, self._size = each, -(-size // ALIGNMENT) * ALIGNMENT
        self._file = os.memfd_create("lazygraph")
        os.ftruncate(self._file, max(processes * each * self._size, 1))
        self._open()

    @classmethod
    def create_if_supported(cls, processes: int, each: int, size: int) -> SharedBuffers | None:
        """None where the operating system has no such memory, or gives none."""
        try:
            return cls(processes, each, size) if hasattr(os, "memfd_create") else None
        except OSError:
            return None

    def _open(self) -> None:
        self._memory = memoryview(mmap.mmap(self._file, 0))
        self._turns: dict[int, Iterator[int]] = {}

    def send(self, value: Any, process: int) -> Sent:
        """What process number ``process`` puts into the pipe."""
        if process not in self._turns:
            self._turns[process] = cycle(range(process * self._each, (process + 1) * self._each))
        buffers: list[pickle.PickleBuffer] = []
        pickled = _pickled(value, lambda buffer: _is_small(buffer, buffers))
        begin = next(self._turns[process]) * self._size
        end, arrays = begin + self._size, []
        for raw in (buffer.raw() for buffer in buffers):
            if begin + raw.nbytes > end:
                return pack(value)
            self._memory[begin : begin + raw.nbytes] = raw
            arrays.append((begin, begin + raw.nbytes))
            begin += -(-raw.nbytes // ALIGNMENT) * ALIGNMENT
        return Sent(pickled, arrays)

    def receive(self, sent: Sent, *, own: bool = False) -> Any:
        """What was sent.

        Args:
            sent: what came out of the pipe.
            own: copy the arrays, so that they may be changed and hold for ever.
        """
        memory = self._memory.toreadonly()
        views = (memory[begin:end] for begin, end in sent.arrays)
        buffers = [bytearray(view) for view in views] if own else list(views)
        return pickle.loads(sent.pickled, buffers=buffers)  # noqa: S301 - data of this program's own workers

    def __getstate__(self) -> dict[str, Any]:
        return {"_each": self._each, "_size": self._size, "_file": DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _file=state["_file"].detach())
        self._open()

    def __del__(self) -> None:
        if isinstance(getattr(self, "_file", None), int):
            os.close(self._file)


class _Pickler(pickle.Pickler):
    """Writes a tensor of the CPU as the array that it is."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor:
            try:
                return _tensor, (value.contiguous().numpy(),)
            except (TypeError, RuntimeError):  # of a device, of a type that numpy does not have, with gradients
                pass
        return NotImplemented


def _pickled(value: Any, out_of_band: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=out_of_band).dump(value)
    return stream.getvalue()


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array if array.flags.writeable else np.copy(array))


def _is_small(buffer: pickle.PickleBuffer, others: list[pickle.PickleBuffer]) -> bool:
    """Whether an array stays among what is pickled; else it is one of the others."""
    small = buffer.raw().nbytes <= SMALL
    if not small:
        others.append(buffer)
    return small
