"""Cuts this folder's files out of the whole sets; README.md says where those come from.

    python -m tests.data.make DATA GOLDEN

DATA holds the published sets, GOLDEN the graphs that published codes built from 380 of their crystals. Taken are the
first crystals of each set that may be passed on, of up to 12 atoms, and the one beyond whose cell jarvis loses edges.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLES = {"perov": "perov_5", "carbon": "carbon_24"}
MANY = {"perov": 6, "carbon": 6, "phonons": 9, "mptrj-random-1k": 7, "alexandria-random-1k": 7}
ALSO = "mptrj-random-1k:885"
ATOMS = 12


def main(data, golden):
    tables = {name: rows_of(data / f"{folder}/{name.partition('/')[2]}.csv") for name, folder in names()}
    known = {f"{name.partition('/')[0]}:{row[1]}" for name, (_, rows) in tables.items() for row in rows}
    structures = json.loads((golden / "structures.json").read_text())
    chosen = [number for number, structure in enumerate(structures) if structure["id"] == ALSO]
    for kind, many in MANY.items():
        fitting = (
            number
            for number, structure in enumerate(structures)
            if structure["id"].startswith(f"{kind}:")
            and len(structure["numbers"]) <= ATOMS
            and (kind not in TABLES or structure["id"] in known)
            and number not in chosen
        )
        chosen += islice(fitting, many)
    chosen.sort()
    ids = {structures[number]["id"] for number in chosen}

    for name, folder in names():
        heading, rows = tables[name]
        kept = [row for row in rows if f"{name.partition('/')[0]}:{row[1]}" in ids]
        with writable(f"{folder}/{name.partition('/')[2]}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([heading, *kept])
    write_phonons(data / "matbench/matbench_phonons.json.gz", sorted(numbers_of("phonons", ids)))
    for kind in ("mptrj-random-1k", "alexandria-random-1k"):
        frames = frames_of(data / f"extxyz/{kind}.xyz")
        kept = [frames[number] for number in sorted(numbers_of(kind, ids))]
        writable(f"extxyz/{kind}.xyz").write_text("".join(kept), newline="")
    write_structures([structures[number] for number in chosen])
    for path in sorted(golden.glob("*.npz")):
        with np.load(path) as file:
            write_arrays(path.name, dict(file), chosen)


def names():
    return [(f"{kind}/{part}", folder) for kind, folder in TABLES.items() for part in ("val", "test")]


def rows_of(path):
    with path.open(newline="") as file:
        heading, *rows = csv.reader(file)
    return heading, rows


def numbers_of(kind, ids):
    return [int(name.partition(":")[2]) for name in ids if name.startswith(f"{kind}:")]


def frames_of(path):
    with path.open(newline="") as file:
        return ["".join([count, *islice(file, int(count) + 1)]) for count in iter(file.readline, "")]


def writable(name):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    return path


def write_phonons(path, rows):
    table = json.loads(gzip.decompress(path.read_bytes()))
    part = table | {"index": list(range(len(rows))), "data": [table["data"][row] for row in rows]}
    writable(f"matbench/{path.name}").write_bytes(gzip.compress(json.dumps(part).encode(), mtime=0))


def write_structures(structures):
    lines = ",\n".join(json.dumps(structure) for structure in structures)
    writable("golden/structures.json").write_text(f"[\n{lines}\n]\n")


def write_arrays(name, arrays, chosen):
    """The parts of these structures; a ragged array NAME has its offsets in NAME_ptr."""
    kept = {"structure": np.arange(len(chosen), dtype=np.int32)}
    for key, array in arrays.items():
        if f"{key}_ptr" in arrays:
            axis = int(key in ("edge_index", "triplet_index"))
            pieces = np.split(array, arrays[f"{key}_ptr"][1:-1], axis=axis)
            taken = [pieces[number] for number in chosen]
            kept[key] = np.concatenate(taken, axis=axis)
            kept[f"{key}_ptr"] = np.cumsum([0, *[piece.shape[axis] for piece in taken]])
        elif key != "structure" and not key.endswith("_ptr"):
            kept[key] = array[chosen]
    assert np.array_equal(arrays["structure"], np.arange(len(arrays["structure"])))
    buffer = BytesIO()
    np.savez_compressed(buffer, **kept)
    writable(f"golden/{name}").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
