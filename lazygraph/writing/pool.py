"""Making of shards in parallel, in worker processes or by an executor. Workers may die."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

from lazygraph import windows
from lazygraph.errors import StorageError, WorkerDied
from lazygraph.executors.cluster import known_workers, patience_of
from lazygraph.executors.failures import Lost, what_was_lost
from lazygraph.graphs.presets import PRESET_REGISTRY
from lazygraph.graphs.rules import presets_needed
from lazygraph.machine import die_with, usable_cpus
from lazygraph.sources.detect import SOURCE_REGISTRY
from lazygraph.sources.time_limit import may_die
from lazygraph.text import printable, shortened
from lazygraph.writing.crash_isolation import poison_inputs
from lazygraph.writing.layout import Layout
from lazygraph.writing.plan import Plan
from lazygraph.writing.progress import progress as show_progress
from lazygraph.writing.signs_of_life import SignsOfLife
from lazygraph.writing.window import Window
from lazygraph.writing.worker import Made, make_shard

__all__ = ["make_shards", "processes"]

# Without this, BLAS and OpenMP start threads in every worker, for arrays of a few hundred numbers.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MOST_FRUITLESS = 3  # a run gives up after so many deaths in a row without progress
MOST_DEATHS = 64  # a run gives up after so many deaths, even with progress
WINDOW = 256  # shards that an executor gets at a time if it does not say how many workers it has
LEAST = 32  # and of one that says so
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
        inputs: the number of inputs of each shard of the plan, for the display.
        workers: worker processes; None takes one per usable CPU, 1 works in this process.
        executor: runs the shards instead. Its workers must see the same files.
        progress: show rate, time left and quarantined inputs on stderr: a bar in a terminal or a notebook, else a line
            a minute.

    Raises:
        WorkerDied: too many worker processes died, the executor broke, or its workers are gone.
    """
    pending = list(tasks)
    display = show_progress(len(pending), sum(inputs[task] for task in pending), show=progress)
    made = []
    try:
        for result in _run(final, pending, workers, executor, display.tick):
            made.append(result)
            display.made(inputs[result.task], result.quarantined)
    finally:
        display.close()
    return made


def _run(
    final: Path, tasks: list[int], workers: int | None, executor: Executor | None, tick: Callable[[], None]
) -> Iterator[Made]:
    if executor is not None:
        yield from _elsewhere(final, tasks, executor, tick)
    elif (workers := min(workers or usable_cpus(), len(tasks))) <= 1:
        for task in tasks:
            yield make_shard(final, task)
    else:
        yield from _outlived(final, tasks, workers, tick)


def _elsewhere(final: Path, tasks: list[int], executor: Executor, tick: Callable[[], None]) -> Iterator[Made]:
    """Make shards by an executor. A shard whose worker died is submitted again.

    Raises:
        WorkerDied: the executor broke, its workers are gone, or too many of them die at one shard.
    """
    layout = Layout.of(final)
    plan = Plan.load(layout)
    signs = SignsOfLife(layout, patience_of(executor), plan.max_seconds)
    deaths = _Deaths(layout, plan, tasks)
    plugins = Plugins.of(plan)
    window = Window(lambda task: executor.submit(_make_shard, plugins, final, task), tasks, partial(_room, executor))

    def wait() -> None:
        tick()
        signs.check(partial(known_workers, executor))

    try:
        for task, future in window.finished(wait):
            signs.seen()
            try:
                made = future.result()
            except Exception as error:
                if what_was_lost(error) is not Lost.WORKER:
                    raise
                window.again(task)
                deaths.another(task, error, window.unfinished)
            else:
                yield made
    except Exception as error:
        if what_was_lost(error) is None:
            raise
        msg = f"the executor broke: a worker process died, or its engine ended ({_named(error)}). {KEPT}"
        raise WorkerDied(msg) from error
    finally:  # the executor belongs to the caller, and would otherwise make the remaining shards
        window.cancel()


def _room(executor: Executor) -> int:
    """Return how many shards an executor may hold at a time.

    The number is small, because an executor makes its shards even if this process has ended. It is large enough for a
    cluster that starts workers only if there is work.
    """
    workers = known_workers(executor)
    return WINDOW if workers is None else max(LEAST, 4 * workers)


def _outlived(final: Path, tasks: list[int], workers: int, tick: Callable[[], None]) -> Iterator[Made]:
    """Make shards by worker processes. New processes replace those that die.

    Raises:
        WorkerDied: too many processes die without a finished shard, or an input that is found to kill them.
    """
    layout = Layout.of(final)
    plan = Plan.load(layout)
    plugins = Plugins.of(plan)
    waiting = dict.fromkeys(tasks)
    deaths = _Deaths(layout, plan, tasks)
    while waiting:
        try:
            with processes(min(workers, len(waiting))) as pool:
                submit = _submitting(pool, plugins, final)
                for task, future in Window(submit, waiting, lambda: 4 * workers).finished(tick):
                    made = future.result()
                    del waiting[task]
                    deaths.forget()
                    yield made
        except BrokenProcessPool as error:
            deaths.another(None, error, len(waiting))


def _submitting(pool: Executor, plugins: Plugins, final: Path) -> Callable[[int], Future[Made]]:
    def submit(task: int) -> Future[Made]:
        with _interrupts_wait():
            return pool.submit(_make_shard, plugins, final, task)

    return submit


class _Deaths:
    """The deaths of workers, and the decision to give up. A run that makes progress may have more deaths.

    Args:
        layout: where the dataset is made.
        plan: its plan.
        tasks: the shards of the run.
    """

    def __init__(self, layout: Layout, plan: Plan, tasks: list[int]) -> None:
        self._notes = [layout.at(task, plan.digest) for task in tasks]
        self._fruitless: Counter[int | None] = Counter()
        self._deaths = self._found = 0

    def forget(self) -> None:
        """Note a finished shard, made by workers that may each make any shard."""
        self._fruitless.clear()

    def another(self, task: int | None, error: Exception, left: int) -> None:
        """Count a death.

        Args:
            task: the shard at which a worker died; None if that is not known.
            error: the error that reported the death.
            left: the number of shards that are not made.

        Raises:
            WorkerDied: there were too many deaths without a finished shard or an input that is found to kill workers.
        """
        found = sum(len(poison_inputs(notes)) for notes in self._notes)
        self._fruitless[task] = 1 if found > self._found else self._fruitless[task] + 1
        self._found, self._deaths = found, self._deaths + 1
        if self._fruitless[task] > MOST_FRUITLESS or self._deaths > MOST_DEATHS:
            where = "" if task is None else f", last at shard {task} ({_named(error)})"
            msg = (
                f"worker processes died {self._deaths} times{where}, most often because memory ran out; {found} inputs "
                f"were found that kill them, and {left} of {len(self._notes)} shards are not written. {KEPT}"
            )
            raise WorkerDied(msg) from error


def _named(error: Exception) -> str:
    return shortened(printable(f"{type(error).__name__}: {error}"), 300)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Block Ctrl-C while worker processes start. They inherit the mask, and so never see the signal.

    A terminal sends Ctrl-C to workers too, and a worker that still imports would print a traceback.
    """
    if sys.platform == "win32":  # where a signal cannot wait: it is lost
        windows.ignore_ctrl_c(ignored=True)
        try:
            yield
        finally:
            windows.ignore_ctrl_c(ignored=False)
    else:
        resource_tracker.ensure_running()  # it unblocks the signal when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """Return an executor whose workers do not fork this process or run its script again, and end with it."""
    from loky import ProcessPoolExecutor

    try:
        pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(os.getpid(),), env=SINGLE_THREADED)
    except OSError as error:
        msg = (
            f"cannot start worker processes: {error.strerror or error}; they need semaphores (on Linux in /dev/shm) "
            f"and a few file descriptors (ulimit -n): make room, or work in one process (workers=1, "
            f"--workers 1). {KEPT}"
        )
        raise StorageError(msg) from error
    try:
        yield pool
    finally:
        # The workers have no work that counts. A polite request could block for ever, because a killed worker may hold
        # the lock of the queue.
        pool.shutdown(wait=True, kill_workers=True)


class Plugins(NamedTuple):
    """The plug-ins in use that a plan needs. Worker processes import them. A plan itself imports nothing."""

    presets: tuple[str, ...]
    formats: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> Plugins:
        """Return the plug-ins of the recipe and of the sources."""
        kinds = {source["source"]["kind"] for source in plan.sources}
        return cls(presets_needed(plan.recipe), tuple(name for name in SOURCE_REGISTRY.used() if name in kinds))

    def use(self) -> None:
        """Import the plug-ins in this process."""
        PRESET_REGISTRY.use(self.presets)
        SOURCE_REGISTRY.use(self.formats)


def _make_shard(plugins: Plugins, final: Path, task: int) -> Made:
    """Make one shard, in another process."""
    plugins.use()
    return make_shard(final, task)


def _start(parent: int) -> None:
    """Start a worker. The parent handles Ctrl-C, and a worker ends if its parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    may_die()
    gc.freeze()  # imported objects stay, so the garbage collector need not visit them
