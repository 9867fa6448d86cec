"""Shared memory through which worker processes send batches: one copy instead of seven through a pipe.

Tensors are sent as arrays. torch's own method keeps a file open for each tensor as long as it exists. A list of a few
hundred batches would exhaust the files that a process may open.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from multiprocessing.shared_memory import SharedMemory
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Sent", "SharedBuffers", "pack", "unpack"]

SMALL = 4096  # bytes of an array that may as well go through the pipe
ALIGNMENT = 64


class Sent(NamedTuple):
    """A value that is being sent: the part for the pipe, and the positions of its arrays in shared memory."""

    pickled: bytes
    arrays: list[tuple[int, int]]
    """The begin and the end of each; none where all goes through the pipe."""


def pack(value: Any) -> Sent:
    """Pack a value that is sent through the pipe as a whole."""
    return Sent(_pickled(value, None), [])


def unpack(sent: Sent) -> Any:
    """Return the packed value; the caller owns its memory."""
    return pickle.loads(sent.pickled)  # noqa: S301 - data of this program's own workers, never of a file


class SharedBuffers:
    """Shared memory with several slots for each sending process, which uses them in turn.

    The result of ``receive`` is read-only. It stays valid until its sender has sent ``each`` further values. The memory
    disappears when the last process that has it ends. On Linux, it has no name and does not appear in /dev/shm, and
    only pages that were written use memory. On macOS and Windows, it is named shared memory.

    Picklable while a process is started, which then shares the memory. Forked processes share it too.

    Args:
        processes: number of sending processes, numbered from 0.
        each: number of slots for each sender.
        size: bytes of a slot; a larger value goes through the pipe.
    """

    def __init__(self, processes: int, each: int, size: int) -> None:
        self._each, self._size = each, -(-size // ALIGNMENT) * ALIGNMENT
        self._block: _Block = _create(max(processes * each * self._size, 1))
        self._open()

    @classmethod
    def create_if_supported(cls, processes: int, each: int, size: int) -> SharedBuffers | None:
        """Create the memory; return None if the operating system does not offer it."""
        try:
            return cls(processes, each, size)
        except OSError:
            return None

    def _open(self) -> None:
        self._memory = memoryview(self._block.memory())
        self._turns: dict[int, Iterator[int]] = {}

    def send(self, value: Any, process: int) -> Sent:
        """Write a value of process number ``process``; return what goes into the pipe."""
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
        """Read a value that was sent.

        Args:
            sent: what came out of the pipe.
            own: copy the arrays, so that they may be changed and stay valid.
        """
        memory = self._memory.toreadonly()
        views = (memory[begin:end] for begin, end in sent.arrays)
        buffers = [bytearray(view) for view in views] if own else list(views)
        return pickle.loads(sent.pickled, buffers=buffers)  # noqa: S301 - data of this program's own workers

    def __getstate__(self) -> dict[str, Any]:
        return {"_each": self._each, "_size": self._size, "_block": self._block}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class _Block(Protocol):
    """Memory that processes share. Picklable while a process is started."""

    def memory(self) -> Any:
        """Return its buffer, which keeps the memory."""


def _create(size: int) -> _Block:
    """Create shared memory with so many bytes.

    Raises:
        OSError: the system refuses it.
    """
    if sys.platform == "linux":
        block: _Block = _WithoutName(size)
    else:
        block = _WithName(SharedMemory(create=True, size=size), created_by=os.getpid())
    return block


if sys.platform == "linux":
    from multiprocessing.reduction import DupFd

    class _WithoutName:
        """A file without a name, in memory."""

        def __init__(self, size: int) -> None:
            self._file = os.memfd_create("lazygraph")
            os.ftruncate(self._file, size)

        def memory(self) -> Any:
            return mmap.mmap(self._file, 0)

        def __getstate__(self) -> dict[str, Any]:
            return {"_file": DupFd(self._file)}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self._file = state["_file"].detach()

        def __del__(self) -> None:
            if isinstance(getattr(self, "_file", None), int):
                os.close(self._file)


class _WithName:
    """Named shared memory. The process that made it takes the name away."""

    def __init__(self, shared: SharedMemory, created_by: int) -> None:
        self._shared, self._created_by = shared, created_by

    def memory(self) -> Any:
        return np.asarray(_Whole(self._shared))

    def __del__(self) -> None:
        if getattr(self, "_created_by", None) == os.getpid():
            with suppress(OSError):
                self._shared.unlink()


class _Whole:
    """What an array of shared memory is made of. ``SharedMemory`` closes itself when the last array of it is gone.

    By its address: ``SharedMemory`` cannot be closed while it is asked for its buffer.
    """

    def __init__(self, shared: SharedMemory) -> None:
        buffer: Any = shared.buf
        at, self._shared = ctypes.addressof(ctypes.c_char.from_buffer(buffer)), shared
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (len(buffer),), "data": (at, False)}


class _Pickler(pickle.Pickler):
    """A pickler that writes a CPU tensor as an array."""

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
    """Tell whether an array is small enough to be pickled."""
    small = buffer.raw().nbytes <= SMALL
    if not small:
        others.append(buffer)
    return small
