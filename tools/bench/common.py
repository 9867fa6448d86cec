"""What the benchmarks share: options, turns, medians, tables, and the JSON that `report.py` reads."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# A package that pip installs is compiled once. Without this, every new process would compile lazygraph again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

PACKAGES = ("lmdb", "numpy", "pymatgen", "torch", "torch-geometric", "zstandard")
# A new process that writes one dataset as a user would; the last line of its output is what write reported.
WRITE = """
import json, sys
import lazygraph as lg
source, path, workers = json.loads(sys.argv[1])
report = lg.write(source, path, graph="comformer", workers=workers, overwrite=True, progress=False)
print(json.dumps({"written": report.written, "quarantined": report.quarantined, "seconds": report.seconds}))
"""


def parser(doc, repeats):
    out = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument(
        "--repeats", type=int, default=repeats, help="rounds, in each of which every contestant has a turn"
    )
    out.add_argument("--json", type=Path, help="write the result here")
    return out


def data(*names):
    """These files of the real data, as strings."""
    folder = os.environ.get("LAZYGRAPH_DATA")
    if not folder:
        sys.exit("LAZYGRAPH_DATA is not set; required: the folder of real crystals")
    return [str(Path(folder) / name) for name in names]


def in_turn(contestants, repeats):
    """Name -> what each call returned. The contestants alternate, and the one that begins changes every round."""
    names = list(contestants)
    out = {name: [] for name in names}
    for start in range(repeats):
        for turn in range(len(names)):
            name = names[(start + turn) % len(names)]
            out[name].append(contestants[name]())
    return out


def spread(column, values):
    """Two cells of a row: the median, and the least and greatest value."""
    return {column: statistics.median(values), f"{column}_range": [min(values), max(values)]}


def python(code, argument):
    """Start a new Python with this code; `argument` reaches it as JSON."""
    return subprocess.Popen([sys.executable, "-c", code, json.dumps(argument)], stdout=subprocess.PIPE, text=True)


def answer(process):
    """The JSON in the last line of a finished process's output."""
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"the process {process.args[:2]} ended with status {process.returncode}")
    return json.loads(out.splitlines()[-1])


def files(folder):
    return [file for file in Path(folder).rglob("*") if file.is_file()]


def evict(*paths):
    """Ask the system to forget these files' pages, so that the next read comes from the disk."""
    for file in paths:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def publish(doc, options, tables, **facts):
    """Print the tables, and write them with the machine and the versions where --json says."""
    for title, table in tables.items():
        print(f"\n{title}")
        cells = grid(table)
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *rest in cells:
            print("  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]))
    if options.json:
        result = {
            "question": doc.splitlines()[0],
            "repeats": options.repeats,
            **facts,
            "machine": machine(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "tables": tables,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def grid(table):
    """A table, row name -> column name -> value, as rows of text with a heading."""
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    heading = ["", *(column.replace("_", " ") for column in columns)]
    return [heading, *([name, *(text(row.get(column)) for column in columns)] for name, row in table.items())]


def text(value):
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(map(text, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine():
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def processor():
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
