"""Parts of a document that cannot be read: each costs itself alone, and a notice tells of it.

Limits are none of that: they end the document, or what a hostile one makes of them would be tried
part by part. A document of whose pages none can be read is refused like one without parts.
"""

import contextlib
from collections.abc import Iterator

from hartonomous.core.description import Notice
from hartonomous.errors import LimitError, StructureError

_TOLD = 4
"""Parts that are named; further ones are counted."""
_NOTICE_CHARS = 400
_NAME_CHARS = 60


class Damage:
    """Collects what could not be read of one document."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._more = 0
        self._first: StructureError | None = None
        self._sound = False

    @contextlib.contextmanager
    def page(self, what: str) -> Iterator[None]:
        """Read one of the parts (pages, slides, sheets, chapters) that the document consists of."""
        try:
            yield
            self._sound = True
        except LimitError:
            raise
        except StructureError as error:
            self._first = self._first or error
            self.note(what, error)

    @contextlib.contextmanager
    def beside(self, what: str) -> Iterator[None]:
        """Read a part without which the document's pages can be read too."""
        try:
            yield
        except LimitError:
            raise
        except StructureError as error:
            self.note(what, error)

    def note(self, what: str, error: StructureError) -> None:
        """Tell that a part is not read, once for each reason."""
        self.tell(f"not read: {what}: {error.message}")

    def tell(self, text: str) -> None:
        """Tell of a part."""
        text = text[:_NOTICE_CHARS]
        if text in self._told:
            return
        if len(self._told) < _TOLD:
            self._told.append(text)
        else:
            self._more += 1

    def check(self) -> None:
        """Raise the first page's StructureError where no page could be read."""
        if self._first is not None and not self._sound:
            raise self._first

    def notices(self) -> tuple[Notice, ...]:
        """Return what has to be said: the first parts by name, the others as a number."""
        texts = list(self._told)
        if self._more:
            texts.append(f"{self._more:,} more of its parts are damaged")
        return tuple(Notice(kind=StructureError.kind, text=text) for text in texts)


def named(kind: str, number: int, name: str) -> str:
    """Return what a part is called that has a number and, maybe, a name."""
    return f"{kind} {number} ({name[:_NAME_CHARS]!r})" if name else f"{kind} {number}"
