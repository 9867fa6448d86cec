"""``ClusterExecutor``: any executor, with what a write cannot find out about it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from lazygraph.errors import InputError

__all__ = ["PATIENCE", "ClusterExecutor", "known_workers", "patience_of"]

T = TypeVar("T")
PATIENCE = 3600.0
"""How long the workers of an executor may give no sign of life unless said, s."""


class ClusterExecutor(Executor):
    """Any executor, with the number of its workers and a limit on how long they may be silent.

    It passes tasks on. It starts nothing and owns the executor only if it closes it: leaving a ``with`` block, or
    ``shutdown``, shuts the executor down. It cannot be pickled. Threads may share it if they may share the executor.

    Args:
        executor: runs the shards, in processes that see the same files under the same paths and have the same packages.
        workers: how many shards it runs at once: a number, or a function that asks the engine and returns 0 while there
            is no worker. None where that is not known.
        patience: seconds after which a write ends with an error if no worker gave a sign of life (default 3600). A
            finished shard is one, and so is an input that a worker began to read. Give the time that workers may wait
            in the queue of a cluster, such as ``24 * 3600``.
        close: called once the executor is shut down, such as to close a connection that was opened for it.

    Raises:
        InputError: ``patience`` is not positive.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> folder = tempfile.TemporaryDirectory()
        >>> with lg.executors.ClusterExecutor(ThreadPoolExecutor(1), workers=1, patience=7200) as executor:
        ...     lg.write("prototypes:20?seed=0", folder.name + "/p.lg", executor=executor).written
        20
        >>> folder.cleanup()
    """

    def __init__(
        self,
        executor: Executor,
        workers: int | Callable[[], int] | None = None,
        patience: float = PATIENCE,
        close: Callable[[], object] | None = None,
    ) -> None:
        if not patience > 0:
            msg = f"found patience={patience}; required: a number of seconds above 0, or inf for no limit"
            raise InputError(msg)
        self._executor, self._workers, self._close = executor, workers, close
        self.patience = float(patience)

    def workers(self) -> int | None:
        """How many shards the executor runs at once now; None where that is not known."""
        return self._workers() if callable(self._workers) else self._workers

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> Future[T]:
        """Let the executor call the function."""
        return self._executor.submit(function, *arguments, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the executor down."""
        # Dask's knows no cancel_futures.
        self._executor.shutdown(wait=wait, **({"cancel_futures": True} if cancel_futures else {}))
        if self._close is not None:
            self._close()


def known_workers(executor: Executor) -> int | None:
    """How many shards an executor runs at once; None where it does not say."""
    if isinstance(executor, ClusterExecutor):
        return executor.workers()
    most = getattr(executor, "_max_workers", None)  # what pools of the standard library and of loky call it
    return most if isinstance(most, int) else None


def patience_of(executor: Executor) -> float:
    """How long the workers of an executor may give no sign of life, s."""
    return executor.patience if isinstance(executor, ClusterExecutor) else PATIENCE
