"""Executors of Dask, Ray and MPI: a few lines each over the engine, which is imported when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from lazygraph.errors import InputError, MissingExtra
from lazygraph.executors.cluster import PATIENCE, ClusterExecutor

__all__ = ["dask", "mpi", "ray"]


def dask(client_or_address: Any, *, patience: float = PATIENCE) -> ClusterExecutor:
    """Make shards with the workers of a Dask cluster.

    Give the workers one thread each: building graphs is Python code, which threads of one process do in turns.

    Args:
        client_or_address: a ``distributed.Client``, a cluster such as ``LocalCluster``, or the address of a scheduler
            such as ``"tcp://host:8786"``. A client that is made here is closed by ``shutdown``.
        patience: seconds without a sign of life of any worker after which a write ends with an error (default 3600).

    Returns:
        The executor, for ``lazygraph.write(..., executor=)``.

    Raises:
        MissingExtra: Dask is not installed.

    Example:
        >>> import lazygraph as lg
        >>> lg.write("mp.json", "mp.lg", executor=lg.executors.dask("tcp://host:8786"))  # doctest: +SKIP
    """
    distributed = _engine("distributed", "dask", "Dask")
    own = not isinstance(client_or_address, distributed.Client)
    client = distributed.Client(client_or_address) if own else client_or_address
    # Not pure: Dask would take the result of a shard of an earlier write, whose files may be gone.
    executor = client.get_executor(pure=False)
    return ClusterExecutor(executor, partial(_dask_threads, client), patience, client.close if own else None)


def ray(address: str | None = None, *, patience: float = PATIENCE, **options: Any) -> ClusterExecutor:
    """Make shards with the workers of a Ray cluster.

    Args:
        address: the cluster, as ``ray.init`` takes it. None uses the connection that this process has, or the cluster
            of ``RAY_ADDRESS``, or starts Ray on this machine. A connection that is made here is closed by ``shutdown``.
        patience: seconds without a sign of life of any worker after which a write ends with an error (default 3600).
        **options: of each task, as ``ray.remote`` takes them, such as ``num_cpus=1`` or ``max_retries=3``.

    Returns:
        The executor, for ``lazygraph.write(..., executor=)``.

    Raises:
        MissingExtra: Ray is not installed.

    Example:
        >>> import lazygraph as lg
        >>> lg.write("mp.json", "mp.lg", executor=lg.executors.ray("auto"))  # doctest: +SKIP
    """
    engine = _engine("ray", "ray", "Ray")
    own = not engine.is_initialized()
    if own or address is not None:
        engine.init(address, log_to_driver=False)
    each = float(options.get("num_cpus", 1))
    workers = partial(_ray_workers, engine, each)
    return ClusterExecutor(_RayExecutor(engine, options), workers, patience, engine.shutdown if own else None)


def mpi(max_workers: int | None = None, *, patience: float = PATIENCE) -> ClusterExecutor:
    """Make shards with the processes of an MPI job, by ``mpi4py.futures``.

    Start the script with ``mpiexec -n N python -m mpi4py.futures SCRIPT``. One process runs the script, and the others
    make shards.

    Args:
        max_workers: start so many processes instead, where MPI can (``MPI_Comm_spawn``); for a script that was started
            without mpiexec.
        patience: seconds without a sign of life of any worker after which a write ends with an error (default 3600).

    Returns:
        The executor, for ``lazygraph.write(..., executor=)``.

    Raises:
        MissingExtra: mpi4py or MPI is not installed.
        InputError: this is one process of several that all run the script, or the only one.

    Example:
        >>> import lazygraph as lg
        >>> lg.write("mp.json", "mp.lg", executor=lg.executors.mpi())  # doctest: +SKIP
    """
    _engine("mpi4py", "mpi", "MPI")
    try:
        world = importlib.import_module("mpi4py.MPI").COMM_WORLD
    except (ImportError, RuntimeError) as error:
        msg = f"mpi4py found no MPI library ({error}); install one, such as Debian's openmpi-bin, or load its module"
        raise MissingExtra(msg) from error
    started = "start the script with 'mpiexec -n N python -m mpi4py.futures SCRIPT'"
    if world.Get_rank() > 0:
        msg = f"process {world.Get_rank()} of an MPI job runs the script too; {started}, so that one process does"
        raise InputError(msg)
    if max_workers is None and world.Get_size() == 1:
        msg = f"this is the only process of its MPI job; {started}, or give max_workers to start processes"
        raise InputError(msg)
    futures = importlib.import_module("mpi4py.futures")
    # Workers need nothing of the script, which would begin a write of its own if it has no __main__ guard.
    pool = futures.MPIPoolExecutor(max_workers, main=False)
    return ClusterExecutor(pool, lambda: int(pool.num_workers), patience)


def _engine(module: str, extra: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        msg = f'the executor of {name} needs a package that is not installed: pip install "lazygraph[{extra}]"'
        raise MissingExtra(msg) from error


def _dask_threads(client: Any) -> int:
    try:
        return sum(client.nthreads().values())
    except Exception:  # noqa: BLE001  # a scheduler that cannot be asked has no workers
        return 0


def _ray_workers(engine: Any, each: float) -> int:
    """How many tasks the CPUs of the cluster take; Ray starts worker processes when it needs them."""
    try:
        cpus = float(engine.cluster_resources().get("CPU", 0))
    except Exception:  # noqa: BLE001  # a cluster that cannot be asked has no workers
        return 0
    return int(cpus // each) if each else int(cpus)


class _RayExecutor(Executor):
    """Tasks of Ray as futures."""

    def __init__(self, engine: Any, options: dict[str, Any]) -> None:
        self._engine = engine
        self._call = engine.remote(**options)(_call) if options else engine.remote(_call)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call the function in a worker."""
        reference = self._call.remote(function, arguments, options)
        future = _RayFuture(partial(self._engine.cancel, reference))
        reference.future().add_done_callback(future.take)
        return future


class _RayFuture(Future[Any]):
    """The outcome of a task of Ray, with the task's own error in place of Ray's."""

    def __init__(self, stop: Callable[[], object]) -> None:
        super().__init__()
        self._stop = stop

    def cancel(self) -> bool:
        """Interrupt the task, whether it runs or waits."""
        cancelled = super().cancel()
        if cancelled:
            self._stop()
        return cancelled

    def take(self, done: Future[Any]) -> None:
        """Take the outcome over."""
        if self.cancelled():
            return
        error = done.exception()
        if error is None:
            self.set_result(done.result())
        else:
            # An error of the task is the cause of a RayTaskError; others have none.
            cause = getattr(error, "cause", None)
            self.set_exception(cause if isinstance(cause, Exception) else error)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return function(*arguments, **options)
