"""Publishing what was received: commits, and the changes that another store's statements make here.

One publication for a few artifacts at a time. What is to be done is worked out anew with the lock
held, from what this store holds then: whoever published meanwhile is not overruled unseen.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hartonomous.catalog import artifacts, replay, versions
from hartonomous.core.record import RecordKind
from hartonomous.core.replica import ArtifactState, VersionContent, VersionState
from hartonomous.packs.merging import Merge, merge, pairs_of
from hartonomous.packs.publication import Publication, publication, stage_version
from hartonomous.packs.received_versions import commit_of, new_version
from hartonomous.packs.session import WriteSession
from hartonomous.packs.steps import in_turn, remove_version
from hartonomous.packs.stored_peer import StoredPeer
from hartonomous.packs.version_events import received_events


@dataclass(slots=True, kw_only=True)
class Arrival:
    """An artifact of another store, with the versions of it whose files are here."""

    state: ArtifactState
    name: str  # under which it comes here if it is new
    target_uid: bytes | None  # the artifact here that it is
    expected: set[bytes] | None  # versions that will have come in the end, None for all
    contents: dict[bytes, VersionContent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that was done here."""

    action: str
    name: str
    number: int | None
    detail: str = ""
    logical_bytes: int = 0


class MergePublication:
    """Publishes arrivals and counts what was done."""

    def __init__(self, session: WriteSession, here: StoredPeer) -> None:
        self._session = session
        self._parts = session.parts
        self._here = here
        self._inserts: list[tuple[dict[str, Any], tuple[bytes, int], bool]] = []
        self._revived: list[bytes] = []
        self._early: list[dict[str, Any]] = []
        self.done: list[Done] = []
        self.notes: list[str] = []
        self.uids: dict[bytes, bytes] = {}  # versions that have another uid here

    def note_pairs(self, there: ArtifactState, here: ArtifactState | None) -> None:
        """Remember which versions have another uid here, for what is stated about them."""
        self.uids.update(
            {uid: one.uid for uid, one in pairs_of(there, here).items() if uid != one.uid}
        )

    def publish(
        self, arrivals: list[Arrival], manifests_here: Mapping[bytes, bytes], gone: set[bytes]
    ) -> None:
        """Publish; ``gone`` are uids of versions that were deleted for good there."""
        self._inserts, self._revived, self._early = [], [], []
        before = len(self.done)
        with publication(self._session) as work:
            self._here.fresh()
            for one in arrivals:
                self._write(work, one, dict(manifests_here))
            self._remove_gone(work, gone)
            if len(self.done) == before:
                return
            self._session.flush()
            rows = [new_version(commit, self._session) for commit, _, _ in self._inserts]
            self._remove_stale([one.uid for one in rows])
            staged = [
                stage_version(
                    self._parts.database,
                    new,
                    writer_id=self._session.id,
                    now_us=commit["created_us"],
                )
                for new, (commit, _, _) in zip(rows, self._inserts, strict=True)
            ]
            found = list(zip(rows, staged, strict=True))
            work.finish(lambda tx: self._make_visible(tx, work, found))
        self._here.fresh()

    def _remove_stale(self, uids: list[bytes]) -> None:
        """Remove what transfers that were cut short staged of these versions.

        Nobody else stages versions of given ids while the publication's lock is held.
        """
        with self._parts.database.read() as tx:
            stale = versions.staged(tx, uids)
        for version_id in stale:
            remove_version(in_turn(self._parts.database), version_id)

    # -- records

    def _write(self, work: Publication, one: Arrival, manifests_here: dict[bytes, bytes]) -> None:
        here = None if one.target_uid is None else self._here.artifact(one.target_uid)
        holders = self._here.holders([each.uid for each in one.state.versions])
        own = {each.uid for each in here.versions} if here is not None else set()
        found = merge(
            one.state, here, wanted=one.contents.keys(), expected=one.expected,
            gone=self._here.purged(),
            elsewhere=holders.keys() - own,
        )  # fmt: skip
        self.note_pairs(one.state, here)
        if not found:
            return
        uid = one.state.uid if here is None else here.uid
        name = one.name if here is None else here.name
        needs_name = bool(found.incoming or found.restored) and (here is None or here.removed)
        taken = self._here.named(name) if needs_name else None
        if taken is not None and taken.uid != uid:
            self.notes.append(f"{name}: left out, the name was taken meanwhile")
            return
        for version, number in found.renumbered:
            self._renumber(work, name, uid, version, number)
        for version in found.incoming:
            commit = commit_of(
                one.contents[version.uid], version, artifact_uid=uid, name=name,
                number=found.numbers[version.uid], sequence=work.next_sequence(),
                time_us=work.time_us, manifests_here=manifests_here,
            )  # fmt: skip
            self._commit(work, commit, renamed=one.name != one.state.name)
        if here is not None and here.removed and found.incoming:
            self._revived.append(here.uid)
        self._change(work, found, uid, name, here)

    def _renumber(
        self, work: Publication, name: str, uid: bytes, version: VersionState, number: int
    ) -> None:
        content = work.change(
            "renumber", artifact=uid.hex(), version_uid=version.uid.hex(), number=number,
            previous_number=version.number,
        )  # fmt: skip
        self._early.append(content)
        self.done.append(
            Done(action="renumber", name=name, number=number, detail=f"was {version.number}")
        )

    def _commit(self, work: Publication, commit: dict[str, Any], *, renamed: bool) -> None:
        place = work.record(RecordKind.COMMIT, commit)
        self._inserts.append((commit, place, renamed))
        self.done.append(
            Done(
                action="add", name=commit["name"], number=commit["number"],
                logical_bytes=sum(each["size"] for each in commit["members"]),
            )
        )  # fmt: skip

    def _change(
        self, work: Publication, found: Merge, uid: bytes, name: str, here: ArtifactState | None
    ) -> None:
        own = {} if here is None else {each.uid: each for each in here.versions}
        for version, time_us in found.restored:
            self._restore(work, name, version, time_us)
        for version, time_us in found.removed:
            if here is not None:
                self._remove(work, here, version, time_us)
        for version_uid, tags, metadata, time_us in found.notes:
            work.change(
                "annotate", version_uid=version_uid.hex(), tags=list(tags), metadata=metadata,
                origin_us=min(time_us, work.time_us),
            )  # fmt: skip
            words = [*tags, *(f"{key}={value}" for key, value in metadata.items())]
            self.done.append(
                Done(
                    action="annotate", name=name, number=found.numbers[version_uid],
                    detail=", ".join(words)[:200],
                )
            )  # fmt: skip
        for label, target, time_us in found.labels:
            held = None if here is None else here.labels.get(label, (None, 0))[0]
            fields = {
                "artifact": uid.hex(), "label": label,
                "previous_uid": held.hex() if held is not None and held in own else None,
                "origin_us": min(time_us, work.time_us),
            }  # fmt: skip
            if target is None:
                work.change("unlabel", **fields)
                self.done.append(Done(action="unlabel", name=name, number=None, detail=label))
            else:
                work.change("label", version_uid=target.hex(), **fields)
                number = found.numbers.get(target)
                self.done.append(Done(action="label", name=name, number=number, detail=label))

    def _remove(
        self, work: Publication, here: ArtifactState, version: VersionState, time_us: int
    ) -> None:
        labels = [
            {"artifact": here.uid.hex(), "label": label, "version_uid": version.uid.hex()}
            for label, (target, _) in sorted(here.labels.items())
            if target == version.uid
        ]
        work.change(
            "remove", version_uids=[version.uid.hex()], labels=labels,
            origin_us=min(time_us, work.time_us),
        )  # fmt: skip
        self.done.append(Done(action="remove", name=here.name, number=version.number))

    def _restore(self, work: Publication, name: str, version: VersionState, time_us: int) -> None:
        """Take a removal back for one version: the change as a whole, and the others go again."""
        uid = version.uid.hex()
        rows = self._here.undoable_removals(version.uid)
        if not rows:
            self.notes.append(f"{name}@{version.number}: in the trash here, used there; left so")
            return
        for row in rows:
            work.change("undo", of=row.sequence, origin_us=min(time_us, work.time_us))
            others = [one for one in row.content["version_uids"] if one != uid]
            if others:
                work.change(
                    "remove", version_uids=others,
                    labels=[one for one in row.content["labels"] if one["version_uid"] != uid],
                    origin_us=int(row.content.get("origin_us", row.time_us)),
                )  # fmt: skip
        self.done.append(Done(action="restore", name=name, number=version.number))

    def _remove_gone(self, work: Publication, gone: set[bytes]) -> None:
        if not gone:
            return
        with self._parts.database.read() as tx:
            rows = [
                row for row in versions.by_uids(tx, sorted(gone)) if row.removed_us is None
            ]  # fmt: skip
        for row in rows:
            state = self._here.artifact(row.artifact_uid)
            own = [one for one in state.versions if one.uid == row.uid] if state else []
            if state is not None and own:
                self._remove(work, state, own[0], work.time_us)
                self.notes.append(f"{row.name}@{row.number}: deleted for good there, in the trash")

    # -- rows

    def _make_visible(
        self, tx: Any, work: Publication, staged: list[tuple[versions.NewVersion, int]]
    ) -> None:
        for content in self._early:  # numbers are free before others take them
            replay.apply_change(tx, content)
        for uid in self._revived:
            artifact = artifacts.by_uid(tx, uid)
            if artifact is not None:
                artifacts.set_removed(tx, artifact.id, None)
        for (commit, (key, offset), renamed), (new, version_id) in zip(
            self._inserts, staged, strict=True
        ):
            uid = bytes.fromhex(commit["artifact"])
            artifact = artifacts.by_uid(tx, uid)
            if artifact is None:
                # A name that was chosen here is stated now; else as early as the version is.
                now_us = commit["time_us"] if renamed else commit["created_us"]
                artifact_id = artifacts.add(tx, uid=uid, name=commit["name"], now_us=now_us)
            else:
                artifact_id = artifact.id
            number = artifacts.claim_number(tx, artifact_id, commit["number"])
            versions.publish(
                tx, version_id, artifact_id=artifact_id,
                number=number,
                sequence=commit["seq"], pack_id=self._session.pack_id(key), header_offset=offset,
            )  # fmt: skip
            work.events += received_events(commit, new, name=commit["name"], number=number)


def publish_renames(
    session: WriteSession, renames: list[tuple[bytes, str, str, int]]
) -> list[Done]:
    """Give artifacts (uid, name, new name, time it was stated) their new names where free."""
    done: list[Done] = []
    waiting = list(renames)
    while waiting:
        left = []
        with publication(session) as work, contextlib.ExitStack() as stack:
            tx = stack.enter_context(session.parts.database.read())
            given: set[str] = set()
            for one in waiting:
                uid, old, new, time_us = one
                if new in given or artifacts.by_name(tx, new) is not None:
                    left.append(one)
                    continue
                given.add(new)
                work.change(
                    "rename", artifact=uid.hex(), name=new, previous_name=old,
                    origin_us=min(time_us, work.time_us),
                )  # fmt: skip
                done.append(Done(action="rename", name=new, number=None, detail=f"was {old}"))
            stack.close()
            if given:
                work.finish()
        if len(left) == len(waiting):
            return done
        waiting = left
    return done
