"""``Registry``: named things of one kind, from the package and from plug-ins that other packages declare."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lazygraph.errors import InputError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "unknown_name"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Name -> thing of one kind.

    A name belongs to the package, or to an entry point that an installed package declares in the group of this
    registry. The package's own names come first: a plug-in cannot replace them. A plug-in is imported when its name is
    looked up, and never before.

    Only names that a user gave may be passed to :meth:`get`. A name that was read from a dataset, a plan or a
    checkpoint goes through :meth:`known`, which imports nothing: files of strangers must not run code.

    Args:
        kind: what the things are, as errors call them, such as ``"preset"``.
        own: name -> thing of the package.
        group: the group of the entry points, such as ``"lazygraph.presets"``.
        type_: the class that a plug-in must hold, or a subclass of; None for anything.
        importable: also take ``module:attribute`` for a thing in any module that can be imported.
        error: the class of the error for an unknown name.

    Example:
        >>> shapes = Registry("shape", {"square": 4, "triangle": 3}, group="lazygraph.shapes")
        >>> shapes.get("square")
        4
        >>> shapes.get("triangel")
        Traceback (most recent call last):
        ...
        lazygraph.errors.InputError: unknown shape 'triangel'; did you mean 'triangle'? known: square, triangle
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, T],
        *,
        group: str,
        type_: type[Any] | None = None,
        importable: bool = False,
        error: type[InputError] = InputError,
    ) -> None:
        self.kind, self.group = kind, group
        self._own = MappingProxyType(dict(own))
        self._type, self._importable, self._error = type_, importable, error
        self._loaded: dict[str, T] = {}

    def get(self, name: Any) -> T:
        """The thing of this name; imports the plug-in that declares it.

        Raises:
            InputError: nothing has this name; the message lists the known names, and a similar one if there is one.
            PluginError: the plug-in cannot be imported or holds something else, or two packages declare the name.
        """
        if (found := self.known(name)) is not None:
            return found
        if self._importable and isinstance(name, str) and name.count(":") == 1 and all(name.split(":")):
            found = self._import(name)
        else:
            points = self._plugins().get(name, ()) if isinstance(name, str) else ()
            if not points:
                raise self.unknown(name)
            found = self._load(name, points)
        self._loaded[name] = found
        return found

    def known(self, name: Any) -> T | None:
        """The thing of this name if it is the package's own, or of a plug-in that is in use; else None."""
        if not isinstance(name, str):
            return None
        return self._own.get(name, self._loaded.get(name))

    def names(self) -> tuple[str, ...]:
        """All names: the package's own, then those of plug-ins, sorted. Imports no plug-in."""
        return (*self._own, *self.plugins())

    def plugins(self) -> tuple[str, ...]:
        """The names that plug-ins declare, sorted. Imports no plug-in."""
        return tuple(sorted(self._plugins().keys() - self._own.keys()))

    def used(self) -> tuple[str, ...]:
        """The names of the plug-ins that this process uses. Pass them to :meth:`use` in its worker processes."""
        return tuple(self._loaded)

    def use(self, names: Iterable[str]) -> None:
        """Import these plug-ins, which a user named in the process that started this one."""
        for name in names:
            self.get(name)

    def origin(self, name: str) -> str | None:
        """The package that declares a plug-in, with its version, such as ``"lazygraph-toy 0.1"``; None if none does."""
        points = () if name in self._own else self._plugins().get(name, ())
        return _package(points[0]) if points else None

    def unknown(self, name: Any) -> InputError:
        """The error for a name that nothing has."""
        more = f"; or module:variable for a {self.kind} of your own" if self._importable else ""
        return self._error(unknown_name(self.kind, name, self.names()) + more)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, group={self.group!r})"

    def _plugins(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _entry_points(self.group, tuple(sys.path))

    def _import(self, name: str) -> T:
        module, attribute = name.split(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            msg = (
                f"the {self.kind} {name!r} cannot be imported ({error}); required: module:variable of a module that "
                f"can be imported, or one of {', '.join(self.names())}"
            )
            raise self._error(msg) from error
        if not self._fits(found):
            msg = f"the {self.kind} {name!r} is a {type(found).__name__}; required: a {self._required}"
            raise self._error(msg)
        return found  # type: ignore[no-any-return]  # just checked, where the registry has a type

    def _load(self, name: str, points: tuple[EntryPoint, ...]) -> T:
        packages = sorted({_package(point) for point in points})
        if len(packages) > 1:
            msg = f"the {self.kind} {name!r} is declared by {' and '.join(packages)}; uninstall all but one of them"
            raise PluginError(msg)
        point = points[0]
        said = f"the {self.kind} {name!r} of {packages[0]} ({point.value})"
        try:
            found = point.load()
        except Exception as error:
            msg = f"{said} cannot be imported: {type(error).__name__}: {error}. Repair or uninstall that package"
            raise PluginError(msg) from error
        if not self._fits(found):
            msg = f"{said} is {found!r:.200}; required: a {self._required}"
            raise PluginError(msg)
        return found  # type: ignore[no-any-return]

    def _fits(self, found: Any) -> bool:
        if self._type is None:
            return True
        return issubclass(found, self._type) if isinstance(found, type) else isinstance(found, self._type)

    @property
    def _required(self) -> str:
        return f"{self._type.__module__}.{self._type.__qualname__}" if self._type else "thing of this kind"


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> str:
    """The sentence about a name that nothing has, with a similar known name and all known names.

    Example:
        >>> unknown_name("boundary", "lower", ["lowest", "highest"])
        "unknown boundary 'lower'; did you mean 'lowest'? known: lowest, highest"
    """
    names = list(known)
    # Below 0.65, a hint is rather wrong than right: 'nodes' is as similar to 'edges' as 0.6.
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.65) if isinstance(name, str) else []
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(names) or 'none'}"


@lru_cache(maxsize=64)
def _entry_points(group: str, path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:  # noqa: ARG001
    """The entry points of a group by name, found along ``sys.path``.

    Cached for each path, because reading the metadata of all installed packages takes about 10 ms.
    """
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return MappingProxyType(found)


def _package(point: EntryPoint) -> str:
    """The package that declares an entry point, and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an installed package"
