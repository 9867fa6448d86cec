"""Samples: fair, the same for the same seed, and written down so that a change is noticed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import cdist

import lazygraph as lg
from lazygraph.errors import ContentMismatch, CorruptDataset, InputError, UnknownId, UnsupportedFormat
from lazygraph.format.strict_json import canonical_json
from lazygraph.loading.samples import farthest_points, random_sample, strata_of, stratified_sample


@pytest.fixture
def ds(prototypes):
    return lg.LazyGraphDataset(prototypes, target="density")


# ---- which graphs ----


@given(st.integers(1, 60), st.data(), st.integers(0, 9))
def test_a_random_sample_has_n_different_positions(total, data, seed):
    n = data.draw(st.integers(1, total))
    found = random_sample(total, n, seed)
    assert len(set(found.tolist())) == n
    assert found.tolist() == sorted(found.tolist())
    assert found.min() >= 0
    assert found.max() < total
    assert found.tolist() == random_sample(total, n, seed).tolist()


def test_every_graph_is_equally_likely_by_chi_square():
    for sample in (lambda s: random_sample(30, 6, s), lambda s: stratified_sample(np.arange(30) // 4, 6, s)):
        counts = np.bincount(np.concatenate([sample(seed) for seed in range(1000)]), minlength=30)
        chi2 = ((counts - 200) ** 2 / 200).sum() / (1 - 6 / 30)  # without replacement
        assert stats.chi2.sf(chi2, 29) > 1e-3


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60), st.data(), st.integers(0, 9))
def test_every_stratum_has_its_share_rounded_down_or_up(strata, data, seed):
    strata = np.unique(strata, return_inverse=True)[1]
    n = data.draw(st.integers(1, len(strata)))
    found = stratified_sample(strata, n, seed)
    assert len(set(found.tolist())) == n
    got, sizes = np.bincount(strata[found], minlength=strata.max() + 1), np.bincount(strata)
    quotas = sizes * n / len(strata)
    assert (np.abs(got - quotas) < 1).all()


def test_of_strata_of_one_graph_each_is_equally_likely():
    counts = np.zeros(40)
    for seed in range(800):
        counts[stratified_sample(np.arange(40), 4, seed)] += 1
    assert stats.chi2.sf(((counts - 80) ** 2 / 80).sum() / (1 - 4 / 40), 39) > 1e-3


POINTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 25), st.integers(1, 3)),
    elements=st.floats(-100, 100, width=16) | st.integers(-2, 2).map(float),
)


@given(POINTS, st.data(), st.integers(0, 9))
def test_each_point_is_the_farthest_from_all_before_it(points, data, seed):
    n = data.draw(st.integers(1, len(points)))
    found = farthest_points(points, n, seed).tolist()
    assert len(set(found)) == n
    assert found == farthest_points(points, len(points), seed)[:n].tolist()
    apart = cdist(points, points, "sqeuclidean")
    for k in range(1, n):
        nearest = apart[:, found[:k]].min(axis=1)
        nearest[found[:k]] = -1
        assert nearest[found[k]] >= nearest.max() * (1 - 1e-9)


def test_strata_of_numbers_texts_and_missing_values():
    columns = {
        "few": np.array([2.0, np.nan, 1.0, 2.0]),
        "many": np.append(np.arange(1000.0), [np.nan] * 5),
        "whole": np.arange(100),
        "text": np.array(["b", "", "a", "b"]),
        "flag": np.array([True, False]),
        "formula": np.array(["Fe2O3", "FeO", "Si"]),
        "vector": np.zeros((4, 3)),
    }
    assert strata_of("few", columns).tolist() == [1, 2, 0, 1]
    assert np.bincount(strata_of("many", columns)).tolist() == [100] * 10 + [5]
    assert np.bincount(strata_of("whole", columns)).tolist() == [10] * 10
    assert strata_of("text", columns).tolist() == [2, 0, 1, 2]
    assert strata_of("flag", columns).tolist() == [1, 0]
    assert strata_of("chemical_system", columns).tolist() == [0, 0, 1]
    with pytest.raises(InputError, match="the column 'vector' has 3 values per graph; required: one"):
        strata_of("vector", columns)


# ---- samples of a dataset ----


def test_a_sample_is_the_same_for_the_same_seed_and_can_be_loaded(ds):
    sample = ds.sample(50, seed=3)
    assert len(sample) == 50
    assert sample.ids.tolist() == ds.sample(50, seed=3).ids.tolist()
    assert sample.ids.tolist() != ds.sample(50, seed=4).ids.tolist()
    assert (np.diff(sample.indices()) > 0).all()
    assert sum(batch.num_graphs for batch in lg.loader(sample, 16)) == 50
    assert "sample  random, n 50, of 300, seed 3" in repr(sample)
    assert "sample" not in repr(sample[:10])
    assert "random, n 50" in sample._repr_html_()
    assert "sample" not in ds._repr_html_()


def test_a_sample_has_the_share_of_every_chemical_system(ds):
    formulas = ds.columns["formula"]
    systems = np.array(["-".join(sorted(re.findall("[A-Z][a-z]?", formula))) for formula in formulas])
    sample = ds.sample(60, seed=1, stratify="chemical_system")
    names, sizes = np.unique(systems, return_counts=True)
    got = [(systems[sample.indices()] == name).sum() for name in names]
    assert (np.abs(np.array(got) - sizes * 60 / 300) < 1).all()
    by_bins = ds.sample(60, seed=1, stratify="density")
    edges = np.quantile(ds.columns["density"], np.arange(1, 10) / 10)
    assert np.abs(np.bincount(np.searchsorted(edges, by_bins.columns["density"]), minlength=10) - 6).max() <= 1


def test_the_farthest_graphs_keep_the_order_of_their_choice(ds):
    matrix = np.stack([ds.columns["density"], ds.columns["n_atoms"]], axis=1)
    sample = ds.sample(20, seed=2, farthest=matrix)
    assert sample.indices().tolist() == farthest_points(matrix, 20, 2).tolist()
    assert ds.sample(9, seed=2, farthest=torch.tensor(matrix)).ids.tolist() == sample.ids[:9].tolist()
    part = ds.where("n_atoms < 10")
    of_part = part.sample(5, farthest=matrix[part.indices()])
    assert np.isin(of_part.indices(), part.indices()).all()
    assert "farthest, n 20" in repr(sample)
    assert "300 x 2, xxh3" in repr(sample)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 301}, "found a sample of 301 graphs; required: at most 300, the graphs"),
        ({"n": 0}, "found n=0; required: a whole number, at least 1"),
        ({"n": 2.5}, "found n=2.5"),
        ({"n": 5, "seed": -1}, "found seed=-1"),
        ({"n": 5, "stratify": "gap"}, "unknown column 'gap'"),
        ({"n": 5, "stratify": "density", "farthest": np.zeros((300, 2))}, "stratify cannot be used with farthest"),
        (
            {"n": 5, "farthest": np.zeros((299, 2))},
            r"found a matrix of shape \(299, 2\) and type float64; required: nu",
        ),
        ({"n": 5, "farthest": np.zeros(300)}, r"required: numbers of shape \(300, d\), one row for each graph"),
        ({"n": 5, "farthest": np.full((300, 1), "x")}, "required: numbers of shape"),
        ({"n": 5, "farthest": np.full((300, 2), np.nan)}, "row 0 of the matrix is not finite"),
    ],
)
def test_samples_that_cannot_be_are_refused(ds, options, message):
    with pytest.raises(InputError, match=message):
        ds.sample(**options)


# ---- written down ----


@pytest.mark.parametrize("options", [{}, {"stratify": "chemical_system"}, {"farthest": True}], ids=str)
def test_a_saved_sample_comes_back_with_rule_order_and_the_same_bytes(ds, tmp_path, options):
    if options.get("farthest"):
        options = {"farthest": np.stack([ds.columns["density"]] * 2, axis=1)}
    sample = ds.sample(30, seed=5, **options)
    sample.save_subset(tmp_path / "a.json")
    ds.sample(30, seed=5, **options).save_subset(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = ds.load_subset(tmp_path / "a.json")
    assert again.ids.tolist() == sample.ids.tolist()
    assert repr(again) == repr(sample)
    assert again.digest() == sample.digest()
    assert set(json.loads((tmp_path / "a.json").read_text())) == {
        "format", "version", "content_id", "graphs", "digest", "rule", "ids", "sha256"
    }  # fmt: skip


def test_any_part_can_be_saved(ds, tmp_path):
    part = ds.where("n_atoms < 6")[::-1]
    part.save_subset(tmp_path / "part.json")
    assert ds.load_subset(tmp_path / "part.json").ids.tolist() == part.ids.tolist()
    assert "sample" not in repr(ds.load_subset(tmp_path / "part.json"))
    with pytest.raises(UnknownId, match="but not in this subset"):
        ds.where("n_atoms >= 6").load_subset(tmp_path / "part.json")


def test_a_sample_is_found_in_a_dataset_that_grew_and_not_in_one_that_changed(ds, tmp_path):
    grown = tmp_path / "grown.lg"
    shutil.copytree(ds.path, grown)
    sample = ds.sample(20, seed=1)
    sample.save_subset(tmp_path / "sample.json")
    crystal = lg.Crystal(np.eye(3) * 3, [[0, 0, 0]], [84])
    lg.append(grown, [("new", crystal, {"density": 1.0})], workers=1, progress=False)
    larger = lg.LazyGraphDataset(grown)
    assert larger.content_id != ds.content_id
    assert larger.load_subset(tmp_path / "sample.json").ids.tolist() == sample.ids.tolist()
    lg.remove(grown, [sample.ids[3]], reason="a test")
    with pytest.raises(UnknownId, match=f"no graph in .* has the id '{sample.ids[3]}'"):
        lg.LazyGraphDataset(grown).load_subset(tmp_path / "sample.json")
    lg.write("prototypes:300?seed=2", tmp_path / "other.lg", graph="comformer", workers=1, progress=False)
    with pytest.raises(
        ContentMismatch, match="have the digest .* required: .* Some were changed, or have another recipe"
    ):
        lg.LazyGraphDataset(tmp_path / "other.lg").load_subset(tmp_path / "sample.json")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda text: text.replace("prototype-0000", "prototype-0001", 1), CorruptDataset, "was changed"),
        (lambda text: text[:-5], CorruptDataset, "the checksum at the end is missing or wrong"),
        (lambda text: "", CorruptDataset, "the checksum at the end is missing or wrong"),
        (lambda text: _signed({"format": "lazygraph"}), CorruptDataset, "the key 'format' is 'lazygraph'"),
        (lambda text: _signed({"format": "lazygraph subset"}), CorruptDataset, "cannot be read as a subset: KeyError"),
        (lambda text: _signed([1]), CorruptDataset, "required|cannot be read"),
        (lambda text: _changed(text, version=2), UnsupportedFormat, "version 2 of a subset; this release reads 1"),
        (lambda text: _changed(text, graphs=2), CorruptDataset, "it has 20 ids; required: 2"),
        (lambda text: _changed(text, ids=[1]), CorruptDataset, "1 where a text is required"),
        (lambda text: _changed(text, digest="x"), CorruptDataset, "'x' where a sha256 is required"),
        (lambda text: _changed(text, rule=[]), CorruptDataset, "where an object is required"),
    ],
)
def test_a_file_that_was_changed_is_refused(ds, tmp_path, change, error, message):
    path = tmp_path / "sample.json"
    ds.sample(20).save_subset(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(error, match=message) as caught:
        ds.load_subset(path)
    assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError):
        ds.load_subset(tmp_path / "none.json")


def _signed(body):
    prefix = canonical_json(body)[:-1]
    return (prefix + b',"sha256":"' + hashlib.sha256(prefix).hexdigest().encode() + b'"}\n').decode()


def _changed(text, **values):
    body = json.loads(text)
    del body["sha256"]
    return _signed(body | values)


def test_a_sample_is_a_member_of_a_mix(ds):
    mix = lg.mix({"pilot": ds.sample(20), "rest": ds[:100]}, replay={"pilot": 5})
    assert mix.visits() == {"pilot": 5, "rest": 100}
    assert sum(batch.num_graphs for batch in lg.loader(mix, 25)) == 105
