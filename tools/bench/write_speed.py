"""How many crystals a second does lazygraph.write turn into graphs on disk, everything included?

    python tools/bench/write_speed.py --json write_speed.json

Three sources: JARVIS JSON (the shipped file's entries over and over, with ids of their own), ``prototypes:N``, and CSV
with CIF (perov-5's validation and test files, over and over); each with one and with two workers; the ComFormer recipe.
A run is a new Python process, from its start to its end: imports, planning, workers and fsyncs are all in its time.
The contestants take turns.
"""

from __future__ import annotations

import csv
import itertools
import json
import tempfile
import time
import zipfile
from pathlib import Path

import common

JARVIS = "jarvis/jdft_3d_superconductors.json.zip"
PEROVSKITES = ("perov_5/val.csv", "perov_5/test.csv")


def repeated(entries, key, count):
    """The first `count` of the entries over and over, each with an id of its own."""
    for number, entry in enumerate(itertools.islice(itertools.cycle(entries), count)):
        yield entry | {key: f"{entry[key]}-{number}"}


def jarvis(folder, count):
    with zipfile.ZipFile(*common.data(JARVIS)) as archive:
        entries = json.loads(archive.read(archive.namelist()[0]))
    path = folder / "jarvis.json"
    path.write_text(json.dumps(list(repeated(entries, "jid", count))))
    return str(path)


def csv_with_cif(folder, count):
    entries = []
    for name in common.data(*PEROVSKITES):
        with open(name, newline="") as file:
            entries += csv.DictReader(file)
    path = folder / "perovskites.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(entries[0]))
        writer.writeheader()
        writer.writerows(repeated(entries, "material_id", count))
    return str(path)


def run(source, path, workers, count):
    """(seconds of the process, seconds that write reported)."""
    start = time.perf_counter()
    report = common.answer(common.python(common.WRITE, (source, path, workers)))
    seconds = time.perf_counter() - start
    if report["written"] != count:
        raise SystemExit(f"{source}: found {report['written']} graphs written; required: all {count}")
    return seconds, report["seconds"]


def main():
    parser = common.parser(__doc__, repeats=3)
    parser.add_argument("--crystals", type=int, default=30_000, help="in each source")
    options = parser.parse_args()
    count = options.crystals

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = {
            "JARVIS JSON": jarvis(folder, count),
            "prototypes": f"prototypes:{count}?seed=0",
            "CSV with CIF, perov-5": csv_with_cif(folder, count),
        }
        contestants = {
            f"{name}, {workers} worker{'s' * (workers > 1)}": lambda source=source, workers=workers: run(
                source, str(folder / "out.lg"), workers, count
            )
            for (name, source), workers in itertools.product(sources.items(), (1, 2))
        }
        runs = common.in_turn(contestants, options.repeats)

    table = {
        name: common.spread("crystals_per_s", [count / process for process, _ in times])
        | common.spread("s_of_the_process", [process for process, _ in times])
        | common.spread("s_in_lazygraph.write", [write for _, write in times])
        for name, times in runs.items()
    }
    common.publish(__doc__, options, {f"{count:,} crystals": table}, cache="warm", data=list(sources))


if __name__ == "__main__":
    main()
