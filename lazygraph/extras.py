"""Optional packages: imported when they are needed, with an error that names the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from lazygraph.errors import MissingExtra

__all__ = ["require"]


def require(module: str, extra: str, what: str) -> Any:
    """Import a module of an optional package and return it.

    Args:
        module: its name.
        extra: the extra of lazygraph that installs the package.
        what: what needs it, as the error begins.

    Raises:
        MissingExtra: the package is not installed.

    Example:
        >>> require("a_package_of_nobody", "hub", "hf:// URLs")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        lazygraph.errors.MissingExtra: hf:// URLs need the package a_package_of_nobody, which is not installed: pip ...
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        msg = f"{what} need the package {package}, which is not installed: pip install 'lazygraph[{extra}]'"
        raise MissingExtra(msg) from error
