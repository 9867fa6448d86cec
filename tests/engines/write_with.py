"""Writes a dataset with an engine: ENGINE, NAME.lg, and what is written (crystals, poison or other)."""

import os
import signal
import sys
from pathlib import Path

import lazygraph as lg

# Where the tests run in the background, SIGINT is ignored, and children inherit that: Ctrl-C is set as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

SOURCE = "prototypes:400?seed=3"
SHARD = 16


def dask_local():
    from distributed import LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    return lg.executors.dask(cluster)


def dask():
    return lg.executors.dask(os.environ["SCHEDULER"], patience=float(os.environ.get("PATIENCE", "600")))


def ray():
    import ray as engine

    engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    return lg.executors.ray()


def parsl():
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    workers = HighThroughputExecutor(
        label="workers", address="127.0.0.1", encrypted=False, max_workers_per_node=2, provider=provider,
        heartbeat_period=2, heartbeat_threshold=5,
    )  # fmt: skip
    return ParslPoolExecutor(Config(executors=[workers], run_dir=os.environ["TMPDIR"]))


def executorlib():
    from executorlib import SingleNodeExecutor

    return SingleNodeExecutor(max_workers=2, block_allocation=True, restart_limit=5)


def mpi():
    return lg.executors.mpi()


def items():
    """144 crystals in shards of 8, of which number 10 has three atoms; the samples of a plan do not reach it."""

    def crystal(n):
        atoms = 3 if n == 10 else 2
        cell = [[4 + 0.01 * n, 0, 0], [0, 4, 0], [0, 0, 4.0]]
        return lg.Crystal(cell, [[k / atoms, 0.1, 0.2] for k in range(atoms)], [11] * atoms)

    return [(f"id-{n}", crystal(n)) for n in range(144)]


def arguments(what):
    """What is written, and how."""
    return {
        "crystals": (SOURCE, {"shard_size": SHARD}),
        "other": (SOURCE, {"shard_size": SHARD, "graph": "cgcnn"}),
        "poison": (items(), {"shard_size": 8}),
    }[what]


def main():
    engine, path, what = sys.argv[1:]
    source, options = arguments(what)
    with globals()[engine]() as executor:
        try:
            report = lg.write(source, Path(path), executor=executor, **options)
        except BaseException as error:
            print("ERROR", type(error).__name__, error, flush=True)
            os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)  # engines may hang when they are left so
        print("REPORT", report.written, report.quarantined, flush=True)


if __name__ == "__main__":
    main()
