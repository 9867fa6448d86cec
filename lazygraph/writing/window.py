"""The class ``Window``, which gives an executor a bounded number of tasks at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Window"]

T = TypeVar("T")
TICK = 1.0  # s between two calls of ``tick`` while nothing finishes


class Window(Generic[T]):
    """A window of submitted tasks. New tasks are submitted when others finish.

    Args:
        submit: submits a task to the executor.
        tasks: the numbers of the tasks.
        room: returns how many tasks the executor may hold now; it always holds at least one.
    """

    def __init__(self, submit: Callable[[int], Future[T]], tasks: Iterable[int], room: Callable[[], int]) -> None:
        self._submit, self._room = submit, room
        self._waiting = deque(tasks)
        self._running: dict[Future[T], int] = {}

    @property
    def unfinished(self) -> int:
        """The number of tasks that wait or are submitted."""
        return len(self._waiting) + len(self._running)

    def again(self, task: int) -> None:
        """Submit a task again, after all others."""
        self._waiting.append(task)

    def finished(self, tick: Callable[[], None]) -> Iterator[tuple[int, Future[T]]]:
        """Yield every task with its finished future, in the order in which they finish.

        Args:
            tick: called about once a second, and after every finished task.
        """
        while self._waiting or self._running:
            room = max(1, self._room()) if self._waiting else 0
            while self._waiting and len(self._running) < room:
                task = self._waiting.popleft()
                self._running[self._submit(task)] = task
            done, _ = wait(self._running, timeout=TICK, return_when=FIRST_COMPLETED)
            for future in done:
                yield self._running.pop(future), future
            tick()

    def cancel(self) -> None:
        """Cancel tasks that have not begun, if the executor can."""
        for future in self._running:
            with suppress(Exception):  # parsl raises NotImplementedError, and an engine may be gone
                future.cancel()
