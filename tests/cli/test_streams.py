"""Closed, full and abandoned streams, Ctrl-C, and names that are no text: one line, the right code, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.cli import write as write_command
from lazygraph.cli.main import COMMANDS, main
from lazygraph.reading.verify import verify
from lazygraph.writing.write import plan

# Where the tests run in the background, SIGINT is ignored, and children inherit that: Ctrl-C is set as in a terminal.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from lazygraph.cli.main import main
sys.exit(main())
"""
WRITE = ["write", "prototypes:60?seed=1", "-o", "x.lg", "--graph", "cgcnn", "--shard-size", "20"]


@pytest.fixture
def start(tmp_path):
    """Start a command as a program of its own, in a session of its own, by a shell that redirects its streams."""
    root = Path(lg.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def begin(*arguments, streams="", **variables):
        return subprocess.Popen(
            ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment | variables, start_new_session=True,
        )  # fmt: skip

    return begin


def end(process):
    out, error = process.communicate(timeout=120)
    return process.returncode, out.decode(errors="surrogateescape"), error.decode(errors="surrogateescape")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lg.write("prototypes:24?seed=1", "d.lg", graph="cgcnn", workers=1, progress=False, split=(0.5, 0.25, 0.25))
    (tmp_path / "gaps.csv").write_text("id,gap\nprototype-0000001,1.5\n")
    return tmp_path


TRAIN = ["train", "d.lg", "--target", "density", "--model", "cgcnn", "--n-epochs", "1", "-o", "run", "--no-progress"]
EVERY = {
    "write": ["write", "prototypes:5", "-o", "new.lg", "--workers", "1"],
    "plan": ["plan", "prototypes:5", "-o", "other.lg"],
    "shard": ["shard", "planned.lg", "--task", "0"],
    "merge": ["merge", "planned.lg"],
    "slurm": ["slurm", "prototypes:5", "-o", "other.lg"],
    "info": ["info", "d.lg"],
    "show": ["show", "d.lg", "--row", "0"],
    "stats": ["stats", "d.lg"],
    "report": ["report", "d.lg", "-o", "d.html"],
    "verify": ["verify", "d.lg"],
    "salvage": ["salvage", "d.lg", "-o", "saved.lg"],
    "labels": ["labels", "d.lg", "--from", "gaps.csv"],
    "count": ["count", "d.lg", "--graph", "mace"],
    "about": ["about", "d.lg", "title=Prototypes"],
    "split": ["split", "d.lg", "0.5,0.25,0.25"],
    "concat": ["concat", "d.lg", "saved.lg", "-o", "all.lg", "--on-duplicate", "prefix"],
    "subset": ["subset", "d.lg", "-o", "some.lg", "--where", "n_atoms > 0"],
    "pull": ["pull", "d.lg", "-o", "pulled.lg", "--no-progress"],
    "catalogue": ["catalogue"],
    "export": ["export", "d.lg", "-o", "d.xyz", "--no-progress"],
    "push": ["push", "d.lg", "pushed.lg", "--no-progress"],
    "cache": ["cache"],
    "diff": ["diff", "d.lg", "saved.lg"],
    "duplicates": ["duplicates", "d.lg", "--workers", "1"],
    "remove": ["remove", "some.lg", "--ids", "prototype-0000001", "--reason", "a reason"],
    "gc": ["gc", "d.lg"],
    "doctor": ["doctor", "d.lg"],
    "train": TRAIN,
    "predict": ["predict", "run", "d.lg", "-o", "p.csv", "--overwrite", "--no-progress"],
    "completion": ["completion", "bash"],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_every_command_says_that_stdout_is_closed(here, monkeypatch, capsys):
    assert EVERY.keys() == set(COMMANDS)
    pytest.importorskip("lightning")
    plan("prototypes:5", "planned.lg")
    for name in COMMANDS:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", None)
            assert main(EVERY[name]) == 2, name
            assert sys.stdout is None
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lazygraph")]
        assert said == [
            "lazygraph: error: the result could not be printed: stdout is closed; the work itself is done"
        ], name
    assert len(lg.LazyGraphDataset("new.lg")) == len(lg.LazyGraphDataset("planned.lg")) == 5
    assert len(lg.LazyGraphDataset("saved.lg")) == 24
    assert len((here / "p.csv").read_text().splitlines()) > 24


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", ">/dev/full"])
def test_a_write_whose_streams_are_closed_is_done_and_no_file_takes_their_place(streams, start, tmp_path):
    code, out, error = end(start(*WRITE, "--workers", "2", streams=streams))
    assert (code, out) == (2, "")
    if "2>" not in streams:
        assert error.startswith("lazygraph: error: the result could not be printed")
        assert error.count("\n") == 1
    assert verify(tmp_path / "x.lg").problems == ()
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]
    code, out, error = end(start(*WRITE))  # which finds its work done
    assert (code, error, out.startswith("wrote 60 graphs")) == (0, "", True)


def test_a_reader_that_left_is_no_error(start, here):
    process = start("show", "d.lg", "--row", "0", "--json")
    process.stdout.close()  # before anything is printed
    assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_a_broken_pipe_of_something_else_is_not_taken_for_a_reader_that_left(here, monkeypatch, capsys):
    def broken(*_, **__):
        raise BrokenPipeError(32, "of a worker")

    monkeypatch.setattr(write_command, "write_dataset", broken)
    assert main(["write", "prototypes:5", "-o", "x.lg"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_130_and_the_same_command_goes_on(start, tmp_path):
    """As a terminal sends it, to every process of the group."""
    path, done = tmp_path / "x.lg", tmp_path / "x.lg.partial" / "done"
    command = ["write", "prototypes:3000?seed=0", "-o", "x.lg", "--graph", "cgcnn", "--shard-size", "100"]
    command += ["--workers", "2"]
    moments = {
        "workers start": (tmp_path / "x.lg.partial" / "plan").exists,
        "more are made": lambda: done.is_dir() and len(list(done.glob("*.msgpack"))) > 9,
    }
    for moment, come in moments.items():
        process = start(*command)
        while not come():
            assert process.poll() is None, end(process)
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGINT)
        code, out, error = end(process)
        assert (code, out) == (130, ""), moment
        assert error.startswith("lazygraph: interrupted;"), error
        assert error.count("\n") == 1, error
        assert not path.exists()
    assert len(list(done.glob("*.msgpack"))) > 9
    assert end(start(*command))[0::2] == (0, "")
    assert verify(path).problems == ()
    assert len(lg.LazyGraphDataset(path)) == 3000
    assert [p.name for p in tmp_path.iterdir()] == ["x.lg"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"bad\xff\xfe.lg", "\u00fc\u65e5\U0001f600.lg".encode(), b"a\nb\x1b[31m.lg"])
def test_a_path_that_is_no_text_or_not_of_the_terminal(name, start, tmp_path, monkeypatch):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, out, error = end(start("write", "prototypes:5", "-o", os.fsdecode(name), "--workers", "1", **plain))
    assert (code, error) == (0, "")
    assert out.startswith("wrote 5 graphs to ")
    assert "\x1b" not in out
    assert out.count("\n") == 2  # the counts and the recipe
    monkeypatch.chdir(tmp_path)
    for command in (["verify"], ["info"], ["gc"], ["split", "0.6,0.2,0.2"]):
        assert main([command[0], os.fsdecode(name), *command[1:]]) == 0
    assert [os.fsencode(p.name) for p in tmp_path.iterdir()] == [name]


NO_TABLE = {
    "missing.csv": (None, "there is no file missing.csv; give "),
    "folder.csv": (os.mkdir, "folder.csv cannot be read: Is a directory; give "),
    "binary.csv": (
        lambda p: Path(p).write_bytes(b"\xff\xfe\0\1"),
        "binary.csv is not text in UTF-8 (invalid",
    ),
    "deep.json": (lambda p: Path(p).write_text("[" * 200_000), "deep.json: not JSON: "),
    "empty.json": (lambda p: Path(p).touch(), "empty.json: "),
}


@pytest.mark.parametrize("name", NO_TABLE)
@pytest.mark.parametrize("command", ["labels", "split"])
def test_a_file_of_labels_or_splits_that_is_none(command, name, here, capsys):
    make, message = NO_TABLE[name]
    if make is not None:
        make(name)
    before = {p: p.read_bytes() for p in Path("d.lg").rglob("*") if p.is_file()}
    assert main([command, "d.lg", "--from", name]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith(f"lazygraph: error: {message}")
    assert {p: p.read_bytes() for p in Path("d.lg").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("output", ["/", "", "x" * 252 + ".lg"])
def test_an_output_that_cannot_be(output, here, capsys):
    before = sorted(here.iterdir())
    for arguments in (["write", "prototypes:5", "--workers", "1"], ["plan", "prototypes:5"], ["salvage", "d.lg"]):
        assert main([*arguments, "-o", output]) == 2
        out, error = capsys.readouterr()
        assert (out, error.count("\n")) == ("", 1)
        assert error.startswith("lazygraph: error: ")
        assert "shorter" in error or f"the output {output!r} has no name" in error
    assert sorted(here.iterdir()) == before


def test_a_process_without_a_console_may_write(here, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert lg.write("prototypes:5", "y.lg", workers=1).written == 5


@pytest.mark.slow
def test_warnings_of_a_command_are_one_line(start, here):
    cells = [lg.Crystal([[4 + n, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11]) for n in range(12)]
    crystals = [(f"{n}", cell, {"density": 1.0 / (4 + n)}) for n, cell in enumerate(cells)]
    lg.append("d.lg", crystals, split=(0, 0, 0.5), workers=1, progress=False)
    pytest.importorskip("lightning")
    code, out, error = end(start(*TRAIN))
    assert code == 0, error
    told = [line for line in error.splitlines() if "in none of the splits" in line]
    assert len(told) == 1
    assert told[0].startswith("lazygraph: warning: 6 of the 36 graphs of d.lg are in none of the splits")
    assert "transfer_batch_to_device" not in error  # Lightning warns of a hook that it does not take from the loaders
    assert json.loads((here / "run" / "results.json").read_text())["in_no_split"] == 6
