"""``predict`` leaves out structures with elements that the model does not know, and names them."""

from __future__ import annotations

import numpy as np
import pytest

import lazygraph as lg
from lazygraph.crystal import SYMBOLS
from lazygraph.errors import InputError
from lazygraph.training.report import check_table

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", ["alignn", "cgcnn", "comformer", "matformer", "potnet"])
def test_views_with_features_of_cgcnn_say_which_elements_have_them(name):
    assert lg.view(name).elements == SYMBOLS[1:104]


def test_the_elements_of_the_view_pyg_are_those_of_its_features():
    assert lg.view("pyg").elements == ()
    assert lg.view("pyg", features="cgcnn").elements[-1] == "Lr"
    assert lg.view("pyg", features=["Fe", "O"]).elements == ("Fe", "O")


def test_a_structure_with_an_unknown_element_is_left_out_and_named(tmp_path):
    options = lg.TrainOptions(
        target="density", model="cgcnn", model_options={"atom_fea_len": 4, "h_fea_len": 4}, n_epochs=1, batch_size=8
    )
    path = tmp_path / "d.lg"
    lg.write("prototypes:24", path, graph="cgcnn", workers=1, progress=False)
    lg.train(path, options, tmp_path / "run", progress=False)
    cells = [(f"a{z}", lg.Crystal(np.eye(3) * 4.0, [[0, 0, 0]], [z]), {}) for z in (26, 118)]
    source = tmp_path / "new.lg"
    lg.write(cells, source, graph="none", workers=1, progress=False)
    for structures in (source, cells):
        found = lg.predict(tmp_path / "run", structures, progress=False)
        assert [row.id for row in found.rows] == ["a26"]
        (left_out,) = found.quarantined
        assert left_out["id"] == "a118"
        assert left_out["message"] == "found atoms of Og, which the model does not know; it knows 103 elements, H to Lr"


def test_a_table_of_an_unknown_kind_is_refused(tmp_path):
    check_table(tmp_path / "a.csv")
    for name in ("a.xlsx", "a", "a.csv.gz"):
        with pytest.raises(InputError, match="required: a name that ends in .csv or .parquet"):
            check_table(tmp_path / name)
