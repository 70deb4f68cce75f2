"""From what people type to the version that is meant."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches

from sqlalchemy import Connection

from hartonomous.catalog import artifacts, versions
from hartonomous.catalog.artifacts import ArtifactRow
from hartonomous.catalog.versions import VersionRow
from hartonomous.core.digest import DIGEST_BYTES, LEAST_DIGITS, is_short_prefix, parse_digest_prefix
from hartonomous.core.name import Selector, parse_selector, split_spec
from hartonomous.errors import AmbiguousNameError, NotFoundError

_REVISION = re.compile(r"[0-9a-f]{40}")
_SUGGESTED_FROM = 5_000
"""Mistyped names are compared with at most so many."""
_SHORT = f"if this is the beginning of a digest: give {LEAST_DIGITS} digits or more"


def version(tx: Connection, spec: str) -> VersionRow:
    """Return the version that ``NAME`` (the newest) or ``NAME@X`` means.

    A digest or digest prefix of a version may stand alone. Raises NotFoundError with names that
    come near, AmbiguousNameError when several versions fit.
    """
    by_digest = _by_digest(tx, spec)
    if by_digest is not None:
        return by_digest
    artifact, selector = split(tx, spec)
    found = versions.of_artifact(tx, artifact.id)
    if not found:
        raise NotFoundError(f"{artifact.name} has no version left")
    if selector is None:
        return found[-1]
    return _select(tx, artifact, found, parse_selector(selector))


def split(tx: Connection, spec: str) -> tuple[ArtifactRow, str | None]:
    """Return the artifact and the selector text of ``NAME`` or ``NAME@X``; NotFoundError."""
    readings = split_spec(spec)
    for name, selector in readings:
        artifact = artifacts.by_name(tx, name)
        if artifact is not None:
            return artifact, selector
    wanted = readings[-1][0]
    near = artifacts.names_like(tx, wanted.rsplit("/", 1)[-1]) or get_close_matches(
        wanted, artifacts.all_names(tx, limit=_SUGGESTED_FROM), 3
    )
    near = sorted(near, key=lambda one: -SequenceMatcher(None, wanted, one).ratio())
    raise NotFoundError(f"no artifact is named {wanted!r}", hint=_instead(tx, wanted, near))


def _instead(tx: Connection, wanted: str, near: Sequence[str]) -> str:
    if any(one.name == wanted for one in versions.in_trash(tx)):
        return (
            "it is in the trash: 'hart undo' takes a removal back, 'hart log --undoable' lists them"
        )
    if any(letter in wanted for letter in "*?["):
        return (
            f"a name stands for itself here; hart ls -q {wanted!r} lists the names that fit, hart"
            f" export {wanted!r} DIR writes their files"
        )
    if artifacts.names_beginning(tx, f"{wanted}/", limit=1):
        several = f"{wanted}/*"
        return (
            f"several begin with it: hart ls {several!r} lists them, hart export {several!r} DIR"
            " writes their files"
        )
    if not near and is_short_prefix(wanted.rpartition("@")[2]):
        return _SHORT
    return f"did you mean {', '.join(near)}?" if near else "hart ls shows what is there"


def _by_digest(tx: Connection, spec: str) -> VersionRow | None:
    prefix = parse_digest_prefix(spec)
    if prefix is None or artifacts.by_name(tx, spec) is not None:
        return None
    low, high = digest_range(prefix)
    named = artifacts.having_digest(tx, low, high)
    if not named:
        return None
    if len({digest for _, digest in named}) > 1:
        raise AmbiguousNameError(
            f"{spec} fits several versions: {', '.join(sorted({name for name, _ in named})[:5])}",
            hint="give more digits",
        )
    artifact = artifacts.by_name(tx, named[0][0])
    if artifact is None:
        return None
    fitting = [one for one in versions.of_artifact(tx, artifact.id) if one.digest == named[0][1]]
    return fitting[-1]


def _select(
    tx: Connection, artifact: ArtifactRow, found: list[VersionRow], selector: Selector
) -> VersionRow:
    if selector.number is not None:
        for one in found:
            if one.number == selector.number:
                return one
    fitting: dict[int, VersionRow] = {}
    labels = artifacts.labels(tx, artifact.id)
    if selector.label is not None:
        target = labels.get(selector.label)
        fitting.update({one.id: one for one in found if one.id == target})
    if selector.digest_prefix is not None:
        digits = selector.digest_prefix
        fitting.update({one.id: one for one in found if one.digest.hex().startswith(digits)})
        # A revision of the hub's cache is a label of 40 digits, which lists show by its first ones.
        revisions = {
            version_id
            for label, version_id in labels.items()
            if _REVISION.fullmatch(label) and label.startswith(digits)
        }
        fitting.update({one.id: one for one in found if one.id in revisions})
    if len({one.digest for one in fitting.values()}) > 1:
        raise AmbiguousNameError(
            f"{artifact.name}@{selector.text} fits versions "
            f"{', '.join(str(one.number) for one in fitting.values())}",
            hint="use the version's number",
        )
    if fitting:
        return max(fitting.values(), key=lambda one: one.number)
    raise NotFoundError(
        f"{artifact.name} has no version {selector.text!r}",
        hint=_SHORT
        if is_short_prefix(selector.text)
        else f"hart ls --versions {artifact.name!r} shows which there are",
    )


def digest_range(prefix: str) -> tuple[bytes, bytes]:
    """Return the lowest and the highest digest that begins with these hex digits."""
    width = 2 * DIGEST_BYTES
    return bytes.fromhex(prefix.ljust(width, "0")), bytes.fromhex(prefix.ljust(width, "f"))
