"""The recipe as a value: made, refused, written, read, compared, shown."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph.graphs as lg
from lazygraph.errors import RecipeError


def shell_spec(angles=None, **parameters):
    return lg.GraphSpec("mine", lg.Shell(**{"max_neighbors": 3, "tolerance": 0.0} | parameters), angles)


lengths = st.floats(0.15, 100.0)
counts = st.integers(1, 1000)
tolerances = st.floats(0.0, 0.1)
specs = st.one_of(
    st.builds(
        lambda c, k, t, e: lg.graph("comformer", cutoff=c, max_neighbors=k, tolerance=t, lattice_edges=e),
        lengths,
        counts,
        tolerances,
        st.booleans(),
    ),
    st.builds(lambda k, t: lg.graph("shell", max_neighbors=k, tolerance=t), counts, tolerances),
    st.builds(lambda c, b: lg.graph("radius", cutoff=c, boundary=b), lengths, st.sampled_from(["<", "<="])),
    st.builds(lambda k, c: lg.graph("nearest", max_neighbors=k, cutoff=c), counts, lengths),
    st.builds(
        lambda name, c, k: lg.graph(name, cutoff=c, max_neighbors=k, ties="reference"),
        st.sampled_from(["comformer", "matformer", "potnet", "alignn"]),
        lengths,
        counts,
    ),
    st.sampled_from(["alignn-2026", "cgcnn", "megnet", "m3gnet", "chgnet", "mace", "nequip", "sevennet"]).map(lg.graph),
    st.builds(lambda c: lg.GraphSpec("their.module:preset", lg.Radius(cutoff=c, boundary="<")), lengths),
)


@given(specs)
def test_json_repr_pickle_and_hash_round_trips(spec):
    assert lg.GraphSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert eval(repr(spec), {"lazygraph": SimpleNamespace(graph=lg.graph, GraphSpec=lg.GraphSpec, graphs=lg)}) == spec
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert hash(again) == hash(spec)


@given(specs, specs)
def test_diff_is_empty_exactly_for_equal_recipes(one, other):
    assert (one.diff(other) == []) == (one == other)


def test_defaults_are_the_published_training_settings():
    spec = lg.graph("comformer")
    assert (spec.rule.cutoff, spec.rule.max_neighbors, spec.rule.ties, spec.rule.tolerance) == (4.0, 25, "shell", 1e-4)
    assert (spec.rule.duplicates, spec.rule.lattice_edges, spec.rule.lattice_vectors) == (
        True,
        "comformer",
        "comformer",
    )
    assert lg.graph("radius", cutoff=5).rule.boundary == "<="
    assert repr(spec) == "lazygraph.graph('comformer', cutoff=4.0, max_neighbors=25)"
    assert repr(lg.graph("comformer", lattice_edges=False)).endswith("max_neighbors=25, lattice_edges=None)")


def test_parameters_are_kept_in_one_type():
    spec = lg.graph("comformer", cutoff=np.float32(4), max_neighbors=np.int64(25), lattice_edges=True)
    assert spec == lg.graph("comformer", lattice_edges="comformer")
    assert type(spec.rule.cutoff) is float
    assert type(spec.rule.max_neighbors) is int


def test_diff_says_that_cutoff_does_not_matter_for_the_shell_rule_and_only_there(silicon):
    here, there = lg.graph("comformer", cutoff=4.0), lg.graph("comformer", cutoff=8.0, max_neighbors=12)
    assert here.diff(there) == [
        "cutoff: 4.0 here, 8.0 there (the shell rule does not use it, so the edges are the same)",
        "max_neighbors: 25 here, 12 there",
    ]
    assert lg.graph("radius", cutoff=4.0).diff(lg.graph("radius", cutoff=5.0)) == ["cutoff: 4.0 here, 5.0 there"]
    assert (here.build(silicon).images == lg.graph("comformer", cutoff=8.0).build(silicon).images).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: lg.graph("gotham"),
            r"unknown preset 'gotham'; known: comformer, .*radius, none; or module:variable",
        ),
        (lambda: lg.graph(None), r"unknown preset None"),
        (lambda: lg.graph("shell"), r"the preset 'shell' needs max_neighbors, as in"),
        (lambda: lg.graph("radius"), r"needs cutoff"),
        (
            lambda: lg.graph("shell", max_neighbors=3, cutof=2),
            r"preset 'shell': 'cutof'; known: max_neighbors, ties, tol",
        ),
        (
            lambda: lg.graph("shell", max_neighbors=0),
            r"found max_neighbors=0; required: a whole number from 1 to 1,000,000",
        ),
        (lambda: lg.graph("shell", max_neighbors=2.0), r"found max_neighbors=2.0"),
        (lambda: lg.graph("shell", max_neighbors=True), r"found max_neighbors=True"),
        (lambda: lg.graph("radius", cutoff=0), r"found cutoff=0; required: a length from 0.15 to 100 A"),
        (lambda: lg.graph("radius", cutoff=101), r"found cutoff=101"),
        (lambda: lg.graph("radius", cutoff=float("nan")), r"found cutoff=nan"),
        (lambda: lg.graph("radius", cutoff="5"), r"found cutoff='5'"),
        (lambda: lg.graph("radius", cutoff=True), r"found cutoff=True"),
        (lambda: lg.graph("radius", cutoff=None), r"found cutoff=None"),
        (lambda: lg.graph("radius", cutoff=5, boundary="=<"), r"found boundary='=<'; required: '<' or '<='"),
        (lambda: lg.graph("comformer", tolerance=-1e-9), r"found tolerance=-1e-09; required: a length from 0 to 0.1 A"),
        (lambda: lg.graph("comformer", ties="exact"), r"unknown ties 'exact'; known: shell, reference"),
        (
            lambda: lg.graph("comformer", ties="reference", tolerance=1e-4),
            r"ties='reference' compares exactly, .*; leave tolerance=0.0001 out",
        ),
        (lambda: lg.graph("comformer", tolerance=None), r"found tolerance=None"),
        (
            lambda: lg.graph("shell", max_neighbors=3, ties="reference"),
            r"needs a cutoff, .*never published needs ties='shell'",
        ),
        (lambda: lg.graph("matformer", lattice_edges="comformer"), r"found lattice_edges='comformer'; required: True"),
        (lambda: lg.graph("m3gnet", threebody_cutoff=5.5), r"threebody_cutoff=5.5; required: at most the cutoff, 5 A"),
        (lambda: lg.graph("chgnet", cutoff=2.5), r"bond_cutoff=3.0; required: at most the cutoff, 2.5 A"),
        (lambda: lg.graph("cgcnn", boundary="<"), r"preset 'cgcnn': 'boundary'; known: cutoff, max_neighbors"),
        (lambda: lg.GraphSpec("mine", "radius"), r"found rule='radius'; required: a rule such as lazygraph.graphs.Rad"),
        (
            lambda: lg.GraphSpec("mine", lg.Radius(cutoff=5.0), "m3gnet"),
            r"found angles='m3gnet'; required: angles such",
        ),
        (lambda: lg.Radius(cutoff=5.0, boundary=None), r"found boundary=None; required: '<' or '<='"),
        (
            lambda: shell_spec(lattice_edges="comformer"),
            r"lattice_edges='comformer' cannot be used with duplicates=False",
        ),
        (lambda: shell_spec(lattice_edges="matformer", duplicates=True), r"lattice_edges='matformer' needs a cutoff"),
        (lambda: shell_spec(duplicates="yes"), r"found duplicates='yes'; required: True or False"),
        (lambda: lg.graph("comformer", lattice_edges="matformer"), r"lattice_edges='matformer'; required: True or Fal"),
        (lambda: lg.graph("comformer", lattice_edges=1), r"found lattice_edges=1"),
        (lambda: lg.graph("alignn", angles="alignn"), r"unknown parameter of the preset 'alignn': 'angles'"),
        (lambda: lg.Triplets(threebody_cutoff=None), r"found threebody_cutoff=None; required: a length from 0.15 to"),
        (
            lambda: lg.GraphSpec("mine", lg.Nearest(cutoff=5.0, max_neighbors=3), lg.BondGraph(bond_cutoff=3.0)),
            r"angles='chgnet' needs edges that come in pairs, and the edges of the rule 'nearest' do not",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 3}, "unknown parameter of a recipe: 'features'; known: "),
        ({"angles": "alignn"}, "angles='alignn'; the preset 'comformer' needs angles=None"),
        ({"tolerance": ...}, "the recipe lacks tolerance; required: preset, rule, cutoff"),
        ({"preset": None}, "found preset=None; required: a name"),
        ({"cutoff": None, "ties": "reference", "tolerance": None}, "needs a cutoff"),
        ({"lattice_edges": "matformer"}, "found lattice_edges='matformer'; required: True or False"),
        ({"threebody_cutoff": 3.0}, "rule 'shell' without angles does not use threebody_cutoff=3.0; leave it out"),
        (
            {"isolated_atoms": "error"},
            "the rule 'shell' without angles does not use isolated_atoms='error'",
        ),
        ({"angles": "m3gnet"}, "found threebody_cutoff=None; required: a length from 0.15 to 100 A"),
        (
            {"angles": "alignn-2026", "bond_cutoff": 3.0},
            "the rule 'shell' with the angles 'alignn-2026' does not use bond_cutoff=3.0",
        ),
        ({"angles": "chgnet"}, "found bond_cutoff=None; required: a length"),
        ({"angles": "dimenet"}, "unknown angles 'dimenet'; .*known: m3gnet, alignn, alignn-2026, chgnet"),
        ({"tolerance": None}, "has tolerance=None; a recipe must state the value that it means, 0.0001"),
        ({"duplicates": False}, "lattice_edges='comformer' cannot be used with duplicates=False"),
        (
            {"rule": "radius"},
            "the rule 'radius' without angles does not use max_neighbors=25; leave it out, or set it to None",
        ),
        (
            {"boundary": "<"},
            "the rule 'shell' without angles does not use boundary='<'; leave it out, or set it to None",
        ),
        (
            {"lattice_edges": None, "duplicates": False},
            "has duplicates=False; the preset 'comformer' needs duplicates=True",
        ),
        ({"rule": ["shell"]}, "unknown rule"),
        ({"max_neighbors": -1}, "found max_neighbors=-1"),
    ],
)
def test_json_that_is_refused(change, message):
    data = {k: v for k, v in (lg.graph("comformer").to_json() | change).items() if v is not ...}
    with pytest.raises(RecipeError, match=message):
        lg.GraphSpec.from_json(data)


def test_angles_are_written_last_and_only_where_they_are_set():
    assert "angles" not in lg.graph("comformer").to_json()
    assert list(lg.graph("chgnet").to_json().items())[-2:] == [("isolated_atoms", "error"), ("angles", "chgnet")]
    assert lg.graph("alignn").diff(lg.graph("potnet", cutoff=8.0, max_neighbors=12)) == [
        "preset: 'alignn' here, 'potnet' there",
        "angles: 'alignn' here, None there",
    ]
    assert shell_spec(lg.BondGraph(bond_cutoff=3.0)).to_json()["angles"] == "chgnet"


def test_reach_is_the_greatest_distance_that_the_boundary_lets_in():
    assert lg.graph("radius", cutoff=5.0).rule.reach == 5.0
    assert lg.graph("mace").rule.reach == np.nextafter(5.0, 0)
    assert lg.graph("comformer").rule.reach == np.inf


def test_a_recipe_cannot_be_changed():
    spec = lg.graph("comformer")
    with pytest.raises(AttributeError):
        spec.rule.cutoff = 5.0
    with pytest.raises(AttributeError):
        spec.rule = lg.Radius(cutoff=5.0)
    assert copy.copy(spec) == spec


def test_every_preset_declares_what_can_be_made():
    for name, preset in lg.PRESETS.items():
        required = {"max_neighbors": 12, "cutoff": 4.0}
        spec = lg.graph(name, **{p: required[p] for p in preset.parameters if p in required})
        assert spec.preset == name
        assert preset.summary


def test_importing_the_graphs_loads_neither_torch_nor_jarvis_nor_the_rest_of_pymatgen():
    code = "import sys, lazygraph.graphs; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "torch_geometric", "jarvis", "ase", "scipy", "pymatgen.core"}
