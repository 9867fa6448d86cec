"""lazygraph's own presets, views and some of its sources keep the contracts that it ships for plug-ins."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

import lazygraph as lg
from lazygraph.graphs.presets import PRESETS, REQUIRED
from lazygraph.reading.views import VIEWS
from lazygraph.testing import PresetContract, SourceContract, ViewContract, crystals

NEEDED = {"cutoff": 4.0, "max_neighbors": 6}
SHOWN = {"pyg": "comformer", "megnet": "megnet", "matgl-chgnet": "chgnet"} | {
    name: name for name in VIEWS if name in PRESETS and name != "megnet"
}
OWN = {"mace": {"elements": ["O", "Na", "Cl", "Fe"]}}


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
