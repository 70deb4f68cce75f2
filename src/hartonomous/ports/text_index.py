"""Port of indexes of words: derived structures that find passages and versions by their terms.

They may be dropped at any time and are filled again from the stored files. Files are known by
their digest and versions by their uid, never by name, so that renaming and removing cost an index
nothing. Terms are those of ``core.terms``.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

from hartonomous.core.indexed_text import (
    IndexedPassage,
    IndexedSource,
    RankedPassage,
    SaidVersion,
    WordMatch,
)


class TextIndex(Protocol):
    """One index, open; close it, or use it as a context manager. Not for several threads.

    Several processes may have it open at once, while another one drops or fills it: each call sees
    one state, and what was found in one call may be gone in the next.
    """

    def __enter__(self) -> Self:
        """Return the index."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...

    def is_writable(self) -> bool:
        """Say whether this user may write to it."""
        ...

    def mark(self) -> str:
        """Return what ``set_mark`` was last given, empty at first."""
        ...

    def set_mark(self, mark: str) -> None:
        """Remember up to which change of the catalog everything is in it."""
        ...

    def put(self, source: IndexedSource, passages: Sequence[IndexedPassage]) -> None:
        """Take in one file's passages, in the place of those that were there."""
        ...

    def forget(self, digests: Iterable[bytes]) -> int:
        """Leave files out from now on; return how many there were."""
        ...

    def recipes(self) -> dict[bytes, str]:
        """Return {file digest: recipe} of every file that was read."""
        ...

    def stamps(self) -> dict[bytes, bytes]:
        """Return {uid: stamp} of every version that something is said of."""
        ...

    def put_said(self, versions: Iterable[SaidVersion]) -> None:
        """Take in what is said of versions, in the place of what was."""
        ...

    def forget_said(self, uids: Iterable[bytes]) -> None:
        """Leave versions out from now on."""
        ...

    def sources(self, digests: Iterable[bytes]) -> dict[bytes, IndexedSource]:
        """Return what is known of files."""
        ...

    def passages_of(self, digest: bytes) -> list[IndexedPassage]:
        """Return a file's passages in order."""
        ...

    def passage_at(self, digest: bytes, page: int, start: int) -> IndexedPassage | None:
        """Return the passage of a file that begins at a character of a page, None if none does."""
        ...

    def passages(self, ids: Sequence[int]) -> dict[int, IndexedPassage]:
        """Return {id: passage} of those that are there."""
        ...

    def ranked(self, match: WordMatch, *, limit: int) -> list[RankedPassage]:
        """Return what matches by its BM25, the best first.

        k1 = 1.2, b = 0.75; headings count twice.
        """
        ...

    def ranked_said(self, match: WordMatch, *, limit: int) -> list[tuple[bytes, float]]:
        """Return (version's uid, BM25) of the versions of which it is said, the best first."""
        ...

    def passage_count(self) -> int:
        """Return how many passages there are."""
        ...

    def counts(self, terms: Iterable[str]) -> dict[str, int]:
        """Return {term: passages that have it} of those that any has."""
        ...

    def candidates(self, term: str) -> list[str]:
        """Return terms of passages that may be like this one; see ``core.likeness``."""
        ...

    def metadata_keys(self) -> set[str]:
        """Return the keys that the metadata of any file has."""
        ...

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return {kind: (files, passages)}."""
        ...

    def stored_bytes(self) -> int:
        """Return what it takes on a disk."""
        ...
