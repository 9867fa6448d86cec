"""One dataset in many processes and threads: fork, spawn, forkserver, opened before and after, and after pickling."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

import lazygraph as lg


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("processes") / "p.lg"
    lg.write("prototypes:200?seed=4", out, graph=lg.graph("shell", max_neighbors=8), workers=1, shard_size=32)
    return out


def graphs(ds, rows):
    """The bits of some graphs."""
    keys = ("x", "edge_index", "edge_attr", "images", "pos", "cell")
    return [(data.id, *(data[key].numpy().tobytes() for key in keys)) for data in ds.__getitems__(rows)]


def child(ds, rows, queue):
    queue.put(graphs(ds, rows))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("opened", [True, False], ids=["opened before", "opened in the child"])
def test_start_methods_give_the_same_graphs(path, method, opened):
    ds = lg.LazyGraphDataset(path)
    rows = [150, 3, 77, 199, 0]
    expected = graphs(lg.LazyGraphDataset(path), rows)
    if opened:
        ds[0], ds[199]
    context = get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=child, args=(ds, rows, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert results == [expected, expected]
    # the parent goes on reading through the same descriptors
    assert graphs(ds, rows) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pygs_loader_with_workers_sees_every_graph_once(path, method):
    ds = lg.LazyGraphDataset(path)
    ds[5]
    loader = DataLoader(ds, batch_size=32, shuffle=True, num_workers=2, multiprocessing_context=method)
    assert sorted(i for batch in loader for i in batch.id) == sorted(ds.ids.tolist())


def test_threads_share_one_dataset(path):
    ds = lg.LazyGraphDataset(path)
    rows = np.random.default_rng(0).integers(0, 200, (16, 100))
    fresh = lg.LazyGraphDataset(path)
    expected = [graphs(fresh, r) for r in rows]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda chosen: graphs(ds, chosen), rows)) == expected


@pytest.mark.slow
def test_a_loader_in_a_script_without_main_guard(path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import lazygraph as lg\nfrom torch_geometric.loader import DataLoader\n"
        f"ds = lg.LazyGraphDataset({str(path)!r})\n"
        "print(sum(b.num_graphs for b in DataLoader(ds, batch_size=50, num_workers=2)))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "200\n"


def test_reading_needs_no_write_permission_and_leaves_no_file(path, tmp_path):
    import shutil

    copy = tmp_path / "copy.lg"
    shutil.copytree(path, copy)
    before = sorted(p.relative_to(copy) for p in copy.rglob("*"))
    for folder in [copy, *copy.rglob("*")]:
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    try:
        ds = lg.LazyGraphDataset(copy)
        assert len([ds[i] for i in range(200)]) == 200
        assert sorted(p.relative_to(copy) for p in copy.rglob("*")) == before
    finally:
        for folder in [copy, *copy.rglob("*")]:
            folder.chmod(0o755)


@pytest.mark.slow
def test_private_memory_does_not_grow_with_a_pass(path):
    psutil = pytest.importorskip("psutil")
    ds = lg.LazyGraphDataset(path)
    order = torch.randperm(200).tolist()
    for row in order:
        ds[row]
    process = psutil.Process()
    before = process.memory_full_info().uss
    for _ in range(10):
        for row in order:
            ds[row]
    assert process.memory_full_info().uss - before < 20e6
