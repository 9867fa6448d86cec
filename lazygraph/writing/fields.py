"""The schema of a dataset of crystals with labels, and the values of one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lazygraph.format.schema import Field, Schema
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.crystal_records import crystal_schema
from lazygraph.graphs.sizes import derived_names
from lazygraph.graphs.spec import GraphSpec
from lazygraph.writing.labels import Label

__all__ = ["count_columns", "crystal_values", "labelled_schema"]


def labelled_schema(spec: GraphSpec, atom_labels: Sequence[Label]) -> Schema:
    """The schema of the records of a recipe, with these per-atom labels."""
    labels = (Field(label.name, label.dtype, label.shape, axis="node", unit=label.unit) for label in atom_labels)
    return crystal_schema(spec, labels)


def count_columns(spec: GraphSpec, schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns of counts: the counts along the axes, then the derived sizes of the recipe."""
    return (*(f"n_{axis}" for axis in schema.axes), *derived_names(spec))


def crystal_values(schema: Schema, graph: CrystalGraph, atom_labels: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one record of a schema: the crystal, its edges if the schema has them, and its per-atom labels."""
    crystal = graph.crystal
    values: dict[str, Any] = {
        "numbers": crystal.numbers,
        "lattice": crystal.lattice,
        "pbc": np.array(crystal.pbc),
        "frac_coords": crystal.frac_coords,
        "edge_index": graph.edge_index,
        "images": graph.images,
        "lattice_images": graph.lattice_images,
        **atom_labels,
    }
    return {name: values[name] for name in schema.names}
