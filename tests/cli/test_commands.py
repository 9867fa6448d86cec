"""The commands as users run them: output, exit codes, errors of one line."""

import json
import re

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.cli.main import COMMANDS, main, main_write


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mp(out, capsys):
    assert main_write(["prototypes:60?seed=1", "-o", "mp.lg", "--max-neighbors", "12", "--workers", "1"]) == 0
    assert re.match(r"wrote 60 graphs to .*mp\.lg in [\d.]+ s", capsys.readouterr().out)
    return out / "mp.lg"


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_three_worked_examples(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^  (?:lazygraph|sbatch)", text[text.index("examples:") :], re.MULTILINE)) >= 3


def test_options_with_lengths_name_their_unit(capsys):
    with pytest.raises(SystemExit):
        main_write(["--help"])
    text = capsys.readouterr().out
    assert re.search(r"--cutoff A\s+cutoff radius, A", text)


def test_the_same_command_again_finds_its_work_done(mp, capsys):
    before = {path: path.read_bytes() for path in mp.rglob("*.*") if path.is_file()}
    assert main_write(["prototypes:60?seed=1", "-o", "mp.lg", "--max-neighbors", "12"]) == 0
    assert "60 graphs" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in mp.rglob("*.*") if path.is_file()} == before
    for other in (
        ["--unit", "density=g/cm^3"],
        ["--label", "density"],
        ["--split", "0.5,0.2,0.3"],
        ["--codec", "none"],
    ):
        assert main_write(["prototypes:60?seed=1", "-o", "mp.lg", "--max-neighbors", "12", *other]) == 2
        assert "same recipe, made from other input or with other options" in capsys.readouterr().err
    assert main_write(["plan", "prototypes:60?seed=1", "-o", "mp.lg", "--max-neighbors", "12"]) == 2
    assert {path: path.read_bytes() for path in mp.rglob("*.*") if path.is_file()} == before
    assert not (mp.parent / "mp.lg.partial").exists()


def test_info_says_what_the_dataset_is(mp, capsys):
    code, text, _ = run(capsys, "info", "mp.lg")
    assert code == 0
    ds = lg.LazyGraphDataset(mp)
    for part in ("60 graphs", "max_neighbors=12", "density", ds.content_id, "prototypes:60?seed=1"):
        assert part in text
    code, text, _ = run(capsys, "info", "mp.lg", "--json")
    facts = json.loads(text)
    assert facts["graphs"] == 60
    assert facts["bytes"] == sum(p.stat().st_size for p in mp.rglob("*") if p.is_file())
    assert facts["content_id"] == ds.content_id


def test_show_prints_fields_and_crystal(mp, capsys):
    ds = lg.LazyGraphDataset(mp)
    code, text, _ = run(capsys, "show", "mp.lg", str(ds.ids[3]))
    assert code == 0
    for part in (str(ds.ids[3]), "frac_coords", "float64", "lattice [A]", "density ="):
        assert part in text
    assert run(capsys, "show", "mp.lg", "--row", "3")[1] == text
    facts = json.loads(run(capsys, "show", "mp.lg", "--row", "-1", "--json")[1])
    assert facts["row"] == 59
    assert facts["fields"]["numbers"] == ds[-1].x.flatten().tolist()
    code, _, error = run(capsys, "show", "mp.lg", "nonsense")
    assert code == 2
    assert "no graph" in error
    assert run(capsys, "show", "mp.lg")[0] == 2
    assert run(capsys, "show", "mp.lg", "--row", "60")[0] == 2


def test_stats(mp, capsys):
    facts = json.loads(run(capsys, "stats", "mp.lg", "--json")[1])
    ds = lg.LazyGraphDataset(mp)
    assert facts["n_atoms"]["mean"] == pytest.approx(ds.columns["n_atoms"].mean())
    assert facts["labels"]["density"]["50%"] == pytest.approx(np.median(ds.columns["density"]))
    assert facts["labels"]["density"]["max"] == ds.columns["density"].max()
    assert sum(facts["elements"].values()) >= 60
    assert "density" in run(capsys, "stats", "mp.lg")[1]


def test_verify_tells_good_from_bad(mp, capsys):
    code, text, _ = run(capsys, "verify", "mp.lg")
    assert (code, "all as written" in text) == (0, True)
    shard = next((mp / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    code, text, _ = run(capsys, "verify", "mp.lg")
    assert code == 3
    assert shard.name in text
    assert json.loads(run(capsys, "verify", "mp.lg", "--json")[1])["problems"]


def test_labels_split_and_gc(mp, capsys):
    ds = lg.LazyGraphDataset(mp)
    identity = ds.content_id
    (mp.parent / "gaps.csv").write_text(f"id,gap,note\n{ds.ids[0]},1.5,a\n{ds.ids[1]},na,b\nstranger,2,c\n")
    code, text, _ = run(capsys, "labels", "mp.lg", "--from", "gaps.csv", "--unit", "gap=eV")
    assert code == 0
    assert "set gap, note; 58 graphs have no value" in text
    assert "1 ids of the table are not in the dataset, such as stranger" in text
    assert run(capsys, "split", "mp.lg", "0.5,0.25,0.25")[1] == "train: 30 graphs\nval: 15 graphs\ntest: 15 graphs\n"
    after = lg.LazyGraphDataset(mp, target="gap")
    assert after[0].y.item() == 1.5
    assert after.content_id == identity
    assert after.manifest.columns["gap"].unit == "eV"
    assert len(after.split("train")) == 30
    assert "deleted" in run(capsys, "gc", "mp.lg")[1]
    assert run(capsys, "verify", "mp.lg")[0] == 0
    (mp.parent / "s.json").write_text(json.dumps({"fit": ds.ids[:7].tolist(), "hold": ds.ids[9:10].tolist()}))
    assert run(capsys, "split", "mp.lg", "--from", "s.json")[1] == "fit: 7 graphs\nhold: 1 graphs\n"
    assert lg.LazyGraphDataset(mp).split("hold").ids.tolist() == ds.ids[9:10].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["write", "nowhere.json", "-o", "x.lg"], "nowhere.json"),
        (["write", "prototypes:5", "-o", "x.lg", "--graph", "nonsense"], "known: comformer"),
        (["write", "prototypes:5", "-o", "x.lg", "--graph", "radius"], "needs cutoff"),
        (["write", "prototypes:5", "-o", "x.lg", "--label", "gap"], "unknown label 'gap'; known: density"),
        (["write", "prototypes:5", "-o", "x.lg", "--unit", "gap"], "NAME=UNIT"),
        (["write", "prototypes:5", "-o", "x.lg", "--split", "0.9,0.9,0.1"], "together at most 1"),
        (["write", "prototypes:5", "-o", "mp.lg"], "graphs of another recipe (max_neighbors: 12 here, 25 there)"),
        (
            ["write", "prototypes:5", "-o", "mp.lg", "--max-neighbors", "12"],
            "same recipe, made from other input or with other options; choose another name",
        ),
        (["info", "nowhere.lg"], "no dataset at"),
        (["split", "mp.lg", "half"], "train,val,test"),
        (["labels", "mp.lg", "--from", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(mp, capsys, arguments, message):
    code, text, error = run(capsys, *arguments)
    assert code == 2
    assert text == ""
    assert message in error
    assert error.startswith("lazygraph: error: ")
    assert error.count("\n") == 1
    assert not (mp.parent / "x.lg").exists()
    assert not (mp.parent / "x.lg.partial").exists()


def test_traceback_is_shown_on_request(out, capsys):
    assert main(["info", "nowhere.lg", "-T"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_plan_shard_merge_give_the_bytes_of_write(mp, capsys):
    arguments = ["prototypes:60?seed=1", "-o", "other.lg", "--max-neighbors", "12"]
    assert main_write(["plan", *arguments, "--shard-size", "25"]) == 0
    assert "3 shards for 60 inputs" in capsys.readouterr().out
    assert main_write(["shard", "other.lg", "--task", "2", "--task", "0"]) == 0
    assert main_write(["merge", "other.lg"]) == 2
    assert "1 of 3 shards are not made: 1;" in capsys.readouterr().err
    assert main_write(["shard", "other.lg", "--task", "1"]) == 0
    assert main_write(["merge", "other.lg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["written"] == 60
    assert lg.LazyGraphDataset("other.lg").content_id == lg.LazyGraphDataset(mp).content_id


def test_strict_tells_of_quarantined_inputs(out, capsys):
    record = {"jid": "a", "atoms": {"lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "coords": [[0, 0, 0]],
                                    "elements": ["Si"], "cartesian": False}, "gap": 1.0}  # fmt: skip
    bad = {**record, "jid": "b", "atoms": {**record["atoms"], "elements": ["Xx"]}}
    (out / "two.json").write_text(json.dumps([record, bad]))
    code, text, _ = run(capsys, "write", "two.json", "-o", "two.lg", "--strict")
    assert code == 1
    assert "1 inputs could not become graphs; the reasons are in" in text
    (line,) = next((out / "two.lg").glob("quarantine-*.jsonl")).read_text().splitlines()
    row = json.loads(line)
    assert (row["position"], row["id"], row["error"]) == (1, "b", "StructureError")
    assert "Xx" in row["message"]
