"""The registry of models: the view that each model reads, its preset, and its constructor."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lazygraph.errors import InputError
from lazygraph.reading.views import View, view
from lazygraph.registry import Registry

if TYPE_CHECKING:
    from torch.nn import Module

    from lazygraph.loading.dataset import LazyGraphDataset
    from lazygraph.training.models.released import comformer_state_dict, load_comformer

Fitted = tuple[View, dict[str, Any]]

__all__ = ["MODELS", "MODEL_REGISTRY", "ModelEntry", "comformer_state_dict", "find_model", "load_comformer"]

_WITH_TORCH = {"comformer_state_dict": "released", "load_comformer": "released"}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: name, inputs, and a constructor that imports torch and PyG when it is called.

    Picklable.
    """

    name: str
    view: str
    """The view that the model reads; see docs/views.md."""
    preset: str
    """The preset of the graphs that the model needs; empty if it takes any graphs."""
    build: Callable[..., Module]
    """``build(outputs, **hyperparameters)`` returns a model that maps a batch of B graphs to (B, outputs)."""
    fit: Callable[[LazyGraphDataset, Mapping[str, Any]], Fitted] | None = None
    """For a model with hyperparameters from its graphs: the function behind ``fitted``."""

    def fitted(self, dataset: LazyGraphDataset, hyperparameters: Mapping[str, Any]) -> Fitted:
        """Return the view for a dataset and all hyperparameters, including those that its graphs determine."""
        return (view(self.view), dict(hyperparameters)) if self.fit is None else self.fit(dataset, hyperparameters)


def find_model(name: str) -> ModelEntry:
    """Return the model of a name: a model of lazygraph or of a plug-in, or a class ``package.module:Class``.

    A plug-in and a module of your own hold a ``ModelEntry`` or a class. The class is any ``torch.nn.Module`` whose
    forward takes a PyG batch. It gets ``outputs`` if its constructor has a parameter of that name. Its attributes
    ``view`` and ``preset`` name the view and the preset that it needs. Without them, it gets the view ``pyg`` of graphs
    of any recipe.

    Args:
        name: a name that the user gave: the module of a plug-in or of a class is imported.

    Raises:
        InputError: there is no such model.
        PluginError: the plug-in of this model cannot be imported.

    Example:
        >>> entry = find_model("icomformer")
        >>> entry.view, entry.preset
        ('comformer', 'comformer')
    """
    found = MODEL_REGISTRY.get(name)
    if isinstance(found, ModelEntry):
        return found if found.name == name else replace(found, name=name)
    from torch.nn import Module

    if not (isinstance(found, type) and issubclass(found, Module)):
        msg = (
            f"the model {name!r} is {found!r:.200}; required: a subclass of torch.nn.Module, or a "
            "lazygraph.training.models.ModelEntry"
        )
        raise InputError(msg)
    view, preset = _text(found, "view", "pyg"), _text(found, "preset", "")
    return ModelEntry(name, view, preset, partial(_build, found))


def _fit(module: str, /, dataset: LazyGraphDataset, hyperparameters: Mapping[str, Any]) -> Fitted:
    found: Fitted = importlib.import_module(module).fit_to(dataset, hyperparameters)
    return found


def _construct(module: str, kind: str, /, outputs: int, **hyperparameters: Any) -> Module:
    return _build(getattr(importlib.import_module(module), kind), outputs, **hyperparameters)


def _build(constructor: Callable[..., Module], /, outputs: int, **hyperparameters: Any) -> Module:
    signature = inspect.signature(constructor)
    if "outputs" in signature.parameters:
        hyperparameters["outputs"] = outputs
    try:
        signature.bind(**hyperparameters)
    except TypeError as error:
        takes = ", ".join(parameter for parameter in signature.parameters if parameter != "outputs")
        msg = f"the model {constructor.__name__}: {error}; its hyperparameters are: {takes or 'none'}"
        raise InputError(msg) from error
    return constructor(**hyperparameters)


def _text(kind: type, attribute: str, default: str) -> str:
    # A method or a submodule of that name says nothing about the data.
    value = getattr(kind, attribute, default)
    return value if isinstance(value, str) else default


_ALL = (
    ModelEntry("icomformer", "comformer", "comformer", partial(_construct, f"{__name__}.comformer", "IComformer")),
    # It reads no lattice vectors, which are half of the bytes of the other view.
    ModelEntry("ecomformer", "matformer", "comformer", partial(_construct, f"{__name__}.comformer", "EComformer")),
    ModelEntry(
        "ecomformer-half",
        "matformer",
        "comformer",
        partial(_construct, f"{__name__}.comformer", "EComformer", scalar_channels=64),
    ),
    ModelEntry("cgcnn", "matformer", "cgcnn", partial(_construct, f"{__name__}.cgcnn", "Cgcnn")),
    ModelEntry("m3gnet", "m3gnet", "m3gnet", partial(_construct, f"{__name__}.matgl", "M3GNet")),
    ModelEntry(
        "mace", "mace", "mace", partial(_construct, f"{__name__}.mace", "Mace"), partial(_fit, f"{__name__}.mace")
    ),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ALL}
"""Name -> model of the package."""

MODEL_REGISTRY: Registry[Any] = Registry("model", MODELS, group="lazygraph.models", importable=True)
"""The models by name: ``MODELS``, the models of installed plug-ins, and ``module:Class``."""


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
