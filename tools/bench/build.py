"""What does one graph of each rule cost, against pymatgen's and jarvis' neighbour searches on the same crystal?

    python tools/bench/build.py --crystals 380 --repeats 5 --json build.json

Real crystals (``golden/structures.json`` beside ``$LAZYGRAPH_DATA``, or any file given with ``--structures`` that holds
the same list of ``lattice``, ``frac_coords``, ``numbers``), taken evenly. The contestants take turns in one process on
one thread, ten crystals each time, as a writer does one crystal after the other; their order turns with each
repetition. A crystal's time is its best of all repetitions. The table gives median, quartiles and mean over crystals;
"x faster" is the median over crystals of the ratio of their times, and "in all" the ratio of the sums. The rules run in
the compiled loops where the installation has them; ``LAZYGRAPH_NATIVE=0`` measures the plain ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  # after the thread limits

import lazygraph.graphs as lg  # noqa: E402
from lazygraph.crystal import Crystal  # noqa: E402
from lazygraph.graphs.backends import pymatgen_pairs  # noqa: E402
from lazygraph.native import kernels  # noqa: E402

BLOCK = 10
BASELINE = "pymatgen get_all_neighbors(8.0)"
JARVIS = "jarvis get_all_neighbors(8.0)"
# Which of these is to be compared with which.
COMPARED = (
    ("lazygraph comformer k=12", BASELINE),
    ("lazygraph alignn ties=shell", BASELINE),
    ("lazygraph alignn ties=reference", JARVIS),
    ("lazygraph radius 5.0", "bare search 5.0"),
)


def contestants(crystal, jarvis):
    """Name -> a call that does the work once, from the object that each library starts with."""
    structure = crystal.to_pymatgen()
    k12, k25 = lg.graph("comformer", max_neighbors=12), lg.graph("comformer", max_neighbors=25)
    shell, reference = (lg.graph("alignn", ties=ties) for ties in ("shell", "reference"))
    cgcnn, radius = lg.graph("cgcnn"), lg.graph("radius", cutoff=5.0)
    calls = {
        "lazygraph comformer k=12": lambda: k12.build(crystal),
        "lazygraph comformer k=25": lambda: k25.build(crystal),
        "lazygraph alignn ties=shell": lambda: shell.build(crystal),
        "lazygraph alignn ties=reference": lambda: reference.build(crystal),
        "lazygraph cgcnn": lambda: cgcnn.build(crystal),
        "lazygraph radius 5.0": lambda: radius.build(crystal),
        "bare search 5.0": lambda: pymatgen_pairs(crystal, 5.0),
        "pymatgen get_neighbor_list(8.0)": lambda: structure.get_neighbor_list(8.0),
        BASELINE: lambda: structure.get_all_neighbors(8.0),
    }
    if jarvis:
        atoms = crystal.to_jarvis()
        calls[JARVIS] = lambda: atoms.get_all_neighbors(8.0)
    return calls


def measure(crystals, repeats, jarvis):
    """(contestants, crystals) best seconds."""
    rows = [list(contestants(crystal, jarvis).items()) for crystal in crystals]
    names = [name for name, _ in rows[0]]
    best = np.full((len(names), len(crystals)), np.inf)
    blocks = [range(first, min(first + BLOCK, len(rows))) for first in range(0, len(rows), BLOCK)]
    for repeat, block, turn in itertools.product(range(repeats), blocks, range(len(names))):
        row = (turn + repeat) % len(names)
        for column in block:
            start = time.perf_counter()
            rows[column][row][1]()
            best[row, column] = min(best[row, column], time.perf_counter() - start)
    return dict(zip(names, best, strict=True))


def summary(best):
    base = best[BASELINE]
    table = {}
    for name, seconds in best.items():
        low, median, high = np.percentile(seconds * 1e6, [25, 50, 75])
        table[name] = {
            "median_us": round(median, 1),
            "quartiles_us": [round(low, 1), round(high, 1)],
            "mean_us": round(seconds.mean() * 1e6, 1),
            "times_faster_by_median": round(float(np.median(base / seconds)), 2),
            "times_faster_by_sum": round(float(base.sum() / seconds.sum()), 2),
        }
    return table


def load(path, count):
    structures = json.loads(path.read_text())
    taken = np.unique(np.linspace(0, len(structures) - 1, min(count, len(structures))).astype(int))
    return [Crystal(s["lattice"], s["frac_coords"], s["numbers"]) for s in (structures[t] for t in taken)]


def system():
    """The system and its version, without the build."""
    return f"{platform.system()} {platform.release().partition('-')[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("LAZYGRAPH_DATA", "data"))
    parser.add_argument("--structures", type=Path, default=data.parent / "golden" / "structures.json")
    parser.add_argument("--crystals", type=int, default=1000, help="at most so many, taken evenly")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-jarvis", action="store_true", help="leave out jarvis, which takes most of the time")
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    if not options.structures.exists():
        sys.exit(f"there is no {options.structures}: set LAZYGRAPH_DATA or give --structures")

    crystals = load(options.structures, options.crystals)
    best = measure(crystals, options.repeats, not options.no_jarvis)
    table = summary(best)
    sizes = [len(crystal) for crystal in crystals]
    result = {
        "question": __doc__.splitlines()[0],
        "data": {"file": options.structures.name, "crystals": len(crystals), "median_atoms": float(np.median(sizes))},
        "repeats": options.repeats,
        "cache": "warm",
        "threads": 1,
        "compiled_loops": kernels() is not None,
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": system()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "pymatgen", "jarvis-tools")},
        "table": table,
    }
    print(f"{len(crystals)} crystals, {min(sizes)} to {max(sizes)} atoms, median {np.median(sizes):g}; us per crystal")
    print(f"{'':34}{'median':>9}{'quartiles':>19}{'mean':>9}{'x faster':>10}{'in all':>9}")
    for name, row in table.items():
        low, high = row["quartiles_us"]
        print(
            f"{name:34}{row['median_us']:9.1f}{f'{low:.1f} - {high:.1f}':>19}{row['mean_us']:9.1f}"
            f"{row['times_faster_by_median']:10.1f}{row['times_faster_by_sum']:9.1f}"
        )
    for mine, theirs in COMPARED:
        if theirs in best:
            ratio = np.median(best[theirs] / best[mine])
            print(
                f"{mine} costs 1/{ratio:.1f} of {theirs}" if ratio > 1 else f"{mine} costs {1 / ratio:.2f} x {theirs}"
            )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def processor():
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
