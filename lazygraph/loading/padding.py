"""Static shapes: batches that are padded to one of a few shapes, for ``torch.compile`` and JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.graphs.spec import GraphSpec
from lazygraph.loading.batch_table import totals
from lazygraph.loading.reader import Fetched
from lazygraph.loading.sampling import Sampling

__all__ = ["Padding", "Shape", "choose_shapes", "with_static_limits"]

SHAPES = 4  # at most
EPOCHS = 4  # that are planned to see how large batches are
LOOKED_AT = 400_000  # graphs in these epochs, about
STEADY = 1.03  # of the mean: a limit that the user left open, beside one that was given
MOST_BATCHES = 0.7  # of batches that are limited by graphs alone stay as they are; larger ones end earlier
SPARE = 1.02  # of the greatest number of graphs, if they have no limit
SAMPLE = 500  # batches that the shapes are chosen by
FIELD_OF_EDGES = frozenset({"edge_index", "images"})


class Shape(NamedTuple):
    """The numbers of atoms, edges and graphs of a padded batch."""

    atoms: int
    edges: int
    graphs: int


class Padding:
    """The padding of batches to fixed shapes.

    After the graphs of a batch follow empty graphs, and a last one that owns all atoms and edges of the padding. Its
    atoms lie on a line, and each of its edges joins an atom with its own image. No array of a view is therefore
    infinite or of length 0, and no edge joins it with another graph.

    Args:
        shapes: the shapes that batches may have.
        spec: the recipe of the graphs.
    """

    def __init__(self, shapes: Sequence[Shape], spec: GraphSpec) -> None:
        self.shapes, self._has_edges = tuple(shapes), spec.rule.has_edges
        self._step = min(max(spec.rule.reach / 2, 0.5), 3.0)  # A, between atoms of the padding

    def apply(self, fetched: Fetched) -> tuple[Fetched, dict[str, NDArray[np.bool_]]]:
        """Pad fetched graphs to the shape that takes the least padding; and return masks of what is real.

        Raises:
            InputError: the graphs fit into none of the shapes.
        """
        records = fetched.records
        n_node = records.counts["node"]
        n_edge = records.counts.get("edge", np.zeros_like(n_node))
        real = Shape(int(n_node.sum()), int(n_edge.sum()), len(n_node))
        shape = self.shape_of(real)
        graphs, atoms, edges = shape.graphs - real.graphs, shape.atoms - real.atoms, shape.edges - real.edges
        added = self._added(records.fields, real, graphs, atoms, edges)
        fields = {name: _joined(name, value, added[name]) for name, value in records.fields.items()}
        counts = {"node": np.append(n_node, _last(graphs, atoms))}
        if self._has_edges:
            counts["edge"] = np.append(n_edge, _last(graphs, edges))
        y = fetched.y
        made = fetched._replace(
            rows=np.append(fetched.rows, np.repeat(fetched.rows[:1], graphs)),
            records=RecordBatch(counts, fields),
            y=None if y is None else np.concatenate([y, np.zeros((graphs, y.shape[1]), y.dtype)]),
            ids=[*fetched.ids, *[""] * graphs],
        )
        sizes = {
            "node": (real.atoms, shape.atoms),
            "edge": (real.edges, shape.edges),
            "graph": (real.graphs, shape.graphs),
        }
        return made, {f"{what}_mask": np.arange(padded) < true for what, (true, padded) in sizes.items()}

    def shape_of(self, real: Shape) -> Shape:
        """Return the shape for a batch with so many atoms, edges and graphs; one graph and one atom stay padding.

        Raises:
            InputError: the batch is larger than every shape.
        """
        for shape in sorted(self.shapes, key=lambda one: (one.atoms + one.edges, one)):
            if real.atoms < shape.atoms and real.edges <= shape.edges and real.graphs < shape.graphs:
                return shape
        msg = f"a batch with {real.atoms} atoms, {real.edges} edges and {real.graphs} graphs fits into no shape: "
        raise InputError(msg + ", ".join(map(str, self.shapes)))

    def _added(self, fields: Mapping[str, Any], real: Shape, graphs: int, atoms: int, edges: int) -> dict[str, Any]:
        """The fields of the padding: empty crystals, and one with all atoms and edges."""
        step = self._step
        lattice = np.tile(np.diag([step * atoms, step, step]), (graphs, 1, 1))
        along = np.zeros((atoms, 3))
        along[:, 0] = np.arange(atoms) / atoms
        # In pairs, the edge and its reverse, by rising atoms.
        ends = real.atoms + np.arange(edges) // 2 * atoms // max(-(-edges // 2), 1)
        images = np.zeros((edges, 3), np.int64)
        images[:, 1] = 1 - 2 * (np.arange(edges) % 2)
        out: dict[str, Any] = {
            "numbers": np.full(atoms, fields["numbers"][0]),  # an element that the view knows
            "frac_coords": along,
            "lattice": lattice,
            "pbc": np.ones((graphs, 3), bool),
            "edge_index": np.stack([ends, ends]),
            "images": images,
            "lattice_images": np.tile(np.eye(3, dtype=np.int64), (graphs, 1, 1)),
        }
        for name in fields.keys() - out.keys():  # labels of atoms
            out[name] = np.zeros((atoms, *fields[name].shape[1:]))
        return out


def with_static_limits(sampling: Sampling, *, has_edges: bool) -> tuple[Sampling, list[Shape]]:
    """Limit batches in everything that has a shape, and choose shapes that need little padding.

    Limits that are given stay. Batches of some epochs are planned, which reads no graph, to see what they hold. If a
    number of atoms or edges is given, the other one is limited to a little more than its mean; else both to what seven
    of ten batches hold.

    Args:
        sampling: the batches; its sizes have ``atoms``, and ``edges`` if there are any.
        has_edges: whether the graphs have edges.
    """
    names = ["atoms", "edges"] if has_edges else ["atoms"]
    if sampling.order.n == 0:
        return sampling, [Shape(1, 0, 1)]
    totals = _totals(sampling, names)
    steady = not set(names).isdisjoint(sampling.limits)
    limits = dict(sampling.limits)
    for column, name in enumerate(names):
        if name not in limits:
            found = totals[:, column]
            wanted = STEADY * found.mean() if steady else np.quantile(found, MOST_BATCHES)
            limits[name] = max(int(np.ceil(wanted)), int(sampling.sizes[name].max()), 1)
    limited = replace(sampling, limits=limits)
    totals = _totals(limited, names)
    limits.setdefault("graphs", int(np.ceil(SPARE * totals[:, -1].max())))
    limited = replace(sampling, limits=limits)
    most = [limits[name] for name in (*names, "graphs")]
    shapes = choose_shapes(np.minimum(totals, most), np.array(most))
    return limited, [
        Shape(_eights(row[0] + 1), _eights(row[1]) if has_edges else 0, int(row[-1]) + 1) for row in shapes
    ]


def choose_shapes(totals: NDArray[np.int64], most: NDArray[np.int64], count: int = SHAPES) -> NDArray[np.int64]:
    """Choose shapes for batches so that little is padded.

    The batches are sorted by their first size and cut into consecutive parts, of which each has the shape that all its
    batches fit into. The cuts are those with the least padding, relative to the mean of each size, without the last
    size, the number of graphs.

    Args:
        totals: (k, sizes) what each batch holds.
        most: (sizes,) the greatest shape, which all batches fit into.
        count: number of shapes, at most.

    Returns:
        (at most count, sizes), the last row is ``most``.

    Example:
        >>> choose_shapes(np.array([[10, 1], [11, 1], [20, 2], [20, 2], [3, 1]]), np.array([20, 2]), 3)
        array([[ 3,  1],
               [11,  1],
               [20,  2]])
    """
    in_order = totals[np.lexsort(totals.T[::-1])]
    if len(in_order) > SAMPLE:
        in_order = in_order[np.linspace(0, len(in_order) - 1, SAMPLE).astype(np.int64)]
    n = len(in_order)
    weights = 1 / np.maximum(in_order.mean(axis=0)[:-1], 1)
    # best[j]: the least padded size of the first j batches with so many shapes; cut[...][j]: where the last one begins.
    cost = np.full((n + 1, n + 1), np.inf)
    for start in range(n):
        greatest = np.maximum.accumulate(in_order[start:], axis=0)[:, :-1]
        cost[start, start + 1 :] = (greatest @ weights) * np.arange(1, n - start + 1)
    # The last part has the greatest shape, whatever its batches hold.
    cost[:n, n] = float(most[:-1] @ weights) * np.arange(n, 0, -1)
    best, cuts = cost[0].copy(), [np.zeros(n + 1, np.int64)]
    for _ in range(count - 1):
        options = best[:, None] + cost
        options[0] = cost[0]  # one shape less
        cuts.append(options.argmin(axis=0))
        best = options.min(axis=0)
    ends, end = [], n
    for cut in cuts[::-1]:
        ends.append(end)
        end = int(cut[end])
        if end == 0:
            break
    starts = [0, *ends[:0:-1]]
    shapes = [in_order[a:b].max(axis=0) for a, b in zip(starts, ends[::-1], strict=True)][:-1]
    # A batch of few large graphs has less graphs than one of as many atoms: no shape may lack slots for graphs.
    out = np.array([*shapes, most])
    out[:, -1] = np.maximum.accumulate(out[:, -1])
    return out


def _totals(sampling: Sampling, names: Sequence[str]) -> NDArray[np.int64]:
    """(k, names + 1) what each batch of some epochs holds, and its number of graphs."""
    epochs = max(1, min(EPOCHS, LOOKED_AT // max(sampling.order.n, 1)))
    found = []
    for epoch in range(epochs):
        batches = replace(sampling, rank=0, world_size=1, drop_last=False).plan(epoch)
        of = totals(batches, {name: sampling.sizes[name] for name in names})
        found.append(np.stack([of[name] for name in (*names, "graphs")], axis=1))
    return np.concatenate(found)


def _joined(name: str, value: Any, added: NDArray[Any]) -> NDArray[Any]:
    """A field with that of the padding; numbers keep their type where the padding fits."""
    if name in FIELD_OF_EDGES or name == "lattice_images":
        wide = np.promote_types(value.dtype, np.int32)
        return np.concatenate([value.astype(wide, copy=False), added.astype(wide)], axis=int(name == "edge_index"))
    return np.concatenate([value, added.astype(value.dtype, copy=False)])


def _last(graphs: int, rows: int) -> NDArray[np.int64]:
    """(graphs,) no rows but in the last."""
    out = np.zeros(graphs, np.int64)
    out[-1] = rows
    return out


def _eights(size: Any) -> int:
    """The next multiple of 8, which devices like, and of 2, as edges come in pairs."""
    return int(-(-int(size) // 8) * 8)
