"""The prototype of a crystal: the same however the crystal is written down, and another for another structure type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.format.manifest import Manifest
from lazygraph.writing import prototype_column
from lazygraph.writing.edit import set_labels, set_splits
from lazygraph.writing.prototypes import MAX_ATOMS, _anonymous, _shortened, prototype_of

CUBE = np.eye(3)
FACES = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
HEXAGON = np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1.62]])
RUTILE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.3, 0.3, 0], [0.7, 0.7, 0], [0.2, 0.8, 0.5], [0.8, 0.2, 0.5]]
# Name -> lattice, A, places, and a letter for each place.
TYPES = {
    "AB_cF8_225_4.-3mm_4.-3mm": (5.6 * FACES, [[0, 0, 0], [0.5, 0.5, 0.5]], "ab"),
    "AB_cF8_216_4.-34m_4.-34m": (5.4 * FACES, [[0, 0, 0], [0.25, 0.25, 0.25]], "ab"),
    "AB_cP2_221_1.-3mm_1.-3mm": (4.1 * CUBE, [[0, 0, 0], [0.5, 0.5, 0.5]], "ab"),
    "ABC3_cP5_221_1.-3mm_1.-3mm_3./4mmm": (
        3.9 * CUBE,
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        "abccc",
    ),
    "AB2_tP6_136_2.mmm_4.2mm": (np.diag([4.6, 4.6, 2.96]), RUTILE, "aabbbb"),
    "AB_hP4_186_2.3m_2.3m": (
        3.8 * HEXAGON,
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.37], [2 / 3, 1 / 3, 0.87]],
        "aabb",
    ),
    "A_cF8_227_8.-34m": (5.4 * FACES, [[0, 0, 0], [0.25, 0.25, 0.25]], "aa"),
    "A_aP1_2_1.-1": (np.array([[3, 0, 0], [0.4, 3.5, 0], [0.7, 0.3, 4.1]]), [[0.1, 0.2, 0.3]], "a"),
}


def crystal(name, elements=(11, 17, 8)):
    lattice, places, letters = TYPES[name]
    return lg.Crystal(lattice, places, [elements["abc".index(letter)] for letter in letters])


def rotation(angles):
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = {0, 1, 2} - {axis}
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = np.sin(angle), -np.sin(angle)
        out = out @ turn
    return out


def repeated(lattice, places, numbers, times):
    shifts = np.array(list(np.ndindex(*times)))
    new = ((np.array(places)[None] + shifts[:, None]) / times).reshape(-1, 3)
    return np.array(times)[:, None] * lattice, new, np.tile(numbers, len(shifts))


@pytest.mark.parametrize("name", TYPES)
def test_each_structure_type_has_its_own_name(name):
    assert prototype_of(crystal(name), 0.01) == (name, None)


@given(
    st.sampled_from(list(TYPES)),
    st.permutations([3, 8, 17, 26, 57]),
    st.tuples(*[st.integers(1, 2)] * 3),
    st.tuples(*[st.floats(0, 6.3)] * 3),
    st.tuples(*[st.floats(-2, 2)] * 3),
    st.sampled_from([np.eye(3, dtype=int), [[1, 1, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_a_prototype_does_not_depend_on_how_a_crystal_is_written(name, elements, times, angles, origin, basis, random):
    lattice, places, letters = TYPES[name]
    numbers = np.array([elements["abc".index(letter)] for letter in letters])
    lattice, places, numbers = repeated(lattice, places, numbers, times)
    # Another basis of the same lattice: rows of an integer matrix of determinant 1.
    lattice, places = np.array(basis) @ lattice, places @ np.linalg.inv(basis)
    order = random.sample(range(len(numbers)), len(numbers))
    written = lg.Crystal(lattice @ rotation(angles), (places + origin)[order], numbers[order])
    assert prototype_of(written, 0.01) == (name, None)


def test_crystals_without_symmetry_have_the_name_of_their_formula():
    salt = crystal("AB_cP2_221_1.-3mm_1.-3mm")
    slab = lg.Crystal(salt.lattice, salt.frac_coords, salt.numbers, (True, True, False))
    assert prototype_of(slab, 0.01) == ("AB", "they are not periodic in all directions")
    lattice, places, numbers = repeated(salt.lattice, salt.frac_coords, salt.numbers, (7, 7, 6))
    assert prototype_of(lg.Crystal(lattice, places, numbers), 0.01) == ("AB", f"they have more than {MAX_ATOMS} atoms")
    same = lg.Crystal(salt.lattice, [[0, 0, 0], [0, 0, 0]], [11, 11])
    text, problem = prototype_of(same, 0.01)
    assert text == "A"
    assert problem.startswith("spglib")


def test_anonymous_formulas():
    pymatgen = pytest.importorskip("pymatgen.core")
    for formula in ("Fe2O3", "BaTiO3", "Mg2SiO4", "C", "LiNi0.5Mn1.5O4"):
        composition = pymatgen.Composition(formula).get_integer_formula_and_factor()[0]
        composition = pymatgen.Composition(composition)
        amounts = [int(amount) for amount in composition.values()]
        assert _anonymous(amounts) == composition.anonymized_formula
    assert _anonymous(range(1, 29)).endswith("Z26Aa27Ab28")


def test_texts_that_are_too_long_end_in_a_hash():
    assert _shortened("a" * 255) == "a" * 255
    long, other = _shortened("a" * 256), _shortened("a" * 257)
    assert len(long) == 233
    assert long[:201] == other[:201] == "a" * 200 + "-"
    assert long != other


# ---- datasets ----


def items(begin, end):
    """Rock salts, caesium chlorides and perovskites of many elements."""
    names = [name for name in TYPES if name.startswith(("AB_c", "ABC3"))]
    return [
        (f"id-{n}", crystal(names[n % len(names)], (3 + n % 5, 17 - n % 3, 37)), {"e": float(n)})
        for n in range(begin, end)
    ]


@pytest.fixture
def forty(tmp_path, write):
    write(items(0, 40), tmp_path / "x.lg")
    return tmp_path / "x.lg"


def split_of(path, column="split"):
    columns = lg.LazyGraphDataset(path).columns
    out = {}
    for name, split in zip(columns["prototype"].tolist(), columns[column].tolist(), strict=True):
        out.setdefault(name, set()).add(split)
    return out


def test_prototypes_stay_together_and_added_crystals_follow(forty, append):
    report = set_splits(forty, (0.5, 0.25, 0.25), group="prototype", workers=1)
    assert report.notes == ()
    column = Manifest.load(forty).columns["prototype"]
    assert (column.role, column.rule) == ("category", {"symprec": 0.01})
    assert "symprec 0.01 A" in column.description
    before = split_of(forty)
    assert set(before) == {name for name in TYPES if name.startswith(("AB_c", "ABC3"))}
    assert all(len(found) == 1 for found in before.values())
    report = append(forty, items(40, 60))
    assert report.notes == ()
    assert split_of(forty) == before
    assert Manifest.load(forty).columns["prototype"].rule == {"symprec": 0.01}
    computed = [prototype_of(one, 0.01).text for _, one, _ in items(0, 60)]
    assert lg.LazyGraphDataset(forty).columns["prototype"].tolist() == computed


@pytest.mark.slow
def test_workers_compute_the_same_prototypes(forty, tmp_path, write, monkeypatch):
    monkeypatch.setattr(prototype_column, "LEAST", 8)
    write(items(0, 40), tmp_path / "y.lg")
    done = []
    set_splits(forty, (0.5, 0.25, 0.25), group="prototype", workers=1)
    set_splits(tmp_path / "y.lg", (0.5, 0.25, 0.25), group="prototype", workers=2, progress=done.append)
    assert sum(done) == 40
    files = [{name: c.file for name, c in Manifest.load(p).columns.items()} for p in (forty, tmp_path / "y.lg")]
    assert files[0] == files[1]


def test_crystals_without_a_prototype_are_told(tmp_path, write, append):
    slabs = [
        (f"slab-{n}", lg.Crystal(np.eye(3) * (4 + n), [[0, 0, 0]], [26], (True, True, False)), {}) for n in range(3)
    ]
    write([*items(0, 9), *slabs[:2]], tmp_path / "x.lg", graph="none")
    report = set_splits(tmp_path / "x.lg", (0.5, 0.25, 0.25), group="prototype", workers=1)
    (note,) = report.notes
    assert note.startswith("2 inputs have their anonymised formula alone as prototype, because they are not periodic")
    assert "'slab-0' (A)" in note
    report = append(tmp_path / "x.lg", slabs[2:])
    assert report.notes[0].startswith("1 inputs have their anonymised formula alone as prototype")


def test_another_symprec_computes_again_unless_splits_follow_it(forty):
    set_splits(forty, (0.5, 0.25, 0.25), group="prototype", name="by_type", workers=1)
    set_splits(forty, folds=3, group="prototype", symprec=0.01, workers=1)
    with pytest.raises(
        lg.InputError, match=r"with symprec=0.01, and the splits by_type, fold_0, fold_1, fold_2 depend"
    ):
        set_splits(forty, (0.5, 0.25, 0.25), group="prototype", symprec=0.1)
    for name in ("by_type", "fold_0", "fold_1", "fold_2"):
        set_splits(forty, (0.5, 0.25, 0.25), name=name)
    set_splits(forty, (0.5, 0.25, 0.25), group="prototype", symprec=0.1, workers=1)
    assert Manifest.load(forty).columns["prototype"].rule == {"symprec": 0.1}
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(lg.InputError, match="required: a distance greater than 0 A"):
            set_splits(forty, (0.5, 0.25, 0.25), group="prototype", symprec=wrong)


def test_a_label_of_the_dataset_comes_before_computed_prototypes(forty, append):
    set_labels(forty, {f"id-{n}": {"prototype": "AB"[n % 2]} for n in range(40)})
    report = set_splits(forty, (0.5, 0.5, 0), group="prototype")
    assert report.notes == ("the label 'prototype' is the dataset's own, and was not computed",)
    assert Manifest.load(forty).columns["prototype"].rule is None
    with pytest.raises(lg.InputError, match="has a label 'prototype' of its own, for which symprec"):
        set_splits(forty, (0.5, 0.5, 0), group="prototype", symprec=0.1)


def test_a_computed_label_that_is_replaced_is_told(forty):
    set_splits(forty, (0.5, 0.5, 0), group="prototype", workers=1)
    report = set_labels(forty, {f"id-{n}": {"prototype": "AB"[n % 2]} for n in range(40)})
    assert report.notes == (
        (
            "the splits split follow the earlier values of 'prototype', and stay as they are; 'lazygraph split' splits "
            "the dataset again"
        ),
        "the label 'prototype' was computed, and is not computed any more for added graphs",
    )
    assert Manifest.load(forty).columns["prototype"].rule is None


def test_values_of_a_source_for_computed_prototypes_are_told(forty, append):
    set_splits(forty, (0.5, 0.5, 0), group="prototype", workers=1)
    name, one, labels = items(40, 41)[0]
    report = append(forty, [(name, one, {**labels, "prototype": "rock salt"})])
    assert "1 inputs have another value under 'prototype', which the dataset computes" in report.notes[0]


def test_copies_keep_the_rule_of_prototypes_where_all_have_it(forty, tmp_path, write):
    set_splits(forty, (0.5, 0.5, 0), group="prototype", workers=1)
    lg.subset(forty, tmp_path / "part.lg", where="e < 10")
    assert Manifest.load(tmp_path / "part.lg").columns["prototype"].rule == {"symprec": 0.01}
    write(lg.LazyGraphDataset(forty), tmp_path / "again.lg", graph="cgcnn")
    assert Manifest.load(tmp_path / "again.lg").columns["prototype"].rule == {"symprec": 0.01}
    write(items(50, 60), tmp_path / "other.lg")
    report = lg.concat([forty, tmp_path / "other.lg"], tmp_path / "both.lg")
    assert Manifest.load(tmp_path / "both.lg").columns["prototype"].rule is None
    assert any("the prototypes of the datasets were not all computed in the same way" in note for note in report.notes)
    lg.remove(forty, ["id-3"], reason="of no use")
    assert Manifest.load(forty).columns["prototype"].rule == {"symprec": 0.01}


def test_ready_made_graphs_have_no_prototypes(tmp_path):
    with lg.GraphWriter(tmp_path / "x.lg") as writer:
        for n in range(10):
            writer.add({"z": np.ones(n + 1)})
    with pytest.raises(lg.InputError, match="are ready-made, without crystals; give a dataset of crystals"):
        set_splits(tmp_path / "x.lg", (0.8, 0.1, 0.1), group="prototype")


def test_something_else_of_this_name_is_no_prototype(forty):
    set_splits(forty, (0.5, 0.5, 0), name="prototype")
    with pytest.raises(lg.InputError, match="something else in the dataset has the name 'prototype'"):
        set_splits(forty, (0.5, 0.5, 0), group="prototype")


def test_a_new_dataset_has_no_prototypes_yet(tmp_path, write):
    with pytest.raises(lg.InputError, match="'lazygraph split --group prototype' computes them for a finished dataset"):
        write(items(0, 9), tmp_path / "x.lg", split=(0.8, 0.1, 0.1), group="prototype")


def test_no_worker_cannot_compute_prototypes(write, tmp_path, salt):
    write([("a", salt(), {}), ("b", salt(1), {})], tmp_path / "a.lg")
    for workers in (0, -1):
        with pytest.raises(lg.InputError, match="required: at least 1"):
            lg.set_splits(tmp_path / "a.lg", (0.5, 0.25, 0.25), group="prototype", workers=workers)
