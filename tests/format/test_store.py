"""One store serves threads, forked children and other processes, and says what is wrong with what it reads."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from drawing import same, same_record_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygraph.errors import CorruptDataset, DatasetNotFound, DatasetReplaced, NotEnoughMemory, UnknownId
from lazygraph.format import native_reader
from lazygraph.format import store as store_module
from lazygraph.format.codec import CODECS, train_dictionary
from lazygraph.format.columns import ColumnWriter, text_array, unsigned
from lazygraph.format.digests import BLOCK, blocks_of_graphs, content_id, graph_digest
from lazygraph.format.manifest import MANIFEST, Manifest, Provenance, Shard
from lazygraph.format.record import pack
from lazygraph.format.record_batch import concatenate
from lazygraph.format.schema import Field, Schema
from lazygraph.format.shard import write_shard
from lazygraph.format.store import Store
from lazygraph.storage import descriptors
from lazygraph.storage.files import FileRef, named_after_content

SCHEMA = Schema(
    ("node", "edge"),
    (
        Field("numbers", "uint8", axis="node"),
        Field("edge_index", "int64", (2,), "edge", 1, counts="node"),
        Field("energy", "float64"),
        Field("name", "str"),
    ),
)


def graph(number):
    """What stands in row ``number``."""
    random = np.random.default_rng(number)
    nodes, edges = int(random.integers(1, 20)), int(random.integers(0, 60))
    return {
        "numbers": random.integers(1, 90, nodes).astype("u1"),
        "edge_index": random.integers(0, nodes, (2, edges)),
        "energy": np.array(random.normal()),
        "name": f"graph number {number}",
    }


def write_store(path, ids, shards, *, dictionaries=1, spare=0, codecs=("zstd",)):
    """A dataset of one graph an id, in shards of these sizes, each with ``spare`` records that no row points to.

    The shards take turns among the codecs, and those of zstd among so many dictionaries.
    """
    packed = [pack(SCHEMA, graph(n)) for n in range(len(ids))]
    raws = [raw for raw, _ in packed]
    trained = [train_dictionary(raws[n:] + raws[:n], len(raws)) for n in range(dictionaries)]
    trained = [each for each in trained if each is not None]
    known = tuple(named_after_content(path, "dictionary", ".zstd", each) for each in trained)
    written, index, begin = [], [], 0
    for number, size in enumerate(shards):
        codec = CODECS[codecs[number % len(codecs)]]
        own = number % len(known) if known and codec.takes_dictionary else None
        compress = codec.encoder(3, None if own is None else trained[own])
        frames = [b"spare"] * spare + [compress(raw) for raw in raws[begin : begin + size]]
        file, rows = write_shard(path, number, frames)
        written.append(Shard(file, len(frames), tuple(range(spare)), codec.name, own))
        index.append(rows[spare:])
        begin += size
    counts = np.array([counts for _, counts in packed]).reshape(len(packed), 2)
    energy = np.array([float(graph(n)["energy"]) for n in range(len(ids))])
    names = text_array(ids)
    columns = ColumnWriter(path)
    columns.write("record", np.concatenate(index))
    columns.write("id", names)
    columns.write("id_order", np.argsort(names, kind="stable").astype("<u4"))
    columns.write("n_node", unsigned(counts[:, 0]))
    columns.write("n_edge", unsigned(counts[:, 1]))
    columns.write("energy", energy, role="label")
    digests = b"".join(map(graph_digest, names.tolist(), raws))
    blocks = blocks_of_graphs(np.frombuffer(digests, "V32"))
    manifest = Manifest(
        graphs=len(ids),
        inputs=len(ids),
        recipe=None,
        schema=SCHEMA,
        dictionaries=known,
        shards=tuple(written),
        columns=columns.columns,
        digests=columns.digests(blocks),
        quarantine=None,
        provenance=Provenance(),
        content_id=content_id(None, SCHEMA, blocks),
    )
    manifest.publish(path)
    return path


def assert_row(store, row):
    found = store.arrays(row)
    expected = graph(row)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert same(found[name], value), (row, name)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """120 graphs in 7 shards, of which one is empty and each has two spare records."""
    path = tmp_path_factory.mktemp("store") / "d.lg"
    return write_store(path, [f"id-{n * 7 % 120:03d}" for n in range(120)], [20, 1, 30, 0, 29, 20, 20], spare=2)


@pytest.fixture
def copied(original, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(original, tmp_path / "d.lg")


# ---- reading ----


def test_every_row(original):
    store = Store(original)
    assert len(store) == 120
    assert len(store.manifest.dictionaries) == 1
    for row in (*range(120), *range(119, -1, -1)):
        assert_row(store, row)
        assert_row(store, np.int64(row))
        assert store.graph_id(row) == f"id-{row * 7 % 120:03d}"
        assert store.column("energy")[row] == graph(row)["energy"]


def test_a_store_without_dictionary_and_one_without_graphs(tmp_path):
    store = Store(write_store(tmp_path / "a.lg", ["a", "b"], [2], dictionaries=0))
    assert store.manifest.dictionaries == ()
    assert_row(store, 1)
    empty = Store(write_store(tmp_path / "b.lg", [], [0]))
    assert len(empty) == 0
    assert empty.column("energy").shape == (0,)
    with pytest.raises(UnknownId, match="no graph in .* has the id 'a'; it holds 0 ids"):
        empty.row_of("a")


def test_shards_of_several_codecs_and_dictionaries(tmp_path, monkeypatch):
    """No more decoders are kept than allowed, whatever the order in which shards are read."""
    monkeypatch.setattr(native_reader, "MOST_DECODERS", 2)
    monkeypatch.setattr(store_module, "DECODERS", 2)
    ids = [f"{n:03d}" for n in range(120)]
    path = write_store(tmp_path / "d.lg", ids, [12] * 10, dictionaries=4, codecs=("zstd", "none", "zstd"), spare=1)
    store = Store(path)
    assert {(shard.codec, shard.dictionary) for shard in store.manifest.shards} >= {("none", None), ("zstd", 3)}
    rng = np.random.default_rng(0)
    for _ in range(30):
        rows = rng.integers(0, 120, int(rng.integers(2, 60)))
        plain = concatenate(SCHEMA, [store.decoded(row) for row in rows.tolist()])
        same_record_batch(SCHEMA, store.read_batch(rows), plain)
        if store._index.loops is not None:
            assert len(store._index.loops._decoders.ready) <= 4
    assert hammer(store, threads=4, times=100) == [True] * 4


def test_a_block_of_a_column_is_checked_when_a_value_in_it_is_used(tmp_path):
    """Damage in one block is named, and the rows of the others are read."""
    ids = [f"{n:05d}" for n in range(2 * BLOCK + 5)]
    path = write_store(tmp_path / "d.lg", ids, [len(ids)], dictionaries=0)
    for name in ("record", "n_edge", "id", "energy"):
        copied = shutil.copytree(path, tmp_path / f"{name}.lg")
        file = Store(copied).manifest.columns[name].file
        flip(copied / file.name, file.size - 5 * Store(copied).column(name).itemsize - 1)  # the last of block 1
        store = Store(copied)
        if name in ("record", "n_edge"):
            assert_row(store, 5)
            assert_row(store, 2 * BLOCK)
            read = [lambda: store.raw(2 * BLOCK - 1), lambda: store.read_batch(np.array([0, BLOCK]))]
        elif name == "id":
            assert store.graph_id(0) == "00000"
            read = [lambda: store.graph_id(BLOCK), lambda: store.graph_ids(np.array([0, BLOCK]))]
        else:
            assert store.checked_column(name).rows(np.array([0, 2 * BLOCK])).tolist() == [
                float(graph(n)["energy"]) for n in (0, 2 * BLOCK)
            ]
            read = [lambda: store.checked_column("energy").row(BLOCK)]
        for each in (*read, lambda: store.column(name)):
            said = f"{file.name}: the values of rows {BLOCK} to {2 * BLOCK - 1} are not as they were written"
            with pytest.raises(CorruptDataset, match=said):
                each()


def test_digests_that_are_missing_or_damaged(copied):
    path = copied / Store(copied).manifest.digests.name
    flip(path, 40)
    with pytest.raises(CorruptDataset, match="has the sha256"):
        Store(copied).raw(0)
    path.unlink()
    with pytest.raises(CorruptDataset, match="digests-.* is missing, and the manifest names it"):
        Store(copied).column("id")


def test_opening_reads_the_manifest_and_nothing_else(original, tmp_path):
    shutil.copy(original / MANIFEST, tmp_path / MANIFEST)
    store = Store(tmp_path)
    assert len(store) == 120
    assert repr(store) == f"Store({os.fspath(tmp_path)!r})"
    with pytest.raises(DatasetNotFound):
        Store(tmp_path / "nothing")


def test_a_relative_path_outlives_a_change_of_folder(original, tmp_path, monkeypatch):
    monkeypatch.chdir(original.parent)
    store = Store("d.lg")
    monkeypatch.chdir(tmp_path)
    assert_row(store, 3)


def test_reading_changes_nothing(copied):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in copied.rglob("*")}

    before = state()
    store = Store(copied)
    for row in range(120):
        store.arrays(row)
    store.row_of("id-000")
    assert state() == before


def test_a_closed_store_opens_its_files_again(original):
    store = Store(original)
    assert_row(store, 0)
    descriptors = set(os.listdir("/proc/self/fd"))
    store.close()
    assert len(set(os.listdir("/proc/self/fd"))) == len(descriptors) - 1
    assert_row(store, 0)


@pytest.mark.parametrize("name", ["nothing", "", "../manifest.json", "n_atoms"])
def test_a_column_that_does_not_exist(name, original):
    with pytest.raises(KeyError):
        Store(original).column(name)


@pytest.mark.parametrize("row", [120, 10**9])
def test_a_row_that_does_not_exist(row, original):
    with pytest.raises(IndexError):
        Store(original).raw(row)


# ---- ids ----


def test_every_id_is_found(original):
    store = Store(original)
    for row in range(120):
        assert store.row_of(store.graph_id(row)) == row


@pytest.mark.parametrize(
    "graph_id",
    ["", "id", "id-", "id-0", "id-0000", "id-120", "ID-000", "id-000 ", "id-000\0", "\ud800", "\U0010ffff", "x" * 300],
)
def test_other_ids_are_unknown(graph_id, original):
    with pytest.raises(UnknownId, match=r"has the id .*; it holds 120 ids such as 'id-000', 'id-007', 'id-014'$"):
        Store(original).row_of(graph_id)


@settings(max_examples=25)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12), unique=True, min_size=1, max_size=8
    ),
    others=st.lists(st.text(max_size=3), max_size=5),
)
def test_ids_of_any_script_are_found(tmp_path_factory, ids, others):
    store = Store(write_store(tmp_path_factory.mktemp("ids") / "d.lg", ids, [len(ids)], dictionaries=0))
    for row, graph_id in enumerate(ids):
        assert store.row_of(graph_id) == row
        assert store.graph_id(row) == graph_id
    for graph_id in set(others) - set(ids):
        with pytest.raises(UnknownId):
            store.row_of(graph_id)


# ---- processes and threads ----


def test_a_pickled_store_reads_and_carries_no_data(original):
    store = Store(original)
    for row in range(120):
        store.arrays(row)
    data = pickle.dumps(store)
    assert len(data) < 10_000
    again = pickle.loads(data)
    assert again.path == store.path
    for row in range(120):
        assert_row(again, row)


def read_some(store, rows):
    for row in rows:
        assert_row(store, row)
    return len(rows)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_what_it_is_given(method, original):
    store = Store(original)
    assert_row(store, 5)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(read_some, (store, range(0, 120, 5))) == 24
    assert_row(store, 6)


def forked(work):
    """A child that does this, and ends in 0 if it could; killed after 30 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_parent_and_children_share_descriptors_without_harm(original):
    store = Store(original)
    for row in range(0, 120, 10):
        store.arrays(row)
    children = [forked(lambda: read_some(store, list(range(120)) * 3)) for _ in range(3)]
    read_some(store, list(range(119, -1, -1)) * 3)
    assert [status_of(child) for child in children] == [0, 0, 0]


def test_a_fork_in_the_middle_of_opening_a_shard_hangs_nobody(original, monkeypatch):
    """A lock held by another thread would stay locked in the child for ever."""
    entered, leave = threading.Event(), threading.Event()
    check_size = FileRef.check_size

    def slow(self, directory):
        if threading.current_thread().name == "slow":
            entered.set()
            leave.wait(30)
        return check_size(self, directory)

    store = Store(original)
    store.raw(100)  # the columns are open, the first shard is not
    monkeypatch.setattr(FileRef, "check_size", slow)
    thread = threading.Thread(target=store.raw, args=(0,), name="slow")
    thread.start()
    try:
        assert entered.wait(30)
        assert status_of(forked(lambda: read_some(store, range(120)))) == 0
    finally:
        leave.set()
        thread.join()
    assert_row(store, 0)


def hammer(store, threads=8, times=400):
    def work(seed):
        rows = np.random.default_rng(seed).integers(0, 120, times)
        for start in range(0, times, 20):
            for row in rows[start : start + 20].tolist():
                assert_row(store, row)
            some = rows[start : start + 20]
            same_record_batch(
                SCHEMA, store.read_batch(some), concatenate(SCHEMA, [store.decoded(row) for row in some.tolist()])
            )
        return True

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))


def test_threads_share_a_store(original):
    assert hammer(Store(original)) == [True] * 8


def allow(monkeypatch, files):
    """Let the process keep so many shard files open."""
    monkeypatch.setattr(descriptors, "descriptor_limit", lambda: (4 * files, 4 * files))


def test_more_shards_than_descriptors(original, monkeypatch):
    """A file is closed when the last thread that reads from it lets go, and not before."""
    allow(monkeypatch, 2)
    store = Store(original)
    read_some(store, range(120))
    assert len(store._files.now.held) == 2
    before = len(os.listdir("/proc/self/fd"))
    assert hammer(store) == [True] * 8
    assert len(store._files.now.held) == 2
    assert len(os.listdir("/proc/self/fd")) == before
    assert {d.number for d in store._files.now.held.values()} <= {int(n) for n in os.listdir("/proc/self/fd")}


def test_batches_open_no_more_files_than_allowed(original, monkeypatch):
    """Not even for a moment."""
    allow(monkeypatch, 3)
    opened, most = set(), 0

    class Counted(descriptors.Descriptor):
        __slots__ = ()

        def __init__(self, path, size):
            nonlocal most
            super().__init__(path, size)
            opened.add(id(self))
            most = max(most, len(opened))

        def __del__(self):
            opened.discard(id(self))
            super().__del__()

    monkeypatch.setattr(descriptors, "Descriptor", Counted)
    store = Store(original)
    rng = np.random.default_rng(0)
    starts = [0, 20, 21, 51, 80, 100]
    for _ in range(60):
        two = rng.choice(6, 2, replace=False)
        rows = np.concatenate([starts[shard] + rng.integers(0, 20 if shard != 1 else 1, 3) for shard in two])
        same_record_batch(
            SCHEMA, store.read_batch(rows), concatenate(SCHEMA, [store.decoded(row) for row in rows.tolist()])
        )
    assert 2 <= most <= 3


def test_threads_and_one_that_closes(original, monkeypatch):
    allow(monkeypatch, 1)
    store = Store(original)
    done = threading.Event()

    def close():
        while not done.is_set():
            store.close()

    closer = threading.Thread(target=close)
    closer.start()
    try:
        assert hammer(store, threads=4, times=200) == [True] * 4
    finally:
        done.set()
        closer.join()


# ---- damage ----


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_record_is_named_and_the_others_are_read(copied):
    store = Store(copied)
    offset, length, _ = store.column("record")[30].item()
    shard = store.manifest.shards[2].file.name
    flip(copied / shard, offset + length // 2)
    for read in (store.raw, store.record, store.arrays):
        with pytest.raises(CorruptDataset) as caught:
            read(30)
        for part in (str(copied), shard, "row 30", "id 'id-090'", "do not have the checksum", "lazygraph verify"):
            assert part in str(caught.value)
    for row in (*range(30), *range(31, 120)):
        assert_row(store, row)


def test_a_shard_cut_off_while_it_is_open_is_an_error_and_never_a_signal(copied):
    store = Store(copied)
    assert_row(store, 40)
    os.truncate(copied / store.manifest.shards[2].file.name, 5000)
    with pytest.raises(CorruptDataset, match=r"row 50, id .* the shard was cut off: found 0 of the"):
        store.raw(50)
    with pytest.raises(CorruptDataset, match="row 50, .* has 5000 bytes; required: "):
        Store(copied).raw(50)


def test_a_missing_shard_is_part_of_the_dataset_that_was_deleted(copied):
    store = Store(copied)
    file = store.manifest.shards[4].file.name
    (copied / file).unlink()
    assert_row(store, 0)
    with pytest.raises(CorruptDataset, match=f"{file} is missing, and the manifest names it"):
        store.raw(60)


@pytest.mark.parametrize("name", ["record", "id", "n_node", "energy"])
def test_a_missing_column_is_part_of_the_dataset_that_was_deleted(name, copied):
    store = Store(copied)
    (copied / store.manifest.columns[name].file.name).unlink()
    with pytest.raises(CorruptDataset, match="is missing, and the manifest names it"):
        store.column(name)


def test_a_dictionary_that_is_missing_or_damaged(copied):
    path = copied / Store(copied).manifest.dictionaries[0].name
    flip(path, 100)
    with pytest.raises(CorruptDataset, match="has the sha256"):
        Store(copied).raw(0)
    path.unlink()
    with pytest.raises(CorruptDataset, match="dictionary-.* is missing, and the manifest names it"):
        Store(copied).raw(0)


def test_a_dataset_that_was_replaced_says_so(copied, tmp_path):
    store = Store(copied)
    assert_row(store, 0)
    shutil.rmtree(copied)
    write_store(copied, ["other"], [1])
    assert_row(store, 1)  # its file is still open
    with pytest.raises(
        DatasetReplaced, match="was replaced, moved or deleted while it was open .*; open it again"
    ) as caught:
        store.raw(60)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(DatasetReplaced):
        store.column("energy")
    assert_row(Store(copied), 0)


@pytest.mark.parametrize("state", ["deleted", "moved", "unreadable", "manifest gone"])
def test_a_dataset_that_went_away_says_so(state, copied):
    store = Store(copied)
    assert_row(store, 0)
    if state == "deleted":
        shutil.rmtree(copied)
    elif state == "moved":
        copied.rename(copied.with_name("elsewhere"))
    else:
        (copied / store.manifest.shards[4].file.name).unlink()
        (copied / MANIFEST).write_bytes(b"") if state == "unreadable" else (copied / MANIFEST).unlink()
    with pytest.raises(DatasetReplaced):
        store.raw(60)


def test_a_new_state_beside_the_old_one_does_not_disturb_a_reader(copied):
    store = Store(copied)
    with_columns(copied, energy=np.zeros(120))
    read_some(store, range(120))
    assert store.column("energy")[5] == graph(5)["energy"]
    assert Store(copied).column("energy")[5] == 0


def test_an_error_of_the_system_stays_one(copied):
    """Too many open files is no damage."""
    store = Store(copied)
    store.raw(0)
    store.close()
    path = copied / store.manifest.shards[0].file.name
    target = path.rename(path.with_suffix(".away"))
    path.symlink_to(path)
    with pytest.raises(OSError, match="shards/00000-.*, row 1, id 'id-007': ") as caught:
        store.raw(1)
    assert caught.value.errno == errno.ELOOP
    assert not isinstance(caught.value, CorruptDataset)
    path.unlink()
    target.rename(path)
    assert_row(store, 1)


# ---- datasets of strangers: everything is sealed, nothing is true ----


def with_columns(path, **arrays):
    """Replace columns, and seal the manifest again."""
    store = Store(path)
    manifest, (graphs, blocks) = store.manifest, store.digests()
    columns = ColumnWriter(path, {name: (column, blocks[name]) for name, column in manifest.columns.items()})
    for name, array in arrays.items():
        columns.write(name, array, role=manifest.columns[name].role)
    replace(manifest, columns=columns.columns, digests=columns.digests(graphs)).publish(path)
    return Store(path)


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10), (2**32 - 1, 1), (2**32 - 1, 2**32 - 1), (2**63, 8), (2**64 - 1, 2**32 - 1)]
)
def test_places_that_are_not_true(offset, length, copied):
    record = np.array(Store(copied).column("record")).astype([("offset", "<u8"), ("length", "<u4"), ("xxh3", "<u8")])
    record["offset"][7], record["length"][7] = offset, length
    store = with_columns(copied, record=record)
    with pytest.raises(CorruptDataset, match="row 7"):
        store.raw(7)
    assert_row(store, 8)


def test_counts_of_a_record_that_its_columns_do_not_say_are_refused(copied):
    """Else what the columns say would bound neither memory nor a batch by budget."""
    counts = np.array(Store(copied).column("n_edge"))
    row = int(counts.argmax())
    counts[row] -= 1
    store = with_columns(copied, n_edge=counts)
    said = rf"row {row}, id '{store.graph_id(row)}': {counts[row] + 1} rows along 'edge'; the column n_edge says"
    for read in (lambda: store.arrays(row), lambda: store.read_batch(np.array([row, 0])), lambda: store.record(row)):
        with pytest.raises(CorruptDataset, match=said):
            read()
    assert_row(store, row - 1)


def test_graphs_for_which_there_is_no_memory_are_refused_before_they_are_read(original, monkeypatch):
    store, rows = Store(original), np.arange(120)
    schema, counts = store.manifest.schema, [store.column(f"n_{axis}").astype(int) for axis in ("node", "edge")]
    size = 8 * int(schema.values(counts).sum())
    for module in (store_module, native_reader):
        monkeypatch.setattr(module, "memory_limit", lambda: size)
    same_record_batch(
        SCHEMA, store.read_batch(rows), concatenate(SCHEMA, [store.decoded(row) for row in rows.tolist()])
    )
    for module in (store_module, native_reader):
        monkeypatch.setattr(module, "memory_limit", lambda: size - 1)
    with pytest.raises(NotEnoughMemory, match=r"120 graphs take up to .* GiB when they are read at once"):
        store.read_batch(rows)
    assert len(store.read_batch(rows[:119]).counts["node"]) == 119


def test_a_record_that_is_larger_than_its_counts_allow_is_refused(tmp_path):
    path = write_store(tmp_path / "d.lg", ["a", "b"], [2], dictionaries=0)
    schema = Schema(("node",), (Field("x", "float64", (3,), "node"),))
    raw, _ = pack(schema, {"x": np.arange(3000.0).reshape(1000, 3)})
    old, (graphs, blocks) = Manifest.load(path), Store(path).digests()
    for codec in CODECS.values():
        file, record = write_shard(path, 0, [codec.encoder(3, None)(raw)] * 2)
        columns = ColumnWriter(path, {name: (old.columns[name], blocks[name]) for name in ("id", "id_order")})
        columns.write("n_node", np.array([1000, 10], "<u2"))
        columns.write("record", record)
        shards, digests = (Shard(file, 2, (), codec.name),), columns.digests(graphs)
        replace(old, schema=schema, shards=shards, columns=columns.columns, digests=digests).publish(path)
        store = Store(path)
        assert store.arrays(0)["x"].shape == (1000, 3)
        said = rf"row 1, .* {len(raw)} bytes; required: 1 to {64 + 32 + 240}"
        for read in (lambda: store.raw(1), lambda: store.read_batch(np.array([0, 1]))):
            with pytest.raises(CorruptDataset, match=said):
                read()


@pytest.mark.parametrize("order", [np.full(120, 120), np.full(120, 2**32 - 1), np.zeros(120), np.arange(120)[::-1]])
def test_an_order_that_is_none(order, copied):
    store = with_columns(copied, id_order=order.astype("<u4"))
    with pytest.raises((CorruptDataset, UnknownId)):
        store.row_of("id-003")
    assert_row(store, 3)


def test_an_order_that_leaves_the_dataset_is_damage(copied):
    store = with_columns(copied, id_order=np.full(120, 120, "<u4"))
    with pytest.raises(CorruptDataset, match="id_order names a row that is not there"):
        store.row_of("id-003")


def test_an_id_that_is_not_utf8(copied):
    ids = np.array(Store(copied).column("id"))
    ids[4] = b"\xff\xfe"
    store = with_columns(copied, id=ids)
    with pytest.raises(CorruptDataset, match=r"row 4: the id b'\\xff\\xfe' is not UTF-8"):
        store.graph_id(4)
    assert_row(store, 4)


def test_a_shard_that_is_a_pipe_is_not_waited_for(copied):
    manifest = Manifest.load(copied)
    file = manifest.shards[0].file
    (copied / file.name).unlink()
    os.mkfifo(copied / file.name)
    shards = (replace(manifest.shards[0], file=file._replace(size=0)), *manifest.shards[1:])
    replace(manifest, shards=shards).publish(copied)
    with pytest.raises(CorruptDataset, match="is no regular file"):
        Store(copied).raw(0)


def test_a_shard_may_be_a_link(copied, tmp_path):
    for path in (copied / "shards").iterdir():
        path.symlink_to(path.rename(tmp_path / path.name))
    read_some(Store(copied), range(120))


def test_a_link_to_a_secret_tells_nothing(copied, tmp_path):
    """A stranger's manifest may know the size of a file here, but not its checksums; no error shows its bytes."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"the password is swordfish" * 1000)
    manifest = Manifest.load(copied)
    file = manifest.shards[0].file._replace(size=secret.stat().st_size)
    (copied / file.name).unlink()
    (copied / file.name).symlink_to(secret)
    replace(manifest, shards=(replace(manifest.shards[0], file=file), *manifest.shards[1:])).publish(copied)
    for row in range(20):
        with pytest.raises(CorruptDataset) as caught:
            Store(copied).raw(row)
        assert "swordfish" not in str(caught.value)


def test_a_store_that_nobody_holds_closes_its_files_at_once(original):
    """And does not wait for the garbage collection, which a circle of references would need."""
    before = set(os.listdir("/proc/self/fd"))
    store = Store(original)
    store.read_batch(np.arange(100))
    assert len(set(os.listdir("/proc/self/fd"))) > len(before)
    del store
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)


def test_a_thread_that_comes_while_a_dictionary_is_made_ready_reads_too(original, monkeypatch):
    store = Store(original)
    store.raw(0)  # opens the index
    loops = store._index.loops
    if loops is None:
        pytest.skip("there are no compiled loops here")
    rows, found = np.arange(100), []

    class Watched(dict):
        def setdefault(self, number, digested):
            out = super().setdefault(number, digested)
            if not found:
                found.append(None)
                other = threading.Thread(target=lambda: found.append(store.read_batch(rows)))
                other.start()
                other.join()
            return out

    loops._decoders.ready = Watched()
    plain = concatenate(SCHEMA, [store.decoded(row) for row in rows.tolist()])
    same_record_batch(SCHEMA, store.read_batch(rows), plain)
    same_record_batch(SCHEMA, found[1], plain)
