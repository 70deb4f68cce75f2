"""What an index of words holds of stored files and of versions, and what is looked for in it."""

from typing import NamedTuple

import msgspec


class IndexedSource(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file; without passages where it has no text that is read."""

    digest: bytes
    recipe: str
    kind: str
    title: str = ""
    pages: str = ""
    metadata: dict[str, str] = {}
    notices: tuple[tuple[str, str], ...] = ()
    passages: int = 0


class IndexedPassage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One passage; see ``core.passage.Passage``."""

    id: int = 0
    digest: bytes = b""
    kind: str
    heading: str
    page: int
    start: int
    stop: int
    text: str


class SaidVersion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is said of a version, in one line; ``stamp`` changes whenever it may be another."""

    uid: bytes
    stamp: bytes
    text: str


Phrase = tuple[str, ...]
"""Terms that stand together; mostly one alone."""


class WordMatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, in terms: any of these, all of those, none of the others.

    ``also`` need not be there, and counts where it is.
    """

    any_of: tuple[Phrase, ...]
    all_of: tuple[Phrase, ...] = ()
    none_of: tuple[Phrase, ...] = ()
    also: tuple[Phrase, ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """Every term that counts, each once."""
        return tuple(dict.fromkeys(term for one in (*self.all_of, *self.any_of, *self.also)
                                   for term in one))  # fmt: skip


class RankedPassage(NamedTuple):
    """A passage that was found, where it is, and its score: larger is better."""

    id: int
    digest: bytes
    page: int
    start: int
    score: float
