"""``cached_property``: an attribute that is computed at its first use and kept, without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_property"]

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801  # named like the one of functools that it stands for
    """As ``functools.cached_property``, safe where a process forks while a thread reads.

    The one of Python 3.11 holds a lock, shared by all instances of a class, while it computes. A child that was forked
    at that moment waits for the lock for ever. Here there is none: where two threads come at the same time, both
    compute, and both get what the first of them kept.

    Args:
        function: computes the value of an instance, which must have a ``__dict__``.

    Example:
        >>> class Crystal:
        ...     @cached_property
        ...     def volume(self):
        ...         print("computed")
        ...         return 8.0
        >>> crystal = Crystal()
        >>> crystal.volume, crystal.volume
        computed
        (8.0, 8.0)
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> cached_property[T]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> cached_property[T] | T:
        if instance is None:
            return self
        kept: T = instance.__dict__.setdefault(self.name, self.function(instance))
        return kept
