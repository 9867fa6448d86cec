"""``Window``: a bounded number of tasks in the hands of an executor at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Window"]

T = TypeVar("T")
TICK = 1.0  # s between two looks at the clock while nothing finishes


class Window(Generic[T]):
    """Submits tasks as others finish, and gives them in the order in which they finish.

    Args:
        submit: gives a task to the executor.
        tasks: their numbers.
        room: says how many tasks the executor may have in hand now; at least one is.
    """

    def __init__(self, submit: Callable[[int], Future[T]], tasks: Iterable[int], room: Callable[[], int]) -> None:
        self._submit, self._room = submit, room
        self._waiting = deque(tasks)
        self._running: dict[Future[T], int] = {}

    @property
    def unfinished(self) -> int:
        """How many tasks are waiting or in hand."""
        return len(self._waiting) + len(self._running)

    def again(self, task: int) -> None:
        """Submit a task once more, after all others."""
        self._waiting.append(task)

    def finished(self, tick: Callable[[], None]) -> Iterator[tuple[int, Future[T]]]:
        """Every task and its finished future.

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
        """Take back what has not begun, where the executor can."""
        for future in self._running:
            with suppress(Exception):  # parsl's raises NotImplementedError; an engine may be gone
                future.cancel()
