"""Publishing on real servers: only what is missing is sent, nothing is lost, and nobody sees a half."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.errors import CorruptDataset, DatasetNotFound, InputError, OutputExists, TransferError
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from lazygraph.sharing.card import card, updated_card
from lazygraph.sharing.contained import losses
from lazygraph.storage.bucket import BucketTarget
from lazygraph.storage.hub_target import HubTarget
from lazygraph.storage.sftp import SftpTarget
from lazygraph.writing.edit import set_about, set_labels
from tests.servers.started import hub_server, s3_server, sftp_server, use_hub


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "p.lg"
    lg.write(
        "prototypes:200?seed=0", path, graph="cgcnn", workers=1, shard_size=64, progress=False, split=(0.8, 0.1, 0.1)
    )
    set_about(path, {"title": "Prototypes", "license": "CC BY 4.0", "description": "made | crystals <b>"})
    return path


@pytest.fixture
def own(made, tmp_path):
    return shutil.copytree(made, tmp_path / "p.lg")


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://bucket"


@pytest.fixture(scope="module")
def sftp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sftp")
    (folder / "root").mkdir()
    with sftp_server(folder / "root", folder) as (port, environment), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", environment["HOME"])
        yield f"sftp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with hub_server(folder) as (_, environment), pytest.MonkeyPatch.context() as patch:
        use_hub(environment, patch)
        yield environment["HF_ENDPOINT"]


@pytest.fixture(params=["s3", "sftp", "hub", "folder"])
def place(request, tmp_path):
    """The URL of a new place on each server."""
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    if request.param == "folder":
        return str(tmp_path / "shared" / "p.lg")
    server = request.getfixturevalue(request.param)
    return f"hf://datasets/group/{name}/p.lg" if request.param == "hub" else f"{server}/{name}/p.lg"


def same(url, path):
    mine, theirs = lg.LazyGraphDataset(url), lg.LazyGraphDataset(path)
    assert mine.manifest == theirs.manifest
    assert [batch.id for batch in lg.loader(mine, 50)] == [batch.id for batch in lg.loader(theirs, 50)]
    assert verify(url).problems == ()


def test_what_is_pushed_is_read_and_pulled(place, own, tmp_path):
    report = lg.push(own, place, progress=False)
    size = sum(file.size for file in set(Manifest.load(own).files()))
    assert (report.graphs, report.sent, report.kept) == (200, size, 0)
    same(place, own)
    again = lg.push(own, place, progress=False)
    assert (again.sent, again.kept) == (0, size)
    lg.pull(place, tmp_path / "back.lg", progress=False)
    assert Manifest.load(tmp_path / "back.lg") == Manifest.load(own)
    lg.pull(place, tmp_path / "few.lg", where="n_atoms < 5", progress=False)
    assert 0 < len(lg.LazyGraphDataset(tmp_path / "few.lg")) < 200
    assert verify(tmp_path / "few.lg").problems == ()


def test_an_append_sends_what_is_new(place, own, made):
    lg.push(own, place, progress=False)
    _append(own, 20)
    shards = {shard.file for shard in Manifest.load(made).shards}
    new = {shard.file for shard in Manifest.load(own).shards} - shards
    report = lg.push(own, place, progress=False)
    columns = sum(file.size for file in Manifest.load(own).files() if "shards/" not in file.name)
    assert 0 < report.sent <= sum(file.size for file in new) + columns
    same(place, own)


def _append(path, number):
    cells = [[[4 + n / 100, 0, 0], [0, 4, 0], [0, 0, 4]] for n in range(number)]
    crystals = [(f"id-{n}", lg.Crystal(cell, [[0, 0, 0]], [11])) for n, cell in enumerate(cells)]
    lg.append(path, crystals, workers=1, progress=False)


def test_what_others_added_is_not_lost(place, own, made, tmp_path):
    other = shutil.copytree(made, tmp_path / "other.lg")
    _append(other, 5)
    lg.push(other, place, progress=False)
    with pytest.raises(OutputExists, match=r"would lose data: it has 205 graphs, and this one 200\. Pull it .*--force"):
        lg.push(own, place, progress=False)
    same(place, other)
    lg.push(own, place, force=True, progress=False)
    same(place, own)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda path: set_labels(path, {"prototype-0000001": {"density": 1.0}}),
            "other values in the column 'density'",
        ),
        (lambda path: set_labels(path, {"prototype-0000001": {"new": 1.0}}), "it has the column 'new'"),
        (lambda path: lg.set_splits(path, (0.5, 0.25, 0.25)), "other values in the column 'split'"),
        (lambda path: lg.remove(path, ["prototype-0000001"], reason="x"), "its graphs are not the first graphs"),
        (lambda path: lg.remove(path, ["prototype-0000199"], reason="x"), None),
        (lambda path: set_about(path, {"title": "Another"}), None),
    ],
)
def test_losses_are_found(own, made, tmp_path, change, said):
    change(own)
    found = list(losses(Store(own), Store(made)))
    assert found == [] if said is None else said in found[0]
    assert list(losses(Store(own), Store(own))) == []


def test_an_append_that_widens_columns_loses_nothing(tmp_path):
    rows = [(f"a{n}", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11]), {"kind": "ab"[n % 2], "n": n}) for n in range(30)]
    lg.write(rows, tmp_path / "a.lg", graph="cgcnn", workers=1, progress=False)
    shutil.copytree(tmp_path / "a.lg", tmp_path / "b.lg")
    more = [
        (f"longer-id-{n}", lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], [11]), {"kind": f"kind {n}", "n": n})
        for n in range(300)
    ]
    lg.append(tmp_path / "b.lg", more, workers=1, progress=False)
    a, b = Store(tmp_path / "a.lg"), Store(tmp_path / "b.lg")
    assert a.manifest.columns["kind"].dtype != b.manifest.columns["kind"].dtype
    assert list(losses(a, b)) == []
    assert list(losses(b, a)) != []


def test_a_damaged_file_is_not_pushed(place, own):
    name = Manifest.load(own).shards[1].file.name
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own / name).write_bytes(content)
    with pytest.raises(CorruptDataset, match="has the sha256"):
        lg.push(own, place, progress=False)
    with pytest.raises(DatasetNotFound):
        Store(place)


@pytest.mark.parametrize(("server", "target"), [("s3", BucketTarget), ("sftp", SftpTarget), ("hub", HubTarget)])
def test_somebody_who_publishes_meanwhile_is_not_overwritten(server, target, own, made, tmp_path, request, monkeypatch):
    url = request.getfixturevalue(server)
    url = f"hf://datasets/group/meanwhile-{server}/p.lg" if server == "hub" else f"{url}/meanwhile/p.lg"
    other = shutil.copytree(made, tmp_path / "other.lg")
    _append(other, 5)
    publish = target.publish

    def late(self, *arguments):
        monkeypatch.setattr(target, "publish", publish)
        lg.push(other, url, progress=False)
        return publish(self, *arguments)

    monkeypatch.setattr(target, "publish", late)
    with pytest.raises(OutputExists, match=r"somebody else published .* nothing was replaced"):
        lg.push(own, url, progress=False)
    same(url, other)
    monkeypatch.setattr(target, "publish", late)
    lg.push(own, url, force=True, progress=False)
    same(url, own)


def test_two_that_publish_at_once_leave_one_whole_state(s3, own, made, tmp_path):
    others = []
    for number in range(4):
        path = shutil.copytree(made, tmp_path / f"o{number}.lg")
        _append(path, number + 1)
        others.append(path)
    results = []

    def publish(path):
        try:
            results.append((path, lg.push(path, f"{s3}/race/p.lg", progress=False)))
        except OutputExists as error:
            results.append((path, error))

    threads = [threading.Thread(target=publish, args=(path,)) for path in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    found = Manifest.load(lg.LazyGraphDataset(f"{s3}/race/p.lg").storage)
    winners = [path for path, result in results if not isinstance(result, OutputExists)]
    assert found in [Manifest.load(path) for path in winners]
    assert verify(f"{s3}/race/p.lg").problems == ()


KILLED = """
import os, signal, sys
import lazygraph as lg
from lazygraph.storage.bucket import BucketTarget
put, left = BucketTarget.put, [int(sys.argv[3])]
def killed(self, file, path):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    put(self, file, path)
BucketTarget.put = killed
lg.push(sys.argv[1], sys.argv[2], progress=False)
"""


def test_a_push_that_is_killed_publishes_nothing_and_goes_on(s3, own):
    url = f"{s3}/killed/p.lg"
    done = subprocess.run([sys.executable, "-c", KILLED, own, url, "5"], check=False)
    assert done.returncode == -9
    with pytest.raises(DatasetNotFound):
        Store(url)
    report = lg.push(own, url, progress=False)
    assert report.kept > 0
    same(url, own)


def test_the_hub_gets_one_commit_with_the_card(hub, own):
    url = "hf://datasets/group/card-test"
    report = lg.push(own, url, progress=False)
    assert len(report.revision) == 40
    text = urllib.request.urlopen(f"{hub}/datasets/group/card-test/resolve/main/README.md").read().decode()
    assert text.startswith('---\npretty_name: "Prototypes"\nlicense: cc-by-4.0\n')
    assert "made \\| crystals \\<b\\>" in text
    assert Manifest.load(own).content_id in text
    assert f"ds = lg.LazyGraphDataset('{url}')" in text
    # A revision that is named keeps its graphs.
    _append(own, 3)
    second = lg.push(own, url, progress=False)
    assert len(lg.LazyGraphDataset(f"{url}@{report.revision}")) == 200
    assert len(lg.LazyGraphDataset(f"{url}@{second.revision}")) == len(lg.LazyGraphDataset(url)) == 203


def test_a_lost_answer_of_the_hub_is_no_second_commit(hub, own):
    request = urllib.request.Request(f"{hub}/_fault", json.dumps({"kind": "lose"}).encode(), method="POST")
    url = "hf://datasets/group/lost"
    target = HubTarget(url)
    target.manifest()
    urllib.request.urlopen(request).close()
    report = lg.push(own, url, progress=False)
    with urllib.request.urlopen(f"{hub}/api/datasets/group/lost") as answer:
        assert json.load(answer)["sha"] == report.revision
    same(url, own)


def test_the_token_goes_to_the_hub_alone(hub, own):
    url = "hf://datasets/group/token/p.lg"
    lg.push(own, url, progress=False)
    urllib.request.urlopen(f"{hub}/_log").close()
    assert sum(batch.num_graphs for batch in lg.loader(lg.LazyGraphDataset(url), 50)) == 200
    with urllib.request.urlopen(f"{hub}/_log") as answer:
        log = json.load(answer)
    elsewhere = [one for one in log if one["host"].startswith("localhost")]
    assert elsewhere
    assert all(one["authorization"] is None for one in elsewhere)
    assert all(one["authorization"] == "Bearer hf_secret" for one in log if "/resolve/" in one["path"])


def test_a_card_that_a_person_edited_is_kept(made):
    manifest = Manifest.load(made)
    text = card(manifest, "hf://datasets/a/b/mp.lg")
    edited = text.replace("pretty_name", "# mine\npretty_name") + "\nMore words.\n"
    assert updated_card(edited, manifest, "hf://datasets/a/b/mp.lg") == edited
    two = updated_card(edited, manifest, "hf://datasets/a/b/other.lg")
    assert two.startswith(edited.rstrip("\n"))
    assert two.count("lazygraph:begin") == 2
    assert updated_card("# A card\n", manifest, "hf://datasets/a/b/mp.lg").startswith(
        "# A card\n\n<!-- lazygraph:begin"
    )


TEXT = "--> <script>alert(1)</script> `x` | y"


def test_a_card_is_yaml_and_text_whatever_the_dataset_says(own):
    import yaml

    set_about(own, {"title": 'evil": [x] #\u202e', "license": "my own: licence", "description": TEXT})
    text = card(Manifest.load(own), "hf://datasets/a/b/mp.lg")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "other"
    assert head["license_name"] == "my own: licence"
    assert head["pretty_name"].startswith('evil": [x] #')
    assert "<script>" not in text
    assert text.count("-->") == 2
    assert "\u202e" not in text


def test_a_pull_with_a_content_id_compares_every_graph(own, made, tmp_path):
    content_id = Manifest.load(made).content_id
    lg.pull(own, tmp_path / "good.lg", content_id=content_id, progress=False)
    with pytest.raises(lg.ContentMismatch):
        lg.pull(own, tmp_path / "x.lg", content_id="0" * 64, progress=False)
    with pytest.raises(lg.ContentMismatch):
        lg.pull(own, tmp_path / "x.lg", content_id="0" * 64, where="n_atoms < 5", progress=False)
    assert not (tmp_path / "x.lg").exists()


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("https://example.org/x.lg", {}, r"nothing can be pushed to https://example.org/x.lg; give a folder"),
        ("s3://bucket/x.lg", {"public": True}, "public works only for repositories of the Hub"),
        ("/tmp/x/y.lg", {"resend": True}, "resend works only for servers; delete the damaged files"),
        ("/tmp/x/y.lg", {"public": True}, "public works only for repositories of the Hub"),
    ],
)  # fmt: skip
def test_what_cannot_be_pushed(own, target, options, said):
    with pytest.raises(InputError, match=said):
        lg.push(own, target, progress=False, **options)
    with pytest.raises(InputError, match="only a folder of this machine can be pushed"):
        lg.push("s3://bucket/x.lg", own)


def test_a_bucket_that_refuses_is_one_error(s3, own, monkeypatch):
    with pytest.raises((TransferError, DatasetNotFound), match="s3://nobucket"):
        lg.LazyGraphDataset("s3://nobucket/x.lg")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransferError, match=r"s3://bucket/y.lg/manifest.json: .*at 2 attempts"):
        lg.LazyGraphDataset("s3://bucket/y.lg")


def test_a_damaged_file_of_a_server_is_sent_again(s3, own, tmp_path, monkeypatch):
    import fsspec

    url = f"{s3}/damaged/p.lg"
    lg.push(own, url, progress=False)
    file = Manifest.load(own).shards[1].file
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.pipe_file(f"bucket/damaged/p.lg/{file.name}", bytes(file.size))
    assert any(file.name in problem for problem in verify(url).problems)
    assert lg.push(own, url, progress=False).sent == 0
    assert lg.push(own, url, resend=True, progress=False).kept == 0
    assert verify(url).problems == ()


def test_what_a_dataset_says_of_itself_is_not_lost(own, made, tmp_path):
    set_about(own, {"title": None, "license": None})
    assert list(losses(Store(made), Store(own))) == ["it has license, title, which this one lacks (lazygraph about)"]
