"""What one store tells another of its names, and how two of them agree; see docs/copies.md.

Everything that may change is a register with the time at which it was last stated: the later
statement wins, whoever made it, and of equal times the greater value. So merging is the same in
either order and changes nothing when it is done again. Times are microseconds UTC.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hartonomous.core.name import parse_selector, split_spec

AHEAD_US = 86_400_000_000
"""So far ahead of the clock here a statement may be and still count as made then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionState:
    """A version and what was stated of it; ``touched_us`` is when it came, went or came back."""

    uid: bytes
    number: int
    digest: bytes
    size_bytes: int
    created_us: int
    removed: bool
    touched_us: int
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # key -> value, time


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactState:
    """A name and its versions, the trash included; a label points to a version or to nothing."""

    uid: bytes
    name: str
    named_us: int
    removed: bool
    next_number: int
    versions: tuple[VersionState, ...]
    labels: Mapping[str, tuple[bytes | None, int]]

    @property
    def live(self) -> list[VersionState]:
        """The versions in use, in order of number."""
        return [one for one in self.versions if not one.removed]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationState:
    """A statement about two versions, or (not ``stated``) that it was taken back."""

    source_uid: bytes
    target_uid: bytes
    kind: str
    weight: float | None
    note: str
    touched_us: int
    stated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionContent:
    """What a version's commit says beside its place in a store; ``members`` as a commit has them.

    ``manifest`` of a member is the digest of the manifest that the sending store has.
    """

    uid: bytes
    kind: str
    members: tuple[dict[str, Any], ...]
    model: dict[str, Any] | None
    source_host: str
    source_place: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Numbered:
    """A version as far as its number is concerned."""

    uid: bytes
    number: int
    created_us: int


def merge_numbers(
    here: Sequence[Numbered], there: Sequence[Numbered], *, first_free: int
) -> dict[bytes, int]:
    """Return {uid: number} of all versions that two stores have of one artifact.

    Numbers only grow: of two numbers of one version the greater one holds. Where two versions have
    one number, all are gone through in order of time: each keeps its number if that is greater than
    the one before, and gets the next free one otherwise. ``first_free`` is over all numbers that
    were ever given.
    """
    known: dict[bytes, Numbered] = {}
    for one in (*here, *there):
        before = known.get(one.uid)
        if before is not None:
            one = Numbered(  # noqa: PLW2901
                one.uid, max(one.number, before.number), min(one.created_us, before.created_us)
            )
        known[one.uid] = one
    numbers = {uid: one.number for uid, one in known.items()}
    if len(set(numbers.values())) == len(numbers):
        return numbers
    free = max(first_free, *(number + 1 for number in numbers.values()))
    last = 0
    for one in sorted(known.values(), key=lambda each: (each.created_us, each.uid)):
        number = one.number
        if number <= last:
            number, free = free, free + 1
        numbers[one.uid] = last = number
    return numbers


def bounded(state: ArtifactState, now_us: int) -> ArtifactState:
    """Return a state in which what was stated over a day ahead of ``now_us`` counts as oldest.

    Else a store whose clock is wrong, or that lies, would have the last word for ever.
    """
    latest = now_us + AHEAD_US

    def sane(time_us: int) -> int:
        return time_us if time_us <= latest else 0

    return replace(
        state,
        named_us=sane(state.named_us),
        versions=tuple(
            replace(
                one,
                created_us=min(one.created_us, latest),
                touched_us=sane(one.touched_us),
                metadata={key: (said, sane(at)) for key, (said, at) in one.metadata.items()},
            )
            for one in state.versions
        ),
        labels={name: (uid, sane(at)) for name, (uid, at) in state.labels.items()},
    )


def wins(time_us: int, value: bytes | str | None, other_us: int, other: bytes | str | None) -> bool:
    """Say whether a statement holds against another one; False where both say the same."""
    if value == other:
        return False
    if time_us != other_us:
        return time_us > other_us
    return repr(value) > repr(other)


def chosen_versions(state: ArtifactState, spec: str) -> set[bytes] | None:
    """Return the versions of an artifact that ``NAME``, a pattern or ``NAME@X`` means.

    None stands for all of them, an empty set for none.
    """
    if any(mark in spec for mark in "*?[") and fnmatch.fnmatchcase(state.name, spec):
        return None
    for name, selector in split_spec(spec):
        if name != state.name or state.removed:
            continue
        if selector is None:
            return None
        wanted = parse_selector(selector)
        label = state.labels.get(wanted.label or "", (None, 0))[0]
        prefix = wanted.digest_prefix
        for fits in (
            {one.uid for one in state.live if one.number == wanted.number},
            {label} if label is not None else set(),
            {one.uid for one in state.live if prefix and one.digest.hex().startswith(prefix)},
        ):
            if fits:
                return fits
    return set()
