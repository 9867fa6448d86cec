"""Crystal -> edges: which atoms are neighbours, by the rules of the published crystal networks."""

from __future__ import annotations

from lazygraph.graphs.angles import Angles, BondGraph, LineGraph, Triplets, WholeLineGraph
from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.nearest import Nearest
from lazygraph.graphs.no_edges import NoEdges
from lazygraph.graphs.presets import PRESETS, REQUIRED, Preset
from lazygraph.graphs.radius import Radius
from lazygraph.graphs.rule import ChosenEdges, Rule
from lazygraph.graphs.shell import Shell
from lazygraph.graphs.spec import GraphSpec, graph

__all__ = [
    "PRESETS",
    "REQUIRED",
    "Angles",
    "BondGraph",
    "ChosenEdges",
    "CrystalGraph",
    "GraphSpec",
    "LineGraph",
    "Nearest",
    "NoEdges",
    "Preset",
    "Radius",
    "Rule",
    "Shell",
    "Triplets",
    "WholeLineGraph",
    "graph",
]
