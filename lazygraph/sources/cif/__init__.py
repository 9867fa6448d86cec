"""Reader of CIF. gemmi reads the syntax and knows the space groups; docs/sources.md states the rules."""

from __future__ import annotations

from lazygraph.sources.cif.reader import lattice_from_parameters, parse_cif
from lazygraph.sources.cif.text import Block, data_blocks, sniff

__all__ = ["Block", "data_blocks", "lattice_from_parameters", "parse_cif", "sniff"]
