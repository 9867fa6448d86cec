"""Nothing that the commands print steers a terminal or forges a line, whatever files and their names hold."""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.cli import output
from lazygraph.cli.main import COMMANDS, main
from lazygraph.text import printable
from tools.fuzz.hostile import Hostile

pytest.importorskip("lightning")

FORGED = "lazygraph: all as written"
EVIL = f"\x1b]0;pwned\x07\x1b[2J\x1b[31m\x9b2J\u202e\u2028\x7f\x85\r\n{FORGED}"
SALT = "Na Cl\n1.0\n5.64 0 0\n0 5.64 0\n0 0 5.64\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
BROKEN = """data_x
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Q\x1b[31m Q\x1b[2J 0 0 \x1b[5m
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset with control characters wherever a text may stand, and every checksum right."""
    folder = tmp_path_factory.mktemp("terminals")
    rng = np.random.default_rng(1)
    inputs = [
        (
            f"c{k}",
            lg.Crystal(np.eye(3) * 4, [[0, 0, 0]], rng.integers(11, 30, 1)),
            {"gap": k / 7, "force": [[k, 0.0, 1.0]]},
        )
        for k in range(40)
    ]
    good = folder / "good.lg"
    lg.write(inputs, good, graph="cgcnn", workers=1, progress=False, labels=["gap", "force"], split=(0.5, 0.25, 0.25))
    stored = Hostile(good)
    for column in stored.body["columns"].values():
        column["unit"] = f"eV{EVIL}" if column["role"] == "label" else None
    stored.field("force", unit=EVIL)
    stored.body["provenance"] |= {
        "sources": [{"name": EVIL, "inputs": 40, "files": [{"name": EVIL, "size": 3, "sha256": EVIL}]}],
        "versions": {EVIL: EVIL},
        "notes": [EVIL],
    }
    stored.body["user"] = {EVIL: EVIL}
    ids = [f"c{k}{EVIL}".encode() for k in range(40)]
    stored.columns["id"] = np.array(ids)
    stored.columns["id_order"] = np.argsort(stored.columns["id"], kind="stable").astype(
        stored.columns["id_order"].dtype
    )
    return stored.write(folder / f"d{EVIL.replace('/', '')}.lg")


@pytest.fixture(scope="module")
def split_names(dataset):
    """The same with splits of such names, which training would not take for its own."""
    stored = Hostile(dataset)
    stored.body["columns"]["split"]["categories"] = [f"train{EVIL}", EVIL, "test"]
    return stored.write(dataset.with_name("splits.lg"))


@pytest.fixture(scope="module")
def run(dataset):
    folder = dataset.with_name(f"run{EVIL}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lg.train(dataset, lg.TrainOptions(target="gap", model="cgcnn", n_epochs=1), folder, progress=False)
    return folder


@pytest.fixture
def files(dataset, tmp_path, monkeypatch):
    """Inputs of every kind, in the current folder."""
    monkeypatch.chdir(tmp_path)
    ids = lg.LazyGraphDataset(dataset).ids.tolist()
    rows = [{"id": each, "extra": k} for k, each in enumerate([*ids[1:], f"stranger{EVIL}"])]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    (tmp_path / "bad_labels.json").write_text(json.dumps([{"id": ids[0], f"x{EVIL}": EVIL, "extra": EVIL}]))
    (tmp_path / "splits.json").write_text(json.dumps({f"train{EVIL}": ids[:20], EVIL: ids[20:]}))
    (tmp_path / "bad_splits.json").write_text(json.dumps({"train": [f"none{EVIL}"]}))
    (tmp_path / "options.toml").write_text(f"target = {json.dumps(EVIL)}\nmodel = 'cgcnn'\n")
    (tmp_path / f"x{EVIL}.cif").write_text(BROKEN)
    (tmp_path / f"y{EVIL}.vasp").write_text(SALT.replace("Na Cl\n1 1", "Na Q\x1b[31m\n1 1"))
    (tmp_path / "ok.vasp").write_text(SALT)
    for name in ("a.json", f"bad{EVIL}.json"):
        element = "Si" if name == "a.json" else f"X{EVIL}"
        atoms = {"lattice_mat": (np.eye(3) * 4).tolist(), "coords": [[0, 0, 0]], "elements": [element]}
        record = {"jid": f"r{EVIL}", "atoms": {**atoms, "cartesian": False}, f"gap{EVIL}": 1.0}
        (tmp_path / name).write_text(json.dumps([record]))
    return tmp_path


def commands(d, splits, run):
    """Command -> what is run of it. Names that are not there are hostile too."""
    sources = ["ok.vasp", f"x{EVIL}.cif", f"y{EVIL}.vasp"]
    return {
        "write": [
            [d, "-o", "w.lg", "--graph", "cgcnn", "--workers", "1"],
            [*sources, "-o", f"c{EVIL}.lg", "--workers", "1"],
            ["a.json", "-o", "a.lg", "--workers", "1"],
            [f"bad{EVIL}.json", "-o", "b.lg", "--workers", "1", "--strict"],
            [f"none{EVIL}.json", "-o", "n.lg"],
            ["ok.vasp", "-o", "n.lg", "--graph", EVIL],
            ["ok.vasp", "-o", "n.lg", "--graph", f"os:{EVIL}"],
            ["ok.vasp", "-o", "n.lg", "--unit", f"{EVIL}=eV"],
        ],
        "plan": [[*sources, "-o", f"p{EVIL}.lg"]],
        "shard": [[f"p{EVIL}.lg", "--task", "0"], [f"none{EVIL}.lg", "--task", "0"]],
        "merge": [[f"p{EVIL}.lg"], [f"none{EVIL}.lg"]],
        "slurm": [[*sources, "-o", "s.lg"], ["ok.vasp", "-o", f"s{EVIL}.lg"],
                  ["ok.vasp", "-o", "s.lg", "--partition", EVIL], ["ok.vasp", "-o", "s.lg", "--unit", f"{EVIL}=eV"]],
        "info": [[d], [splits], [d, "--json"], [f"c{EVIL}.lg"], [f"none{EVIL}.lg"]],
        "show": [[d, "--row", "0"], [d, "--row", "0", "--json"], [d, f"none{EVIL}"], [f"c{EVIL}.lg", "--row", "0"]],
        "stats": [[d], [d, "--json"]],
        "report": [[d, "-o", f"report{EVIL}.html"], [d, "-o", f"report{EVIL}.html"], ["damaged.lg", "-o", "r.html"],
                   [d, "-o", f"none{EVIL}/r.html"], [f"none{EVIL}", "-o", "r.html"]],
        "verify": [[d], [d, "--json"], ["damaged.lg"]],
        "salvage": [[d, "-o", f"s{EVIL}.lg"], ["damaged.lg", "-o", "t.lg"]],
        "labels": [
            [d, "--from", "labels.json"],
            [d, "--from", "bad_labels.json"],
            [d, "--from", f"none{EVIL}.csv"],
            [d, "--from", "labels.json", "--label", EVIL],
            [d, "--describe", f"gap={EVIL}"],
            [d, "--per", f"{EVIL}=cell"],
            [d, "--required", EVIL],
            [d, "--fit-elements", EVIL],
        ],
        "split": [[d, "--from", "splits.json"], [d, "--from", "bad_splits.json"], [d, EVIL]],
        "concat": [[d, d, "-o", f"all{EVIL}.lg"], [d, d, "-o", f"e{EVIL}.lg", "--on-duplicate", "skip"],
                   [d, f"n{EVIL}.lg", "-o", "x.lg"]],
        "subset": [[d, "-o", f"few{EVIL}.lg", "--where", "gap > 1"], [d, "-o", "x.lg", "--where", EVIL],
                   [d, "-o", "x.lg", "--ids", EVIL], [d, "-o", "x.lg", "--split", EVIL]],
        "pull": [[d, "-o", f"pulled{EVIL}.lg"], [d, "-o", "x.lg", "--split", EVIL], ["damaged.lg", "-o", "y.lg"],
                 [f"none{EVIL}.lg", "-o", "x.lg"], [f"{EVIL}://x.lg", "-o", "x.lg"], [d, "-o", d]],
        "catalogue": [[], ["--json"], ["matbench:phonons"], [EVIL], [f"jarvis:{EVIL}", "--download"]],
        "export": [[d, "-o", f"out{EVIL}.xyz"], [d, "-o", "x.csv", "--split", EVIL], [d, "-o", f"x.{EVIL}"],
                   ["damaged.lg", "-o", "y.json"], [d, "-o", "x.db", "--id-key", EVIL], [splits, "-o", "x.aselmdb"],
                   [d, "-o", "x.parquet", "--format", EVIL], [f"none{EVIL}.lg", "-o", "x.xyz"], [splits, "-o", "x.db"]],
        "push": [[d, f"pushed{EVIL}.lg"], [f"none{EVIL}.lg", "x2.lg"], [d, f"{EVIL}://x.lg"], [d, "https://x/" + EVIL]],
        "cache": [[], ["--json"], ["--shrink", EVIL], ["--empty"]],
        "diff": [[d, splits], [d, splits, "--json"], [d, f"none{EVIL}"]],
        "duplicates": [[d, "--workers", "1"], [d, "--json", "--workers", "1", "--dry-run"],
                       [d, "--against", splits, "--workers", "1"], [d, "--against", f"none{EVIL}"],
                       [d, "--name", EVIL, "--workers", "1"], ["damaged.lg", "--workers", "1"],
                       [d, "--against", splits, "--ids-to", f"ids{EVIL.replace('/', '')}", "--workers", "1"]],
        "remove": [[d, "--ids", f"c1{EVIL}", "--reason", "why"], [d, "--ids", EVIL, "--reason", "why"],
                   [d, "--ids", f"c2{EVIL}", "--reason", EVIL], [d, "--ids-from", f"none{EVIL}", "--reason", "why"]],
        "count": [[d, "--graph", "mace", "--name", EVIL], [d, "--graph", EVIL], ["damaged.lg", "--graph", "mace"]],
        "about": [[d, f"title={EVIL}"], [d, f"titel{EVIL}={EVIL}"], [d, EVIL], [d], [d, "--json"]],
        "gc": [[d]],
        "doctor": [[d], [d, "--json"], ["damaged.lg"], [f"none{EVIL}"]],
        "train": [
            [d, "--target", "gap", "--model", "cgcnn", "--n-epochs", "1", "-o", f"run{EVIL}"],
            [d, "--target", "gap", "--model", "cgcnn", "--n-epochs", "1", "-o", f"run{EVIL}"],  # a finished one
            [d, "--target", "gap", "--model", "cgcnn", "--n-epochs", "1", "-o", "quiet", "--no-progress", "--json"],
            [d, "--config", "options.toml", "-o", "other"],
            [d, "--target", "gap", "--model", f"os:{EVIL}", "-o", "other"],
            [d, "--target", "gap", "--model-option", EVIL, "-o", "other"],
            [d, "--target", "gap", "--splits", EVIL, "-o", "other"],
        ],
        "completion": [["bash"]],
        "predict": [
            [run, d, "-o", f"p{EVIL}.csv"],
            [run, *sources, "-o", "q.csv"],
            [run, d, "-o", "r.csv", "--model", f"os:{EVIL}"],
            [f"none{EVIL}", d, "-o", "r.csv"],
        ],
    }  # fmt: skip


def safe(text):
    """What is left of it without line ends, and what tqdm's bars write of themselves."""
    return text.replace("\n", "").replace("\r", "").replace("\x1b[A", "").isprintable()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_steers_the_terminal(command, dataset, split_names, run, files, capfd, monkeypatch):
    import shutil

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    own = files / "d.lg"
    shutil.copytree(dataset, own)  # which commands may change
    shutil.copytree(dataset, files / "damaged.lg")
    shard = next((files / "damaged.lg" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    for place in range(len(data) // 4, len(data), 701):
        data[place] ^= 1
    shard.write_bytes(data)
    for made in ("write", "plan", "shard", command):  # the later of which need what the earlier make
        for arguments in commands(str(own), str(split_names), str(run))[made]:
            if made != command and arguments[0] not in ("ok.vasp", f"p{EVIL}.lg"):
                continue
            capfd.readouterr()
            with warnings.catch_warnings():  # no hook of pytest's
                warnings.simplefilter("default")
                code = main([made, *arguments])
            out, err = capfd.readouterr()
            assert "Traceback" not in err, err
            assert code in (0, 1, 2, 3)
            assert safe(out), (arguments, out)
            assert safe(err), (arguments, err)
            assert not [line for line in (out + err).split("\n") if line.startswith(FORGED)], (arguments, out, err)


def test_every_command_is_tried():
    assert commands("d", "s", "r").keys() == set(COMMANDS)


@pytest.mark.parametrize("arguments", [["info", "x", EVIL], [EVIL], ["write", "x"], ["show", "x", "--row", EVIL]])
def test_wrong_arguments_steer_no_terminal(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr().err
    assert safe(told)
    assert FORGED not in told.split("\n")


def test_faults_and_warnings_steer_no_terminal(monkeypatch, capsys):
    """Of lazygraph's own, whose text may hold one of a file, and of other packages."""
    from lazygraph.cli import info

    def broken(arguments):
        # As Lightning does when it is imported.
        monkeypatch.setattr(warnings, "formatwarning", lambda message, *_: f"{message}\n")
        warnings.warn_explicit(EVIL, UserWarning, "x.py", 1, registry={})
        raise RuntimeError(EVIL)

    monkeypatch.setattr(info, "run", broken)
    before = warnings.showwarning
    assert main(["info", "x"]) == 1
    assert warnings.showwarning is before
    told = capsys.readouterr().err
    assert told.startswith("lazygraph: warning: \\x1b]0;pwned")
    for part in ("Traceback", "RuntimeError"):
        assert part in told
    assert safe(told)
    assert FORGED not in told.split("\n")


@given(st.text())
def test_what_is_printable_is_one_line_of_utf8(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert (shown == text) == text.isprintable()


def test_a_terminal_that_knows_little(monkeypatch):
    import io
    import sys

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    output.say("2 ± 1 Å", "日本")
    output.say_json({"unit": "\x7fÅ"})
    stream.flush()
    assert stream.buffer.getvalue() == b'2 \\xb1 1 \\xc5\n\\u65e5\\u672c\n{"unit": "\\u007f\\u00c5"}\n'
    monkeypatch.setattr(sys, "stdout", None)
    output.say("closed")
