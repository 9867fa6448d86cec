"""The published defaults, presets of a user's own, and recipes as other releases and other people wrote them."""

from __future__ import annotations

import itertools
import sys

import pytest

import lazygraph.graphs as lg
from lazygraph.errors import RecipeError

SHELL = {"rule": "shell", "ties": "shell", "tolerance": 1e-4, "duplicates": True}
PUBLISHED = {
    "comformer": SHELL
    | {"cutoff": 4.0, "max_neighbors": 25, "lattice_edges": "comformer", "lattice_vectors": "comformer"},
    "matformer": SHELL | {"cutoff": 8.0, "max_neighbors": 12, "lattice_edges": "matformer"},
    "potnet": SHELL | {"cutoff": 4.0, "max_neighbors": 16},
    "alignn": SHELL | {"cutoff": 8.0, "max_neighbors": 12, "angles": "alignn"},
    "alignn-2026": {
        "rule": "nearest",
        "cutoff": 5.0,
        "max_neighbors": 12,
        "boundary": "<",
        "threebody_cutoff": 3.5,
        "angles": "alignn-2026",
    },
    "cgcnn": {"rule": "nearest", "cutoff": 8.0, "max_neighbors": 12, "boundary": "<="},
    "atlas": {"rule": "nearest", "cutoff": 5.0, "max_neighbors": 12, "boundary": "<="},
    "megnet": {"rule": "radius", "cutoff": 4.0, "boundary": "<="},
    "m3gnet": {"rule": "radius", "cutoff": 5.0, "boundary": "<=", "threebody_cutoff": 4.0, "angles": "m3gnet"},
    "chgnet": {
        "rule": "radius",
        "cutoff": 6.0,
        "boundary": "<=",
        "bond_cutoff": 3.0,
        "isolated_atoms": "error",
        "angles": "chgnet",
    },
    "mace": {"rule": "radius", "cutoff": 5.0, "boundary": "<"},
    "nequip": {"rule": "radius", "cutoff": 5.0, "boundary": "<"},
    "sevennet": {"rule": "radius", "cutoff": 4.5, "boundary": "<"},
}

# As written by the first release, which knew neither angles nor isolated atoms.
FIRST_RELEASE = {
    "preset": "comformer",
    "rule": "shell",
    "cutoff": 4.0,
    "max_neighbors": 25,
    "ties": "shell",
    "tolerance": 0.0001,
    "boundary": None,
    "duplicates": True,
    "lattice_edges": "comformer",
    "lattice_vectors": "comformer",
}

USERS = """
from lazygraph.graphs import REQUIRED, Preset

close = Preset(
    summary="the closest few",
    rule="nearest",
    parameters={"cutoff": 5.0, "max_neighbors": REQUIRED},
    fixed={"boundary": "<"},
)
wrong_field = Preset(rule="radius", parameters={"radius": 5.0})
wrong_rule = Preset(rule="grid", parameters={})
incomplete = Preset(rule="radius")
number = 5
"""


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones(name):
    spec = lg.graph(name)
    assert {k: v for k, v in spec.to_json().items() if v not in (None, False)} == PUBLISHED[name] | {"preset": name}


def test_every_preset_is_a_bare_rule_or_has_its_published_settings_here():
    assert set(lg.PRESETS) == set(PUBLISHED) | {"shell", "nearest", "radius", "none"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_preset_builds(silicon, name):
    graph = lg.graph(name).build(silicon)
    assert graph.n_edges > 0
    assert (graph.lattice_vectors is not None) == (name == "comformer")


def test_nequip_is_mace_and_sevennet_looks_less_far(silicon):
    mace, nequip, sevennet = (lg.graph(name).build(silicon) for name in ("mace", "nequip", "sevennet"))
    assert (mace.images == nequip.images).all()
    assert sevennet.n_edges < mace.n_edges
    assert sevennet.distances.max() < 4.5


def test_a_recipe_of_the_first_release_is_read_and_keeps_its_bytes():
    spec = lg.GraphSpec.from_json(FIRST_RELEASE)
    assert spec == lg.graph("comformer")
    assert spec.to_json() == FIRST_RELEASE
    assert spec.angles is None


@pytest.fixture
def users(tmp_path, monkeypatch):
    """A module of a user's own, importable during the test; its name."""
    name = next(name for n in itertools.count() if (name := f"users_{n}") not in sys.modules)
    (tmp_path / f"{name}.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_preset_of_a_users_own(users, silicon):
    name = f"{users}:close"
    with pytest.raises(RecipeError, match=f"the preset '{name}' needs max_neighbors, as in"):
        lg.graph(name)
    with pytest.raises(RecipeError, match="parameter of the preset .*: 'boundary'; known: cutoff, max_neighbors"):
        lg.graph(name, boundary="<=")
    spec = lg.graph(name, max_neighbors=3)
    assert spec == lg.GraphSpec(name, lg.Nearest(max_neighbors=3, cutoff=5.0, boundary="<"))
    assert spec.build(silicon).n_edges == 6
    assert repr(spec) == (
        f"lazygraph.GraphSpec('{name}', lazygraph.graphs.Nearest(cutoff=5.0, boundary='<', max_neighbors=3))"
    )


def test_a_recipe_of_a_users_preset_is_read_without_importing_anything(tmp_path, monkeypatch, silicon):
    """A dataset names its preset; if that name were imported, a stranger's dataset could run code."""
    (tmp_path / "trap.py").write_text("raise SystemExit('a dataset ran code')")
    monkeypatch.syspath_prepend(tmp_path)
    for preset in ("trap:preset", "not.installed:preset", "a preset of a later release"):
        data = lg.GraphSpec(preset, lg.Nearest(cutoff=5.0, max_neighbors=3, boundary="<")).to_json()
        spec = lg.GraphSpec.from_json(data)
        assert spec.build(silicon).n_edges == 6
        assert preset in repr(spec)
        assert spec.diff(spec) == []
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("missing", r"cannot be imported \(module .* has no attribute 'missing'\)"),
        ("number", r"is a int; required: a lazygraph.graphs.presets.Preset"),
        (
            "wrong_field",
            r"declares 'radius', which is not a parameter of its rule or angles; the parameters are boundary, cutoff",
        ),
        ("wrong_rule", r"unknown rule 'grid'; known: shell, nearest, radius"),
        ("incomplete", r"found cutoff=None; required: a length"),
    ],
)
def test_a_wrong_preset_is_refused(users, variable, message):
    with pytest.raises(RecipeError, match=message):
        lg.graph(f"{users}:{variable}")


@pytest.mark.parametrize("name", ["no.such.module:preset", ":preset", "a:b:c", "module:"])
def test_a_name_that_leads_nowhere_is_refused(name):
    with pytest.raises(RecipeError, match="cannot be imported|unknown preset"):
        lg.graph(name)
