"""Checks of the sizes of networks."""

from __future__ import annotations

from lazygraph.training.option_types import whole_number

__all__ = ["check_sizes"]


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Check that hyperparameters are whole numbers of at least ``least``.

    Raises:
        InputError: one of them is not; the error names it.

    Example:
        >>> check_sizes(conv_layers=3, node_features=128)
    """
    for name, value in sizes.items():
        whole_number(name, value, least)
