"""Publishing: commit and change records in a sealed pack, then one short transaction.

One publication at a time: a lock gives every commit and change its sequence number, so the packs
alone tell the order of events. Bulk bytes and rows are flushed before the lock is taken.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hartonomous import locks
from hartonomous.catalog import (
    artifacts,
    changes,
    effects,
    events,
    manifests,
    properties,
    replay,
    versions,
)
from hartonomous.catalog.batches import batches
from hartonomous.catalog.database import Database
from hartonomous.core.event import NewEvent
from hartonomous.core.record import RecordKind
from hartonomous.objects.linux import boot_id
from hartonomous.packs.decisions import Decision, decide
from hartonomous.packs.ingest import IngestedFile
from hartonomous.packs.orphans import unknown_times
from hartonomous.packs.proposal import Proposal
from hartonomous.packs.session import WriteSession
from hartonomous.packs.version_events import version_events

_FLUSH_FIRST_BYTES = 8 * 1024 * 1024
_LOCK_TIMEOUT_S = 600.0
_BOOT = "boot"
"""The property that says during which run of the machine something was published last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a proposal ended: ``outcome`` is added, updated or unchanged."""

    outcome: str
    name: str
    number: int
    digest: bytes
    sequence: int


class Publication:
    """One publication in progress; holds the lock, gives out sequence numbers."""

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        parts = session.parts
        with parts.database.read() as tx:
            self.sequence, last_us = properties.last_publication(tx)
            seen_boot = properties.get(tx, _BOOT)
        boot = boot_id()
        if boot is None or boot != seen_boot:
            # A power cut may have taken the time of a publication that died, but not its records.
            last_us = max([last_us, *unknown_times(parts)])
        # After every former one, acknowledged or not, whatever the clock says: a rebuild takes the
        # later of two that have one number. Written down before a record has the time; a process
        # that dies leaves it to the next, so it needs no sync of its own; a server may die alone.
        self.time_us = max(parts.clock(), last_us + 1)
        with parts.database.write(durable=parts.database.dialect != "sqlite") as tx:
            properties.begin_publication(tx, self.sequence, self.time_us)
            if boot is not None and boot != seen_boot:
                properties.put(tx, _BOOT, boot)
        self._changes: list[tuple[dict[str, Any], bytes, int]] = []
        self.events: list[NewEvent] = []
        """What ``finish`` tells the change feed; it adds the events of the changes itself."""

    def next_sequence(self) -> int:
        """Take the next sequence number."""
        self.sequence += 1
        return self.sequence

    def record(self, kind: RecordKind, content: dict[str, Any]) -> tuple[bytes, int]:
        """Write a record and return (pack key, header offset)."""
        encoded = msgspec.json.encode(content, order="deterministic")
        key, extent = self._session.put_record(kind, encoded)
        return key, extent.header_offset

    def change(self, action: str, **fields: Any) -> dict[str, Any]:
        """Write a change record, to be applied by ``finish``."""
        content = {
            "version": 1,
            "kind": "change",
            "seq": self.next_sequence(),
            "time_us": self.time_us,
            "action": action,
            **fields,
        }
        key, offset = self.record(RecordKind.CHANGE, content)
        self._changes.append((content, key, offset))
        return content

    def hold_file(self, file_digest: bytes) -> bool:
        """Keep a stored file from being collected until this is published; False if it is gone."""
        return self._session.known_manifest(file_digest) is not None

    def finish(self, also: Callable[[Any], None] | None = None) -> None:
        """Seal, then apply everything in one durable transaction."""
        self._session.flush()
        with self._session.parts.database.write() as tx:
            if also is not None:
                also(tx)
            for content, key, offset in self._changes:
                witness = effects.Witness(tx, content)
                changes.add(
                    tx,
                    content=content,
                    pack_id=self._session.pack_id(key),
                    header_offset=offset,
                )
                replay.apply_change(tx, content)
                self.events += witness.events(tx)
            properties.end_publication(tx, self.sequence, self.time_us)
            events.append_all(tx, self.events, now_us=self.time_us)


@contextlib.contextmanager
def publication(session: WriteSession) -> Iterator[Publication]:
    """Hold the publication lock for a block."""
    if session.unsealed_bytes > _FLUSH_FIRST_BYTES:
        session.flush()
    path = session.parts.lock_path("publish")
    with locks.held(path, what="the store's publication", timeout_s=_LOCK_TIMEOUT_S):
        yield Publication(session)


def publish(
    session: WriteSession,
    proposals: list[Proposal],
    *,
    changing: Callable[[Publication], None] | None = None,
    beside: Callable[[Any, list[Decision[Proposal]]], None] | None = None,
) -> list[Published]:
    """Publish versions; return what became of each, in order.

    ``changing`` may make changes in the same publication, ``beside`` writes rows in its
    transaction.
    """
    with publication(session) as work:
        decisions = decide(session.parts, proposals)
        for one in decisions:
            if one.outcome != "unchanged":
                one.sequence = work.next_sequence()
                one.place = work.record(RecordKind.COMMIT, _commit(one, work.time_us, session))
        if changing is not None:
            changing(work)
        session.flush()
        _commit_again(session, work, decisions)
        _annotate_known(session, work, decisions)
        staged = [_stage(session, one, work.time_us) for one in decisions]

        def make_visible(tx: Any) -> None:
            for one, version_id in zip(decisions, staged, strict=True):
                if version_id is not None:
                    work.events += _publish_one(tx, session, one, version_id, work.time_us)
            if beside is not None:
                beside(tx, decisions)

        work.finish(make_visible)
    return [
        Published(
            outcome=one.outcome,
            name=one.name,
            number=one.number,
            digest=one.proposal.digest,
            sequence=one.sequence,
        )
        for one in decisions
    ]


# -- records and rows of one decision


def _commit(one: Decision[Proposal], time_us: int, session: WriteSession) -> dict[str, Any]:
    proposal = one.proposal
    return {
        "version": 1,
        "kind": "commit",
        "seq": one.sequence,
        "time_us": time_us,
        "artifact": one.artifact_uid.hex(),
        "name": one.name,
        "number": one.number,
        "uid": one.version_uid.hex(),
        "digest": proposal.digest.hex(),
        "kind_of": proposal.kind,
        "members": [_commit_member(file) for file in proposal.files],
        "source": {"host": session.parts.host, "place": proposal.source_place},
        "labels": list(proposal.labels),
        "tags": list(proposal.tags),
        "metadata": proposal.metadata,
        "model": proposal.model,
    }


def _commit_again(
    session: WriteSession, work: Publication, decisions: list[Decision[Proposal]]
) -> None:
    """Write a new commit where another session stored the same file first, described otherwise.

    Its manifest is the one that stays; ours goes with the next compaction. Of several commits of
    one version the last counts.
    """
    again = False
    for one in decisions:
        if one.outcome == "unchanged":
            continue
        with session.parts.database.read() as tx:
            ids = [session.manifest_ids[file.digest] for file in one.proposal.files]
            kept = {row.file_digest: row.digest for row in manifests.by_ids(tx, ids).values()}
        files = tuple(
            replace(file, manifest_digest=kept[file.digest]) for file in one.proposal.files
        )
        if files != one.proposal.files:
            one.proposal = replace(one.proposal, files=files)
            one.sequence = work.next_sequence()
            one.place = work.record(RecordKind.COMMIT, _commit(one, work.time_us, session))
            again = True
    if again:
        session.flush()


def _commit_member(file: IngestedFile) -> dict[str, Any]:
    member: dict[str, Any] = {
        "path": file.source.path,
        "manifest": file.manifest_digest.hex(),
        "digest": file.digest.hex(),
        "size": file.size,
        "mode": file.source.mode,
        "modified_us": file.source.modified_us,
    }
    if file.source.raw_path is not None:
        member["raw_path"] = file.source.raw_path
    return member


def _annotate_known(
    session: WriteSession, work: Publication, decisions: list[Decision[Proposal]]
) -> None:
    """Give the versions that are there already the labels, tags and metadata asked for.

    Behind all commits, some of which may be of these very versions; a label that several proposals
    of an artifact ask for is the last one's.
    """
    committed = [one for one in decisions if one.outcome != "unchanged"]
    noted = {one.version_uid: one.proposal for one in committed}
    held = {
        (one.artifact_uid, label): one.version_uid.hex()
        for one in committed
        for label in one.proposal.labels
    }
    last = {(one.artifact_uid, label): one for one in decisions for label in one.proposal.labels}
    for one in decisions:
        if one.outcome != "unchanged":
            continue
        asked = one.proposal
        tags, metadata, labels = _standing(session, one, noted.get(one.version_uid))
        new_tags = [tag for tag in asked.tags if tag not in tags]
        new_pairs = {k: v for k, v in asked.metadata.items() if metadata.get(k) != v}
        uid = one.version_uid.hex()
        if new_tags or new_pairs:
            work.change("annotate", version_uid=uid, tags=new_tags, metadata=new_pairs)
        for label in asked.labels:
            key = (one.artifact_uid, label)
            former = held.get(key, labels.get(label))
            if last[key] is one and former != uid:
                work.change(
                    "label",
                    artifact=one.artifact_uid.hex(),
                    label=label,
                    version_uid=uid,
                    previous_uid=former,
                )


def _standing(
    session: WriteSession, one: Decision[Proposal], twin: Proposal | None
) -> tuple[Sequence[str], dict[str, str], dict[str, str]]:
    """Return a version's tags and metadata, and its artifact's {label: version uid}.

    ``twin`` is the proposal that commits the version in this very publication, if one does.
    """
    with session.parts.database.read() as tx:
        labels: dict[str, str] = {}
        artifact = artifacts.by_uid(tx, one.artifact_uid)
        if artifact is not None:
            uids = {row.id: row.uid.hex() for row in versions.of_artifact(tx, artifact.id)}
            pointing = artifacts.labels(tx, artifact.id)
            labels = {label: uids[at] for label, at in pointing.items() if at in uids}
        if twin is not None:
            return twin.tags, twin.metadata, labels
        found = versions.by_uids(tx, [one.version_uid])
        tags, metadata = versions.annotations_of(tx, found[0].id) if found else ([], {})
        return tags, metadata, labels


def _stage(session: WriteSession, one: Decision[Proposal], now_us: int) -> int | None:
    if one.outcome == "unchanged":
        return None
    proposal = one.proposal
    members = tuple(
        versions.MemberRow(
            path=file.source.path,
            raw_path=file.source.raw_path,
            manifest_id=session.manifest_ids[file.digest],
            mode=file.source.mode,
            modified_us=file.source.modified_us,
        )
        for file in proposal.files
    )
    new = versions.NewVersion(
        uid=one.version_uid,
        digest=proposal.digest,
        kind=proposal.kind,
        size_bytes=sum(file.size for file in proposal.files),
        tensor_count=proposal.tensor_count,
        parameter_count=proposal.parameter_count,
        source_host=session.parts.host,
        source_place=proposal.source_place,
        model=proposal.model,
        members=members,
        layers=proposal.layers,
        tags=proposal.tags,
        metadata=proposal.metadata,
    )
    return stage_version(session.parts.database, new, writer_id=session.id, now_us=now_us)


def stage_version(
    database: Database, new: versions.NewVersion, *, writer_id: int, now_us: int
) -> int:
    """Stage a version's rows, at most 500 a transaction; return its id."""
    first_members, first_layers = new.members[:200], new.layers[:200]
    with database.write(durable=False) as tx:
        version_id = versions.stage(tx, new, writer_id=writer_id, now_us=now_us)
        versions.add_members(tx, version_id, 0, first_members)
        versions.add_layers(tx, version_id, 0, first_layers)
    done = len(first_members)
    for members in batches(new.members[done:]):
        with database.write(durable=False) as tx:
            versions.add_members(tx, version_id, done, members)
        done += len(members)
    done = len(first_layers)
    for layers in batches(new.layers[done:]):
        with database.write(durable=False) as tx:
            versions.add_layers(tx, version_id, done, layers)
        done += len(layers)
    return version_id


def _publish_one(
    tx: Any, session: WriteSession, one: Decision[Proposal], version_id: int, now_us: int
) -> list[NewEvent]:
    """Make a staged version visible; return what there is to tell of it."""
    artifact = artifacts.by_uid(tx, one.artifact_uid)
    if artifact is None:
        artifact_id = artifacts.add(tx, uid=one.artifact_uid, name=one.name, now_us=now_us)
    else:
        artifact_id = artifact.id
    artifacts.take_number(tx, artifact_id, one.number)
    key, offset = one.place or (b"", 0)
    versions.publish(
        tx,
        version_id,
        artifact_id=artifact_id,
        number=one.number,
        sequence=one.sequence,
        pack_id=session.pack_id(key),
        header_offset=offset,
    )
    told = list(
        version_events(
            one.proposal,
            artifact=one.artifact_uid,
            name=one.name,
            number=one.number,
            sequence=one.sequence,
            host=session.parts.host,
        )
    )
    former = artifacts.labelled_numbers(tx, artifact_id, one.proposal.labels)
    for label in one.proposal.labels:
        artifacts.set_label(tx, artifact_id, label, version_id)
        moved = effects.label_event(
            one.artifact_uid.hex(), one.name, label, former.get(label), one.number
        )
        if moved is not None:
            told.append(moved._replace(data={**moved.data, "sequence": one.sequence}))
    return told
