"""The catalogue: its facts, its splits, and downloads from a server that is slow, wrong or gone."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import main
from lazygraph.errors import InputError, TransferError, UnreadableInput
from lazygraph.sources.catalogue import download, table
from lazygraph.sources.catalogue.folds import _stratified, official_folds
from lazygraph.sources.catalogue.table import CatalogueEntry, CatalogueFile, Folds, catalogue, is_catalogue_name
from lazygraph.sources.detect import open_sources, source_from_json, source_to_json
from lazygraph.storage import transport
from lazygraph.writing.descriptions import check_about
from lazygraph.writing.folds import folds_of_graphs, folds_of_strata
from tests.doc_examples import run_examples
from tests.real import existing, needs_whole

BODY = os.urandom(300_000)


class Host:
    """A server of files that can be told to cut, change, redirect or lie."""

    def __init__(self):
        self.files = {"/file.bin": BODY}
        self.requests = []  # (path, Range, If-Range)
        self.cut = []  # for each of the next answers with a body: bytes after which the connection is closed
        self.status = []  # of the next answers
        self.redirect = None
        self.tag = '"one"'
        self.ranges = True
        self.length = True
        self.slow = 0.0
        self.api = b""  # what the Hub says of every repository
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                asked = self.headers.get("Range")
                host.requests.append((self.path, asked, self.headers.get("If-Range")))
                if host.status:
                    return self.end(host.status.pop(0), b"busy")
                if host.redirect and not self.path.startswith("/there"):
                    self.send_response(302)
                    self.send_header("Location", host.redirect + "/there" + self.path)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                if self.path.startswith("/api/"):
                    return self.end(200, host.api) if host.api else self.end(404, b"", {"X-Error-Code": "RepoNotFound"})
                body = host.files.get(self.path.removeprefix("/there"))
                if body is None:
                    return self.end(404, b"no")
                same = self.headers.get("If-Range") in (None, host.tag)
                if asked and host.ranges and same:
                    start = int(asked.removeprefix("bytes=").rstrip("-"))
                    if start >= len(body):
                        return self.end(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                    end = f"bytes {start}-{len(body) - 1}/{len(body)}"
                    return self.end(206, body[start:], {"Content-Range": end})
                return self.end(200, body)

            def end(self, status, body, headers=()):
                self.send_response(status)
                if host.tag:
                    self.send_header("ETag", host.tag)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                if host.length:
                    self.send_header("Content-Length", str(len(body)))
                else:
                    self.send_header("Connection", "close")
                self.end_headers()
                try:
                    self.send(status, body)
                except ConnectionError:  # the client was killed, or is content
                    self.close_connection = True

            def send(self, status, body):
                if status in (200, 206) and host.cut:
                    self.wfile.write(body[: host.cut.pop(0)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                for at in range(0, len(body), 50_000):
                    self.wfile.write(body[at : at + 50_000])
                    time.sleep(host.slow)
                self.close_connection = not host.length

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def host():
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache, and no pauses."""
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def listed(monkeypatch):
    """Put entries into the catalogue."""

    def put(*entries):
        known = {**catalogue(), **{entry.name: entry for entry in entries}}
        monkeypatch.setattr(table, "catalogue", lambda: known)

    return put


def entry_of(host, **known):
    return CatalogueEntry("jarvis:one", "One", (CatalogueFile("file.bin", f"{host.url}/file.bin", **known),), "a test")


def sums(body):
    return {
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "md5": hashlib.md5(body).hexdigest(),
        "git": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest(),
    }


# ---- the table ----


def test_every_entry_is_whole():
    assert len(catalogue()) > 80
    for name, entry in catalogue().items():
        assert entry.name == name
        assert is_catalogue_name(name)
        assert entry.facts
        assert entry.title
        check_about(entry.about())
        assert len({file.name for file in entry.files}) == len(entry.files)
        for file in entry.files:
            assert file.url.startswith("https://")
            assert Path(file.name).name == file.name
            for value, digits in ((file.sha256, 64), (file.md5, 32), (file.git, 40)):
                assert value is None or (len(value) == digits and not set(value) - set("0123456789abcdef"))
    assert catalogue()["cdvae:mp_20"].splits == ("train", "val", "test")


def test_the_sets_of_jarvis_are_those_of_jarvis_tools():
    from jarvis.db.figshare import get_db_info

    entries = {name.partition(":")[2]: entry for name, entry in catalogue().items() if name.startswith("jarvis:")}
    version = next(iter(entries.values())).facts.split()[1]
    if importlib.metadata.version("jarvis-tools") != version:
        pytest.skip(f"the table has the facts of jarvis-tools {version}")
    theirs = get_db_info()
    assert set(theirs) - set(entries) == {"arXiv", "cord19", "arxiv_summary"}  # texts
    for name, entry in entries.items():
        assert (entry.files[0].url, entry.files[0].name) == (theirs[name][0], f"{theirs[name][1]}.zip")


@pytest.mark.parametrize("name", [n for n, e in catalogue().items() if e.folds and not e.folds.stratify])
def test_folds_are_the_official_ones(name):
    """Their sha256 in the table was made from matbench's file of folds, and not from this rule."""
    entry = catalogue()[name]
    found = official_folds(entry.folds, entry.graphs)
    assert (found == folds_of_graphs(entry.graphs, 5, 18012019)).all()
    assert entry.folds.official_id(0) == entry.folds.first_id
    assert entry.folds.official_id(entry.graphs - 1) == entry.folds.last_id
    with pytest.raises(UnreadableInput, match="rows give other folds"):
        official_folds(entry.folds, entry.graphs - 1)


def test_stratified_folds():
    strata = np.random.default_rng(1).integers(0, 3, 997)
    seen = {}
    codes = np.array([seen.setdefault(one, len(seen)) for one in strata.tolist()])
    found = _stratified(strata.tolist(), 5, np.random.RandomState(9))
    assert (found == folds_of_strata(codes, 5, 9)).all()


# ---- data sets as sources ----


def split_table(rows):
    return gzip.compress(
        json.dumps({"index": list(range(len(rows))), "columns": ["structure", "y"], "data": rows}).encode()
    )


def structures(n):
    for k in range(n):
        crystal = lg.Crystal(np.eye(3) * (3 + k / 10), [[0, 0, 0], [0.5, 0.5, 0.5]], [11 + k % 5, 17])
        yield crystal.to_pymatgen().as_dict()


@pytest.mark.parametrize("stratify", [None, "y"])
def test_a_set_of_matbench_has_its_ids_and_folds(stratify, host, listed, tmp_path):
    labels = [k % 3 == 0 for k in range(23)] if stratify else [k / 7 for k in range(23)]
    rows = [[s, y] for s, y in zip(structures(23), labels, strict=True)]
    rows[4][0]["lattice"]["matrix"] = [[0.0] * 3] * 3  # which is quarantined, and moves no fold
    host.files["/m"] = split_table(rows)
    strata = np.array([0 if y else 1 for y in labels]) if stratify else None
    expected = folds_of_graphs(23, 5, 1) if strata is None else folds_of_strata(strata, 5, 1)
    folds = Folds(5, 1, "mb-two-01", "mb-two-23", hashlib.sha256(expected.tobytes()).hexdigest(), stratify)
    file = CatalogueFile("matbench_two.json.gz", f"{host.url}/m", sha256=sums(host.files["/m"])["sha256"])
    entry = CatalogueEntry(
        "matbench:two", "Two", (file,), "a test", 23, "CC0", "Someone (2020)", "10.1/2", "https://example.org", folds
    )
    listed(entry)
    report = lg.write("matbench:two", tmp_path / "two.lg", graph="cgcnn", workers=1, progress=False)
    assert (report.written, report.quarantined) == (22, 1), report
    ds = lg.LazyGraphDataset(tmp_path / "two.lg")
    rows_kept = [k for k in range(23) if k != 4]
    assert ds.ids.tolist() == [f"mb-two-{k + 1:02d}" for k in rows_kept]
    for k in range(5):
        assert (ds.columns[f"fold_{k}"] == "test").tolist() == (expected[rows_kept] == k).tolist()
        assert len(ds.split("test", of=f"fold_{k}")) + len(ds.split("train", of=f"fold_{k}")) == 22
    assert ds.manifest.about == {
        "title": "Two", "license": "CC0", "citation": "Someone (2020)", "doi": "10.1/2", "homepage": "https://example.org",
    }  # fmt: skip
    source = ds.manifest.provenance.sources[0]
    assert (source.name, source.files[0]["name"], source.files[0]["sha256"]) == (
        "matbench_two", "matbench_two.json.gz", file.sha256,
    )  # fmt: skip
    assert len(host.requests) == 1
    lg.write("matbench:two", tmp_path / "again.lg", graph="cgcnn", workers=1, progress=False)
    assert len(host.requests) == 1
    host.files["/m"] = split_table(rows[:-1])
    other = CatalogueFile("matbench_two.json.gz", f"{host.url}/m")
    listed(CatalogueEntry("matbench:less", "Less", (other,), "a test", 23, folds=folds))
    with pytest.raises(UnreadableInput, match="the 22 rows give other folds"):
        lg.write("matbench:less", tmp_path / "less.lg", graph="cgcnn", workers=1, progress=False)


def test_files_of_published_splits(host, listed, tmp_path):
    texts, expected = {}, {}
    parts = {"train": ("val.csv", slice(1, 7)), "val": ("test.csv", slice(1, 4)), "test": ("test.csv", slice(4, 9))}
    for split, (name, rows) in parts.items():
        with existing(f"perov_5/{name}").open(newline="") as file:
            table = list(islice(csv.reader(file), 10))
        out = io.StringIO(newline="")
        csv.writer(out).writerows([table[0], *table[rows]])
        texts[split], expected[split] = out.getvalue(), len(table[rows])
        host.files[f"/{split}.csv"] = texts[split].encode()
    files = tuple(
        CatalogueFile(f"{s}.csv", f"{host.url}/{s}.csv", git=sums(host.files[f"/{s}.csv"])["git"], split=s)
        for s in texts
    )
    listed(CatalogueEntry("cdvae:three", "Three", files, "a test", license="MIT"))
    report = lg.write("cdvae:three", tmp_path / "three.lg", graph="cgcnn", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "three.lg")
    sizes = {split: len(ds.split(split)) for split in ("train", "val", "test")}
    assert report.quarantined == 0
    assert sizes == expected
    assert ds.manifest.columns["split"].categories == ("train", "val", "test")
    assert ds.manifest.about == {"title": "Three", "license": "MIT"}
    sources = open_sources("cdvae:three")
    assert [source.split for source in sources] == ["train", "val", "test"]
    data = source_to_json(sources[1])
    assert source_from_json(json.loads(json.dumps(data))) == sources[1]
    for inner in (None, "x", data):
        with pytest.raises(InputError, match="as the source of a file of the catalogue; required: a kind and a path"):
            source_from_json({**data, "inner": inner})
    (keyed, *_) = open_sources("cdvae:three", id_key="material_id")
    assert keyed.inner.id_key == "material_id"


@needs_whole
@pytest.mark.slow
def test_the_real_file_of_matbench_phonons(host, listed, tmp_path, monkeypatch, capsys):
    """The table has the sum of the file, its 1,265 rows give the official folds, and docs/catalogue.md is right."""
    host.files["/p"] = existing("matbench/matbench_phonons.json.gz").read_bytes()
    entry = catalogue()["matbench:phonons"]
    file = CatalogueFile(entry.files[0].name, f"{host.url}/p", sha256=entry.files[0].sha256)
    listed(CatalogueEntry(entry.name, entry.title, (file,), entry.facts, entry.graphs, folds=entry.folds))
    monkeypatch.chdir(tmp_path)
    run_examples(Path(__file__).parents[2] / "docs" / "catalogue.md")
    assert capsys.readouterr().out.startswith("mb-phonons-0001 253 None\n")
    assert len(lg.LazyGraphDataset("phonons.lg")) == 1265


def test_names(listed, host, tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"unknown data set of the catalogue 'jarvis:dft_3'; did you mean 'jarvis:dft_3d'"
    ):
        lg.write("jarvis:dft_3", tmp_path / "x.lg")
    with pytest.raises(
        InputError, match=r"is a tar of ASE databases .*; download it with: lazygraph catalogue matbench-"
    ):
        lg.write("matbench-discovery:salex_val", tmp_path / "x.lg")
    with pytest.raises(InputError, match="no addresses of the files of alexandria:pbe; see https://alexandria"):
        lg.write("alexandria:pbe", tmp_path / "x.lg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jarvis:mine").write_text('2\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\nCl 2 2 2\n')
    assert lg.write("jarvis:mine", "x.lg", graph="none", workers=1, progress=False).written == 1
    assert not [p for p in tmp_path.iterdir() if p.name == "cache"]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(host, tmp_path, monkeypatch):
    """A repository of the Hub with two folders of Parquet files."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", host.url)
    siblings = [{"rfilename": "README.md", "size": 3, "blobId": "0" * 40}]
    for k, name in enumerate(("pbe/train-0.parquet", "pbe/train-1.parquet", "scan/train-0.parquet")):
        lg.write(f"prototypes:5?seed={k}", tmp_path / f"{k}.lg", graph="none", workers=1, progress=False)
        body = lg.export(
            tmp_path / f"{k}.lg", tmp_path / f"{k}.parquet", id_key="row", progress=False
        ).path.read_bytes()
        host.files[f"/datasets/g/crystals/resolve/{COMMIT}/{name}"] = body
        lfs = {"sha256": sums(body)["sha256"], "size": len(body), "pointerSize": 130}
        siblings.append({"rfilename": name, "size": len(body), "blobId": "1" * 40, "lfs": lfs})
    said = {"id": "g/crystals", "sha": COMMIT, "siblings": siblings, "cardData": {"license": "cc-by-4.0"}, "tags": []}
    host.api = json.dumps(said).encode()
    return host


def test_parquet_files_of_the_hub(hub, tmp_path, capsys):
    report = lg.write("hf:g/crystals/pbe", tmp_path / "pbe.lg", graph="cgcnn", workers=1, progress=False, id_key="row")
    assert report.written + report.quarantined == 10  # both files have ids of the same form
    ds = lg.LazyGraphDataset(tmp_path / "pbe.lg")
    assert ds.manifest.about == {
        "title": "g/crystals", "license": "cc-by-4.0", "homepage": f"{hub.url}/datasets/g/crystals",
    }  # fmt: skip
    names = [source.files[0]["name"] for source in ds.manifest.provenance.sources]
    assert names == ["pbe--train-0.parquet", "pbe--train-1.parquet"]
    assert main(["catalogue", "hf:g/crystals/pbe"]) == 0
    said = capsys.readouterr().out
    assert f"facts from  the Hugging Face Hub, commit {COMMIT}" in said
    assert "licence     cc-by-4.0" in said
    asked = len(hub.requests)
    hub.status = [503] * 50  # the Hub cannot be reached any more, but the files are here
    lg.write("hf:g/crystals/pbe", tmp_path / "again.lg", graph="cgcnn", workers=1, progress=False, id_key="row")
    assert len(hub.requests) > asked
    with pytest.raises(TransferError, match="at 5 attempts"):
        lg.write("hf:g/crystals/scan", tmp_path / "scan.lg")


def test_folders_of_the_hub(hub, tmp_path, folder):
    with pytest.raises(
        InputError, match="has 0 Parquet files in this folder; name one of the folders: hf:g/crystals/pbe, "
    ):
        lg.write("hf:g/crystals", tmp_path / "x.lg")
    with pytest.raises(InputError, match="has 0 Parquet files in this folder; name one of the folders: pbe, scan"):
        lg.write("hf:g/crystals/pbesol", tmp_path / "x.lg")
    for name in ("hf:g", "hf:g/crystals/../../x", "hf:/etc"):
        with pytest.raises(InputError, match="give hf://datasets/ORG/NAME"):
            lg.write(name, tmp_path / "x.lg")
    place = f"/datasets/g/crystals/resolve/{COMMIT}/scan/train-0.parquet"
    hub.files[place] = hub.files[place][:-1] + b"x"
    with pytest.raises(TransferError, match="its sha256 is .*; required: .*, as the catalogue says"):
        lg.write("hf:g/crystals/scan", tmp_path / "x.lg")
    hub.api = b""
    with pytest.raises(TransferError, match="hf:g/none: no such repository, or no access"):
        lg.write("hf:g/none", tmp_path / "x.lg")


# ---- downloads ----


def test_a_download_is_checked_and_kept(host, folder):
    entry = entry_of(host, **sums(BODY))
    assert not download.is_downloaded(entry)
    (path,) = download.downloaded(entry)
    assert path == folder / "catalogue" / "jarvis" / "one" / "file.bin"
    assert path.read_bytes() == BODY
    assert download.is_downloaded(entry)
    assert download.downloaded(entry) == [path]
    assert len(host.requests) == 1
    path.write_bytes(BODY[:-1])  # a part of it was lost
    assert download.downloaded(entry)[0].read_bytes() == BODY
    assert len(host.requests) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_download_that_breaks_off_continues(known, host):
    host.cut = [100_000, 0, 50_000]
    (path,) = download.downloaded(entry_of(host, **(sums(BODY) if known else {})))
    assert path.read_bytes() == BODY
    asked = [one[1] for one in host.requests]
    assert asked[0] is None
    assert asked[-1] == "bytes=150000-"
    assert {one[2] for one in host.requests[1:]} == {'"one"'}


def test_a_file_that_changes_meanwhile_is_read_from_its_beginning(host):
    other = os.urandom(200_000)
    host.cut = [100_000]
    append = download._append

    def changing(*arguments):
        if len(host.requests) == 1:
            host.files["/file.bin"], host.tag = other, '"two"'
        return append(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_append", changing)
        (path,) = download.downloaded(entry_of(host))
    assert path.read_bytes() == other


@pytest.mark.parametrize(("tag", "ranges"), [("", True), ('W/"weak"', True), ('"one"', False)])
def test_a_server_without_tags_or_ranges(tag, ranges, host):
    host.tag, host.ranges, host.cut = tag, ranges, [100_000]
    (path,) = download.downloaded(entry_of(host, **sums(BODY)))
    assert path.read_bytes() == BODY
    assert len(host.requests) == 2


def test_a_complete_part_whose_process_was_killed(host, folder):
    entry = entry_of(host, **sums(BODY))
    place = folder / "catalogue" / "jarvis" / "one"
    place.mkdir(parents=True)
    (place / ".file.bin.part").write_bytes(BODY)
    (place / ".file.bin.part.version").write_text(f'{host.url}/file.bin\n"one"')
    assert download.downloaded(entry)[0].read_bytes() == BODY
    assert [one[1] for one in host.requests] == ["bytes=300000-"]
    (place / "file.bin").unlink()
    (place / ".file.bin.part").write_bytes(BODY + b"more")
    (place / ".file.bin.part.version").write_text(f'{host.url}/file.bin\n"one"')
    assert download.downloaded(entry)[0].read_bytes() == BODY


@pytest.mark.parametrize("name", ["size", "sha256", "md5", "git"])
def test_other_bytes_than_those_of_the_catalogue_are_refused(name, host, folder):
    known = {name: sums(os.urandom(100))[name]}
    with pytest.raises(TransferError, match="as the catalogue says"):
        download.downloaded(entry_of(host, **known))
    names = {p.name for p in (folder / "catalogue" / "jarvis" / "one").iterdir()}
    assert not [one for one in names if one.endswith((".bin", ".part", ".json"))]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>sorry", b"\n<html>", b'<?xml version="1.0"?>\n<Error>gone'])
def test_a_web_page_in_place_of_a_file_is_refused(page, host):
    host.files["/file.bin"] = page
    with pytest.raises(TransferError, match="the server sent a web page"):
        download.downloaded(entry_of(host))


def test_a_server_that_fails(host):
    host.status = [503, 500, 429]
    assert download.downloaded(entry_of(host, **sums(BODY)))[0].read_bytes() == BODY
    host.files.clear()
    other = CatalogueEntry("jarvis:two", "Two", entry_of(host).files, "a test")
    with pytest.raises(TransferError, match="the server has no such file"):
        download.downloaded(other)
    host.status = [503] * 5
    with pytest.raises(TransferError, match="503.*, at 5 attempts; try again later"):
        download.downloaded(other)
    host.status = [403]
    with pytest.raises(TransferError, match="refuses access"):
        download.downloaded(other)


def test_redirects(host):
    host.redirect = host.url.replace("127.0.0.1", "localhost")  # as figshare leads to a bucket
    assert download.downloaded(entry_of(host, **sums(BODY)))[0].read_bytes() == BODY
    host.redirect = "file:///etc"
    with pytest.raises(TransferError, match="redirects to file:, which is refused"):
        download.downloaded(CatalogueEntry("jarvis:two", "Two", entry_of(host).files, "a test"))


def test_several_that_want_the_same_file_download_it_once(host):
    host.slow = 0.02
    entry, found = entry_of(host, **sums(BODY)), []
    threads = [
        threading.Thread(target=lambda: found.append(download.downloaded(entry)[0].read_bytes())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 4
    assert len(host.requests) == 1


@pytest.mark.slow
def test_a_killed_download_continues(host, folder):
    host.slow = 0.5
    entry = entry_of(host, **sums(BODY))
    code = f"""
from lazygraph.sources.catalogue import download
from lazygraph.sources.catalogue.table import CatalogueEntry, CatalogueFile
download.PIECE = 10_000
download.downloaded(CatalogueEntry("jarvis:one", "One", (CatalogueFile("file.bin", {entry.files[0].url!r}),), "a test"))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(lg.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    part = folder / "catalogue" / "jarvis" / "one" / ".file.bin.part"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (part.exists() and part.stat().st_size > 60_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert not (part.parent / "file.bin").exists()
    before, host.slow = part.stat().st_size, 0.0
    assert download.downloaded(entry)[0].read_bytes() == BODY
    assert host.requests[-1][1] == f"bytes={before}-"


# ---- the command ----


def test_the_list(capsys):
    assert main(["catalogue"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(catalogue()) + 2
    assert any(line.split() == "cdvae:mp_20 45,231 MP-20; splits: train, val, test".split() for line in said)
    assert said[-1].startswith("The addresses are those of the projects")
    assert main(["catalogue", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(catalogue())
    assert main(["catalogue", "--download"]) == 2
    assert "--download needs the name of one data set" in capsys.readouterr().err


def test_one_data_set(capsys, host, monkeypatch):
    assert main(["catalogue", "matbench:phonons"]) == 0
    said = capsys.readouterr().out
    for part in (
        "structures  1,265", "licence     not known", "cite        A. Dunn", "5 official folds", "size      not known",
        "sum       sha256 4db551f2", "(untested)", "facts from  matminer 0.10.1",
    ):  # fmt: skip
        assert part in said
    assert main(["catalogue", "jarvis:dft_3d"]) == 0
    assert "sum       not known" in capsys.readouterr().out
    monkeypatch.setattr(table, "catalogue", lambda: {"jarvis:one": entry_of(host, **sums(BODY))})
    assert main(["catalogue", "jarvis:one", "--download"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == BODY
    assert main(["catalogue", "jarvis:one"]) == 0
    assert f"downloaded  {path.parent}" in capsys.readouterr().out
    assert main(["catalogue", "jarvis:one", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["downloaded"], told["files"][0]["md5"]) == (True, sums(BODY)["md5"])
    assert main(["catalogue", "jarvis:two"]) == 2
    assert "unknown data set of the catalogue 'jarvis:two'" in capsys.readouterr().err
