"""Reading batches ahead of their use: by a thread of this process, or by other processes."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, get_worker_info
from torch_geometric.data import Batch

from lazygraph.errors import StorageError
from lazygraph.reading.dataset import LazyGraphDataset
from lazygraph.reading.graphs import collate
from lazygraph.reading.reader import Fetched
from lazygraph.reading.settings import Settings
from lazygraph.reading.slots import Sent, Slots, pack, unpack

__all__ = ["Processes", "by_thread", "fetch"]

Positions = NDArray[np.int64]


def fetch(dataset: LazyGraphDataset, positions: Positions) -> Fetched | Batch:
    """The graphs at these positions as they travel: a batch only where a transform had to see each of them."""
    return dataset.fetch(positions) if dataset.transform is None else collate(dataset.__getitems__(positions.tolist()))


def by_thread(read: Callable[[Positions], Batch], batches: list[Positions], ahead: int) -> Iterator[Batch]:
    """What ``read`` makes of each, called in one thread that is up to ``ahead`` batches before the caller."""
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="lazygraph-loader") as pool:
        try:
            for positions in batches:
                waiting.append(pool.submit(read, positions))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Processes:
    """Worker processes, started when they are first needed.

    They end with this object and with the iterations that are going on, and where they are not persistent, after each
    iteration. Iterations at the same time have processes of their own.
    """

    def __init__(self, dataset: LazyGraphDataset, settings: Settings) -> None:
        self._dataset, self._settings = dataset, settings
        # Those that wait for the next iteration, by the process that started them; a fork of it cannot use them.
        self._idle: dict[int, _Workers] = {}
        # Where processes are part of a reference cycle, Python takes their queues apart first, and ending takes 5 s.
        weakref.finalize(self, _end, self._idle)

    def read(self, batches: list[Positions]) -> Iterator[Fetched | Batch]:
        """What is fetched for each."""
        pid = os.getpid()
        workers = self._idle.pop(pid, None) or self._started()
        workers.to_read[:] = batches
        iterator: Any = _begun(workers.loader)
        try:
            for sent in iterator:
                if isinstance(sent, _Failed):
                    raise sent.error  # noqa: TRY301 - as torch raises others
                # Records lie in memory that the worker uses again, for they are expanded before the next one comes;
                # what a transform made goes to the user, who may keep it.
                yield workers.receive(sent, own=self._dataset.transform is not None)
        except GeneratorExit:  # left early; they can go on
            pass
        except BaseException:
            iterator._shutdown_workers()  # noqa: SLF001 - else they would live as long as the traceback
            raise
        self._idle.setdefault(pid, workers)

    def _started(self) -> _Workers:
        settings = self._settings
        # A worker has `prefetch_factor` batches under way, beside the one that is being used. Records are a tenth of
        # what they expand to; what a transform made is as large as the batch, and some are larger than others.
        size = settings.batch_bytes if self._dataset.transform is None else 2 * settings.batch_bytes
        slots = Slots.where_possible(settings.num_workers, settings.prefetch_factor + 1, size)
        to_read: list[Positions] = []
        loader: DataLoader[Any] = DataLoader(
            _Records(self._dataset, slots),  # type: ignore[arg-type]  # torch's workers ask for no more than it has
            batch_sampler=to_read,  # type: ignore[arg-type]
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_interrupts,
            num_workers=settings.num_workers,
            prefetch_factor=settings.prefetch_factor,
            persistent_workers=settings.persistent_workers,
            multiprocessing_context=settings.multiprocessing_context,
            generator=torch.Generator(),  # or every iteration would take from the random numbers of the training
        )
        return _Workers(loader, to_read, slots)


_OF_PARENTS: list[Any] = []


def _end(idle: dict[int, _Workers]) -> None:
    """End the processes that this one started; in a fork, those of its parent are kept, for torch would end them."""
    own = idle.pop(os.getpid(), None)
    _OF_PARENTS.extend(idle.values())
    idle.clear()
    del own


class _Workers(NamedTuple):
    """Worker processes, what they are to read, and the memory that they share."""

    loader: DataLoader[Any]
    to_read: list[Positions]
    slots: Slots | None

    def receive(self, sent: Sent, *, own: bool) -> Fetched | Batch:
        """What a worker sent."""
        got: Fetched | Batch = unpack(sent) if self.slots is None else self.slots.receive(sent, own=own)
        return got


class _Records:
    """What a worker process is sent, and asks for batches."""

    def __init__(self, dataset: LazyGraphDataset, slots: Slots | None) -> None:
        self._dataset, self._slots = dataset, slots

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, positions: Positions) -> Sent | _Failed:
        worker = get_worker_info()
        try:
            fetched = fetch(self._dataset, positions)
        except OSError as error:
            if (failed := _Failed.of(error)) is None:
                raise
            return failed
        return pack(fetched) if self._slots is None or worker is None else self._slots.send(fetched, worker.id)


class _Failed(NamedTuple):
    """What a worker met, sent as a value: torch would make another error of its text, without ``errno``."""

    error: OSError

    @classmethod
    def of(cls, error: OSError) -> _Failed | None:
        """None for one, as of a transform, that is not the same after it was sent."""
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            # Made by this process a moment ago.
            same = repr(pickle.loads(pickle.dumps(error))) == repr(error)  # noqa: S301
        except Exception:  # noqa: BLE001 - whatever its class does
            return None
        return cls(error) if same else None


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the one that uses the batches decides, and may go on with them."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_it_is(fetched: Any) -> Any:
    """The ``collate_fn`` of workers, whose batches are made already."""
    return fetched


def _begun(loader: Any) -> Any:
    """An iterator of a ``DataLoader``, whose processes start here.

    Raises:
        StorageError: they cannot.
    """
    try:
        return iter(loader)
    except OSError as error:
        msg = (
            f"cannot start worker processes: {error.strerror or error}; they need room in /dev/shm for semaphores and "
            "some file descriptors (ulimit -n): make room, or read in threads (num_workers=0)"
        )
        raise StorageError(msg) from error
