"""The import of metatensor, which must come before that of torch_geometric.

metatensor compiles functions with TorchScript when it is imported. torch_geometric, from 2.7 on, replaces
``torch.index_select`` by a function that TorchScript cannot compile. So ``lazygraph.interop.metatrain`` imports this
module before everything that imports torch_geometric. Where metatensor is not installed, nothing happens.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

__all__ = ["IS_USABLE"]

IS_USABLE = find_spec("metatensor") is not None and (
    "metatensor.torch" in sys.modules or "torch_geometric" not in sys.modules
)
"""Whether metatensor is imported; False if it is not installed, or if torch_geometric was imported before it."""

if IS_USABLE:
    import_module("metatensor.torch")
