"""Training of models on a dataset, with Lightning, PyG, torchmetrics and matplotlib."""

from importlib.util import find_spec

from lazygraph.errors import MissingExtra

for _package in ("lightning", "matplotlib", "tomli_w"):
    if find_spec(_package) is None:
        _msg = f"training needs the package {_package!r}, which is not installed: pip install 'lazygraph[train]'"
        raise MissingExtra(_msg)
