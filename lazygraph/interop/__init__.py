"""Batches for the trainers of other packages, one module for each package.

``lazygraph.interop.matgl``, ``lazygraph.interop.chgnet`` and ``lazygraph.interop.mace`` each have a function
``batches``, which wraps a loader. Its batches have the form, the units and the signs that the package's own trainer
takes.
"""

from __future__ import annotations

__all__: list[str] = []
