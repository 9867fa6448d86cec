"""Formats of other programs that datasets are exported to, one module each."""
