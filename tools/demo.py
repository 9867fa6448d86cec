"""Write a dataset of generated crystals, show it, compare its speed with a pickled list of PyG graphs, and train on it.

    ./tools/demo                    write into demo/ in the repository
    ./tools/demo FOLDER             write into FOLDER

It needs no download. It ends with a report of the dataset and a plot of predictions. The next run replaces
prototypes.lg, prototypes.html and prototypes-parity.png in FOLDER, and touches nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lazygraph as lg

ROUNDS = 3
UNITS = {"density": "g/cm^3", "volume_per_atom": "A^3"}
OPTIONS = {"target": "density", "model": "cgcnn", "n_epochs": 6, "batch_size": 32, "learning_rate": 2e-3}


def write(source, path):
    print(f'lg.write("{source}", "{path}", graph="cgcnn", split=(0.8, 0.1, 0.1))')
    report = lg.write(source, path, graph="cgcnn", split=(0.8, 0.1, 0.1), units=UNITS, overwrite=True)
    print(
        f"  {report.written:,} graphs in {report.seconds:.1f} s, {report.written / report.seconds:,.0f} crystals/s, "
        f"{report.quarantined} quarantined"
    )


def show(path):
    """Open the dataset and print what is in it."""
    print(f'\nds = lg.LazyGraphDataset("{path}", target="density")')
    dataset_class = lg.LazyGraphDataset  # imports torch, which is not what is timed here
    start = time.perf_counter()
    ds = dataset_class(path, target="density")
    graph = ds[0]
    seconds = time.perf_counter() - start
    # not the whole folder: files of a dataset that was replaced stay a while, for those who have it open
    size = (path / "manifest.json").stat().st_size + sum(file.size for file in ds.manifest.files())
    atoms, edges = ds.columns["n_atoms"].sum(), ds.columns["n_edges"].sum()
    print(f"  recipe      {ds.spec}")
    print(f"  graphs      {len(ds):,}, opened and first graph read in {seconds * 1e3:.1f} ms")
    print(f"  atoms       {atoms:,}, {atoms / len(ds):.1f} a graph")
    print(f"  edges       {edges:,}, {edges / len(ds):.1f} a graph")
    print(f"  size        {size:,} bytes, {size / len(ds):,.0f} a graph, everything included")
    print(f"  content id  {ds.content_id}")
    for name in ds.manifest.labels():
        values = ds.columns[name]
        unit = ds.manifest.columns[name].unit or ""
        print(f"  label       {name}, {values.min():.3g} to {values.max():.3g} {unit}".rstrip())
    print(f"\nds[0]\n  {graph}")
    print(f"  {ds.columns['formula'][0]}, density {graph.y.item():.3f} g/cm^3")
    return ds, size, seconds


def compare(ds, size, seconds, folder):
    """Time shuffled epochs of the dataset and of the pickled list, in turns."""
    from bench import peers

    graphs = peers.as_list(ds)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "list.pickle"
        pickled = peers.dump(graphs, path)
        loaded = peers.load_in_new_process(path)
    speed = {"lazygraph": [], "list": []}
    ours = lg.loader(ds, batch_size=64, shuffle=True, threads=0, num_workers=0)
    for batches in (ours, peers.shuffled(graphs)):  # the first time opens files, and fills caches
        peers.epoch(batches)
    for _ in range(ROUNDS):
        speed["lazygraph"].append(peers.epoch(ours))
        speed["list"].append(peers.epoch(peers.shuffled(graphs)))
    ours, theirs = (statistics.median(values) for values in speed.values())

    n = len(ds)
    memory = f"{loaded['memory'] / n:,.0f}"
    print(f"\nA shuffled epoch, PyG batches of 64, no workers, warm cache, median of {ROUNDS}")
    print(f"  {'':26}{'graphs/s':>10}{'bytes a graph':>15}{'s to open':>11}{'RAM a graph':>13}")
    print(f"  {'lazygraph, from disk':26}{ours:>10,.0f}{size / n:>15,.0f}{seconds:>11.3f}{'on demand':>13}")
    print(
        f"  {'pickled list, in memory':26}{theirs:>10,.0f}{pickled / n:>15,.0f}{loaded['seconds']:>11.3f}{memory:>13}"
    )
    faster, slower = ("lazygraph", "the list") if ours > theirs else ("the list", "lazygraph")
    print(f"  {faster} is read {max(ours, theirs) / min(ours, theirs):.1f} x as fast as {slower}; ", end="")
    print(f"lazygraph takes {pickled / size:.1f} x less disk.")
    print(f"  The list holds {', '.join(peers.FIELDS)}; lazygraph's graphs also hold images and id.")


def train(path, plot):
    """Train a small model, compare it with the mean, and keep the plot of its predictions."""
    told = ", ".join(f"{name}={value!r}" for name, value in OPTIONS.items())
    print(f'\nlg.train("{path}", lg.TrainOptions({told}), "run")')
    with tempfile.TemporaryDirectory(dir=path.parent) as run:
        results = lg.train(path, lg.TrainOptions(**OPTIONS), Path(run) / "run", progress=False)
        (Path(run) / "run" / "parity.png").replace(plot)
    score, baseline = results.scores["density"], results.baseline["density"]
    print(f"  {results.epochs} epochs in {results.seconds['training']:.1f} s on the CPU")
    print(f"  mean absolute error on {score['count']} test graphs  {score['mae']:.2f} {score['unit']}")
    print(f"  the same of a predictor of the mean     {baseline['mae']:.2f} {score['unit']}")


def pictures(path, html, plot):
    lg.report(path, html, overwrite=True)
    print(f"\nA report of the dataset, for a browser:  {html}")
    print(f"Predictions against labels, as a plot:   {plot}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "demo"
    parser.add_argument(
        "folder", type=Path, nargs="?", default=default, help="the folder to write into; created if missing"
    )
    parser.add_argument("--crystals", type=int, default=2000, help="how many (default %(default)s)")
    options = parser.parse_args()

    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "prototypes.lg"
    try:
        write(f"prototypes:{options.crystals}?seed=0", path)
    except lg.LazyGraphError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    ds, size, seconds = show(path)
    compare(ds, size, seconds, options.folder)
    html, plot = path.with_suffix(".html"), path.with_name("prototypes-parity.png")
    train(path, plot)
    pictures(path, html, plot)


if __name__ == "__main__":
    main()
