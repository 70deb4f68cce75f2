"""One file for each thing the product does; they never call each other.

``from hartonomous.operations import NAME`` gives a stand-in that loads the file when something of
it is first used, so that opening a store to read one file does not load all that can be done.
"""

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Later(ModuleType):
    """A module that is imported when one of its attributes is used; for several threads."""

    def _loaded(self) -> ModuleType:
        return importlib.import_module(self.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # one that is computed
        return self._loaded().__dict__

    def __dir__(self) -> list[str]:
        return dir(self._loaded())

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._loaded(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._loaded(), name)


if not TYPE_CHECKING:  # type checkers look at the files themselves

    def __getattr__(name: str) -> Any:
        """Return a stand-in for an operation's module; AttributeError where there is none."""
        whole = f"{__name__}.{name}"
        if name.startswith("_") or importlib.util.find_spec(whole) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _Later(whole)  # also while another thread is importing it
