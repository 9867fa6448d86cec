"""The stores that ``loaders.py`` compares: the same graphs in each, read as its documentation says, PyG's `Batch` out.

Where a default costs a peer much and its documentation names a better setting, that is used, and its docstring says so.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import tempfile

import lmdb
import numpy as np
import peers
import torch
from torch_geometric.data import Data, OnDiskDataset
from torch_geometric.loader import DataLoader

import lazygraph as lg
from lazygraph import LazyGraphDataset
from lazygraph.format.store import Store as Records

BATCH_SIZE = 64
RECIPE = lg.graph("cgcnn")  # the 12 nearest neighbours of each atom
DATASET = "graphs.lg"
TARGET = "size"  # the label: crystals of all sources have a number of atoms, and no other number in common
# What every store gives for every graph: name -> type, and shape with -1 for atoms or edges.
FIELDS = {
    "x": (torch.int64, (-1, 1)),
    "pos": (torch.float32, (-1, 3)),
    "edge_index": (torch.int64, (2, -1)),
    "edge_attr": (torch.float32, (-1, 3)),
    "images": (torch.int64, (-1, 3)),
    "cell": (torch.float32, (-1, 3, 3)),
    "y": (torch.float32, (-1, 1)),
    "id": (str, ()),
}
CHUNK = 1000  # graphs that are held in memory while a store is built


def plain(graph):
    """A PyG ``Data`` of these fields; its tensors share no memory with others, which pickle would write whole."""
    values = ((name, graph[name]) for name in FIELDS)
    return Data(**{name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in values})


def chunks(graphs):
    """Lists of ``plain`` graphs, in order."""
    for start in range(0, len(graphs), CHUNK):
        yield [plain(graph) for graph in graphs[start : start + CHUNK]]


def pyg_loader(dataset, workers, seed):
    """PyG's ``DataLoader``, shuffled; its workers stay from one epoch to the next, as they do in training."""
    order = torch.Generator().manual_seed(seed)
    alive = workers > 0
    return DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=alive, generator=order)


class Store:
    """A folder of graphs: ``build(graphs)`` fills it, ``loader(workers, seed)`` opens it and gives shuffled batches.

    Attributes:
        name: of its row in the tables.
        packages: what it needs, and what its workers import.
        most: the most graphs that it is given.
        workers: the numbers of worker processes that it is read with.
        on_disk: whether graphs are read from disk when they are asked for.
        spawns: whether its workers can be spawned.
    """

    name: str
    packages: tuple[str, ...]
    most: int | None = None
    workers: tuple[int, ...] = (0, 1, 2)
    on_disk = spawns = True

    def __init__(self, folder):
        self.folder = folder


class PygList(Store):
    """A list of ``Data`` in memory, from one pickle.

    Of 500,000 graphs it would take more than 10 GB and minutes to load. A spawned worker would be sent each tensor by
    itself, as a descriptor: 20 s for 3,000 graphs, and with 30,000 its process ends.
    """

    name = "PyG list in memory"
    packages = ("torch_geometric",)
    most = 32_000
    on_disk = spawns = False

    def build(self, graphs):
        peers.dump([plain(graph) for graph in graphs], self.folder / "list.pickle")

    @functools.cached_property
    def graphs(self):
        with open(self.folder / "list.pickle", "rb") as file:
            return pickle.load(file)

    def loader(self, workers, seed):
        return pyg_loader(self.graphs, workers, seed)


class OnDisk(Store):
    """PyG's ``OnDiskDataset`` over sqlite, with a schema, as PyG's PCQM4Mv2 uses it."""

    name = "PyG OnDiskDataset (sqlite)"
    packages = ("sqlite3",)

    class Graphs(OnDiskDataset):
        def __init__(self, root):
            schema = {
                name: str if dtype is str else {"dtype": dtype, "size": size} for name, (dtype, size) in FIELDS.items()
            }
            super().__init__(str(root), schema=schema, log=False)

        def serialize(self, data):
            return data.to_dict()

        def deserialize(self, values):
            return Data.from_dict(values)

    def build(self, graphs):
        table = self.Graphs(self.folder)
        for part in chunks(graphs):
            table.extend(part)
        table.close()

    def loader(self, workers, seed):
        table = self.Graphs(self.folder)
        len(table)  # counts the rows once, over a connection that a worker can neither inherit nor be sent
        table.close()
        table._db = None
        return pyg_loader(table, workers, seed)


class PickledLmdb(Store):
    """A pickle of ``Data`` for each graph in LMDB, as ALIGNN and fairchem do it."""

    name = "pickled Data in LMDB"
    packages = ("lmdb",)

    class Rows(torch.utils.data.Dataset):
        def __init__(self, path):
            self.path, self.transaction = str(path), None
            with self.open() as environment:
                self.count = environment.stat()["entries"]

        def open(self):
            return lmdb.open(self.path, subdir=False, readonly=True, lock=False, readahead=False, meminit=False)

        def __len__(self):
            return self.count

        def __getitem__(self, row):
            if self.transaction is None:  # in the process that reads: an open environment survives no fork
                self.transaction = self.open().begin()
            return pickle.loads(self.transaction.get(f"{row}".encode("ascii")))

    def build(self, graphs):
        rows = itertools.count()
        with lmdb.open(str(self.folder / "graphs.lmdb"), subdir=False, map_size=2**40) as environment:
            for part in chunks(graphs):
                with environment.begin(write=True) as transaction:
                    for graph in part:
                        transaction.put(f"{next(rows)}".encode("ascii"), pickle.dumps(graph, protocol=-1))

    def loader(self, workers, seed):
        return pyg_loader(self.Rows(self.folder / "graphs.lmdb"), workers, seed)


class LitData(Store):
    """LitData's chunks, with its serializer for PyG graphs, and its own loader; shuffled within chunks of 64 MB.

    Its default decodes 256 graphs at once for every one that a full shuffle asks for; one by one it is ten times as
    fast.
    """

    name = "LitData"
    packages = ("litdata",)

    class Row:
        """What ``optimize`` calls in a process of its own."""

        def __init__(self, graphs):
            self.graphs = graphs

        def __call__(self, row):
            return plain(self.graphs[row])

    def build(self, graphs):
        with tempfile.TemporaryDirectory() as temporary:
            for variable in ("DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER"):
                os.environ[variable] = temporary
            import litdata

            rows = list(range(len(graphs)))
            litdata.optimize(self.Row(graphs), rows, str(self.folder), chunk_bytes="64MB", num_workers=1)

    def loader(self, workers, seed):
        import litdata

        dataset = litdata.StreamingDataset(
            str(self.folder), shuffle=True, seed=seed, drop_last=False, batch_decode=0, item_shuffle_window="full"
        )
        alive = workers > 0
        return litdata.StreamingDataLoader(
            dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=alive
        )


class Atompack(Store):
    """Structures in atompack, read a batch at a time; the edges come from lazygraph's own search, on the fly."""

    name = "atompack, edges on the fly"
    packages = ("atompack",)

    class Structures(torch.utils.data.Dataset):
        def __init__(self, path):
            import atompack

            self.path, self.database = str(path), None
            self.count = len(atompack.Database.open(self.path))

        def __len__(self):
            return self.count

        def __getitems__(self, rows):
            if self.database is None:  # in the process that reads: it cannot be pickled
                import atompack

                self.database = atompack.Database.open(self.path)
            flat = self.database.get_molecules_flat(rows)
            ends = np.cumsum([0, *flat["n_atoms"]]).tolist()
            return [self.graph(flat, i, slice(*ends[i : i + 2])) for i in range(len(rows))]

        @staticmethod
        def graph(flat, i, atoms):
            arrays = flat["cell"][i], flat["positions"][atoms], flat["atomic_numbers"][atoms]
            crystal = lg.Crystal(*arrays, pbc=tuple(flat["pbc"][i].tolist()))
            data = RECIPE.build(crystal).to_data()
            data.y, data.id = torch.tensor([[flat["energy"][i]]], dtype=torch.float32), flat["name"][i]
            return data

    def build(self, graphs):
        import atompack

        database = atompack.Database(str(self.folder / "structures.atp"))
        records = Records(graphs.path)
        for start in range(0, len(records), CHUNK):
            rows = range(start, min(start + CHUNK, len(records)))
            database.add_molecules([self.molecule(records, row) for row in rows])
        database.flush()

    @staticmethod
    def molecule(records, row):
        import atompack

        stored = records.arrays(row)
        # Fractional coordinates in the place of Cartesian ones: as many bytes, and the way back would not give the same
        # bits, so that of neighbours at one distance others could be the nearest.
        return atompack.Molecule.from_arrays(
            stored["frac_coords"],
            stored["numbers"],
            cell=stored["lattice"],
            pbc=tuple(stored["pbc"].tolist()),
            energy=float(records.column(TARGET)[row]),
            name=records.graph_id(row),
        )

    def loader(self, workers, seed):
        return pyg_loader(self.Structures(self.folder / "structures.atp"), workers, seed)


class LazygraphInPyg(Store):
    """A lazygraph dataset in PyG's ``DataLoader``."""

    name = "lazygraph, PyG's DataLoader"
    packages = ("lazygraph.loading.dataset",)

    def dataset(self):
        return LazyGraphDataset(self.folder / DATASET, target=TARGET, expect=RECIPE)

    def loader(self, workers, seed):
        return pyg_loader(self.dataset(), workers, seed)


class Lazygraph(LazygraphInPyg):
    """A lazygraph dataset in its own loader; without workers, all is done in the process that asks for batches."""

    name = "lazygraph"
    packages = ("lazygraph.loading.loader",)

    def loader(self, workers, seed):
        return lg.loader(self.dataset(), BATCH_SIZE, shuffle=True, seed=seed, num_workers=workers, threads=0)


class LazygraphThread(LazygraphInPyg):
    """What the loader chooses where there are two CPUs: no workers, and a thread that reads ahead."""

    name = "lazygraph, prefetch thread (default)"
    packages = ("lazygraph.loading.loader",)
    workers = (0,)

    def loader(self, workers, seed):
        return lg.loader(self.dataset(), BATCH_SIZE, shuffle=True, seed=seed, num_workers=workers, threads=1)


STORES = {
    store.__name__: store
    for store in (PygList, OnDisk, PickledLmdb, LitData, Atompack, LazygraphInPyg, LazygraphThread, Lazygraph)
}
