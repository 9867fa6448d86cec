"""Many shards at once: which executor, how many workers, and what is shown meanwhile."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lazygraph.errors import LazyGraphError
from lazygraph.writing.worker import Made, make_shard

__all__ = ["available_cpus", "make_shards"]

# BLAS and OpenMP would start a thread pool in every worker for arrays of a few hundred numbers.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def available_cpus() -> int:
    """The CPUs that this process may run on (its affinity, where the platform has one)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_shards(
    final: Path,
    tasks: Iterable[int],
    inputs: list[int],
    *,
    workers: int | None,
    executor: Executor | None,
    progress: bool,
) -> list[Made]:
    """Make these shards of a plan, in parallel.

    Args:
        final: where the dataset will be.
        tasks: the numbers of the shards.
        inputs: how many inputs each shard of the plan has, for the progress bar.
        workers: worker processes; None takes one per available CPU, 1 works in this process.
        executor: runs the shards instead, wherever it runs them; it must see the same files.
        progress: show a bar with rate, time left and quarantined inputs on stderr, if that is a terminal.

    Raises:
        LazyGraphError: a worker process died.
    """
    pending = list(tasks)
    workers = min(workers or available_cpus(), len(pending))
    total = sum(inputs[task] for task in pending)
    with _bar(total, show=progress) as bar:
        made = []
        for result in _run(final, pending, workers, executor):
            made.append(result)
            bar.set_postfix(quarantined=sum(m.quarantined for m in made), refresh=False)
            bar.update(inputs[result.task])
        return made


def _run(final: Path, tasks: list[int], workers: int, executor: Executor | None) -> Iterator[Made]:
    if executor is not None:
        yield from _finished([executor.submit(make_shard, final, task) for task in tasks])
    elif workers <= 1:
        for task in tasks:
            yield make_shard(final, task)
    else:
        with _processes(workers) as pool:
            yield from _finished([pool.submit(make_shard, final, task) for task in tasks])


def _finished(futures: list[Future[Made]]) -> Iterator[Made]:
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        msg = (
            "a worker process died, most often because memory ran out; the shards that are finished are kept: run the "
            "same command again to go on, with fewer workers if it happens again"
        )
        raise LazyGraphError(msg) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    """Worker processes that neither fork this one nor run the user's script again, and that die with it."""
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(os.getpid(),), env=SINGLE_THREADED)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise
    pool.shutdown(wait=True)


def _start(parent: int) -> None:
    """Begin a worker: Ctrl-C is the parent's to handle, and no worker outlives a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


def _bar(total: int, *, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total, unit=" crystals", desc="building graphs", disable=not (show and sys.stderr.isatty()), smoothing=0.1
    )
