"""OPTIMADE: answers of servers and JSON Lines as the exporters write them; what is no structure; what is no crystal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError
from lazygraph.sources.base import Cut
from lazygraph.sources.detect import open_sources
from lazygraph.sources.optimade import OptimadeSource


def species(*symbols):
    return [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in symbols]


def entry(n, **attributes):
    content = {
        "lattice_vectors": [[0, 2.8, 2.8 + n / 64], [2.8, 0, 2.8], [2.8, 2.8, 0]],
        "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]], "species_at_sites": ["Na", "Cl"],
        "species": species("Na", "Cl"), "nsites": 2, "dimension_types": [1, 1, 1], "structure_features": [],
        "chemical_formula_reduced": "ClNa", "elements": ["Cl", "Na"], "last_modified": "2024-01-01T00:00:00Z",
        "_mp_gap": n / 2, "_mp_stability": {"pbe": {"hull": 1.0}, "e": 0.5}, "_mp_name": "salt",
    }  # fmt: skip
    return {"id": f"mp-{n}", "type": "structures", "attributes": content | attributes, "links": {}, "relationships": {}}


CRYSTALS = [
    Crystal.from_cartesian(e["lattice_vectors"], e["cartesian_site_positions"], [11, 17])
    for e in (entry(n)["attributes"] for n in range(4))
]
REFERENCE = {"id": "r", "type": "references", "attributes": {"title": "x"}}
LINES = [
    {"x-optimade": {"meta": {"api_version": "1.2.0"}}},
    {"meta": {"query": {"representation": "/structures"}}},
    {"type": "info", "id": "/", "attributes": {"api_version": "1.2.0"}},
    {"type": "info", "id": "structures", "properties": {"lattice_vectors": {"unit": "angstrom"}}},
    *[entry(n) for n in range(3)],
    REFERENCE,
    entry(3),
]
FORMS = {
    "answer": json.dumps(
        {"meta": {"more_data_available": False}, "data": [entry(n) for n in range(4)], "included": [REFERENCE]}
    ),
    "answer, pretty": json.dumps({"data": [entry(n) for n in range(4)], "links": {"next": None}}, indent=2),
    "list": json.dumps([entry(n) for n in range(4)]),
    "lines": "\n".join(map(json.dumps, LINES)) + "\n",
    "lines without a header": "\n".join(json.dumps(entry(n)) for n in range(4)),
    "lines of a draft": "\n".join(json.dumps({"data": entry(n)}) for n in range(4)),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_structure_is_read_and_nothing_else(text, tmp_path, entries_of):
    (tmp_path / "set.json").write_text(text)
    (source,) = open_sources(tmp_path / "set.json")
    assert source.kind == "optimade"
    scan, entries = entries_of(tmp_path / "set.json")
    assert [e.id for e in entries] == ["mp-0", "mp-1", "mp-2", "mp-3"]
    assert [e.crystal for e in entries] == CRYSTALS
    labels = {"_mp_gap": 0.5, "_mp_stability.pbe": {"hull": 1.0}, "_mp_stability.e": 0.5, "_mp_name": "salt"}
    assert entries[1].labels == labels
    others = sum(
        map(text.count, ("references", '"info"', "x-optimade", '"query"', '"links": {\n    "next"', "more_data"))
    )
    assert (others > 0) == any("beside the records are not read" in note for note in scan.notes)


def test_one_structure(tmp_path, entries_of):
    for number, text in enumerate(
        [json.dumps({"data": entry(0)}), json.dumps({"data": entry(0)}, indent=1), json.dumps(entry(0))]
    ):
        (tmp_path / f"{number}.json").write_text(text)
        _, (found,) = entries_of(tmp_path / f"{number}.json")
        assert (found.id, found.crystal) == ("mp-0", CRYSTALS[0])


BROKEN = {
    "disorder": (
        {"species": [{"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}]},
        "whole atom",
    ),
    "vacancy": (
        {"species": [{"name": "Na", "chemical_symbols": ["Na", "vacancy"], "concentration": [0.9, 0.1]}]},
        "whole",
    ),
    "less than one": ({"species": [{"name": "Na", "chemical_symbols": ["Na"], "concentration": [0.9]}]}, "whole atom"),
    "attached": ({"species": [species("Na")[0] | {"attached": ["H"], "nattached": [3]}]}, "attached"),
    "features": ({"structure_features": ["implicit_atoms"]}, "implicit_atoms"),
    "formula": ({"chemical_formula_reduced": "ClNaO"}, "chemical_formula_reduced is ClNaO"),
    "ratio": ({"chemical_formula_reduced": "ClNa2"}, "chemical_formula_reduced is ClNa2"),
    "nsites": ({"nsites": 4}, "nsites is 4"),
    "no positions": ({"cartesian_site_positions": None}, "no cartesian_site_positions"),
    "unknown position": ({"cartesian_site_positions": [[0, 0, 0], [None, None, None]]}, "required: finite numbers"),
    "positions": ({"cartesian_site_positions": [[0, 0, 0]]}, "atoms"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_crystal_says_why(change, message, tmp_path, entries_of):
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, [entry(0), entry(1, **change), entry(2)])))
    _, (good, bad, last) = entries_of(tmp_path / "set.jsonl")
    assert (good.crystal, last.crystal) == (CRYSTALS[0], CRYSTALS[2])
    assert isinstance(bad.crystal, InputError)
    assert message in str(bad.crystal)
    assert bad.id == "mp-1"


def test_a_slab_has_no_third_vector(tmp_path, entries_of):
    slab = entry(0, dimension_types=[1, 1, 0], lattice_vectors=[[3, 0, 0], [0, 4, 0], [None, None, None]])
    (tmp_path / "set.jsonl").write_text(json.dumps(slab) + "\n" + json.dumps(entry(1)))
    _, (found, _) = entries_of(tmp_path / "set.jsonl")
    assert found.crystal.pbc == (True, True, False)
    assert np.allclose(found.crystal.cart_coords, [[0, 0, 0], [2.8, 2.8, 2.8]])


@given(st.lists(st.sampled_from(LINES), max_size=12), st.integers(1, 13))
def test_lines_of_any_order_and_cuts(tmp_path_factory, lines, every):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [LINES[0], *lines]))
    source = OptimadeSource(str(folder / "set.jsonl"))
    scan = source.scan(every, folder / "spool")
    found = [
        e.id
        for number, mark in enumerate(scan.marks)
        for e in source.read(Cut(mark, number * every, min(every, scan.entries - number * every)), folder / "spool")
    ]
    assert found == [line["id"] for line in lines if line.get("type") == "structures"]
