"""The commands ``lazygraph`` and ``lazygraph-write``: argument parsing and printing, one module a command."""
