"""Prefetching of batches, by a thread or by worker processes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info
from torch_geometric.data import Batch

from lazygraph.errors import CorruptDataset, InputError, StorageError
from lazygraph.loading.batch_table import Batches
from lazygraph.loading.mixing import LoadableDataset, Mix
from lazygraph.loading.pyg_internals import end_workers
from lazygraph.loading.reader import Fetched
from lazygraph.loading.settings import Settings
from lazygraph.loading.shared_memory import Sent, SharedBuffers, pack, unpack
from lazygraph.loading.transforms import Draw, Untransformed, fingerprint_of

__all__ = ["Request", "Requests", "UnderWay", "WorkerPool", "fetch", "prefetch_in_threads"]

T = TypeVar("T")

LONGEST_WAIT = 10.0  # s, for the threads of an iteration that ends


class Request(NamedTuple):
    """A batch that is to be read."""

    positions: NDArray[np.int64]
    draw: Draw
    """What its transforms draw."""


class Requests:
    """The batches of an epoch that are to be read, made one by one.

    Args:
        batches: the batches.
        seed: seed of what their transforms draw.
        epoch: number of the epoch.
    """

    def __init__(self, batches: Batches, seed: int, epoch: int) -> None:
        self._batches, self._seed, self._epoch = batches, seed, epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Request]:
        for extent in self._batches.extents():
            yield Request(self._batches.positions(extent), Draw(self._seed, self._epoch, extent.place))


class UnderWay:
    """Requests, of which some facts are kept until their batches come back, in the same order.

    Args:
        requests: the requests; only one iteration over them can be under way.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests, self._waiting = requests, deque[tuple[Draw, int]]()

    def __iter__(self) -> Iterator[Request]:
        for request in self._requests:
            self._waiting.append((request.draw, len(request.positions)))
            yield request

    def next(self) -> tuple[Draw, int]:
        """Return the draw and the number of graphs of the batch that came back, one call per batch."""
        return self._waiting.popleft()


def fetch(dataset: LoadableDataset, request: Request) -> Fetched | Untransformed:
    """Read the graphs of a batch: together, or one by one if a transform must see each graph."""
    if dataset.transform is None:
        seeds = None if dataset.augmenter is None else request.draw.augmentation_seeds(len(request.positions))
        return dataset.fetch(request.positions, seeds)
    return dataset.untransformed(request.positions.tolist(), request.draw)


def prefetch_in_threads(
    read: Callable[[Request], T],
    requests: Iterable[Request],
    ahead: int,
    threads: int,
    device: torch.device | None = None,
) -> Generator[T, None, None]:
    """Yield ``read(request)`` for each request in their order, from threads that are up to ``ahead`` batches ahead.

    If batches are made on a device, its number that is current in this thread is current in the threads too.

    Raises:
        InputError: in a child that was forked meanwhile, because it does not have the threads.
    """
    owner, waiting = os.getpid(), deque[Future[T]]()
    own: list[threading.Thread] = []
    of_type: Any = None if device is None or device.type in ("cpu", "meta") else torch.get_device_module(device)
    number = None if of_type is None else of_type.current_device()

    def begin() -> None:
        own.append(threading.current_thread())
        if of_type is not None:
            of_type.set_device(number)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="lazygraph-loader", initializer=begin)
    try:
        for request in requests:
            waiting.append(pool.submit(read, request))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
                _check_owner(owner)
        while waiting:
            yield waiting.popleft().result()
            _check_owner(owner)
    finally:
        if os.getpid() == owner:
            pool.shutdown(wait=False, cancel_futures=True)
            _join(own)
        else:
            _INHERITED.append(pool)


def _join(threads: Iterable[threading.Thread]) -> None:
    """Wait until threads have ended, but not for ever.

    The garbage collector may end an iteration at any moment: in one of its own threads, or in a thread that holds a
    lock for which they wait.
    """
    until = time.monotonic() + LONGEST_WAIT
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(until - time.monotonic(), 0))


class WorkerPool:
    """Worker processes, started when they are first needed.

    The workers end with this object and its active iterations or, if they are not persistent, after each iteration.
    Simultaneous iterations have separate workers. If the transform was changed or replaced, the next iteration starts
    new workers. It also does so if the transform cannot be pickled, because then a change cannot be noticed.
    """

    def __init__(self, dataset: LoadableDataset, settings: Settings) -> None:
        self._dataset, self._settings = dataset, settings
        # Those that wait for the next iteration, by the process that started them; a fork of it cannot use them.
        self._idle: dict[int, _Workers] = {}
        # Where processes are part of a reference cycle, Python takes their queues apart first, and ending takes 5 s.
        weakref.finalize(self, _end, self._idle)

    def read(self, requests: Iterable[Request]) -> Generator[Fetched | Batch, None, None]:
        """Yield the result of each request.

        Raises:
            InputError: in a child that was forked meanwhile, because the workers are not its own.
        """
        owner, transform = os.getpid(), fingerprint_of(_transforms(self._dataset))
        workers = self._idle.pop(owner, None)
        if workers is None or transform is None or workers.transform != transform:
            del workers  # which ends them
            workers = self._started(transform)
        workers.to_read.requests = requests
        iterator: Any = _start_iterator(workers.loader)
        try:
            for sent in iterator:
                if isinstance(sent, _Failed):
                    raise sent.error  # noqa: TRY301 - as torch raises others
                # Records lie in memory that the worker uses again, for they are expanded before the next one comes;
                # what a transform made goes to the user, who may keep it.
                yield workers.receive(sent, own=self._dataset.transform is not None)
                _check_owner(owner)
        except GeneratorExit:  # left early; they can go on
            if os.getpid() != owner:
                _INHERITED.append((iterator, workers))
                return
        except BaseException:
            if os.getpid() == owner:
                end_workers(iterator)  # else they would live as long as the traceback
            else:
                _INHERITED.append((iterator, workers))
            raise
        self._idle.setdefault(owner, workers)

    def _started(self, transform: bytes | None) -> _Workers:
        settings = self._settings
        # A worker has `prefetch_factor` batches under way, beside the one that is being used. Records are a tenth of
        # what they expand to; what a transform made is as large as the batch, and some are larger than others.
        size = settings.batch_bytes if self._dataset.transform is None else 2 * settings.batch_bytes
        slots = SharedBuffers.create_if_supported(settings.num_workers, settings.prefetch_factor + 1, size)
        to_read = _ToRead()
        loader: DataLoader[Any] = DataLoader(
            _WorkerDataset(self._dataset, slots),  # type: ignore[arg-type]  # torch's workers ask for no more than it has
            batch_sampler=to_read,  # type: ignore[arg-type]
            collate_fn=_unchanged,
            worker_init_fn=_ignore_interrupts,
            num_workers=settings.num_workers,
            prefetch_factor=settings.prefetch_factor,
            persistent_workers=settings.persistent_workers,
            multiprocessing_context=settings.multiprocessing_context,
            generator=torch.Generator(),  # or every iteration would take from the random numbers of the training
        )
        return _Workers(loader, to_read, slots, transform)


# What a fork has of the threads and processes of its parent: kept, as torch would end the parent's with it.
_INHERITED: list[Any] = []


def _check_owner(owner: int) -> None:
    """Refuse to continue an iteration of the parent in a fork, which would never receive a batch."""
    if os.getpid() != owner:
        msg = (
            f"process {owner} began this iteration, and its fork {os.getpid()} lacks its threads and workers: "
            "begin an iteration here, with iter(loader)"
        )
        raise InputError(msg)


def _end(idle: dict[int, _Workers]) -> None:
    """End the workers of this process. In a fork, the workers of the parent continue."""
    own = idle.pop(os.getpid(), None)
    _INHERITED.extend(idle.values())
    idle.clear()
    del own


class _ToRead:
    """The ``batch_sampler`` of workers that stay alive: the requests of the epoch that begins."""

    requests: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)


class _Workers(NamedTuple):
    """Worker processes with their requests, shared memory and transform."""

    loader: DataLoader[Any]
    to_read: _ToRead
    slots: SharedBuffers | None
    transform: bytes | None

    def receive(self, sent: Sent, *, own: bool) -> Fetched | Batch:
        """Return what a worker sent; its error is raised."""
        got: Fetched | Batch = unpack(sent) if self.slots is None else self.slots.receive(sent, own=own)
        return got


class _WorkerDataset:
    """The dataset in a worker process: it gets a request and returns a batch."""

    def __init__(self, dataset: LoadableDataset, slots: SharedBuffers | None) -> None:
        self._dataset, self._slots = dataset, slots

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, request: Request) -> Sent | _Failed:
        worker = get_worker_info()
        try:
            fetched = fetch(self._dataset, request)
            if isinstance(fetched, Untransformed):
                fetched = fetched.batch()
        except (CorruptDataset, OSError) as error:
            if (failed := _Failed.of(error)) is None:
                raise
            return failed
        return pack(fetched) if self._slots is None or worker is None else self._slots.send(fetched, worker.id)


class _Failed(NamedTuple):
    """An error in a worker, sent as a value, because torch would replace it by another error without ``errno``."""

    error: CorruptDataset | OSError

    @classmethod
    def of(cls, error: CorruptDataset | OSError) -> _Failed | None:
        """Return None for an error that cannot be sent unchanged, such as an error of a transform."""
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            # Made by this process a moment ago.
            same = repr(pickle.loads(pickle.dumps(error))) == repr(error)  # noqa: S301
        except Exception:  # noqa: BLE001 - whatever its class does
            return None
        return cls(error) if same else None


def _transforms(dataset: LoadableDataset) -> Any:
    """Everything of the user's that runs in a worker."""
    members = dataset.members.values() if isinstance(dataset, Mix) else (dataset,)
    steps = [member.augmenter.steps for member in members if member.augmenter is not None]
    return (dataset.transform, steps) if steps else dataset.transform


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal. The process that uses the batches handles it."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unchanged(fetched: Any) -> Any:
    """The ``collate_fn`` of workers, whose results are already batches."""
    return fetched


def _start_iterator(loader: Any) -> Any:
    """Start the processes of a ``DataLoader`` and return its iterator.

    Raises:
        StorageError: the processes cannot be started.
    """
    try:
        return iter(loader)
    except OSError as error:
        msg = (
            f"cannot start worker processes: {error.strerror or error}; they need semaphores (on Linux in /dev/shm) "
            "and some file descriptors (ulimit -n): make room, or read in threads (num_workers=0)"
        )
        raise StorageError(msg) from error
