"""What is said of labels and of a dataset: units, per, one line, required labels, about, and energies of elements."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.crystal import SYMBOLS, Crystal
from lazygraph.errors import LabelError
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.writing.descriptions import Descriptions
from lazygraph.writing.edit import describe_labels, fit_elements, set_about, set_labels
from lazygraph.writing.layout import Layout
from lazygraph.writing.reference_energies import fit_by_elements
from lazygraph.writing.stored_graphs import COPIED


def said(path):
    return {
        name: (column.unit, column.per, column.description, column.required)
        for name, column in Manifest.load(path).all_labels().items()
    }


LABELS = [{"energy": -1.5 * n, "charge": n - 2, "kind": "bulk" if n % 2 else "slab"} for n in range(4)]


@pytest.fixture
def items(salt):
    return [(f"g{n}", salt(n), labels) for n, labels in enumerate(LABELS)]


@pytest.fixture
def written(tmp_path, write, items):
    write(
        items,
        tmp_path / "x.lg",
        units={"energy": "eV"},
        per={"energy": "cell"},
        describe={"energy": "total energy", "kind": "how it was made"},
        required=["charge"],
        about={"title": "Salts", "license": "CC0-1.0"},
    )
    return tmp_path / "x.lg"


EXPECTED = {
    "energy": ("eV", "cell", "total energy", False),
    "charge": (None, None, None, True),
    "kind": (None, None, "how it was made", False),
}


def test_what_is_said_survives_writing_copying_and_appending(written, tmp_path, write, salt):
    assert said(written) == EXPECTED
    assert Manifest.load(written).about == {"title": "Salts", "license": "CC0-1.0"}
    lg.append(written, [("new", salt(9), LABELS[1])], workers=1, progress=False)
    assert said(written) == EXPECTED
    assert Manifest.load(written).about == {"title": "Salts", "license": "CC0-1.0"}
    report = write(lg.LazyGraphDataset(written)[:3], tmp_path / "y.lg")
    assert said(tmp_path / "y.lg") == EXPECTED
    assert Manifest.load(tmp_path / "y.lg").about == {"title": "Salts", "license": "CC0-1.0"}
    assert report.notes == ("3 of the 5 graphs of x.lg were chosen", COPIED)


def test_what_is_said_is_no_part_of_the_content_id(written, tmp_path, write, items):
    write(items, tmp_path / "y.lg")
    assert Manifest.load(tmp_path / "y.lg").content_id == Manifest.load(written).content_id


def test_the_same_call_again_is_done_and_one_that_says_something_else_is_not(written, write, items):
    options = {
        "units": {"energy": "eV"},
        "per": {"energy": "cell"},
        "describe": {"energy": "total energy", "kind": "how it was made"},
        "required": ["charge"],
        "about": {"title": "Salts", "license": "CC0-1.0"},
    }
    assert write(items, written, **options).written == 4
    for other in ({"per": {"energy": "atom"}}, {"required": []}, {"about": {}}, {"describe": {}}):
        with pytest.raises(lg.OutputExists, match="made from other input or with other options"):
            write(items, written, **(options | other))


def test_a_structure_without_a_required_label_is_quarantined(tmp_path, write, salt, quarantine):
    missing = [None, "na", float("nan"), ""]
    items = [(f"bad-{n}", salt(n), {"charge": value, "kind": "a"}) for n, value in enumerate(missing)]
    items += [("no-kind", salt(5), {"charge": 1, "kind": ""}), ("none", salt(6), {})]
    items += [(f"good-{n}", salt(10 + n), {"charge": 0, "kind": "a"}) for n in range(3)]
    write(items, tmp_path / "x.lg", required=["charge", "kind"])
    assert Store(tmp_path / "x.lg").column("charge").tolist() == [0, 0, 0]
    assert Store(tmp_path / "x.lg").column("charge").dtype == np.int64
    rejected = {one.id: one.message for one in quarantine(tmp_path / "x.lg")}
    assert rejected.keys() == {"bad-0", "bad-1", "bad-2", "bad-3", "no-kind", "none"}
    assert "label 'charge' is missing, and the dataset requires it" in rejected["bad-1"]
    assert "label 'kind' is missing" in rejected["no-kind"]
    report = lg.append(
        tmp_path / "x.lg", [("late", salt(20), {"kind": "b"}), ("fine", salt(21), LABELS[1])], workers=1, progress=False
    )
    assert (report.written, report.quarantined) == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": {"energy": "mole"}}, "found per='mole' for the label 'energy'; required: cell or atom"),
        ({"per": {"enregy": "cell"}}, "unknown label 'enregy'; did you mean 'energy'"),
        ({"per": {"kind": "cell"}}, "'kind', whose values are texts"),
        ({"describe": {"energy": "two\nlines"}}, "required: one printable line"),
        ({"describe": {"energy": ""}}, "required: one printable line"),
        ({"required": "spin"}, "unknown label 'spin'"),
        ({"required": ["forces"]}, "'forces' is a label of the atoms"),
        ({"about": {"titel": "x"}}, "unknown key of about 'titel'; did you mean 'title'"),
        ({"about": {"title": " "}}, "found about title=' '; required: a text of 1 to 10,000 bytes"),
        ({"about": {"title": "x" * 10_001}}, "required: a text of 1 to 10,000 bytes"),
    ],
)
def test_what_cannot_be_said_is_refused(options, message, tmp_path, write, salt):
    items = [("a", salt(), LABELS[0] | {"forces": np.zeros((2, 3))})]
    with pytest.raises(lg.InputError, match=message):
        write(items, tmp_path / "x.lg", **options)
    assert not (tmp_path / "x.lg").exists()


def test_an_append_says_nothing_new(written, capsys):
    for options in (["--per", "energy=atom"], ["--about", "title=x"], ["--required", "energy"]):
        for adding in ("--append", "--retry-quarantined"):
            assert main_write(["prototypes:2", "-o", str(written), adding, "--workers", "1", *options]) == 2
            assert f"{options[0]} cannot be combined with {adding}" in capsys.readouterr().err


def test_datasets_of_which_other_things_are_said_are_not_joined(tmp_path, write, salt):
    for name, per in (("a", "cell"), ("b", "atom"), ("c", None)):
        options = {} if per is None else {"per": {"energy": per}, "describe": {"energy": name}}
        write([(name, salt(ord(name)), {"energy": 1.0})], tmp_path / f"{name}.lg", **options)
    with pytest.raises(lg.InputError, match="one number a crystal, unit not given per cell and as .* per atom"):
        write([tmp_path / "a.lg", tmp_path / "b.lg"], tmp_path / "x.lg")
    write([tmp_path / "c.lg", tmp_path / "a.lg"], tmp_path / "x.lg")
    assert said(tmp_path / "x.lg") == {"energy": (None, "cell", "a", False)}


def test_labels_of_a_finished_dataset_are_described(written, bytes_of):
    before = bytes_of(written)
    describe_labels(written, Descriptions({"charge": "cell"}, {"charge": "in e"}, ["energy"]), units={"charge": "e"})
    assert said(written) == EXPECTED | {
        "charge": ("e", "cell", "in e", True),
        "energy": ("eV", "cell", "total energy", True),
    }
    after = bytes_of(written)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json"}
    set_labels(written, {"g0": {"gap": 1.0}}, descriptions=Descriptions({"gap": "cell"}, {"gap": "direct"}))
    assert said(written)["gap"] == (None, "cell", "direct", False)
    with pytest.raises(lg.InputError, match="the label 'gap' cannot be required: 3 values are missing"):
        describe_labels(written, Descriptions(required=["gap"]))
    with pytest.raises(lg.InputError, match="the label 'spin' is required, and 3 graphs have no value"):
        set_labels(written, {"g0": {"spin": 1}}, descriptions=Descriptions(required=["spin"]))
    with pytest.raises(lg.InputError, match="unknown label of numbers 'kind'"):
        describe_labels(written, Descriptions(), units={"kind": "eV"})


def test_about_a_finished_dataset(written, capsys):
    identity = Manifest.load(written).content_id
    assert set_about(written, {"doi": "10.1/x", "license": None}) == {"title": "Salts", "doi": "10.1/x"}
    assert main(["about", str(written), "level_of_theory=PBE=D3", "doi="]) == 0
    assert capsys.readouterr().out == "title: Salts\nlevel_of_theory: PBE=D3\n"
    assert main(["about", str(written), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"title": "Salts", "level_of_theory": "PBE=D3"}
    assert Manifest.load(written).content_id == identity
    for wrong in ("title", "titel=x", "=x"):
        assert main(["about", str(written), wrong]) == 2
    assert Manifest.load(written).about == {"title": "Salts", "level_of_theory": "PBE=D3"}


def test_ready_made_graphs_say_what_they_are(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg", about={"title": "Rings"}) as writer:
        writer.add({"z": np.ones(2)})
    assert Manifest.load(tmp_path / "x.lg").about == {"title": "Rings"}
    with pytest.raises(lg.InputError, match="unknown key of about"):
        lg.GraphWriter(tmp_path / "y.lg", about={"name": "Rings"})


# ---- energies of elements ----

CRYSTALS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["Fe", "O", "C", "Cl"]), st.integers(1, 3), min_size=1),
        st.integers(1, 3),
        st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))),
    ),
    min_size=1,
    max_size=30,
)


@given(CRYSTALS, st.booleans(), st.integers(1, 7))
def test_the_fit_is_that_of_numpy(crystals, per_atom, chunk):
    formulas, n_atoms, counts = [], [], []
    symbols = sorted({symbol for composition, _, value in crystals if value == value for symbol in composition})
    for composition, times, value in crystals:
        atoms = {symbol: n * times for symbol, n in composition.items()}
        numbers = [SYMBOLS.index(symbol) for symbol, n in atoms.items() for _ in range(n)]
        formulas.append(Crystal(np.eye(3) * 9, [[0.01 * n, 0, 0] for n in range(len(numbers))], numbers).formula)
        n_atoms.append(len(numbers))
        if value == value:
            counts.append([atoms.get(symbol, 0) / (len(numbers) if per_atom else 1) for symbol in symbols])
    values = np.array([value for _, _, value in crystals])
    expected = np.zeros(0)
    if counts:
        expected = np.linalg.lstsq(np.array(counts), values[np.isfinite(values)], rcond=None)[0]
    from lazygraph.writing import reference_energies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_energies, "CHUNK", chunk)
        fit = fit_by_elements(np.array([f.encode() for f in formulas]), np.array(n_atoms), values, per_atom=per_atom)
    assert list(fit.elements) == symbols
    np.testing.assert_allclose(
        list(fit.elements.values()), expected, atol=1e-8 * (1 + np.abs(values[np.isfinite(values)]).max(initial=0))
    )
    assert fit.graphs == len(counts)
    if counts:
        left = values[np.isfinite(values)] - np.array(counts) @ expected
        assert fit.rms == pytest.approx(np.sqrt((left**2).mean()), abs=1e-6)
        assert fit.determined == (np.linalg.matrix_rank(np.array(counts)) == len(symbols))


@pytest.mark.parametrize("per", ["cell", "atom"])
def test_reference_energies_are_stored_and_shown(per, tmp_path, write, capsys):
    known = {11: -1.5, 17: -2.25, 19: -4.0}
    items = []
    for n, numbers in enumerate([[11], [17, 17], [11, 17], [19, 17], [19, 19, 11], [11, 11, 17]]):
        crystal = Crystal(np.eye(3) * (5 + n / 9), [[0.3 * k, 0, 0] for k in range(len(numbers))], numbers)
        energy = sum(known[z] for z in numbers)
        items.append((f"g{n}", crystal, {"energy": energy / (len(numbers) if per == "atom" else 1), "kind": "a"}))
    items.append(("none", Crystal(np.eye(3) * 9, [[0, 0, 0]], [11]), {"energy": None, "kind": "a"}))
    path = tmp_path / "x.lg"
    write(items, path, units={"energy": "eV"})
    with pytest.raises(lg.InputError, match="Say which with --per energy=cell or --per energy=atom"):
        fit_elements(path, "energy")
    assert main(["labels", str(path), "--per", f"energy={per}", "--fit-elements", "energy"]) == 0
    assert "fitted energy of 6 graphs by 3 elements" in capsys.readouterr().out
    elements = Manifest.load(path).columns["energy"].statistics["elements"]
    assert elements == pytest.approx({"Na": -1.5, "Cl": -2.25, "K": -4.0})
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "elements    energy: Cl -2.25, K -4, Na -1.5" in out
    assert f"label       energy [eV] per {per}: " in out
    assert main(["verify", str(path)]) == 0
    report = lg.append(
        path, [("more", Crystal(np.eye(3) * 8, [[0, 0, 0]], [17]), {"energy": 1.0})], workers=1, progress=False
    )
    assert any("the reference energies of 'energy' were fitted to its old values" in note for note in report.notes)
    assert "elements" not in Manifest.load(path).columns["energy"].statistics
    for name, message in (("kind", "unknown label 'kind'"), ("enregy", "did you mean 'energy'")):
        with pytest.raises(lg.InputError, match=message):
            fit_elements(path, name)


def test_compositions_that_tell_no_elements_apart_are_noted(tmp_path, write, salt, capsys):
    write([(f"g{n}", salt(n), {"energy": -3.0}) for n in range(3)], tmp_path / "x.lg", per={"energy": "cell"})
    assert main(["labels", str(tmp_path / "x.lg"), "--fit-elements", "energy"]) == 0
    assert "do not tell all elements apart" in capsys.readouterr().err
    elements = Manifest.load(tmp_path / "x.lg").columns["energy"].statistics["elements"]
    assert elements == pytest.approx({"Cl": -1.5, "Na": -1.5})


def test_ready_made_graphs_have_no_elements(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        writer.add({"z": np.ones(2)}, labels={"energy": 1.0})
    describe_labels(tmp_path / "x.lg", Descriptions({"energy": "cell"}))
    with pytest.raises(lg.InputError, match="are ready-made, without formulas"):
        fit_elements(tmp_path / "x.lg", "energy")


# ---- the command line ----


def test_what_is_said_on_the_command_line(tmp_path, capsys):
    path = str(tmp_path / "p.lg")
    options = ["--per", "density=cell", "--describe", "density=mass per volume", "--required", "density"]
    options += ["--about", "title=Made of prototypes", "--workers", "1", "--no-progress"]
    assert main_write(["prototypes:5", "-o", path, *options]) == 0
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert "  title: Made of prototypes\n" in out
    assert "; required; mass per volume" in out
    assert main(["labels", path, "--describe", "density=heavy", "--unit", "density=g/cm^3"]) == 0
    assert capsys.readouterr().out == "described density\n"
    assert said(tmp_path / "p.lg")["density"] == ("g/cm^3", "cell", "heavy", True)
    assert main(["labels", path]) == 2
    assert "nothing to do; give --from" in capsys.readouterr().err
    assert main(["labels", path, "--label", "density"]) == 2
    assert main(["labels", path, "--per", "density"]) == 2
    assert main(["info", path, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["about"] == {"title": "Made of prototypes"}
    assert facts["labels"]["density"]["per"] == "cell"


def test_a_plan_says_what_the_dataset_is(tmp_path, capsys):
    path = str(tmp_path / "p.lg")
    assert main_write(["plan", "prototypes:5", "-o", path, "--about", "doi=10.1/x", "--required", "density"]) == 0
    assert main_write(["shard", path, "--task", "0"]) == 0
    assert main_write(["merge", path]) == 0
    assert Manifest.load(tmp_path / "p.lg").about == {"doi": "10.1/x"}
    assert said(tmp_path / "p.lg")["density"][3]


@settings(max_examples=20)
@given(st.text(max_size=20))
def test_any_text_is_said_or_refused(text):
    try:
        Descriptions(lines={"energy": text})
    except lg.InputError:
        assert not text.isprintable() or not text or any("\ud800" <= c <= "\udfff" for c in text)


def test_labels_are_not_described_while_graphs_are_added(written):
    layout = Layout.of(written)
    layout.partial.mkdir()
    layout.plan.write_text("{}")
    with pytest.raises(lg.OutputExists, match="finish this run, or delete the folder, and then describe labels"):
        describe_labels(written, Descriptions(lines={"energy": "x"}))


def test_what_utf8_cannot_write_is_refused(written, capsys):
    for command in (["about", str(written), "title=\udcff"], ["labels", str(written), "--unit", "energy=\udcff"]):
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_reference_energies_go_where_per_changes(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"x{k}", Crystal(np.eye(3) * 4, rng.random((2, 3)), [11 + k % 3, 17]), {"energy": float(k)}) for k in range(12)
    ]
    path = tmp_path / "x.lg"
    lg.write(rows, path, graph="none", workers=1, progress=False, per={"energy": "cell"})
    fit_elements(path, "energy")
    assert "elements" in Manifest.load(path).columns["energy"].statistics
    describe_labels(path, Descriptions(lines={"energy": "total"}))
    assert "elements" in Manifest.load(path).columns["energy"].statistics
    describe_labels(path, Descriptions(per={"energy": "atom"}))
    assert "elements" not in Manifest.load(path).columns["energy"].statistics


# ---- ready-made graphs ----


def graph_writer(path, **options):
    return lg.GraphWriter(path, units={"energy": "eV"}, **options)


def test_labels_of_ready_made_graphs_are_described_in_the_same_way(tmp_path):
    options = {"per": {"energy": "cell"}, "describe": {"energy": "total energy", "kind": "how it was made"}}
    with graph_writer(tmp_path / "x.lg", required=["charge"], **options) as writer:
        for k in range(3):
            labels = {"energy": -1.5 * k, "charge": k, "kind": f"kind {k}"}
            writer.add({"x": np.arange(k + 1)}, id=f"g{k}", labels=labels)
        for missing in ({"charge": None}, {}):
            with pytest.raises(LabelError, match="graph 'bad': label 'charge' is missing, and the dataset requires it"):
                writer.add({"x": np.arange(2)}, id="bad", labels={"energy": 1.0, "kind": "x", **missing})
        writer.add({"x": np.arange(2)}, id="bad", labels={"energy": None, "charge": 0, "kind": None})
    assert said(tmp_path / "x.lg") == EXPECTED
    assert lg.LazyGraphDataset(tmp_path / "x.lg").ids.tolist() == ["g0", "g1", "g2", "bad"]
    assert verify(tmp_path / "x.lg").problems == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": {"energy": "mole"}}, "found per='mole' for the label 'energy'; required: cell or atom"),
        ({"describe": {"energy": "two\nlines"}}, "required: one printable line"),
    ],
)
def test_a_writer_of_ready_made_graphs_refuses_what_cannot_be_said(options, message, tmp_path):
    with pytest.raises(LabelError, match=message):
        graph_writer(tmp_path / "x.lg", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": {"energi": "cell"}}, "unknown label 'energi'; did you mean 'energy'"),
        ({"describe": {"x": "a field"}}, "unknown label 'x'"),
        ({"required": "chargge"}, "unknown label 'chargge'; did you mean 'charge'"),
        ({"per": {"kind": "atom"}}, "per='atom' is given for 'kind', whose values are texts"),
        ({"required": ["charge"]}, "graph 'a': label 'charge' is missing"),
    ],
)
def test_what_is_said_must_fit_the_labels_of_the_first_graph(options, message, tmp_path):
    labels = {"energy": 1.0, "kind": "a", "charge": None}
    with pytest.raises(LabelError, match=message), graph_writer(tmp_path / "x.lg", **options) as writer:
        writer.add({"x": np.arange(2)}, id="a", labels=labels)
    assert list(tmp_path.iterdir()) == []
