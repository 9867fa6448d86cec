"""Many shards at once: which executor, how many workers, and what is shown meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

from lazygraph.errors import StorageError, WorkerDied
from lazygraph.graphs.presets import PRESET_REGISTRY
from lazygraph.graphs.rules import presets_needed
from lazygraph.machine import die_with, usable_cpus
from lazygraph.sources.detect import SOURCE_REGISTRY
from lazygraph.sources.time_limit import may_die
from lazygraph.writing.crash_isolation import poison_inputs
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.worker import Made, make_shard

__all__ = ["make_shards"]

# BLAS and OpenMP would start a thread pool in every worker for arrays of a few hundred numbers.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MOST_FRUITLESS = 3  # deaths in a row, with nothing done in between, after which a run gives up
MOST_DEATHS = 64  # of a run, whatever is done in between
KEPT = "What is finished is kept: run the same command again to continue"


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
        workers: worker processes; None takes one per usable CPU, 1 works in this process.
        executor: runs the shards instead, wherever it runs them; it must see the same files.
        progress: show a bar with rate, time left and quarantined inputs on stderr, if that is a terminal.

    Raises:
        WorkerDied: worker processes died again and again, or that of an executor once.
    """
    pending = list(tasks)
    workers = min(workers or usable_cpus(), len(pending))
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
        futures: list[Future[Made]] = []
        plugins = Plugins.of(Plan.load(Layout.of(final)))
        try:
            futures += (executor.submit(_make_shard, plugins, final, task) for task in tasks)
            yield from _finished(futures)
        except BrokenExecutor as error:
            msg = f"the executor broke: a worker process died. {KEPT}"
            raise WorkerDied(msg) from error
        finally:  # which goes on without us; our own processes are killed, with all that waits for them
            for future in futures:
                future.cancel()
    elif workers <= 1:
        for task in tasks:
            yield make_shard(final, task)
    else:
        yield from _outlived(final, tasks, workers)


def _outlived(final: Path, tasks: list[int], workers: int) -> Iterator[Made]:
    """The shards, made by worker processes of which some may die: new ones then go on.

    Raises:
        WorkerDied: they die again and again, and neither a shard is finished in between nor a killing input found.
    """
    layout = Layout.of(final)
    plan = Plan.load(layout)
    plugins = Plugins.of(plan)
    waiting = dict.fromkeys(tasks)
    deaths = fruitless = found = 0
    while waiting:
        try:
            with _processes(min(workers, len(waiting))) as pool:
                with _interrupts_wait():
                    futures = [pool.submit(_make_shard, plugins, final, task) for task in waiting]
                for made in _finished(futures):
                    del waiting[made.task]
                    fruitless = 0
                    yield made
        except BrokenProcessPool as error:
            now = sum(len(poison_inputs(layout.at(task, plan.digest))) for task in tasks)
            fruitless = 1 if now > found else fruitless + 1
            found, deaths = now, deaths + 1
            if fruitless > MOST_FRUITLESS or deaths > MOST_DEATHS:
                msg = (
                    f"worker processes died {deaths} times, most often because memory ran out; {found} inputs were "
                    f"found to kill them, {len(waiting)} of {len(tasks)} shards are not made. {KEPT}"
                )
                raise WorkerDied(msg) from error


def _finished(futures: list[Future[Made]]) -> Iterator[Made]:
    return (future.result() for future in as_completed(futures))


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back while worker processes are started: they take the mask over, and so never see it.

    A terminal sends it to them too, and one that still imports would print a traceback.
    """
    resource_tracker.ensure_running()  # which lifts the mask when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    """Worker processes that neither fork this one nor run the user's script again, and that die with it."""
    from loky import ProcessPoolExecutor

    try:
        pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(os.getpid(),), env=SINGLE_THREADED)
    except OSError as error:
        msg = (
            f"cannot start worker processes: {error.strerror or error}; their semaphores need room in /dev/shm and a "
            f"few file descriptors (ulimit -n): make room, or work in one process (workers=1, --workers 1). {KEPT}"
        )
        raise StorageError(msg) from error
    try:
        yield pool
    finally:
        # They have nothing in hand that counts. Asked to end, they would wait for ever for the lock of a queue with
        # which one of them was killed.
        pool.shutdown(wait=True, kill_workers=True)


class Plugins(NamedTuple):
    """The plug-ins in use that a plan needs. Worker processes import them; a plan alone imports nothing."""

    presets: tuple[str, ...]
    formats: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> Plugins:
        """The plug-ins of its recipe and of its sources."""
        kinds = {source["source"]["kind"] for source in plan.sources}
        return cls(presets_needed(plan.recipe), tuple(name for name in SOURCE_REGISTRY.used() if name in kinds))

    def use(self) -> None:
        """Import them in this process."""
        PRESET_REGISTRY.use(self.presets)
        SOURCE_REGISTRY.use(self.formats)


def _make_shard(plugins: Plugins, final: Path, task: int) -> Made:
    """Make one shard, in another process."""
    plugins.use()
    return make_shard(final, task)


def _start(parent: int) -> None:
    """Begin a worker: Ctrl-C is the parent's to handle, and no worker outlives a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    may_die()


def _bar(total: int, *, show: bool) -> Any:
    from tqdm import tqdm

    terminal = sys.stderr is not None and sys.stderr.isatty()  # a program without a console has none
    return tqdm(total=total, unit=" crystals", desc="building graphs", disable=not (show and terminal), smoothing=0.1)
