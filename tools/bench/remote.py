"""How fast is a dataset on a server, the first time and the second, compared with LitData and Hugging Face datasets?

    python tools/bench/remote.py --json remote.json
    python tools/bench/remote.py --graphs 3000 --where-graphs 5000 --repeats 1     (to see that it runs)
    python tools/bench/remote.py --tables parts where --json remote.json           (some of the tables)

A web server in a process of its own sends 100 MB a second, with 20 ms for every request. Each contestant reads the same
graphs from it, shuffled, as PyG batches of 64: lazygraph (records compressed, and not) and Hugging Face datasets over
HTTP, LitData through the interface of S3 at the same server. Each runs in a new process with an empty cache, and reads
two epochs. The bytes are counted by the server. The peers read fewer of the graphs, because they are slower.

Then lazygraph alone: what opening, one graph, 1 percent of the graphs, and all shards transfer; 16 processes that open
the dataset at once; the graphs of a larger dataset that a condition selects; and the push of a dataset to which 1
percent was appended, to a bucket of an S3 server (moto).

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


def make(path, graphs, seed=0, codec="zstd"):
    import lazygraph as lg

    lg.write(f"prototypes:{graphs}?seed={seed}", path, graph="cgcnn", codec=codec, workers=2, progress=False)
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


def by_condition(path, url, web):
    """What an epoch over the densest percent of the graphs transfers; they are scattered over all shards."""
    import numpy as np

    import lazygraph as lg

    ds = lg.LazyGraphDataset(path)
    condition = f"density > {float(np.quantile(np.asarray(ds.columns['density']), 0.99))!r}"
    script = """
import sys
import lazygraph as lg
chosen = lg.LazyGraphDataset(sys.argv[1], target="density").where(sys.argv[2])
for batch in lg.loader(chosen, 64):
    pass
print(len(chosen))
"""
    with tempfile.TemporaryDirectory() as cache:
        web.log()
        done = subprocess.run(
            [sys.executable, "-c", script, url, condition], check=True, capture_output=True, text=True,
            env=os.environ | {"LAZYGRAPH_CACHE": cache},
        )  # fmt: skip
        log = web.log()
    of_shards = sum(entry["sent"] for entry in log if "/shards/" in entry["path"])
    records = ds.where(condition).indices()
    lengths = int(ds._store.column("record")["length"][records].sum())
    shards = sum(shard.file.size for shard in ds.manifest.shards)
    return {
        "graphs": len(ds), "chosen": int(done.stdout), "requests": len(log),
        "MB of columns": (sum(entry["sent"] for entry in log) - of_shards) / 1e6, "MB of records": lengths / 1e6,
        "MB of shards sent": of_shards / 1e6, "percent of shards": 100 * of_shards / shards,
    }  # fmt: skip


def published(path, folder):
    """Bytes that arrive at a bucket: of a dataset, and of the same with 1 percent more graphs."""
    import shutil

    import s3fs

    import lazygraph as lg
    from tests.servers.started import s3_server

    copy = folder / "pushed.lg"
    shutil.copytree(path, copy)
    ds = lg.LazyGraphDataset(copy)
    labels = dict.fromkeys(ds.manifest.labels(), 1.0)
    more = [(f"added-{k}", ds.crystal(k), labels) for k in range(len(ds) // 100)]
    found, before = {}, {}
    with s3_server(folder) as environment:
        os.environ.update(environment)
        system = s3fs.S3FileSystem(endpoint_url=environment["AWS_ENDPOINT_URL"], skip_instance_cache=True)
        for what in ("the first push", "after an append of 1 percent"):
            if before:
                lg.append(copy, more, workers=1, progress=False)
            begin = time.perf_counter()
            report = lg.push(copy, "s3://bucket/graphs.lg", progress=False)
            seconds = time.perf_counter() - begin
            system.invalidate_cache()
            now = {name: told["size"] for name, told in system.find("bucket", detail=True).items()}
            # The manifest has the same name in both states.
            new = {name: size for name, size in now.items() if name not in before or name.endswith("manifest.json")}
            of_shards = sum(size for name, size in new.items() if "/shards/" in name)
            found[what] = {
                "graphs": report.graphs, "seconds": seconds, "MB of shards": of_shards / 1e6,
                "MB of columns and others": (sum(new.values()) - of_shards) / 1e6,
                "percent of shards": 100 * of_shards / sum(size for name, size in now.items() if "/shards/" in name),
            }  # fmt: skip
            before = now
    return found


def epochs(path, folder, web, options):
    """Two epochs of each contestant, in turns."""
    few_graphs = min(options.peer_graphs, options.graphs)
    larger = make(folder / "larger-records.lg", options.graphs, codec="none")
    contestants = {
        "lazygraph": lambda: run_epochs("lazygraph_reader", f"{web.url}/{path.name}", web, {}),
        "lazygraph, codec none": lambda: run_epochs("lazygraph_reader", f"{web.url}/{larger.name}", web, {}),
    }
    if importlib.util.find_spec("datasets"):
        files = {"FILES": json.dumps(make_parquet(path, folder / "parquet", few_graphs))}
        contestants["datasets"] = lambda: run_epochs("datasets_reader", f"{web.url}/parquet", web, files)
    if importlib.util.find_spec("litdata"):
        make_litdata(path, folder / "litdata", few_graphs)
        contestants["LitData"] = lambda: run_epochs("litdata_reader", f"{web.url}/litdata", web, {})
    web.fault("line", delay=DELAY, rate=RATE)
    contestants["lazygraph, in a folder"] = lambda: local_epoch(path)
    runs = in_turn(contestants, options.repeats)
    names = {
        "graphs": "graphs", "first": "graphs/s, first epoch", "line": "share of bandwidth",
        "first_mb": "MB, first epoch", "second": "graphs/s, second epoch", "second_mb": "MB, second epoch",
    }  # fmt: skip
    return {
        contestant: {
            names[key]: statistics.median(run[key] for run in found) for key in names if key in found[0]
        }
        for contestant, found in runs.items()
    }  # fmt: skip


def main():
    titles = {
        "epochs": "Epochs over the network", "parts": "Reading a part",
        "where": "An epoch over 1 percent, chosen by a condition", "push": "Publishing",
        "together": "Many processes at once",
    }  # fmt: skip
    options_parser = parser(__doc__, repeats=3)
    options_parser.add_argument("--graphs", type=int, default=200_000)
    options_parser.add_argument("--peer-graphs", type=int, default=20_000, help="graphs that the peers read")
    options_parser.add_argument("--where-graphs", type=int, default=1_000_000, help="graphs of the larger dataset")
    options_parser.add_argument("--processes", type=int, default=16)
    options_parser.add_argument(
        "--tables", nargs="+", choices=titles, default=list(titles),
        help="what is measured; if the file of --json exists, it keeps its other tables",
    )  # fmt: skip
    options = options_parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    import lazygraph as lg
    from tests.servers.started import web_server

    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = make(folder / "graphs.lg", options.graphs)
        shards = sum(shard.file.size for shard in lg.LazyGraphDataset(path).manifest.shards)
        with web_server(folder, folder) as web:
            url = f"{web.url}/{path.name}"
            if "epochs" in options.tables:
                found["epochs"] = epochs(path, folder, web, options)
            web.fault("line", delay=DELAY, rate=RATE)
            if "parts" in options.tables:
                found["parts"] = parts(url, web, shards)
            if "where" in options.tables:
                larger = make(folder / "larger.lg", options.where_graphs, seed=1)
                found["where"] = {"where": by_condition(larger, f"{web.url}/{larger.name}", web)}
            web.fault("line")
            if "together" in options.tables:
                found["together"] = {f"{options.processes} processes": together(url, web, options.processes)}
        if "push" in options.tables:
            found["push"] = published(path, folder)
    there = options.json is not None and options.json.exists()
    earlier = json.loads(options.json.read_text())["tables"] if there else {}
    tables = earlier | {titles[name]: table for name, table in found.items()}
    publish(__doc__, options, {title: tables[title] for title in titles.values() if title in tables})


if __name__ == "__main__":
    main()
