"""Loading of weights that the authors of a network released, through a map of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from lazygraph.errors import InputError

__all__ = ["check_centers", "cleaned", "filled", "layers_of", "without"]

NEAR = 1e-4
BATCHES = ".num_batches_tracked"

Network = TypeVar("Network", bound=torch.nn.Module)


def cleaned(state_dict: Mapping[str, Any], kind: str, place: str = "model") -> dict[str, Tensor]:
    """Return the weights of a state dict by name.

    Args:
        state_dict: tensors by name, or a checkpoint that has them under ``place``. Names may begin with ``module.``,
            which ``DistributedDataParallel`` adds.
        kind: the network, for errors.
        place: the key of the weights in a released checkpoint.

    Raises:
        InputError: it holds something else.
    """
    given = state_dict.get(place, state_dict)
    if not isinstance(given, Mapping) or not all(isinstance(value, Tensor) for value in given.values()):
        msg = (
            f"found something else than tensors by name; give the state dict of a released {kind}, which "
            "torch.load(path, map_location='cpu') reads"
        )
        raise InputError(msg)
    return {name.removeprefix("module."): value for name, value in given.items()}


def without(weights: Mapping[str, Tensor], pattern: str) -> dict[str, Tensor]:
    """Return the weights whose names do not match a regular expression."""
    return {name: value for name, value in weights.items() if not re.fullmatch(pattern, name)}


def check_centers(weights: Mapping[str, Tensor], name: str, first: float, last: float) -> None:
    """Check that the centres of Gaussians among released weights, if they are there, are those of the network.

    Raises:
        InputError: they begin or end elsewhere.
    """
    centers = weights.get(name)
    if centers is not None and not (abs(float(centers[0]) - first) < NEAR and abs(float(centers[-1]) - last) < NEAR):
        begin, end = float(centers[0]), float(centers[-1])
        msg = f"the centres {name!r} run from {begin:g} to {end:g}; required: {first:g} to {last:g}"
        raise InputError(msg)


def layers_of(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of layers with names ``prefix.0.``, ``prefix.1.`` and so on."""
    return len({name.split(".")[1] for name in weights if name.startswith(f"{prefix}.")})


def filled(
    build: Callable[[Mapping[str, Tensor]], Network],
    weights: Mapping[str, Tensor],
    released: Callable[[str], str],
    kind: str,
) -> Network:
    """Build the network of the sizes of released weights, and load them.

    Args:
        build: returns a network from the weights, whose shapes determine its sizes.
        weights: released name -> weight.
        released: name of a weight here -> its released name.
        kind: the network, for errors.

    Returns:
        The network, in the precision of the weights.

    Raises:
        InputError: weights are missing, unknown, or of sizes that do not fit together.
    """
    try:
        network = build(weights)
    except (KeyError, ValueError, IndexError) as error:
        msg = f"the weights are not those of a released {kind}: {error} is missing or has another shape"
        raise InputError(msg) from error
    # Weights that torch saved before 2018 have no number of batches, which nothing here reads.
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(BATCHES)}
    pairs = {name: released(name) for name in own}
    weights = {name: value for name, value in weights.items() if not name.endswith(BATCHES)}
    if missing := sorted(set(pairs.values()) - set(weights)):
        msg = f"the weights lack {missing[0]!r} ({len(missing)} of {len(pairs)} are missing); give all of them"
        raise InputError(msg)
    if unknown := sorted(set(weights) - set(pairs.values())):
        msg = f"found the weight {unknown[0]!r}, which a released {kind} of these sizes does not have"
        raise InputError(msg)
    for name, value in own.items():
        found = weights[pairs[name]]
        if found.shape != value.shape:
            msg = f"the weight {pairs[name]!r} has the shape {tuple(found.shape)}; required: {tuple(value.shape)}"
            raise InputError(msg)
    dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
    network.to(dtype).load_state_dict({name: weights[pairs[name]] for name in own}, strict=False)
    return network
