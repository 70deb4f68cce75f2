"""What another store's statements about an artifact change here; values only, see core/replica.py.

Versions of the two stores are one where their uids are, or, in use on both sides and without a
partner by uid, where their files are the same.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from hartonomous.core.replica import (
    ArtifactState,
    Numbered,
    VersionState,
    merge_numbers,
    wins,
)


@dataclass(slots=True, kw_only=True)
class Merge:
    """What is to be done here; versions and uids are those here, times when it was stated there."""

    incoming: list[VersionState] = field(default_factory=list)
    removed: list[tuple[VersionState, int]] = field(default_factory=list)
    restored: list[tuple[VersionState, int]] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)  # of all that are or come here
    renumbered: list[tuple[VersionState, int]] = field(default_factory=list)
    labels: list[tuple[str, bytes | None, int]] = field(default_factory=list)
    notes: list[tuple[bytes, tuple[str, ...], dict[str, str], int]] = field(default_factory=list)
    gone: int = 0  # versions in use there that were deleted for good here

    def __bool__(self) -> bool:
        """Say whether anything is to be done."""
        return any(
            (self.incoming, self.removed, self.restored, self.renumbered, self.labels, self.notes)
        )


def pairs_of(there: ArtifactState, here: ArtifactState | None) -> dict[bytes, VersionState]:
    """Return {uid there: version here} of versions that both stores have."""
    if here is None:
        return {}
    own = {one.uid: one for one in here.versions}
    pairs = {one.uid: own[one.uid] for one in there.versions if one.uid in own}
    free: dict[bytes, list[VersionState]] = {}
    for one in here.live:
        if one.uid not in pairs:
            free.setdefault(one.digest, []).append(one)
    for one in there.live:
        if one.uid not in pairs and free.get(one.digest):
            pairs[one.uid] = free[one.digest].pop(0)
    return pairs


def merge(
    there: ArtifactState,
    here: ArtifactState | None,
    *,
    wanted: Collection[bytes] | None,
    expected: Collection[bytes] | None,
    gone: Mapping[bytes, int],
    elsewhere: Collection[bytes],
) -> Merge:
    """Return what ``there`` changes here.

    ``wanted`` are the uids of versions to receive now, ``expected`` those that will have come in
    the end, None for all. Those in ``gone`` were deleted for good here and stay so; those in
    ``elsewhere`` are versions of other artifacts here.
    """
    pairs = pairs_of(there, here)
    done = Merge()
    for one in there.live:
        if one.uid in pairs or one.uid in elsewhere:
            continue
        if one.uid in gone:
            done.gone += 1
        elif wanted is None or one.uid in wanted:
            done.incoming.append(one)
    for one in there.versions:
        own = pairs.get(one.uid)
        if own is None or own.uid != one.uid or one.removed == own.removed:
            continue
        if one.touched_us > own.touched_us:
            (done.removed if one.removed else done.restored).append((own, one.touched_us))
    _merge_numbers(done, there, here, pairs, lambda one: _will_come(one, expected, gone))
    if here is not None:
        _merge_notes(done, there, pairs)
    _merge_labels(done, there, here, pairs)
    return done


def _will_come(
    one: VersionState, expected: Collection[bytes] | None, gone: Mapping[bytes, int]
) -> bool:
    return one.uid not in gone and (one.removed or expected is None or one.uid in expected)


def _merge_numbers(
    done: Merge,
    there: ArtifactState,
    here: ArtifactState | None,
    pairs: Mapping[bytes, VersionState],
    comes: Callable[[VersionState], bool],
) -> None:
    coming = {one.uid for one in done.incoming}
    own = [] if here is None else list(here.versions)
    # What lies in the trash there keeps its number too: it may come later.
    others = [
        Numbered(pairs[one.uid].uid if one.uid in pairs else one.uid, one.number, one.created_us)
        for one in there.versions
        if one.uid in pairs or comes(one)
    ]
    numbers = merge_numbers(
        [Numbered(one.uid, one.number, one.created_us) for one in own],
        others,
        first_free=max(there.next_number, 1 if here is None else here.next_number),
    )
    known = coming.union(one.uid for one in own)
    done.numbers = {uid: number for uid, number in numbers.items() if uid in known}
    moved = [(one, numbers[one.uid]) for one in own if numbers[one.uid] != one.number]
    # Numbers only grow: from the greatest down each new one is free when it is given.
    done.renumbered = sorted(moved, key=lambda pair: -pair[1])


def _merge_notes(done: Merge, there: ArtifactState, pairs: Mapping[bytes, VersionState]) -> None:
    for one in there.versions:
        own = pairs.get(one.uid)
        if own is None:
            continue
        tags = tuple(tag for tag in one.tags if tag not in own.tags)
        said: dict[int, dict[str, str]] = {}
        for key, (value, time_us) in one.metadata.items():
            held = own.metadata.get(key)
            if held is None or wins(time_us, value, held[1], held[0]):
                said.setdefault(time_us, {})[key] = value
        if tags:
            said.setdefault(one.touched_us, {})
        for time_us, pairs_said in sorted(said.items()):
            done.notes.append((own.uid, tags, pairs_said, time_us))
            tags = ()


def _merge_labels(
    done: Merge,
    there: ArtifactState,
    here: ArtifactState | None,
    pairs: Mapping[bytes, VersionState],
) -> None:
    usable = {one.uid: one for one in done.incoming}
    going = {one.uid for one, _ in done.removed}
    coming_back = {one.uid for one, _ in done.restored}
    for own in [] if here is None else here.versions:
        if (not own.removed or own.uid in coming_back) and own.uid not in going:
            usable[own.uid] = own
    for name, (uid, time_us) in sorted(there.labels.items()):
        target = None if uid is None else pairs[uid].uid if uid in pairs else uid
        if target is not None and target not in usable:
            continue  # it is not here, or lies in the trash here
        held, held_us = (None, None) if here is None else here.labels.get(name, (None, None))
        if target is None and held in going:
            continue  # it goes with its version
        if held_us is None:
            if target is not None:
                done.labels.append((name, target, time_us))
        elif target != held and wins(
            time_us, _digest(usable, target), held_us, _digest(usable, held)
        ):
            done.labels.append((name, target, time_us))


def _digest(versions: Mapping[bytes, VersionState], uid: bytes | None) -> bytes | None:
    """Return what a label points to as both stores know it."""
    if uid is None:
        return None
    return versions[uid].digest + uid if uid in versions else uid
