"""The demo and the benchmarks run, and say what they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import lazygraph as lg

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "tools" / "bench"
DOCS = ROOT / "docs"


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "tools" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_demo_writes_shows_reads_compares_and_learns(tmp_path):
    folder = tmp_path / "here"
    done = run("demo.py", folder, "--crystals", 800)
    assert done.returncode == 0, done.stderr
    ds = lg.LazyGraphDataset(folder / "prototypes.lg")
    assert len(ds) == 800
    assert ds.content_id in done.stdout
    rows = [line for line in done.stdout.splitlines() if re.match("  (lazygraph, from disk|pickled list)", line)]
    ours, theirs = ([float(n.replace(",", "")) for n in re.findall(r"(?<=\s)[\d,.]+(?=\s|$)", row)] for row in rows)
    size = sum(path.stat().st_size for path in (folder / "prototypes.lg").rglob("*") if path.is_file())
    assert ours[1] == round(size / 800)
    assert min(ours[0], theirs[0]) > 0
    assert theirs[1] > ours[1]
    # What it says of the two speeds is what the table says.
    faster = "lazygraph is read" if ours[0] > theirs[0] else "the list is read"
    assert faster in done.stdout
    # It ends with a model that has learned something, and with two pictures.
    learned, mean = (float(text) for text in re.findall(r"(?:graphs|the mean) +([\d.]+) g/cm\^3", done.stdout))
    assert learned < 0.8 * mean
    html, plot = (Path(text) for text in re.findall(r"(?:browser|plot): +(.+)", done.stdout))
    assert (html, plot) == (folder / "prototypes.html", folder / "prototypes-parity.png")
    assert html.read_text().startswith("<!doctype html>")
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_demo_replaces_its_own_dataset_only(tmp_path):
    beside = tmp_path / "thesis.txt"
    beside.write_text("all my work")
    for crystals in (20, 30):
        done = run("demo.py", tmp_path, "--crystals", crystals)
        assert done.returncode == 0, done.stderr
    assert len(lg.LazyGraphDataset(tmp_path / "prototypes.lg")) == 30
    assert beside.read_text() == "all my work"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "prototypes-parity.png", "prototypes.html", "prototypes.lg", "thesis.txt"
    ]  # fmt: skip


def test_the_demo_leaves_a_foreign_folder_of_that_name_alone(tmp_path):
    foreign = tmp_path / "prototypes.lg" / "thesis.txt"
    foreign.parent.mkdir()
    foreign.write_text("all my work")
    done = run("demo.py", tmp_path, "--crystals", 20)
    assert done.returncode == 1
    assert "is not a lazygraph dataset" in done.stderr
    assert "Traceback" not in done.stderr
    assert foreign.read_text() == "all my work"


@pytest.mark.parametrize(
    ("name", "arguments", "row"),
    [
        ("write_speed", ["--crystals", 30, "--repeats", 1], "JARVIS JSON, 2 workers"),
        ("size", ["--only", "Alexandria"], "Alexandria, random 1k"),
        ("memory", ["--sizes", 40, "--workers", 2], "40 crystals, 2 workers"),
        ("read_speed", ["--crystals", 40, "--repeats", 1, "--only", "prototypes"], "ds[i], cold"),
        ("build", ["--crystals", 3, "--repeats", 1, "--no-jarvis"], "lazygraph comformer k=25"),
        ("stages", ["--repeats", 1], "edge vectors"),
    ],
)
def test_a_benchmark_runs_and_its_report_is_readable(name, arguments, row, tmp_path, data):
    results = tmp_path / "results"
    results.mkdir()
    done = run(f"bench/{name}.py", *arguments, "--json", results / f"{name}.json")
    assert done.returncode == 0, done.stderr
    assert row in done.stdout
    result = json.loads((results / f"{name}.json").read_text())
    assert result["question"].endswith("?")
    assert result["machine"]["cores"] >= 1
    assert "numpy" in result["versions"]

    (tmp_path / "benchmarks.md").write_text(
        f"kept\n<!-- begin {name} -->\nstale table\n<!-- end {name} -->\nkept too\n"
    )
    done = run("bench/report.py", results, "--docs", tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.startswith("kept\n")
    assert page.endswith("kept too\n")
    assert f"| {row} |" in page
    assert "stale" not in page
    assert json.loads((tmp_path / "benchmarks.json").read_text()) == {name: result}


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_on_a_processor(tmp_path, monkeypatch):
    monkeypatch.delenv("LAZYGRAPH_DATA", raising=False)
    file = tmp_path / "results" / "device.json"
    file.parent.mkdir()
    small = ["--small", "--graphs", 40, "--batch-size", 8, "--seconds", 0.1, "--repeats", 1, "--workers", 0]
    done = run("bench/device.py", "--device", "cpu", *small, "--json", file)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["device"]["name"] == result["machine"]["processor"]
    titles = list(result["tables"])
    assert [title.split(",")[0].split(" (")[0] for title in titles] == [
        "iComFormer", "iComFormer", "MACE", "Loading without training"
    ]  # fmt: skip
    assert all(title.endswith(f"batches of 8 prototypes; {result['device']['name']}") for title in titles)
    *steps, loading = result["tables"].values()
    for table, module in zip(steps, ("lazygraph", "lazygraph", "mace"), strict=True):
        if find_spec(module) is None:
            assert table == {"MACE": {"note": "mace-torch is not installed"}}
            continue
        assert {"lg.loader", "PyG list", "batches on the device"} <= set(table)
        losses = [row["loss_before_training"] for row in table.values()]
        assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-4)
        for row in table.values():
            assert min(row["graphs_a_second"], row["ms_a_step"], row["waiting_percent"]) > 0
            assert row["waiting_percent"] < 100
            assert row["difference_from_the_list"] == 0
    nvalchemi = next(row for name, row in loading.items() if "nvalchemi" in name)
    assert ("note" in nvalchemi) == (find_spec("nvalchemiops") is None)
    assert all(row["difference_from_the_list"] == 0 for row in loading.values() if "note" not in row)

    (tmp_path / "benchmarks.md").write_text("<!-- begin device -->\n<!-- end device -->\n")
    done = run("bench/report.py", file.parent, "--docs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| PyG list |" in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_benchmark_of_a_gpu_says_that_there_is_none():
    done = run("bench/device.py")
    assert done.returncode == 2
    assert "torch finds no CUDA device" in done.stderr


def test_a_benchmark_without_a_place_in_the_page_is_refused(tmp_path):
    (tmp_path / "benchmarks.json").write_text('{"size": {"tables": {}, "repeats": 1}}')
    (tmp_path / "benchmarks.md").write_text("nothing\n")
    done = run("bench/report.py", "--docs", tmp_path)
    assert done.returncode == 1
    assert "<!-- begin size -->" in done.stderr


def test_the_page_has_a_place_for_every_benchmark_and_the_tables_of_its_json(tmp_path):
    page, scale = ((DOCS / name).read_text() for name in ("benchmarks.md", "scale.md"))
    asked = [
        path.stem for path in BENCH.glob("*.py") if "--json" in path.read_text() and "__main__" in path.read_text()
    ]
    assert len(asked) >= 5
    for name in asked:
        text = scale if name == "scale" else page
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1
        assert f"{name}.py" in (BENCH / "README.md").read_text()
    if not (DOCS / "benchmarks.json").exists():
        pytest.skip("docs/benchmarks.json is not there yet: tools/bench/all writes it")
    for name in ("benchmarks.json", "benchmarks.md"):
        shutil.copy(DOCS / name, tmp_path)
    assert run("bench/report.py", "--docs", tmp_path).returncode == 0
    assert (tmp_path / "benchmarks.md").read_text() == page
