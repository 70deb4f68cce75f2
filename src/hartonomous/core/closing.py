"""What is closed at the end: a base class for context managers that do no more than that."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Has a ``close``, which leaving its ``with`` block calls, whatever was raised there.

    Where the block failed and the end fails too, the first error goes on with a note of the
    second: what went wrong first says more, such as how much room was wanted.
    """

    __slots__ = ()

    _END_FAILED = "ending it failed too"
    """What the note of the second error says of it."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as second:
            if error is None:
                raise
            error.add_note(f"{self._END_FAILED}: {second}")
