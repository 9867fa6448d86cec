"""Datasets of crystals that lie, every checksum right: every way to read them gives the same graphs or the same error.

What reading refuses as damaged, ``verify`` must name; what ``verify`` calls whole must be read.
"""

# ruff: noqa: ARG001 - every change of a record takes the same arguments
from __future__ import annotations

import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import msgpack
import numpy as np
import torch

import lazygraph as lg
from lazygraph.crystal import SYMBOLS
from lazygraph.errors import LazyGraphError, NotEnoughMemory
from lazygraph.reading.verify import verify
from tools.fuzz.hostile import Hostile, Part

CRYSTALS = 6
VIEWS = {
    "comformer": ("comformer", "pyg"),
    "matformer": ("matformer", "pyg"),
    "potnet": ("potnet", "pyg"),
    "m3gnet": ("m3gnet", "megnet"),
    "chgnet": ("chgnet", "matgl-chgnet"),
    "alignn": ("alignn",),
    "alignn-2026": ("alignn",),
    "cgcnn": ("cgcnn", "pyg"),
    "mace": ("mace", "pyg"),
    "atlas": ("atlas",),
    "megnet": ("megnet",),
}
ELEMENTS = {"mace", "megnet", "m3gnet", "matgl-chgnet"}  # views that must be told them
OTHERS = (
    lg.graph("comformer"),
    lg.graph("cgcnn", cutoff=3.0, max_neighbors=4),
    lg.graph("mace", cutoff=3.0),
    lg.graph("m3gnet", cutoff=3.0, threebody_cutoff=2.5),
    lg.graph("chgnet", cutoff=3.0, bond_cutoff=2.5),
)
U1, I2, I4, F8 = 4, 1, 2, 10  # code bytes
HALF = 128
_KEPT = []


def case(draw, rng):
    """Draw a dataset and a view, and read it in every way."""
    preset = draw.choice(list(VIEWS))
    dataset = _bases()[preset].copy()
    for _ in range(draw.randint(1, 3)):
        _Record(dataset, draw.randrange(CRYSTALS)).change(draw, rng)
    _lie_in_columns(draw, dataset)
    _store(draw, dataset)
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        path = dataset.write(Path(folder) / "d.lg")
        with warnings.catch_warnings():
            # Coordinates may be any number. np.errstate would not reach the threads of a loader.
            warnings.simplefilter("ignore", RuntimeWarning)
            return _judged(draw, path, draw.choice(VIEWS[preset]))


def _judged(draw, path, name):
    problems = verify(path).problems
    view = lg.view(name, elements=SYMBOLS[1:]) if name in ELEMENTS else name
    ds = _outcome(lambda: lg.LazyGraphDataset(path, view=view))
    if isinstance(ds, LazyGraphError):
        assert problems or not isinstance(ds, lg.CorruptDataset), ds
        return "refused_when_opened"
    single = [_outcome(lambda row=row: ds[row]) for row in range(CRYSTALS)]
    for row, one in enumerate(single):
        _assert_alike(one, _outcome(lambda row=row: ds.batch([row])), row)
    errors = [one for one in single if isinstance(one, LazyGraphError)]
    assert problems or not any(isinstance(error, lg.CorruptDataset) for error in errors), errors
    together = _outcome(lambda: ds.batch(range(CRYSTALS)))
    assert isinstance(together, LazyGraphError) == bool(errors), (together, errors)
    loaded = _outcome(lambda: sum(batch.num_graphs for batch in lg.loader(ds, 3, shuffle=True, num_workers=0)))
    assert isinstance(loaded, LazyGraphError) == bool(errors), (loaded, errors)
    assert errors or loaded == CRYSTALS
    _outcome(lambda: list(lg.loader(ds, max_edges=300, num_workers=0)))
    ids = _outcome(lambda: list(map(str, ds.ids)))
    assert problems or not isinstance(ids, LazyGraphError), ids
    for row, graph_id in enumerate([] if isinstance(ids, LazyGraphError) else ids):
        found = _outcome(lambda graph_id=graph_id: ds[graph_id])
        if isinstance(found, LazyGraphError):
            assert problems or isinstance(single[row], LazyGraphError), found
        else:
            assert found.id == graph_id
    for spec in draw.sample(OTHERS, draw.randint(0, 2)):
        _outcome(lambda spec=spec: lg.LazyGraphDataset(path, graph=spec).batch(range(CRYSTALS)))
    return "refused" if errors else "read_but_named_by_verify" if problems else "read"


def _outcome(call):
    """What a call gives, or its error, if that is one of lazygraph's."""
    try:
        return call()
    except LazyGraphError as error:
        return error


def _assert_alike(one, batch, row):
    """A graph by itself is the same one in a batch of one, or both are refused for the same reason."""
    if isinstance(one, LazyGraphError) and isinstance(batch, NotEnoughMemory):
        return  # what columns promise is too much, and is asked first
    if isinstance(one, LazyGraphError) or isinstance(batch, LazyGraphError):
        assert (type(one), str(one)) == (type(batch), str(batch)), f"row {row}: {one!r}; in a batch: {batch!r}"
        return
    for key, value in one.to_dict().items():
        if isinstance(value, torch.Tensor):
            other = batch[key]
            assert (value.dtype, value.shape) == (other.dtype, other.shape), (row, key)
            assert value.numpy().tobytes() == other.numpy().tobytes(), (row, key)


class _Record:
    """One record taken apart; a change puts it back."""

    def __init__(self, dataset, row):
        self.dataset, self.row = dataset, row
        self.parts = msgpack.unpackb(dataset.raws[row])
        self.axes = dataset.body["schema"]["axes"]
        self.names = [field["name"] for field in dataset.body["schema"]["fields"]]

    def change(self, draw, rng):
        """Draw one change of the record, and most often of the counts in the columns too."""
        draw.choice(_CHANGES)(self, draw, rng)
        self.dataset.raws[self.row] = msgpack.packb(self.parts)
        if draw.random() < 0.7:
            for axis in self.axes:
                column = self.dataset.columns[f"n_{axis}"].astype("u4")
                column[self.row] = self.count(axis)
                self.dataset.columns[f"n_{axis}"] = column

    def count(self, axis):
        return self.parts[self.axes.index(axis)]

    def resize(self, axis, rows):
        self.parts[self.axes.index(axis)] = rows

    def put(self, name, code, array):
        """A field in a layout of its own."""
        if name not in self.names:
            return
        place, at = self.names.index(name), len(self.axes)
        codes = bytearray(self.parts[at])
        codes[place] = code
        self.parts[at] = bytes(codes)
        self.parts[at + 1 + place] = np.ascontiguousarray(array).tobytes()


def _any_edges(record, draw, rng):
    """Neither paired nor in order."""
    atoms, edges = record.count("node"), record.count("edge")
    record.put("edge_index", U1, rng.integers(0, min(max(atoms, 1), 255), (2, edges)).astype("u1"))


def _edges_to_nowhere(record, draw, rng):
    atoms, edges = record.count("node"), record.count("edge")
    ends = rng.integers(0, max(atoms, 1), (2, edges)).astype("i8")
    if edges:
        outside = draw.choice((atoms, -1, 255, 2**31 - 1, -(2**31)))
        ends[draw.randrange(2), draw.randrange(edges)] = outside
    record.put("edge_index", I4, ends.astype("i4"))


def _far_images(record, draw, rng):
    record.put("images", I2, np.full((3, record.count("edge")), draw.choice((32767, -32768, 127, -128)), "i2"))


def _coordinates(record, draw, rng):
    value = draw.choice((np.nan, np.inf, 1e308, -1e308, 5e-324, 0.0, 1e6))
    record.put("frac_coords", F8, np.full((3, record.count("node")), value))


def _lattice(record, draw, rng):
    cells = (np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), 1e308), np.eye(3) * 1e-300, np.ones((3, 3)))
    record.put("lattice", F8, draw.choice(cells))


def _elements(record, draw, rng):
    record.put("numbers", U1, rng.choice(np.array([0, 118, 119, 200, 255], "u1"), record.count("node")))


def _no_edges(record, draw, rng):
    _edges(record, 0, np.empty((2, 0)), np.empty((3, 0)))


def _edges(record, number, ends, images):
    record.resize("edge", number)
    record.put("edge_index", U1, ends.astype("u1"))
    record.put("images", 0, images.astype("i1"))


def _dense(record, draw, rng):
    """All edges from one atom to itself: as many angles as there can be."""
    number = draw.choice((2, 100, 600))
    images = np.zeros((3, number)) if draw.random() < 0.5 else rng.integers(0, 3, (3, number))
    _edges(record, number, np.zeros((2, number)), images)


def _no_atoms(record, draw, rng):
    record.resize("node", 0)
    record.put("numbers", U1, np.empty(0, "u1"))
    record.put("frac_coords", F8, np.empty((3, 0)))


def _odd_edges(record, draw, rng):
    number = max(1, record.count("edge") - 1) | 1
    atoms = min(max(record.count("node"), 1), 255)
    _edges(record, number, rng.integers(0, atoms, (2, number)), rng.integers(-128, 128, (3, number)))


def _lattice_images(record, draw, rng):
    record.put("lattice_images", I2, np.full(9, draw.choice((32767, -32768, 0)), "i2"))


def _boundary(record, draw, rng):
    record.put("pbc", U1, rng.choice(np.array([0, 1, 1, 2], "u1"), 3))


def _halves(record, draw, rng):
    """Edges in pairs that their atoms belie."""
    edges, atoms = record.count("edge") // 2 * 2, min(max(record.count("node"), 1), 255)
    record.resize("edge", edges)
    record.put("edge_index", HALF | U1, rng.integers(0, atoms, (2, edges // 2)).astype("u1"))
    record.put("images", HALF, rng.integers(-3, 4, (3, edges // 2)).astype("i1"))


_CHANGES = (
    _any_edges, _edges_to_nowhere, _far_images, _coordinates, _lattice, _elements, _no_edges, _dense, _no_atoms,
    _odd_edges, _lattice_images, _boundary, _halves,
)  # fmt: skip


def _lie_in_columns(draw, dataset):
    columns = dataset.columns
    if draw.random() < 0.2:
        for name in ("n_node", "n_edge"):
            column = columns[name].astype("u8")
            column[draw.randrange(CRYSTALS)] = draw.choice((0, 1, 2**20, 2**31 - 1, 2**32 + 3, 2**63, 2**64 - 1))
            columns[name] = column
    if "n_triplets" in columns and draw.random() < 0.3:
        column = columns["n_triplets"].astype("u8")
        column[draw.randrange(CRYSTALS)] = draw.choice((0, 2**40, 2**63, 2**64 - 1, 7))
        columns["n_triplets"] = column
    if draw.random() < 0.1:
        order = columns["id_order"].copy()
        order[draw.randrange(CRYSTALS)] = draw.choice((0, CRYSTALS, CRYSTALS - 1, np.iinfo(order.dtype).max))
        columns["id_order"] = order
    if draw.random() < 0.05:
        columns["id"] = columns["id"].copy()
        columns["id"][0] = columns["id"][1]
    if draw.random() < 0.1:
        name, row = draw.choice(("offset", "length")), draw.randrange(CRYSTALS)
        which = draw.randrange(4)

        def moved(record):
            record = record.copy()
            values = (0, 1, np.iinfo(record.dtype[name]).max, record[name][0])
            record[name][row] = values[which]
            return record

        dataset.record = moved


def _store(draw, dataset):
    """In one shard or several, of any codec, with and without dictionaries and records of no row; and a few lies."""
    ends = sorted({CRYSTALS, *(draw.randrange(1, CRYSTALS) for _ in range(draw.choice((0, 0, 1, 3))))})
    starts = [0, *ends[:-1]]
    dataset.dictionaries = [b"".join(dataset.raws[start::2]) for start in range(2)]
    kinds = (("zstd", None), ("none", None), ("zstd", 0), ("zstd", 1))
    dataset.parts = [Part(end - start, *draw.choice(kinds)) for start, end in zip(starts, ends, strict=True)]
    part = draw.choice(dataset.parts)
    if draw.random() < 0.2:
        part.spare = {draw.randint(0, part.rows): draw.choice((b"", dataset.raws[0]))}
    if draw.random() < 0.1:
        codec, dictionary = draw.choice(kinds)
        number = dataset.parts.index(part)
        dataset.edits.append(lambda body: body["shards"][number].update(codec=codec, dictionary=dictionary))
    if draw.random() < 0.05:
        dataset.frames[draw.randrange(CRYSTALS)] = draw.choice((b"", b"\0", dataset.raws[0], dataset.raws[1] + b"\0"))
    if draw.random() < 0.05:
        name, wrong = draw.choice((None, *dataset.columns)), np.zeros(1, "V32")
        dataset.digests = lambda graphs, columns: (
            (wrong, columns) if name is None else (graphs, columns | {name: wrong})
        )


@lru_cache(maxsize=1)
def _folder():
    """In memory where there is such a place."""
    memory = Path("/dev/shm")
    _KEPT.append(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
    return Path(_KEPT[-1].name)


@lru_cache(maxsize=1)
def _bases():
    """Preset -> a good dataset, to be changed."""
    for preset in VIEWS:
        lg.write(f"prototypes:{CRYSTALS}?seed=1", _folder() / f"{preset}.lg", graph=preset, workers=1, progress=False)
    return {preset: Hostile(_folder() / f"{preset}.lg") for preset in VIEWS}
