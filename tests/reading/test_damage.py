"""What a reader and ``verify`` say of datasets that are not what was written."""

import contextlib
import pickle
import shutil

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.reading.verify import verify


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("damage") / "p.lg"
    lg.write("prototypes:120?seed=6", out, graph=lg.graph("shell", max_neighbors=8), workers=1, shard_size=40)
    return out


def read_all(path):
    ds = lg.LazyGraphDataset(path)
    return [[v.numpy().tobytes() for v in ds[i].to_dict().values() if not isinstance(v, str)] for i in range(len(ds))]


def test_a_good_dataset_has_no_problems(original):
    result = verify(original)
    assert result.problems == ()
    assert result.graphs == 120
    assert (
        result.size
        == sum(p.stat().st_size for p in original.rglob("*.*")) - (original / "manifest.json").stat().st_size
    )


@pytest.mark.slow
def test_every_flipped_byte_is_found_and_never_read_as_other_data(original, copy):
    whole = read_all(original)
    rng = np.random.default_rng(0)
    files = sorted(p for p in copy.rglob("*") if p.is_file())
    for _ in range(60):
        file = files[rng.integers(len(files))]
        data = bytearray(file.read_bytes())
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        good = file.read_bytes()
        file.write_bytes(data)
        try:
            with contextlib.suppress(lg.CorruptDataset):
                assert verify(copy).problems
            try:
                ds = lg.LazyGraphDataset(copy)
            except lg.CorruptDataset:
                continue
            for row in range(0, 120, 7):
                try:
                    data_read = ds[row]
                except lg.CorruptDataset as error:
                    named = str(copy) in str(error)
                    assert named  # noqa: PT017
                    continue
                assert [v.numpy().tobytes() for v in data_read.to_dict().values() if not isinstance(v, str)] == whole[
                    row
                ]
        finally:
            file.write_bytes(good)


@pytest.mark.parametrize("how", ["flip", "cut", "swap"])
def test_batches_of_a_damaged_dataset_are_whole_or_refused(original, copy, how):
    """Of shards and of the column that says where records lie: the compiled loops must see what the plain way sees."""
    rng = np.random.default_rng(1)
    expected = {n: lg.LazyGraphDataset(original)[n] for n in range(120)}
    files = [*sorted((copy / "shards").iterdir()), next((copy / "columns").glob("record-*"))]
    for _ in range(25):
        file = files[rng.integers(len(files))]
        good = file.read_bytes()
        data = bytearray(good)
        match how:
            case "flip":
                data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            case "cut":
                del data[int(rng.integers(len(data))) :]
            case "swap":
                data = bytearray(files[(files.index(file) + 1) % 3].read_bytes())
        file.write_bytes(data)
        try:
            refused = 0
            ds = lg.LazyGraphDataset(copy)
            for first in range(0, 120, 8):
                try:
                    graphs = ds.batch(range(first, first + 8)).to_data_list()
                except lg.CorruptDataset as error:
                    named = str(copy) in str(error)
                    assert named  # noqa: PT017
                    refused += 1
                    continue
                for n, graph in enumerate(graphs, first):
                    assert all(
                        graph[key].equal(value) if hasattr(value, "equal") else graph[key] == value
                        for key, value in expected[n].to_dict().items()
                    )
            assert refused or how == "flip"  # a flipped byte may lie between records
        finally:
            file.write_bytes(good)


def test_a_bad_record_is_named_with_dataset_shard_row_and_id(copy):
    ds = lg.LazyGraphDataset(copy)
    offset = int(ds._store.column("record")["offset"][50])
    shard = copy / ds.manifest.shards[1].file.name
    data = bytearray(shard.read_bytes())
    data[offset + 3] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(lg.CorruptDataset) as caught:
        lg.LazyGraphDataset(copy)[50]
    for part in (str(copy), "shards/00001-", "row 50", repr(str(ds.ids[50])), "lazygraph verify"):
        assert part in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, OSError)
    problems = verify(copy).problems
    assert any(shard.name in problem for problem in problems)
    assert any("row 50" in problem for problem in problems)


def test_truncated_shards_are_errors_not_signals(copy):
    ds = lg.LazyGraphDataset(copy)
    shard = copy / ds.manifest.shards[2].file.name
    size = shard.stat().st_size
    for keep in (0, 1, 4096, size // 2, size - 1):
        with shard.open("rb+") as file:
            file.truncate(keep)
        with pytest.raises(lg.CorruptDataset, match="bytes; required"):
            lg.LazyGraphDataset(copy)[119]
    assert lg.LazyGraphDataset(copy)[0].id == ds.ids[0]


def test_swapped_shards_are_found(copy):
    manifest = lg.LazyGraphDataset(copy).manifest
    a, b = (copy / manifest.shards[i].file.name for i in (0, 1))
    a_bytes, b_bytes = a.read_bytes(), b.read_bytes()
    a.write_bytes(b_bytes)
    b.write_bytes(a_bytes)
    with pytest.raises(lg.CorruptDataset):
        lg.LazyGraphDataset(copy)[3]
    assert len(verify(copy).problems) >= 2


def test_a_missing_file_is_told_from_a_replaced_dataset(original, copy, tmp_path):
    ds = lg.LazyGraphDataset(copy)
    (copy / ds.manifest.shards[0].file.name).unlink()
    with pytest.raises(lg.CorruptDataset, match="part of the dataset was deleted"):
        ds[0]
    moved = tmp_path / "moved.lg"
    shutil.copytree(original, moved)
    other = lg.LazyGraphDataset(moved)
    shutil.rmtree(moved)
    with pytest.raises(lg.DatasetReplaced, match="open it again"):
        other[0]


def test_a_rewritten_dataset_is_noticed(copy):
    ds = lg.LazyGraphDataset(copy)
    lg.write("prototypes:50?seed=7", copy, graph="comformer", workers=1, overwrite=True)
    assert ds[100].id == ds.ids[100]  # files of the state before stay for a while
    from lazygraph.writing.edit import gc

    gc(copy)
    late = lg.LazyGraphDataset(copy)
    assert len(late) == 50
    with pytest.raises(lg.DatasetReplaced):
        pickle.loads(pickle.dumps(ds))[0]


def test_a_condition_on_a_damaged_column_is_damage_and_no_wrong_condition(copy):
    column = copy / lg.LazyGraphDataset(copy).manifest.columns["density"].file.name
    data = bytearray(column.read_bytes())
    data[-1] ^= 0xFF
    column.write_bytes(data)
    with pytest.raises(lg.CorruptDataset, match="sha256"):
        lg.LazyGraphDataset(copy).where("density > 1")
