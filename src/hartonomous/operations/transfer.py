"""Copy between stores (`hart push`, `pull`, `sync`): what the other lacks goes over, nothing else.

One store receives from another; a push is the other one receiving, a sync is a pull and then a
push. What is said of versions is merged by docs/copies.md: the later statement wins, none is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hartonomous.core.name import check_name
from hartonomous.core.replica import (
    AHEAD_US,
    ArtifactState,
    VersionContent,
    bounded,
    chosen_versions,
    wins,
)
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from hartonomous.packs.merge_publication import Arrival, Done, MergePublication, publish_renames
from hartonomous.packs.merging import Merge, merge
from hartonomous.packs.named_store import naming_store
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.publication import publication
from hartonomous.packs.received_versions import check_artifact, check_content
from hartonomous.packs.receiving import Receiver
from hartonomous.packs.session import WriteSession
from hartonomous.packs.store_card import read_card
from hartonomous.packs.stored_peer import StoredPeer
from hartonomous.ports.peer import Peer
from hartonomous.ports.progress import NoProgress, Progress

_PUBLISH_BYTES = 256 << 20
"""What was received is published when it is so much, so that a run cut short keeps it."""
_PUBLISH_ARTIFACTS = 100
_MOST_NAMED = 20
_MOST_REMEMBERED = 1_000_000  # atoms that an estimate counts once however often they come
_NUMBERED = 10_000


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done in the receiving store.

    ``action`` is add, remove, restore, renumber, rename, label, unlabel, annotate, relate or
    unrelate.
    """

    action: str
    name: str
    number: int | None
    detail: str
    logical_bytes: int


class Transferred(msgspec.Struct, frozen=True, kw_only=True):
    """What went from one store to another, or (``dry_run``) would.

    ``sent_bytes`` are the records of atoms as they lie encoded; of a dry run at most so many.
    ``failed`` says which versions were refused and why; nothing of them is visible.
    """

    source: str
    target: str
    carried: tuple[Carried, ...]
    version_count: int
    logical_bytes: int
    atom_count: int
    sent_bytes: int
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dry_run: bool = False


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """A pull and a push."""

    pulled: Transferred
    pushed: Transferred


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """What goes: ``names`` are names, patterns or NAME@X, none for everything.

    ``as_name`` is what the one artifact is called in the other store if it is new there;
    ``rename`` gives each one whose name is taken there the next free one, NAME~2.
    """

    names: tuple[str, ...] = ()
    as_name: str | None = None
    rename: bool = False


def receive(
    source: StoreParts,
    target: StoreParts,
    *,
    options: TransferOptions | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Transferred:
    """Bring to ``target`` what it lacks of ``source``.

    Raises ConflictError, before anything is changed, where a name is taken by something else;
    NotFoundError for a name that is not there, UsageError where both are one store.
    """
    options = options or TransferOptions()
    if source.directory.samefile(target.directory):  # links and mounts lead to one, too
        raise UsageError(f"{source.directory} is the same store", hint="name another one")
    there = StoredPeer(source, read_card(source.directory).id)
    here = StoredPeer(target, read_card(target.directory).id)
    try:
        work = _Transfer(there, here, target, options, progress or NoProgress())
        with naming_store(target.directory):  # what the other one's has is named by then
            return work.foresee() if dry_run else work.run()
    finally:
        there.close()
        here.close()


def sync(
    first: StoreParts,
    second: StoreParts,
    *,
    options: TransferOptions | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Synced:
    """Bring both stores to the same names and versions; see ``receive``."""
    if options is not None and options.as_name is not None:
        raise UsageError("a sync takes no --as", hint="use --rename, or push with --as first")
    return Synced(
        pulled=receive(second, first, options=options, dry_run=dry_run, progress=progress),
        pushed=receive(first, second, options=options, dry_run=dry_run, progress=progress),
    )


@dataclass(slots=True, kw_only=True)
class _Task:
    """An artifact to go over, with the artifact that it is in the receiving store."""

    state: ArtifactState
    target: ArtifactState | None
    wanted: set[bytes] | None
    name: str


class _Transfer:
    def __init__(
        self, there: Peer, here: StoredPeer, target: StoreParts, options: TransferOptions,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._there = there
        self._here = here
        self._target = target
        self._options = options
        self._progress = progress
        self._names: dict[bytes, str] = {}  # of artifacts that come under another name
        self._failed: list[str] = []
        self._notes: list[str] = []
        if options.as_name is not None:
            if len(options.names) != 1:
                raise UsageError("--as goes with one name", hint="name the artifact that is meant")
            check_name(options.as_name)

    # -- what is there to do

    def _tasks(self) -> Iterator[_Task]:
        for told in self._there.artifacts():
            check_artifact(told)
            state = bounded(told, self._target.clock())
            wanted = self._wanted(state)
            if wanted is not None and not wanted:
                continue
            target = self._match(state)
            if target is None and not state.live:
                continue
            name = self._names.get(state.uid, state.name)
            yield _Task(state=state, target=target, wanted=wanted, name=name)

    def _wanted(self, state: ArtifactState) -> set[bytes] | None:
        """Return the versions asked for, None for all, an empty set for none."""
        if not self._options.names:
            return None
        chosen: set[bytes] = set()
        for spec in self._options.names:
            found = chosen_versions(state, spec)
            if found is None:
                return None
            chosen |= found
        return chosen

    def _match(self, state: ArtifactState) -> ArtifactState | None:
        """Return the artifact here that one there is: by uid, a common version, name and files."""
        found = self._here.artifact(state.uid)
        if found is not None:
            return found
        holders = self._here.holders([one.uid for one in state.versions])
        for uid in sorted(set(holders.values())):
            if self._there.artifact(uid) is None:
                return self._here.artifact(uid)
        found = self._here.named(state.name)
        if found is None or self._there.artifact(found.uid) is not None:
            return None
        common = {one.digest for one in found.live} & {one.digest for one in state.live}
        return found if common else None

    def _merge(self, task: _Task) -> Merge:
        holders = self._here.holders([one.uid for one in task.state.versions])
        own = {one.uid for one in task.target.versions} if task.target is not None else set()
        return merge(
            task.state, task.target, wanted=task.wanted, expected=task.wanted,
            gone=self._here.purged(), elsewhere=holders.keys() - own,
        )  # fmt: skip

    def _prepare(self) -> list[tuple[bytes, str, str, int]]:
        """Look for names that are missing or taken; return renames as ``publish_renames`` takes."""
        self._check_names_exist()
        renames: list[tuple[bytes, str, str, int]] = []
        new: list[_Task] = []
        for task in self._tasks():
            target, state = task.target, task.state
            if target is None or (target.removed and self._merge(task).incoming):
                new.append(task)
            elif not (target.removed or state.removed) and wins(
                state.named_us, state.name, target.named_us, target.name
            ):
                renames.append((target.uid, target.name, state.name, state.named_us))
        self._check_conflicts(new, renames)
        return renames

    def _check_names_exist(self) -> None:
        missing = set(self._options.names)
        if missing:
            for state in self._there.artifacts():
                missing = {spec for spec in missing if chosen_versions(state, spec) == set()}
        if missing:
            raise NotFoundError(
                f"{self._there.where} has no {', '.join(map(repr, sorted(missing)[:_MOST_NAMED]))}",
                hint="hart ls there shows what it has",
            )

    def _check_conflicts(
        self, new: Sequence[_Task], renames: Sequence[tuple[bytes, str, str, int]]
    ) -> None:
        """Find a name for what is new here; raises ConflictError where one is taken."""
        left = {old: new_name for _, old, new_name, _ in renames}
        given = set(left.values())
        taken: list[str] = []
        for task in new:
            name = task.state.name if task.target is None else task.target.name
            if task.target is None and self._options.as_name is not None:
                name = self._options.as_name
            elif self._options.rename and task.target is None:
                name = self._free(name, left, given)
            if self._is_taken(name, left, given):
                taken.append(name)
            given.add(name)
            if name != task.state.name:
                self._names[task.state.uid] = name
        if taken:
            more = "" if len(taken) <= _MOST_NAMED else f" and {len(taken) - _MOST_NAMED} more"
            raise ConflictError(
                f"{', '.join(map(repr, taken[:_MOST_NAMED]))}{more} in {self._there.where} and in"
                f" {self._here.where} are different things that have no version in common",
                hint="--rename brings it as NAME~2, NAME --as OTHER under another name; hart mv"
                " renames one of them before",
            )

    def _is_taken(self, name: str, left: dict[str, str], given: set[str]) -> bool:
        return name in given or (name not in left and self._here.named(name) is not None)

    def _free(self, name: str, left: dict[str, str], given: set[str]) -> str:
        if not self._is_taken(name, left, given):
            return name
        for count in range(2, _NUMBERED):
            # Free on both sides: there it will have this name after a sync.
            if not self._is_taken(f"{name}~{count}", left, given):
                return f"{name}~{count}"
        raise ConflictError(f"{name!r} and thousands of numbered names are taken")

    # -- a dry run

    def foresee(self) -> Transferred:
        """Tell what would be done; bytes are at most so many."""
        renames = self._prepare()
        done = [
            Done(action="rename", name=new, number=None, detail=f"was {old}")
            for _, old, new, _ in renames
        ]
        files: set[bytes] = set()
        seen: set[bytes] = set()  # not the same: a file of one atom has that atom's digest
        sent = count = 0
        for task in self._tasks():
            found = self._merge(task)
            done += _foreseen(task, found)
            for one in found.incoming:
                for member in self._there.content(one.uid).members:
                    name = bytes.fromhex(member["digest"])
                    if name in files or self._here.has_file(name):
                        continue
                    _remember(files, name)
                    for page in self._there.manifest_atoms(name):
                        missing = self._here.missing([atom for atom, _ in page])
                        for atom, stored in page:
                            if atom in missing and atom not in seen:
                                _remember(seen, atom)
                                sent, count = sent + stored, count + 1
        return self._result(done, sent, count, dry_run=True)

    # -- the work

    def run(self) -> Transferred:
        """Do it."""
        renames = self._prepare()
        with WriteSession(self._target) as session:
            done = publish_renames(session, renames) if renames else []
            self._here.fresh()
            receiver = Receiver(session, self._there, self._progress)
            merging = MergePublication(session, self._here)
            try:
                self._progress.stage("receive")
                self._receive(receiver, merging)
                gone = set() if self._options.names else self._gone_there()
                if gone:
                    merging.publish([], receiver.manifests, gone)
                done = [*done, *merging.done, *self._relate(session, merging.uids)]
                self._notes += merging.notes
            finally:
                receiver.abort()
        return self._result(done, receiver.done.sent_bytes, receiver.done.atom_count, dry_run=False)

    def _gone_there(self) -> set[bytes]:
        purged = list(self._there.purged())
        return set(self._here.holders(purged)) if purged else set()

    def _receive(self, receiver: Receiver, merging: MergePublication) -> None:
        waiting: list[Arrival] = []
        published = 0
        for task in self._tasks():
            found = self._merge(task)
            if found.gone:
                self._notes.append(f"{task.name}: {found.gone} deleted for good here, left out")
            if not found:
                merging.note_pairs(task.state, task.target)
                continue
            arrival = _arrival(task)
            waiting.append(arrival)
            for one in sorted(found.incoming, key=lambda each: (each.created_us, each.uid)):
                self._take(receiver, arrival, one.uid, f"{task.state.name}@{one.number}")
                if receiver.done.sent_bytes - published >= _PUBLISH_BYTES:
                    self._publish(receiver, merging, waiting)
                    arrival, published = _arrival(task), receiver.done.sent_bytes
                    arrival.target_uid = arrival.target_uid or task.state.uid
                    waiting = [arrival]
            if len(waiting) >= _PUBLISH_ARTIFACTS:
                self._publish(receiver, merging, waiting)
                waiting, published = [], receiver.done.sent_bytes
        self._publish(receiver, merging, waiting)

    def _take(self, receiver: Receiver, arrival: Arrival, uid: bytes, name: str) -> None:
        try:
            content = self._there.content(uid)
            check_content(name, content)
            for member in content.members:
                receiver.take(bytes.fromhex(member["digest"]), member["size"], member["path"])
        except (IntegrityError, NotFoundError) as error:
            went = isinstance(error, NotFoundError) and self._went(uid)
            told = "deleted for good there meanwhile, left out" if went else error.message
            (self._notes if went else self._failed).append(f"{name}: {told}")
        else:
            arrival.contents[uid] = content

    def _went(self, uid: bytes) -> bool:
        """Say whether the other store has a version no more: then nothing of it is missing."""
        try:
            self._there.content(uid)
        except NotFoundError:
            return True
        return False

    def _publish(
        self, receiver: Receiver, merging: MergePublication, waiting: list[Arrival]
    ) -> None:
        if not waiting:
            return
        receiver.settle()
        for arrival in waiting:
            for uid, content in list(arrival.contents.items()):
                fault = _fault(content, receiver)
                if fault is not None:
                    del arrival.contents[uid]
                    numbers = {one.uid: one.number for one in arrival.state.versions}
                    self._failed.append(f"{arrival.state.name}@{numbers[uid]}: {fault}")
        merging.publish(waiting, receiver.manifests, set())

    def _relate(self, session: WriteSession, uids: dict[bytes, bytes]) -> list[Done]:
        """State here what is stated there between versions that are here."""
        own = {(one.source_uid, one.target_uid, one.kind): one for one in self._here.relations()}
        wanted: list[tuple[str, dict[str, Any], int]] = []
        latest = self._target.clock() + AHEAD_US
        for one in self._there.relations():
            if one.touched_us > latest:
                continue
            ends = (
                uids.get(one.source_uid, one.source_uid),
                uids.get(one.target_uid, one.target_uid),
            )
            held = own.get((*ends, one.kind))
            if held is None and not one.stated:
                continue
            said, before = _said(one), _said(held)
            if held is not None and not wins(one.touched_us, said, held.touched_us, before):
                continue
            if len(self._here.holders(ends)) < len(set(ends)):
                continue
            source = one if one.stated or held is None else held
            wanted.append(
                (
                    "relate" if one.stated else "unrelate",
                    {
                        "source_uid": ends[0].hex(), "target_uid": ends[1].hex(),
                        "relation": one.kind, "weight": source.weight, "note": source.note,
                    },
                    one.touched_us,
                )
            )  # fmt: skip
        if not wanted:
            return []
        with publication(session) as work:
            for action, fields, time_us in wanted:
                work.change(action, **fields, origin_us=min(time_us, work.time_us))
            work.finish()
        return [
            Done(action=action, name=self._name_of(fields["source_uid"]), number=None,
                 detail=f"{fields['relation']} {self._name_of(fields['target_uid'])}")
            for action, fields, _ in wanted
        ]  # fmt: skip

    def _name_of(self, uid: str) -> str:
        holder = self._here.holders([bytes.fromhex(uid)]).get(bytes.fromhex(uid))
        found = None if holder is None else self._here.artifact(holder)
        return "" if found is None else found.name

    def _result(self, done: Sequence[Done], sent: int, count: int, *, dry_run: bool) -> Transferred:
        added = [one for one in done if one.action == "add"]
        return Transferred(
            source=self._there.where, target=self._here.where,
            carried=tuple(
                Carried(action=one.action, name=one.name, number=one.number, detail=one.detail,
                        logical_bytes=one.logical_bytes) for one in done
            ),
            version_count=len(added), logical_bytes=sum(one.logical_bytes for one in added),
            atom_count=count, sent_bytes=sent, failed=tuple(self._failed),
            notes=tuple(self._notes), dry_run=dry_run,
        )  # fmt: skip


def _arrival(task: _Task) -> Arrival:
    target = None if task.target is None else task.target.uid
    return Arrival(state=task.state, name=task.name, target_uid=target, expected=task.wanted)


def _fault(content: VersionContent, receiver: Receiver) -> str | None:
    for member in content.members:
        name = bytes.fromhex(member["digest"])
        if name not in receiver.manifests:
            return f"{member['path']}: {receiver.failed.get(name, 'it was not received')}"
    return None


def _said(one: Any) -> str | None:
    return None if one is None or not one.stated else f"{one.weight} {one.note}"


def _remember(seen: set[bytes], name: bytes) -> None:
    if len(seen) < _MOST_REMEMBERED:
        seen.add(name)


def _foreseen(task: _Task, found: Merge) -> list[Done]:
    name = task.name if task.target is None else task.target.name
    numbers = found.numbers
    return [
        *(Done(action="renumber", name=name, number=number, detail=f"was {one.number}")
          for one, number in found.renumbered),
        *(Done(action="add", name=name, number=numbers[one.uid], logical_bytes=one.size_bytes)
          for one in found.incoming),
        *(Done(action="restore", name=name, number=one.number) for one, _ in found.restored),
        *(Done(action="remove", name=name, number=one.number) for one, _ in found.removed),
        *(Done(action="annotate", name=name, number=numbers[uid]) for uid, *_ in found.notes),
        *(Done(action="unlabel" if uid is None else "label", name=name,
               number=None if uid is None else numbers.get(uid), detail=label)
          for label, uid, _ in found.labels),
    ]  # fmt: skip
