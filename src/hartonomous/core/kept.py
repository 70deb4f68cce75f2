"""An attribute that is made when it is first used, and kept; its owner hears of each use."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Kept(Generic[T]):
    """What a method returns, made once for all threads; each use asks its owner for ``parts``.

    So whoever goes on with a store after an hour begins a piece of work, whatever it is done
    through: with ``functools.cached_property`` the store would hear of the first use alone.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: type) -> T: ...
    def __get__(self, owner: Any, kind: type) -> Self | T:
        """Return what is kept."""
        if owner is None:
            return self
        _ = owner.parts
        held = vars(owner)
        made: T | None = held.get(self._name)
        return held.setdefault(self._name, self._make(owner)) if made is None else made

    def __set__(self, owner: object, value: T) -> None:
        """Put another in its place."""
        vars(owner)[self._name] = value
