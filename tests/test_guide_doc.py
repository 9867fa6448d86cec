"""docs/index.md and docs/guide/*.md: their commands and examples run, in order, and what they quote is in the code."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lazygraph as lg
from lazygraph.sources.catalogue.table import find_entry

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "guide"
SCRIPTS = Path(sys.executable).parent
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def documents(folder):
    """``mp-summary.json``: 120 documents in the form of the Materials Project's, some without a band gap."""
    lg.write("prototypes:120?seed=3", folder / "source.lg", graph="none", workers=1, progress=False)
    ds = lg.LazyGraphDataset(folder / "source.lg")
    found = [
        {
            "material_id": f"mp-{k}",
            "formula_pretty": ds.columns["formula"][k],
            "structure": ds.crystal(k).to_pymatgen().as_dict(),
            "formation_energy_per_atom": -0.01 * k,
            "band_gap": None if k % 10 == 0 else 0.1 * (k % 30),
            "energy_above_hull": 0.002 * k,
        }
        for k in range(len(ds))
    ]
    (folder / "mp-summary.json").write_text(json.dumps(found))
    shutil.rmtree(folder / "source.lg")


def structures_and_dataset(folder):
    """``structures.json``, and a small ``mp.lg``."""
    documents(folder)
    (folder / "mp-summary.json").rename(folder / "structures.json")
    dataset(folder)


def dataset(folder):
    """A small ``mp.lg``, which the page finds."""
    lg.write("prototypes:40?seed=3", folder / "mp.lg", graph="cgcnn", workers=1, progress=False)


FIRST = {
    "materials-project.md": documents,
    "many-gpus.md": structures_and_dataset,
    "troubleshooting.md": dataset,
}  # what the reader of a page has already
PAGES = [GUIDE.parent / "index.md", *sorted(GUIDE.glob("*.md"))]


def run(typed, folder):
    variables = os.environ | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = ["bash", "-e", "-c", typed]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def check_concepts(folder, said):
    assert lg.LazyGraphDataset(folder / "parts.lg").manifest.graphs == 200


def check_index(folder, said):
    assert [said.count(f"torch.Size([{n}, 1])\n") for n in (64, 32)] == [2, 1]


def check_materials(folder, said):
    assert "120 45 eV" in said  # labels are read, conditions hold, and the unit is known
    head = (folder / "predictions.csv").read_text().splitlines()[0]
    assert head.startswith("id,band_gap (eV),predicted band_gap (eV)")


def check_gpus(folder, said):
    assert "[320]" not in said
    lengths, graphs = (ast.literal_eval(text) for text in re.findall(r"\[[\d, ]+\]", said.splitlines()[-1]))
    assert len(set(lengths)) == 1
    assert sum(graphs) == 320
    assert (folder / "submit.sh").read_text().startswith("#!")


def check_plugins(folder, said):
    assert lg.LazyGraphDataset(folder / "short.lg").spec.rule.cutoff == 3.3
    assert "length=[" in said
    assert len((folder / "predictions.csv").read_text().splitlines()) == 6


def check_share(folder, said):
    about = lg.LazyGraphDataset(folder / "shared" / "mp.lg").manifest.about
    assert about["license"] == "CC0-1.0"
    assert 0 < len(lg.LazyGraphDataset(folder / "small.lg")) < 300


def check_start(folder, said):
    assert "predictor" in said
    assert (folder / "run" / "parity.png").exists()
    assert (folder / "demo.html").exists()


def check_trouble(folder, said):
    assert "exit code 3: damaged" in said
    assert "exit code 1: not everything could be saved" in said
    assert 150 < len(lg.LazyGraphDataset(folder / "good.lg")) < 200


CHECKS = {
    "concepts.md": check_concepts,
    "index.md": check_index,
    "many-gpus.md": check_gpus,
    "materials-project.md": check_materials,
    "plugins.md": check_plugins,
    "share.md": check_share,
    "start.md": check_start,
    "troubleshooting.md": check_trouble,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_runs(page, tmp_path, monkeypatch, capsys):
    """Its blocks of Python in one namespace; one with a title is also the file of that name."""
    FIRST.get(page.name, lambda folder: None)(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAZYGRAPH_CACHE", str(tmp_path / "cache"))
    text, namespace = page.read_text(encoding="utf-8"), {"__name__": "__main__"}
    said = capsys.readouterr().out and ""
    for block in BLOCK.finditer(text):
        kind, title, content = block.groups()
        line = text[: block.start()].count("\n") + 1
        if title is not None:
            (tmp_path / title).write_text(content)
        if kind == "python":
            exec(compile("\n" * line + content, str(page), "exec", dont_inherit=True), namespace)
            said += capsys.readouterr().out
        elif kind == "bash":
            done = run(content, tmp_path)
            assert done.returncode == 0, f"{page.name}, line {line}:\n{done.stdout}{done.stderr}"
            said += done.stdout
    CHECKS[page.name](tmp_path, said)


def literals():
    """Every text that stands in the code, and the constant parts of those with values in them."""
    found = []
    for path in Path(lg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\0".join(found)


def test_what_the_page_of_errors_quotes_is_in_the_code():
    text = (GUIDE / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    code = literals()
    assert len(quoted) > 10
    missing = [
        part for text in quoted for part in text.split("...") if part.strip() and part.strip("; ") not in code
        and not hasattr(lg.errors, part)
    ]  # fmt: skip
    assert missing == []


def test_the_public_data_sets_are_those_of_the_catalogue():
    text = (GUIDE / "materials-project.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+:\S+)` \| ([\d,]+) \|", text, re.MULTILINE)
    assert len(rows) == 3
    for name, structures in rows:
        assert find_entry(name).graphs == int(structures.replace(",", ""))
