"""The command ``lazygraph cache`` lists, checks, shrinks and empties what is kept."""

import hashlib
import json
import os

import pytest

from lazygraph.cli.main import main
from lazygraph.storage.cache import Cache, KeptManifest
from lazygraph.storage.files import FileRef


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    cache = Cache(tmp_path / "cache")
    for number in range(3):
        content = bytes([number]) * 1000
        digest = hashlib.sha256(content).hexdigest()
        file = FileRef(f"columns/x-{digest[:16]}.npy", 1000, digest)
        os.close(cache.fetch(file, lambda offset, content=content: iter([content[offset:]]), "s"))
        os.utime(cache._path(digest), (number, number))
    cache.keep_manifest("https://me:secret@x.org/a.lg", KeptManifest("https://x.org/a.lg", None, 5.0, b"{}"))
    (cache.folder / "catalogue" / "jarvis").mkdir(parents=True)
    (cache.folder / "catalogue" / "jarvis" / "dft.json").write_bytes(bytes(70))
    return cache


def told(capsys, *arguments):
    code = main(["cache", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_what_is_kept_is_listed(kept, capsys):
    code, facts = told(capsys)
    assert (code, facts["files"], facts["bytes"], facts["catalogue_bytes"], facts["limit"]) == (0, 3, 3000, 70, None)
    assert facts["datasets"] == [{"url": "https://x.org/a.lg", "fetched": 5.0}]
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    assert f"{kept.folder}: 3 files, 3,000 bytes (no limit)" in said
    assert "secret" not in said


def test_it_is_shrunk_and_emptied(kept, capsys):
    assert told(capsys, "--shrink", "1500B")[1]["files"] == 1
    code, facts = told(capsys, "--empty")
    assert (code, facts["files"], facts["catalogue_bytes"], facts["datasets"]) == (0, 0, 0, [])
    assert facts["removed_bytes"] == 1070


def test_damage_is_said_and_removed(kept, capsys):
    entry = kept.entries()[1]
    entry.path.write_bytes(bytes(1000)[:-1] + b"x")
    code, facts = told(capsys, "--verify")
    assert (code, facts["damaged"], facts["files"]) == (1, [entry.sha256], 2)
    assert main(["cache", "--verify"]) == 0
    assert "no file is damaged" in capsys.readouterr().out


def test_a_size_that_is_none(kept, capsys):
    assert main(["cache", "--shrink", "much"]) == 2
    assert "required: a size such as 200GB" in capsys.readouterr().err


def test_an_empty_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "none"))
    assert told(capsys)[1]["files"] == 0
    assert told(capsys, "--empty")[0] == 0
    assert not (tmp_path / "none").exists()
