"""What every view promises."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lazygraph.crystal import Crystal
from lazygraph.graphs.spec import graph
from lazygraph.loading.dataset import LazyGraphDataset
from lazygraph.reading.crystals import Crystals
from lazygraph.reading.views import View, view
from lazygraph.testing.crystals import sample_crystals
from lazygraph.writing.write import write

__all__ = ["ViewContract"]

CLOSE = 1e-5  # relative; torch and numpy may add in another order


class ViewContract:
    """Tests of a view. A subclass names it, and a preset whose graphs it shows.

    Example:
        class TestToy(ViewContract):
            view = "toy"
            preset = "toy"
    """

    view: str
    """The name that ``LazyGraphDataset(view=...)`` takes."""
    preset: str
    """A preset whose graphs the view shows."""
    parameters: Mapping[str, Any] = MappingProxyType({})
    """The parameters of the view to test it with."""

    def crystals(self) -> Sequence[Crystal]:
        """Crystals that can become graphs of the preset; at least three."""
        return sample_crystals()

    def make(self, **parameters: Any) -> View:
        """The view."""
        return view(self.view, **{**self.parameters, **parameters})

    def dataset(self, folder: Path, **parameters: Any) -> LazyGraphDataset:
        """A dataset of the crystals, through the view."""
        path = folder / "crystals.lg"
        if not path.exists():
            write(self.crystals(), path, graph=graph(self.preset), workers=1, progress=False)
        return LazyGraphDataset(path, view=self.make(**parameters))

    def test_it_is_a_value(self) -> None:
        """It travels to worker processes, and its repr is the call that makes it."""
        made = self.make()
        assert made.name == self.view
        assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  # of a moment ago
        assert hash(made) == hash(self.make())
        assert view(made.name, **made.parameters) == made
        assert repr(made).startswith(f"lazygraph.view({self.view!r}")

    def test_arrays_are_those_of_the_layout(self, tmp_path: Path) -> None:
        """Each array that a graph has stands in ``layout``, which says how it is batched."""
        made = self.make()
        found = made.arrays(self._crystals(tmp_path, [0, 1, 2]), graph(self.preset)).values
        assert found
        assert set(found) <= set(made.layout)

    def test_floating_point_arrays_have_the_dtype(self, tmp_path: Path) -> None:
        """``float32`` or ``float64``, all of them."""
        for dtype in ("float32", "float64"):
            found = self.make(dtype=dtype).arrays(self._crystals(tmp_path, [0, 1, 2]), graph(self.preset)).values
            kinds = {str(array.dtype) for array in found.values() if np.asarray(array).dtype.kind == "f"}
            assert kinds <= {dtype}

    def test_a_batch_is_its_graphs(self, tmp_path: Path) -> None:
        """Graphs taken out of a batch, in any order, are the graphs read one by one."""
        import torch

        dataset = self.dataset(tmp_path)
        order = [2, 0, *range(len(dataset) - 1, 2, -1), 1]
        for position, taken in zip(order, dataset.batch(order).to_data_list(), strict=True):
            alone = dataset[position]
            for name in self.make().layout:
                if name not in alone:
                    assert name not in taken
                elif isinstance(alone[name], torch.Tensor):
                    assert torch.equal(taken[name], alone[name]), f"{name} of graph {position}"
                else:
                    assert taken[name] == alone[name]

    def test_numpy_and_torch_agree(self, tmp_path: Path) -> None:
        """A view computes in the namespace of the arrays that it gets, on their device."""
        import torch

        crystals = self._crystals(tmp_path, list(range(len(self.crystals()))))
        in_numpy = self.make(dtype="float64").arrays(crystals, graph(self.preset)).values
        in_torch = self.make(dtype="float64").arrays(_as_tensors(crystals), graph(self.preset)).values
        assert in_numpy.keys() == in_torch.keys()
        for name, array in in_numpy.items():
            if not isinstance(array, np.ndarray):
                assert in_torch[name] == array, name
                continue
            tensor = in_torch[name]
            assert isinstance(tensor, torch.Tensor), f"{name} left the namespace of its input"
            assert str(tensor.dtype) == f"torch.{array.dtype}", name
            assert np.allclose(tensor.numpy(), array, rtol=CLOSE, atol=CLOSE), name

    def _crystals(self, folder: Path, rows: list[int]) -> Crystals:
        """What the view is given of a batch."""
        from lazygraph.format.store import Store

        path = self.dataset(folder).path
        return Crystals.of(Store(path).read_batch(np.array(rows)))


def _as_tensors(crystals: Crystals) -> Crystals:
    """The same crystals in torch: every array but the numbers of nodes and edges."""
    from dataclasses import fields, replace

    import torch

    own = {field.name: getattr(crystals, field.name) for field in fields(crystals)}
    arrays: dict[str, Any] = {name: torch.tensor(value) for name, value in own.items() if isinstance(value, np.ndarray)}
    arrays |= {"n_node": crystals.n_node, "n_edge": crystals.n_edge}
    return replace(crystals, **arrays)
