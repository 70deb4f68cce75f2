"""Does the catalog tell what the commits and changes in the packs say, and nothing else?

The records that the catalog names are read and replayed into an empty catalog, by the code that
made the rows; names, labels, the trash and whatever else users are told must come out equal. What
the catalog does not name is not looked at: it was never acknowledged, or a collection dropped it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from hartonomous.catalog import artifacts, changes, dropped, health, packs, replay, told, versions
from hartonomous.catalog.database import Database
from hartonomous.core.digest import digest
from hartonomous.core.journal_entry import decode_entry
from hartonomous.core.record import RecordKind
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import HartonomousError, IntegrityError, NotFoundError
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.packs.survey import read_object

_ATTEMPTS = 5
_RECOVERED = "recovered/"
Tell = Callable[[str, str, tuple[str, ...]], None]


def check_database(parts: StoreParts, tell: Tell, *, quick: bool) -> None:
    """Have the database look at its own file: pages and types; unless ``quick``, indexes too."""
    with parts.database.read() as tx:
        for line in health.complaints(tx, quick=quick):
            tell("catalog", line, ())


def check_names(parts: StoreParts, tell: Tell) -> None:
    """Compare what the catalog tells with what its commits and changes say.

    ``tell`` is given where, what and which versions. What cannot be read is told of elsewhere.
    """
    for _ in range(_ATTEMPTS):
        check = _Check(parts)
        try:
            check.run()
        except NotFoundError:
            continue  # a collection moved records meanwhile
        except HartonomousError as error:
            parts.database.refuse_lost(error)
            check.tell("catalog", f"its journal cannot be replayed: {error.message}", ())
        for words in check.faults:
            tell(*words)
        return


def check_entry(parts: StoreParts, tell: Tell, pack: PackReader, row: packs.JournalRow) -> None:
    """Compare what the catalog says of one commit or change with its record."""
    try:
        header = pack.record(row.header_offset)
        if header.kind is not (RecordKind.CHANGE if row.uid is None else RecordKind.COMMIT):
            raise IntegrityError("another kind of record lies there")
        content = decode_entry(read_object(pack, header))
        if row.uid is None:
            same = content["seq"] == row.sequence
        else:
            same = content["uid"] == row.uid.hex() and (
                row.name.startswith(_RECOVERED)
                or (
                    (content["seq"], bytes.fromhex(content["digest"]))
                    == (row.sequence, _committed_digest(parts, row))
                    and content["number"] in (row.number, _committed_number(parts, row, content))
                )
            )
        if not same:
            raise IntegrityError("the catalog says something else of it")
    except HartonomousError as error:
        parts.database.refuse_lost(error)
        what = f"change {row.sequence}" if row.uid is None else f"commit of {row.name}@{row.number}"
        tell(f"pack {pack.name}", f"the {what}: {error.message}", row.files)


def _committed_number(parts: StoreParts, row: packs.JournalRow, content: dict[str, Any]) -> int:
    """Return the number that a version was committed with; merging stores may give it another."""
    if content["number"] == row.number:
        return row.number
    with parts.database.read() as tx:
        found = changes.of_action(tx, "renumber", containing=content["uid"])
    return int(found[0].content["previous_number"]) if found else row.number


def _committed_digest(parts: StoreParts, row: packs.JournalRow) -> bytes:
    """Return the digest that a version has with the members that were dropped from it."""
    assert row.uid is not None
    with parts.database.read() as tx:
        return dropped.digest_with_all(tx, row.uid, row.digest)


@dataclass(slots=True)
class _Snapshot:
    """What the catalog says, all of one moment."""

    versions: list[told.ToldVersion]
    changes: list[told.ToldChange]
    names: told.Told


class _Check:
    def __init__(self, parts: StoreParts) -> None:
        self._parts = parts
        self.faults: list[tuple[str, str, tuple[str, ...]]] = []
        self._open: dict[bytes, PackReader] = {}
        self._renumbered: set[str] = set()  # ids in hex of versions that a merge gave a new number
        self._doubtful: set[object] = set()  # artifacts and versions that a repair brought back

    def tell(self, where: str, what: str, files: tuple[str, ...]) -> None:
        self.faults.append((where, what, files))

    def run(self) -> None:
        with self._parts.database.read() as tx:
            now = _Snapshot(
                list(told.versions_told(tx)), list(told.changes_told(tx)), told.names_told(tx)
            )
            self._renumbered = {
                row.content["version_uid"] for row in changes.of_action(tx, "renumber")
            }
            for artifact_uid, uid, manifest in told.uncommitted_told(tx):
                if _own_uid(manifest.hex()) == uid.hex():
                    self._doubtful.update((artifact_uid, uid))
            drops = _dropped_paths(tx)
            gone = _purged(tx)
            try:
                commits = [
                    (row, self._commit(tx, row, drops.get(row.uid.hex(), set())))
                    for row in now.versions
                    if row.uid.hex() not in gone
                ]
                contents = [self._change(row) for row in now.changes]
            finally:
                for reader in self._open.values():
                    reader.close()
        self._compare(now.names, commits, contents, gone)

    # -- records

    def _read(self, key: bytes, at: int) -> dict[str, Any]:
        if key not in self._open:
            if len(self._open) >= 64:
                self._open.pop(next(iter(self._open))).close()
            source = self._parts.objects.open(pack_object_key(key))
            self._open[key] = PackReader(source, key.hex())
        reader = self._open[key]
        return decode_entry(read_object(reader, reader.record(at)))

    def _commit(self, tx: Any, row: told.ToldVersion, without: set[str]) -> dict[str, Any] | None:
        """Return a version's commit, having compared what is the version's own."""
        try:
            content = self._read(row.pack_key, row.header_offset)
        except NotFoundError:
            raise
        except HartonomousError:
            return None  # told of where the journal is read
        if content.get("kind") != "commit":
            return None
        if _own_uid(content["uid"]) == row.artifact_uid.hex():
            self._doubtful.update((row.artifact_uid, row.uid))
            return None
        name = f"{row.artifact_name}@{row.number}"
        model = None if row.model is None else _json(row.model)
        said = {
            "uid": (row.uid.hex(), content["uid"]),
            "artifact": (row.artifact_uid.hex(), content["artifact"]),
            "sequence": (row.sequence, content["seq"]),
            "time": (row.created_us, content.get("created_us") or content["time_us"]),
            "kind": (row.kind, content["kind_of"]),
            "source": (row.source, (content["source"]["host"], content["source"]["place"])),
            "model": (model, content["model"]),
            "publication": (row.published, True),
        }
        if row.uid.hex() not in self._renumbered:  # replaying tells whether that number is right
            said["number"] = (row.number, content["number"])
        members = [one for one in content["members"] if one["path"] not in without]
        said["size"] = (row.size_bytes, sum(one["size"] for one in members))
        said["number of files"] = (row.file_count, len(members))
        said["files"] = (told.members_told(tx, row.id), _members(members))
        if content["model"] is not None:
            said["parameters"] = (row.parameter_count, content["model"]["parameter_count"])
            said["layers"] = (told.layers_told(tx, row.id), _layers(content["model"]["layers"]))
        other = [what for what, (here, there) in said.items() if here != there]
        if other:
            text = f"differs from its commit in: {', '.join(other)}"
            self.tell(f"version {name}", text, (name,))
        return content

    def _change(self, row: told.ToldChange) -> dict[str, Any] | None:
        try:
            content = self._read(row.pack_key, row.header_offset)
        except NotFoundError:
            raise
        except HartonomousError:
            return None  # told of where the journal is read
        here = (row.sequence, row.time_us, row.action, _json(row.content))
        if here != (content["seq"], content["time_us"], content.get("action"), content):
            self.tell(f"change {row.sequence}", "differs from its record in a pack", ())
        return content

    # -- replay

    def _compare(
        self,
        names: told.Told,
        commits: list[tuple[told.ToldVersion, dict[str, Any] | None]],
        contents: list[dict[str, Any] | None],
        gone: set[str],
    ) -> None:
        if None in contents or any(
            content is None and row.uid not in self._doubtful for row, content in commits
        ):
            return  # with a record missing the rest proves nothing, and that is told of already
        expected = _replayed([one for _, one in commits if one], [one for one in contents if one])
        for key in sorted(names.keys() | expected.keys(), key=repr):
            if names.get(key) != expected.get(key) and not self._excused(
                key, names, expected, gone
            ):
                self.tell("catalog", _told_as(key, names, expected), _files(key, names))

    def _excused(
        self, key: tuple[object, ...], names: told.Told, expected: told.Told, gone: set[str]
    ) -> bool:
        """Say whether a difference is what a repair or a collection under way makes."""
        if self._doubtful.intersection(key):
            return True
        if any(isinstance(one, bytes) and one.hex() in gone for one in key):
            return True
        if key[0] == "artifact":
            both = (names.get(key), expected.get(key))
            if both[1] is None:  # it has no version any more
                return not any(
                    one[0] == "version" and value[0] == key[1] for one, value in names.items()
                )
            return any(one is not None and str(one[0]).startswith(_RECOVERED) for one in both)
        return False


def _replayed(commits: list[dict[str, Any]], contents: list[dict[str, Any]]) -> told.Told:
    """Return what commits and changes make, one after the other."""
    database = Database(told.scratch_engine())
    try:
        with database.write() as tx:
            for content in sorted([*commits, *contents], key=lambda one: int(one["seq"])):
                if content["kind"] == "commit":
                    _put_version(tx, content)
                else:
                    changes.add(tx, content=content, pack_id=0, header_offset=0)
                    replay.apply_change(tx, content)
            return told.names_told(tx)
    finally:
        database.close()


def _put_version(tx: Any, content: dict[str, Any]) -> None:
    new = versions.NewVersion(
        uid=bytes.fromhex(content["uid"]), digest=bytes.fromhex(content["digest"]),
        kind=content["kind_of"], size_bytes=0, tensor_count=0, parameter_count=None,
        source_host="", source_place="", model=None, members=(), tags=tuple(content["tags"]),
        metadata=content["metadata"],
    )  # fmt: skip
    version_id = versions.stage(tx, new, writer_id=0, now_us=content["time_us"])
    uid = bytes.fromhex(content["artifact"])
    there = artifacts.by_uid(tx, uid)
    if there is None:
        artifact_id = artifacts.add(tx, uid=uid, name=content["name"], now_us=content["time_us"])
    else:
        artifact_id = there.id
        if there.removed_us is not None:  # a version that came from another store brings it back
            artifacts.set_removed(tx, artifact_id, None)
    versions.publish(
        tx, version_id, artifact_id=artifact_id, number=content["number"],
        sequence=content["seq"], pack_id=None, header_offset=None,
    )  # fmt: skip
    for label in content["labels"]:
        artifacts.set_label(tx, artifact_id, label, version_id)


def _purged(tx: Any) -> set[str]:
    """Return the ids in hex of versions that a purge made go; some rows of them may be left."""
    rows = changes.of_action(tx, "purge")
    return {uid for row in rows for uid in row.content["version_uids"]}


def _dropped_paths(tx: Any) -> dict[str, set[str]]:
    """Return {version's id in hex: paths of members that were dropped from it}."""
    found: dict[str, set[str]] = {}
    for row in changes.of_action(tx, dropped.ACTION):
        paths = (one["path"] for one in row.content["members"])
        found.setdefault(row.content["version_uid"], set()).update(paths)
    return found


def _members(members: list[dict[str, Any]]) -> told.Told:
    return {
        ("member", one["path"]): (
            None if one.get("raw_path") is None else msgspec.convert(one["raw_path"], bytes),
            bytes.fromhex(one["digest"]), one["mode"], one["modified_us"],
        )
        for one in members
    }  # fmt: skip


def _layers(layers: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (one["name"], one["kind"], one["tensor_count"], one["parameter_count"], one["tensor_bytes"])
        for one in layers
    ]


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE:
        return text


def _own_uid(uid: str) -> str:
    """Return the id that a repair gives to an artifact for a doubtful commit."""
    return digest(b"recovered " + uid.encode()).hex()[:32]


def _told_as(key: tuple[object, ...], names: told.Told, expected: told.Told) -> str:
    what = " ".join(one.hex()[:12] if isinstance(one, bytes) else str(one) for one in key)
    if key not in expected:
        return f"has {what}, which no commit or change says"
    if key not in names:
        return f"lacks {what}, which commits and changes say"
    return f"says of {what} {_shown(names[key])}, commits and changes say {_shown(expected[key])}"


def _shown(values: tuple[object, ...]) -> str:
    return ", ".join(one.hex()[:12] if isinstance(one, bytes) else str(one) for one in values)[:200]


def _files(key: tuple[object, ...], names: told.Told) -> tuple[str, ...]:
    """Return the versions that a difference is about."""
    found = []
    for one, value in names.items():
        if one[0] == "version" and (one[1] in key or value[0] in key):
            owner = names.get(("artifact", value[0]))
            found.append(f"{owner[0] if owner else '?'}@{value[1]}")
    return tuple(sorted(found)[:8])
