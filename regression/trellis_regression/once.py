"""A property that is computed once, by whichever thread asks first; the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, RLock
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
_granting = Lock()


class once(Generic[T]):  # noqa: N801 (it is used as functools.cached_property is)
    """functools.cached_property for objects that several threads share.

    That of Python 3.11 and before has one lock for all objects of a class, so two assets cannot be measured side by side;
    that of 3.12 has none, and two threads compute the same value twice.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        held = instance.__dict__
        with _granting:
            lock = held.setdefault(f"_lock of {self._name}", RLock())
        with lock:
            if self._name not in held:
                held[self._name] = self._compute(instance)
            value: T = held[self._name]
            return value
