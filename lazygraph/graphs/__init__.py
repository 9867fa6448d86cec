"""Crystal -> edges: which atoms are neighbours, by the rules of the published crystal networks."""

from __future__ import annotations

from lazygraph.graphs.crystal_graph import CrystalGraph
from lazygraph.graphs.presets import PRESETS, REQUIRED, Preset
from lazygraph.graphs.spec import GraphSpec, graph

__all__ = ["PRESETS", "REQUIRED", "CrystalGraph", "GraphSpec", "Preset", "graph"]
