"""Crystals of a stranger, every hash right, under every view: an error of its own that names the row, and no memory."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

import lazygraph as lg
from lazygraph.crystal import SYMBOLS
from lazygraph.reading.verify import verify
from lazygraph.reading.views import VIEWS
from tools.fuzz.hostile import Hostile
from tools.soak.apart import apart

from table import dense  # isort: skip

SECONDS = 600  # against a hang, with sanitizers on a busy machine too
MEMORY = 512 << 20  # bytes that reading may take
PRESETS = {
    "pyg": "comformer", "comformer": "comformer", "matformer": "matformer", "potnet": "potnet", "alignn": "alignn",
    "cgcnn": "cgcnn", "atlas": "atlas", "megnet": "megnet", "m3gnet": "m3gnet", "matgl-chgnet": "chgnet",
    "chgnet": "chgnet", "mace": "mace",
}  # fmt: skip
ALL = {
    name: lg.view(name, elements=SYMBOLS[1:]) if name in ("mace", "megnet", "m3gnet", "matgl-chgnet") else name
    for name in VIEWS
} | {"potnet": lg.view("potnet", sums=True)}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for preset in {*PRESETS.values(), "alignn-2026", "none"}:
        crystals = [(f"c{n}", lg.Crystal(np.diag([3.0, 3.2, 3.5 + n]), [[0, 0, 0], [0.5, 0.5, 0.4]], [11, 17]), {})
                    for n in range(4)]  # fmt: skip
        lg.write(crystals, folder / f"{preset}.lg", graph=preset, workers=1, progress=False)
    return {path.stem: Hostile(path) for path in folder.glob("*.lg")}


def test_every_view_is_tried():
    assert PRESETS.keys() == VIEWS.keys()


def said(path, view, row=1, **options):
    """The messages of the ways to read a row; each of them is a CorruptDataset that names the row."""
    ds, out = lg.LazyGraphDataset(path, view=view, **options), []
    ways = (lambda: ds[row], lambda: ds.batch([0, row, 2]), lambda: ds.batch([row]), lambda: list(lg.loader(ds, 3)))
    for read in ways:
        with pytest.raises(lg.CorruptDataset, match=rf"row {row}, id 'c{row}': ") as caught:
            read()
        out.append(str(caught.value))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 119, 255])
@pytest.mark.parametrize("view", VIEWS)
def test_an_atom_of_no_element(bases, view, number, tmp_path):
    d = bases[PRESETS[view]].copy()
    d.buffer(1, "numbers", bytes([17, number]))
    path = d.write(tmp_path / "d.lg")
    for message in said(path, ALL[view]):
        assert f"an atom has the atomic number {number}; required: 1 to 118" in message
    assert lg.LazyGraphDataset(path, view=ALL[view])[2].num_nodes == 2
    (problem,) = verify(path).problems
    assert "row 1, id 'c1': an atom has the atomic number" in problem


@pytest.mark.parametrize("change", ["numbers", "lattice"])
def test_impossible_crystals_alone(bases, change, tmp_path):
    d = bases["none"].copy()
    d.buffer(1, change, bytes([17, 0]) if change == "numbers" else lambda cell: bytes(len(cell)))
    path = d.write(tmp_path / "d.lg")
    expected = {"numbers": "atomic number 0", "lattice": "the cell is singular"}[change]
    for options in ({"graph": "mace"}, *([{}] if change == "numbers" else [])):
        for message in said(path, "pyg", **options):
            assert expected in message
    (problem,) = verify(path).problems
    assert "row 1, id 'c1': " in problem
    assert expected in problem


@pytest.mark.parametrize(
    ("preset", "view"), [("alignn", "alignn"), ("alignn-2026", "alignn"), ("m3gnet", "m3gnet"), ("chgnet", "chgnet")]
)
def test_angles_that_a_column_denies_take_no_memory(bases, preset, view, tmp_path):
    """4,000 edges make 16 million angles, of 100 bytes each."""
    d = bases[preset].copy()
    dense(d, 1, 4000)
    d.columns["n_triplets"][1] = 0
    path = d.write(tmp_path / "d.lg")
    ended, found = apart(said, path, view, seconds=SECONDS, memory=MEMORY)
    assert ended == "returned", found
    n = 4000 * (4000 if preset == "alignn-2026" else 3999)
    assert all(f"the record has {n} angles; the column n_triplets says 0" in message for message in found)
    named = f"n_triplets is {n} by the record; the column says 0"
    if preset == "alignn-2026":  # this recipe bounds the neighbours, so the record itself is wrong
        named = "an atom has 4000 neighbours; the recipe says at most 12"
    assert any(named in one for one in verify(path).problems)


def test_angles_for_which_there_is_no_memory_are_refused(bases, tmp_path, monkeypatch):
    from lazygraph.errors import NotEnoughMemory
    from lazygraph.reading import crystals

    monkeypatch.setattr(crystals, "memory_limit", lambda: 2**20)
    ds = lg.LazyGraphDataset(bases["alignn"].copy().write(tmp_path / "d.lg"), view="alignn")
    n = int(ds.columns["n_triplets"].sum())
    assert ds.batch(range(4)).line_graph.shape[1] == n
    monkeypatch.setattr(crystals, "memory_limit", lambda: 16 * n - 1)
    with pytest.raises(NotEnoughMemory, match=f"4 graphs have {n} angles"):
        ds.batch(range(4))


@pytest.mark.parametrize("view", ["cgcnn", "atlas"])
def test_more_neighbours_than_the_recipe_lets_an_atom_have(bases, view, tmp_path):
    d = bases[view].copy()
    dense(d, 1, 4000)
    for message in said(d.write(tmp_path / "d.lg"), view):
        assert "an atom has 4000 neighbours; the recipe says at most 12" in message


def test_edges_of_cgcnn_that_do_not_come_by_their_atoms(bases, tmp_path):
    d = bases["cgcnn"].copy()
    d.buffer(1, "edge_index", lambda ends: ends[12:24] + ends[:12] + ends[24:])
    for message in said(d.write(tmp_path / "d.lg"), "cgcnn"):
        assert "its edges do not come by their first atom" in message


@pytest.mark.parametrize(
    ("preset", "change", "expected"),
    [
        ("cgcnn", lambda d: dense(d, 1, 4000), "an atom has 4000 neighbours; the recipe says at most 12"),
        ("cgcnn", lambda d: d.buffer(1, "edge_index", lambda ends: ends[12:24] + ends[:12] + ends[24:]),
         "its edges do not come by their first atom"),
        ("chgnet", lambda d: unpaired(d, odd=True), "its recipe makes them in pairs"),
        ("comformer", lambda d: unpaired(d, odd=False), "is not followed by its reverse"),
        ("comformer", lambda d: d.buffer(1, "lattice", lambda cell: bytes(len(cell))), "the cell is singular"),
    ],
)  # fmt: skip
def test_verify_names_what_views_refuse(bases, preset, change, expected, tmp_path):
    """Also where no column would have to say another number."""
    d = bases[preset].copy()
    change(d)
    problems = verify(d.write(tmp_path / "d.lg")).problems
    assert any("row 1, id 'c1': " in one and expected in one for one in problems), problems


def unpaired(d, *, odd):
    parts = msgpack.unpackb(d.raws[1])
    edges = parts[1] - odd
    dense(d, 1, edges)
    d.buffer(1, "images", bytes([1, 2] * 3 * edges)[: 3 * edges])


@pytest.mark.parametrize("name", ["record", "n_edge"])
def test_a_column_that_is_not_as_its_digest_says_is_named_alike_in_every_way(bases, name, tmp_path):
    """It is not the fault of the row that is read."""
    d = bases["cgcnn"].copy()
    d.digests = lambda graphs, columns: (graphs, columns | {name: np.zeros(1, "V32")})
    ds = lg.LazyGraphDataset(d.write(tmp_path / "d.lg"))
    found = set()
    for read in (lambda: ds[1], lambda: ds.batch([1]), lambda: ds.batch([0, 1]), lambda: ds._store.frame(1)):
        with pytest.raises(
            lg.CorruptDataset, match=rf"columns/{name}-\w+.npy: the values of rows 0 to 3 are not"
        ) as one:
            read()
        found.add(str(one.value))
    assert len(found) == 1
    assert "row 1" not in found.pop()


@pytest.mark.parametrize("odd", [False, True])
def test_edges_of_chgnet_that_do_not_come_in_pairs(bases, odd, tmp_path):
    d = bases["chgnet"].copy()
    unpaired(d, odd=odd)
    for message in said(d.write(tmp_path / "d.lg"), "chgnet"):
        assert ("its recipe makes them in pairs" if odd else "is not followed by its reverse") in message


@pytest.mark.parametrize("lie", ["numbers", "lattice", "edge"])
def test_crystals_that_graphs_are_built_from(bases, lie, tmp_path):
    """``graph=`` relies on the crystals alone: impossible ones are named, and lies about edges change nothing."""
    d = bases["mace"].copy()
    match lie:
        case "numbers":
            d.buffer(1, "numbers", b"\0\1")
        case "lattice":
            d.buffer(1, "lattice", lambda cell: bytes(len(cell)))
        case "edge":
            unpaired(d, odd=True)
    path, spec = d.write(tmp_path / "d.lg"), lg.graph("cgcnn", cutoff=8.0, max_neighbors=4)
    if lie == "edge":
        assert lg.LazyGraphDataset(path, graph=spec)[1].num_edges == 8
        return
    expected = {"numbers": "atomic number 0", "lattice": "the cell is singular"}[lie]
    for message in said(path, "pyg", graph=spec):
        assert expected in message


def test_positions_that_single_precision_moves_by_more_than_a_bond(tmp_path):
    """matgl judges bonds by positions in single precision, which knows 0.06 A at 540,000 A."""
    crystal = lg.Crystal(np.diag([300.0, 3, 3]), [[0, 0, 0], [1800 + 4.02 / 300, 0, 0]], [11, 17])
    lg.write([("c", crystal, {})], tmp_path / "d.lg", graph="m3gnet", workers=1, progress=False)
    with pytest.raises(lg.InputError, match=r"the view 'm3gnet' in float32 finds other edges .* dtype='float64'"):
        lg.LazyGraphDataset(tmp_path / "d.lg", view="m3gnet")[0]
    ds = lg.LazyGraphDataset(tmp_path / "d.lg", view=lg.view("m3gnet", dtype="float64"))
    assert ds[0].line_edge_index.shape[1] == ds.columns["n_triplets"][0]


def test_a_bond_at_the_cutoff_of_angles_is_judged_as_the_model_does(tmp_path):
    """By its own arithmetic, which may find other angles than the column of the recipe says; that is no damage."""
    rng = np.random.default_rng(0)
    crystals = [
        (f"c{n}", lg.Crystal(np.eye(3) * 4.0, [[0, 0, 0], *(8 * rng.random((2, 3)))], [11, 17, 8]), {})
        for n in range(40)
    ]
    lg.write(crystals, tmp_path / "d.lg", graph="m3gnet", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "d.lg", view="m3gnet")
    batch = ds.batch(range(40))
    single = [graph.line_edge_index.shape[1] for graph in ds]
    assert sum(single) == batch.line_edge_index.shape[1]
    assert single != ds.columns["n_triplets"].tolist()
