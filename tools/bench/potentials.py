"""How fast does each store give the radius graphs of potentials, with stored edges and with edges on the fly?

    python tools/bench/potentials.py --json potentials.json

The 1,000 MPtrj frames and the 1,000 Alexandria crystals of the real data, as complete shuffled batches of 64 graphs in
the calling process, on one thread, the files in the page cache. All rows of a table take turns in one run. The first
rows read edges that are stored, the others find the edges of every batch when it is read:

- PyG's `DataLoader` over a list in memory, over `OnDiskDataset`, and LitData's own loader over its chunks (both as in
  stores.py), with the arrays of the view `pyg`;
- matgl's `MGLDiskDataset`, whose one shard of 1,000 graphs stays in memory, and its `collate_fn_pes`. Its graphs hold
  fewer arrays: edges, offsets, coordinates and elements;
- atompack for the structures, and vesin's or matscipy's neighbour search for each structure.

A peer that is not installed is left out: pip install matgl litdata zstd atompack-db vesin matscipy.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import suppress
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch start their threads

import common
import numpy as np
import stores
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from views import BATCH, SOURCES, elements_of

import lazygraph as lg

CUTOFFS = (5.0, 6.0)
PLAIN = {"shuffle": True, "seed": 0, "num_workers": 0, "threads": 0}


class Structures(torch.utils.data.Dataset):
    """Structures in atompack; a search finds the edges of each when it is read.

    Args:
        path: the file.
        search: a function of positions, cell, pbc: (i, j, S, D).
    """

    def __init__(self, path, search):
        self.path, self.search = str(path), search

    @cached_property
    def database(self):
        import atompack

        return atompack.Database.open(self.path)

    def __len__(self):
        return len(self.database)

    def __getitems__(self, rows):
        flat = self.database.get_molecules_flat(rows)
        ends = np.cumsum([0, *flat["n_atoms"]]).tolist()
        return [self.graph(flat, k, slice(*ends[k : k + 2])) for k in range(len(rows))]

    def graph(self, flat, k, atoms):
        positions, cell = flat["positions"][atoms].astype(np.float64), flat["cell"][k]
        i, j, images, vectors = self.search(positions, cell, flat["pbc"][k])
        return Data(
            x=torch.from_numpy(flat["atomic_numbers"][atoms].astype(np.int64))[:, None],
            pos=torch.from_numpy(positions.astype(np.float32)),
            edge_index=torch.from_numpy(np.stack((i, j)).astype(np.int64)),
            edge_attr=torch.from_numpy(vectors.astype(np.float32)),
            images=torch.from_numpy(images.astype(np.int64)),
            cell=torch.from_numpy(cell.astype(np.float32))[None],
            y=torch.tensor([[flat["energy"][k]]], dtype=torch.float32),
            id=flat["name"][k],
        )


def vesin_search(cutoff):
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    return lambda positions, cell, pbc: search.compute(positions, cell, pbc.tolist(), "ijSD")


def matscipy_search(cutoff):
    from matscipy.neighbours import neighbour_list

    return lambda positions, cell, pbc: neighbour_list("ijSD", positions=positions, cell=cell, pbc=pbc, cutoff=cutoff)


def write_atompack(ds, path):
    import atompack

    database = atompack.Database(str(path))
    energies = ds.columns["energy"]
    molecules = []
    for k, graph_id in enumerate(ds.ids):
        crystal = ds.crystal(k)
        molecules.append(
            atompack.Molecule.from_arrays(
                crystal.frac_coords @ crystal.lattice,
                crystal.numbers,
                cell=crystal.lattice,
                pbc=crystal.pbc,
                energy=float(energies[k]),
                name=str(graph_id),
            )
        )
    database.add_molecules(molecules)
    database.flush()


def matgl_reader(ds, folder, cutoff, *, stored):
    """matgl's loader, whose items are (graph, lattice, state, labels)."""
    from matgl.ext.pymatgen import Structure2Graph
    from matgl.graph.data import MGLDiskDataset, collate_fn_pes, write_mgl_shards

    converter = Structure2Graph(element_types=elements_of(ds), cutoff=cutoff)
    energies, structures = ds.columns["energy"], [ds.crystal(k).to_pymatgen() for k in range(len(ds))]
    labels = [
        {"energies": float(energy), "forces": np.zeros((len(structure), 3))}
        for energy, structure in zip(energies, structures, strict=True)
    ]
    records = [{"structure": one, "labels": label} for one, label in zip(structures, labels, strict=True)]
    write_mgl_shards(records, folder, converter=converter, precomputed=stored)
    table = MGLDiskDataset(folder, converter)
    return torch.utils.data.DataLoader(
        table, BATCH, shuffle=True, collate_fn=partial(collate_fn_pes, include_stress=False)
    )


def batch_graphs(batch):
    """The number of graphs of a batch: PyG's, or the tuple of matgl, which begins with PyG's."""
    return batch[0].num_graphs if isinstance(batch, tuple) else batch.num_graphs


def passes(reader):
    """us a graph of one pass."""
    start, graphs = time.perf_counter(), 0
    for batch in reader:
        graphs += batch_graphs(batch)
    return 1e6 * (time.perf_counter() - start) / graphs


def readers(folder, source, cutoff):
    """Row -> a loader; and the mean number of edges."""
    recipe, path = lg.graph("mace", cutoff=cutoff), folder / "stored.lg"
    lg.write(source, path, graph=recipe, labels=["energy"], progress=False)
    lg.write(source, folder / "plain.lg", graph=recipe, labels=["energy"], codec="none", progress=False)
    lg.write(source, folder / "alone.lg", graph="none", labels=["energy"], progress=False)
    ds = lg.LazyGraphDataset(path, target="energy")
    stored = ds[0 : len(ds)]
    out = {
        "stored: PyG list in memory": DataLoader([ds[k] for k in range(len(ds))], BATCH, shuffle=True),
        "stored: lazygraph": lg.loader(ds, BATCH, **PLAIN),
        "stored: lazygraph, codec none": lg.loader(
            lg.LazyGraphDataset(folder / "plain.lg", target="energy"), BATCH, **PLAIN
        ),
    }
    for store in (stores.OnDisk, stores.LitData):
        if all(map(find_spec, store.packages)):
            (folder / store.__name__).mkdir()
            made = store(folder / store.__name__)
            made.build(stored)
            out[f"stored: {store.name}"] = made.loader(0, 0)
    if find_spec("matgl"):
        out["stored: matgl MGLDiskDataset"] = matgl_reader(ds, folder / "shards", cutoff, stored=True)
    alone = lg.LazyGraphDataset(folder / "alone.lg", graph=recipe, target="energy")
    out["on the fly: lazygraph"] = lg.loader(alone, BATCH, **PLAIN)
    if find_spec("matgl"):
        out["on the fly: matgl MGLDiskDataset"] = matgl_reader(ds, folder / "structures", cutoff, stored=False)
    if find_spec("atompack"):
        write_atompack(ds, folder / "structures.atp")
        for name, search in (("vesin", vesin_search), ("matscipy", matscipy_search)):
            with suppress(ImportError):
                table = Structures(folder / "structures.atp", search(cutoff))
                out[f"on the fly: atompack and {name}"] = DataLoader(table, BATCH, shuffle=True)
    return out, float(ds.columns["n_edges"].mean())


def main():
    options = common.parser(__doc__, repeats=5).parse_args()
    torch.set_num_threads(1)
    tables = {}
    for title, source in SOURCES.items():
        for cutoff in CUTOFFS:
            with tempfile.TemporaryDirectory() as folder:
                found, edges = readers(Path(folder), common.data(source), cutoff)
                for reader in found.values():
                    passes(reader)
                times = common.in_turn({name: partial(passes, one) for name, one in found.items()}, options.repeats)
            least = statistics.median(times["stored: PyG list in memory"])
            tables[f"{title}, {cutoff:g} A, {edges:,.0f} edges"] = {
                name: common.spread("us_a_graph", values)
                | {"times_as_fast_as_the_list": least / statistics.median(values)}
                for name, values in times.items()
            }
    common.publish(__doc__, options, tables, cache="warm")


if __name__ == "__main__":
    main()
