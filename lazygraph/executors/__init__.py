"""Executors for the engines of clusters, for ``lazygraph.write(..., executor=)``.

Each is a ``concurrent.futures.Executor``. Any other executor works too, such as the executors of parsl and executorlib.
``ClusterExecutor`` tells lazygraph how many workers an executor has, and how long they may give no sign of life.
"""

from lazygraph.executors.cluster import ClusterExecutor
from lazygraph.executors.engines import dask, mpi, ray

__all__ = ["ClusterExecutor", "dask", "mpi", "ray"]
