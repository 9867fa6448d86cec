"""Structures from Python: every class, generators read once, and a spool that gives back what went in."""

from __future__ import annotations

import hashlib
import pickle
import zipfile

import ase.io
import numpy as np
import orjson
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, StructureError, UnreadableInput
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.python import PythonSource
from tests.real import DATA, needs_whole

NACL = Crystal([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
DISORDERED = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | FINITE | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def read_all(source, tmp_path, every=1000):
    """Entries as a worker in another process reads them: from a copy that has no items."""
    spool = tmp_path / "spool"
    scan = source.scan(every, spool)
    worker = pickle.loads(pickle.dumps(source))
    assert worker.items is None
    entries = []
    for i, mark in enumerate(scan.marks):
        count = min(every, scan.entries - i * every)
        entries += worker.read(Cut(mark, i * every, count), spool)
    assert len(entries) == scan.entries
    return scan, entries


def atoms_with_everything() -> Atoms:
    atoms = Atoms(
        "NaCl", [[0, 0, 0], [2, 2, 2]], cell=[4, 5, 6], pbc=[1, 1, 0], info={"gap": 1.5, "source": "x", "ok": True}
    )
    atoms.set_array("charges_dft", np.array([0.9, -0.9]))
    atoms.set_tags([1, 2])
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.ones((2, 3)), stress=np.arange(6.0))
    return atoms


@pytest.mark.parametrize(
    "structure",
    [
        NACL,
        NACL.to_pymatgen(),
        NACL.to_pymatgen().as_dict(),
        NACL.to_jarvis(),
        NACL.to_jarvis().to_dict(),
        NACL.to_ase(),
        NACL.to_ase().todict(),
    ],
    ids=["crystal", "pymatgen", "pymatgen dict", "jarvis", "jarvis dict", "ase", "ase dict"],
)
@pytest.mark.parametrize("shape", ["bare", "pair", "triple"])
def test_every_class_and_its_dict(structure, shape, tmp_path):
    item = {"bare": structure, "pair": ("salt", structure), "triple": ("salt", structure, {"gap": 8.5})}[shape]
    source = PythonSource([item])
    scan, (entry,) = read_all(source, tmp_path)
    assert isinstance(source, Source)
    assert entry.crystal == Crystal.from_any(structure)
    assert np.allclose(entry.crystal.lattice, NACL.lattice, atol=1e-5)
    assert entry.id == ("python-0000000" if shape == "bare" else "salt")
    assert entry.labels == ({"gap": 8.5} if shape == "triple" else {})
    spool = (tmp_path / "spool").read_bytes()
    assert scan.files == (("python", len(spool), hashlib.sha256(spool).hexdigest()),)


def test_a_generator_is_read_once_and_in_order(tmp_path):
    read = []

    def structures():
        for z in range(1, 11):
            read.append(z)
            yield Crystal(NACL.lattice, [[0, 0, 0]], [z])

    source = PythonSource(structures(), name="mine")
    assert read == []
    _, entries = read_all(source, tmp_path, every=3)
    assert read == list(range(1, 11))
    assert [entry.id for entry in entries] == [f"mine-{i:07d}" for i in range(10)]
    assert [entry.crystal.numbers.tolist() for entry in entries] == [[z] for z in range(1, 11)]


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
def test_cuts_of_any_size_give_the_same_entries(every, tmp_path):
    items = [(f"id-{i}", NACL if i % 3 else "junk", {"i": i}) for i in range(7)]
    _, whole = read_all(PythonSource(items), tmp_path)
    scan, cut = read_all(PythonSource(iter(items)), tmp_path, every)
    assert len(scan.marks) == -(-7 // every)
    assert [(e.id, repr(e.crystal), e.labels) for e in cut] == [(e.id, repr(e.crystal), e.labels) for e in whole]


def test_a_mapping_is_read_as_pairs(tmp_path):
    _, entries = read_all(PythonSource({"a": NACL, "b": (1, 2)}), tmp_path)
    assert [entry.id for entry in entries] == ["a", "b"]
    assert entries[0].crystal == NACL
    assert isinstance(entries[1].crystal, StructureError)


def test_ase_atoms_bring_their_info_arrays_and_results(tmp_path):
    atoms = atoms_with_everything()
    _, (bare, given_too) = read_all(PythonSource([atoms, ("x", atoms, {"gap": 2.0, "Tc": 9})]), tmp_path)
    assert bare.labels.keys() == {"gap", "source", "ok", "energy", "stress"}
    assert (bare.labels["energy"], bare.labels["source"], bare.labels["ok"]) == (-3.0, "x", True)
    assert bare.atom_labels.keys() == {"charges_dft", "forces"}
    assert bare.atom_labels["forces"].tolist() == np.ones((2, 3)).tolist()
    assert bare.atom_labels["charges_dft"].tolist() == [0.9, -0.9]
    assert bare.crystal.pbc == (True, True, False)
    assert (given_too.labels["gap"], given_too.labels["Tc"]) == (2.0, 9), "labels that are given count before the info"


def test_ids_of_ase_atoms_are_in_their_info(tmp_path):
    first, second = atoms_with_everything(), atoms_with_everything()
    first.info["material_id"] = "mp-1"
    _, usual = read_all(PythonSource([first, second]), tmp_path)
    assert [entry.id for entry in usual] == ["mp-1", "python-0000001"]
    second.info["mine"] = 7
    _, by_key = read_all(PythonSource([first, second], id_key="mine"), tmp_path)
    assert [entry.id for entry in by_key] == ["python-0000000", "7"]
    assert isinstance(by_key[0].crystal, UnreadableInput)
    assert "no key mine" in str(by_key[0].crystal)


@pytest.mark.slow
@given(st.dictionaries(st.text("abc", min_size=1), VALUES, max_size=4))
def test_labels_come_back_as_they_went_in(tmp_path_factory, labels):
    _, (entry,) = read_all(PythonSource([("x", NACL, labels)]), tmp_path_factory.mktemp("labels"))
    assert entry.labels == labels


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?", ">f8"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 3), (1, 2, 2)])
def test_arrays_come_back_with_dtype_and_shape(dtype, shape, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    _, (entry,) = read_all(PythonSource([("x", NACL, {"a": array, "t": array.T})]), tmp_path)
    assert entry.labels["a"].dtype == array.dtype
    assert entry.labels["a"].shape == shape
    assert np.array_equal(entry.labels["a"], array)
    assert np.array_equal(entry.labels["t"], array.T)


def test_numpy_numbers_come_back_as_numbers(tmp_path):
    labels = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(1), "nan": float("nan"), "z": np.array(2.5)}
    _, (entry,) = read_all(PythonSource([("x", NACL, labels)]), tmp_path)
    assert (entry.labels["f"], entry.labels["i"], entry.labels["b"], entry.labels["z"]) == (0.5, 3, True, 2.5)
    assert np.isnan(entry.labels["nan"])


BAD = {
    "disorder": (DISORDERED, StructureError, "disordered"),
    "disorder in a dict": (DISORDERED.as_dict(), StructureError, "disordered"),
    "a number": (7, StructureError, "found builtins.int"),
    "none": (None, StructureError, "found builtins.NoneType"),
    "a text": ("NaCl", StructureError, "found builtins.str"),
    "an empty dict": ({}, InputError, "there is no structure"),
    "a text in a pair": (("x", "NaCl"), UnreadableInput, "required: CIF, POSCAR"),
    "four in a tuple": (("x", NACL, {}, 1), StructureError, "found builtins.tuple"),
    "labels in a list": (("x", NACL, [1.0]), LabelError, "found labels of type list"),
    "a label of a class": (("x", NACL, {"a": object()}), LabelError, "cannot store the labels (a: object)"),
    "a complex label": (("x", NACL, {"a": 1j}), LabelError, "cannot store the labels (a: complex)"),
    "a label beyond 64 bits": (("x", NACL, {"a": 2**70}), LabelError, "cannot store the labels (a: int)"),
    "an id of a class": ((object(), NACL), UnreadableInput, "found the id"),
    "no atoms": (Atoms(cell=[4, 4, 4], pbc=True), StructureError, "no atoms"),
    "no cell": (Atoms("H", pbc=True), StructureError, "singular"),
}


@pytest.mark.parametrize(("item", "error", "message"), BAD.values(), ids=BAD)
def test_bad_items_stand_in_their_place_with_their_class(item, error, message, tmp_path):
    _, entries = read_all(PythonSource([NACL, item, NACL]), tmp_path)
    assert [isinstance(entry.crystal, Crystal) for entry in entries] == [True, False, True]
    assert type(entries[1].crystal) is error or error is InputError
    assert isinstance(entries[1].crystal, InputError)
    assert message in str(entries[1].crystal)


def test_an_error_of_the_iterable_is_not_caught(tmp_path):
    def broken():
        yield NACL
        msg = "the disk is gone"
        raise ConnectionError(msg)

    with pytest.raises(ConnectionError, match="the disk is gone"):
        PythonSource(broken()).scan(1, tmp_path / "spool")


def test_a_copy_cannot_be_scanned(tmp_path):
    copy = pickle.loads(pickle.dumps(PythonSource((NACL for _ in range(3)), name="mine", id_key="k")))
    assert (copy.name, copy.id_key) == ("mine", "k")
    with pytest.raises(InputError, match="the items of 'mine' exist only in the process that created them"):
        copy.scan(1, tmp_path / "spool")


def test_nothing_makes_no_entries(tmp_path):
    scan, entries = read_all(PythonSource([]), tmp_path)
    assert (scan.entries, scan.marks, entries) == (0, (), [])


@needs_whole
def test_the_records_of_jarvis_are_those_of_its_file(tmp_path):
    from lazygraph.sources.jarvis import JarvisSource

    path = DATA / "jarvis" / "jdft_3d_superconductors.json.zip"
    with zipfile.ZipFile(path) as archive:
        records = orjson.loads(archive.read(archive.namelist()[0]))
    _, entries = read_all(PythonSource(records), tmp_path, every=100)
    jarvis = JarvisSource(str(path))
    scan = jarvis.scan(2000, tmp_path / "other")
    expected = list(jarvis.read(Cut(scan.marks[0], 0, scan.entries), tmp_path / "other"))
    assert len(entries) == 1056
    assert entries == expected


def test_the_frames_that_ase_reads_give_the_entries_of_the_file(tmp_path):
    from lazygraph.sources.extxyz import ExtxyzSource

    path = DATA / "extxyz" / "mptrj-random-1k.xyz"
    _, entries = read_all(PythonSource(ase.io.read(path, index=":200")), tmp_path, every=64)
    file = ExtxyzSource(str(path))
    scan = file.scan(200, tmp_path / "other")
    expected = list(file.read(Cut(scan.marks[0], 0, 200), tmp_path / "other"))
    for entry, other in zip(entries, expected, strict=True):
        assert entry.id == other.id
        assert entry.crystal == other.crystal
        assert entry.labels.keys() == other.labels.keys()
        assert entry.labels["energy"] == other.labels["energy"]
        assert np.array_equal(entry.atom_labels["forces"], other.atom_labels["forces"])
