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
    from lazygraph.training.models.alignn import from_released as load_alignn
    from lazygraph.training.models.cgcnn import from_released as load_cgcnn
    from lazygraph.training.models.comformer_weights import comformer_state_dict, load_comformer
    from lazygraph.training.models.matformer import from_released as load_matformer
    from lazygraph.training.models.potnet import from_released as load_potnet

Fitted = tuple[View, dict[str, Any]]

__all__ = [
    "MODELS",
    "MODEL_REGISTRY",
    "ModelEntry",
    "comformer_state_dict",
    "find_model",
    "find_potential",
    "load_alignn",
    "load_cgcnn",
    "load_comformer",
    "load_matformer",
    "load_potnet",
]

_WITH_TORCH = {
    "comformer_state_dict": ("comformer_weights", "comformer_state_dict"),
    "load_alignn": ("alignn", "from_released"),
    "load_cgcnn": ("cgcnn", "from_released"),
    "load_comformer": ("comformer_weights", "load_comformer"),
    "load_matformer": ("matformer", "from_released"),
    "load_potnet": ("potnet", "from_released"),
}


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
    potential: ModelEntry | None = None
    """The model as an interatomic potential: its ``build`` takes only hyperparameters, and returns a
    :class:`lazygraph.training.models.potentials.Potential`. None if it cannot give forces."""

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


def find_potential(name: str) -> ModelEntry:
    """Return the model of a name as an interatomic potential.

    Args:
        name: a name that the user gave, as for :func:`find_model`.

    Raises:
        InputError: there is no such model, or it cannot give forces.
        PluginError: the plug-in of this model cannot be imported.
    """
    found = find_model(name).potential
    if found is None:
        able = ", ".join(sorted(entry.name for entry in MODELS.values() if entry.potential is not None))
        msg = (
            f"the model {name!r} cannot learn forces; models that can: {able}. Choose one of them (--model), or leave "
            "forces out"
        )
        raise InputError(msg)
    return found if found.name == name else replace(found, name=name)


def _only_a_potential(name: str, outputs: int, **hyperparameters: Any) -> Module:  # noqa: ARG001
    """Refuse a model without forces.

    Raises:
        InputError: always.
    """
    msg = (
        f"the model {name!r} is an interatomic potential; give the label of the forces too, as in forces='forces' "
        "(--forces forces), or choose another model"
    )
    raise InputError(msg)


def _potential(name: str, view: str, preset: str, *, kind: str, fit: str) -> ModelEntry:
    """Return the entry of a class of potentials, and of the function ``module.function`` that fits it to graphs."""
    module, _, function = fit.partition(".")
    return ModelEntry(
        name,
        view,
        preset,
        partial(_construct, f"{__name__}.potentials", kind),
        partial(_fit_with, f"{__name__}.{module}", function),
    )


def _fit_with(module: str, function: str, /, dataset: LazyGraphDataset, hyperparameters: Mapping[str, Any]) -> Fitted:
    found: Fitted = getattr(importlib.import_module(module), function)(dataset, hyperparameters)
    return found


def _fit(module: str, /, dataset: LazyGraphDataset, hyperparameters: Mapping[str, Any]) -> Fitted:
    return _fit_with(module, "fit_to", dataset, hyperparameters)


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
    ModelEntry("matformer", "matformer", "matformer", partial(_construct, f"{__name__}.matformer", "Matformer")),
    ModelEntry(
        "potnet",
        "potnet",
        "potnet",
        partial(_construct, f"{__name__}.potnet", "PotNet"),
        partial(_fit, f"{__name__}.potnet"),
    ),
    ModelEntry("alignn", "alignn", "alignn-2026", partial(_construct, f"{__name__}.alignn", "Alignn")),
    ModelEntry("cgcnn", "matformer", "cgcnn", partial(_construct, f"{__name__}.cgcnn", "Cgcnn")),
    ModelEntry("cgcnn-pyg", "matformer", "cgcnn", partial(_construct, f"{__name__}.cgcnn_pyg", "CgcnnPyg")),
    ModelEntry(
        "m3gnet",
        "m3gnet",
        "m3gnet",
        partial(_construct, f"{__name__}.matgl", "M3GNet"),
        partial(_fit_with, f"{__name__}.potentials", "fit_m3gnet_of_properties"),
        potential=_potential("m3gnet", "m3gnet", "m3gnet", kind="M3GNetPotential", fit="potentials.fit_m3gnet"),
    ),
    ModelEntry(
        "chgnet-matgl",
        "matgl-chgnet",
        "chgnet",
        partial(_only_a_potential, "chgnet-matgl"),
        potential=_potential(
            "chgnet-matgl", "matgl-chgnet", "chgnet", kind="MatglChgnetPotential", fit="potentials.fit_matgl_chgnet"
        ),
    ),
    ModelEntry(
        "chgnet",
        "chgnet",
        "chgnet",
        partial(_only_a_potential, "chgnet"),
        potential=_potential("chgnet", "chgnet", "chgnet", kind="ChgnetPotential", fit="potentials.fit_chgnet"),
    ),
    ModelEntry(
        "mace",
        "mace",
        "mace",
        partial(_construct, f"{__name__}.mace", "Mace"),
        partial(_fit, f"{__name__}.mace"),
        potential=_potential("mace", "mace", "mace", kind="MacePotential", fit="mace.fit_to"),
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
    module, function = _WITH_TORCH[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
