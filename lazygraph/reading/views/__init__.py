"""The views by name. A view computes the arrays that a model takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lazygraph.errors import InputError, PluginError
from lazygraph.reading.views.atlas import Atlas
from lazygraph.reading.views.base import View
from lazygraph.reading.views.cgcnn import Cgcnn
from lazygraph.reading.views.chgnet import Chgnet
from lazygraph.reading.views.jarvis import Alignn, Comformer, Matformer
from lazygraph.reading.views.mace import Mace
from lazygraph.reading.views.matgl import M3gnet, MatglChgnet, Megnet
from lazygraph.reading.views.potnet import Potnet
from lazygraph.reading.views.pyg import Pyg
from lazygraph.registry import Registry, unknown_name

__all__ = ["VIEWS", "VIEW_REGISTRY", "View", "as_view", "known_view", "view"]

VIEWS: Mapping[str, type[View]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Pyg,
            Comformer,
            Matformer,
            Potnet,
            Alignn,
            Cgcnn,
            Atlas,
            Megnet,
            M3gnet,
            MatglChgnet,
            Chgnet,
            Mace,
        )
    }
)
"""Name -> view of the package."""

VIEW_REGISTRY: Registry[type[View]] = Registry("view", VIEWS, group="lazygraph.views", type_=View)
"""The views by name: those of ``VIEWS`` and those of installed plug-ins."""


def view(name: str, /, **parameters: Any) -> View:
    """Create a view by name, for ``LazyGraphDataset(path, view=...)``. A view gives the arrays that a model takes.

    Args:
        name: ``pyg``, ``comformer``, ``matformer``, ``potnet``, ``alignn``, ``cgcnn``, ``atlas``, ``megnet``,
            ``m3gnet``, ``matgl-chgnet``, ``chgnet``, ``mace``, or the name of a view that an installed plug-in
            declares. The classes in ``VIEWS`` list the arrays of each view.
        **parameters: parameters of the view, such as ``dtype`` (``"float32"`` or ``"float64"``).

    Raises:
        InputError: the view or a parameter is unknown, or a value is invalid.
        PluginError: the plug-in of this view cannot be imported, or does not match its declaration.

    Example:
        >>> view("pyg", features=["Na", "Cl"])
        lazygraph.view('pyg', features=('Na', 'Cl'))
    """
    return _made(name, VIEW_REGISTRY.get(name), parameters)


def known_view(name: str, parameters: Mapping[str, Any]) -> View:
    """The view whose name and parameters were read from a checkpoint. Imports nothing.

    Raises:
        InputError: the view is unknown, or belongs to a plug-in that the user has not named; or a parameter is wrong.
    """
    kind = VIEW_REGISTRY.known(name)
    if kind is None:
        if name in VIEW_REGISTRY.plugins():
            msg = (
                f"the view {name!r} belongs to the plug-in {VIEW_REGISTRY.origin(name)}, which is not imported because "
                f"a file names it; if you trust it, run lazygraph.view({name!r}) first"
            )
            raise InputError(msg)
        raise VIEW_REGISTRY.unknown(name)
    return _made(name, kind, parameters)


def as_view(named: str | View) -> View:
    """A view as it is, or the view of this name with its defaults."""
    return named if isinstance(named, View) else view(named)


def _made(name: str, kind: type[View], parameters: Mapping[str, Any]) -> View:
    if kind.name != name:
        msg = f"the plug-in's view {name!r} calls itself {kind.name!r}; required: {kind.__qualname__}.name = {name!r}"
        raise PluginError(msg)
    takes = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(parameters.keys() - set(takes)):
        raise InputError(unknown_name(f"parameter of the view {name!r}:", unknown[0], takes))
    return kind(**parameters)
