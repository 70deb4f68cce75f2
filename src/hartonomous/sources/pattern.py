"""Patterns of ``--include`` and ``--exclude``.

A pattern is matched against paths with ``/`` between parts, relative to the argument (in hub
caches and Ollama's folder: the artifact's name, ``/``, the path inside it). ``*``, ``?`` and
``[a-z]`` work inside one part, ``**`` stands for any number of parts. A pattern without a slash
matches a part at any depth (``/x`` only at the top); a pattern that matches a folder covers
everything below it. Upper and lower case differ. A file is kept if some include pattern matches (or
there is none) and no exclude pattern does.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from hartonomous.errors import UsageError

Pattern = tuple[re.Pattern[str] | None, ...]
"""One expression for each part of a path; None is ``**``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which files are wanted, by path; ``hidden`` ones in folders only if asked for."""

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    hidden: bool = False

    def keeps(self, path: str) -> bool:
        """Say whether a file of this relative path is wanted."""
        if not self.include and not self.exclude:
            return True
        parts = _parts_of(path)
        if self.include and not any(_covers(pattern, parts) for pattern in self.include):
            return False
        return not any(_covers(pattern, parts) for pattern in self.exclude)

    def enters(self, path: str) -> bool:
        """Say whether a folder may hold wanted files; one that is excluded is not listed at all."""
        if not self.exclude:
            return True
        parts = _parts_of(path)
        return not any(_covers(pattern, parts) for pattern in self.exclude)


def make_filter(
    include: Iterable[str] = (), exclude: Iterable[str] = (), *, hidden: bool = False
) -> Filter:
    """Return the filter of these patterns; raises UsageError on an empty pattern."""
    return Filter(
        include=tuple(_compile(pattern) for pattern in include),
        exclude=tuple(_compile(pattern) for pattern in exclude),
        hidden=hidden,
    )


def _compile(pattern: str) -> Pattern:
    parts = _parts_of(pattern)
    if not parts:
        raise UsageError(
            f"the pattern {pattern!a} is empty", hint="write something like '*.safetensors'"
        )
    if len(parts) == 1 and not pattern.startswith("/"):
        parts = ["**", *parts]
    return tuple(None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts)


def _parts_of(path: str) -> list[str]:
    return [part for part in unicodedata.normalize("NFC", path).split("/") if part]


def _covers(pattern: Pattern, parts: list[str]) -> bool:
    """Say whether the pattern matches the path or one of its parent folders.

    Follows all readings of ``**`` at once, so the work is at most parts times pattern parts.
    """
    reached = {0}  # how many parts of the path the pattern may have used up so far
    for expression in pattern:
        if expression is None:
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and expression.match(parts[at])}
        if not reached:
            return False
    return True
