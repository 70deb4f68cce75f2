"""Repair: a new catalog from the packs alone, without opening the old one.

Commits and changes are replayed in order, so that what was removed stays removed and what was
purged stays gone. What is doubtful (a version of which files are missing, a commit of which nobody
was told, a file that no commit names) comes back under `recovered/`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from hartonomous.catalog import (
    artifacts,
    atoms,
    changes,
    events,
    manifests,
    packs,
    properties,
    replay,
    versions,
    writers,
)
from hartonomous.catalog.batches import batches
from hartonomous.core import manifest as manifest_format
from hartonomous.core.digest import digest
from hartonomous.core.manifest import Manifest
from hartonomous.core.model_schema import validate_summary
from hartonomous.core.tree import tree_digest
from hartonomous.errors import HartonomousError
from hartonomous.packs.carried_work import carry_work
from hartonomous.packs.extent_copies import ExtentCopies
from hartonomous.packs.manifest_rows import member_row, new_manifest
from hartonomous.packs.pack_ends import give_ends_back
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.pack_names import give_names_back
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.publication import stage_version
from hartonomous.packs.repaired import Repaired
from hartonomous.packs.staging import stage_manifest
from hartonomous.packs.steps import in_turn, remove_all
from hartonomous.packs.survey import (
    Entry,
    Place,
    Survey,
    SurveyedPack,
    dropped_members,
    read_object,
    survey,
)
from hartonomous.ports.progress import NoProgress, Progress


def repair(
    parts: StoreParts, *, dry_run: bool = False, progress: Progress | None = None
) -> Repaired:
    """Rebuild the catalog; ``parts.database`` is not touched. The caller holds the store alone.

    The former catalog is kept beside the new one. With ``dry_run`` the new one is removed again and
    no pack gets its name back; what lies in such a pack is told as missing.
    """
    progress = progress or NoProgress()
    with parts.home.rebuilding() as database:
        result = _rebuild(replace(parts, database=database), progress, dry_run=dry_run)
        if not dry_run:
            carry_work(parts, database, progress)
    if dry_run:
        parts.home.remove_draft()
        return result
    former = parts.home.put_in_place(parts.clock())
    return msgspec.structs.replace(result, former_catalog=former)


def _rebuild(parts: StoreParts, progress: Progress, *, dry_run: bool) -> Repaired:
    progress.stage("read packs")
    pack_ids: list[int] = []

    def register(pack: SurveyedPack) -> None:
        with parts.database.write(durable=False) as tx:
            pack_ids.append(
                packs.add(
                    tx,
                    key=pack.header.key,
                    writer_key=pack.header.writer,
                    size_bytes=pack.size_bytes,
                    record_count=pack.record_count,
                    created_us=pack.header.created_us,
                )
            )

    renamed = give_names_back(parts, dry_run=dry_run)
    mended, unmended = give_ends_back(parts, dry_run=dry_run)
    for why in unmended:
        progress.note(why)
    found = survey(parts, progress, register)
    progress.stage("rebuild the catalog")
    work = _Rebuild(parts, found, pack_ids)
    work.run()
    done = Repaired(
        pack_count=len(found.packs),
        atom_count=work.atom_count,
        manifest_count=len(work.manifest_ids),
        version_count=work.version_count,
        change_count=work.change_count,
        damaged=tuple(found.damaged),
        lost=tuple(work.lost),
        recovered=tuple(work.recovered),
        renamed=tuple(renamed),
        mended=tuple(mended),
        former_catalog=None,
        dry_run=dry_run,
    )
    # The first event of the new catalog, which begins a new era: who had read the former feed
    # knows by it that what came between is not told any more.
    with parts.database.write() as tx:
        events.append(tx, "store.repaired", None, done.told(), now_us=parts.clock())
    return done


class _Rebuild:
    def __init__(self, parts: StoreParts, found: Survey, pack_ids: list[int]) -> None:
        self._parts = parts
        self._database = parts.database
        self._found = found
        self._copies = ExtentCopies(parts, found)
        self._pack_ids = pack_ids
        self._now_us = parts.clock()
        self._purged = {
            uid
            for entry in found.journal
            if not entry.is_commit and entry.content["action"] == "purge"
            for uid in entry.content["version_uids"]
        }
        self._commits = [
            one for one in found.journal if one.is_commit and one.content["uid"] not in self._purged
        ]
        self._last = {one.content["uid"]: one.digest for one in self._commits}
        self._dropped = dropped_members(found.journal)
        self._needed: set[bytes] = set()  # manifests of members that were not dropped
        self._paths: dict[bytes, str] = {}  # manifest digest -> a path it is a member under
        self._by_manifest: dict[bytes, bytes] = {}  # manifest digest -> file digest
        self.manifest_ids: dict[bytes, int] = {}  # by file digest
        self.atom_count = 0
        self.version_count = 0
        self.change_count = 0
        self.lost: list[str] = []
        self.recovered: list[str] = []

    def run(self) -> None:
        """Insert everything, oldest first."""
        with self._database.write(durable=False) as tx:
            self._writer_id = writers.begin(
                tx, key=os.urandom(16), host=self._parts.host, process=os.getpid(),
                now_us=self._now_us,
            )  # fmt: skip
        for commit in self._commits:
            for member in commit.content["members"]:
                self._paths[bytes.fromhex(member["manifest"])] = member["path"]
                if (commit.content["uid"], member["path"]) not in self._dropped:
                    self._needed.add(bytes.fromhex(member["manifest"]))
        unnamed = sorted(self._found.manifests.keys() - self._named())
        # Of two manifests of one file the one that a commit names is kept.
        for name in (*sorted(self._paths), *unnamed):
            self._take_manifest(name)
        for name in unnamed:
            self._recover(name)
        self._replay()
        remove_all(in_turn(self._database), changes.remove_pointless)
        with self._database.write() as tx:
            while not writers.drop_pins(tx, self._writer_id, limit=100_000):
                pass
            writers.end(tx, self._writer_id)

    def _named(self) -> set[bytes]:
        """Return the digests of manifests that a commit, purged or not, or a purge speaks of."""
        named: set[bytes] = set()
        for entry in self._found.journal:
            for member in entry.content.get("members", ()):
                named.add(bytes.fromhex(member["manifest"]))
            if entry.content.get("action") == "purge":
                named.update(bytes.fromhex(one) for one in entry.content["manifests"])
        return named

    # -- manifests and atoms

    def _take_manifest(self, name: bytes) -> None:
        read = self._read_manifest(name)
        if read is None:
            return
        place, content, manifest = read
        self._by_manifest[name] = manifest.digest
        if manifest.digest in self.manifest_ids:
            return
        sizes = {(one.digest, one.length) for one in manifest.segments if one.digest is not None}
        needed = {name for name, _ in sizes}
        missing = {name for name, size in sizes if self._copies.choose(name, size) is None}
        if missing:
            if name in self._needed:
                self.lost.append(
                    f"file blake3:{manifest.digest.hex()}: {len(missing)} of {len(needed)} atoms"
                )
            return
        self._insert_atoms(dict(sizes))
        new = new_manifest(
            manifest,
            content,
            path=self._paths.get(name, ""),
            pack_id=self._pack_ids[place.pack],
            header_offset=place.at,
            stored_bytes=place.header.stored,
        )
        self.manifest_ids[manifest.digest] = stage_manifest(self._parts, self._writer_id, new)

    def _read_manifest(self, name: bytes) -> tuple[Place, bytes, Manifest] | None:
        """Return the first copy that is intact."""
        for place in self._found.manifests.get(name, []):
            key = self._found.packs[place.pack].header.key
            reader = PackReader(self._parts.objects.open(pack_object_key(key)), key.hex())
            try:
                content = read_object(reader, place.header)
                return place, content, manifest_format.decode(content)
            except HartonomousError as error:
                self._found.damaged.append(f"manifest blake3:{name.hex()}: {error.message}")
            finally:
                reader.close()
        return None

    def _insert_atoms(self, needed: dict[bytes, int]) -> None:
        """Insert atoms of these digests and sizes, each of which has a copy, and their bases."""
        everything = self._with_bases(needed)
        with self._database.read() as tx:
            there = atoms.find(tx, everything)
        by_rank: dict[int, list[bytes]] = {}
        for name in sorted(everything.keys() - there.keys()):
            by_rank.setdefault(self._copies.rank(name) or 0, []).append(name)
        for rank in sorted(by_rank):  # bases first
            for piece in batches(by_rank[rank], 200):
                self._insert_piece(piece, everything)

    def _with_bases(self, needed: dict[bytes, int]) -> dict[bytes, int]:
        """Return {digest: size} of atoms and of all that they are predicted from."""
        everything, waiting = dict(needed), list(needed.items())
        while waiting:
            copy = self._copies.choose(*waiting.pop())
            for name in () if copy is None else copy.bases:
                found = self._copies.base(name)
                if found is not None and name not in everything:
                    everything[name] = found[0]
                    waiting.append((name, found[0]))
        return everything

    def _insert_piece(self, piece: Sequence[bytes], sizes: dict[bytes, int]) -> None:
        fresh, damaged = [], []
        for name in piece:
            copy = self._copies.choose(name, sizes[name])
            assert copy is not None, "atoms without a copy are told of as missing"
            if not copy.intact:
                damaged.append(name)
            fresh.append(
                atoms.NewAtom(
                    digest=name,
                    size_bytes=sizes[name],
                    encoding=int(copy.places[0].header.encoding),
                    bases=copy.bases,
                    extents=tuple(self._new_extent(one) for one in copy.places),
                )
            )
        with self._database.write(durable=False) as tx:
            atoms.add(tx, fresh, now_us=self._now_us)
            for atom_id, _ in atoms.find(tx, damaged).values():
                atoms.mark_damaged(tx, atom_id)
        for name in damaged:
            self._found.damaged.append(f"atom blake3:{name.hex()}: none of its copies is whole")
        self.atom_count += len(fresh)

    def _new_extent(self, place: Place) -> atoms.NewExtent:
        return atoms.NewExtent(
            pack_id=self._pack_ids[place.pack],
            position=place.header.position,
            length=place.header.length,
            header_offset=place.at,
            stored_bytes=place.header.stored,
        )

    # -- names and changes

    def _replay(self) -> None:
        last, last_us = 0, 0
        for entry in self._found.journal:
            if not entry.is_commit:
                self._change(entry)
            elif self._last.get(entry.content["uid"]) == entry.digest:
                self._commit(entry)
            last = max(last, entry.content["seq"])
            last_us = max(last_us, entry.content["time_us"])
        with self._database.write(durable=False) as tx:
            for uid, number in self._numbers().items():
                artifact = artifacts.by_uid(tx, bytes.fromhex(uid))
                if artifact is not None and artifact.next_number <= number:
                    artifacts.take_number(tx, artifact.id, number)
            properties.set_last_publication(tx, last, last_us)

    def _numbers(self) -> dict[str, int]:
        """Return the highest version number that each artifact is known to have given out."""
        highest: dict[str, int] = {}
        for entry in self._found.journal:
            given = [entry.content] if entry.is_commit else entry.content.get("numbers", [])
            for one in given:
                uid = str(one["artifact"])
                highest[uid] = max(highest.get(uid, 0), int(one["number"]))
        return highest

    def _commit(self, entry: Entry) -> None:
        content = entry.content
        rows = [(member, self._manifest_of(member)) for member in content["members"]]
        # The bytes of what was dropped may be gone; what is there is dropped again by its change.
        rows = [
            (member, found)
            for member, found in rows
            if found is not None or (content["uid"], member["path"]) not in self._dropped
        ]
        whole = [(member, found) for member, found in rows if found is not None]
        label = f"{content['name']}@{content['number']}"
        if len(whole) < len(rows):
            missing = [member["path"] for member, found in rows if found is None]
            self.lost.append(f"{label}: {', '.join(missing[:8])}")
        if not whole and rows:
            return
        if len(whole) == len(rows) and not entry.doubtful:
            self._insert_version(content, whole, name=content["name"], place=entry.place)
            return
        self.recovered.append(f"recovered/{label}")
        self._insert_version(
            _as_own(content), whole, name=f"recovered/{label}", place=entry.place, doubtful=True
        )

    def _manifest_of(self, member: dict[str, Any]) -> int | None:
        file_digest = self._by_manifest.get(bytes.fromhex(member["manifest"]))
        return self.manifest_ids.get(file_digest or bytes.fromhex(member["digest"]))

    def _insert_version(
        self,
        content: dict[str, Any],
        whole: Sequence[tuple[dict[str, Any], int]],
        *,
        name: str,
        place: Place | None,
        doubtful: bool = False,
    ) -> None:
        new = self._new_version(content, whole, doubtful=doubtful)
        made_us = content.get("created_us") or content["time_us"]  # there, if it was received
        version_id = stage_version(self._database, new, writer_id=self._writer_id, now_us=made_us)
        with self._database.write(durable=False) as tx:
            artifact_id = self._artifact(tx, content, name)
            number = artifacts.claim_number(tx, artifact_id, content["number"])
            versions.publish(
                tx, version_id, artifact_id=artifact_id, number=number, sequence=content["seq"],
                pack_id=None if place is None else self._pack_ids[place.pack],
                header_offset=None if place is None else place.at,
            )  # fmt: skip
            for label in () if doubtful else content["labels"]:
                artifacts.set_label(tx, artifact_id, label, version_id)
        self.version_count += 1

    def _new_version(
        self,
        content: dict[str, Any],
        whole: Sequence[tuple[dict[str, Any], int]],
        *,
        doubtful: bool,
    ) -> versions.NewVersion:
        members = tuple(member_row(member, found) for member, found in whole)
        model = None if doubtful else self._model_of(content)
        layers = model["layers"] if model else []
        return versions.NewVersion(
            uid=bytes.fromhex(content["uid"]),
            digest=tree_digest((one["path"], bytes.fromhex(one["digest"])) for one, _ in whole),
            kind=content["kind_of"],
            size_bytes=sum(member["size"] for member, _ in whole),
            tensor_count=self._tensor_count(members),
            parameter_count=model["parameter_count"] if model else None,
            source_host=content["source"]["host"],
            source_place=content["source"]["place"],
            model=model,
            members=members,
            layers=tuple(
                versions.LayerRow(
                    name=one["name"], kind=one["kind"], tensor_count=one["tensor_count"],
                    parameter_count=one["parameter_count"], size_bytes=one["tensor_bytes"],
                )
                for one in layers
            ),
            tags=tuple(content["tags"]),
            metadata=content["metadata"],
        )  # fmt: skip

    def _model_of(self, content: dict[str, Any]) -> dict[str, Any] | None:
        """Return a commit's model summary if it is one."""
        model: dict[str, Any] | None = content["model"]
        if model is None:
            return None
        try:
            validate_summary(model)
        except HartonomousError as error:
            name = f"{content['name']}@{content['number']}"
            self._found.damaged.append(f"the model summary of {name}: {error.message}")
            return None
        return model

    def _tensor_count(self, members: tuple[versions.MemberRow, ...]) -> int:
        with self._database.read() as tx:
            rows = manifests.by_ids(tx, [one.manifest_id for one in members])
        return sum(rows[one.manifest_id].tensor_count for one in members)

    def _artifact(self, tx: Any, content: dict[str, Any], name: str) -> int:
        uid = bytes.fromhex(content["artifact"])
        there = artifacts.by_uid(tx, uid)
        if there is None:
            self._free_name(tx, name)
            return artifacts.add(tx, uid=uid, name=name, now_us=content["time_us"])
        if there.name != name:  # the record of a renaming is lost
            self._free_name(tx, name)
            artifacts.rename(tx, there.id, name)
        return there.id

    def _free_name(self, tx: Any, name: str) -> None:
        """Move the artifact that has a name out of the way of one that got the name later.

        Only where a record was lost: a store never gives a name that is in use.
        """
        taken = artifacts.by_name(tx, name)
        if taken is not None:
            moved = f"recovered/{name}~{taken.uid.hex()[:8]}"
            artifacts.rename(tx, taken.id, moved)
            self.recovered.append(moved)

    def _change(self, entry: Entry) -> None:
        content = entry.content
        with self._database.write(durable=False) as tx:
            if changes.by_sequence(tx, content["seq"]) is not None:
                self._found.damaged.append(f"two changes have the number {content['seq']}")
                return
            for uid, name in replay.names_given(tx, content):
                taken = artifacts.by_name(tx, name)
                if taken is not None and taken.uid != uid:
                    self._free_name(tx, name)
            changes.add(
                tx, content=content, pack_id=self._pack_ids[entry.place.pack],
                header_offset=entry.place.at,
            )  # fmt: skip
            replay.apply_change(tx, content)
        self.change_count += 1

    def _recover(self, name: bytes) -> None:
        """Bring back a whole file that no commit and no purge speaks of.

        Its ids follow from its manifest, so that changes made to it later hold in the next repair.
        """
        file_digest = self._by_manifest.get(name)
        manifest_id = None if file_digest is None else self.manifest_ids.get(file_digest)
        if file_digest is None or manifest_id is None or self._is_member(file_digest):
            return
        uid = _own_uid(name.hex())
        if uid in self._purged:
            return
        short = file_digest.hex()[:16]
        self.recovered.append(f"recovered/{short}")
        with self._database.read() as tx:
            size = manifests.by_ids(tx, [manifest_id])[manifest_id].size_bytes
        member = {
            "path": short, "manifest": name.hex(), "digest": file_digest.hex(), "size": size,
            "mode": 0o644, "modified_us": self._now_us,
        }  # fmt: skip
        content: dict[str, Any] = {
            "uid": uid, "artifact": uid, "kind_of": "file", "tags": [], "metadata": {},
            "source": {"host": self._parts.host, "place": "repair"}, "model": None,
            "time_us": self._now_us, "number": 1, "seq": 0,
        }  # fmt: skip
        self._insert_version(
            content, [(member, manifest_id)], name=f"recovered/{short}", place=None, doubtful=True
        )

    def _is_member(self, file_digest: bytes) -> bool:
        """Say whether a commit has the file under another manifest."""
        return any(self._by_manifest.get(name) == file_digest for name in self._paths)


def _own_uid(uid: str) -> str:
    return digest(b"recovered " + uid.encode()).hex()[:32]


def _as_own(content: dict[str, Any]) -> dict[str, Any]:
    """Return a doubtful commit as the only version of an artifact of its own."""
    return {**content, "artifact": _own_uid(content["uid"]), "number": 1}
