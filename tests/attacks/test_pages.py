"""Crafted page trees in datasets whose every hash is right: verify names the page, and reading never sees the tree."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.format.columns import ColumnWriter
from lazygraph.format.store import Store
from lazygraph.reading.verify import verify
from tools.soak.apart import apart
from tools.soak.trees import ATTACKS, GRAPHS, LAST, PAGE, forge, make

SECONDS = 60  # against a hang; none takes one
SOME = range(0, GRAPHS, 7)  # among them values on pages of their own


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "p.lg"
    make(out)
    return out


@pytest.fixture(scope="module")
def expected(original):
    return [digest(graph) for graph in lg.LazyGraphDataset(original)]


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "p.lg")


def digest(graph):
    return graph.x.numpy().tobytes(), graph.y.item(), graph.id


def problems(path):
    return list(verify(path).problems)


def read(path, expected):
    """How many of some graphs are as they were; others, and other errors than CorruptDataset, are an error."""
    ds = lg.LazyGraphDataset(path)
    exact = 0
    for row in SOME:
        try:
            graph = ds[row]
        except lg.CorruptDataset:
            continue
        assert digest(graph) == expected[row]
        exact += 1
    try:
        graphs = ds.batch(SOME).to_data_list()
    except lg.CorruptDataset:
        assert exact < len(SOME)
    else:
        assert [digest(graph) for graph in graphs] == [expected[row] for row in SOME]
    return exact


def test_the_tree_is_one_in_which_all_attacks_have_a_place(original, expected):
    assert problems(original) == []
    assert apart(read, original, expected, seconds=SECONDS) == ("returned", len(SOME))


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_crafted_page_tree_is_named_and_never_walked_by_the_reader(name, copy, expected):
    change, said = ATTACKS[name]
    shard = forge(copy, change)
    ended, found = apart(problems, copy, seconds=SECONDS)
    assert ended == "returned", found
    assert found[0].startswith(f"{shard}: ")
    assert re.search(said, found[0]), found
    for compiled in (True, False):
        ended, exact = apart(read, copy, expected, seconds=SECONDS, compiled=compiled)
        assert ended == "returned", exact
        assert exact == (0 if name.startswith("file cut") else len(SOME))


def test_a_record_that_the_tree_does_not_have_is_named(copy, expected):
    """The column leads to a copy of a record behind the last page: right bytes, which LMDB would not find there."""
    column = np.array(lg.LazyGraphDataset(copy)._store.column("record"))
    offset, length, _ = column[5].item()

    def append(tree):
        tree.data += tree.data[offset : offset + length].ljust(PAGE, b"\0")
        tree.meta("<Q", LAST, len(tree.data) // PAGE - 1)
        column["offset"][5] = len(tree.data) - PAGE

    shard = forge(copy, append)
    replace_column(copy, "record", column)
    assert apart(read, copy, expected, seconds=SECONDS) == ("returned", len(SOME))
    assert [p for p in problems(copy) if p.startswith(f"{shard}, row 5: the column record says {length} bytes at")]


def test_two_rows_of_one_record_are_named(copy):
    column = np.array(lg.LazyGraphDataset(copy)._store.column("record"))
    column[8] = column[7]
    replace_column(copy, "record", column)
    assert any("row 8: the column record says" in problem for problem in problems(copy))


def test_an_order_that_counts_to_four_billion_takes_no_memory(copy):
    order = np.array(lg.LazyGraphDataset(copy)._store.column("id_order"))
    order[0] = 2**32 - 1
    replace_column(copy, "id_order", order)
    ended, found = apart(problems, copy, seconds=SECONDS)
    assert ended == "returned", found
    assert any("id_order is not a permutation" in problem for problem in found)


def test_an_order_in_eight_bytes_is_looked_at(copy):
    replace_column(copy, "id_order", np.arange(GRAPHS, dtype="<u8"))
    assert problems(copy) == []


def replace_column(path, name, values):
    store = Store(path)
    graphs, blocks = store.digests()
    others = {other: (column, blocks[other]) for other, column in store.manifest.columns.items() if other != name}
    columns = ColumnWriter(path, others)
    columns.write(name, values)
    replace(store.manifest, columns=columns.columns, digests=columns.digests(graphs)).publish(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_are_named_in_bounded_time(copy, expected, seed):
    """Hundreds of bytes of branches, page heads and nodes at once: the walk ends, and reading is exact."""
    random = np.random.default_rng(seed)
    places = {at for offset, length, _ in lg.LazyGraphDataset(copy)._store.column("record").tolist()
              for at in range(offset, offset + length)}  # fmt: skip

    def change(tree):
        for _ in range(300):
            at = int(random.integers(2 * PAGE, len(tree.data)))
            if at not in places:
                tree.data[at] = int(random.integers(256))

    forge(copy, change)
    ended, found = apart(problems, copy, seconds=SECONDS)
    assert ended == "returned", found
    assert apart(read, copy, expected, seconds=SECONDS) == ("returned", len(SOME))
