"""What the errors of engines mean: a worker died, or the engine is gone.

They are told by name, so that no engine is imported. The names are those of Dask 2026.8, Ray 2.60, parsl 2026.10,
executorlib 1.11 and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from lazygraph.errors import LazyGraphError

__all__ = ["Lost", "what_was_lost"]


class Lost(Enum):
    """What an error of an engine says is gone."""

    WORKER = auto()
    """The process that made one shard. The engine goes on, and another worker can make the shard."""
    ENGINE = auto()
    """The executor. It takes no more work."""


# First part of the name of the module -> names of classes.
_NAMES = {
    Lost.WORKER: {
        "distributed": {"KilledWorker"},
        "ray": {
            "ActorDiedError", "LocalRayletDiedError", "NodeDiedError", "ObjectLostError", "OutOfMemoryError",
            "RayActorError", "WorkerCrashedError",
        },
        "parsl": {"ManagerLost", "WorkerLost"},
        "executorlib": {"ExecutorlibSocketError"},
    },
    Lost.ENGINE: {
        "concurrent": {"BrokenExecutor", "CancelledError"},
        "distributed": {"CommClosedError", "FutureCancelledError", "FuturesCancelledError"},
        "parsl": {"BadStateException", "ExecutorError"},
        "ray": {"RaySystemError"},
    },
}  # fmt: skip


def what_was_lost(error: BaseException) -> Lost | None:
    """What an error of a task says is gone; None for any other error, such as one of the task itself."""
    for one in _chain(error):
        if isinstance(one, LazyGraphError):
            return None
        for lost, engines in _NAMES.items():
            if any(kind.__name__ in engines.get(kind.__module__.split(".")[0], ()) for kind in type(one).__mro__):
                return lost
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from; Ray keeps one as ``cause``."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        cause = one.__cause__ or getattr(one, "cause", None)
        one = cause if isinstance(cause, BaseException) else None
