"""Made-up crystals: the same for ever, made in any order, and sane."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Element, Structure

from lazygraph.coordinates import to_cartesian, to_fractional
from lazygraph.crystal import Crystal
from lazygraph.errors import UnreadableInput
from lazygraph.sources import prototypes
from lazygraph.sources.base import Cut, Source
from lazygraph.sources.prototypes import PrototypesSource, is_uri

NOWHERE = Path("no spool is written")


def make(uri: str, start: int, count: int):
    return list(PrototypesSource(uri).read(Cut(start, start, count), NOWHERE))


def content(entry) -> tuple:
    crystal = entry.crystal
    return entry.id, crystal.lattice.tobytes(), crystal.frac_coords.tobytes(), crystal.numbers.tobytes(), entry.labels


@pytest.fixture(scope="module")
def many():
    return make("prototypes:3000?seed=3", 0, 3000)


def test_the_scan_tells_the_number_and_marks_positions():
    source = PrototypesSource("prototypes:2500?seed=7")
    scan = source.scan(1000, NOWHERE)
    assert isinstance(source, Source)
    assert (scan.entries, scan.marks, scan.notes) == (2500, (0, 1000, 2000), ())
    assert [(file.name, file.size) for file in scan.files] == [("prototypes:2500?seed=7", 0)]
    assert not NOWHERE.exists()


def test_the_hash_names_the_prototypes_and_the_parameters():
    uris = ["prototypes:10", "prototypes:11", "prototypes:10?seed=1"]
    hashes = [PrototypesSource(uri).scan(5, NOWHERE).files[0].sha256 for uri in uris]
    assert len(set(hashes)) == 3
    assert all(len(sha256) == 64 for sha256 in hashes)
    assert PrototypesSource("prototypes:10?seed=0").scan(5, NOWHERE).files[0].sha256 == hashes[0]


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 10**9 - 5), count=st.integers(1, 5), seed=st.integers(0, 2**63))
def test_any_range_is_made_without_the_others(start, count, seed):
    uri = f"prototypes:{start + count}?seed={seed}"
    together = make(uri, start, count)
    alone = [make(uri, start + i, 1)[0] for i in reversed(range(count))][::-1]
    assert list(map(content, together)) == list(map(content, alone))
    assert [entry.id for entry in together] == [f"prototype-{start + i:07d}" for i in range(count)]


def test_crystals_of_several_batches_are_made_as_alone():
    count = 2 * prototypes.BATCH + 3
    together = make(f"prototypes:{count + 5}", 5, count)
    alone = [make(f"prototypes:{count + 5}", 5 + i, 1)[0] for i in range(count)]
    assert list(map(content, together)) == list(map(content, alone))


def test_numbers_of_a_batch_have_the_bits_of_the_stated_arithmetic():
    rng = np.random.default_rng(0)
    lattices, frac, counts = rng.normal(size=(7, 3, 3)), rng.normal(size=(7, 3, 3)), np.array([3, 1, 4, 1, 5, 9, 2])
    cart = rng.normal(size=(counts.sum(), 3))
    together = prototypes._to_cartesian(frac, lattices)
    assert together.tobytes() == np.stack([*map(to_cartesian, frac, lattices)]).tobytes()
    parts = np.split(cart, counts.cumsum()[:-1])
    found = prototypes._to_fractional(cart, lattices, np.repeat(np.arange(7), counts))
    assert found.tobytes() == np.concatenate([*map(to_fractional, parts, lattices)]).tobytes()


def test_what_one_crystal_of_a_batch_meets_is_its_error_alone(monkeypatch):
    """As memory that is short, or a limit of time."""
    usual = prototypes._make

    def failing(seed, positions):
        if 70 in positions:
            raise MemoryError
        return usual(seed, positions)

    monkeypatch.setattr(prototypes, "_make", failing)
    entries = make("prototypes:200", 0, 200)
    monkeypatch.undo()
    expected = make("prototypes:200", 0, 200)
    assert isinstance(entries[70].crystal, UnreadableInput)
    assert "MemoryError" in str(entries[70].crystal)
    assert [content(one) for one in entries[:70] + entries[71:]] == [
        content(one) for one in expected[:70] + expected[71:]
    ]


def test_the_same_uri_gives_the_same_bytes_and_another_seed_gives_others():
    first, second = (list(map(content, make("prototypes:50?seed=1", 0, 50))) for _ in range(2))
    assert first == second
    other = list(map(content, make("prototypes:50?seed=2", 0, 50)))
    assert not any(a[1:] == b[1:] for a, b in zip(first, other, strict=True))


def test_the_number_asked_for_does_not_change_the_crystals():
    assert content(make("prototypes:10?seed=5", 9, 1)[0]) == content(make("prototypes:999?seed=5", 9, 1)[0])


def test_crystals_do_not_change_between_releases():
    """A dataset that was made with this URI can be made again; if this fails, ``RECIPE`` must be raised."""
    if hashlib.sha256(prototypes._table()).hexdigest() != TABLE:
        pytest.skip("the installed pymatgen carries other prototypes than those of 2026.10")
    crystals = [entry.crystal for entry in make("prototypes:4?seed=0", 0, 4)]
    text = ";".join(f"{c.lattice.tolist()}{c.frac_coords.tolist()}{c.numbers.tolist()}" for c in crystals)
    assert prototypes.RECIPE == 1
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


def test_every_prototype_is_drawn_about_equally_often(many):
    """Sizes of the crystals against sizes of the prototypes: the distributions agree within four standard errors."""
    sizes = np.array([len(p.frac_coords) for p in prototypes._prototypes()])
    assert len(sizes) == 288
    drawn = np.array([len(entry.crystal) for entry in many])
    assert set(drawn) <= set(sizes)
    assert abs(drawn.mean() - sizes.mean()) < 4 * sizes.std() / np.sqrt(len(drawn))


def test_elements_are_distinct_and_no_noble_gases(many):
    drawn = set()
    for entry in many:
        drawn |= set(entry.crystal.numbers.tolist())
    assert drawn == set(range(1, 95)) - {2, 10, 18, 36, 54, 86}


def test_a_prototype_keeps_its_stoichiometry(many):
    patterns = {tuple(sorted(np.unique(p.kinds, return_counts=True)[1].tolist())) for p in prototypes._prototypes()}
    found = {tuple(sorted(np.unique(entry.crystal.numbers, return_counts=True)[1].tolist())) for entry in many}
    assert found == patterns


def test_no_two_atoms_are_closer_than_is_sane(many):
    """By pymatgen's distances, which know nothing of ours."""
    for entry in many[::5]:
        crystal = entry.crystal
        structure = crystal.to_pymatgen()
        distances = structure.distance_matrix
        if len(crystal) > 1:
            assert distances[np.triu_indices(len(crystal), 1)].min() > 0.7
        assert min(structure.lattice.abc) > 0.7


def test_the_least_distance_of_a_prototype_is_that_of_pymatgen():
    for prototype in prototypes._prototypes()[::4]:
        structure = Structure(prototype.lattice, prototype.kinds + 1, prototype.frac_coords)
        distances = structure.get_neighbor_list(prototype.closest + 0.5)[3]
        assert distances.min() == pytest.approx(prototype.closest, abs=1e-9)


def test_volumes_are_plausible(many):
    volumes = np.array([entry.labels["volume_per_atom"] for entry in many])
    assert 15 < np.median(volumes) < 25
    assert volumes.min() > 6
    assert volumes.max() < 100


def test_numbers_are_rounded_to_eight_decimals(many):
    for entry in many[::50]:
        for array in (entry.crystal.lattice, entry.crystal.frac_coords):
            assert array.tolist() == [[round(x, 8) for x in row] for row in array.tolist()]


def test_labels_are_those_of_pymatgen(many):
    """Atomic weights of gemmi and pymatgen differ in the last digits that standards bodies revise."""
    for entry in many[::50]:
        structure = entry.crystal.to_pymatgen()
        assert entry.labels.keys() == {"density", "volume_per_atom", "mean_atomic_number"}
        assert entry.labels["density"] == pytest.approx(structure.density, rel=2e-3) or any(
            z in {43, 61} or z > 83 for z in entry.crystal.numbers
        )
        assert entry.labels["volume_per_atom"] == pytest.approx(structure.volume / len(structure), rel=1e-9)
        assert entry.labels["mean_atomic_number"] == np.mean([Element(s.specie.symbol).Z for s in structure])
        assert all(type(value) is float for value in entry.labels.values())


def test_every_entry_is_a_crystal(many):
    assert all(isinstance(entry.crystal, Crystal) for entry in many)


def test_the_source_travels_as_its_uri():
    source = PrototypesSource("prototypes:5?seed=2")
    assert pickle.loads(pickle.dumps(source)) == source
    assert repr(source) == "PrototypesSource(path='prototypes:5?seed=2')"


@pytest.mark.parametrize(
    "uri", ["prototypes:", "prototypes:x", "prototypes:-1", "prototypes:5?sed=1", "prototypes:5?seed=a"]
)
def test_a_uri_that_says_something_else_is_refused(uri):
    assert is_uri(uri)
    with pytest.raises(UnreadableInput, match="required: prototypes:N or prototypes:N"):
        PrototypesSource(uri).scan(10, NOWHERE)


def test_zero_crystals_are_none():
    scan = PrototypesSource("prototypes:0").scan(10, NOWHERE)
    assert (scan.entries, scan.marks) == (0, ())


def test_paths_are_no_uris():
    assert not is_uri("prototypes.json")
    assert not is_uri("/data/prototypes:5")


# sha256 of the prototypes of pymatgen 2026.10, and of the first four crystals of seed 0.
TABLE = "6ff6b682d41889f2553a37a64bd12e8358c0b3e708973df3a76195cf20af76fe"
GOLDEN = "49aa53173a1aee8872e03d494aff45b19e89bd23cbe5a823bcaeb3e570174a8f"
