"""Every line of docs/sources.md on its real file: counts, labels, and each graph against one built afresh."""

import gzip
import json
import pickle
import re
import shlex
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ase.db import connect
from pymatgen.core import Structure
from pymatgen.core.trajectory import Trajectory
from pymatgen.io.ase import AseAtomsAdaptor

import lazygraph as lg
from lazygraph.cli.main import main_write
from lazygraph.crystal import Crystal
from lazygraph.sources.base import Cut, label_value
from lazygraph.sources.detect import open_sources
from lazygraph.sources.options import SourceOptions

DOC = Path(__file__).parent.parent / "docs" / "sources.md"
ROW = re.compile(r"^\| `lazygraph-write (.+?)` \| .+? \| ([\d,]+) \| (.*?) ?\|$", re.MULTILINE)
FOLDERS = {"val.csv": "perov_5", "perov5_poscars.json.zip": "perov_5", "carbon24_poscars.json.zip": "carbon_24"}


def lines():
    return [
        (command, int(count.replace(",", "")), labels) for command, count, labels in ROW.findall(DOC.read_text("utf-8"))
    ]


# ---- the same data in the formats of other libraries


def frames(data):
    """The first 100 frames of the MPtrj file, as ASE reads them."""
    return ase.io.read(data / "extxyz" / "mptrj-random-1k.xyz", index=":100")


def phonons(data):
    """The first 100 structures and labels of matbench_phonons."""
    with gzip.open(data / "matbench" / "matbench_phonons.json.gz") as file:
        table = json.load(file)
    return [(Structure.from_dict(structure), label) for structure, label in table["data"][:100]]


def trajectory(data, path):
    ase.io.write(path, frames(data))


def database(data, path):
    if path.suffix == ".aselmdb":
        pytest.importorskip("ase_db_backends")
    with connect(path) as db:
        for atoms in frames(data):
            db.write(atoms, snapshot=str(atoms.info["mptrj_snapshot_id"]).replace("-", "_") + "_")


def xdatcar(data, path):
    first = AseAtomsAdaptor.get_structure(frames(data)[0])
    moved = [first.copy().apply_strain(n / 1000, inplace=False) for n in range(100)]
    Trajectory.from_structures(moved, constant_lattice=False).write_Xdatcar(path)


def snapshots(data):
    for n, atoms in enumerate(frames(data)):
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.remove_site_property("magmom") if "magmom" in structure.site_properties else None
        structure.add_site_property("magmom", [n / 10] * len(structure))
        yield n, atoms, json.loads(structure.to_json())


def mptrj(data, path):
    groups = {}
    for _, atoms, structure in snapshots(data):
        energy = atoms.get_potential_energy()
        groups.setdefault(atoms.info["mptrj_traj_id"], {})[atoms.info["mptrj_snapshot_id"]] = {
            "structure": structure, "uncorrected_total_energy": energy, "corrected_total_energy": energy,
            "ef_per_atom": energy / len(atoms), "force": atoms.get_forces().tolist(),
            "stress": atoms.get_stress(voigt=False).tolist(), "mp_id": atoms.info["mptrj_traj_id"],
        }  # fmt: skip
    path.write_text(json.dumps(groups))


def summary(data, path):
    docs = [
        {
            "material_id": f"mp-{n}", "formula_pretty": structure.reduced_formula, "structure": structure.as_dict(),
            "energy_above_hull": 0.0, "band_gap": label, "is_stable": True, "symmetry": {"number": n, "symbol": "P1"},
            "bulk_modulus": {"vrh": label},
        }
        for n, (structure, label) in enumerate(phonons(data))
    ]  # fmt: skip
    path.write_text(json.dumps({"data": docs, "meta": {"total_doc": 100}}))


def attributes(structure):
    symbols = [site.specie.symbol for site in structure]
    return {
        "lattice_vectors": structure.lattice.matrix.tolist(), "nsites": len(structure), "dimension_types": [1, 1, 1],
        "cartesian_site_positions": structure.cart_coords.tolist(), "species_at_sites": symbols,
        "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
        "chemical_formula_reduced": Crystal.from_any(structure).formula, "last_modified": "2024-01-01T00:00:00Z",
    }  # fmt: skip


def optimade(data, path):
    lines = [{"x-optimade": {"meta": {"api_version": "1.2.0"}}}, {"type": "info", "id": "structures", "properties": {}}]
    for n, (structure, label) in enumerate(phonons(data)):
        own = {"_mp_band_gap": label, "_mp_stability": {"hull": 0.0}}
        lines.append({"id": f"mp-{n}", "type": "structures", "attributes": attributes(structure) | own})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def lematerial(data, path):
    rows = []
    for n, atoms in enumerate(frames(data)):
        found = attributes(AseAtomsAdaptor.get_structure(atoms))
        found |= {"species": json.dumps(found["species"]), "immutable_id": f"agm{n}", "functional": "pbe"}
        found |= {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist()}
        rows.append(found | {"stress_tensor": atoms.get_stress(voigt=False).tolist(), "cross_compatibility": True})
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)


def colabfit(data, path):
    rows = [
        {
            "property_id": f"PO_{n}", "configuration_id": f"CO_{n}", "energy": atoms.get_potential_energy(),
            "cell": atoms.cell[:].tolist(), "positions": atoms.positions.tolist(), "pbc": atoms.pbc.tolist(),
            "atomic_numbers": atoms.numbers.tolist(), "atomic_forces": atoms.get_forces().tolist(),
            "cauchy_stress": [] if n % 2 else atoms.get_stress(voigt=False).tolist(),
        }
        for n, atoms in enumerate(frames(data))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=30)


def pandas_columns(data, path):
    rows = [(structure.as_dict(), label) for structure, label in phonons(data)]
    pd.DataFrame(rows, columns=["structure", "last phdos peak"]).to_json(path)


def tabs(data, path):
    rows = [(structure.to(fmt="poscar"), label) for structure, label in phonons(data)]
    pd.DataFrame(rows, columns=["poscar", "last phdos peak"]).to_csv(path, sep="\t", decimal=",", float_format="%.4f")


def pickled(data, path):
    path.write_bytes(pickle.dumps([{"structure": s, "last phdos peak": label} for s, label in phonons(data)]))


MADE = {
    "mptrj.traj": trajectory, "mptrj.aselmdb": database, "mptrj-db.json": database, "XDATCAR": xdatcar,
    "MPtrj.json": mptrj, "mp-summary.json": summary, "optimade.jsonl": optimade, "lemat-bulk.parquet": lematerial,
    "co_0.parquet": colabfit, "phonons-columns.json": pandas_columns, "phonons.tsv": tabs, "phonons.pkl": pickled,
}  # fmt: skip


def located(name, data, folder):
    """The path of a file that the table names without its folder, or that is made here."""
    if name in MADE:
        place = folder / "made" / name
        place.parent.mkdir()
        MADE[name](data, place)
        return str(place)
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
    assert set(MADE) == {name for command, _, _ in lines() for name in shlex.split(command) if name in MADE}
    assert len(lines()) >= 28


@pytest.mark.parametrize(("command", "count", "labels"), lines(), ids=[shlex.split(c)[-1] for c, _, _ in lines()])
def test_each_line_converts_to_the_last_entry(data, tmp_path, monkeypatch, command, count, labels):
    monkeypatch.chdir(tmp_path)
    *sources, option, name = shlex.split(command)
    assert option == "-o"
    flags = [word for word in sources if word.startswith("--")]
    sources = [located(source, data, tmp_path) for source in sources if source not in flags]
    assert main_write([*sources, *flags, "-o", name, "--workers", "1", "--strict"]) == 0
    ds = lg.LazyGraphDataset(name)
    assert len(ds) == count

    graph_labels, _, atom_labels = labels.partition("per atom")
    assert set(re.findall("`(.+?)`", graph_labels)) == set(ds.manifest.labels())
    fields = {field.name for field in ds.manifest.schema.fields}
    own = {"numbers", "lattice", "pbc", "frac_coords", "edge_index", "images", "lattice_images"}
    assert set(re.findall("`(.+?)`", atom_labels)) == fields - own

    row = 0
    for source in open_sources(sources, options=SourceOptions(trust_pickle="--trust-pickle" in flags)):
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
    values = dict(entry.labels) | dict(entry.atom_labels)
    for field in ds.manifest.schema.fields:
        if field.name in values:
            assert np.array_equal(stored[field.name], np.asarray(values[field.name], float))
