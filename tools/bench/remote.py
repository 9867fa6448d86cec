"""How fast is a dataset on a server, the first time and the second, compared with LitData and Hugging Face datasets?

    tools/bench/remote.py --graphs 200000 --json remote.json

A web server in a process of its own sends 100 MB a second, with 20 ms for every request. Each contestant reads the same
graphs from it, shuffled, as PyG batches of 64: lazygraph and Hugging Face datasets over HTTP, LitData through the
interface of S3 at the same server. Each runs in a new process with an empty cache, and reads two epochs. The bytes are
counted by the server. The peers read fewer of the graphs, because they are slower.

Then lazygraph alone: what opening, one graph, 1 percent of the graphs, and all shards transfer, and 16 processes that
open the dataset at once.

The peers are left out if they are not installed: pip install datasets litdata
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import in_turn, parser, publish

ROOT = Path(__file__).resolve().parents[2]
RATE, DELAY = 100e6, 0.02  # bytes a second, and seconds of a request
FIELDS = ("x", "pos", "edge_index", "edge_attr", "y")

EPOCHS = """
import json, os, sys, time
sys.path.insert(0, {bench!r})
from remote import {reader}
begin = time.perf_counter()
opened = {reader}(sys.argv[1])
seconds, graphs = [], []
for _ in range(2):
    started = time.perf_counter()
    graphs.append(sum(batch.num_graphs for batch in opened()))
    seconds.append(time.perf_counter() - started)
    if os.environ.get("MARK"):
        open(os.environ["MARK"], "a").write("epoch\\n")
        time.sleep(0.3)
print(json.dumps({{"seconds": seconds, "graphs": graphs}}))
"""


# ---- the contestants; each gives a function that yields the batches of the next epoch ----


def lazygraph_reader(url):
    import lazygraph as lg

    loader = lg.loader(lg.LazyGraphDataset(url, target="density"), 64, shuffle=True)
    return lambda: loader


def datasets_reader(url):
    """Parquet files, streamed; a buffer of 10,000 graphs is shuffled. Its documentation streams so from the Hub."""
    import datasets
    import numpy as np
    import torch
    from torch_geometric.data import Batch, Data

    names = json.loads(os.environ["FILES"])
    stream = datasets.load_dataset("parquet", data_files=[f"{url}/{name}" for name in names], streaming=True)["train"]
    shuffled = stream.shuffle(seed=0, buffer_size=10_000)

    def graph(row):
        arrays = {name: np.array(row[name], np.int64 if name in ("x", "edge_index") else np.float32) for name in FIELDS}
        return Data(**{name: torch.from_numpy(value) for name, value in arrays.items()})

    def epoch():
        graphs = []
        for row in shuffled:
            graphs.append(graph(row))
            if len(graphs) == 64:
                yield Batch.from_data_list(graphs)
                graphs = []
        if graphs:
            yield Batch.from_data_list(graphs)

    return epoch


def litdata_reader(url):
    """Chunks of 16 MB, as ``optimize`` makes them, in shuffled order, and shuffled within."""
    import litdata
    from litdata.streaming import downloader
    from torch_geometric.data import Batch, Data

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # the server of the benchmark has no TLS
    options = {"endpoint_url": url.rpartition("/")[0], "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    stream = litdata.StreamingDataset(
        f"s3://{url.rpartition('/')[2]}", shuffle=True, storage_options=options, cache_dir=os.environ["CACHE"]
    )
    return lambda: litdata.StreamingDataLoader(
        stream, batch_size=64, collate_fn=lambda rows: Batch.from_data_list([Data(**row) for row in rows])
    )


# ---- the data ----


def make(folder, graphs):
    import lazygraph as lg

    path = folder / "graphs.lg"
    lg.write(f"prototypes:{graphs}?seed=0", path, graph="cgcnn", workers=2, progress=False)
    return path


def make_parquet(path, folder, graphs):
    import pyarrow as pa
    from pyarrow import parquet

    import lazygraph as lg

    folder.mkdir()
    ds = lg.LazyGraphDataset(path, target="density")[:graphs]
    names = []
    for start in range(0, len(ds), 20_000):
        rows = [{name: graph[name].numpy().tolist() for name in FIELDS} for graph in ds[start : start + 20_000]]
        names.append(f"{start:07d}.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), folder / names[-1], compression="zstd")
    return names


LITDATA = """
import sys
import litdata
import lazygraph as lg
sys.path.insert(0, {bench!r})
from remote import FIELDS

def row(k):
    graph = ds[k]
    return {{name: graph[name].clone() for name in FIELDS}}

ds = lg.LazyGraphDataset(sys.argv[1], target="density")
if __name__ == "__main__":
    rows, options = list(range(int(sys.argv[3]))), {{"chunk_bytes": "16MB", "num_workers": 2, "compression": "zstd"}}
    litdata.optimize(row, rows, sys.argv[2], **options)
"""


def make_litdata(path, folder, graphs):
    script = folder.parent / "make_litdata.py"
    script.write_text(LITDATA.format(bench=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, script, path, folder, str(graphs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- measuring ----


def run_epochs(reader, url, web, environment):
    """Graphs a second and bytes of two epochs in a new process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        mark = Path(cache) / "mark"
        variables = os.environ | environment | {
            "LAZYGRAPH_CACHE": f"{cache}/lg", "HF_HOME": f"{cache}/hf", "CACHE": f"{cache}/lit", "MARK": str(mark),
        }  # fmt: skip
        web.log()
        script = EPOCHS.format(bench=str(Path(__file__).parent), reader=reader)
        process = subprocess.Popen(
            [sys.executable, "-c", script, url],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not mark.exists():
            time.sleep(0.02)
        first = sum(entry["sent"] for entry in web.log())
        out, said = process.communicate()
        assert process.returncode == 0, said
        second = sum(entry["sent"] for entry in web.log())
    told = json.loads(out.splitlines()[-1])
    assert told["graphs"][0] == told["graphs"][1]
    return {
        "graphs": told["graphs"][0],
        "first": told["graphs"][0] / told["seconds"][0], "second": told["graphs"][1] / told["seconds"][1],
        "line": first / told["seconds"][0] / RATE, "first_mb": first / 1e6, "second_mb": second / 1e6,
    }  # fmt: skip


def local_epoch(path):
    """Graphs a second of the same dataset in a folder, in a new process."""
    script = EPOCHS.format(bench=str(Path(__file__).parent), reader="lazygraph_reader")
    out = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True).stdout
    told = json.loads(out.splitlines()[-1])
    return {
        "graphs": told["graphs"][0],
        "first": told["graphs"][0] / told["seconds"][0],
        "second": told["graphs"][1] / told["seconds"][1],
    }


def parts(url, web, size):
    """What lazygraph transfers for less than everything: requests, bytes, seconds."""
    script = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import lazygraph as lg
from lazygraph.loading.read_ahead import FETCHES
what = sys.argv[2]
lg.LazyGraphDataset, lg.loader  # whose import takes seconds
begin = time.perf_counter()
ds = lg.LazyGraphDataset(sys.argv[1], target="density")
if what == "one graph":
    ds[len(ds) // 2]
elif what == "a second graph":
    ds[len(ds) // 2]
    begin = time.perf_counter()
    ds[len(ds) // 3]
elif what.startswith("1 percent"):
    chosen = np.arange(0, len(ds), 100)
    begin = time.perf_counter()
    for batch in lg.loader(ds[chosen], 64):
        pass
elif what == "all shards, downloaded only":
    files = [shard.file for shard in ds.manifest.shards]
    begin = time.perf_counter()
    with ThreadPoolExecutor(FETCHES) as pool:
        for descriptor in pool.map(ds.storage.descriptor, files):
            os.close(descriptor)
print(time.perf_counter() - begin)
"""
    found = {}
    for what in ("opening", "one graph", "a second graph", "1 percent, scattered", "all shards, downloaded only"):
        with tempfile.TemporaryDirectory() as cache:
            web.log()
            done = subprocess.run(
                [sys.executable, "-c", script, url, what], check=True, capture_output=True, text=True,
                env=os.environ | {"LAZYGRAPH_CACHE": cache},
            )  # fmt: skip
            log = web.log()
        shards = sum(entry["sent"] for entry in log if "/shards/" in entry["path"])
        seconds = float(done.stdout)
        found[what] = {
            "seconds": seconds, "share of bandwidth": shards / seconds / RATE, "requests": len(log),
            "kilobytes": sum(entry["sent"] for entry in log) / 1e3, "percent of shards": 100 * shards / size,
        }  # fmt: skip
    return found


def together(url, web, processes):
    """How often each file crosses the line when so many processes read the dataset at once."""
    script = EPOCHS.format(bench=str(Path(__file__).parent), reader="lazygraph_reader")
    with tempfile.TemporaryDirectory() as cache:
        variables = os.environ | {"LAZYGRAPH_CACHE": cache, "OMP_NUM_THREADS": "1"}
        web.log()
        children = [
            subprocess.Popen([sys.executable, "-c", script, url], env=variables, stdout=subprocess.DEVNULL)
            for _ in range(processes)
        ]
        assert not any(child.wait() for child in children)
        log = [entry for entry in web.log() if entry["sent"]]
    return {"different files": len({entry["path"] for entry in log}), "transfers": len(log)}


def main():
    options_parser = parser(__doc__, repeats=3)
    options_parser.add_argument("--graphs", type=int, default=200_000)
    options_parser.add_argument("--peer-graphs", type=int, default=20_000, help="graphs that the peers read")
    options_parser.add_argument("--processes", type=int, default=16)
    options = options_parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    import lazygraph as lg
    from tests.servers.started import web_server

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = make(folder, options.graphs)
        few_graphs = min(options.peer_graphs, options.graphs)
        shards = sum(shard.file.size for shard in lg.LazyGraphDataset(path).manifest.shards)
        with web_server(folder, folder) as web:
            contestants = {"lazygraph": lambda: run_epochs("lazygraph_reader", f"{web.url}/graphs.lg", web, {})}
            if importlib.util.find_spec("datasets"):
                files = {"FILES": json.dumps(make_parquet(path, folder / "parquet", few_graphs))}
                contestants["datasets"] = lambda: run_epochs("datasets_reader", f"{web.url}/parquet", web, files)
            if importlib.util.find_spec("litdata"):
                make_litdata(path, folder / "litdata", few_graphs)
                contestants["LitData"] = lambda: run_epochs("litdata_reader", f"{web.url}/litdata", web, {})
            web.fault("line", delay=DELAY, rate=RATE)
            contestants["lazygraph, in a folder"] = lambda: local_epoch(path)
            runs = in_turn(contestants, options.repeats)
            few = parts(f"{web.url}/graphs.lg", web, shards)
            web.fault("line")
            many = together(f"{web.url}/graphs.lg", web, options.processes)
    names = {
        "graphs": "graphs", "first": "graphs/s, first epoch", "line": "share of bandwidth",
        "first_mb": "MB, first epoch", "second": "graphs/s, second epoch", "second_mb": "MB, second epoch",
    }  # fmt: skip
    table = {
        contestant: {
            names[key]: statistics.median(run[key] for run in found) for key in names if key in found[0]
        }
        for contestant, found in runs.items()
    }  # fmt: skip
    publish(
        __doc__, options,
        {"Epochs over the network": table, "Reading a part": few,
         f"{options.processes} processes at once": {"files that were sent": many}},
    )  # fmt: skip


if __name__ == "__main__":
    main()
