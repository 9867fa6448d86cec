"""What is saved of a damaged dataset: everything that is provably as it was, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.format.digests import digests_size
from lazygraph.format.manifest import MANIFEST, Manifest, Provenance
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.writing.salvage import salvage
from tools.soak import damage
from tools.soak.apart import apart

SHARD = 40


def items(first=0, last=150):
    """Crystals, and inputs that are quarantined: bad ones, and the ids of others once more."""
    random = np.random.default_rng(0)
    lattice = np.eye(3) * 4
    for number in range(last):
        coords = [[0, 0, 0], *(random.integers(1, 4, size=(1, 3)) / 4 + random.normal(size=3) * 0.01).tolist()]
        crystal = lg.Crystal(lattice * (1 + 0.1 * random.random()), coords, random.integers(1, 80, size=2))
        if number < first:
            continue
        labels = {"energy": random.normal(), "gap": abs(random.normal())}
        yield f"c-{number:03d}", crystal, labels
        if number % 50 == 9:
            yield f"bad-{number}", "no structure", labels
        if number == 60:
            yield "c-013", crystal, labels


@pytest.fixture(scope="module")
def made(tmp_path_factory, write):
    """Name -> a whole dataset in four shards: crystals (three-body sizes, duplicates, quarantine), ready-made ones."""
    folder = tmp_path_factory.mktemp("made")
    write(items(), folder / "crystals.lg", graph="m3gnet", shard_size=SHARD, split=(0.6, 0.2, 0.2))
    damage.ready_made(folder / "ready-made.lg")
    return {name: folder / f"{name}.lg" for name in ("crystals", "ready-made")}


@pytest.fixture(scope="module")
def known(made):
    """Name -> id -> what the whole dataset gives for it: digest of the graph, and the values of every column."""
    return {name: contents(path) for name, path in made.items()}


@pytest.fixture(params=["crystals", "ready-made"])
def name(request):
    return request.param


@pytest.fixture
def bad(made, tmp_path):
    return shutil.copytree(made["crystals"], tmp_path / "bad.lg")


def contents(path):
    ds = lg.LazyGraphDataset(path, target="energy" if "energy" in lg.LazyGraphDataset(path).columns else None)
    ds.target = None
    columns = {name: np.asarray(ds.columns[name]).tolist() for name in ds.columns}
    graphs = [{k: v for k, v in graph.to_dict().items() if k not in ("y", "row")} for graph in ds]
    return {
        graph_id: (damage.digest(_Plain(graph)), {name: repr(values[row]) for name, values in columns.items()})
        for row, (graph_id, graph) in enumerate(zip(ds.ids.tolist(), graphs, strict=True))
    }


class _Plain:
    def __init__(self, values):
        self.to_dict = lambda: values


def file_of(path, name):
    """The path of a file of a dataset, by the beginning of its name."""
    return next(path.glob(f"{name}*"))


def flip(file, at=-1):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def agree(path, known, saved):
    """The new dataset is whole, and all that it holds is what was written."""
    assert verify(path).problems == ()
    found = contents(path)
    lost = {one.id for one in saved.lost}
    assert len(found) == saved.kept == saved.graphs - len(saved.lost)
    assert found.keys() == known.keys() - lost
    for graph_id, (graph, columns) in found.items():
        assert graph == known[graph_id][0]
        assert columns.items() <= known[graph_id][1].items()


def test_a_whole_dataset_keeps_its_bytes(made, tmp_path, bytes_of):
    saved = salvage(made["ready-made"], tmp_path / "good.lg")
    assert saved.complete
    assert saved.kept == damage.GRAPHS
    assert bytes_of(tmp_path / "good.lg") == bytes_of(made["ready-made"])
    assert not (tmp_path / "good.lg.partial").exists()


def test_of_a_whole_dataset_with_duplicates_only_those_leave_the_shards(made, known, tmp_path):
    saved = salvage(made["crystals"], tmp_path / "good.lg")
    assert saved.complete
    agree(tmp_path / "good.lg", known["crystals"], saved)
    before, after = Manifest.load(made["crystals"]), Manifest.load(tmp_path / "good.lg")
    assert [shard.records for shard in before.shards] != [shard.records for shard in after.shards]
    assert (after.content_id, after.quarantine, after.provenance) == (
        before.content_id, before.quarantine, before.provenance,
    )  # fmt: skip


def test_a_flipped_byte_costs_one_graph(bad, known, tmp_path):
    ds = lg.LazyGraphDataset(bad)
    flip(file_of(bad, "shards/00001"), int(ds._store.column("record")[45]["offset"]) + 3)
    saved = salvage(bad, tmp_path / "good.lg")
    assert [(one.row, one.id) for one in saved.lost] == [(45, ds.ids[45])]
    assert "checksum" in saved.lost[0].reason
    assert saved.notes == ()
    agree(tmp_path / "good.lg", known["crystals"], saved)
    assert Manifest.load(tmp_path / "good.lg").provenance.notes[-1] == "salvaged: 1 of 150 graphs were lost"


@pytest.mark.slow
@pytest.mark.parametrize("column", ["record", "n_node", "n_edge", "n_triplets", "formula", "id_order"])
@pytest.mark.parametrize("how", ["flipped", "cut", "deleted", "shifted", "a pipe"])
def test_a_damaged_column_that_can_be_made_again_costs_nothing(bad, known, tmp_path, column, how):
    ruin(file_of(bad, f"columns/{column}"), how)
    saved = salvage(bad, tmp_path / "good.lg")
    assert saved.complete, saved
    agree(tmp_path / "good.lg", known["crystals"], saved)
    assert Manifest.load(tmp_path / "good.lg").content_id == Manifest.load(bad).content_id


def ruin(file, how):
    content = file.read_bytes()
    if how == "flipped":
        flip(file, len(content) * 2 // 3)
    elif how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "shifted":
        start = 10 + int.from_bytes(content[8:10], "little")
        one = (len(content) - start) // 150  # bytes of a value
        file.write_bytes(content[:start] + content[-one:] + content[start:-one])
    else:
        file.unlink()
        if how == "a pipe":
            os.mkfifo(file)


def test_damaged_labels_and_splits_are_left_out_and_named(bad, known, tmp_path):
    for column in ("gap", "split"):
        flip(file_of(bad, f"columns/{column}"))
    saved = salvage(bad, tmp_path / "good.lg")
    assert saved.kept == saved.graphs
    assert [re.search("column '(.*)' was damaged and is left out", note)[1] for note in saved.notes] == ["gap", "split"]
    agree(tmp_path / "good.lg", known["crystals"], saved)
    left = lg.LazyGraphDataset(tmp_path / "good.lg").columns
    assert "energy" in left
    assert not {"gap", "split"} & set(left)


def test_damaged_ids_become_the_numbers_of_inputs(bad, known, tmp_path):
    flip(file_of(bad, "columns/id-"))
    saved = salvage(bad, tmp_path / "good.lg")
    assert saved.kept == saved.graphs
    assert len(saved.notes) == 1
    good = lg.LazyGraphDataset(tmp_path / "good.lg")
    assert verify(tmp_path / "good.lg").problems == ()
    assert good.ids[:12].tolist() == [f"input-{n:07d}" for n in (*range(10), *range(11, 13))]  # number 10 is a bad one
    whole = known["crystals"]
    found = contents(tmp_path / "good.lg")
    assert [columns["energy"] for _, columns in found.values()] == [columns["energy"] for _, columns in whole.values()]


def test_damage_beside_the_ids_costs_no_id(bad, known, tmp_path):
    file = file_of(bad, "columns/id-")
    flip(file, 100)  # within the padding of the header
    saved = salvage(bad, tmp_path / "good.lg")
    assert saved.complete, saved
    agree(tmp_path / "good.lg", known["crystals"], saved)


def test_a_shard_that_is_gone_costs_its_graphs(bad, known, tmp_path):
    file_of(bad, "shards/00002").unlink()
    saved = salvage(bad, tmp_path / "good.lg")
    assert len(saved.lost) == Manifest.load(bad).shards[2].rows
    assert all("shards/00002" in one.reason and "No such file" in one.reason for one in saved.lost)
    agree(tmp_path / "good.lg", known["crystals"], saved)


def test_where_shard_and_places_are_damaged_no_record_comes_under_another_id(bad, known, tmp_path):
    """Entries that moved within the column lead to whole records of other rows."""
    ruin(file_of(bad, "columns/record"), "shifted")
    flip(file_of(bad, "shards/00000"))
    saved = salvage(bad, tmp_path / "good.lg")
    assert {one.row for one in saved.lost} == set(range(Manifest.load(bad).shards[0].rows))
    assert sum("cannot be proven" in one.reason for one in saved.lost) > 10
    agree(tmp_path / "good.lg", known["crystals"], saved)


def test_where_shard_and_places_are_damaged_a_little_little_is_lost(bad, known, tmp_path):
    flip(file_of(bad, "columns/record"), -1)
    for shard in range(4):
        flip(file_of(bad, f"shards/0000{shard}"), 100)  # of a page that holds no record
    saved = salvage(bad, tmp_path / "good.lg")
    assert [one.row for one in saved.lost] == [149]
    agree(tmp_path / "good.lg", known["crystals"], saved)


def test_lost_graphs_are_made_again_from_their_sources(bad, known, tmp_path, write, retry, quarantine):
    file_of(bad, "shards/00001").unlink()
    lost = len(salvage(bad, tmp_path / "good.lg").lost)
    assert sum(one.error == "CorruptDataset" for one in quarantine(tmp_path / "good.lg")) == lost > 0
    report = retry(tmp_path / "good.lg", items())
    assert (report.written, report.quarantined) == (lost, 4)
    assert verify(tmp_path / "good.lg").problems == ()
    found = contents(tmp_path / "good.lg")
    # Splits belong to a dataset as a whole: graphs that are added are in none.
    assert plain(found) == plain(known["crystals"])


def plain(graphs):
    return {
        graph_id: (graph, {name: value for name, value in columns.items() if name != "split"})
        for graph_id, (graph, columns) in graphs.items()
    }


def test_where_the_list_of_the_quarantined_is_damaged_the_sources_are_appended(bad, known, tmp_path, quarantine):
    before = quarantine(bad)
    flip(file_of(bad, "quarantine"))
    file_of(bad, "shards/00001").unlink()
    saved = salvage(bad, tmp_path / "good.lg")
    assert len(before) == 4
    assert "it is not known which inputs the" in saved.notes[0]
    assert "list of quarantined inputs was damaged" in saved.notes[1]
    assert quarantine(tmp_path / "good.lg") == []
    lg.append(tmp_path / "good.lg", items(), workers=1, progress=False)
    assert contents(tmp_path / "good.lg").keys() == known["crystals"].keys()


def test_where_the_column_of_inputs_is_damaged_they_are_not_guessed(tmp_path, write, retry, quarantine):
    """After a retry, rows are in another order than inputs, though their numbers agree.

    The number of inputs is that of no input, and stands for one that is not known, whatever is done with the dataset.
    """
    path = tmp_path / "x.lg"
    crystals = [crystal for _, crystal, *_ in items() if isinstance(crystal, lg.Crystal)][:8]
    some = [(f"i{k}", crystal, {}) for k, crystal in enumerate(crystals)]
    write([*some[:3], ("i3", 17, {}), *some[4:]], path)
    retry(path, some)
    flip(file_of(path, "columns/input"))
    saved = salvage(path, tmp_path / "y.lg")
    assert any("the column 'input' was damaged" in note for note in saved.notes)
    assert any("which inputs the graphs came from is not known" in note for note in saved.notes)
    assert verify(tmp_path / "y.lg").problems == ()
    assert Manifest.load(tmp_path / "y.lg").provenance.sources == Manifest.load(path).provenance.sources

    def inputs_of(name):
        assert verify(tmp_path / name).problems == ()
        store = Store(tmp_path / name)
        return store.manifest.inputs, store.column("input").tolist()

    assert inputs_of("y.lg") == (8, [8] * 8)
    lg.remove(tmp_path / "y.lg", ["i1"], reason="r")
    assert inputs_of("y.lg") == (8, [8] * 7)
    lg.subset(tmp_path / "y.lg", tmp_path / "part.lg", ids=["i4", "i2"])
    assert inputs_of("part.lg") == (8, [8, 8])
    lg.append(tmp_path / "y.lg", [("new", crystals[1], {}), ("bad", 17, {}), ("newer", crystals[3], {})], workers=1)
    assert inputs_of("y.lg") == (11, [11] * 7 + [8, 10])
    write([(f"z{k}", crystal, {}) for k, crystal in enumerate(crystals[:2])], tmp_path / "z.lg")
    lg.concat([tmp_path / "z.lg", tmp_path / "y.lg"], tmp_path / "both.lg")
    assert inputs_of("both.lg") == (13, [0, 1] + [13] * 7 + [10, 12])
    lg.append(tmp_path / "y.lg", [("last", crystals[2], {})], workers=1)
    assert inputs_of("y.lg") == (12, [12] * 7 + [8, 10, 11])

    # Of lost graphs, those whose inputs are known can be made again; the others are told.
    store = Store(tmp_path / "y.lg")
    shards = [tmp_path / "y.lg" / shard.file.name for shard in store.manifest.shards]
    shards[2].unlink()
    content = bytearray(shards[0].read_bytes())
    content[int(store.column("record")["offset"][0]) + 9] ^= 1
    shards[0].write_bytes(content)
    saved = salvage(tmp_path / "y.lg", tmp_path / "again.lg")
    assert [one.id for one in saved.lost] == ["i0", "new", "newer"]
    assert [one.id for one in quarantine(tmp_path / "again.lg")] == ["new", "bad", "newer"]
    assert any("it is not known which inputs 1 of the 3 lost graphs came from" in note for note in saved.notes)
    assert inputs_of("again.lg") == (12, [12] * 6 + [11])


def test_bad_sectors_cost_what_lies_in_them(bad, known, tmp_path, monkeypatch):
    shard = file_of(bad, "shards/00001")
    broken, pread = os.stat(shard).st_ino, os.pread

    def failing(descriptor, length, offset):
        if os.fstat(descriptor).st_ino == broken and offset < 12288 and offset + length > 8192:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    saved = salvage(bad, tmp_path / "good.lg")
    assert 0 < len(saved.lost) < 40
    assert all(one.reason == f"{shard.relative_to(bad)}: Input/output error" for one in saved.lost)
    monkeypatch.undo()
    agree(tmp_path / "good.lg", known["crystals"], saved)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.data())
def test_nothing_but_what_was_written(made, known, tmp_path_factory, data):
    name = data.draw(st.sampled_from(["crystals", "ready-made"]))
    folder = tmp_path_factory.mktemp("drawn")
    bad = shutil.copytree(made[name], folder / "bad.lg")
    files = sorted(p.relative_to(bad).as_posix() for p in bad.rglob("*") if p.is_file())
    files = [file for file in files if not file.startswith((MANIFEST, "dictionary", "columns/id-"))]
    for file in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3, unique=True)):
        path, content = bad / file, bytearray((bad / file).read_bytes())
        match data.draw(st.sampled_from(["flip", "cut", "move", "swap"])):
            case "flip":
                for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
                    content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[data.draw(st.integers(0, len(content) - 1)) :]
            case "move":
                at = data.draw(st.integers(0, len(content) - 1))
                content[at:at] = content[: data.draw(st.sampled_from([1, 8, 16, 4096]))]
            case "swap":
                other = bad / data.draw(st.sampled_from(files))
                content, swapped = bytearray(other.read_bytes()), content
                other.write_bytes(swapped)
        path.write_bytes(content)
    with contextlib.suppress(_NothingLeft):
        agree(folder / "good.lg", known[name], _salvaged(bad, folder / "good.lg"))


class _NothingLeft(Exception):
    pass


def _salvaged(bad, good):
    try:
        return salvage(bad, good)
    except lg.CorruptDataset as error:
        if "no record is undamaged" in str(error):
            raise _NothingLeft from error
        raise


@pytest.mark.parametrize("file", [MANIFEST, "dictionary"])
def test_without_manifest_or_dictionary_there_is_nothing_to_save(bad, tmp_path, file):
    flip(file_of(bad, file), 20)
    with pytest.raises(lg.CorruptDataset, match=file):
        salvage(bad, tmp_path / "good.lg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.lg"]


def test_not_one_whole_record(bad, tmp_path):
    shutil.rmtree(bad / "shards")
    with pytest.raises(lg.CorruptDataset, match="no record is undamaged"):
        salvage(bad, tmp_path / "good.lg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.lg"]


def test_nothing_is_written_over(bad, tmp_path, bytes_of):
    before = bytes_of(bad)
    for output in (bad, tmp_path):
        with pytest.raises(lg.OutputExists, match="choose another name"):
            salvage(bad, output)
    assert bytes_of(bad) == before


def test_killed_and_called_again(bad, tmp_path, bytes_of):
    salvage(bad, tmp_path / "good.lg")

    def killed():
        salvage(bad, tmp_path / "again.lg", lambda _, rows=iter(range(100)): next(rows, None) or _die(rows))

    def _die(rows):
        if next(rows, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    assert apart(killed) == ("signal", "SIGKILL")
    assert (tmp_path / "again.lg.partial").exists()
    salvage(bad, tmp_path / "again.lg")
    assert bytes_of(tmp_path / "again.lg") == bytes_of(tmp_path / "good.lg")
    assert not (tmp_path / "again.lg.partial").exists()


def test_promises_of_a_hostile_manifest_take_no_memory(bad, tmp_path):
    file = bad / MANIFEST
    manifest = Manifest.load(bad)
    shards = [replace(shard, spare=(), records=2**31) for shard in manifest.shards]
    n = 2**31 * len(shards)
    columns = {name: replace(column, shape=(n, *column.shape[1:])) for name, column in manifest.columns.items()}
    digests = manifest.digests._replace(size=digests_size(n, len(columns)))
    parts = {"shards": tuple(shards), "columns": columns, "digests": digests, "provenance": Provenance()}
    file.write_bytes(replace(manifest, graphs=n, inputs=n, **parts).to_bytes())
    with pytest.raises(lg.CorruptDataset, match=r"declares \d+ graphs; its files have \d+ bytes"):
        salvage(bad, tmp_path / "good.lg")


def test_the_command(bad, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file_of(bad, "shards/00003").unlink()
    flip(file_of(bad, "columns/gap"))
    assert main(["salvage", "bad.lg", "-o", "good.lg"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"lost row \d+, id 'c-\d+': shards/00003.*: No such file or directory", lines[0])
    assert "column 'gap'" in lines[-2]
    kept = int(re.fullmatch(r"kept (\d+) of 150 graphs in good.lg", lines[-1])[1])
    assert main(["salvage", "good.lg", "-o", "better.lg", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["graphs"], told["lost"], told["notes"]) == (kept, kept, [], [])
    assert main(["salvage", "good.lg", "-o", "better.lg"]) == 2
    assert "better.lg exists" in capsys.readouterr().err
