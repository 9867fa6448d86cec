"""Servers that want to deceive: what they send instead is refused, in time, and read no further."""

import json
import os
import time

import pytest

import lazygraph as lg
from lazygraph.errors import CorruptDataset, LazyGraphError, TransferError
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.storage import transport
from lazygraph.storage.cache import cache
from tests.servers.started import web_server


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.001)


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    lg.write("prototypes:60?seed=0", root / "p.lg", graph="cgcnn", workers=1, shard_size=20, progress=False)
    with web_server(root, tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture(autouse=True)
def clear(web):
    yield
    web.fault("clear")


@pytest.mark.parametrize(
    "where",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://localhost:1/x", "http://127.0.0.1:1/x", "//localhost/x",
     "data:,x", "http://[::1]/x", "gopher://127.0.0.1/x", "http://127.0.0.1.nip.io/x", "http://2130706433/x"],
)  # fmt: skip
@pytest.mark.parametrize("match", ["manifest", "columns", "shards"])
def test_a_redirect_leads_nowhere_else(web, where, match):
    web.fault("redirect", match=match, to=where)
    with pytest.raises(TransferError, match="redirects to .*, which is refused"):
        Store(f"{web.url}/p.lg").raw(5)


@pytest.mark.parametrize("match", ["manifest", "columns/record", "digests", "shards"])
def test_an_endless_body_is_left(web, match, monkeypatch):
    from lazygraph.storage import http

    monkeypatch.setattr(http, "MAX_MANIFEST", 2**20)
    web.fault("endless", match=match)
    begin = time.monotonic()

    def read_all():
        store = Store(f"{web.url}/p.lg")
        store.raw(5)
        for shard in store.manifest.shards:
            os.close(store.storage.descriptor(shard.file))

    with pytest.raises((CorruptDataset, TransferError)):
        read_all()
    assert time.monotonic() - begin < 30
    web.fault("clear")
    web.log()
    assert sum(entry.size for entry in (*cache().entries(), *cache().unfinished())) < 2**20


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "shards/../../x", "http://localhost/x", "..%2f..%2fx"])
def test_a_manifest_names_no_other_place(web, name):
    """Names are refused before anything is asked for."""
    path = web.root / "p.lg" / "manifest.json"
    before = path.read_bytes()
    try:
        body = json.loads(before)
        body.pop("sha256")
        body["digests"]["name"] = name
        import hashlib

        from lazygraph.format.strict_json import canonical_json

        prefix = canonical_json(body)[:-1]
        path.write_bytes(prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n')
        web.log()
        with pytest.raises(LazyGraphError, match=r"the file name|checksum"):
            Store(f"{web.url}/p.lg").raw(5)
        assert {entry["path"] for entry in web.log()} == {"/p.lg/manifest.json"}
    finally:
        path.write_bytes(before)


def test_another_dataset_under_the_content_id_of_this_one_is_found(web, tmp_path):
    """A manifest that claims a pinned content id, with its own digests, is refused when it is opened."""
    import hashlib

    from lazygraph.format.strict_json import canonical_json

    wanted = Manifest.load(web.root / "p.lg").content_id
    lg.write("prototypes:60?seed=9", web.root / "q.lg", graph="cgcnn", workers=1, progress=False)
    path = web.root / "q.lg" / "manifest.json"
    body = json.loads(path.read_bytes())
    body.pop("sha256")
    body["content_id"] = wanted
    prefix = canonical_json(body)[:-1]
    path.write_bytes(prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n')
    with pytest.raises(CorruptDataset, match="the digests of its graphs have the content id"):
        lg.LazyGraphDataset(f"{web.url}/q.lg", content_id=wanted)
    with pytest.raises(CorruptDataset, match="the digests of its graphs have the content id"):
        lg.pull(f"{web.url}/q.lg", tmp_path / "q.lg", content_id=wanted, progress=False)


def test_other_records_under_the_digests_of_these_are_found_by_a_pull(web, tmp_path):
    """Shards and columns of another dataset, with the digests of graphs that a paper named."""
    import hashlib
    import shutil

    from lazygraph.format.strict_json import canonical_json

    mine, other = web.root / "p.lg", web.root / "r.lg"
    lg.write("prototypes:60?seed=9", other, graph="cgcnn", workers=1, shard_size=20, progress=False)
    wanted, theirs = Manifest.load(mine), Manifest.load(other)
    digests = bytearray((other / theirs.digests.name).read_bytes())
    digests[:32] = (mine / wanted.digests.name).read_bytes()[:32]
    sha256 = hashlib.sha256(digests).hexdigest()
    (other / f"digests-{sha256[:16]}.bin").write_bytes(digests)
    body = json.loads((other / "manifest.json").read_bytes())
    body.pop("sha256")
    body["content_id"] = wanted.content_id
    body["digests"] = {"name": f"digests-{sha256[:16]}.bin", "size": len(digests), "sha256": sha256}
    prefix = canonical_json(body)[:-1]
    content = prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n'
    (other / "manifest.json").write_bytes(content)
    try:
        with pytest.raises(CorruptDataset, match="does not hold the graphs of the content id"):
            lg.pull(f"{web.url}/r.lg", tmp_path / "r.lg", content_id=wanted.content_id, progress=False)
        assert not (tmp_path / "r.lg").exists()
        # A copy that is there already is compared too, and one of other graphs is kept.
        lg.pull(f"{web.url}/r.lg", tmp_path / "r.lg", progress=False)
        with pytest.raises(CorruptDataset, match="does not hold the graphs of the content id"):
            lg.pull(f"{web.url}/r.lg", tmp_path / "r.lg", content_id=wanted.content_id, progress=False)
        lg.pull(mine, tmp_path / "mine.lg", where="n_atoms < 5", progress=False)
        before = Manifest.load(tmp_path / "mine.lg")
        with pytest.raises(CorruptDataset):
            lg.pull(
                f"{web.url}/r.lg", tmp_path / "mine.lg", content_id=wanted.content_id, overwrite=True, progress=False
            )
        assert Manifest.load(tmp_path / "mine.lg") == before
    finally:
        shutil.rmtree(other)
