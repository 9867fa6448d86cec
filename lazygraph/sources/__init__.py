"""Readers of files, databases and Python objects, which give crystals with ids and labels; one module per format."""
