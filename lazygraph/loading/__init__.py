"""Datasets and loaders that return PyG graphs. This package, and no lower one, imports torch and PyG."""
