"""Records whose checksums are right and whose content is not that of crystals: refused, with row and id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import CorruptDataset
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Field, Schema
from lazygraph.graphs import vectors
from lazygraph.graphs.crystal_records import check_crystals
from lazygraph.graphs.vectors import EDGE_VECTORS, EdgesOfBatch, batch_positions, batch_values, first_invalid


class Forged:
    """The records of a dataset, one edge of the graph in row 7 of which ends where it should not."""

    def __init__(self, records, end):
        self.records, self.end = records, end

    def read_batch(self, rows):
        records = self.records.read_batch(rows)
        if 7 not in rows:
            return records
        place = rows.tolist().index(7)
        edges = records.fields["edge_index"].copy()
        first = records.counts["edge"][:place].sum() + 3
        edges[1, first] = records.counts["node"][:place].sum() + self.end
        return RecordBatch(records.counts, {**records.fields, "edge_index": edges})


@pytest.mark.parametrize("view", ["pyg", "comformer", "alignn"])
@pytest.mark.parametrize("beyond", [-1, 0, 5000])
def test_an_edge_that_leaves_its_crystal_is_named(prototypes, view, beyond, tmp_path):
    if view == "alignn":
        lg.write("prototypes:20?seed=1", tmp_path / "a.lg", graph="alignn", workers=1, progress=False)
        prototypes = tmp_path / "a.lg"
    ds = lg.LazyGraphDataset(prototypes, view=view)
    n_atoms = int(ds.columns["n_atoms"][7])
    ds.reader._records = Forged(ds.reader._records, beyond if beyond < 0 else n_atoms + beyond)
    told = rf"row 7, id '{ds.ids[7]}': an edge ends at an atom that the crystal does not have"
    with pytest.raises(CorruptDataset, match=told):
        ds[7]
    with pytest.raises(CorruptDataset, match=told):
        ds.batch([3, 7, 5])


@st.composite
def edges(draw):
    n_node = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    ends, n_edge, first = [], [], 0
    for n in n_node:
        edges = draw(st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=5)) if n else []
        ends.append(np.array(edges, dtype=np.int64).reshape(-1, 2).T + first)
        n_edge.append(len(edges))
        first += n
    return np.concatenate(ends, axis=1), np.array(n_edge), np.array(n_node)


@given(edges(), st.data())
def test_stray_edges_are_found_in_loops_and_in_numpy(drawn, data):
    ends, n_edge, n_node = drawn
    narrow = ends.astype(np.int32)
    assert first_invalid(narrow, n_edge, n_node) is None
    assert first_invalid(ends.astype(np.int64), n_edge, n_node) is None
    if ends.size:
        row, edge = data.draw(st.integers(0, 1)), data.draw(st.integers(0, ends.shape[1] - 1))
        graph = int(np.searchsorted(np.cumsum(n_edge), edge, side="right"))
        begin = int(n_node[:graph].sum())
        for value in (begin - 1, begin + int(n_node[graph]), -(2**31), 2**31 - 1):
            narrow[row, edge] = value
            assert first_invalid(narrow, n_edge, n_node) == graph
            assert first_invalid(narrow.astype(np.int64), n_edge, n_node) == graph


def test_counts_that_are_not_those_of_the_arrays_are_refused():
    frac, lattice = np.zeros((3, 3)), np.tile(np.eye(3), (2, 1, 1))
    if vectors.kernels() is None:
        pytest.skip("there are no compiled loops here")
    for counts in ([2, 5], [-1, 4], [10**9, 2]):
        with pytest.raises(IndexError, match="required: 3"):
            batch_positions(frac, lattice, np.array(counts))
        ends, images = np.zeros((2, 2), np.int32), np.zeros((2, 3), np.int8)
        for n_node, n_edge in ((counts, [2, 0]), ([2, 1], counts)):
            edges = EdgesOfBatch(frac, lattice, np.array(n_node), np.array(n_edge), ends, images)
            with pytest.raises(IndexError, match="required: 3 atoms and 2 edges"):
                batch_values(EDGE_VECTORS, edges)


def test_a_schema_that_is_not_that_of_crystals_is_refused(prototypes):
    ds = lg.LazyGraphDataset(prototypes)
    schema, spec = ds.manifest.schema, ds.spec
    check_crystals(schema, spec)
    fields = {field.name: field for field in schema.fields}
    bad = [
        Schema((*schema.axes, "e2"), schema.fields),
        Schema(("node", "edge"), schema.fields[1:]),
        Schema(schema.axes, (schema.fields[1], schema.fields[0], *schema.fields[2:])),
        Schema(schema.axes, (Field("charge", "float64", axis="node"), *schema.fields)),
        Schema(("node", "edge"), (*schema.fields, Field("charge", "float64"))),
        Schema(("node", "edge"), (*schema.fields, Field("charge", "float16", axis="node"))),
    ]
    changes = [
        ("frac_coords", {"dtype": "float32", "basis": None}),
        ("images", {"axis": "node"}),
        ("edge_index", {"counts": "edge"}),
        ("edge_index", {"axis_dim": 0, "pair": None}),
        ("pbc", {"shape": (2,)}),
        ("numbers", {"dtype": "int64"}),
    ]
    for name, change in changes:
        bad.append(Schema(schema.axes, tuple(replace(f, **change) if n == name else f for n, f in fields.items())))
    for each in bad:
        with pytest.raises(CorruptDataset, match="the recipe is one of crystals"):
            check_crystals(each, spec)
