"""Every line of docs/sources.md on its real file: counts, labels, and each graph against one built afresh."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.crystal import Crystal
from lazygraph.sources.base import Cut, label_value
from lazygraph.sources.detect import open_sources

DOC = Path(__file__).parent.parent / "docs" / "sources.md"
ROW = re.compile(r"^\| `lazygraph-write (.+?)` \| .+? \| ([\d,]+) \| (.*?) ?\|$", re.MULTILINE)
FOLDERS = {"val.csv": "perov_5", "perov5_poscars.json.zip": "perov_5", "carbon24_poscars.json.zip": "carbon_24"}


def lines():
    return [
        (command, int(count.replace(",", "")), labels) for command, count, labels in ROW.findall(DOC.read_text("utf-8"))
    ]


def located(name, data):
    """The path of a file that the table names without its folder."""
    if name.startswith("prototypes:"):
        return name
    if (data / name).exists() or "*" in name:
        return str(data / name)
    if name in FOLDERS:
        return str(data / FOLDERS[name] / name)
    (found,) = data.rglob(name)
    return str(found)


def test_the_table_has_every_data_set(data):
    named = " ".join(command for command, _, _ in lines())
    files = [p for p in data.rglob("*") if p.is_file() and p.parent.parent.name != "folders" and p.name != "README.md"]
    assert [p.name for p in files if p.name not in named] == []
    assert len(lines()) >= 15


@pytest.mark.parametrize(("command", "count", "labels"), lines(), ids=[shlex.split(c)[-1] for c, _, _ in lines()])
def test_each_line_converts_to_the_last_entry(data, tmp_path, monkeypatch, command, count, labels):
    monkeypatch.chdir(tmp_path)
    *sources, option, name = shlex.split(command)
    assert option == "-o"
    sources = [located(source, data) for source in sources]
    assert main_write([*sources, "-o", name, "--workers", "1", "--strict"]) == 0
    ds = lg.LazyGraphDataset(name)
    assert len(ds) == count

    graph_labels, _, atom_labels = labels.partition("per atom")
    assert set(re.findall("`(.+?)`", graph_labels)) == set(ds.manifest.labels())
    fields = {field.name for field in ds.manifest.schema.fields}
    assert set(re.findall("`(.+?)`", atom_labels)) <= fields

    row = 0
    for source in open_sources(sources):
        spool = tmp_path / "spool"
        scan = source.scan(512, spool)
        for entry in source.read(Cut(scan.marks[0], 0, scan.entries), spool):
            check(ds, row, entry)
            row += 1
    assert row == count


def check(ds, row, entry):
    """One graph read back against the graph built afresh: indices and images exactly, vectors bit for bit."""
    assert isinstance(entry.crystal, Crystal)
    data = ds[row]
    assert data.id == entry.id
    for name in ds.manifest.labels():
        value = entry.labels.get(name)
        stored = ds._store.column(name)[row]
        expected = np.array(value, float) if isinstance(value, (list, tuple, np.ndarray)) else label_value(value)
        assert np.array_equal(stored, np.broadcast_to(expected, stored.shape), equal_nan=True), name
    if row % 5 and len(ds) > 5000:
        return  # the two files of 29,000 structures together: every fifth graph is built again
    fresh = ds.spec.build(entry.crystal)
    assert np.array_equal(data.edge_index.numpy(), fresh.edge_index)
    assert np.array_equal(data.images.numpy(), fresh.images)
    assert data.edge_attr.numpy().tobytes() == fresh.vectors.tobytes()
    assert torch.equal(data.x.flatten(), torch.from_numpy(fresh.numbers.astype(np.int64)))
    stored = ds._store.arrays(row)
    assert stored["lattice"].tobytes() == entry.crystal.lattice.tobytes()
    assert np.ascontiguousarray(stored["frac_coords"]).tobytes() == entry.crystal.frac_coords.tobytes()
    for field in ds.manifest.schema.fields:
        if field.name in entry.labels:
            assert np.array_equal(stored[field.name], np.asarray(entry.labels[field.name], float))
