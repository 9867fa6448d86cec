"""Write a dataset from structures in memory: pymatgen, ASE and jarvis objects with ids and labels."""

from ase.build import bulk
from pymatgen.core import Lattice, Structure

import lazygraph as lg

rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
structures = [
    ("rock-salt", rock_salt, {"band_gap": 5.0}),
    ("silicon", bulk("Si"), {"band_gap": 0.6}),
    ("copper", bulk("Cu"), {"band_gap": None}),  # a missing label becomes NaN, and the structure is kept
]

# An iterator works too: write() reads it once, one structure at a time.
report = lg.write(iter(structures), "mine.lg", graph=lg.graph("radius", cutoff=5.0), units={"band_gap": "eV"})
print(report.written, "written,", report.quarantined, "quarantined")

ds = lg.LazyGraphDataset("mine.lg", target="band_gap")
for data in ds:
    print(data.id, data.num_nodes, "atoms,", data.num_edges, "edges, y =", data.y.item())
