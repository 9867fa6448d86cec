"""What makes the command line pleasant: versions, hints, completion, options in files, and no table that is lost."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.cli.main import COMMANDS, main, main_write
from lazygraph.format.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


def exits(program, *arguments):
    with pytest.raises(SystemExit) as caught:
        program(list(arguments))
    return caught.value.code


def test_the_version_is_said(capsys):
    assert exits(main, "--version") == exits(main_write, "--version") == 0
    assert capsys.readouterr().out == f"lazygraph {lg.__version__}\n" * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "x"], "unknown command 'trian'; did you mean 'train'?"),
        (["info", "x", "--jsno"], "unrecognized arguments: --jsno; did you mean --json?"),
        (["concat", "a", "b", "-o", "c", "--fields", "comon"], "unknown value 'comon'; did you mean 'common'?"),
        (["train", "x", "-o", "y", "--schedule", "onecylce"], "unknown value 'onecylce'; did you mean 'onecycle'?"),
    ],
)
def test_a_similar_name_is_said(arguments, said, capsys):
    assert exits(main, *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_log_is_shown_from_a_level_on(tmp_path, capsys):
    lg.write("prototypes:20?seed=0", tmp_path / "p.lg", graph="cgcnn", workers=1, progress=False)
    try:
        assert main(["info", str(tmp_path / "p.lg"), "--log-level", "info"]) == 0
        logging.getLogger("lazygraph.loading.loader").info("two\nlines\x1b[2J")
        logging.getLogger("lazygraph").debug("nothing")
        assert capsys.readouterr().err == "lazygraph: info: lazygraph.loading.loader: two lines\\x1b[2J\n"
    finally:
        logger = logging.getLogger("lazygraph")
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


CONFIG = """
source = ["prototypes:40?seed=3"]
graph = "cgcnn"
max-neighbors = 5
split = "0.5,0.25,0.25"
workers = 1
no_progress = true
"""


def test_the_options_of_a_write_stand_in_a_file(tmp_path, capsys):
    file, out = tmp_path / "c.toml", tmp_path / "a.lg"
    file.write_text(CONFIG + f'output = "{out}"\n')
    assert main(["write", "--config", str(file)]) == 0
    manifest = Manifest.load(out)
    assert (manifest.graphs, manifest.recipe["max_neighbors"]) == (40, 5)
    assert manifest.splits()["split"].rule["fractions"] == [0.5, 0.25, 0.25]
    # What is on the command line comes first.
    other = tmp_path / "b.lg"
    assert main_write(["prototypes:30?seed=3", f"--config={file}", "-o", str(other), "--max-neighbors", "7"]) == 0
    manifest = Manifest.load(other)
    assert (manifest.graphs, manifest.recipe["max_neighbors"]) == (30, 7)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_neighbours = 5", "unknown option 'max_neighbours'; did you mean 'max_neighbors'?"),
        ("append = 3", "found append = 3; required: true or false"),
        ("graph = {", "is no TOML file"),
        ("cutoff = 2020-01-01", "required: a text, a number, or a list of them"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, capsys, text, said):
    file = tmp_path / "c.toml"
    if text is not None:
        file.write_text(text)
    assert main(["write", "prototypes:5", "-o", str(tmp_path / "x.lg"), "--config", str(file)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.lg").exists()


def test_units_of_a_file(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("id,poscar,gap\n")
    file = tmp_path / "c.toml"
    file.write_text(CONFIG.replace("max-neighbors = 5", 'unit = {density = "g/cm^3"}'))
    assert main(["write", "--config", str(file), "-o", str(tmp_path / "x.lg")]) == 0
    assert Manifest.load(tmp_path / "x.lg").columns["density"].unit == "g/cm^3"
    capsys.readouterr()


def test_a_name_with_spaces_is_explained(tmp_path):
    crystal = lg.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [26])
    rows = [(str(n), crystal, {"band gap": float(n)}) for n in range(4)]
    lg.write(rows, tmp_path / "x.lg", graph="cgcnn", workers=1, progress=False)
    ds = lg.LazyGraphDataset(tmp_path / "x.lg")
    with pytest.raises(lg.InputError, match="a name with spaces or other signs needs backticks, as in `band gap` > 1"):
        ds.where("band gap > 1")
    assert len(ds.where("`band gap` > 1")) == 2


COMPLETE = """
eval "$({program} completion bash)"
complete_() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    local function=$(complete -p lazygraph | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    $function lazygraph "${{COMP_WORDS[$COMP_CWORD]}}" ""
    printf '%s\\n' "${{COMPREPLY[@]}}"
}}
complete_ lazygraph {words}
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [("dup", {"duplicates"}), ("ver", {"verify"}), ("info --js", {"--json"}), ("train --sched", {"--schedule"})],
)
def test_bash_completes(words, expected, tmp_path):
    pytest.importorskip("shtab")
    program = f"{sys.executable} -c 'import sys; from lazygraph.cli.main import main; sys.exit(main())'"
    script = COMPLETE.format(program=program, words=" ".join(f"'{word}'" for word in words.split()))
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert set(done.stdout.split()) == expected, done.stderr


def test_every_command_is_completed(capsys):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(command in script for command in COMMANDS)


def test_a_table_of_predictions_is_not_overwritten(tmp_path, capsys):
    table = tmp_path / "predictions.csv"
    table.write_text("mine")
    assert main(["predict", str(tmp_path / "run"), "prototypes:3", "-o", str(table)]) == 2
    assert "exists; choose another name, or replace it with --overwrite" in capsys.readouterr().err
    assert table.read_text() == "mine"
