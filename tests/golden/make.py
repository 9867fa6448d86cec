"""Writes the golden datasets of the format version that this release writes; each is written once, and read for ever.

    python tests/golden/make.py            makes what is not there, and refuses to touch what is

A release with a new format version adds its datasets (`VERSION-NAME.lg`) and their values (`VERSION.json`) beside those
of before. The values are what tests/strangers_decoder.py, which knows nothing of lazygraph, reads.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import zstandard

import lazygraph as lg
from lazygraph.format.manifest import VERSION
from lazygraph.writing import plan
from lazygraph.writing.edit import gc, set_splits

HERE = Path(__file__).resolve().parent
MOST = 24  # values that are written out; of more, their sha256


# ---- the datasets ----


def crystals(path):
    """Comformer: two shards, a dictionary, labels of every type with all that is said of them, splits, quarantine."""
    entries = []
    for n in range(7):
        a = [3.5 + 0.1 * n, 0.0, 0.0]
        b = [0.25 * n, 4.0, 0.0] if n % 2 else [0.0, 4.0, 0.0]
        atoms = {
            "lattice_mat": [a, b, [0.0, -0.125, 4.5]],
            "coords": [[0.0, 0.0, 0.0], [0.5, 0.5, round(0.5 + 0.01 * n, 8)]][: 1 + n % 2],
            "elements": ["Na", "Cl"][: 1 + n % 2],
            "cartesian": False,
        }
        if n == 3:
            atoms["elements"] = ["Na", "Xx"]
        entry = {"jid": f"JVASP-{n}", "atoms": atoms, "gap": 0.5 * n if n != 4 else "na"}
        entry["polarization"] = [0.1 * n, -0.2, 1e-300]
        entry |= {
            "spin": 2**60 + n,
            "stable": n % 2 == 0,
            "kind": ["bulk", "slab \u00e9", ""][n % 3],
            "run": f"run {n}",
        }
        entries.append(entry)
    source = path.with_name("crystals.json")
    source.write_text(json.dumps(entries))
    spec = lg.graph("comformer", max_neighbors=4)
    units = {"gap": "eV", "polarization": "C/m^2"}
    try:
        said = {"describe": {"gap": "direct gap"}, "per": {"polarization": "cell"}, "required": ["spin"]}
        about = {"title": "Salts \u00e9", "license": "CC0-1.0"}
        lg.write(source, path, graph=spec, workers=1, shard_size=4, units=units, about=about, progress=False, **said)
        names = {"train": ["JVASP-0", "JVASP-5"], "val": ["JVASP-1"], "test\u00e9": ["JVASP-6", "JVASP-2"]}
        set_splits(path, names=names)
        set_splits(path, (0.5, 0.25, 0.25), seed=1, group="kind", name="fold 0")
        gc(path)
    finally:
        source.unlink()


def angles(path):
    """M3GNet: a radius, triplets, labels of atoms; positions as decimals of Cartesian coordinates."""
    rows = []
    for n in range(4):
        lattice = np.array([[3.9 + 0.1 * n, 0, 0], [-1.95, 3.4, 0], [0.1, 0.2, 4.25]])
        if n == 3:
            frac = np.array([[1 / 3, 2 / 3, np.nextafter(0.5, 1)], [0.0, -0.0, 0.1]])  # no decimals of either kind
            crystal = lg.Crystal(lattice, frac, [94, 1])
        else:
            cart = np.array([[0.0, 0.0, 0.0], [1.23456789, 1.5, 2.00000001]])[: 1 + n % 2]
            crystal = lg.Crystal.from_cartesian(lattice, cart, [94, 1][: 1 + n % 2])
        labels = {"energy": -1.5 * n if n else np.nan, "forces": np.arange(3.0 * len(crystal)).reshape(-1, 3) / 7 - n}
        rows.append((f"frame {n} \u03b1", crystal, labels))
    spec = lg.graph("m3gnet", cutoff=4.2, threebody_cutoff=3.8)
    units = {"energy": "eV", "forces": "eV/A"}
    lg.write(rows, path, graph=spec, workers=1, units=units, progress=False)


def alone(path):
    """Crystals alone: no edges, labels of atoms, directions that do not repeat."""
    rows = []
    for n in range(3):
        atoms = 1 + n % 2
        frac, pbc = [[0, 0, 0], [0.25, 0.5, 0.75]][:atoms], (True, n != 1, True)
        crystal = lg.Crystal(np.diag([4.0, 4.5 + n, 5.0]), frac, [3, 9][:atoms], pbc)
        rows.append((f"alone-{n}", crystal, {"energy": 0.25 * n, "magmom": np.arange(1.0 * len(crystal)) - n}))
    lg.write(rows, path, graph="none", workers=1, units={"energy": "eV"}, progress=False)


def ready_made(path):
    """Graphs by GraphWriter: every type, text, axes of their own, pairs, and every way to store them."""
    random = np.random.default_rng(1)
    units = {"dist": "A", "size": "1"}
    with lg.GraphWriter(path, units=units, counts={"edge_of_face_index": "edge"}) as writer:
        for n in range(2, 6):
            half = random.integers(0, n, (3, 2))
            index = np.stack([half, half[:, ::-1]], axis=1).reshape(-1, 2).T if n % 2 else random.integers(0, n, (2, 6))
            big = 256 ** np.arange(n) // 2  # ever wider
            graph = {
                "x": (random.integers(-9, 9, (n, 2)) / 8).astype(np.float32),
                "edge_index": index,
                "dist": np.round(random.random((6, 1)), 8),
                "bool": random.random(n) < 0.5,
                "float16": np.array([[0.5, -np.inf]] * n, np.float16),
                "float64": np.array([[np.nan, -0.0, 5e-324, np.pi]] * n),
                "narrow": np.round(np.arange(n) * 0.25, 2),
                "name": f"graph {n} \u00e9\u4e16" * (n - 2),
                "face": random.integers(0, n, (3, n + 1)),
                "edge_of_face_index": random.integers(0, 6, (2, n + 2)),
                "scalar": np.int16(-n),
                "matrix": np.arange(9, dtype=np.uint8).reshape(3, 3) * n,
                **{f"int{bits}": (-big).astype(f"int{bits}") for bits in (8, 16, 32, 64)},
                **{f"uint{bits}": big.astype(np.uint64).astype(f"uint{bits}") for bits in (8, 16, 32, 64)},
            }
            graph["int64"][-1] = -(2 ** (15 * n - 20))
            graph["uint64"][-1] = 2 ** (n * 12) + 1
            writer.add(graph, id=f"g{n}", labels={"size": n, "pair": [n, np.nan]})


def uncompressed(path):
    """Two sources in one shard, an id that comes twice, and no compression."""
    structure = lg.Crystal(np.diag([4.0, 4.25, 5.0]), [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], [55, 17])
    dense = lg.Crystal(np.diag([3.0, 3.5, 2.75]), [[0.0, 0.0, 0.0]], [29])
    first = [("a", structure, {"gap": 1.5}), ("b", dense, {"gap": None}), ("a", dense, {"gap": 2.0})]
    second = [("c", structure, {"gap": -0.25})]
    lg.write([*first, *second], path, graph="matformer", workers=1, codec="none", progress=False)


DATASETS = {
    "crystals": crystals,
    "angles": angles,
    "alone": alone,
    "ready_made": ready_made,
    "uncompressed": uncompressed,
}


# ---- their values ----


def stranger():
    spec = importlib.util.spec_from_file_location("strangers_decoder", HERE.parent / "strangers_decoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(value):
    """A value so that JSON keeps its bits: type, shape, and the numbers, or of many the sha256 of their bytes."""
    if isinstance(value, str):
        return value
    array = np.ascontiguousarray(value)
    out = {"dtype": array.dtype.str, "shape": list(value.shape)}
    if array.size > MOST:
        return out | {"sha256": hashlib.sha256(array.tobytes()).hexdigest()}
    if array.dtype.kind == "f":
        return out | {"hex": [float(one).hex() for one in array.ravel()]}
    return out | {"values": [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]}


def values_of(path):
    """Everything that the stranger's decoder finds."""
    decoder = stranger()
    manifest = json.loads((path / "manifest.json").read_text())
    rows = []
    for row in range(manifest["graphs"]):
        graph_id, labels, fields = decoder.read(path, row)
        rows.append(
            {
                "id": graph_id,
                "labels": {name: described(value) for name, value in labels.items()},
                "fields": {name: described(value) for name, value in fields.items()},
            }
        )
    columns = {name: described(decoder.column(path, manifest, name)) for name in INDEX if name in manifest["columns"]}
    kept = {key: manifest[key] for key in ("content_id", "inputs", "recipe", "provenance", "about")}
    files = {file.relative_to(path).as_posix(): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return {"files": files, **kept, "columns": columns, "rows": rows}


INDEX = ("formula", "input", "split", "fold 0", "n_node", "n_edge", "n_triplets")


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def small(records, graphs):  # noqa: ARG001 - as train_dictionary has it
    """A dictionary of these few records, for one worth its bytes needs more."""
    return bytes(zstandard.train_dictionary(512, [*records] * 8, level=9, k=64, d=6).as_bytes())


def main():
    version = ".".join(map(str, VERSION))
    found = [path for path in [*HERE.glob(f"{version}-*.lg"), HERE / f"{version}.json"] if path.exists()]
    if found:
        sys.exit(f"{found[0]} is there: what golden datasets hold is never written again")
    plan.train_dictionary = small
    with tempfile.TemporaryDirectory() as folder:
        made = {name: Path(folder) / f"{version}-{name}.lg" for name in DATASETS}
        for name, make in DATASETS.items():
            make(made[name])
        values = {name: values_of(path) for name, path in made.items()}
        text = json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True)
        # One line an array.
        text = re.sub(r"[\[{]\n[^\[\]{}]*[\]}]|\[[^\[\]{}]*\]", lambda found: re.sub(r"\n *", " ", found[0]), text)
        for path in made.values():
            shutil.copytree(path, HERE / path.name)
        (HERE / f"{version}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
