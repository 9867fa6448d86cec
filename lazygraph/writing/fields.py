"""Where crystals meet the format: the schema of a crystal dataset, and the values of one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lazygraph.format.schema import Field, Schema
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.writing.labels import Label

__all__ = ["count_columns", "crystal_schema", "crystal_values"]


def crystal_schema(spec: GraphSpec, atom_labels: Sequence[Label]) -> Schema:
    """What a record of a crystal holds (``docs/format.md``, Crystals), with these per-atom labels."""
    fields = [
        Field("numbers", "uint8", axis="node"),
        Field("lattice", "float64", (3, 3), unit="A"),
        Field("pbc", "bool", (3,)),
        Field("frac_coords", "float64", (3,), axis="node", basis="lattice"),
        Field("edge_index", "int64", (2,), axis="edge", axis_dim=1, counts="node", pair="swap"),
        Field("images", "int64", (3,), axis="edge", pair="negate"),
    ]
    if spec.rule.lattice_vectors is not None:
        fields.append(Field("lattice_images", "int64", (3, 3)))
    fields += [Field(label.name, label.dtype, label.shape, axis="node", unit=label.unit) for label in atom_labels]
    return Schema(("node", "edge"), tuple(fields))


def count_columns(spec: GraphSpec, schema: Schema) -> tuple[str, ...]:
    """The columns of whole numbers of a dataset: the count along each axis, then the derived sizes of its recipe."""
    return (*(f"n_{axis}" for axis in schema.axes), *derived_names(spec))


def crystal_values(graph: CrystalGraph, atom_labels: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one record: the crystal, its edges, and its per-atom labels."""
    crystal = graph.crystal
    values: dict[str, Any] = {
        "numbers": crystal.numbers,
        "lattice": crystal.lattice,
        "pbc": np.array(crystal.pbc),
        "frac_coords": crystal.frac_coords,
        "edge_index": graph.edge_index,
        "images": graph.images,
        **atom_labels,
    }
    if graph.lattice_images is not None:
        values["lattice_images"] = graph.lattice_images
    return values
