"""POSCAR against pymatgen: every file of the data folder, every rule of VASP, and every way to be wrong."""

from __future__ import annotations

import json
import warnings
import zipfile

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.poscar import _cube_root, parse_poscar, sniff
from tests.real import DATA, needs_whole

HEAD = "comment\n1.0\n4 0 0\n0.5 5 0\n0 0.25 6\n"
ROWS = "0.1 0.2 0.3\n-0.4 1.5 0.6\n0.7 0.8 0.9\n"
PLAIN = HEAD + "Na Cl\n1 2\nDirect\n" + ROWS


def by_pymatgen(text: str) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Poscar.from_str(text).structure


def assert_same(crystal: Crystal, structure: Structure, tolerance: float = 0.0) -> None:
    assert np.allclose(crystal.lattice, structure.lattice.matrix, rtol=0, atol=tolerance)
    assert np.allclose(crystal.frac_coords, structure.frac_coords, rtol=0, atol=tolerance)
    assert crystal.numbers.tolist() == list(structure.atomic_numbers)


@needs_whole
def test_every_poscar_of_the_alignn_folder_is_what_pymatgen_reads():
    paths = sorted(DATA.glob("folders/alignn/*.vasp"))
    assert len(paths) == 70
    for path in paths:
        text = path.read_text()
        assert sniff(text.encode())
        crystal, structure = parse_poscar(text), by_pymatgen(text)
        assert_same(crystal, structure)


@needs_whole
@pytest.mark.parametrize(
    ("archive", "entries"), [("perov_5/perov5_poscars", 18928), ("carbon_24/carbon24_poscars", 10153)]
)
def test_the_poscars_of_the_archives_are_what_pymatgen_reads(archive, entries):
    with zipfile.ZipFile(DATA / f"{archive}.json.zip") as file:
        splits = json.loads(file.read(file.namelist()[0]))
    texts = [text.replace("\\n", "\n") for split in splits.values() for text in split.values()]
    assert len(texts) == entries
    for text in texts:
        crystal = parse_poscar(text)
        rows = text.split("\n")[8 : 8 + len(crystal)]
        assert crystal.frac_coords.tolist() == [[float(x) for x in row.split()] for row in rows]
    for text in texts[::29]:
        assert_same(parse_poscar(text), by_pymatgen(text))


def test_direct_coordinates_are_the_numbers_of_the_text():
    crystal = parse_poscar(PLAIN)
    assert crystal.frac_coords.tolist() == [[0.1, 0.2, 0.3], [-0.4, 1.5, 0.6], [0.7, 0.8, 0.9]]
    assert crystal.lattice.tolist() == [[4, 0, 0], [0.5, 5, 0], [0, 0.25, 6]]
    assert crystal.numbers.tolist() == [11, 17, 17]


VARIANTS = {
    "scale": PLAIN.replace("\n1.0\n", "\n2.5\n"),
    "volume": PLAIN.replace("\n1.0\n", "\n-250.0\n"),
    "cartesian": PLAIN.replace("Direct", "Cartesian"),
    "kartesian": PLAIN.replace("Direct", "k"),
    "cartesian, scaled": PLAIN.replace("Direct", "cart").replace("\n1.0\n", "\n1.1\n"),
    "selective dynamics": HEAD + "Na Cl\n1 2\nSelective dynamics\nDirect\n" + ROWS.replace("\n", " T F T\n"),
    "selective, cartesian": HEAD + "Na Cl\n1 2\ns\nC\n" + ROWS.replace("\n", " F F T\n"),
    "selective, VASP 4 with symbols": HEAD + "1 2\nS\nD\n" + ROWS.replace("\n", " T T F Fe\n"),
    "blank comment": "\n" + PLAIN.split("\n", 1)[1],
    "symbols at the ends of lines": PLAIN.replace("0.3\n", "0.3 Na\n").replace("0.6\n", "0.6 Cl\n"),
    "velocities": PLAIN + "\n0.0 0.0 0.1\n0.0 0.0 0.2\n0.0 0.0 0.3\n",
    "VASP 6 symbols": PLAIN.replace("Na Cl", "Na_pv/f474ac0d Cl/79d9987ad87"),
    "VASP 4 with symbols": HEAD + "1 2\nDirect\n0.1 0.2 0.3 Na\n-0.4 1.5 0.6 Cl\n0.7 0.8 0.9 O\n",
    "a comment after a line": PLAIN.replace("1 2\n", "1 2 # one sodium\n"),
    "interleaved species": PLAIN.replace("Na Cl\n1 2", "Na Cl Na\n1 1 1"),
    "no line feed at the end": PLAIN.rstrip(),
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "tabs": PLAIN.replace(" ", "\t"),
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_variants_are_what_pymatgen_reads(text):
    assert_same(parse_poscar(text), by_pymatgen(text), 1e-14)


def test_a_negative_scale_is_the_volume():
    assert parse_poscar(VARIANTS["volume"]).volume == pytest.approx(250)


@given(st.floats(1e-6, 1e6))
def test_the_factor_of_a_volume_is_rounded_correctly(x):
    """So that every machine scales a cell to the same bits."""
    exact = mpmath.mp.clone()
    exact.prec = 400
    assert _cube_root(x) == float(exact.cbrt(x))


def test_a_volume_scales_cartesian_coordinates_too():
    """pymatgen multiplies them by the volume itself; VASP by the factor that the lattice takes."""
    text = PLAIN.replace("Direct", "Cartesian")
    plain, scaled = parse_poscar(text), parse_poscar(text.replace("\n1.0\n", "\n-960\n"))
    assert scaled.volume == pytest.approx(960)
    assert np.allclose(plain.frac_coords, scaled.frac_coords)


def test_three_scales_multiply_the_cartesian_components():
    crystal = parse_poscar(PLAIN.replace("\n1.0\n", "\n1 2 3\n").replace("Direct", "Cartesian"))
    assert crystal.lattice.tolist() == [[4, 0, 0], [0.5, 10, 0], [0, 0.5, 18]]
    assert np.allclose(crystal.cart_coords[0], [0.1, 0.4, 0.9])


def test_a_vasp4_file_takes_its_elements_from_the_comment():
    crystal = parse_poscar("Na Cl\n" + PLAIN.split("\n", 1)[1].replace("Na Cl\n", ""))
    assert crystal.numbers.tolist() == [11, 17, 17]


@pytest.mark.parametrize("flags", ["T T T", "F F F", "T F T", ".TRUE. .FALSE. .TRUE."])
@pytest.mark.parametrize("line", ["", "Selective dynamics\n"])
def test_flags_are_no_elements(flags, line):
    """F is fluorine, and also how VASP writes false."""
    rows = ROWS.replace("\n", f" {flags}\n")
    text = "Na Cl\n" + HEAD.split("\n", 1)[1] + "1 2\n" + line + "Direct\n"
    assert parse_poscar(text + rows).numbers.tolist() == [11, 17, 17]
    assert parse_poscar(text + rows.replace("\n", " Fe\n")).numbers.tolist() == [26, 26, 26]
    with pytest.raises(StructureError, match="no element symbols"):
        parse_poscar("comment" + (text + rows)[5:])


def test_fluorine_at_the_ends_of_lines_is_fluorine():
    assert parse_poscar(HEAD + "3\nDirect\n" + ROWS.replace("\n", " F\n")).numbers.tolist() == [9, 9, 9]


@given(st.lists(st.floats(-1e3, 1e3), min_size=9, max_size=9), st.sampled_from("dD"))
def test_exponents_of_fortran_are_read(numbers, letter):
    written = [f"{x:.12E}" for x in numbers]
    head = "c\n1.0E0\n4 0 0\n0.5 5 0\n0 0.25 6\nNa\n3\nDirect\n"
    rows = "\n".join(" ".join(written[i : i + 3]) for i in (0, 3, 6))
    assert parse_poscar((head + rows).replace("E", letter)) == parse_poscar(head + rows)


def test_elements_that_contradict_one_another_are_refused():
    with pytest.raises(StructureError, match="atom 2 is Cl by the line of symbols, but O by the end of its own line"):
        parse_poscar(PLAIN.replace("0.3\n", "0.3 Na\n").replace("0.6\n", "0.6 Cl\n").replace("0.9\n", "0.9 O\n"))
    assert len(parse_poscar(PLAIN.replace("0.3\n", "0.3 Na1\n"))) == 3


@pytest.mark.parametrize("comment", ["comment", "Na", "Na Cl O", "salt Cl", ""])
def test_a_vasp4_file_without_elements_is_refused(comment):
    text = comment + "\n" + PLAIN.split("\n", 1)[1].replace("Na Cl\n", "")
    with pytest.raises(StructureError, match="no element symbols.*add a line of symbols before the counts"):
        parse_poscar(text)


def test_lists_of_more_than_twenty_groups_are_wrapped():
    symbols = ["Fe", "Cr"] * 11 + ["Ni"]
    rows = "".join(f"{i / 50} 0.5 {i / 70}\n" for i in range(46))
    split = " ".join(symbols[:20]) + "\n" + " ".join(symbols[20:]) + "\n" + "2 " * 20 + "\n" + "2 " * 3 + "\n"
    crystal = parse_poscar(HEAD + split + "Direct\n" + rows)
    assert len(crystal) == 46
    assert_same(crystal, by_pymatgen(HEAD + split + "Direct\n" + rows))


@given(
    lattice=st.lists(st.floats(1, 9), min_size=3, max_size=3),
    coords=st.lists(st.tuples(*[st.floats(-2, 2)] * 3), min_size=1, max_size=8),
    symbols=st.data(),
)
def test_what_pymatgen_writes_comes_back(lattice, coords, symbols):
    species = symbols.draw(st.lists(st.sampled_from("H C O Fe U".split()), min_size=len(coords), max_size=len(coords)))
    structure = Structure(np.diag(lattice), species, coords)
    text = Poscar(structure).get_str(significant_figures=16)
    crystal = parse_poscar(text)
    assert_same(crystal, by_pymatgen(text))
    assert_same(crystal, structure, 1e-14)


BROKEN = {
    "empty": "",
    "one line": "Na Cl",
    "text": "this is\nno structure\nat all\nbut a\nfile of\nwords\nand more\nwords\n",
    "a vector of two": PLAIN.replace("0.5 5 0", "0.5 5"),
    "a vector of words": PLAIN.replace("0.5 5 0", "a b c"),
    "three scales of mixed sign": PLAIN.replace("\n1.0\n", "\n1.0 -2.0 3.0\n"),
    "three negative scales": PLAIN.replace("\n1.0\n", "\n-1.0 -2.0 -3.0\n"),
    "two scales": PLAIN.replace("\n1.0\n", "\n1.0 2.0\n"),
    "more counts than symbols": PLAIN.replace("1 2", "1 1 1"),
    "no counts": PLAIN.replace("1 2\n", "\n"),
    "a negative count": PLAIN.replace("1 2", "1 -2"),
    "cut off": PLAIN[:-12],
    "a line cut off": PLAIN[:-5],
    "no mode": PLAIN.replace("Direct\n", ""),
    "a position of words": PLAIN.replace("0.7", "x"),
    "cut off after the counts": PLAIN.split("Direct")[0],
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_text_that_is_no_poscar_says_what_is_required(text):
    with pytest.raises(UnreadableInput, match="required: "):
        parse_poscar(text)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("Na Cl", "Na Xx"),
        PLAIN.replace("1 2", "0 0"),
        PLAIN.replace("0.5 5 0", "8 0 0"),
        PLAIN.replace("0.5 5 0", "8 0 0").replace("\n1.0\n", "\n-10\n"),
        PLAIN.replace("0.7", "nan"),
        PLAIN.replace("\n1.0\n", "\n0\n"),
    ],
    ids=["element", "no atoms", "singular", "singular with a volume", "nan", "scale of zero"],
)
def test_a_poscar_that_is_no_crystal_is_a_structure_error(text):
    with pytest.raises(StructureError):
        parse_poscar(text)


@given(st.integers(0, len(PLAIN)), st.binary(max_size=3))
def test_damage_is_an_input_error_or_a_crystal(place, junk):
    text = PLAIN[:place] + junk.decode("utf-8", "replace") + PLAIN[place + 1 :]
    try:
        crystal = parse_poscar(text)
    except InputError:
        return
    assert np.isfinite(crystal.cart_coords).all()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PLAIN.encode(), True),
        (PLAIN.replace("Na Cl\n", "").encode(), True),
        (PLAIN.replace("4 0 0", "4 0 0 ! the first").encode(), True),
        (PLAIN.replace("\n", "\r\n").encode(), True),
        (("a\u2028b\x85" + PLAIN).encode(), True),
        (b"", False),
        (b'4\nLattice="1 0 0 0 1 0 0 0 1"\nH 0 0 0\nH 1 1 1\nH 2 2 2\nH 3 3 3\nH 4 4 4\n', False),
        (b"a,b\n1\n2\n3\n4\n5\n6\n", False),
        (BROKEN["text"].encode(), False),
        (bytes(range(256)) * 4, False),
    ],
)
def test_sniff_asks_for_a_scale_and_three_vectors(head, expected):
    assert sniff(head) is expected
