"""What a store shows: its names, labels, trash and bytes; and whether anything lies about."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
from tests.torture import operations

import hartonomous as hn
from hartonomous.errors import HartonomousError, NoStoreError
from hartonomous.opening import check_backups, list_backups
from hartonomous.packs.backup_folder import BACKUP_FILE

OURS = {
    "store.json", "FORMAT.md", "FORMAT-FIELDS.md", "FORMAT-DELTA.md", "FORMAT-PLANS.md",
    "FORMAT-QUANTISED.md", "rescue.py", "catalog.sqlite3", "catalog.sqlite3-wal",
    "catalog.sqlite3-shm", "packs", "locks", "tmp", "cache", "index",
}  # fmt: skip
"""What may lie in a store's directory; former catalogs, which repair keeps, come on top."""


def everything(
    place: Path, out: Path, *, collect: bool, may_need_repair: bool, repair: bool
) -> dict[str, Any]:
    """Return what the store at ``place`` holds, and what is wrong with it.

    With ``repair`` its catalog is made anew before.

    ``collect`` has gc run, looks for litter behind it and looks again. A store that says that it
    needs a repair gets one where that ``may_need_repair``. What gc leaves until the trash is
    older has to go when the trash is emptied.
    """
    if not (place / "store.json").exists():
        hn.open(
            place, create=True
        ).close()  # what a making leaves that was cut short is no obstacle
        return {"state": None, "wrong": [], "repaired": False}
    repaired, left = False, 0
    if repair:
        hn.repair(place)
    try:
        hn.open(place).close()
    except NoStoreError as error:
        if not may_need_repair or "repair" not in (error.hint or ""):
            raise
        hn.repair(place)
        repaired = True
    with hn.open(place) as store:
        wrong = [f"{one.where}: {one.what}" for one in store.verify(files=True).faults]
        state = shown(store, out)
        if collect:
            notes = store.gc(grace_s=0).notes
            wrong += [f"{one.where}: {one.what}" for one in store.verify().faults]
            if shown(store, out) != state:
                wrong.append("gc changed what is there")
            lies_about = litter(store)
            # A sealed commit without rows may have been acknowledged: gc says so, and leaves it.
            kept = _explained(lies_about, notes, "hart repair")
            # One of a writer that was killed stays as long as the trash keeps things.
            waiting = _explained(lies_about, notes, "was killed")
            wrong += [one for one in lies_about if one not in {*kept, *waiting}]
            left = len(kept)
            if waiting and not kept:
                store.gc(trash_days=0, grace_s=0)
                wrong += [f"{one.where}: {one.what}" for one in store.verify().faults]
                wrong += [f"without a trash, {one}" for one in litter(store)]
    return {"state": state, "wrong": wrong, "repaired": repaired, "left": left}


def _explained(lies_about: list[str], notes: tuple[str, ...], why: str) -> list[str]:
    """Return the litter that a note of gc names with ``why`` in it."""
    named = [note.partition(" ")[0] for note in notes if why in note]
    return [one for one in lies_about if any(one.endswith(name) for name in named)]


def shown(store: hn.Store, out: Path, *, times: bool = False) -> dict[str, Any]:
    """Return {NAME@NUMBER: what is shown of it, digests of the files that come out}, and the trash.

    ``times`` has the moments in it at which things were done.
    """
    state: dict[str, Any] = {}
    for row in store.ls(versions=True):
        spec = f"{row.name}@{row.number}"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        store.get(spec, f"{out}/")
        state[spec] = {
            "shown": _told(store.show(spec), times),
            "files": {
                str(path.relative_to(out)): _sha256(path.read_bytes())
                for path in sorted(out.rglob("*"))
                if path.is_file()
            },
        }
    shutil.rmtree(out, ignore_errors=True)
    for row in store.ls(trash=True):
        state[f"{row.name}@{row.number}"] = "in the trash"
    with store.parts.database.read() as tx:
        for words in tx.exec_driver_sql(_RELATIONS).all():
            state[" ".join(map(str, words))] = "stated"
    return state


_RELATIONS = """
SELECT a.name, v.number, r.kind, b.name, w.number, r.note FROM relation r
JOIN version v ON v.id = r.source_version_id JOIN artifact a ON a.id = v.artifact_id
JOIN version w ON w.id = r.target_version_id JOIN artifact b ON b.id = w.artifact_id
"""


def _told(one: object, times: bool) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(one)
    del told["read_count"], told["last_read_us"]  # counted when a store is closed
    if not times:
        del told["created_us"]
    for file in told["files"]:
        for tensor in file["tensors"]:  # read off their names; not in any record
            del tensor["role"], tensor["layer"]
    return told


def litter(store: hn.Store) -> list[str]:
    """Return what lies in a store's directory that nobody needs."""
    place = store.path
    found = [path.name for path in place.iterdir() if path.name not in OURS]
    found = [name for name in found if not name.startswith("catalog.sqlite3.before-repair-")]
    found += [str(path) for path in (place / "tmp").iterdir()]
    found += [str(path) for path in (place / "locks").glob("writer-*")]
    if (place / "cache" / "tmp").is_dir():
        found += [str(path) for path in (place / "cache" / "tmp").iterdir()]
    with store.parts.database.read() as tx:
        found += [f"writer {row}" for row in tx.exec_driver_sql("SELECT id FROM writer").all()]
        known = {row[0].hex() for row in tx.exec_driver_sql("SELECT key FROM pack").all()}
    found += [str(path) for path in (place / "packs").rglob("*.pack") if path.stem not in known]
    packed = {path.stem for path in (place / "packs").rglob("*.pack")}
    found += [f"row of a pack that is not there: {key}" for key in known - packed]
    return [f"litter: {one}" for one in found]


def backups(folder: Path, store: Path, out: Path) -> dict[str, Any]:
    """Return what the newest snapshot gives back, None where there is none, and what is wrong.

    The store is backed up once more then: whatever a backup left that failed is no obstacle.
    """
    wrong: list[str] = []
    restored, state = out.parent / "restored", None
    if (folder / BACKUP_FILE).exists() and list_backups(folder):
        wrong += check_backups(folder).faults
        state = _restored(folder, restored, out, wrong)
    with hn.open(store) as held:
        wrong += held.backup(folder).faults
        here = shown(held, out)
    wrong += check_backups(folder).faults
    if _restored(folder, restored, out, wrong) != here:
        wrong.append("the next backup does not give back what is there")
    return {"state": state, "wrong": wrong}


def _restored(folder: Path, place: Path, out: Path, wrong: list[str]) -> dict[str, Any]:
    shutil.rmtree(place, ignore_errors=True)
    hn.restore(folder, place)
    with hn.open(place) as store:
        wrong += [f"{one.where}: {one.what}" for one in store.verify(files=True).faults]
        state = shown(store, out)
    shutil.rmtree(place)
    return state


def damaged(place: Path, out: Path, *, mend: bool = False) -> dict[str, Any]:
    """Return what comes out of a store that may be damaged, name by name, and what verify says.

    ``came`` has the digest of each file that came out, by what it was asked for; ``failed`` what
    did not come out. With ``mend`` verify mends first, and looks again.
    """
    found: dict[str, Any] = {"came": {}, "failed": {}, "faults": []}
    try:
        with hn.open(place) as store:
            if mend:
                found["mended"] = list(store.verify(files=True, repair=True).mended)
                operations.update_vectors(store)
            report = store.verify(files=True)
            found["faults"] = [[one.where, one.what, list(one.files)] for one in report.faults]
            for row in store.ls(versions=True):
                _try_version(store, f"{row.name}@{row.number}", out, found)
    except HartonomousError as error:
        found["refused"] = [type(error).__name__, error.message, error.hint]
        return found
    try:
        with hn.open(place) as store:
            found["state"] = shown(store, out, times=True)
            found["search"] = sought(store)
            found["near"] = operations.near_vectors(store)
            found["log"] = [msgspec.to_builtins(one) for one in store.log(limit=1000)]
    except HartonomousError as error:
        found["failed"]["everything"] = error.message
    return found


def sought(store: hn.Store) -> list[str]:
    """Return what a search gives, hit by hit, or why it gives nothing."""
    try:
        hits = store.search(operations.SOUGHT).hits
    except HartonomousError as error:
        return [f"{type(error).__name__}: {error.message}"]
    return [json.dumps(msgspec.to_builtins(one), sort_keys=True, default=str) for one in hits]


def _try_version(store: hn.Store, spec: str, out: Path, found: dict[str, Any]) -> None:
    """Take a version out in each way that there is."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        store.get(spec, f"{out}/")
        for path in sorted(out.rglob("*")):
            if path.is_file():
                found["came"][f"{spec}:{path.name}"] = _sha256(path.read_bytes())
    except HartonomousError as error:
        found["failed"][spec] = error.message
    try:
        if "cached" in store.show(spec).tags:
            plain = Path(store.plain(spec))
            found["came"][f"{spec}:plain"] = _sha256(plain.read_bytes())
        for name in store.tensors(spec):
            content = store.tensor(spec, name).tobytes()
            found["came"][f"{spec}:tensor {name}"] = _sha256(content)
    except HartonomousError as error:
        found["failed"][f"{spec}, read"] = error.message


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
