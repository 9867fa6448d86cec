"""Settings of a loader, such as workers and threads, chosen from facts of the machine and the dataset."""

from __future__ import annotations

import math
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name

__all__ = ["Facts", "LoaderFacts", "Settings", "WantedSettings", "choose", "free_shared_memory"]

HIDDEN = 0.004  # s; a batch that is made in less is made beside any training step by one thread
MOST_WORKERS = 8
MOST_THREADS = 4  # more of them wait for each other, for Python's part of a batch
AHEAD = 4  # batches that are kept ready, in all


class LoaderFacts(Protocol):
    """Facts as in :class:`Facts`; an implementation may measure expensive ones at their first use."""

    @property
    def cpus(self) -> int: ...  # noqa: D102
    @property
    def batch_seconds(self) -> float: ...  # noqa: D102
    @property
    def batch_bytes(self) -> int: ...  # noqa: D102
    @property
    def compiled(self) -> bool: ...  # noqa: D102
    @property
    def transform(self) -> bool: ...  # noqa: D102
    @property
    def cuda(self) -> bool: ...  # noqa: D102
    @property
    def shared_memory(self) -> int | None: ...  # noqa: D102
    @property
    def shard_bytes(self) -> int: ...  # noqa: D102
    @property
    def memory(self) -> int: ...  # noqa: D102
    @property
    def is_remote(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that a choice depends on.

    Args:
        cpus: number of CPUs that this process may use.
        batch_seconds: time to read one batch in this process, s.
        batch_bytes: memory of one batch, bytes.
        compiled: whether compiled code is available, which lets other threads run.
        transform: whether a transform sees every graph.
        cuda: whether there is a CUDA device.
        shared_memory: free bytes in /dev/shm; None if it does not exist.
        shard_bytes: size of the shards that will be read, if they lie on this machine; else 0.
        memory: bytes that this process may use.
    """

    cpus: int
    batch_seconds: float
    batch_bytes: int
    compiled: bool
    transform: bool
    cuda: bool
    shared_memory: int | None
    shard_bytes: int = 0
    memory: int = 0
    is_remote: bool = False


@dataclass(frozen=True, slots=True)
class WantedSettings:
    """The settings that the user of a loader gave; None where the loader is to choose.

    Args:
        num_workers: number of worker processes.
        threads: number of prefetch threads.
        prefetch_factor: batches that the thread, or each worker, keeps ready.
        persistent_workers: whether workers stay alive from epoch to epoch.
        pin_memory: whether batches are put into page-locked memory.
        multiprocessing_context: start method of processes.
        read_ahead: whether a thread reads whole shards ahead.
    """

    num_workers: int | None = None
    threads: int | None = None
    prefetch_factor: int | None = None
    persistent_workers: bool | None = None
    pin_memory: bool | None = None
    multiprocessing_context: str | None = None
    read_ahead: bool | None = None

    def check(self) -> None:
        """Refuse numbers and start methods that cannot be.

        Raises:
            InputError: the message says what is allowed.
        """
        for name, number, least in (
            ("num_workers", self.num_workers, 0),
            ("threads", self.threads, 0),
            ("prefetch_factor", self.prefetch_factor, 1),
        ):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
                msg = f"found {name}={number!r}; required: a whole number, {least} or more"
                raise InputError(msg)
        method = self.multiprocessing_context
        if isinstance(method, str) and method not in (known := multiprocessing.get_all_start_methods()):
            raise InputError(unknown_name("multiprocessing_context", method, known))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a loader, with reasons.

    Args:
        num_workers: number of worker processes.
        threads: number of prefetch threads if there are no workers.
        prefetch_factor: batches that the thread, or each worker, keeps ready.
        persistent_workers: whether workers stay alive from epoch to epoch.
        pin_memory: whether batches are put into page-locked memory.
        multiprocessing_context: start method of processes; None for Python's default.
        batch_bytes: bytes reserved in shared memory for the records of one batch.
        read_ahead: whether a thread reads whole shards ahead, when the first epoch begins.
        reasons: one sentence for every choice.
    """

    num_workers: int
    threads: int
    prefetch_factor: int
    persistent_workers: bool
    pin_memory: bool
    multiprocessing_context: str | None
    batch_bytes: int
    read_ahead: bool
    reasons: tuple[str, ...]

    @property
    def ahead(self) -> int:
        """The number of batches that prefetch threads keep ready: each thread reads one, the others are done."""
        return self.prefetch_factor + self.threads - 1

    def __str__(self) -> str:
        how = f"{self.num_workers} worker processes" if self.num_workers else f"{self.threads} reading threads"
        ahead = f", {self.prefetch_factor} batches ahead each" if self.num_workers or self.threads else ""
        return f"{how}{ahead}{', pinned' if self.pin_memory else ''}: {'; '.join(self.reasons)}"


def choose(facts: Callable[[], LoaderFacts], wanted: WantedSettings, *, batch_bytes: int = 0) -> Settings:
    """Choose the settings of a loader. Given settings are kept.

    Args:
        facts: returns the facts, and is called only if something must be chosen. The cost of a batch is needed only if
            neither workers nor threads are given.
        wanted: the settings that were given.
        batch_bytes: bytes that the records of a batch may need.

    Example:
        >>> seen = Facts(4, 0.001, 300_000, compiled=True, transform=False, cuda=False, shared_memory=2**30)
        >>> choose(lambda: seen, WantedSettings()).num_workers
        0
    """
    reasons = []
    wanted.check()
    num_workers, threads, prefetch_factor = wanted.num_workers, wanted.threads, wanted.prefetch_factor
    pin_memory, persistent = wanted.pin_memory, wanted.persistent_workers
    if num_workers is None:
        num_workers, reason = (0, "threads= is given") if threads is not None else _workers(facts())
        reasons.append(reason)
    if threads is None:
        threads = 0 if num_workers or facts().cpus == 1 else 1 if wanted.num_workers == 0 else _threads(facts())
        if not threads and not num_workers:
            reasons.append("on one CPU nothing is gained by reading ahead")
    if prefetch_factor is None:
        prefetch_factor = max(2, -(-AHEAD // max(num_workers, 1)))
    if pin_memory is None:
        pin_memory = facts().cuda
        if pin_memory:
            reasons.append("copies to a CUDA device are faster from pinned memory")
    read_ahead = wanted.read_ahead
    if read_ahead is None:
        read_ahead, why = _read_ahead(facts())
        reasons += why
    return Settings(
        num_workers=num_workers,
        threads=0 if num_workers else threads,
        prefetch_factor=prefetch_factor,
        persistent_workers=bool(num_workers) if persistent is None else persistent and bool(num_workers),
        pin_memory=pin_memory,
        multiprocessing_context=wanted.multiprocessing_context if num_workers else None,
        batch_bytes=batch_bytes,
        read_ahead=read_ahead,
        reasons=tuple(reasons) or ("all was set by the caller",),
    )


def _read_ahead(facts: LoaderFacts) -> tuple[bool, list[str]]:
    """Choose whether shards are read ahead and give the reason."""
    size, room = facts.shard_bytes, facts.memory // 2
    if not size:
        return False, []
    if facts.is_remote:
        return True, [f"the {_size(size)} of its shards are fetched into the cache in the order of the epoch"]
    if size <= room:
        return True, [f"the {_size(size)} of its shards fit into half of the memory and are read ahead"]
    return False, [f"the {_size(size)} of its shards do not fit into half of the memory"]


def _most_threads(facts: LoaderFacts) -> int:
    """The greatest useful number of prefetch threads: one CPU is for the training."""
    return min(max(facts.cpus - 1, 1), MOST_THREADS)


def _threads(facts: LoaderFacts) -> int:
    """Choose the number of prefetch threads. Python code runs in one at a time, compiled code in all."""
    parallel = facts.compiled and not facts.transform
    return min(max(math.ceil(facts.batch_seconds / HIDDEN), 1), _most_threads(facts)) if parallel else 1


def _workers(facts: LoaderFacts) -> tuple[int, str]:
    """Choose the number of worker processes and give the reason."""
    took = f"a batch takes {1e3 * facts.batch_seconds:.1f} ms"
    if facts.compiled and not facts.transform and facts.batch_seconds <= HIDDEN * _most_threads(facts):
        many = _threads(facts)
        who = "a thread hides" if many == 1 else f"{many} threads hide"
        return 0, f"{took}, which {who} behind the training step"
    if facts.cpus == 1:
        return 0, f"{took}, and there is one CPU"
    workers = min(facts.cpus - 1, MOST_WORKERS)
    why = "a transform is Python code, which one process runs at a time" if facts.transform else took
    room = max(AHEAD, 2 * workers) * facts.batch_bytes * 2
    if facts.transform and facts.shared_memory is not None and facts.shared_memory < room:
        return (
            0,
            f"{why}, but /dev/shm has {facts.shared_memory >> 20} MiB free and transformed batches need {room >> 20}",
        )
    return workers, f"{why}, so {workers} of {facts.cpus} CPUs read"


def _size(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"


def free_shared_memory() -> int | None:
    """Return the free bytes in /dev/shm, through which torch sends tensors; None if it does not exist."""
    try:
        return shutil.disk_usage("/dev/shm").free  # noqa: S108  # looked at, not written to
    except OSError:
        return None
