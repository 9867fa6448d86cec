"""Labels that ASE keeps as the results of a calculator, and the units that it assumes for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lazygraph.sources.base import Label
from lazygraph.sources.units import ASE

__all__ = ["is_result", "other_units"]

# Level and shapes of the results of ASE's calculators (ase.outputs).
_SHAPES: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "energy": ("graph", ((),)),
    "free_energy": ("graph", ((),)),
    "magmom": ("graph", ((),)),
    "dipole": ("graph", ((3,),)),
    "stress": ("graph", ((6,), (3, 3))),
    "forces": ("node", ((3,),)),
    "charges": ("node", ((),)),
    "magmoms": ("node", ((),)),
    "energies": ("node", ((),)),
    "stresses": ("node", ((6,),)),
}


def is_result(label: Label) -> bool:
    """Tell whether ASE has a result of this name, level and shape, in the unit of the label if it has one.

    Example:
        >>> is_result(Label("forces", "node", (3,), "eV/A")), is_result(Label("stress", "graph", (3, 3), "kbar"))
        (True, False)
    """
    level, shapes = _SHAPES.get(label.name, ("", ()))
    fits = label.level == level and label.shape in shapes and label.dtype not in ("text", "bool")
    return fits and label.unit in (None, ASE.units[label.name])


def other_units(labels: Iterable[Label], what: str) -> Iterator[str]:
    """Yield a sentence for each label with the name of a result, and another unit than ASE assumes.

    Args:
        labels: the labels of a dataset.
        what: what is done with it, before the unit of ASE.
    """
    for label in labels:
        assumed = ASE.units.get(label.name) if label.name in _SHAPES else None
        if assumed is not None and label.unit not in (None, assumed):
            yield f"the label {label.name!r} has the unit {label.unit}; {what} {assumed}"
