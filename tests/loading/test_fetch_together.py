"""The columns of a dataset on a server come together before its first batch: those that are needed, and no others."""

from __future__ import annotations

import shutil
import threading

import pytest

import lazygraph as lg
from lazygraph.errors import CorruptDataset
from lazygraph.storage.remote import RemoteStorage
from tests.servers.started import web_server


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    lg.write("prototypes:1200?seed=4", folder / "p.lg", workers=1, shard_size=300, progress=False)
    with web_server(folder, folder) as server:
        yield server


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, web):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    web.fault("clear")
    web.log()


@pytest.mark.parametrize("target", [None, "density", ["density", "volume_per_atom"]])
def test_no_column_is_fetched_after_the_first_batch_and_none_in_vain(web, target, monkeypatch):
    opened, real = [], RemoteStorage.descriptor

    def spy(storage, file):
        opened.append((threading.current_thread() is threading.main_thread(), storage.is_at_hand(file), file.name))
        return real(storage, file)

    monkeypatch.setattr(RemoteStorage, "descriptor", spy)
    ds = lg.LazyGraphDataset(f"{web.url}/p.lg", target=target)
    for _ in lg.loader(ds, 64, shuffle=True, threads=0):
        pass
    others = [one for one in opened if "shards/" not in one[2]]
    together = {name for main, _, name in others if not main}
    read = {name for main, _, name in others if main}
    assert together == read
    assert all(there for main, there, _ in others if main)
    wanted = {"digests", "dictionary", *(f"columns/{name}" for name in ("record", "id", "n_node", "n_edge"))}
    labels = [] if target is None else [target] if isinstance(target, str) else target
    wanted |= {f"columns/{name}" for name in labels}
    assert {name.rpartition("-")[0] for name in together} == wanted


def test_a_column_that_is_gone_is_said_by_its_reader(web):
    folder = web.root / "q.lg"
    shutil.copytree(web.root / "p.lg", folder)
    ds = lg.LazyGraphDataset(f"{web.url}/q.lg")
    (folder / ds.manifest.columns["id"].file.name).unlink()
    with pytest.raises(CorruptDataset, match="is missing, and the manifest names it"):
        list(lg.loader(ds, 64))


def test_a_column_of_other_bytes_is_an_error_before_the_first_batch(web):
    web.fault("wrong", match="columns/record")
    with pytest.raises(CorruptDataset, match="does not have the bytes that the manifest names"):
        next(iter(lg.loader(lg.LazyGraphDataset(f"{web.url}/p.lg"), 64)))
