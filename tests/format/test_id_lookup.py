"""Many ids at once are found in the rows in which they are found one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygraph as lg
from lazygraph.errors import UnknownId
from lazygraph.format import id_lookup
from lazygraph.format.id_lookup import find_ids, rows_of
from lazygraph.format.store import Store

TEXTS = st.text(st.sampled_from("ab\u00e9\U0001f600"), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "ids.lg"
    names = [
        f"{first}{second}{third}" for first in "ba\u00e9" for second in ("", "b", "a") for third in ("", "\U0001f600")
    ]
    with lg.GraphWriter(path) as writer:
        for name in names:
            writer.add({"z": np.zeros(1, int)}, id=name)
    return Store(path)


@settings(max_examples=50)
@given(wanted=st.lists(TEXTS, max_size=20))
def test_they_are_found_as_one_by_one(store, wanted):
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(id_lookup, "STEP", 3)
        known = {store.graph_id(row): row for row in range(len(store))}
        found = {
            one: row for some, rows in find_ids(store, wanted) for one, row in zip(some, rows.tolist(), strict=True)
        }
        assert found == {one: known.get(one, -1) for one in wanted}
        there = [one for one in wanted if one in known]
        assert rows_of(store, iter(there)).tolist() == [store.row_of(one) for one in there]


@pytest.mark.parametrize("unknown", ["a\0", "\0", "", "zz", "\ud800"])
def test_an_id_that_is_not_there_is_named(store, unknown):
    with pytest.raises(UnknownId, match="no graph in"):
        rows_of(store, ["a", unknown])
    assert rows_of(store, []).tolist() == []
