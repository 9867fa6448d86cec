"""Datasets on real servers in processes of their own: the contracts, what is transferred, and faults of every kind."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import ContentMismatch, CorruptDataset, DatasetNotFound, InputError, TransferError
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.storage import sftp, transport
from lazygraph.storage.base import STORAGES, open_storage
from lazygraph.storage.cache import cache
from lazygraph.storage.local import LocalStorage
from lazygraph.storage.remote import SCHEMES, _apart, _together
from lazygraph.testing import StorageContract
from tests.servers.started import hub_server, s3_server, sftp_server, use_hub, web_server


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.002)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a dataset of 1,200 graphs in shards of 300."""
    folder = tmp_path_factory.mktemp("made")
    lg.write("prototypes:1200?seed=0", folder / "p.lg", graph="cgcnn", workers=1, shard_size=300, progress=False)
    return folder


@pytest.fixture(scope="module")
def served(made, tmp_path_factory):
    with web_server(made, tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture
def web(served):
    served.log()
    yield served
    served.fault("clear")
    served.fault("line")


@pytest.fixture
def url(web):
    return f"{web.url}/p.lg"


# ---- the contracts ----


class TestHttp(StorageContract):
    @pytest.fixture(scope="class", autouse=True)
    def server(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("http")
        with web_server(folder, folder) as server:
            type(self).web = server
            yield

    def put(self, dataset, folder):
        shutil.copytree(dataset, self.web.root / folder.name / "d.lg")
        return f"{self.web.url}/{folder.name}/d.lg"

    def empty(self, folder):
        return f"{self.web.url}/{folder.name}/nothing.lg"


class TestS3(StorageContract):
    @pytest.fixture(scope="class", autouse=True)
    def server(self, tmp_path_factory):
        with s3_server(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield

    def put(self, dataset, folder):
        import fsspec

        system = fsspec.filesystem("s3", skip_instance_cache=True)
        for path in filter(os.path.isfile, dataset.rglob("*")):
            system.put_file(str(path), f"bucket/{folder.name}/d.lg/{path.relative_to(dataset)}")
        return f"s3://bucket/{folder.name}/d.lg"

    def empty(self, folder):
        return f"s3://bucket/{folder.name}/nothing.lg"

    @pytest.mark.slow
    def test_forked_workers_read_what_the_parent_has_read_from(self, made, tmp_path):
        """Connections and locks of the parent are not theirs, and none of them waits for another without end."""
        url = self.put(made / "p.lg", tmp_path)
        ds = lg.LazyGraphDataset(url, target="density")
        assert ds[3].y is not None
        batches = lg.loader(ds, 64, shuffle=True, num_workers=2, multiprocessing_context="fork")
        begin = time.monotonic()
        assert [sum(batch.num_graphs for batch in batches) for _ in range(2)] == [1200, 1200]
        batches.close()
        assert time.monotonic() - begin < 45


class TestSftp(StorageContract):
    @pytest.fixture(scope="class", autouse=True)
    def server(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("sftp")
        (folder / "root").mkdir()
        with sftp_server(folder / "root", folder) as (port, environment), pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", environment["HOME"])
            type(self).root, type(self).port = folder / "root", port
            yield

    def put(self, dataset, folder):
        shutil.copytree(dataset, self.root / folder.name / "d.lg")
        return f"sftp://127.0.0.1:{self.port}/{folder.name}/d.lg"

    def empty(self, folder):
        return f"sftp://127.0.0.1:{self.port}/{folder.name}/nothing.lg"

    def test_a_host_whose_key_is_not_known_is_refused(self, local, tmp_path, monkeypatch):
        url = self.put(local, tmp_path)
        known = Path("~/.ssh/known_hosts").expanduser()
        before = known.read_text()

        def opened():
            sftp._IDLE.clear()  # the connections that were made before
            return Store(url)

        try:
            known.write_text("")
            with pytest.raises(TransferError, match=r"the key of the host is not in known_hosts; log in once"):
                opened()
            key = before.split()
            import asyncssh

            other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]
            known.write_text(f"{key[0]} {key[1]} {other}\n")
            with pytest.raises(TransferError, match="this may be an attack"):
                opened()
        finally:
            known.write_text(before)


class TestHub(StorageContract):
    @pytest.fixture(scope="class", autouse=True)
    def server(self, tmp_path_factory):
        with hub_server(tmp_path_factory.mktemp("hub")) as (port, environment), pytest.MonkeyPatch.context() as patch:
            use_hub(environment, patch)
            type(self).port = port
            yield

    def put(self, dataset, folder):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=f"http://127.0.0.1:{self.port}")
        name = "g/" + hashlib.sha256(folder.name.encode()).hexdigest()[:12]
        api.create_repo(name, repo_type="dataset", exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=dataset, path_in_repo="d.lg")
        return f"hf://datasets/{name}/d.lg"

    def empty(self, folder):
        return "hf://datasets/g/nothing/x.lg"


# ---- what is transferred ----


def test_schemes_are_the_ones_that_are_known():
    for scheme in SCHEMES:
        assert scheme in STORAGES
    assert set(STORAGES) - {"toyzip"} == set(SCHEMES)


def test_opening_reads_the_manifest_and_a_graph_one_range(web, url):
    ds = lg.LazyGraphDataset(url)
    assert [entry["path"] for entry in web.log()] == ["/p.lg/manifest.json"]
    ds[700]
    log = web.log()
    assert sum("shards/" in entry["path"] for entry in log) == 1
    assert [entry["range"] is not None for entry in log if "shards/" in entry["path"]] == [True]
    assert len(log) == len({entry["path"] for entry in log})
    ds[701]
    assert [("shards/" in entry["path"], entry["sent"] < 2000) for entry in web.log()] == [(True, True)]


def test_an_epoch_fetches_each_file_once_and_the_next_none(web, url, made):
    ds, known = lg.LazyGraphDataset(url), lg.LazyGraphDataset(made / "p.lg")
    batches = lg.loader(ds, 64, shuffle=True)
    assert "because the dataset is on a server" in str(batches.settings)
    ids = [graph_id for batch in batches for graph_id in batch.id]
    assert sorted(ids) == sorted(known.ids)
    log = [entry for entry in web.log() if "shards/" in entry["path"]]
    assert len(log) == len({entry["path"] for entry in log}) == 4
    assert sorted(graph_id for batch in batches for graph_id in batch.id) == sorted(known.ids)
    assert web.log() == []


def test_worker_processes_and_the_loader_share_the_cache(web, url, made):
    ds = lg.LazyGraphDataset(url)
    batches = lg.loader(ds, 64, shuffle=True, num_workers=2)
    assert sum(batch.num_graphs for batch in batches) == 1200
    batches.close()
    log = [entry["path"] for entry in web.log()]
    assert len(log) == len(set(log))


def test_the_order_does_not_depend_on_the_cache(url):
    first = [batch.id for batch in lg.loader(lg.LazyGraphDataset(url), 100, shuffle=True, seed=3)]
    assert [batch.id for batch in lg.loader(lg.LazyGraphDataset(url), 100, shuffle=True, seed=3)] == first


def test_a_hundredth_of_the_graphs_takes_a_hundredth_of_the_bytes(web, url, made):
    ds = lg.LazyGraphDataset(url)
    few = ds[np.arange(5, 1200, 100)]
    assert len([graph.id for graph in few]) == 12
    sent = sum(entry["sent"] for entry in web.log() if "shards/" in entry["path"])
    lengths = Store(made / "p.lg").column("record")["length"][np.arange(5, 1200, 100)].sum()
    assert lengths <= sent <= 2 * lengths


def test_many_reads_of_a_shard_fetch_it(web, url):
    store = Store(url)
    for row in range(100):
        store.raw(row)
    ranges = [entry["range"] for entry in web.log() if "shards/" in entry["path"]]
    assert ranges[-1] is None  # before the last rows
    assert 5 < len(ranges) < 60
    store.raw(100)
    assert web.log() == []


def test_neighbours_are_asked_for_together():
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = rng.bytes(3000)
        starts = rng.integers(0, 2900, rng.integers(1, 20))
        ranges = [(int(a), int(n)) for a, n in zip(starts, rng.integers(0, 100, len(starts)), strict=True)]
        spans = _together(ranges)
        assert all(a + n <= b for (a, n), (b, _) in zip(spans, spans[1:], strict=False))
        parts = _apart(ranges, spans, [content[a : a + n] for a, n in spans])
        assert parts == [content[a : a + n] for a, n in ranges]
        assert sum(n for _, n in spans) <= 2 * sum(n for _, n in ranges)


def test_without_a_connection_what_is_in_the_cache_opens(web, url, monkeypatch):
    expected = [batch.id for batch in lg.loader(lg.LazyGraphDataset(url), 100)]
    web.fault("drop")
    with pytest.warns(UserWarning, match=r"cannot be reached.* Using the manifest of .*; whether the dataset changed"):
        ds = lg.LazyGraphDataset(url)
    assert [batch.id for batch in lg.loader(ds, 100)] == expected
    shutil.rmtree(cache().folder)
    with pytest.raises(TransferError, match=r"127.0.0.1 cannot be reached.*at 5 attempts"):
        lg.LazyGraphDataset(url)


OPEN = """
import sys, lazygraph as lg
ds = lg.LazyGraphDataset(sys.argv[1], target="density")
print(sum(batch.num_graphs for batch in lg.loader(ds, 100, num_workers=0)))
"""


def test_processes_that_open_it_together_transfer_each_file_once(web, url):
    children = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [child.communicate()[0].strip() for child in children] == ["1200"] * 4
    sent = {}
    for entry in web.log():
        sent.setdefault(entry["path"], []).append(entry["sent"])
    # Of the manifest all but one are told that it did not change.
    assert {path: sum(one > 0 for one in sizes) for path, sizes in sent.items()} == dict.fromkeys(sent, 1)


def test_a_damaged_file_of_the_cache_is_fetched_again(web, url):
    def damage(part):
        entry = next(e for e in cache().entries() if e.sha256 == part.sha256)
        content = bytearray(entry.path.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        entry.path.write_bytes(content)

    store = Store(url)
    expected, raw = list(store.read_batch(np.arange(1200)).fields["numbers"]), store.raw(900)
    for _ in range(2):
        for shard in store.manifest.shards:
            os.close(store.storage.descriptor(shard.file))
    damage(store.manifest.shards[2].file)
    again = Store(url)
    assert list(again.read_batch(np.arange(1200)).fields["numbers"]) == expected
    damage(store.manifest.columns["record"].file)
    with pytest.raises(CorruptDataset, match="The damaged copy was removed from the cache: open the dataset again"):
        Store(url).raw(900)
    assert Store(url).raw(900) == raw


def test_a_pin_refuses_other_graphs(url, made):
    manifest = Manifest.load(made / "p.lg")
    assert len(lg.LazyGraphDataset(url, content_id=manifest.content_id)) == 1200
    with pytest.raises(ContentMismatch, match=f"has the content id {manifest.content_id}; required: {'0' * 64}"):
        lg.LazyGraphDataset(made / "p.lg", content_id="0" * 64)


def test_a_storage_is_pickled_without_connections(url):
    storage = open_storage(url)
    storage.manifest()
    assert pickle.loads(pickle.dumps(storage)).manifest() == storage.manifest()
    assert repr(storage) == f"RemoteStorage({url!r})"


# ---- faults ----


@pytest.mark.parametrize(
    "fault",
    [
        ("cut", {"times": 2, "at": 700}),
        ("status", {"times": 2, "status": 503}),
        ("status", {"times": 1, "status": 429, "headers": {"Retry-After": "0"}}),
        ("drop", {"times": 2}),
        ("short_range", {"times": 1}),
        ("no_ranges", {}),
        ("chunked", {}),
    ],
)
def test_what_passes_is_repeated(web, url, made, fault):
    kind, told = fault
    for match in ("manifest", "columns", "shards"):
        web.fault(kind, match=match, **told)
    assert Store(url).raw(700) == Store(made / "p.lg").raw(700)
    ds = lg.LazyGraphDataset(url)
    if kind == "short_range":
        return
    assert sum(batch.num_graphs for batch in lg.loader(ds, 100, shuffle=True)) == 1200


@pytest.mark.parametrize(
    ("kind", "told", "error", "said"),
    [
        ("shift", {}, TransferError, "the server sent 'bytes .*'; required: bytes"),
        ("lie", {}, CorruptDataset, "do not have the checksum"),
        ("length", {"length": 900}, CorruptDataset, "bytes"),
        ("length", {"length": -5}, CorruptDataset, "required: .* as the manifest says"),
        ("status", {"status": 403}, TransferError, r"the server refuses access \(403\); check your credentials"),
        ("status", {"status": 404}, CorruptDataset, "is missing, and the manifest names it"),
        ("status", {"status": 500}, TransferError, r"the server answers 500.*at 5 attempts"),
        ("status", {"status": 418}, TransferError, r"the server answers 418 instead of"),
        ("gzip", {}, TransferError, r"compresses its answers \(gzip\), although the request forbids it"),
        ("redirect", {"to": "http://localhost:1/x"}, TransferError, "redirects to another host, 'localhost'"),
        ("redirect", {"to": "file:///etc/passwd"}, TransferError, "redirects to file:, which is refused"),
        ("redirect", {"to": "PATH"}, TransferError, "more than 5 redirects"),
        ("endless", {}, CorruptDataset, "required: .*, as the manifest says"),
    ],
)
def test_what_stays_is_one_error(web, url, kind, told, error, said):
    store = Store(url)
    store.row_of("prototype-0000700")
    for column in ("record", "n_node", "n_edge"):
        store.column(column)
    store.digests()
    web.fault(kind, match="shards", **told)
    with pytest.raises(error, match=said) as caught:
        store.raw(700) if kind != "endless" else os.close(store.storage.descriptor(store.manifest.shards[0].file))
    assert url in str(caught.value)
    assert cache().unfinished() == []
    web.fault("clear")
    assert len(store.raw(700))


@pytest.mark.parametrize("kind", ["wrong", "length"])
def test_wrong_bytes_of_a_whole_file_are_refused(web, url, kind):
    web.fault(kind, match="columns/record", length=5000)
    with pytest.raises(CorruptDataset):
        Store(url).raw(700)
    assert all(good for _, good in cache().verify())
    web.fault("wrong", match="manifest")
    with pytest.raises(CorruptDataset, match="the checksum at the end is missing or wrong"):
        Store(url)


def test_a_manifest_without_an_end_is_refused(web, url, monkeypatch):
    from lazygraph.storage import http

    monkeypatch.setattr(http, "MAX_MANIFEST", 10**6)
    web.fault("endless", match="manifest")
    with pytest.raises(CorruptDataset, match="it has more than 1000000 bytes"):
        Store(url)


def test_a_dataset_that_was_replaced_says_so(web, tmp_path, made):
    shutil.copytree(made / "p.lg", made / "q.lg")
    try:
        store = Store(f"{web.url}/q.lg")
        shutil.rmtree(made / "q.lg")
        lg.write("prototypes:30?seed=5", made / "q.lg", graph="cgcnn", workers=1, progress=False)
        with pytest.raises(lg.DatasetReplaced, match=r"was replaced, moved or deleted while it was open"):
            store.raw(5)
        assert len(Store(f"{web.url}/q.lg")) == 30
    finally:
        shutil.rmtree(made / "q.lg")


def test_where_nothing_is_there_is_no_dataset(web):
    with pytest.raises(DatasetNotFound, match=r"there is no dataset at http://127.0.0.1:\d+/x.lg"):
        Store(f"{web.url}/x.lg")


@pytest.mark.parametrize(
    "wrong",
    ["hf://datasets/x", "hf://datasets/../../x", "hf://datasets/a/b/../c", "s3://", "s3://key:secret@bucket/x",
     "sftp://host", "sftp://me:secret@host/x", "https:///x"],
)  # fmt: skip
def test_a_url_of_another_form_is_refused_without_its_secrets(wrong):
    with pytest.raises((InputError, TransferError)) as caught:
        Store(wrong)
    assert "secret" not in str(caught.value)


def test_credentials_go_to_their_host_alone_and_are_written_nowhere(web, url, tmp_path, made):
    host = url.replace("http://", "http://me:secret@")
    host += "?signature=hidden"
    ds = lg.LazyGraphDataset(host)
    ds[5]
    log = web.log()
    assert all(entry["authorization"] == "Basic bWU6c2VjcmV0" for entry in log)
    assert all(entry["query"] == "signature=hidden" for entry in log)
    assert ds.path == url
    web.fault("status", status=403)
    with pytest.raises(TransferError) as caught:
        lg.LazyGraphDataset(host)[900]
    shown = "".join(map(str, (caught.value, caught.value.__cause__, ds, ds.storage)))
    for path in filter(os.path.isfile, (tmp_path / "cache").rglob("*")):
        content = path.read_bytes()
        assert b"secret" not in content
        assert b"hidden" not in content
    assert "secret" not in shown
    assert "hidden" not in shown


def test_verify_checks_every_byte_of_a_server(web, url):
    assert verify(url).problems == ()
    web.fault("wrong", match="shards/00002")
    shutil.rmtree(cache().folder)
    assert any("00002" in problem for problem in verify(url).problems)


def test_a_dataset_on_a_server_is_a_source(web, url, tmp_path, made):
    lg.write(url, tmp_path / "x.lg", graph="comformer", workers=1, progress=False)
    lg.write(made / "p.lg", tmp_path / "y.lg", graph="comformer", workers=1, progress=False)
    assert Manifest.load(tmp_path / "x.lg").content_id == Manifest.load(tmp_path / "y.lg").content_id


def test_commands_take_a_url(web, url, made, capsys):
    from lazygraph.cli.main import main

    web.log()
    assert main(["info", url]) == 0
    assert [entry["path"] for entry in web.log()] == ["/p.lg/manifest.json"]
    assert main(["info", url, "--json"]) == 0
    assert main(["show", url, "prototype-0000005"]) == 0
    assert main(["stats", url]) == 0
    assert main(["verify", url]) == 0
    assert main(["diff", url, str(made / "p.lg")]) == 0
    capsys.readouterr()


# ---- the cache and the connection ----


def test_a_manifest_that_is_none_is_not_kept(web, url):
    web.fault("length", match="manifest", length=100, times=1)
    with pytest.raises(CorruptDataset):
        Store(url)
    assert cache().manifests() == []
    assert len(Store(url)) == 1200
    (before,) = cache().manifests()
    web.fault("length", match="manifest", length=100, times=1)
    with pytest.raises(CorruptDataset):
        Store(url)
    assert cache().manifests() == [before]


@pytest.mark.parametrize("times", [1, 3])
def test_a_cache_with_a_limit_stays_near_it(web, url, monkeypatch, times):
    manifest = Store(url).manifest
    shard = max(one.file.size for one in manifest.shards)
    columns = sum(file.size for file in manifest.files() if "shards/" not in file.name)
    limit = columns + times * shard
    monkeypatch.setenv("LAZYGRAPH_CACHE_SIZE", str(limit))
    ds = lg.LazyGraphDataset(url)
    seen = []
    for batch in lg.loader(ds, 50, shuffle=True, window=300, threads=0):
        seen += batch.id
        assert sum(entry.size for entry in cache().entries()) <= limit + 3 * shard
    assert len(set(seen)) == 1200
    ds = lg.LazyGraphDataset(url)
    for row in np.random.default_rng(0).integers(0, 1200, 100).tolist():
        ds[row]
    web.log()
    for row in np.random.default_rng(1).integers(0, 1200, 100).tolist():
        ds[row]
    whole = [entry for entry in web.log() if "shards/" in entry["path"] and entry["range"] is None]
    assert len(whole) <= 8  # and not a whole shard for every record


def test_a_pull_and_a_verification_fetch_damaged_copies_again(web, url, tmp_path):
    store = Store(url)
    for file in (store.manifest.shards[1].file, store.manifest.columns["id"].file):
        os.close(store.storage.descriptor(file))
        entry = next(one for one in cache().entries() if one.sha256 == file.sha256)
        entry.path.write_bytes(bytes(file.size))
    lg.pull(url, tmp_path / "x.lg", progress=False)
    assert verify(tmp_path / "x.lg").problems == ()
    for file in (store.manifest.shards[1].file, store.manifest.columns["id"].file):
        os.close(store.storage.descriptor(file))
        entry = next(one for one in cache().entries() if one.sha256 == file.sha256)
        entry.path.write_bytes(bytes(file.size))
    assert verify(url).problems == ()


def test_a_pull_by_content_id_copies_what_was_compared(made, tmp_path):
    """A place whose manifest changes between two looks at it."""
    lg.write("prototypes:20?seed=9", tmp_path / "b.lg", graph="cgcnn", workers=1, progress=False)

    class Changing:
        def __init__(self, *folders):
            self.folders, self.looks = [LocalStorage(folder) for folder in folders], 0

        def manifest(self):
            self.looks += 1
            return self.folders[self.looks % 2].manifest()

        def __getattr__(self, name):
            return getattr(self.folders[self.looks % 2], name)

    wanted = Manifest.load(made / "p.lg").content_id
    for looks in (0, 1):
        storage = Changing(made / "p.lg", tmp_path / "b.lg")
        storage.looks = looks
        try:
            lg.pull(storage, tmp_path / "out.lg", content_id=wanted, progress=False)
        except (ContentMismatch, CorruptDataset):
            continue
        assert Manifest.load(tmp_path / "out.lg").content_id == wanted


def test_a_resumed_epoch_fetches_what_is_left(web, url):
    options = {"shuffle": True, "window": 300, "threads": 0}
    batches = lg.loader(lg.LazyGraphDataset(url), 50, **options)
    for number, _ in enumerate(batches):
        if number == 17:  # three of four windows were visited
            state = batches.state_dict()
            break
    shutil.rmtree(cache().folder)
    web.log()
    again = lg.loader(lg.LazyGraphDataset(url), 50, **options)
    again.load_state_dict(state)
    assert sum(batch.num_graphs for batch in again) == 300
    shards = {entry["path"] for entry in web.log() if "shards/" in entry["path"]}
    assert len(shards) <= 2  # one more for the measurement of a batch


def test_a_token_counts_more_than_netrc(web, url, tmp_path, monkeypatch):
    from lazygraph.storage.http import request

    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password of-git\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with request(f"{url}/manifest.json", headers={"Authorization": "Bearer token"}):
        pass
    with request(f"{url}/manifest.json"):
        pass
    assert [entry["authorization"][:6] for entry in web.log()] == ["Bearer", "Basic "]


@pytest.mark.parametrize("where", ["http://127.0.0.1:99999/", "http://[::1/", "http://h:abc/", "http://a..b/"])
def test_a_redirect_to_no_url_is_one_error(web, url, where):
    web.fault("redirect", match="manifest", to=where)
    with pytest.raises(TransferError, match="manifest.json"):
        Store(url)


@pytest.mark.parametrize(
    "wrong",
    ["http://[::1/x", "sftp://h:abc/x", "http://a..b/x", "https://me:se#secret@host/x", "https://me:se/secret@host/x",
     "hf://me:secret@datasets/a/b"],
)  # fmt: skip
def test_a_url_that_is_none_is_one_error(wrong):
    with pytest.raises((InputError, TransferError)) as caught:
        Store(wrong)
    error = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__ or error.__context__


def test_the_reasons_of_an_error_hold_no_signature(monkeypatch):
    with pytest.raises(TransferError) as caught:
        Store("http://127.0.0.1:9/x.lg?signature=hidden")
    error = caught.value
    while error is not None:
        assert "hidden" not in repr(error)
        error = error.__cause__ or error.__context__


def test_sftp_keeps_few_connections(made, tmp_path):
    folder = tmp_path / "sftp"
    folder.mkdir()
    with sftp_server(made, folder) as (port, environment), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", environment["HOME"])
        store = Store(f"sftp://127.0.0.1:{port}/p.lg")
        for start in range(6):
            store.frames(np.arange(start, 1200, 110))
        (connections,) = [idle for key, idle in sftp._IDLE.items() if key[2] == port]
        assert 1 <= len(connections) <= sftp.MOST_IDLE


@pytest.mark.parametrize(
    "command",
    [["split", "0.8,0.1,0.1"], ["labels", "--from", "x.csv"], ["gc"], ["salvage", "-o", "z.lg"], ["duplicates"],
     ["remove", "--ids", "a", "--reason", "x"], ["about", "title=x"], ["doctor"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_commands_that_change_a_dataset_refuse_a_url(url, command, capsys, tmp_path, monkeypatch):
    from lazygraph.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("id,gap\na,1\n")
    assert main([command[0], url, *command[1:]]) == 2
    said = capsys.readouterr().err
    assert f"{url} is on a server" in said
    assert "http:/1" not in said  # no path was made of it


@pytest.mark.parametrize("match", ["manifest", "columns/record", "digests", "shards/00002"])
def test_a_transfer_that_is_cut_anywhere_gives_the_same_bytes(web, url, made, match):
    expected = Store(made / "p.lg").raw(700)
    (path,) = (made / "p.lg").glob(f"{match}*")
    size = path.stat().st_size
    for at in sorted({0, 1, 2, size // 3, size // 2, size - 2, size - 1}):
        shutil.rmtree(cache().folder, ignore_errors=True)
        web.fault("cut", match=match, at=at, times=1)
        store = Store(url)
        store.read_whole(range(4))
        assert store.raw(700) == expected
        web.fault("clear")
    assert all(good for _, good in cache().verify())
