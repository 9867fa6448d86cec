"""Training that begins with weights of an earlier run, and layers that keep them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lazygraph.errors import InputError
from lazygraph.registry import unknown_name
from lazygraph.text import printable, shortened
from lazygraph.training.predict import find_checkpoint, read_checkpoint, read_weights
from lazygraph.training.targets import Targets

__all__ = ["freeze", "start_from"]

NETWORK = "network."  # the beginning of the names of the network's weights in a checkpoint


def start_from(network: nn.Module, targets: Targets, path: str, fresh: Sequence[str] = ()) -> Targets:
    """Give a network the weights of a checkpoint.

    If the checkpoint has the same targets with the same units, the network also keeps its mean and standard deviation.
    Before the first step, it then predicts exactly what the checkpoint predicts.

    Args:
        network: the network that is going to be trained. Its weights are replaced.
        targets: the targets that it is going to learn, with the mean and standard deviation of their labels.
        path: a checkpoint, the folder of a finished run, or weights that ComFormer's authors released.
        fresh: patterns of names of weights that are not taken, such as ``readout.*``.

    Returns:
        The targets to train with.

    Raises:
        InputError: the file cannot be read, or its weights do not fit the network.
    """
    file = find_checkpoint(Path(path))
    found = read_weights(file)
    released = _released(found)
    of = ""
    if released is not None:
        weights, before = released, None
    else:
        stored, in_module = read_checkpoint(file)
        of = printable(shortened(f", {stored['model']!r} with {stored['model_options']!r}", 300))
        # Metrics of the module lie beside the network.
        weights = {name.removeprefix(NETWORK): each for name, each in in_module.items() if name.startswith(NETWORK)}
        before = Targets.from_json(stored["targets"])
    own = network.state_dict()
    left = set(_matching(own, fresh, "fresh"))
    for name, value in own.items():
        if name in left:
            continue
        other = weights.get(name)
        if other is None or other.shape != value.shape:
            has = "does not have it" if other is None else f"has the shape {tuple(other.shape)}"
            msg = (
                f"the weight {name!r} has the shape {tuple(value.shape)} in this network, and {path} {has}. Use the "
                f"model and the model_options of the checkpoint{of}, or begin without this weight: fresh=[{name!r}] "
                f"(--fresh {name})"
            )
            raise InputError(msg)
    if unknown := sorted(set(weights) - set(own)):
        msg = (
            f"{path} has the weight {unknown[0]!r}, and this network does not; use the model and the model_options of "
            f"the checkpoint{of}"
        )
        raise InputError(msg)
    network.load_state_dict({name: value if name in left else weights[name] for name, value in own.items()})
    if before is None or not _are_the_same(before, targets):
        return targets
    return replace(targets, mean=before.mean, std=before.std)


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Keep parameters as they are while the others are trained.

    Args:
        network: the network.
        patterns: names of parameters, or patterns such as ``layers.0.*``.

    Raises:
        InputError: a pattern fits no parameter, or all parameters would be frozen.
    """
    if not patterns:
        return
    parameters = dict(network.named_parameters())
    frozen = set(_matching(parameters, patterns, "freeze"))
    if len(frozen) == len(parameters):
        raise InputError("freeze fits every parameter, so nothing would be trained; freeze fewer")
    for name in frozen:
        parameters[name].requires_grad_(False)


def _matching(names: Iterable[str], patterns: Sequence[str], option: str) -> list[str]:
    """Return the names that fit a pattern.

    Raises:
        InputError: a pattern fits no name.
    """
    known = list(names)
    found: list[str] = []
    for pattern in patterns:
        fitting = [name for name in known if fnmatchcase(name, pattern)]
        if not fitting:
            modules = sorted({name.rpartition(".")[0] for name in known} - {""})
            msg = f"{option}: {unknown_name('weight', pattern, modules)}. A pattern such as 'layers.0.*' fits several"
            raise InputError(msg)
        found += fitting
    return found


def _released(found: Any) -> dict[str, Tensor] | None:
    """Return the weights of a network of ComFormer's authors under the names of the network here; None for others."""
    from lazygraph.training.models.comformer_weights import load_comformer

    inner = found.get("model", found) if isinstance(found, Mapping) else {}
    if not isinstance(inner, Mapping) or "atom_embedding.weight" not in {str(n).removeprefix("module.") for n in inner}:
        return None
    return dict(load_comformer(found).state_dict())


def _are_the_same(before: Targets, targets: Targets) -> bool:
    what = [(each.names, each.units, each.classes) for each in (before, targets)]
    per = zip(before.per, targets.per, strict=False)  # what one of the two does not say is not compared
    return what[0] == what[1] and all(None in pair or pair[0] == pair[1] for pair in per)
