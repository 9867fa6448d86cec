"""Extended XYZ against ASE: every frame of the data folder, every cut, and every way in which a frame can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import re
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import read_xyz, write_xyz
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.crystal import Crystal
from lazygraph.errors import StructureError, UnreadableInput
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.extxyz import ExtxyzSource, _frames, _reals, sniff, take_id
from tests.real import DATA, existing

FILES = {
    "mptrj-random-1k": "mptrj_snapshot_id",
    "mptrj-highest-stress-1k": "mptrj_snapshot_id",
    "alexandria-random-1k": "alexandria_id",
}
LATTICE = 'Lattice="4 0 0 0 5 0 0 0 6"'
FRAME = f"""2
{LATTICE} Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T"
Na 0 0 0 0.1 0.2 0.3
Cl 2 2.5 3 -0.1 -0.2 -0.3
"""


def read_all(source, tmp_path, every=1000):
    spool = tmp_path / "spool"
    scan = source.scan(every, spool)
    entries = []
    for i, mark in enumerate(scan.marks):
        count = min(every, scan.entries - i * every)
        entries += pickle.loads(pickle.dumps(source)).read(Cut(mark, i * every, count), spool)
    assert len(entries) == scan.entries
    return scan, entries


def same(a, b) -> bool:
    """Entries hold arrays, which == compares element by element."""
    return a.id == b.id and a.crystal == b.crystal and equal(a.labels, b.labels) and equal(a.atom_labels, b.atom_labels)


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture
def frames(tmp_path):
    """A file of the frames that a test gives, and all its entries."""

    def read(text: str, **options):
        path = tmp_path / "some.xyz"
        path.write_text(text, newline="")
        return read_all(ExtxyzSource(str(path), **options), tmp_path)[1]

    return read


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_what_ase_reads(name, tmp_path):
    path = existing(f"extxyz/{name}.xyz")
    source = ExtxyzSource(str(path))
    scan, entries = read_all(source, tmp_path, 64)
    assert isinstance(source, Source)
    assert source.name == name
    assert scan.files == ((path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()),)
    frames = ase.io.read(path, index=":")
    assert len(frames) == len(entries) > 0
    for atoms, entry in zip(frames, entries, strict=True):
        crystal, labels = entry.crystal, entry.labels
        assert entry.id == atoms.info[FILES[name]]
        assert crystal.numbers.tolist() == atoms.numbers.tolist()
        assert np.array_equal(crystal.lattice, atoms.cell[:])
        assert np.abs(crystal.cart_coords - atoms.positions).max() < 1e-9
        assert crystal.pbc == tuple(atoms.pbc)
        texts = {"source", "energy_unit", "forces_unit", "stress_unit", "mptrj_traj_id", "alexandria_traj_id"}
        assert labels.keys() - texts == {"energy", "stress"}
        assert labels["energy"] == atoms.get_potential_energy()
        assert entry.atom_labels.keys() == {"forces"}
        assert np.array_equal(entry.atom_labels["forces"], atoms.get_forces())
        stress = labels["stress"]
        voigt = [stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]]
        assert voigt == atoms.get_stress().tolist()


@pytest.mark.parametrize("every", [1, 7, 999, 1000, 5000])
def test_cuts_of_any_size_give_the_same_entries(every, tmp_path):
    source = ExtxyzSource(str(DATA / "extxyz" / "alexandria-random-1k.xyz"))
    _, whole = read_all(source, tmp_path)
    scan, cut = read_all(source, tmp_path, every)
    assert len(scan.marks) == -(-len(whole) // every)
    assert all(map(same, whole, cut))


def test_a_gzip_file_gives_the_same_entries(tmp_path):
    path = DATA / "extxyz" / "mptrj-random-1k.xyz"
    packed = tmp_path / "mptrj.extxyz.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    source = ExtxyzSource(str(packed))
    scan, entries = read_all(source, tmp_path, 100)
    assert source.name == "mptrj"
    assert scan.files[0].sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    _, plain = read_all(ExtxyzSource(str(path)), tmp_path)
    assert all(map(same, plain, entries))


@given(
    sizes=st.lists(st.integers(1, 5), max_size=12),
    blanks=st.integers(0, 3),
    end=st.booleans(),
    chunk=st.integers(1, 90),
    carriage=st.booleans(),
)
def test_frames_are_found_wherever_a_piece_of_the_file_ends(sizes, blanks, end, chunk, carriage):
    texts = [f"{n}\ncomment {i}\n" + "C 1 2 3\n" * n for i, n in enumerate(sizes)]
    data = ("\n" * blanks).join(texts).encode() + b"\n" * blanks
    data = data if end else data.rstrip()
    data = data.replace(b"\n", b"\r\n") if carriage else data
    found = list(_frames(data[i : i + chunk] for i in range(0, len(data), chunk)))
    expected = [match.start() for match in re.finditer(rb"\d\r?\ncomment", data)]
    assert found == expected
    assert len(found) == len(sizes)


@pytest.mark.slow
@given(
    positions=st.lists(st.tuples(*[st.floats(-9, 9)] * 3), min_size=1, max_size=6),
    energy=st.floats(-1e3, 1e3),
    pbc=st.tuples(*[st.booleans()] * 3),
)
def test_what_ase_writes_comes_back(tmp_path_factory, positions, energy, pbc):
    atoms = Atoms(["Fe"] * len(positions), positions, cell=[5, 6, 7], pbc=pbc, info={"run": 7, "tag": "x"})
    atoms.new_array("magmoms_dft", np.arange(len(positions)) / 3)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.ones((len(positions), 3)), stress=np.arange(6.0))
    text = io.StringIO()
    write_xyz(text, [atoms])
    folder = tmp_path_factory.mktemp("ase")
    (folder / "one.xyz").write_text(text.getvalue())
    _, (entry,) = read_all(ExtxyzSource(str(folder / "one.xyz")), folder)
    text.seek(0)
    back = next(read_xyz(text))
    assert np.allclose(entry.crystal.cart_coords, back.positions, rtol=0, atol=1e-12)
    assert entry.crystal.pbc == pbc
    assert entry.labels["energy"] == energy
    assert entry.labels["run"] == 7
    assert entry.labels["stress"].shape == (3, 3)
    assert np.array_equal(entry.atom_labels["magmoms_dft"], back.arrays["magmoms_dft"])
    assert entry.labels["tag"] == "x"


def test_ids_come_from_the_key_or_the_usual_keys_or_the_position(frames):
    named = FRAME.replace("energy", "material_id=mp-7 run=12 energy")
    assert [entry.id for entry in frames(named + FRAME)] == ["mp-7", "some-0000001"]
    by_run = frames(named + FRAME, id_key="run")
    assert [entry.id for entry in by_run] == ["12", "some-0000001"]
    assert by_run[0].labels.keys() == {"energy", "material_id"}
    assert isinstance(by_run[1].crystal, UnreadableInput)
    assert "there is no key run; the keys are energy" in str(by_run[1].crystal)


def test_labels_are_the_numbers_of_the_comment_and_the_columns(frames):
    text = FRAME.replace("forces:R:3", "forces:R:3:charge:I:1:fixed:L:1:site:S:1:magmoms:R:1").replace(
        "energy=", 'virial="1 2 3 4 5 6 7 8 9" dipole="0 1 2" n=3 ok=T note="a b" words="1 x" energy='
    )
    text = text.replace("0.3\n", "0.3 1 T a 2.5\n").replace("-0.3 1 T a", "-0.3 -1 F b")
    (entry,) = frames(text)
    assert entry.labels.keys() == {"virial", "dipole", "n", "ok", "note", "words", "energy"}
    assert (entry.labels["ok"], entry.labels["note"], entry.labels["words"]) == (True, "a b", "1 x")
    assert entry.atom_labels.keys() == {"forces", "charge", "fixed", "site", "magmoms"}
    assert entry.atom_labels["charge"].tolist() == [1, -1]
    assert entry.atom_labels["fixed"].tolist() == [True, False]
    assert entry.atom_labels["site"] == ["a", "b"]
    assert entry.atom_labels["magmoms"].tolist() == [2.5, 2.5]
    assert entry.atom_labels["forces"].tolist() == [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]
    assert entry.labels["dipole"].tolist() == [0, 1, 2]
    assert (entry.labels["n"], entry.labels["energy"]) == (3, -1.5)
    assert entry.labels["virial"].tolist() == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]


@pytest.mark.parametrize(
    ("comment", "pbc", "lattice"),
    [
        (LATTICE, (True, True, True), [4, 5, 6]),
        (LATTICE + ' pbc="T F T"', (True, False, True), [4, 5, 6]),
        ('Lattice="4 0 0 0 5 0 0 0 0" pbc="T T F"', (True, True, False), [4, 5, 1]),
        ("energy=1", (False, False, False), [1, 1, 1]),
        ("", (False, False, False), [1, 1, 1]),
        ("a molecule of two", (False, False, False), [1, 1, 1]),
    ],
)
def test_cells_and_directions_that_repeat(frames, comment, pbc, lattice):
    (entry,) = frames(f"2\n{comment}\nNa 0 0 0\nCl 1 2 3\n")
    assert entry.crystal.pbc == pbc
    assert entry.crystal.lattice.tolist() == np.diag(lattice).tolist()
    assert np.allclose(entry.crystal.cart_coords, [[0, 0, 0], [1, 2, 3]])


def test_lattice_vectors_are_rows(frames):
    (entry,) = frames(FRAME.replace(LATTICE, 'Lattice="4 1 0 0 5 2 3 0 6"'))
    assert entry.crystal.lattice.tolist() == [[4, 1, 0], [0, 5, 2], [3, 0, 6]]


def test_species_may_be_numbers_or_in_any_column(frames):
    (by_number,) = frames(f"1\n{LATTICE} Properties=pos:R:3:Z:I:1\n1 2 3 26\n")
    (by_symbol,) = frames(f"1\n{LATTICE} Properties=pos:R:3:species:S:1\n1 2 3 FE\n")
    assert by_number.crystal == by_symbol.crystal
    assert by_symbol.crystal.formula == "Fe"


BROKEN = {
    "element": (FRAME.replace("Cl", "Qq"), StructureError, "unknown element 'Qq'"),
    "short line": (FRAME.replace("-0.2 -0.3", ""), UnreadableInput, "atom 1 of 2 has 5 columns; required: 7"),
    "words": (FRAME.replace("2.5", "two"), UnreadableInput, "could not convert"),
    "nan": (FRAME.replace("2.5", "nan"), StructureError, "required: finite numbers"),
    "lattice of six": (FRAME.replace(LATTICE, 'Lattice="4 0 0 0 5 0"'), UnreadableInput, "Lattice"),
    "flat lattice": (FRAME.replace(LATTICE, 'Lattice="4 0 0 0 5 0 4 5 0"'), StructureError, "singular"),
    "no positions": (FRAME.replace("pos:", "pos2:"), UnreadableInput, "required: pos, and species or Z"),
    "no species": (FRAME.replace("species:S", "kind:S"), UnreadableInput, "required: pos, and species or Z"),
    "properties": (FRAME.replace(":R:3:forces:R:3", ":R"), UnreadableInput, "required: name:type:width"),
    "no atoms": (f"0\n{LATTICE}\n", StructureError, "no atoms"),
}


@pytest.mark.parametrize(("text", "error", "message"), BROKEN.values(), ids=BROKEN)
def test_bad_frames_stand_in_their_place(frames, text, error, message):
    entries = frames(FRAME + text + FRAME)
    assert [entry.id for entry in entries] == ["some-0000000", "some-0000001", "some-0000002"]
    assert isinstance(entries[1].crystal, error)
    assert message in str(entries[1].crystal)
    assert isinstance(entries[0].crystal, Crystal)
    assert entries[0].crystal == entries[2].crystal


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_last_frame_that_is_cut_off_is_a_bad_entry(frames, lines):
    cut = "".join(FRAME.splitlines(keepends=True)[:lines])
    entries = frames(FRAME + cut.rstrip("\n"))
    assert len(entries) == 2
    assert isinstance(entries[1].crystal, UnreadableInput)
    assert f"the file ends after {lines - 1} lines of this frame; required: a comment and 2" in str(entries[1].crystal)


def test_a_count_beyond_the_file_takes_no_memory(frames):
    entries = frames(FRAME + FRAME.replace("2\n", "999999999999\n", 1))
    assert isinstance(entries[1].crystal, UnreadableInput)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello\n", 1),
        (FRAME + "Na 0 0 0\n" + FRAME, 5),
        (FRAME + "\n" + FRAME + "-3\n", 10),
        (FRAME + "1" * 5000 + "\n", 5),
        (FRAME.replace("2\n", "1\n", 1), 4),
    ],
)
def test_a_line_where_a_count_should_be_is_named(tmp_path, text, line):
    path = tmp_path / "bad.xyz"
    path.write_text(text)
    with pytest.raises(UnreadableInput, match=f"bad.xyz.*line {line} is .*required: the number of atoms"):
        ExtxyzSource(str(path)).scan(1, tmp_path / "spool")


def test_a_broken_gzip_file_is_refused(tmp_path):
    path = tmp_path / "bad.xyz.gz"
    path.write_bytes(gzip.compress(FRAME.encode() * 50)[:-20])
    with pytest.raises(UnreadableInput, match="bad.xyz.gz.*broken"):
        ExtxyzSource(str(path)).scan(1, tmp_path / "spool")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableInput, match=r"nope\.xyz"):
        ExtxyzSource(str(tmp_path / "nope.xyz")).scan(1, tmp_path / "spool")


def test_an_empty_file_has_no_entries(tmp_path):
    (tmp_path / "empty.xyz").write_text("\n\n")
    scan = ExtxyzSource(str(tmp_path / "empty.xyz")).scan(1, tmp_path / "spool")
    assert (scan.entries, scan.marks) == (0, ())


def test_a_file_that_changed_after_the_scan_is_noticed(tmp_path):
    path = tmp_path / "some.xyz"
    path.write_text(FRAME * 2)
    source = ExtxyzSource(str(path))
    scan = source.scan(1, tmp_path / "spool")
    path.write_text("a new first line\n" + FRAME * 2)
    with pytest.raises(UnreadableInput, match="the file has changed since"):
        list(source.read(Cut(scan.marks[1], 1, 1), tmp_path / "spool"))


def test_take_id_removes_what_it_takes():
    values = {"jid": "JVASP-1", "material_id": "mp-1", "n": np.int64(7), "list": [1]}
    assert take_id(values, None, "x-0") == "JVASP-1"
    assert take_id(values, None, "x-0") == "mp-1"
    assert take_id(values, None, "x-0") == "x-0"
    assert take_id(values, "n", "x-0") == "7"
    with pytest.raises(UnreadableInput, match="found the id"):
        take_id(values, "list", "x-0")
    with pytest.raises(UnreadableInput, match="no key n; the keys are none"):
        take_id(values, "n", "x-0")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (FRAME.encode(), True),
        (FRAME.replace("\n", "\r\n").encode(), True),
        (b"  2  \nProperties=species:S:1:pos:R:3\n", True),
        (b"2\njust a molecule\nH 0 0 0\nH 0 0 1\n", False),
        (b"c\n1.0\n4 0 0\n", False),
        (b"2\n", False),
        (b"", False),
    ],
)
def test_sniff_asks_for_a_count_and_the_keys_of_extended_xyz(head, expected):
    assert sniff(head) is expected


def test_reading_warns_of_nothing(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(frames(FRAME * 3)) == 3


def test_what_the_comment_says_is_of_the_crystal_whatever_the_number_of_atoms(frames):
    six = 'REF_stress="1 2 3 4 5 6" dipole="1 2" pairs="1 2 3 4"'
    for entry in frames(FRAME.replace("energy=-1.5", six) * 2):
        assert entry.labels.keys() == {"REF_stress", "dipole", "pairs"}
        assert entry.atom_labels.keys() == {"forces"}


WRONG = {
    "a row with a word more": (FRAME.replace("0.3\n", "0.3 9\n", 1), "atom 0 of 2 has 8 columns; required: 7"),
    "words that move to the next row": (
        FRAME.replace("-0.3\n", "-0.3 Na\n").replace("Na 0 0 0", "0 0 0"), "atom 0 of 2 has 6 columns; required: 7"
    ),
    "species and Z that differ": (
        FRAME.replace("forces:R:3", "Z:I:1").replace("-0.1 -0.2 -0.3", "16").replace("0.1 0.2 0.3", "11"),
        "species and Z name different",
    ),
    "a property twice": (FRAME.replace("forces:R:3", "pos:R:3"), "has a name twice"),
    "an unknown type": (FRAME.replace("forces:R:3", "forces:X:3"), "type R, I, L or S"),
    "a flag that is neither T nor F": (FRAME.replace("forces:R:3", "fixed:L:3"), "required: T or F"),
    "pbc of two": (FRAME.replace('"T T T"', '"T T"'), "required: three flags"),
    "two cells": (FRAME.replace("energy=", 'lattice="4 0 0 0 5 0 0 0 6" energy='), "'Lattice' and 'lattice'"),
    "an energy twice": (FRAME.replace("energy=-1.5", "energy=-1.5 energy=2"), "'energy' twice"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_told_is_a_bad_entry(frames, text, message):
    good, bad, last = frames(FRAME + text + FRAME)
    assert isinstance(bad.crystal, UnreadableInput)
    assert message in str(bad.crystal)
    assert good.crystal == last.crystal


def test_species_and_z_that_agree_are_fine(frames):
    text = FRAME.replace("forces:R:3", "Z:I:1").replace("-0.1 -0.2 -0.3", "17").replace("0.1 0.2 0.3", "11")
    assert frames(text)[0].crystal.numbers.tolist() == [11, 17]


NUMBERS = st.one_of(
    st.floats().map(repr),
    st.floats(-1e3, 1e3).map(lambda x: f"{x:.8f}"),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(
        [
            "1.",
            ".5",
            "+1",
            "-0",
            "00.5",
            "1e5",
            "1E-5",
            "nan",
            "inf",
            "-Infinity",
            "1_0",
            "1,2",
            "[1",
            "null",
            "true",
            '"1"',
            "x",
            "",
        ]
    ),
)


@given(st.lists(NUMBERS, max_size=12))
def test_numbers_are_what_float_makes_of_them(words):
    try:
        expected = np.array([float(word) for word in words])
    except ValueError:
        with pytest.raises(ValueError):
            _reals(words)
        return
    assert np.array_equal(_reals(words), expected, equal_nan=True)


@pytest.mark.slow
@given(st.integers(1, 4), st.sampled_from([1, 3, 7]), st.sampled_from([1, 2, 64, 1 << 20]), st.booleans())
def test_frames_do_not_depend_on_how_the_file_is_read(tmp_path_factory, atoms, count, piece, end):
    from lazygraph.sources import extxyz

    folder = tmp_path_factory.mktemp("pieces")
    texts = [f"{atoms}\n{LATTICE} n={k}\n" + f"Na 0 0 0.{k}\n" * atoms + "\n" * (k % 2) for k in range(count)]
    (folder / "a.xyz").write_text("".join(texts) if end else "".join(texts).rstrip())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extxyz, "PIECE", piece)
        _, entries = read_all(ExtxyzSource(str(folder / "a.xyz")), folder, 2)
    assert [entry.labels["n"] for entry in entries] == list(range(count))
    assert np.allclose([entry.crystal.cart_coords[0, 2] for entry in entries], [k / 10 for k in range(count)])
