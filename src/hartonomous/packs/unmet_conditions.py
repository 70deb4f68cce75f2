"""Why nothing passes a search's filter: names, tags, kinds and keys that nothing in use has."""

import fnmatch
from collections.abc import Iterable
from difflib import get_close_matches

from hartonomous.catalog import artifacts, spaces, texts, versions
from hartonomous.catalog.database import Database
from hartonomous.core.condition import Condition, values_of

_MOST_NAMES = 100_000
_MOST_NEAR = 3


def unmet_name(database: Database, pattern: str) -> list[str]:
    """Say that no artifact in use has a name like a pattern, and which one may be meant."""
    with database.read() as tx:
        names = artifacts.all_names(tx, limit=_MOST_NAMES)
        below = artifacts.names_below(tx, pattern, limit=_MOST_NEAR)
    if len(names) == _MOST_NAMES or any(fnmatch.fnmatchcase(one, pattern) for one in names):
        return []
    near = below or get_close_matches(pattern, names, n=_MOST_NEAR)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return [f"no artifact has the name {pattern!r}{meant}"]


def unmet_tag(database: Database, tag: str) -> list[str]:
    """Say that no version in use has a tag, and which ones are like it."""
    with database.read() as tx:
        used = {one.id for one in versions.live(tx)}
        said = texts.tags_and_metadata(tx)
    known = {one for at, (tags, _) in said.items() if at in used for one in tags}
    if tag in known:
        return []
    return [f"no artifact has the tag {tag!r}{told_near(tag, known)}"]


def unmet_kind(database: Database, condition: Condition, documents: Iterable[str]) -> list[str]:
    """Say that nothing has a kind that a condition asks for, and which kinds there are.

    ``documents`` are the kinds of what was read for search.
    """
    asked = values_of(condition, "kind")
    if not asked:
        return []
    with database.read() as tx:
        kinds = {*documents, *(one.kind for one in versions.live(tx))} - {spaces.KIND}
    return _unmet("kind", asked, kinds)


def unmet_format(database: Database, condition: Condition, documents: Iterable[str]) -> list[str]:
    """Say that nothing has a format that a condition asks for, and which formats there are.

    What a document was read as counts as its format, beside what its file was stored as.
    """
    asked = values_of(condition, "format")
    if not asked:
        return []
    with database.read() as tx:
        formats = {*documents, *texts.formats(tx)}
    return _unmet("format", asked, formats)


def _unmet(field: str, asked: set[str], known: set[str]) -> list[str]:
    if any(fnmatch.fnmatchcase(there, one) for there in known for one in asked):
        return []
    there = f"; there is {', '.join(sorted(known))}" if known else ""
    return [f"nothing has the {field} {' or '.join(map(repr, sorted(asked)))}{there}"]


def told_near(asked: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; there is …`` with those of some words that are like one, empty for none."""
    near = get_close_matches(asked, list(known), n=_MOST_NEAR)
    return f"; there is {' and '.join(f'{prefix}{one}' for one in near)}" if near else ""
