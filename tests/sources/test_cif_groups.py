"""Random crystals in every setting of all 230 groups, written as CIF by gemmi and pymatgen, in few digits.

What is read is the crystal that was written, or a refusal; never another crystal.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice
from pymatgen.io.cif import CifWriter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lazygraph.crystal import SYMBOLS, Crystal
from lazygraph.errors import InputError
from lazygraph.sources.cif import parse_cif

GROUPS = list(gemmi.spacegroup_table())
PARTS = 12  # of the table, so that several test processes share it
APART = 1.0  # A, least distance between two atoms of a random crystal
LONGEST = 40  # A, of its cell: half a unit of the third digit is 0.02 A
WANTED = (6, 8, 13, 14, 26, 38, 57)
GRID = np.array([0, 1 / 8, 1 / 4, 1 / 3, 3 / 8, 1 / 2, 5 / 8, 2 / 3, 3 / 4, 7 / 8])


def operations(group):
    every = list(group.operations())
    return np.array([o.rot for o in every]) / 24, np.array([o.tran for o in every]) / 24


def random_cell(group, rng):
    """Six cell parameters that the group leaves as they are: a random metric, averaged over its operations."""
    rotations, _ = operations(group)
    lengths, angles = rng.uniform(4, 9, 3), np.radians(rng.uniform(75, 105, 3))
    cosines = np.eye(3)
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        cosines[i, j] = cosines[j, i] = np.cos(angle)
    metric = np.einsum("mji,jk,mkl->il", rotations, cosines * np.outer(lengths, lengths), rotations) / len(rotations)
    lengths = np.sqrt(np.diag(metric))
    cosines = metric / np.outer(lengths, lengths)
    return lengths, np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))


def random_site(group, rng):
    """A general position, one of a grid of simple fractions, or one that a random operation leaves in place."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.uniform(0, 1, 3)
    if kind == 1:
        return rng.choice(GRID, 3)
    rotations, translations = operations(group)
    m = rng.integers(len(rotations))
    site, images = rng.uniform(0, 1, 3), []
    for _ in range(12):  # a multiple of the order of every rotation of a crystal
        images.append(site)
        site = rotations[m] @ site + translations[m]
    return images[0] if not np.allclose(site, images[0]) else np.mean(images, axis=0)


def orbit(group, site):
    rotations, translations = operations(group)
    images = rotations @ site + translations
    images -= np.floor(images)
    kept = []
    for image in images:
        if not any(np.abs(image - k - np.rint(image - k)).max() < 1e-7 for k in kept):
            kept.append(image)
    return np.array(kept)


SHIFTS = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T


def closest(lattice, orbits):
    """The least distance between two atoms; one atom of each orbit stands for the others."""
    apart = np.array([orbit[0] for orbit in orbits])[:, None] - np.concatenate(orbits)[None]
    apart -= np.rint(apart)
    distances = np.linalg.norm((apart[:, :, None] + SHIFTS) @ lattice, axis=-1)
    distances = np.sort(distances.ravel())
    return distances[len(orbits)]  # behind the distances of atoms from themselves


def random_crystal(group, rng):
    """(cell, sites as (Z, xyz), all atoms as a Crystal): no two atoms are closer than 1 A."""
    lengths, angles = random_cell(group, rng)
    sites, numbers, positions = [], [], []
    for z in rng.choice(WANTED, rng.integers(1, 5), replace=False):
        site = random_site(group, rng)
        images = orbit(group, site)
        gap = closest(Lattice.from_parameters(*lengths, *angles).matrix, [*positions, images])
        larger = lengths * max(1.0, APART / max(gap, 1e-9))
        if larger.max() > LONGEST:
            continue
        lengths = larger
        sites.append((int(z), site))
        positions.append(images)
        numbers += [int(z)] * len(images)
    if not sites:
        return None
    lattice = Lattice.from_parameters(*lengths, *angles).matrix
    return (lengths, angles), sites, Crystal(lattice, np.concatenate(positions), numbers)


def written(cell, sites, crystal, digits, name, listed, formula):
    """A CIF by gemmi: the group by name, or as the list of its operations."""
    small = gemmi.SmallStructure()
    small.name = "random"
    small.cell = gemmi.UnitCell(*(round(float(x), 5) for x in (*cell[0], *cell[1])))
    for i, (z, xyz) in enumerate(sites):
        site = gemmi.SmallStructure.Site()
        site.element = gemmi.Element(z)
        site.type_symbol, site.label = SYMBOLS[z], f"{SYMBOLS[z]}{i}"
        site.fract = gemmi.Fractional(*(round(float(x), digits) for x in xyz))
        small.add_site(site)
    document = gemmi.cif.Document()
    block = document.add_copied_block(small.make_cif_block())
    for tag, value in name.items():
        block.set_pair(tag, gemmi.cif.quote(value))
    if listed:
        block.init_loop("_space_group_symop_", ["operation_xyz"]).set_all_values([[gemmi.cif.quote(o) for o in listed]])
    if formula:
        counts = Counter(crystal.numbers.tolist())
        units = int(np.gcd.reduce(list(counts.values())))
        text = " ".join(f"{SYMBOLS[z]}{n // units}" for z, n in counts.items())
        block.set_pair("_chemical_formula_sum", gemmi.cif.quote(text))
        block.set_pair("_cell_formula_units_Z", str(units))
    return document.as_string()


def is_same(read, crystal):
    """Whether two crystals have the same cell and the same atoms, but for digits."""
    metric, other = (c.lattice @ c.lattice.T for c in (read, crystal))
    if len(read) != len(crystal) or not np.allclose(metric, other, atol=0.05, rtol=1e-3):
        return False
    apart = read.frac_coords[:, None] - crystal.frac_coords[None]
    apart -= np.rint(apart)
    near = np.linalg.norm(apart @ crystal.lattice, axis=-1) < 0.1
    near &= read.numbers[:, None] == crystal.numbers[None]
    return bool((near.sum(axis=0) == 1).all() and (near.sum(axis=1) == 1).all())


def names_of(group):
    """Ways to name a setting that a file may use: all of them true."""
    yield "H-M", {"_symmetry_space_group_name_H-M": group.xhm()}
    yield "Hall", {"_space_group_name_Hall": group.hall}
    yield "short", {"_space_group_name_H-M_alt": group.short_name()}
    if group.ext != "\0":
        yield "bare", {"_symmetry_space_group_name_H-M": group.hm}
    standard = gemmi.find_spacegroup_by_number(group.number)
    if group.hm == standard.hm:
        yield "number", {"_symmetry_Int_Tables_number": str(group.number)}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_setting_is_read_as_it_was_written_or_refused(part):
    refused = Counter()
    for index in range(part, len(GROUPS), PARTS):
        group = GROUPS[index]
        rng = np.random.default_rng(index)
        made = None
        while made is None:
            made = random_crystal(group, rng)
        cell, sites, crystal = made
        for digits in (3, 4, 5, 6):
            listed = [o.triplet() for o in group.operations()]
            text = written(cell, sites, crystal, digits, {}, listed, formula=bool(rng.integers(2)))
            assert is_same(parse_cif(text), crystal), f"{group.xhm()}, {digits} digits, by its operations"
        for how, name in names_of(group):
            for formula in (True, False):
                digits = int(rng.integers(3, 7))
                text = written(cell, sites, crystal, digits, name, None, formula)
                try:
                    read = parse_cif(text)
                except InputError:
                    refused[how] += 1
                    continue
                assert is_same(read, crystal), f"{group.xhm()} by {how} {name}, {digits} digits:\n{text}"
    # only what names several settings may be refused
    assert not {"H-M", "Hall"} & set(refused), refused


@settings(max_examples=60)
@given(st.integers(0, len(GROUPS) - 1), st.integers(0, 2**32 - 1), st.integers(3, 6), st.booleans())
def test_any_random_crystal_is_read_as_it_was_written_or_refused(index, seed, digits, formula):
    group, rng = GROUPS[index], np.random.default_rng(seed)
    if (made := random_crystal(group, rng)) is None:
        return
    for _, name in names_of(group):
        try:
            read = parse_cif(written(*made, digits, name, None, formula))
        except InputError:
            continue
        assert is_same(read, made[2])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_what_pymatgen_writes_is_read_as_it_was_written_or_refused(part):
    """With its operations, and with the symbol and the number that it names, in 3 to 6 digits."""
    refused = 0
    for number in range(1 + part, 231, PARTS):
        group = gemmi.find_spacegroup_by_number(number)
        rng = np.random.default_rng(number)
        made = None
        while made is None or len(made[2]) > 100:
            made = random_crystal(group, rng)
        structure = made[2].to_pymatgen()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crystal = Crystal.from_any(SpacegroupAnalyzer(structure, symprec=1e-3).get_refined_structure())
            text = str(CifWriter(structure, symprec=1e-3, significant_figures=int(rng.integers(3, 7))))
        bare = re.sub(r"loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n( .*\n)+", "", text)
        assert "equiv_pos" not in bare
        for file in (text, bare):
            try:
                read = parse_cif(file)
            except InputError:
                refused += file is text
                continue
            assert is_same(read, crystal), f"group {number}:\n{file}"
    assert refused == 0, "files that list their operations"
