"""Datasets with different per-atom fields become one with the fields that all have, whose values stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.format.manifest import Manifest
from lazygraph.format.schema import Field, Schema
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.writing.common_fields import common_schema

CRYSTAL = ["numbers", "lattice", "pbc", "frac_coords", "edge_index", "images"]


@pytest.fixture
def dataset(tmp_path, salt, write):
    """Name and per-atom labels -> a dataset of three crystals of two atoms."""

    def make(name, *, units=None, graph="cgcnn", n=3, **labels):
        rows = [
            (f"{name}{k}", salt(k), {key: value(k) for key, value in labels.items()} | {"gap": k / 2}) for k in range(n)
        ]
        write(rows, tmp_path / f"{name}.lg", graph=graph, units=units or {})
        return tmp_path / f"{name}.lg"

    return make


def of_atoms(shape, dtype=np.float64):
    return lambda k: np.random.default_rng(k).normal(size=(2, *shape)).astype(dtype)


def bits(value):
    return value if isinstance(value, str) else (value.dtype.str, value.shape, value.tobytes())


def check(paths, out):
    """Compare every field that is kept with what it was, to the bit, or in value where it became wider."""
    assert verify(out).problems == ()
    new, row = Store(out), 0
    for path in paths:
        old = Store(path)
        for k in range(len(old)):
            before, after = old.arrays(k), new.arrays(row)
            assert new.graph_id(row) == old.graph_id(k)
            for field in new.manifest.schema.fields:
                one, other = before[field.name], after[field.name]
                assert bits(other) == bits(one if field.dtype == "str" else one.astype(field.dtype)), field.name
                assert isinstance(one, str) or np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
            row += 1
    assert row == len(new)
    return list(new.manifest.schema.names)


def test_fields_that_all_have_are_kept(dataset, tmp_path):
    a = dataset("a", forces=of_atoms((3,)), charges=of_atoms(()), magmoms=of_atoms(()), units={"magmoms": "muB"})
    b = dataset("b", forces=of_atoms((3,), np.float32), magmoms=of_atoms(()), velocities=of_atoms((3,)))
    c = dataset("c", forces=of_atoms((3,)), magmoms=of_atoms((3,)), charges=of_atoms(()))
    with pytest.raises(lg.InputError, match=r"differ in the field .*--fields common"):
        lg.concat([a, b, c], tmp_path / "x.lg")
    report = lg.concat([a, b, c], tmp_path / "x.lg", fields="common")
    assert check([a, b, c], tmp_path / "x.lg") == [*CRYSTAL, "forces"]
    assert Manifest.load(tmp_path / "x.lg").schema.fields[-1].dtype == "float64"
    told = {
        "the field 'forces' is float32 in b.lg and is stored as float64",
        "the field 'charges' is left out, because b.lg lacks it",
        "the field 'magmoms' is left out, because its shape differs: () in a.lg, () in b.lg, (3,) in c.lg",
        "the field 'velocities' is left out, because a.lg, c.lg lack it",
    }
    assert set(report.notes) == told
    assert told <= set(Manifest.load(tmp_path / "x.lg").provenance.notes)
    report = lg.concat([a, b], tmp_path / "y.lg", fields="common")
    assert any(
        "'magmoms' is left out, because its unit differs: muB in a.lg, None in b.lg" in note for note in report.notes
    )


def test_the_graphs_are_those_that_would_be_written_with_these_labels(dataset, tmp_path, write):
    a, b = dataset("a", forces=of_atoms((3,)), charges=of_atoms(())), dataset("b", forces=of_atoms((3,)))
    lg.concat([a, b], tmp_path / "x.lg", fields="common")
    write([a, b], tmp_path / "y.lg", labels=["forces", "gap"])
    assert Manifest.load(tmp_path / "x.lg").content_id == Manifest.load(tmp_path / "y.lg").content_id


def test_records_that_lose_nothing_are_copied_as_files(dataset, tmp_path):
    a, b = dataset("a", forces=of_atoms((3,))), dataset("b", forces=of_atoms((3,)), charges=of_atoms(()))
    lg.concat([b, a], tmp_path / "x.lg", fields="common")
    shard = Manifest.load(a).shards[0].file
    assert Manifest.load(tmp_path / "x.lg").shards[-1].file.sha256 == shard.sha256
    # Where nothing differs, nothing is left out or said.
    c = dataset("c", forces=of_atoms((3,)))
    assert lg.concat([a, c], tmp_path / "y.lg", fields="common").notes == ()
    assert [one.file.sha256 for one in Manifest.load(tmp_path / "y.lg").shards][0] == shard.sha256


def test_it_goes_with_everything_else(dataset, tmp_path):
    a, b = dataset("a", forces=of_atoms((3,)), n=40), dataset("b", n=30)
    lg.concat([a, b], tmp_path / "x.lg", fields="common", on_duplicate="prefix")
    assert lg.LazyGraphDataset(tmp_path / "x.lg").ids[[0, 40]].tolist() == ["a-a0", "b-b0"]
    lg.subset(tmp_path / "x.lg", tmp_path / "y.lg", where="gap > 10")
    assert verify(tmp_path / "y.lg").problems == ()
    lg.append(tmp_path / "x.lg", b, workers=1, progress=False)
    assert verify(tmp_path / "x.lg").problems == ()
    assert lg.LazyGraphDataset(tmp_path / "x.lg", target="gap")["b3"].y.item() == 1.5


def test_what_cannot_be_joined_is_refused(dataset, tmp_path):
    a, b = dataset("a", forces=of_atoms((3,))), dataset("b", graph="mace")
    with pytest.raises(lg.RecipeMismatch, match="have other recipes"):
        lg.concat([a, b], tmp_path / "x.lg", fields="common")
    with pytest.raises(lg.InputError, match="unknown fields 'comon'; did you mean 'common'"):
        lg.concat([a, b], tmp_path / "x.lg", fields="comon")
    for name, key in (("p", "x"), ("q", "pos")):
        with lg.GraphWriter(tmp_path / f"{name}.lg") as writer:
            writer.add({key: np.ones(2)}, id=name)
    with pytest.raises(
        lg.InputError, match=r"p\.lg, q\.lg have no field in common.*'x' is left out, because q\.lg lacks"
    ):
        lg.concat([tmp_path / "p.lg", tmp_path / "q.lg"], tmp_path / "x.lg", fields="common")
    assert not (tmp_path / "x.lg").exists()


def test_the_command(dataset, tmp_path, capsys):
    a, b = str(dataset("a", forces=of_atoms((3,)))), str(dataset("b"))
    assert main(["concat", a, b, "-o", str(tmp_path / "x.lg")]) == 2
    assert "--fields common" in capsys.readouterr().err
    assert main(["concat", a, b, "-o", str(tmp_path / "x.lg"), "--fields", "common"]) == 0
    assert "note: the field 'forces' is left out, because b.lg lacks it" in capsys.readouterr().err


# ---- ready-made graphs of any fields ----

NUMBERS = {"float32": np.float32, "float64": np.float64, "int32": np.int32, "int64": np.int64, "bool": np.bool_}
FIELDS = st.dictionaries(
    st.sampled_from(["x", "weight", "name", "edge_attr", "scale"]), st.sampled_from(sorted(NUMBERS)), max_size=5
)


def graph(fields, n, rng):
    """A graph of n nodes and 2 n edges with any bits in its fields, of which ``scale`` is of the whole graph."""
    out = {"z": rng.integers(1, 90, n), "edge_index": rng.integers(0, n, (2, 2 * n))}
    for name, dtype in fields.items():
        rows = {"scale": 1, "edge_attr": 2 * n}.get(name, n)
        values = rng.integers(0, 2**63, rows, dtype=np.int64).view(np.float64 if dtype == "float64" else np.int64)
        with np.errstate(all="ignore"):
            values = values.astype(NUMBERS[dtype])
        out[name] = f"text {values[0]}" if name == "name" else values
    return out


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(FIELDS, min_size=2, max_size=3), st.integers(0, 2**32))
def test_any_fields(tmp_path_factory, several, seed):
    folder, rng = tmp_path_factory.mktemp("any"), np.random.default_rng(seed)
    paths = [folder / f"{number}.lg" for number in range(len(several))]
    for number, fields in enumerate(several):
        with lg.GraphWriter(paths[number]) as writer:
            for k in range(3):
                writer.add(graph(fields, k + 2, rng), id=f"{number}-{k}")
    report = lg.concat(paths, folder / "x.lg", fields="common")
    kept = check(paths, folder / "x.lg")
    schemas = [Manifest.load(path).schema for path in paths]
    left = {name for schema in schemas for name in schema.names} - set(kept)
    assert {name for name in left if any(f"the field {name!r} is left out" in note for note in report.notes)} == left
    for name in {name for schema in schemas for name in schema.names}:
        same = [{f for f in schema.fields if f.name == name} for schema in schemas]
        if all(one == same[0] for one in same):
            assert name in kept


def test_fields_need_what_they_count_and_stand_on():
    lattice = Field("lattice", "float64", (3, 3))
    places = Field("places", "float64", (3,), axis="node", basis="lattice")
    bonds = Field("bonds", "int64", (2,), axis="bond", counts="node")
    one = Schema(("node", "bond"), (lattice, places, bonds))
    other = Schema(("node",), (Field("lattice", "float64", (3, 3), unit="A"), places, Field("z", "int64", axis="node")))
    with pytest.raises(lg.InputError, match="'places' is left out, because its basis 'lattice' is left out"):
        common_schema([("a", one), ("b", other)])
    schema, notes = common_schema([("a", one), ("b", Schema(("node", "edge"), (lattice, places)))])
    assert (schema.axes, schema.names) == (("node",), ("lattice", "places"))
    assert notes == ("the field 'bonds' is left out, because b lacks it",)
