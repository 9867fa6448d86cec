"""The contents of the record of a crystal, and checks for records that a stranger crafted with correct hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.crystal import MAX_COORDINATE, MAX_LENGTH, MIN_CELL_VOLUME, SYMBOLS, Crystal
from lazygraph.errors import CorruptDataset, StructureError
from lazygraph.format.record_batch import RecordBatch
from lazygraph.format.schema import Field, Schema
from lazygraph.graphs.compiled import PackedCrystals
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.sizes import derived_names, derived_sizes
from lazygraph.graphs.spec import GraphSpec
from lazygraph.graphs.vectors import first_invalid

__all__ = [
    "CRYSTAL_FIELDS",
    "UNORDERED",
    "UNPAIRED",
    "Untrue",
    "are_possible",
    "broken_promises",
    "check_crystals",
    "check_edges",
    "check_fields",
    "check_record_batch",
    "crystal_graph",
    "crystal_schema",
    "odd_edges",
    "too_many_neighbors",
]

LAST = len(SYMBOLS) - 1  # the greatest atomic number
STRAY = "an edge ends at an atom that the crystal does not have"
UNORDERED = "its edges do not come by their first atom, as its recipe has them"
UNPAIRED = "an edge is not followed by its reverse, as its recipe has it"


class Untrue(Exception):
    """One of several crystals is not what its dataset says; ``Reader`` adds which one.

    Args:
        crystal: its place among them.
        problem: what is wrong.
    """

    def __init__(self, crystal: int, problem: str) -> None:
        super().__init__(crystal, problem)
        self.crystal, self.problem = crystal, problem


# docs/format.md, Crystals.
_ATOMS = (
    Field("numbers", "uint8", axis="node"),
    Field("lattice", "float64", (3, 3), unit="A"),
    Field("pbc", "bool", (3,)),
    Field("frac_coords", "float64", (3,), axis="node", basis="lattice"),
)
_EDGES = (
    Field("edge_index", "int64", (2,), axis="edge", axis_dim=1, counts="node", pair="swap"),
    Field("images", "int64", (3,), axis="edge", pair="negate"),
)
_LATTICE_IMAGES = Field("lattice_images", "int64", (3, 3))
CRYSTAL_FIELDS = frozenset(field.name for field in (*_ATOMS, *_EDGES, _LATTICE_IMAGES))
"""The fields of a crystal's record; any other one is a label of its atoms."""


def crystal_schema(spec: GraphSpec, atom_labels: Iterable[Field] = ()) -> Schema:
    """The schema of the records of a recipe (``docs/format.md``, Crystals).

    Args:
        spec: the recipe.
        atom_labels: the per-atom labels, float64 fields of the axis ``node``.

    Example:
        >>> from lazygraph.graphs import graph
        >>> crystal_schema(graph("none")).axes, crystal_schema(graph("mace")).axes
        (('node',), ('node', 'edge'))
    """
    edges = _EDGES if spec.rule.has_edges else ()
    lattice = () if spec.rule.lattice_vectors is None else (_LATTICE_IMAGES,)
    axes = ("node", "edge") if spec.rule.has_edges else ("node",)
    return Schema(axes, (*_ATOMS, *edges, *lattice, *atom_labels))


def check_crystals(schema: Schema, spec: GraphSpec) -> None:
    """Refuse a schema that is not the schema of a recipe, on which all later steps rely.

    Raises:
        CorruptDataset: a field is missing, or of another kind.
    """
    wanted = crystal_schema(spec)
    found = {field.name: field for field in schema.fields}
    for field in wanted.fields:
        there = _kind(found[field.name]) if field.name in found else None
        if there != _kind(field):
            said = there or "missing"
            msg = f"the recipe is one of crystals, and the field {field.name!r} is {said}; required: {_kind(field)}"
            raise CorruptDataset(msg)
    first = schema.names[: len(wanted.names)]
    if first != wanted.names:
        msg = f"the recipe is one of crystals, and the first fields are {first}; required: {wanted.names} in this order"
        raise CorruptDataset(msg)
    if schema.axes != wanted.axes:
        msg = f"the recipe is one of crystals, and the axes are {schema.axes}; required: {' and '.join(wanted.axes)}"
        raise CorruptDataset(msg)
    for label in schema.fields:
        if label.name in CRYSTAL_FIELDS and label.name not in wanted.names:
            msg = f"the recipe is {spec!r}, whose records have no field {label.name!r}: {label}"
            raise CorruptDataset(msg)
        floats = label.dtype in ("float32", "float64")
        if label.name not in CRYSTAL_FIELDS and (floats, label.axis, label.axis_dim) != (True, "node", 0):
            msg = f"the recipe is one of crystals, and {label.name!r} is no label of atoms: {label}"
            raise CorruptDataset(msg)


def _kind(field: Field) -> tuple[Any, ...]:
    """Type, shape without axis, axis, its place, and what the values count."""
    return field.dtype, field.shape, field.axis, field.axis_dim, field.counts


def crystal_graph(fields: Mapping[str, Any]) -> CrystalGraph:
    """The graph that a record holds, with edges in the types that they are read in; crystals alone have none.

    Args:
        fields: the fields of the record, of a schema that :func:`check_crystals` lets pass.

    Raises:
        StructureError: the record holds no possible crystal.
    """
    cell = fields["lattice"], fields["frac_coords"], fields["numbers"], tuple(fields["pbc"].tolist())
    edges, images = (
        fields.get("edge_index", np.empty((2, 0), np.int64)),
        fields.get("images", np.empty((0, 3), np.int64)),
    )
    return CrystalGraph(Crystal(*cell), edges, images)


def are_possible(crystals: PackedCrystals) -> bool:
    """Whether each of several crystals has numbers that :class:`Crystal` accepts, as far as edges depend on them."""
    frac, lattice = crystals.frac_coords, crystals.lattice
    if not (crystals.n_node.all() and (np.abs(lattice) <= MAX_LENGTH).all() and (np.abs(frac) <= MAX_COORDINATE).all()):
        return False
    (a0, b0, c0), (a1, b1, c1), (a2, b2, c2) = lattice.transpose(2, 1, 0)
    volumes = np.abs(a0 * (b1 * c2 - b2 * c1) + a1 * (b2 * c0 - b0 * c2) + a2 * (b0 * c1 - b1 * c0))
    return bool((volumes > 2 * MIN_CELL_VOLUME).all())  # what is near the limit is decided by Crystal


def check_record_batch(records: RecordBatch) -> None:
    """Check the ends of edges and the atomic numbers, on which all views rely.

    Raises:
        Untrue: an edge does not end at atoms of its own crystal, or an atom is of no element.
    """
    n_node, numbers = records.counts["node"], records.fields["numbers"]
    if "edge" in records.counts:
        crystal = first_invalid(records.fields["edge_index"], records.counts["edge"], n_node)
        if crystal is not None:
            raise Untrue(crystal, STRAY)
    if (unknown := _of_no_element(numbers)).any():
        atom = int(unknown.argmax())
        raise Untrue(int(np.searchsorted(n_node.cumsum(), atom, side="right")), _not_an_element(numbers[atom]))


def check_fields(counts: Sequence[int], fields: Mapping[str, Any]) -> None:
    """As :func:`check_record_batch`, for one crystal."""
    ends, numbers = fields.get("edge_index"), fields["numbers"]
    if ends is not None and ends.size and not 0 <= ends.min() <= ends.max() < counts[0]:
        raise Untrue(0, STRAY)
    if (unknown := _of_no_element(numbers)).any():
        raise Untrue(0, _not_an_element(numbers[unknown][0]))


def check_edges(spec: GraphSpec, edge_index: NDArray[Any], images: NDArray[Any]) -> None:
    """Check the order and the number of a crystal's edges, on which some views rely.

    Args:
        spec: the recipe. Its rule gives edges sorted by their first atom, at most ``most_neighbors`` per atom, or each
            edge followed by its reverse.
        edge_index: (2, E)
        images: (E, 3)

    Raises:
        Untrue: the order or the number is wrong.
    """
    first, second = edge_index
    if (most := spec.rule.most_neighbors) is not None:
        if (first[1:] < first[:-1]).any():
            raise Untrue(0, UNORDERED)
        if (found := int(np.bincount(first, minlength=1).max())) > most:
            raise Untrue(0, too_many_neighbors(found, most))
    elif len(first) % 2:
        raise Untrue(0, odd_edges(len(first)))
    elif not (
        np.array_equal(first[::2], second[1::2])
        and np.array_equal(first[1::2], second[::2])
        and np.array_equal(images[::2], -images[1::2])
    ):
        raise Untrue(0, UNPAIRED)


def odd_edges(found: int) -> str:
    """The sentence about edges that cannot be pairs."""
    return f"it has {found} edges; its recipe makes them in pairs"


def too_many_neighbors(found: int, most: int) -> str:
    """The sentence about an atom with more neighbours than ``max_neighbors``."""
    return f"an atom has {found} neighbours; the recipe says at most {most}"


def _of_no_element(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) which atomic numbers, of type uint8, are of no element."""
    unknown: NDArray[np.bool_] = numbers - numbers.dtype.type(1) >= LAST  # 0 becomes 255
    return unknown


def _not_an_element(number: Any) -> str:
    return f"an atom has the atomic number {number}; required: 1 to {LAST}"


def broken_promises(
    spec: GraphSpec, counts: Sequence[int], fields: Mapping[str, Any], said: Mapping[str, int]
) -> Iterator[str]:
    """A sentence for everything that the record of a crystal does not keep.

    Args:
        spec: the recipe.
        counts: the axis counts of the record, true of its fields.
        fields: its fields, of a schema that :func:`check_crystals` lets pass.
        said: the derived sizes of the graph, as columns say.
    """
    try:
        check_fields(counts, fields)
        graph = crystal_graph(fields)
    except Untrue as error:
        yield error.problem
    except StructureError as error:
        yield str(error)
    else:
        try:
            check_edges(spec, graph.edge_index, graph.images)
        except Untrue as error:
            yield error.problem
        found = derived_sizes(spec, graph) if said else {}
        names = [name for name in derived_names(spec) if name in said and said[name] != found[name]]
        yield from (f"{name} is {found[name]} by the record; the column says {said[name]}" for name in names)
