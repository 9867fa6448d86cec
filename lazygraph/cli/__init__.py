"""The commands ``lazygraph`` and ``lazygraph-write``, with one module per command."""
