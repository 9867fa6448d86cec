"""The views by name. A view computes the arrays that a model takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lazygraph.errors import InputError
from lazygraph.reading.views.atlas import Atlas
from lazygraph.reading.views.base import View
from lazygraph.reading.views.cgcnn import Cgcnn
from lazygraph.reading.views.chgnet import Chgnet
from lazygraph.reading.views.jarvis import Alignn, Comformer, Matformer
from lazygraph.reading.views.mace import Mace
from lazygraph.reading.views.matgl import M3gnet, MatglChgnet, Megnet
from lazygraph.reading.views.pyg import Pyg

__all__ = ["VIEWS", "View", "view", "view_named"]

VIEWS: Mapping[str, type[View]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (Pyg, Comformer, Matformer, Alignn, Cgcnn, Atlas, Megnet, M3gnet, MatglChgnet, Chgnet, Mace)
    }
)
"""Name -> view."""


def view(name: str, /, **parameters: Any) -> View:
    """Create a view by name, for ``LazyGraphDataset(path, view=...)``. A view gives the arrays that a model takes.

    Args:
        name: ``pyg``, ``comformer``, ``matformer``, ``alignn``, ``cgcnn``, ``atlas``, ``megnet``, ``m3gnet``,
            ``matgl-chgnet``, ``chgnet`` or ``mace``. The classes in ``VIEWS`` describe the arrays of each view.
        **parameters: parameters of the view, such as ``dtype`` (``"float32"`` or ``"float64"``).

    Returns:
        The view.

    Raises:
        InputError: an unknown view, or an unknown or invalid parameter.

    Example:
        >>> view("pyg", features=["Na", "Cl"])
        lazygraph.view('pyg', features=('Na', 'Cl'))
    """
    if name not in VIEWS:
        msg = f"found the view {name!r}; the views are {', '.join(map(repr, VIEWS))}"
        raise InputError(msg)
    kind = VIEWS[name]
    takes = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(parameters.keys() - set(takes)):
        msg = f"the view {name!r} has no parameter {unknown[0]!r}; it takes {', '.join(takes)}"
        raise InputError(msg)
    return kind(**parameters)


def view_named(named: str | View) -> View:
    """Return the given view, or the view of the given name with its defaults."""
    return named if isinstance(named, View) else view(named)
