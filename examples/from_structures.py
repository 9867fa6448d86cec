"""Write a dataset from structures in memory: pymatgen, ASE and jarvis objects with ids and labels."""

from __future__ import annotations

from typing import Any

from ase.build import bulk
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

import lazygraph as lg

rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
structures: list[tuple[str, Any, dict[str, float | None]]] = [
    ("rock-salt", rock_salt, {"band_gap": 5.0}),
    ("silicon", bulk("Si"), {"band_gap": 0.6}),
    ("copper", bulk("Cu"), {"band_gap": None}),  # a missing label becomes NaN, and the structure is kept
]

# An iterator works too: write() reads it once, one structure at a time.
report = lg.write(
    iter(structures), "mine.lg", graph=lg.graph("radius", cutoff=5.0), units={"band_gap": "eV"}, overwrite=True
)
print(report.written, "written,", report.quarantined, "quarantined")

ds = lg.LazyGraphDataset("mine.lg", target="band_gap")
unit = ds.manifest.columns["band_gap"].unit


def line(data: Any) -> str:
    """Describe one graph, a PyG ``Data``, in one line."""
    lengths = data.edge_attr.norm(dim=1)
    edges = f"{data.num_edges} edges from {lengths.min():.2f} to {lengths.max():.2f} A"
    return f"{data.id}: {data.num_nodes} atoms, {edges}, y = {data.y.item():.2f} {unit}"


for data in ds:
    print(line(data))
