"""Many shards at once: in worker processes or by an executor, of which some may die."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NamedTuple

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

# BLAS and OpenMP would start a thread pool in every worker for arrays of a few hundred numbers.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MOST_FRUITLESS = 3  # deaths in a row, with nothing done in between, after which a run gives up
MOST_DEATHS = 64  # of a run, whatever is done in between
WINDOW = 256  # shards in hand of an executor that does not say how many workers it has
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
        inputs: how many inputs each shard of the plan has, for the display.
        workers: worker processes; None takes one per usable CPU, 1 works in this process.
        executor: runs the shards instead, wherever it runs them; it must see the same files.
        progress: show rate, time left and quarantined inputs on stderr: a bar in a terminal or a notebook, else a line
            a minute.

    Raises:
        WorkerDied: worker processes died again and again, the executor broke, or its workers are gone.
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
    """The shards, made by an executor. A shard whose worker died is submitted again.

    Raises:
        WorkerDied: the executor broke, its workers are gone, or they die at one shard again and again.
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
    finally:  # the executor belongs to the caller, and would make the remaining shards
        window.cancel()


def _room(executor: Executor) -> int:
    """How many shards an executor may have in hand.

    Few where that suffices: it holds what it was given, and makes it even where this process has ended. But enough for
    a cluster that starts workers because there is work.
    """
    workers = known_workers(executor)
    return WINDOW if workers is None else max(LEAST, 4 * workers)


def _outlived(final: Path, tasks: list[int], workers: int, tick: Callable[[], None]) -> Iterator[Made]:
    """The shards, made by worker processes of which some may die: new ones then go on.

    Raises:
        WorkerDied: they die again and again, and neither a shard is finished in between nor a killing input found.
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
    """Deaths of workers, and when a run gives up: one that makes headway may have many, one that makes none few.

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
        """Note that a shard was finished by workers that may each make any of the shards."""
        self._fruitless.clear()

    def another(self, task: int | None, error: Exception, left: int) -> None:
        """Count a death.

        Args:
            task: the shard at which a worker died; None where that is not known.
            error: what told of it.
            left: how many shards are not made.

        Raises:
            WorkerDied: there were too many, and neither a shard finished in between nor an input found that kills.
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
def processes(workers: int) -> Iterator[Executor]:
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
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
