"""Every CIF of the installed packages and of the data folder against gemmi and pymatgen: atoms, volume, space group.

``LAZYGRAPH_CIFS`` may name more folders, separated by colons. What differs has to stand in the table of
docs/sources.md, by the kind of the difference; every reading that the table does not explain fails.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
import re
import warnings
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
import spglib
from pymatgen.io.cif import CifParser

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError
from lazygraph.sources.cif import data_blocks, parse_cif
from tests.real import DATA

DOC = Path(__file__).parents[2] / "docs" / "sources.md"
TABLES = ("perov_5/val.csv", "perov_5/test.csv", "carbon_24/val.csv", "carbon_24/test.csv")
LARGEST = 500  # atoms; spglib takes minutes for more
SYMPREC = 0.02  # A; pymatgen and gemmi leave rounded coordinates as they are


def packages():
    for name in ("ase", "gemmi", "pymatgen"):
        for folder in importlib.util.find_spec(name).submodule_search_locations:
            yield Path(folder)


def files():
    folders = [*packages(), DATA, *map(Path, filter(None, os.environ.get("LAZYGRAPH_CIFS", "").split(":")))]
    found = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if re.search(r"\.m?cif(\.gz)?$", path.name, re.IGNORECASE)
    ]
    return sorted(path for path in set(found) if path.stat().st_size < 400_000)


def structures(path):
    """The texts of the data blocks with atoms."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    blocks, _ = data_blocks([data])
    return [data[block.begin : block.end].decode("utf-8", "replace") for block in blocks]


def by_gemmi(text):
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text, 0).sole_block())
    small.setup_cell_images()
    sites = small.get_all_unit_cell_sites()
    numbers = [1 if site.element.name == "D" else site.element.atomic_number for site in sites]
    return small.cell.volume, np.array([site.fract.tolist() for site in sites]), np.array(numbers, int)


def by_pymatgen(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = CifParser.from_str(text, check_cif=False)
        structure = parser.parse_structures(primitive=False, on_error="raise")[0]
    numbers = [next(iter(site.species)).Z if site.is_ordered else 0 for site in structure]
    return structure.volume, structure.frac_coords, np.array(numbers, int)


def group(lattice, positions, numbers):
    found = spglib.get_symmetry_dataset((lattice, positions, numbers), symprec=SYMPREC)
    return None if found is None else found.number


def difference(crystal, text, other):
    """The kind of the first difference between a crystal and another reading of its file; nothing if there is none."""
    try:
        volume, positions, numbers = other(text)
    except Exception:  # whatever another program does with a file that lazygraph reads
        return "not read"
    if not np.isclose(volume, crystal.volume, rtol=1e-4):
        return "volume"
    if Counter(numbers.tolist()) != Counter(crystal.numbers.tolist()):
        return "composition"
    if len(crystal) <= LARGEST:
        found, expected = (
            group(crystal.lattice, *arrays)
            for arrays in ((positions, numbers), (crystal.frac_coords, crystal.numbers.astype(int)))
        )
        if found != expected:
            return "space group"
    return None


def explained():
    """(program, kind) -> names of files, from the table of the page; a star stands for any."""
    rows = re.findall(r"^\| (gemmi|pymatgen) \| (.+?) \| (.+?) \| .+ \|$", DOC.read_text("utf-8"), re.MULTILINE)
    return {(program, kind, name) for program, kind, names in rows for name in re.findall("`(.+?)`", names)}


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_file_is_what_gemmi_and_pymatgen_read_but_for_the_table_of_differences(path):
    known = explained()
    for text in structures(path):
        try:
            crystal = parse_cif(text)
        except InputError:
            continue  # test_every_ordinary_file_of_the_packages_is_read
        for program, other in (("gemmi", by_gemmi), ("pymatgen", by_pymatgen)):
            kind = difference(crystal, text, other)
            assert kind is None or (program, kind, path.name) in known, f"{program}: {kind} of {path}"


def test_every_ordinary_file_of_the_packages_is_read():
    """An answer that refuses everything is not one."""
    found = [path for path in files() if any(path.is_relative_to(folder) for folder in (*packages(), DATA))]
    assert len(found) >= 8
    for path in found:
        for text in structures(path):
            assert isinstance(parse_cif(text), Crystal)


@pytest.mark.parametrize("table", TABLES)
def test_cifs_of_the_tables_are_what_gemmi_reads(table):
    with (DATA / table).open(newline="") as file:
        texts = [row["cif"] for row in csv.DictReader(file)]
    for number, text in enumerate(texts[::3]):
        crystal, (volume, positions, numbers) = parse_cif(text), by_gemmi(text)
        assert np.isclose(volume, crystal.volume)
        assert Counter(numbers.tolist()) == Counter(crystal.numbers.tolist())
        if number % 8 == 0:
            found = group(crystal.lattice, crystal.frac_coords, crystal.numbers.astype(int))
            assert found == group(crystal.lattice, positions, numbers)
