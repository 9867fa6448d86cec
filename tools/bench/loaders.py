"""How many shuffled graphs a second reach a complete PyG Batch, from each store, side by side?

    tools/bench/loaders CACHE              all of it, and puts the result into docs/ (an hour, the first time two)
    tools/bench/loaders CACHE --quick      to see it run (some minutes)

Batches of 64 graphs with the 12 nearest neighbours of each atom. Every store gives the same arrays; this is checked
first, bit by bit. The stores are built once, in CACHE (20 GB), and used again. Each measurement is a new process, and
the stores take turns.

- Warm: the speed of a loader that has already run for some batches. Workers stay alive from epoch to epoch.
- Cold: the speed since the dataset was opened. Just before, the system is asked to drop the pages of the files.
- First batch: the time from opening to the first batch. With workers, minus the time in which the same loader delivers
  the first batch of empty graphs, from workers with the same imports.
- Private memory: the USS that is added to the memory after these imports. It includes pages of a mapped file that no
  other process maps. It is measured once, after an epoch or after a minute of it.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import common
import plot
import report
from stores import DATASET, RECIPE, STORES, TARGET, LazygraphInPyg

import lazygraph as lg
from lazygraph.writing.edit import set_labels

MEASURE = Path(__file__).with_name("measure.py")
PACKAGES = (*common.PACKAGES, "litdata", "atompack-db")
WORKERS = {0: "no_workers", 1: "1_worker", 2: "2_workers"}
CHECKED = 5  # batches
PROTOTYPES = 500_000
SMALL, LARGE, MADE = "small", "large", "made"
# The rows of the table of ratios: a case, the number of workers, and the store that lazygraph is compared with.
COMPARED = (
    (SMALL, 0, "PygList"),
    (LARGE, 0, "PygList"),
    (SMALL, 2, "PygList"),
    (LARGE, 2, "PygList"),
    (SMALL, 0, "OnDisk"),
    (SMALL, 0, "PickledLmdb"),
)
RATIOS = "lazygraph and other stores, ratio of graphs/s in each round"


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, seconds of reading each time, and of the epoch after which memory is taken."""

    rounds: int
    seconds: float
    epoch: float


@dataclass(frozen=True)
class Case:
    """What is read, and whether opening it and its memory are measured too."""

    title: str
    source: str | list[str]
    opened: bool = False

    def folder(self, cache):
        return cache / self.title.replace(", ", "-").replace(":", "-")


def cases(*, quick):
    """Key -> case. Of real crystals, everything that there is."""
    if quick:
        return {MADE: Case("prototypes:2000", "prototypes:2000?seed=0", opened=True)}
    zips = ("perov_5/perov5_poscars.json.zip", "carbon_24/carbon24_poscars.json.zip")
    frames = ("mptrj-random-1k", "mptrj-highest-stress-1k", "alexandria-random-1k")
    return {
        SMALL: Case("perov-5, carbon-24, JARVIS", common.data(*zips, "jarvis/jdft_3d_superconductors.json.zip")),
        LARGE: Case("MPtrj, Alexandria", common.data(*(f"extxyz/{name}.xyz" for name in frames))),
        MADE: Case(f"prototypes:{PROTOTYPES}", f"prototypes:{PROTOTYPES}?seed=0", opened=True),
    }


# ---- building ----


def once(folder, build):
    """This folder, filled by ``build`` unless it is there."""
    if not folder.exists():
        begun = folder.with_name(folder.name + ".begun")
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        print(f"building {folder}", file=sys.stderr)
        build(begun)
        begun.rename(folder)
    return folder


def write(source, folder):
    """The dataset of a case; the label of a crystal is its number of atoms."""
    path = folder / DATASET
    lg.write(source, path, graph=RECIPE, labels=[], progress=False)
    ds = lg.LazyGraphDataset(path)
    set_labels(path, {name: {TARGET: float(n)} for name, n in zip(ds.ids.tolist(), ds.columns["n_atoms"], strict=True)})


def prepare(case, cache, names):
    """(the dataset, store -> its folder); every store is built unless it is there, and checked."""
    root = once(case.folder(cache) / "Lazygraph", functools.partial(write, case.source))
    dataset, folders = str(root / DATASET), {}
    for name in names:
        build = functools.partial(ask, "build", name, dataset=dataset)
        folders[name] = root if issubclass(STORES[name], LazygraphInPyg) else once(root.with_name(name), build)
        same = ask("check", name, folders[name], dataset=dataset, batches=CHECKED)
        print(f"{case.title}, {STORES[name].name}: {same} graphs are bit by bit those of the dataset", file=sys.stderr)
    return lg.LazyGraphDataset(dataset, expect=RECIPE), folders


# ---- measuring ----


def ask(task, name, folder, **arguments):
    """What a new process answers; see ``measure.py``."""
    command = [sys.executable, str(MEASURE), task, name, str(folder), json.dumps(arguments)]
    return common.answer(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def ask_cold(task, name, folder, **arguments):
    common.evict(*common.files(folder))
    return ask(task, name, folder, **arguments)


def in_turn(question, task, folders, rounds, **arguments):
    """Store -> its answers, one a round; every one with a seed of its own."""
    seeds = itertools.count()
    calls = {
        name: lambda name=name, folder=folder: question(task, name, folder, seed=next(seeds), **arguments)
        for name, folder in folders.items()
    }
    return common.in_turn(calls, rounds)


def reading(ds, folders, effort):
    """(store -> row of graphs/s, number of workers -> store -> graphs/s of each round)."""
    rates = {
        workers: in_turn(
            ask, "warm", read_with(workers, folders), effort.rounds, workers=workers, seconds=effort.seconds
        )
        for workers in WORKERS
    }
    on_disk = {name: folder for name, folder in folders.items() if STORES[name].on_disk}
    cold = in_turn(ask_cold, "cold", on_disk, effort.rounds, seconds=effort.seconds)
    rows = {}
    for name, folder in folders.items():
        graphs = len(ds[: STORES[name].most])
        rows[name] = {"graphs": graphs}
        for workers, column in WORKERS.items():
            rows[name] |= spread(column, rates[workers].get(name))
        rows[name] |= spread("cold,_no_workers", cold.get(name))
        rows[name]["bytes_a_graph"] = sum(file.stat().st_size for file in common.files(folder)) / graphs
    return rows, rates


def read_with(workers, folders):
    """Those of the stores that are read with so many workers."""
    return {name: folder for name, folder in folders.items() if workers in STORES[name].workers}


def opening(ds, folders, effort):
    """Store -> row of first batches and memory."""
    folders = read_with(2, folders)
    alone = in_turn(ask, "start", folders, effort.rounds, workers=0)
    spawning = {name: folder for name, folder in folders.items() if STORES[name].spawns}
    spawned = in_turn(ask, "start", spawning, effort.rounds, workers=2)
    rows = {}
    for name, folder in folders.items():
        found = ask("memory", name, folder, seconds=effort.epoch, seed=0)
        rows[name] = {"graphs": len(ds[: STORES[name].most])}
        rows[name] |= spread("s_to_first_batch", alone[name])
        rows[name] |= spread("s_with_2_spawned_workers", spawned.get(name))
        rows[name] |= {"MiB_main": found["main"], "MiB_a_worker": found["worker"], "after_graphs": found["graphs"]}
    return rows


def spread(column, values):
    """As ``common.spread``, and empty cells where a store was not measured."""
    return common.spread(column, values) if values else {column: None, f"{column}_range": None}


# ---- comparing ----


def ratios(titles, rates):
    """The rows of the table of ratios.

    A ratio compares two stores within one round, because a slow machine slows both of them down.
    """
    for case, workers, peer in COMPARED:
        found = rates.get(case, {}).get(workers, {})
        if {peer, "Lazygraph"} <= found.keys():
            values = [ours / theirs for ours, theirs in zip(found["Lazygraph"], found[peer], strict=True)]
            row = f"{titles[case]}: {WORKERS[workers].replace('_', ' ')}, {STORES[peer].name}"
            yield row, common.spread("times_faster", values)


# ---- all of it ----


def named(rows, missing):
    """The rows under the names of their stores, and a row without figures for each store that is not there."""
    return {STORES[name].name: row for name, row in rows.items()} | {
        f"{STORES[name].name} (not installed: {package})": {} for name, package in missing.items()
    }


def not_installed(names):
    """Store -> a package that it lacks."""
    needed = ((name, package) for name in names for package in STORES[name].packages)
    return {name: package for name, package in needed if importlib.util.find_spec(package) is None}


def versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run(options):
    """(tables, what was read)."""
    effort = Effort(rounds=1, seconds=0.3, epoch=5) if options.quick else Effort(options.repeats, 2, 60)
    missing = not_installed(options.stores)
    present = [name for name in options.stores if name not in missing]
    tables, data, titles, rates = {}, {}, {}, {}
    for key, case in cases(quick=options.quick).items():
        if options.only and options.only not in case.title:
            continue
        ds, folders = prepare(case, options.cache, present)
        if options.check:
            continue
        atoms, edges = (float(ds.columns[name].mean()) for name in ("n_atoms", "n_edges"))
        titles[key] = f"{case.title}, {len(ds):,} graphs"
        data[case.title] = {"graphs": len(ds), "atoms_a_graph": atoms, "edges_a_graph": edges}
        rows, rates[key] = reading(ds, folders, effort)
        title = f"Graphs/s, {titles[key]} of {atoms:.1f} atoms and {edges:.0f} edges"
        tables[title] = named(rows, missing)
        if case.opened:
            rows = opening(ds, folders, effort)
            tables[f"Opening and memory beyond imports, {titles[key]}"] = named(rows, missing)
    compared = dict(ratios(titles, rates))
    return tables | ({RATIOS: compared} if compared else {}), data, effort.rounds


def main():
    parser = common.parser(__doc__, repeats=5)
    parser.add_argument("--cache", type=Path, required=True, help="the stores are built here, and found here again")
    parser.add_argument("--plot", type=Path, help="draw the first table here, as PNG")
    parser.add_argument("--quick", action="store_true", help="one short round of 2,000 prototypes, to see it run")
    parser.add_argument("--check", action="store_true", help="build and check the stores, measure nothing")
    parser.add_argument("--only", help="cases whose name contains this text")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES), metavar="STORE")
    options = parser.parse_args()
    known = [case.title for case in cases(quick=options.quick).values()]
    if options.only and not any(options.only in title for title in known):
        parser.error(f"no case contains {options.only!r}; the cases are {'; '.join(known)}")
    tables, data, rounds = run(options)
    if options.check:
        return
    result = {
        "question": __doc__.splitlines()[0],
        "repeats": rounds,
        "cache": "warm and cold, as the columns say",
        "data": data,
        "machine": common.machine(),
        "versions": versions(),
        "tables": tables,
    }
    print(report.section(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        plot.draw(result, options.plot)


if __name__ == "__main__":
    main()
