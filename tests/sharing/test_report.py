"""``lazygraph report``: one file that says what is in a dataset, and in which no text of the dataset is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.crystal import SYMBOLS
from lazygraph.errors import CorruptDataset, DatasetReplaced
from lazygraph.markup.elements import Html, join, or_plain, tag
from lazygraph.markup.periodic_table import place_of
from lazygraph.reading.distributions import distribution_of, element_counts
from lazygraph.sharing.quarantine_reasons import OTHERS, quarantine_reasons
from lazygraph.storage.local import LocalStorage
from tools.fuzz.hostile import Hostile

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J\x00\n\u202e</style></title>-->"
SHORT = EVIL.replace("\x00", "").replace("\n", "")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "p.lg"
    lg.write(
        "prototypes:60?seed=0", path, workers=1, progress=False, split=(0.8, 0.1, 0.1),
        about={"title": "Prototypes", "license": "CC0-1.0"},
    )  # fmt: skip
    return path


class Read(HTMLParser):
    """What a page is made of: tags with attributes, the texts of scripts and styles, and the text of all others."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.raw, self.text, self._open = [], [], "", []
        self.feed(content.decode() if isinstance(content, bytes) else content)

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in ("meta", "br", "hr", "input"):
            self._open.append(name)

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, data):
        if self._open and self._open[-1] in ("script", "style"):
            self.raw.append((self._open[-1], data))
        else:
            self.text += data

    @property
    def data(self):
        return json.loads(next(text for kind, text in self.raw if kind == "script" and text.startswith("{")))


def made(dataset, folder, **options):
    written = lg.report(dataset, folder / "r.html", overwrite=True, **options)
    assert written.path == folder / "r.html"
    content = written.path.read_bytes()
    assert written.size == len(content) <= 2_000_000
    return written, Read(content)


# ---- what it says ----


def test_a_report_says_what_the_dataset_is(path, tmp_path):
    written, page = made(path, tmp_path)
    ds = lg.LazyGraphDataset(path)
    assert (written.graphs, written.shown, written.drawn, written.notes) == (60, 60, 60, ())
    for said in ("Prototypes", "CC0-1.0", "lazygraph.graph('comformer'", "60", "density", ds.content_id, "train 48"):
        assert said in page.text
    sections = [attributes["id"] for name, attributes in page.tags if name == "section"]
    assert sections == ["recipe", "labels", "splits", "distributions", "elements", "graphs", "provenance"]
    graphs = page.data["graphs"]
    assert [graph["id"] for graph in graphs] == ds.ids.tolist()
    assert [graph["atoms"] for graph in graphs] == ds.columns["n_atoms"].tolist()
    place = [title.split(" [")[0] for title in page.data["columns"]].index("density")
    assert [float(graph["values"][place]) for graph in graphs] == pytest.approx(ds.columns["density"], rel=1e-5)
    crystal = ds.crystal(7)
    structure = graphs[7]["structure"]
    assert structure["numbers"] == crystal.numbers.tolist()
    assert structure["lattice"] == pytest.approx(crystal.lattice.reshape(-1), abs=1e-4)
    assert set(page.data["elements"]) == {str(z) for k in range(60) for z in ds.crystal(k).numbers.tolist()}


def test_the_same_dataset_gives_the_same_bytes(path, tmp_path):
    made(path, tmp_path)
    first = (tmp_path / "r.html").read_bytes()
    shutil.copytree(path, tmp_path / "p.lg")
    made(str(tmp_path / "p.lg"), tmp_path)
    assert (tmp_path / "r.html").read_bytes() == first


def test_elements_are_counted_as_the_crystals_have_them(path, tmp_path):
    ds = lg.LazyGraphDataset(path)
    expected = Counter(SYMBOLS[z] for k in range(60) for z in set(ds.crystal(k).numbers.tolist()))
    found = element_counts(ds._store, range(60))
    assert (found.graphs, found.unknown) == (dict(sorted(expected.items(), key=lambda x: SYMBOLS.index(x[0]))), 0)
    for symbol, position in found.first.items():
        assert symbol in re.findall("[A-Z][a-z]?", str(ds.columns["formula"][position]))
        assert not any(symbol in re.findall("[A-Z][a-z]?", f) for f in ds.columns["formula"][:position].tolist())
    _, page = made(path, tmp_path, structures=5)
    buttons = {a["data-symbol"]: a for name, a in page.tags if name == "button" and "data-symbol" in a}
    assert list(buttons) == list(SYMBOLS[1:])
    for symbol, attributes in buttons.items():
        assert attributes["title"] == f"{symbol}: {expected[symbol]:,} graphs"
        assert ("disabled" in attributes) == (symbol not in expected)


@given(st.lists(st.text(st.sampled_from("CFeOl2abZ9X"), max_size=7), min_size=1, max_size=30))
def test_symbols_of_any_formulas(formulas):
    class Columns:
        def __init__(self):
            self.manifest, self.columns = self, {"formula": None}

        def column(self, name):
            return np.array([formula.encode() for formula in formulas], "S8")

    found = element_counts(Columns(), range(len(formulas)))
    expected = Counter(symbol for formula in formulas for symbol in re.findall("[A-Z][a-z]?", formula))
    known = {symbol: count for symbol, count in expected.items() if symbol in SYMBOLS[1:]}
    assert (found.graphs, found.unknown) == (known, expected.total() - sum(known.values()))


NUMBERS = st.lists(
    st.floats(width=64) | st.sampled_from([0.0, 1.0, 1e308, -1e308, 5e-324, 1.0 + 2**-52]), min_size=1, max_size=60
)


@given(NUMBERS, st.integers(1, 3), st.integers(0, 99))
def test_a_histogram_counts_every_value(values, components, seed):
    column = np.array(values * components).reshape(-1, components)
    codes = np.random.default_rng(seed).integers(0, 4, len(column)).astype(np.uint8)
    codes[codes == 3] = 255
    found = distribution_of(column, range(len(column)), codes, ["a", "b", "none"])
    inside = sum(map(sum, found.counts.values()))
    assert inside + found.below + found.above + found.missing + found.infinite == column.size
    finite = column[np.isfinite(column)]
    if finite.size:
        assert (found.least, found.greatest) == (finite.min(), finite.max())
        assert all(low < high for low, high in zip(found.edges, found.edges[1:], strict=False))
        assert set(map(len, found.counts.values())) == {len(found.edges) - 1}
        a = column[(codes == 0)].reshape(-1)
        a = a[(a >= found.edges[0]) & (a <= found.edges[-1])]
        assert sum(found.counts["a"]) == len(a)


@pytest.mark.parametrize(
    "values", [[0.0, 5e-324], [5e-324, 1e-323], [1.5e-323, 2e-323, 1e-322], [-5e-324, 0.0, 5e-324]]
)
def test_a_histogram_of_the_smallest_numbers_counts_every_value(values):
    found = distribution_of(np.array(values), range(len(values)))
    assert sum(found.counts["all graphs"]) == len(values)
    assert (found.below, found.above) == (0, 0)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5), min_size=1, max_size=50))
def test_a_histogram_of_integers_counts_every_value(values):
    found = distribution_of(np.array(values, np.int64), np.arange(len(values)))
    assert sum(found.counts["all graphs"]) + found.below + found.above == len(values)


def test_a_histogram_leaves_out_no_outlier_silently():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e9, -1e9, np.nan, np.inf]])
    found = distribution_of(values, range(len(values)))
    assert (found.below, found.above, found.missing, found.infinite) == (1, 1, 1, 1)
    assert found.edges[0] > -1
    assert found.edges[-1] < 2


def test_every_element_has_a_place_of_its_own():
    assert len({place_of(z) for z in range(1, 119)}) == 118
    assert {place_of(z)[1] for z in (2, 10, 18, 36, 54, 86, 118)} == {18}


# ---- which graphs ----


def test_the_rarest_elements_are_among_the_graphs(path, tmp_path):
    written, page = made(path, tmp_path, structures=50)
    assert (written.graphs, written.shown, written.drawn) == (60, 50, 50)
    shown = {symbol for graph in page.data["graphs"] for symbol in re.findall("[A-Z][a-z]?", graph["formula"])}
    ds = lg.LazyGraphDataset(path)
    assert shown == set(element_counts(ds._store, range(60)).graphs)
    assert "50 of 60 graphs: the first graph of each element" in page.text


def test_a_part_of_a_dataset(path, tmp_path):
    ds = lg.LazyGraphDataset(path)
    part = ds.where("n_atoms < 8")
    assert 0 < len(part) < 60
    written, page = made(part, tmp_path)
    assert written.graphs == len(part)
    assert [graph["id"] for graph in page.data["graphs"]] == part.ids.tolist()
    assert "graphs of 60" in page.text
    written, page = made(ds[30:10:-3], tmp_path)
    assert [graph["id"] for graph in page.data["graphs"]] == ds[30:10:-3].ids.tolist()
    written, page = made(ds[:0], tmp_path)
    assert (written.graphs, written.shown) == (0, 0)


def test_graphs_that_are_built_at_every_read(path, tmp_path):
    _, page = made(lg.LazyGraphDataset(path, graph="cgcnn"), tmp_path)
    assert "lazygraph.graph('cgcnn'" in page.text
    assert "built from the stored crystals at every read" in page.text
    assert "edges of a graph" not in page.text
    assert {graph["edges"] for graph in page.data["graphs"]} == {None}


def test_a_dataset_that_changed_since_it_was_opened(path, tmp_path):
    shutil.copytree(path, tmp_path / "p.lg")
    ds = lg.LazyGraphDataset(tmp_path / "p.lg")
    lg.set_splits(tmp_path / "p.lg", (0.5, 0.5, 0))
    with pytest.raises(DatasetReplaced, match="open it again"):
        lg.report(ds, tmp_path / "r.html")


def test_ready_made_graphs_have_no_crystals(tmp_path):
    with lg.GraphWriter(tmp_path / "g.lg") as writer:
        for k in range(5):
            writer.add(
                {"x": np.ones((3, 1)), "edge_index": np.array([[0, 1], [1, 2]])}, id=f"g{k}", labels={"score": k}
            )
    written, page = made(tmp_path / "g.lg", tmp_path)
    assert (written.graphs, written.shown, written.drawn) == (5, 5, 0)
    assert "are ready-made" in page.text
    assert "no column of formulas" in page.text
    assert "canvas" not in dict(page.tags)


def test_crystals_alone_and_inputs_that_are_no_crystals(tmp_path):
    iron = lg.Crystal(np.eye(3) * 2.87, [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 26])
    inputs = [("iron", iron), ("iron", iron), ("bad", {"no": "structure"}), ("worse", {"no": "structure"})]
    report = lg.write(inputs, tmp_path / "c.lg", graph="none", workers=1, progress=False)
    assert (report.written, report.quarantined) == (1, 3)
    _, page = made(tmp_path / "c.lg", tmp_path)
    assert "Crystals alone, without edges." in page.text
    assert "3 of 4 inputs could not become graphs" in page.text
    reasons = quarantine_reasons(lg.LazyGraphDataset(tmp_path / "c.lg")._store)
    assert sorted((one.error, one.count, one.id) for one in reasons) == [
        ("DuplicateId", 1, "iron"), ("UnreadableInput", 2, "bad"),
    ]  # fmt: skip
    assert all(one.message in page.text for one in reasons)


def test_reasons_beyond_a_hundred_are_counted_together(path, tmp_path):
    stored = Hostile(path)
    stored.body["inputs"] = 260
    stored.body["provenance"]["sources"] = []
    names = ("source", "position", "entry", "id", "error", "message")
    stored.quarantined = [
        json.dumps(dict(zip(names, ("s", k, k, f"q{k}", f"E{k}", "m"), strict=True))) for k in range(200)
    ]
    reasons = quarantine_reasons(lg.LazyGraphDataset(stored.write(tmp_path / "q.lg"))._store)
    assert len(reasons) == 101
    assert sum(one.count for one in reasons) == 200
    assert (reasons[0].error, reasons[0].count) == (OTHERS, 100)


# ---- strangers ----


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Hostile texts wherever a text may stand, and every checksum right."""
    folder = tmp_path_factory.mktemp("hostile")
    inputs = [
        (f"c{k}", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11 + k]), {"gap": k / 7, "kind": "a", "free": f"t{k}"})
        for k in range(300)
        if k < 40
    ]
    lg.write(inputs, folder / "good.lg", graph="cgcnn", workers=1, progress=False, split=(0.5, 0.25, 0.25))
    stored = Hostile(folder / "good.lg")
    columns = stored.body["columns"]
    for column in columns.values():
        column["unit"] = SHORT if column["role"] == "label" else None
        if column["role"] in ("label", "category", "text"):
            column["description"] = printable_only(SHORT)
    columns["split"]["categories"] = ["train", SHORT, f"x{SHORT}"]
    columns["split"]["rule"] = None
    if columns["kind"]["role"] == "category":
        columns["kind"]["categories"] = [SHORT]
    stored.body["provenance"] |= {
        "sources": [{"name": EVIL, "inputs": 40, "files": [{"name": EVIL, "size": 3, "sha256": EVIL}]}],
        "versions": {EVIL: EVIL},
        "notes": [EVIL] * 300,
    }
    stored.body["about"] = {"title": SHORT, "description": EVIL * 50, "homepage": "javascript:alert(1)"}
    stored.body["user"] = {EVIL: EVIL}
    stored.columns["id"] = np.array([f"c{k}{SHORT}".encode() for k in range(40)])
    stored.columns["id_order"] = np.argsort(stored.columns["id"], kind="stable").astype(
        stored.columns["id_order"].dtype
    )
    stored.columns["formula"] = np.array([f"{SHORT}{k}".encode() for k in range(40)])
    return stored.write(folder / "d.lg")


def printable_only(text):
    return "".join(c for c in text if c.isprintable())


ALLOWED = (
    "html head meta title style body header main footer nav section h1 h2 h3 p a div span strong code table thead "
    "tbody tr th td ul li figure figcaption svg path rect text button label input canvas script noscript"
).split()


def check_nothing_got_in(page, content):
    """Only the tags of lazygraph, no handler, no address, and nothing but its own two scripts."""
    assert {name for name, _ in page.tags} <= set(ALLOWED)
    for name, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "style", "srcset", "action")]
        assert attributes.get("href", "#").startswith("#"), name
    scripts = [attributes for name, attributes in page.tags if name == "script"]
    assert [attributes.get("type") for attributes in scripts] == ["application/json", None]
    policy = next(a["content"] for n, a in page.tags if n == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind, text in page.raw:
        if not text.startswith("{"):
            assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert content.decode().replace("\n", "").isprintable()


def test_hostile_texts_are_text(hostile, tmp_path):
    written, page = made(hostile, tmp_path)
    check_nothing_got_in(page, written.path.read_bytes())
    assert page.text.count("<script>alert(1)</script>") > 10
    ids = [graph["id"] for graph in page.data["graphs"]]
    assert len(ids) == 40
    assert all("<script>alert(1)</script>" in graph_id for graph_id in ids)
    assert all(text.isprintable() for graph in page.data["graphs"] for text in (graph["id"], graph["formula"]))


def test_hostile_texts_in_a_notebook(hostile):
    ds = lg.LazyGraphDataset(hostile, target="gap")
    page = Read(ds._repr_html_())
    assert {name for name, _ in page.tags} <= {*ALLOWED, "details", "summary"} - {"script", "input", "a", "form"}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert all(line.isprintable() for line in repr(ds).split("\n"))


@given(st.text(), st.text())
def test_no_text_becomes_markup(text, other):
    page = Read(tag("p", text, title=other))
    ((name, attributes),) = page.tags
    assert (name, list(attributes)) == ("p", ["title"])
    assert page.text.isprintable()
    if text.isprintable() and len(text) <= 1000:
        assert page.text == text
    if other.isprintable():
        assert attributes["title"] == other
    assert join([Html("<b>"), text]).startswith("<b>")


def test_a_file_has_at_most_two_megabytes(tmp_path):
    """Many atoms, many labels, long texts: crystals give way, and the report says so."""
    rng = np.random.default_rng(0)
    inputs = [
        (
            f"{k:03}" + "i" * 200,
            lg.Crystal(np.eye(3) * 30, rng.random((700, 3)), rng.integers(1, 40, 700)),
            {f"label {n:03} {'n' * 60}": rng.random() for n in range(90)},
        )
        for k in range(150)
    ]
    lg.write(inputs, tmp_path / "b.lg", graph="none", workers=1, progress=False)
    written, page = made(tmp_path / "b.lg", tmp_path, structures=150)
    assert 0 < written.drawn < written.shown == 150
    assert any("crystals are not drawn, so that the file has at most 2 MB" in note for note in written.notes)
    # Of 90 labels and the number of atoms, 60 are drawn.
    assert any(note.startswith("31 labels have no histogram") for note in written.notes)
    assert "the table of graphs shows 12 of the 90 labels" in written.notes


def test_long_texts_take_the_place_of_graphs(tmp_path):
    """Without a crystal the page would still be too large: then fewer graphs are shown, and the report says so."""
    crystal = lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [26])
    inputs = [(f"{k:04}{'<' * 200}", crystal, {f"t{n}": f"{k}{'&' * 200}" for n in range(12)}) for k in range(600)]
    lg.write(inputs, tmp_path / "t.lg", graph="none", workers=1, progress=False)
    written, page = made(tmp_path / "t.lg", tmp_path, structures=600)
    assert 0 < written.shown < 600
    assert f"{written.shown} of 600 graphs" in page.text
    check_nothing_got_in(page, written.path.read_bytes())


class Elsewhere:
    """A storage whose files are fetched before they are read."""

    def __init__(self, path):
        local = LocalStorage(path)
        self.name, self.state, self.manifest, self.renew = local.name, local.state, local.manifest, local.renew
        self.is_at_hand, self.descriptor, self.read, self.stream = (
            local.is_at_hand, local.descriptor, local.read, local.stream
        )  # fmt: skip


def test_a_dataset_that_lies_elsewhere(path, tmp_path):
    written, page = made(Elsewhere(path), tmp_path)
    assert (written.graphs, written.drawn) == (60, 60)
    assert lg.LazyGraphDataset(path).content_id in page.text
    ds = lg.LazyGraphDataset(Elsewhere(path), target="density")
    assert "train, val, test" in repr(ds)  # no column is fetched to show it
    assert "<svg" not in ds._repr_html_()
    assert made(ds.where("n_atoms < 8"), tmp_path)[0].graphs < 60


# ---- files and errors ----


def test_a_file_that_is_there_is_kept(path, tmp_path):
    out = tmp_path / "r.html"
    out.write_text("mine")
    with pytest.raises(lg.OutputExists, match=r"r\.html exists; .*--overwrite"):
        lg.report(path, out)
    assert out.read_text() == "mine"
    lg.report(path, out, overwrite=True)
    assert out.read_text().startswith("<!doctype html>")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_outputs_that_cannot_be(path, tmp_path):
    with pytest.raises(lg.OutputExists, match="is a directory"):
        lg.report(path, path, overwrite=True)
    with pytest.raises(lg.OutputExists, match="no regular file"):
        lg.report(path, "/dev/null", overwrite=True)
    with pytest.raises(lg.InputError, match="no folder"):
        lg.report(path, tmp_path / "none" / "r.html")


@pytest.mark.parametrize("structures", [0, -1, 1001, 2.0, True, "5"])
def test_a_number_of_structures_that_cannot_be(structures, path, tmp_path):
    with pytest.raises(lg.InputError, match="required: an integer from 1 to 1,000"):
        lg.report(path, tmp_path / "r.html", structures=structures)


def test_something_that_is_no_dataset(tmp_path):
    with pytest.raises(lg.DatasetNotFound):
        lg.report(tmp_path / "none.lg", tmp_path / "r.html")
    with pytest.raises(lg.InputError, match="found a list"):
        lg.report([1, 2], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_gives_no_report(path, tmp_path):
    shutil.copytree(path, tmp_path / "p.lg")
    shard = next((tmp_path / "p.lg" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    for place in range(0, len(data), 97):
        data[place] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptDataset):
        lg.report(tmp_path / "p.lg", tmp_path / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["p.lg"]


def test_the_command(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(path), "-o", "r.html", "--structures", "20"]) == 0
    size = Path("r.html").stat().st_size
    assert capsys.readouterr().out == f"r.html: {size:,} bytes, 60 graphs, 20 of them one by one, 20 crystals\n"
    assert main(["report", str(path), "-o", "r.html"]) == 2
    assert capsys.readouterr().err.startswith("lazygraph: error: r.html exists")
    assert main(["report", str(path), "-o", "r.html", "--overwrite"]) == 0


def test_the_script_and_the_styles_are_in_the_package():
    for name in ("report.js", "report.css"):
        text = files("lazygraph.sharing").joinpath(name).read_text(encoding="utf-8")
        assert "</" not in text
        assert not re.search("https?:|fetch|XMLHttpRequest|WebSocket|innerHTML|eval|import", text)
        assert text.replace("\n", "").isprintable()


# ---- terminals and notebooks ----


def test_a_dataset_in_a_terminal(path):
    ds = lg.LazyGraphDataset(path, target="density", view="comformer")
    assert repr(ds).split("\n") == [
        f"LazyGraphDataset({str(path)!r}, 60 graphs)",
        f"  recipe  {ds.spec!r}",
        "  view    comformer",
        "  target  density",
        "  splits  train 48, val 6, test 6",
    ]
    assert repr(ds.split("val")).split("\n")[0].endswith("6 of 60 graphs)")
    assert repr(ds.split("val")).split("\n")[-1] == "  splits  train 0, val 6, test 0"
    assert "built at every read" in repr(lg.LazyGraphDataset(path, graph="cgcnn"))


def test_a_dataset_in_a_notebook(path):
    ds = lg.LazyGraphDataset(path, target="density")
    page = Read(ds._repr_html_())
    for said in ("Prototypes: 60 graphs", "density", "train 48, val 6, test 6", "atoms in a graph", "Fe"):
        assert said in page.text
    assert sum(name == "svg" for name, _ in page.tags) >= 4
    assert len(ds._repr_html_()) < 200_000
    assert Read(ds[:0]._repr_html_()).text.startswith("Prototypes: 0 graphs") or "0 graphs" in ds[:0]._repr_html_()


def test_a_damaged_dataset_can_be_shown(path, tmp_path):
    shutil.copytree(path, tmp_path / "p.lg")
    ds = lg.LazyGraphDataset(tmp_path / "p.lg")
    for file in (tmp_path / "p.lg" / "columns").iterdir():
        file.write_bytes(b"damaged")
    assert "60 graphs" in repr(ds)
    assert "train, val, test" in repr(ds)
    assert "60 graphs" in ds._repr_html_()
    assert Read(ds._repr_html_()).text.startswith("LazyGraphDataset(")


def test_an_object_that_cannot_be_shown_as_html():
    def broken():
        raise ZeroDivisionError

    assert or_plain(broken, lambda: "a <b>\nc") == "<pre>a &lt;b&gt;\nc\n</pre>"


def test_recipes_and_reports_of_writes_in_a_notebook(tmp_path):
    recipe = lg.graph("m3gnet", cutoff=6.0)
    page = Read(recipe._repr_html_())
    assert repr(recipe) in page.text
    assert "threebody_cutoff4.0" in page.text
    inputs = [("a", lg.Crystal(np.eye(3), [[0, 0, 0]], [1])), (f"b{EVIL}", {"no": "structure"})]
    report = lg.write(inputs, tmp_path / f"w{SHORT.replace('/', '')}.lg", graph="none", workers=1, progress=False)
    page = Read(report._repr_html_())
    assert {name for name, _ in page.tags} <= {"div", "style", "table", "tr", "th", "td", "p"}
    for said in ("Wrote 1 graphs", "quarantined1", "<script>alert(1)"):
        assert said in page.text


def test_results_of_training_never_print_every_prediction(tmp_path):
    pytest.importorskip("lightning")
    from lazygraph.training.folder import Folder
    from lazygraph.training.predict import Predictions
    from lazygraph.training.report import Prediction, scores_of
    from lazygraph.training.residuals import Composition, worst_of
    from lazygraph.training.results import Results
    from lazygraph.training.targets import Targets

    targets = Targets((f"gap{EVIL}", "mass"), ("eV", None), (0.0, 0.0), (1.0, 1.0))
    rows = [Prediction(f"id-{k}{EVIL}", [k * 0.1, 1.0], [k * 0.1 + 0.01, np.nan]) for k in range(5000)]
    scores = scores_of(rows, targets)
    names = np.array([f"Na{EVIL}"] * len(rows))
    results = Results(
        options=lg.TrainOptions(target=("gap", "mass"), model=f"nets:{SHORT}"), parameters=12_345,
        graphs={"train": 9, "val": 1, "test": 5000}, scores=scores, baseline=scores, predictions=rows,
        worst=worst_of(rows, targets, Composition(names, None)), checkpoint=tmp_path / "b.ckpt",
        folder=Folder(tmp_path), epochs=3, seconds={"training": 1.0}, waited=0.1, quarantined=2, unlabelled=0,
        in_no_split=1, splits="split",
    )  # fmt: skip
    said = repr(results)
    assert len(said) < 1000
    assert "5,000 predictions" in said
    assert "mae 0.01 (baseline 0.01)" in said
    assert "no label to compare with" in said
    shown = results._repr_html_()
    page = Read(shown)
    assert len(shown) < 60_000
    assert "500 of 5,000 graphs" in page.text
    for said in ("12,345 trainable parameters", "train 9, val 1, test 5,000", "The worst predictions of gap"):
        assert said in page.text
    assert page.text.count("id-") == 10
    assert sum(name == "svg" for name, _ in page.tags) == 1
    assert "script" not in dict(page.tags)
    predictions = Predictions(targets, rows, [{"id": "x", "message": "y"}])
    assert len(repr(predictions)) < 500
    assert "\n" not in repr(predictions)
    page = Read(predictions._repr_html_())
    assert "and 4,995 more predictions" in page.text
    assert "script" not in dict(page.tags)
    assert len(predictions._repr_html_()) < 10_000
    empty = Predictions(targets, [], [])
    assert "0 graphs" in repr(empty)
    assert Read(empty._repr_html_()).text
