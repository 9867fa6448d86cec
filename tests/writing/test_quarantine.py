"""Bad inputs: named with position, id and reason, the others written, and tried again when asked."""

from __future__ import annotations

import gzip
import json
import random

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.writing.layout import Layout
from lazygraph.writing.quarantine import input_of_rows

CUBE = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]


def atoms(lattice=CUBE, coords=((0, 0, 0), (0.5, 0.5, 0.5)), elements=("Na", "Cl"), **more):
    return {"lattice_mat": lattice, "coords": coords, "elements": elements, "cartesian": False} | more


def disordered():
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def close(distance):
    return atoms(coords=[[0, 0, 0], [distance / 4, 0, 0]])


GOOD = {
    "left-handed": atoms([[0, 4.0, 0], [4.0, 0, 0], [0, 0, 4.0]]),
    "thin": atoms([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 0.151]], coords=[[0, 0, 0]], elements=["H"]),
    "far": close(0.1501),
    "negative": atoms(coords=[[-3.25, 0, 0], [7.5, 0.5, 0.5]]),
    "heaviest": atoms(elements=("Og", "H")),
}
BAD = {
    "no atoms": (atoms(coords=[], elements=[]), "StructureError", "no atoms"),
    "disorder": (disordered(), "StructureError", "disordered"),
    "beyond the table": (atoms(elements=("Na", "Uue")), "StructureError", "element"),
    "too close": (close(0.1499), "StructureError", "0.15"),
    "the same place": (close(0.0), "StructureError", "0.15"),
    "close to an image": (atoms(coords=[[0, 0, 0], [0.999, 0, 0]]), "StructureError", "0.15"),
    "close to itself": (
        atoms([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 0.149]], coords=[[0, 0, 0]], elements=["H"]), "StructureError", "0.15",
    ),
    "singular": (atoms([[4.0, 0, 0], [8.0, 0, 0], [0, 0, 4.0]]), "StructureError", "singular"),
    "nearly singular": (atoms([[1e-3, 0, 0], [0, 1e-3, 0], [0, 0, 0.9]]), "StructureError", "singular"),
    "NaN": (atoms(coords=[[0, 0, 0], [float("nan"), 0, 0]]), "StructureError", "finite"),
    "infinity": (atoms([[float("inf"), 0, 0], [0, 4, 0], [0, 0, 4]]), "StructureError", "infinity"),
    "no structure": (17, "StructureError", "found"),
    "unreadable": ("data_\n_cell_length_a nonsense\n", "UnreadableInput", ""),
}  # fmt: skip


def test_every_kind_of_bad_input(tmp_path, write, quarantine, sound):
    """All at once, between good ones, in shuffled order and in small shards."""
    kinds = [(name, structure, None, None) for name, structure in GOOD.items()]
    kinds += [(name, *kind) for name, kind in BAD.items()]
    random.Random(1).shuffle(kinds)
    report = write([(name, structure) for name, structure, _, _ in kinds], tmp_path / "x.lg", shard_size=4)
    assert (report.written, report.quarantined) == (len(GOOD), len(BAD))
    assert Manifest.load(tmp_path / "x.lg").inputs == len(kinds)
    assert lg.LazyGraphDataset(tmp_path / "x.lg").ids.tolist() == [name for name, *_, why in kinds if why is None]
    found = quarantine(tmp_path / "x.lg")
    assert [(one.position, one.id) for one in found] == [
        (position, name) for position, (name, *_, why) in enumerate(kinds) if why is not None
    ]
    for one in found:
        _, error, words = BAD[one.id]
        assert one.error in {error, "UnreadableInput"}
        assert words in one.message
        assert (one.source, one.entry) == ("python", one.position)
    assert sound(tmp_path / "x.lg").quarantine.count == len(BAD)


def test_the_report_says_how_many_and_where_to_look(tmp_path, write, append):
    items = [("a", atoms()), ("b", 17), ("ü\u2028\n", 18), ("c", atoms())]
    report = write(items, tmp_path / "x.lg")
    assert (report.written, report.quarantined) == (2, 2)
    assert report.quarantine_file.parent == report.path
    lines = report.quarantine_file.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["id"] for line in lines] == ["b", "ü\u2028\n"]
    assert json.loads(lines[0]) == {
        "source": "python", "position": 1, "entry": 1, "id": "b", "error": "StructureError",
        "message": json.loads(lines[0])["message"],
    }  # fmt: skip
    assert append(tmp_path / "x.lg", [("d", 3), ("e", atoms())]).quarantined == 1
    assert write("prototypes:2", tmp_path / "y.lg").quarantine_file is None


def test_unreadable_files_of_a_folder(data, tmp_path, write, quarantine):
    good = sorted((data / "folders" / "alignn").glob("POSCAR*"))[:3]
    for path in good:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "POSCAR-a-broken.vasp").write_bytes(good[0].read_bytes()[:90])
    (tmp_path / "b-empty.cif").write_bytes(b"")
    (tmp_path / "c-noise.cif").write_bytes(bytes(range(256)) * 10)
    report = write(tmp_path, tmp_path / "x.lg")
    assert (report.written, report.quarantined) == (3, 3)
    assert sorted(one.id for one in quarantine(tmp_path / "x.lg")) == ["POSCAR-a-broken", "b-empty", "c-noise"]
    assert all(str(tmp_path) not in one.message for one in quarantine(tmp_path / "x.lg"))


@pytest.mark.parametrize("name", ["i" * 256, "a\0b", "é" * 128])
def test_an_id_that_cannot_be_stored(name, tmp_path, write, quarantine):
    report = write([("good", atoms()), (name, atoms())], tmp_path / "x.lg")
    assert (report.written, report.quarantined) == (1, 1)
    (one,) = quarantine(tmp_path / "x.lg")
    assert (one.id, one.position) == (name, 1)
    assert "at most 255, none of them zero" in one.message


def test_a_formula_that_is_too_long_for_a_column(tmp_path, write, quarantine):
    from lazygraph.crystal import SYMBOLS

    zoo = [symbol for n, symbol in enumerate(SYMBOLS[1:100]) for _ in range(101 if n else 103)]
    grid = np.stack(np.meshgrid(*[np.arange(22)] * 3), axis=-1).reshape(-1, 3)[: len(zoo)] / 22
    big = atoms(lattice=(np.eye(3) * 44).tolist(), coords=grid.tolist(), elements=zoo)
    report = write([("a", atoms()), ("zoo", big)], tmp_path / "x.lg", graph=lg.graph("radius", cutoff=2.1))
    assert (report.written, report.quarantined) == (1, 1)
    assert "the formula" in quarantine(tmp_path / "x.lg")[0].message


# ---- duplicates ----


@pytest.mark.slow
def test_the_later_one_of_two_inputs_with_one_id_is_quarantined_whichever_shard_it_is_in(
    tmp_path, write, quarantine, sound, salt
):
    ids = ["a", "b", "a", "c", "b", "a", "d", "e", "d"]
    items = [(name, salt(n), {"energy": n}) for n, name in enumerate(ids)]
    for shard in (1, 2, 3, 100):
        path = tmp_path / f"{shard}.lg"
        report = write(items, path, shard_size=shard)
        assert (report.written, report.quarantined) == (5, 4)
        store = Store(path)
        assert store.column("id").tolist() == [b"a", b"b", b"c", b"d", b"e"]
        assert store.column("energy").tolist() == [0, 1, 3, 6, 7]
        inputs = input_of_rows(store.manifest, quarantine(path), None)
        assert inputs.of(np.arange(5)).tolist() == [0, 1, 3, 6, 7]
        assert np.concatenate(list(inputs)).tolist() == [0, 1, 3, 6, 7]
        for row, number in enumerate([0, 1, 3, 6, 7]):
            assert (store.arrays(row)["lattice"] == salt(number).lattice).all()
        found = quarantine(path)
        assert [(one.id, one.position, one.error) for one in found] == [
            ("a", 2, "DuplicateId"), ("b", 4, "DuplicateId"), ("a", 5, "DuplicateId"), ("d", 8, "DuplicateId"),
        ]  # fmt: skip
        assert [one.message.split(";")[0] for one in found] == [
            f"the id is taken by the input at position {n}" for n in (0, 1, 0, 6)
        ]
        manifest = sound(path)
        assert sum(s.records for s in manifest.shards) == 9
        assert sum(s.rows for s in manifest.shards) == 5
    assert len({Manifest.load(tmp_path / f"{shard}.lg").content_id for shard in (1, 2, 3, 100)}) == 1


def test_a_shard_of_nothing_but_duplicates_or_broken_inputs(tmp_path, write, sound, salt):
    items = [("a", salt(0)), ("b", salt(1)), ("a", salt(2)), ("b", salt(3)), ("c", 1), ("d", 2), ("e", salt(4))]
    write(items, tmp_path / "x.lg", shard_size=2)
    manifest = sound(tmp_path / "x.lg")
    assert [(shard.records, shard.rows) for shard in manifest.shards] == [(2, 2), (2, 0), (0, 0), (1, 1)]


def test_a_duplicate_of_an_appended_input_keeps_the_one_that_is_there(tmp_path, write, append, quarantine, salt):
    write([("a", salt(0)), ("b", salt(1))], tmp_path / "x.lg")
    append(tmp_path / "x.lg", [("c", salt(2)), ("b", salt(3)), ("c", salt(4))])
    assert Store(tmp_path / "x.lg").column("id").tolist() == [b"a", b"b", b"c"]
    assert [(one.id, one.position, one.entry) for one in quarantine(tmp_path / "x.lg")] == [("b", 3, 1), ("c", 4, 2)]


# ---- tried again ----


def items(fixed=(), salt=None, n=10, bad=(2, 3, 8)):
    return [(f"id-{k}", salt(k) if k not in bad or k in fixed else 17, {"energy": k}) for k in range(n)]


@pytest.mark.parametrize("shard", [1, 3, 100])
def test_what_was_repaired_is_added_at_the_end_and_the_rest_stays(
    shard, tmp_path, write, retry, quarantine, sound, salt
):
    path = tmp_path / "x.lg"
    write(items(salt=salt), path, shard_size=shard)
    before = Manifest.load(path)
    report = retry(path, items((2, 8), salt), shard_size=2)
    assert (report.written, report.quarantined) == (2, 1)
    manifest = sound(path)
    assert (manifest.graphs, manifest.inputs) == (9, 10)
    assert manifest.shards[: len(before.shards)] == before.shards
    store = Store(path)
    assert store.column("input").tolist() == [0, 1, 4, 5, 6, 7, 9, 2, 8]
    assert store.column("energy").tolist() == [0, 1, 4, 5, 6, 7, 9, 2, 8]
    assert [(one.id, one.position, one.entry) for one in quarantine(path)] == [("id-3", 3, 3)]
    report = retry(path, items((2, 3, 8), salt))
    assert (report.written, report.quarantined, report.quarantine_file) == (1, 0, None)
    report = retry(path, items((2, 3, 8), salt))
    assert (report.written, report.quarantined, report.notes) == (0, 0, ("nothing is quarantined",))
    assert sound(path).graphs == 10


def test_what_is_still_broken_changes_nothing(tmp_path, write, retry, bytes_of, salt):
    write(items(salt=salt), tmp_path / "x.lg")
    before = bytes_of(tmp_path / "x.lg")
    report = retry(tmp_path / "x.lg", items(salt=salt))
    assert (report.written, report.quarantined) == (0, 3)
    assert report.quarantine_file.exists()
    assert bytes_of(tmp_path / "x.lg") == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


def test_a_duplicate_that_is_tried_again_is_still_one(tmp_path, write, retry, quarantine, salt):
    twice = [("a", salt(0)), ("a", salt(1)), ("b", 1)]
    write(twice, tmp_path / "x.lg")
    assert retry(tmp_path / "x.lg", [*twice[:2], ("b", salt(2))]).written == 1
    (one,) = quarantine(tmp_path / "x.lg")
    assert (one.id, one.position, one.message[:40]) == ("a", 1, "the id is taken by a graph that the data")


@pytest.fixture
def tables(tmp_path, salt):
    """Write a JSON table of crystals; returns its path."""

    def make(folder, name, ids, bad=()):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        rows = [
            {"jid": i, "atoms": atoms() if i not in bad else {"lattice_mat": 1}, "energy": float(n)}
            for n, i in enumerate(ids)
        ]
        (place / name).write_text(json.dumps(rows))
        return place / name

    return make


@pytest.mark.slow
def test_several_sources_and_one_that_was_appended(tables, tmp_path, write, append, retry, quarantine, sound):
    path = tmp_path / "x.lg"
    a, b, c = (tables("old", f"{n}.json", [f"{n}{k}" for k in range(5)], {f"{n}1", f"{n}4"}) for n in "abc")
    write([a, b], path, shard_size=2)
    append(path, c)
    assert [(o.source, o.position, o.entry) for o in quarantine(path)] == [
        ("a", 1, 1), ("a", 4, 4), ("b", 6, 1), ("b", 9, 4), ("c", 11, 1), ("c", 14, 4),
    ]  # fmt: skip
    a2, b2, c2 = (tables("new", f"{n}.json", [f"{n}{k}" for k in range(5)], {f"{n}4"}) for n in "abc")
    with pytest.raises(lg.InputError, match="come from 1 source named 'b', and 0 of the sources given"):
        retry(path, [a2, c2])
    # any order will do, where names are enough
    report = retry(path, [c2, a2, b2])
    assert (report.written, report.quarantined) == (3, 3)
    store = Store(path)
    ids = [raw.decode() for raw in store.column("id")]
    assert sorted(ids) == sorted(f"{n}{k}" for n in "abc" for k in range(4))
    for row, name in enumerate(ids):
        assert store.column("input")[row] == 5 * "abc".index(name[0]) + int(name[1])
    assert [(o.source, o.position, o.id) for o in quarantine(path)] == [("a", 4, "a4"), ("b", 9, "b4"), ("c", 14, "c4")]
    a3 = tables("newer", "a.json", [f"a{k}" for k in range(5)])
    with pytest.raises(lg.InputError, match="named 'b'"):
        retry(path, a3)
    rest = [tables("newer", f"{n}.json", [f"{n}{k}" for k in range(5)]) for n in "abc"]
    assert retry(path, rest).written == 3
    assert sound(path).quarantine is None


def test_sources_of_one_name_are_told_apart_by_their_order(tables, tmp_path, write, append, retry, quarantine):
    """``2023/x.json`` and ``2024/x.json``: the same bare name, other crystals."""
    path = tmp_path / "x.lg"
    old = [tables("2023", "x.json", ["a", "b", "c"], {"b"}), tables("2024", "x.json", ["d", "e", "f"], {"e"})]
    write(old[0], path)
    append(path, old[1])
    new = [tables("2023", "x.json", ["a", "b", "c"]), tables("2024", "x.json", ["d", "e", "f"])]
    for some in (new[:1], new[1:]):
        with pytest.raises(lg.InputError, match="come from 2 source.* named 'x'.*in the same order"):
            retry(path, some)
    assert retry(path, new).written == 2
    assert Store(path).column("id").tolist() == [b"a", b"c", b"d", b"f", b"b", b"e"]
    assert Store(path).column("input").tolist() == [0, 2, 3, 5, 1, 4]


def test_a_source_that_did_not_change_is_not_taken_for_another_of_its_name(tables, tmp_path, write, quarantine):
    path = tmp_path / "x.lg"
    old = tables("1", "s.json", ["a", "b", "c"], {"c"}), tables("2", "s.json", ["d", "e", "f"], {"d", "f"})
    write(list(old), path)
    corrected = tables("3", "s.json", ["a", "b", "c"])
    lg.retry_quarantined(path, [old[1], corrected], workers=1, progress=False)
    store = Store(path)
    assert dict(zip(store.column("id").tolist(), store.column("input").tolist(), strict=True))[b"c"] == 2
    assert [(one.id, one.position, one.entry) for one in quarantine(path)] == [("d", 3, 0), ("f", 5, 2)]


def test_an_input_that_is_gone_stays_quarantined(tables, tmp_path, write, retry, quarantine):
    write(tables("old", "x.json", ["a", "b", "c"], {"c"}), tmp_path / "x.lg")
    report = retry(tmp_path / "x.lg", tables("new", "x.json", ["a", "b"]))
    assert (report.written, len(quarantine(tmp_path / "x.lg"))) == (0, 1)


@pytest.mark.slow
def test_a_retry_that_was_interrupted_goes_on(tmp_path, write, append, retry, salt, sound, bytes_of):
    class Stop(Exception):
        pass

    from concurrent.futures import Executor, Future

    class OneOnly(Executor):
        done = 0

        def submit(self, function, /, *arguments):
            future = Future()
            if self.done:
                future.set_exception(Stop())
            else:
                future.set_result(function(*arguments))
                self.done += 1
            return future

    for name in ("x", "y"):
        write(items(salt=salt), tmp_path / f"{name}.lg", shard_size=2)
    with pytest.raises(Stop):
        retry(tmp_path / "x.lg", items((2, 3, 8), salt), executor=OneOnly(), shard_size=2)
    assert Layout.of(tmp_path / "x.lg").done(0).exists() or Layout.of(tmp_path / "x.lg").done(1).exists()
    with pytest.raises(lg.OutputExists, match="begun with other arguments"):
        append(tmp_path / "x.lg", [("new", salt(50))])
    assert retry(tmp_path / "x.lg", items((2, 3, 8), salt), shard_size=2).written == 3
    retry(tmp_path / "y.lg", items((2, 3, 8), salt), shard_size=2)
    assert bytes_of(tmp_path / "x.lg") == bytes_of(tmp_path / "y.lg")
    assert sound(tmp_path / "x.lg").graphs == 10


def test_a_broken_archive_is_refused_as_a_whole(tmp_path, write):
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(json.dumps([{"atoms": atoms()}] * 500).encode())[:-20])
    with pytest.raises(lg.InputError, match=r"x.json.gz"):
        write(tmp_path / "x.json.gz", tmp_path / "x.lg")
    assert [p.name for p in tmp_path.iterdir()] == ["x.json.gz"]
