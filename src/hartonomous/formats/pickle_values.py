"""What a pickle holds, as values that do nothing: what ``formats/inert_pickle.py`` builds.

None, booleans, numbers, texts, bytes, tuples and lists stand for themselves. The rest is of the
classes here. Nothing in them is ever called, imported, compared or hashed by what it holds.
"""

from typing import Any

Value = Any
"""Anything that a pickle may hold: see the module."""


class Global:
    """A name that loading would import: ``module`` and ``name`` as the pickle writes them."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> str:
        """The dotted name, with today's names of Python 2's modules."""
        return f"{_RENAMED.get(self.module, self.module)}.{self.name}"


_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "cPickle": "pickle"}


class Mapping:
    """A dict: keys and values in turn. Keys may come twice; the last one would count."""

    __slots__ = ("items",)

    def __init__(self, items: list[Value]) -> None:
        self.items = items


class Group:
    """A set or frozenset."""

    __slots__ = ("items",)

    def __init__(self, items: list[Value]) -> None:
        self.items = items


class Call:
    """An object that loading would make by calling ``function`` with ``arguments``.

    ``state`` is what it would be given afterwards (``__setstate__`` or attributes); ``appended``
    and ``items`` (keys and values in turn) what would be put into it.
    """

    __slots__ = ("appended", "arguments", "function", "items", "state")

    def __init__(self, function: Value, arguments: Value) -> None:
        self.function = function
        self.arguments = arguments
        self.state: Value = None
        self.appended: list[Value] | None = None
        self.items: list[Value] | None = None

    @property
    def path(self) -> str:
        """The dotted name of what would be called; empty if that is no name but an object."""
        return self.function.path if isinstance(self.function, Global) else ""


class Persistent:
    """An object that lies outside of the pickle, such as a storage; ``id`` says which."""

    __slots__ = ("id",)

    def __init__(self, id_: Value) -> None:
        self.id = id_
