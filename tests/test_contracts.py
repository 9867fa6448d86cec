"""lazygraph's own presets, views and some of its sources keep the contracts that it ships for plug-ins."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings

import lazygraph as lg
from lazygraph.errors import InputError
from lazygraph.graphs.presets import PRESETS, REQUIRED
from lazygraph.reading.views import VIEWS
from lazygraph.storage.base import open_storage
from lazygraph.testing import PresetContract, SourceContract, StorageContract, ViewContract, crystals

NEEDED = {"cutoff": 4.0, "max_neighbors": 6}
SHOWN = {"pyg": "comformer", "megnet": "megnet", "matgl-chgnet": "chgnet"} | {
    name: name for name in VIEWS if name in PRESETS and name != "megnet"
}
OWN = {"mace": {"elements": ["O", "Na", "Cl", "Fe"]}, "potnet": {"sums": True}}


@pytest.mark.parametrize("name", PRESETS)
class TestPresets(PresetContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, name):
        self.preset = name
        declared = PRESETS[name].parameters
        self.parameters = {key: NEEDED[key] for key, default in declared.items() if default is REQUIRED}

    def crystals(self):
        return super().crystals()[1:] if self.preset == "chgnet" else super().crystals()


@pytest.mark.parametrize("name", VIEWS)
class TestViews(ViewContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, name):
        self.view, self.preset, self.parameters = name, SHOWN[name], OWN.get(name, {})


class TestExtxyz(SourceContract):
    format = "extxyz"
    ids = ("a", "b", "c")
    bad_ids = ("b",)

    def make(self, folder):
        path = folder / "some.xyz"
        line = '1\nLattice="{0} 0 0 0 {0} 0 0 0 {0}" material_id={1} Properties=species:S:1:pos:R:3\nFe 0 0 0\n'
        path.write_text("".join(line.format(edge, name) for edge, name in ((3.0, "a"), (0.0, "b"), (3.5, "c"))))
        return path


class TestPymatgen(SourceContract):
    format = "pymatgen"
    ids = ("a", "b", "c")
    bad_ids = ("b",)

    def make(self, folder):
        path = folder / "some.json"
        records = [
            {
                "material_id": name,
                "structure": lg.Crystal([[edge, 0, 0], [0, 3, 0], [0, 0, 3]], [[0, 0, 0]], [26])
                .to_pymatgen()
                .as_dict(),
            }
            for edge, name in ((3.0, "a"), (3.1, "b"), (3.5, "c"))
        ]
        records[1]["structure"]["sites"] = []
        path.write_text(json.dumps(records))
        return path


@given(crystals())
@settings(max_examples=20, deadline=None)
def test_drawn_crystals_become_graphs(crystal):
    assert lg.graph("shell", max_neighbors=3).build(crystal).n_edges >= 3


class TestDirectories(StorageContract):
    def put(self, dataset, folder):
        return shutil.copytree(dataset, folder / "copied.lg")

    def empty(self, folder):
        return folder / "nothing.lg"


class Elsewhere:
    """A directory that is no directory of this machine: whole files are copied, and shards are read by ranges."""

    def __init__(self, directory, here):
        self.directory, self.here, self.name = directory, here, f"elsewhere:{directory}"

    def manifest(self):
        return (self.directory / "manifest.json").read_bytes()

    def is_at_hand(self, file):
        return False

    def renew(self, file):
        return False

    def stream(self, file):
        yield (self.directory / file.name).read_bytes()

    def descriptor(self, file):
        (self.here / file.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.directory / file.name, self.here / file.name)
        return os.open(file.check_size(self.here), os.O_RDONLY)

    def read(self, file, ranges):
        content = (self.directory / file.name).read_bytes()
        return [content[offset : offset + length] for offset, length in ranges]

    def state(self):
        return self.manifest()


class TestElsewhere(StorageContract):
    """With ``native`` off too: then records are read one by one."""

    def put(self, dataset, folder):
        return Elsewhere(dataset, folder / "here")

    def empty(self, folder):
        return Elsewhere(folder / "nothing", folder / "here")

    def test_a_dataset_elsewhere_is_read_by_dataset_and_loader(self, local, tmp_path):
        ds = lg.LazyGraphDataset(self.put(local, tmp_path), target="n")
        known = lg.LazyGraphDataset(local, target="n")
        assert ds.path == f"elsewhere:{local}"
        assert ds[3].to_dict().keys() == known[3].to_dict().keys()
        for mine, theirs in zip(lg.loader(ds, 2, num_workers=0), lg.loader(known, 2, num_workers=0), strict=True):
            assert mine.id == theirs.id
            assert mine.edge_attr.tolist() == theirs.edge_attr.tolist()
        with pytest.raises(InputError, match="is not a directory on this machine; copy the dataset first"):
            _ = ds._store.path
        lg.subset(ds, tmp_path / "x.lg")
        assert lg.LazyGraphDataset(tmp_path / "x.lg").content_id == known.content_id

    def test_damage_is_found(self, local, store):
        file = store.manifest.shards[0].file
        content = bytearray((local / file.name).read_bytes())
        offset, length, _ = store.column("record")[1].item()
        content[offset + length // 2] ^= 1
        (local / file.name).write_bytes(content)
        for read in (lambda: store.raw(1), lambda: store.read_batch(np.array([0, 1]))):
            with pytest.raises(lg.CorruptDataset, match="elsewhere:.*row 1, id 'id-1': .* do not have the checksum"):
                read()
        assert store.raw(0)
        (local / file.name).write_bytes(content[:5000])
        with pytest.raises(lg.CorruptDataset, match="was cut off"):
            store.raw(1)
        (local / file.name).unlink()
        with pytest.raises(lg.CorruptDataset, match="is missing, and the manifest names it"):
            store.raw(1)


def test_a_url_that_no_storage_is_known_for():
    with pytest.raises(InputError, match="unknown storage 's4'; known: "):
        open_storage("s4://bucket/mp.lg")
