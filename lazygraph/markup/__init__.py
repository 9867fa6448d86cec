"""Pieces of HTML and SVG from plain data, with every text escaped."""
