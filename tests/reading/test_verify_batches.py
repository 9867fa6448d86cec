"""Records that are checked together: what is found sound has no problem record by record, and all problems stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.store import Store
from lazygraph.reading import verify_batches, verify_checks
from lazygraph.reading.verify import verify
from lazygraph.reading.verify_batches import can_check_together, pieces, records_are_sound
from lazygraph.reading.verify_checks import check_rows
from tools.fuzz.hostile import Hostile

ROWS = 9
PRESETS = ("cgcnn", "comformer", "mace", "none")


def write_ready(path):
    """Ready-made graphs with indices of every kind: of nodes and of edges, one number, narrow types, a row of each."""
    with lg.GraphWriter(path, counts={"edge_of_node": "edge"}) as writer:
        for n in range(2, 2 + ROWS):
            ring = np.stack([np.arange(n), (np.arange(n) + 1) % n])
            writer.add(
                {
                    "x": np.full((n, 2), n, np.float32),
                    "edge_index": ring,
                    "face": np.stack([np.arange(n)] * 3).astype(np.int16)[:, : n - 1],
                    "root_index": np.array([[n - 1]], np.uint8),
                    "edge_of_node": np.arange(n, dtype=np.int32)[None],
                    "name": f"ring {n}",
                }
            )


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Name -> a good dataset."""
    folder = tmp_path_factory.mktemp("good")
    for preset in PRESETS:
        lg.write(f"prototypes:{ROWS}?seed=2", folder / preset, graph=preset, workers=1, progress=False)
    write_ready(folder / "ready")
    return {name: folder / name for name in (*PRESETS, "ready")}


@pytest.fixture(scope="module")
def parts(good):
    """Name -> the same as parts that can be changed."""
    return {name: Hostile(path) for name, path in good.items()}


@pytest.fixture(params=["compiled", "plain"])
def loops(request, monkeypatch):
    """Datasets are read with compiled loops, and without."""
    if request.param == "plain":
        monkeypatch.setattr("lazygraph.format.native_reader.kernels", lambda: None)


def problems(path, *, together):
    """What is said of all rows, and whether all of them were found sound."""
    store, found = Store(path), []

    def sound(*args):
        found.append(records_are_sound(*args))
        return found[-1]

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(verify_checks, "records_are_sound", sound if together else lambda *_: False)
        return list(check_rows(store, np.arange(len(store)))), bool(found) and all(found)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("name", [*PRESETS, "ready"])
def test_good_records_are_found_sound(good, name):
    assert problems(good[name], together=True) == ([], True)


def test_angles_are_counted_graph_by_graph(tmp_path):
    lg.write("prototypes:3?seed=2", tmp_path / "a", graph="alignn", workers=1, progress=False)
    store = Store(tmp_path / "a")
    assert not can_check_together(store, lg.LazyGraphDataset(tmp_path / "a").spec)
    assert verify(tmp_path / "a").problems == ()


def changed_bytes(buffer, places):
    out = bytearray(buffer)
    for place, value in places:
        if out:
            out[place % len(out)] = value
    return bytes(out)


@pytest.mark.usefixtures("loops")
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_a_record_is_told_as_record_by_record(parts, tmp_path_factory, data):
    name = data.draw(st.sampled_from([*PRESETS, "ready"]))
    dataset, row = parts[name].copy(), data.draw(st.integers(0, ROWS - 1))
    fields = [field["name"] for field in dataset.body["schema"]["fields"]]
    numbers = st.sampled_from([0, 1, 2, 3, 5, 9, 10, 100, 119, 127, 128, 254, 255])
    places = st.lists(st.tuples(st.integers(0, 4000), numbers), min_size=1, max_size=3)
    field = data.draw(st.sampled_from([None, *fields]))
    if field is None:
        dataset.raws[row] = changed_bytes(dataset.raws[row], data.draw(places))
    else:
        dataset.buffer(row, field, lambda buffer: changed_bytes(buffer, data.draw(places)))
    path = dataset.write(tmp_path_factory.mktemp("changed") / "d.lg")
    told, sound = problems(path, together=True)
    assert told == problems(path, together=False)[0]
    assert not (told and sound)


def with_code(dataset, row, field, change):
    """Change the code of a field, which says how its values are stored."""
    place = [each["name"] for each in dataset.body["schema"]["fields"]].index(field)
    codes = len(dataset.body["schema"]["axes"])
    dataset.part(row, codes, lambda old: old[:place] + bytes([change(old[place])]) + old[place + 1 :])


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("ready", "edge_index"),
        ("ready", "face"),
        ("ready", "edge_of_node"),
        ("cgcnn", "edge_index"),
        ("comformer", "edge_index"),
        ("mace", "edge_index"),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_an_index_of_the_graph_beside_it_is_found(parts, tmp_path, name, field, before):
    """The first node or edge of the next graph, or the last one of the graph before."""
    dataset, row = parts[name].copy(), 4
    count = int(dataset.columns["n_edge" if field == "edge_of_node" else "n_node"][row])
    with_code(dataset, row, field, lambda code: (code & 0x80) + (0 if before else code & 0x7F))
    dataset.buffer(row, field, lambda buffer: bytes([255 if before else count]) + buffer[1:])
    told, sound = problems(dataset.write(tmp_path / "d.lg"), together=True)
    assert not sound
    assert any(f"{field} holds" in one and (" -1 to" in one or not before) for one in told)
    assert all(f"row {row}," in one for one in told[:1])
    assert told == problems(tmp_path / "d.lg", together=False)[0]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("lattice", lambda _: bytes(72), "the cell is singular"),
        ("lattice", lambda _: np.diag([np.nan, 1.0, 1.0]).tobytes(), "the lattice holds NaN"),
        ("lattice", lambda _: np.diag([2e6, 1.0, 1.0]).tobytes(), "a lattice vector reaches"),
        ("frac_coords", lambda buffer: b"\xff" * len(buffer), "the fractional coordinates of atom 0"),
        (
            "frac_coords",
            lambda buffer: np.full(len(buffer) // 8, 2e6).tobytes(),
            "the fractional coordinates of atom 0",
        ),
        ("numbers", lambda buffer: b"\0" + buffer[1:], "an atom has the atomic number 0"),
        ("numbers", lambda buffer: buffer[:-1] + b"\x77", "an atom has the atomic number 119"),
    ],
)
def test_impossible_crystals_are_found(parts, tmp_path, field, change, said):
    dataset, row = parts["none"].copy(), 4
    if field == "numbers":
        dataset.buffer(row, field, change)
    else:  # as float64
        with_code(dataset, row, field, lambda _: 10)
        size = 72 if field == "lattice" else 24 * int(dataset.columns["n_node"][row])
        dataset.buffer(row, field, lambda _: change(bytes(size)))
    told, sound = problems(dataset.write(tmp_path / "d.lg"), together=True)
    assert not sound
    assert said in told[0]
    assert told == problems(tmp_path / "d.lg", together=False)[0]


def with_edges(dataset, row, edges, images):
    """Replace the edges of a record, stored as int8 where that holds them, and else as int64."""
    for name, value in (("edge_index", np.array(edges)), ("images", np.array(images).T)):
        narrow = np.array_equal(value, value.astype(np.int8))
        with_code(dataset, row, name, lambda _, narrow=narrow: 0 if narrow else 3)
        dataset.buffer(row, name, np.ascontiguousarray(value, "<i1" if narrow else "<i8").tobytes())
    dataset.count(row, "edge", len(images))
    dataset.columns["n_edge"][row] = len(images)


PAIR = [[0, 0], [0, 0]], [[1, 0, 0], [-1, 0, 0]]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("name", "edges", "images", "said"),
    [
        ("comformer", *PAIR, None),
        ("mace", [[0, 0, 0], [0, 0, 0]], [[1, 0, 0], [-1, 0, 0], [0, 0, 1]], "makes them in pairs"),
        ("mace", [[0, 1], [0, 0]], PAIR[1], "is not followed by its reverse"),
        ("mace", [[0, 0], [0, 1]], PAIR[1], "is not followed by its reverse"),
        ("mace", [[0, 0], [0, 0]], [[1, 0, 0], [-1, 0, 1]], "is not followed by its reverse"),
        ("mace", [[0, 0], [0, 0]], [[-(2**63), 0, 0]] * 2, None),  # its own negative, as check_edges computes it
        ("mace", [[0, 0], [0, 0]], [[-128, 0, 0]] * 2, "is not followed by its reverse"),
        ("cgcnn", [[1, 0], [0, 1]], PAIR[1], "do not come by their first atom"),
        ("cgcnn", [[0] * 13, [0] * 13], [[k, 1, 0] for k in range(13)], "an atom has 13 neighbours"),
    ],
)
def test_the_order_and_the_number_of_edges(parts, tmp_path, name, edges, images, said):
    dataset = parts[name].copy()
    with_edges(dataset, 4, edges, images)
    told, sound = problems(dataset.write(tmp_path / "d.lg"), together=True)
    assert [one for one in told if "digest" not in one] == ([] if said is None else told)
    assert sound is (said is None)
    assert said is None or said in told[0]
    assert told == problems(tmp_path / "d.lg", together=False)[0]


def test_edges_of_the_next_crystal_do_not_make_a_pair_whole(parts, tmp_path):
    dataset = parts["mace"].copy()
    for row in (3, 4):  # one edge each
        with_edges(dataset, row, [[0], [0]], [[1 - 2 * (row - 3), 0, 0]])
    told, sound = problems(dataset.write(tmp_path / "d.lg"), together=True)
    assert not sound
    assert len(told) == 2


@pytest.mark.parametrize("values", [1, 1000, 2**19])
def test_pieces_are_all_rows_in_order_and_of_bounded_size(good, monkeypatch, values):
    monkeypatch.setattr(verify_batches, "ROWS", 4)
    monkeypatch.setattr(verify_batches, "VALUES", values)
    store = Store(good["mace"])
    found = list(pieces(store, np.arange(ROWS)))
    assert np.concatenate(found).tolist() == list(range(ROWS))
    for piece in found:
        counts = [store.column(f"n_{axis}")[piece].astype(int) for axis in store.manifest.schema.axes]
        assert len(piece) == 1 or store.manifest.schema.values(counts).sum() <= values
        assert len(piece) <= 4
    assert len(found) == {1: ROWS, 2**19: 3}.get(values, len(found))


def test_records_elsewhere_are_fetched_once(good, monkeypatch):
    store = Store(good["mace"])
    monkeypatch.setattr(Store, "is_remote", property(lambda _: True))
    monkeypatch.setattr(type(store.storage), "is_at_hand", lambda *_: False)
    monkeypatch.setattr(store, "read_batch", lambda _: pytest.fail("it was fetched"))
    assert not records_are_sound(store, np.arange(ROWS), None)
