"""Doctor: looks at the program, the machine and the store, and says what to do about each thing.

Reads only, and opens nothing that has to be closed in order: it must work on a store that no other
command can open.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from hartonomous import locks
from hartonomous.catalog import health
from hartonomous.core.quantity import size
from hartonomous.errors import (
    HartonomousError,
    NotFoundError,
    UnsupportedStoreError,
)
from hartonomous.objects.local import LocalObjects
from hartonomous.objects.plain_cache import PlainCache
from hartonomous.packs import directory, leftovers
from hartonomous.packs.catalog_checks import look_at_catalog
from hartonomous.packs.checks import PROBLEM, Check, machine_checks, note, ok, problem
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import pack_object_key
from hartonomous.packs.store_card import read_card
from hartonomous.settings import Settings, StorePlace

_MOST_PACKS = 20_000
_DAY_US = 86_400_000_000
_LEAST_FREE_BYTES = 1 << 30
_CLOCK_SLACK_US = 5_000_000
_PROGRAM_YEAR_US = 1_735_689_600_000_000  # 2025-01-01: a clock before this program is wrong


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and how it is. ``store`` is the directory that was found, if any."""

    store: str | None
    problem_count: int
    checks: tuple[Check, ...]


def diagnose(
    place: StorePlace | None,
    settings: Settings,
    *,
    clock: Callable[[], int],
    found: tuple[Check, ...] = (),
) -> Diagnosis:
    """Look at everything. ``found`` are checks that the caller made, such as that of settings."""
    checks = [*machine_checks(settings), _clock(clock), *found]
    if place is not None:
        checks += _store(place, settings, clock)
    return Diagnosis(
        store=None if place is None or not place.exists else str(place.path),
        problem_count=sum(check.state == PROBLEM for check in checks),
        checks=tuple(checks),
    )


def _clock(clock: Callable[[], int]) -> Check:
    if clock() < _PROGRAM_YEAR_US:
        return problem("clock", "is before this program was written", "set the machine's clock")
    return ok("clock", "plausible")


def _store(place: StorePlace, settings: Settings, clock: Callable[[], int]) -> list[Check]:
    if not place.exists:
        text = f"none at {place.path} ({place.how})"
        return [note("store", text, "hart init makes one; --store names another")]
    path = place.path
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("file system", lambda: _file_system(path)),
        ("room", lambda: _room(path, settings)),
        ("permissions", lambda: _writable(path)),
        ("store.json", lambda: _card(path)),
    ]
    checks = [ok("store", f"{path} ({place.how})"), *(_look(*one) for one in looks)]
    catalog, said = look_at_catalog(path)
    looks = [("packs", lambda: _packs(path, catalog)), ("use", lambda: _in_use(path))]
    if catalog is not None:
        looks.append(("writers", lambda: _writers(path, catalog)))
        looks.append(("store clock", lambda: _store_clock(catalog, clock)))
    looks.append(("litter", lambda: _litter(path, catalog, clock)))
    return [*checks, *said, *(_look(*one) for one in looks)]


def _look(name: str, look: Callable[[], Check]) -> Check:
    """Make one check; what cannot be looked at is a problem, and the others go on."""
    try:
        return look()
    except OSError as error:
        return problem(
            name, f"cannot be looked at: {error.strerror}: {error.filename}",
            "check the permissions of the store's directory, and the disk",
        )  # fmt: skip
    except HartonomousError as error:
        return problem(name, error.message, error.hint or "check the store's directory")


def _file_system(path: Path) -> Check:
    kind = directory.file_system_of(path)
    if kind is None:
        return note("file system", "cannot be told here")
    if directory.is_network(kind):
        return problem(
            "file system", f"{kind}, over a network: locks and syncs cannot be relied on",
            "move the store to a local disk",
        )  # fmt: skip
    if kind in ("tmpfs", "ramfs"):
        return note("file system", f"{kind}: gone when the machine restarts")
    return ok("file system", kind)


def _room(path: Path, settings: Settings) -> Check:
    usage = shutil.disk_usage(path)
    used = sum(entry.size for entry in LocalObjects(path).list("packs/"))
    text = f"{size(usage.free)} free, packs take {size(used)}"
    if usage.free < 2 * settings.pack_bytes:
        return problem("room", text, "free some space on the store's disk; hart gc may help")
    if usage.free < max(_LEAST_FREE_BYTES, used // 10):
        return note("room", text, "hart gc frees what nothing needs")
    return ok("room", text)


def _writable(path: Path) -> Check:
    places = (path, path / "packs", path / "locks", path / "tmp")
    wrong = [one.name for one in places if one.exists() and not os.access(one, os.W_OK | os.X_OK)]
    if wrong:
        return problem(
            "permissions", f"no right to write into {', '.join(wrong)}",
            "mend the permissions of the store's directory",
        )  # fmt: skip
    return ok("permissions", "the store's directory can be written to")


def _card(path: Path) -> Check:
    try:
        card = read_card(path)
    except UnsupportedStoreError as error:
        return problem("store.json", error.message, error.hint or "use a newer version")
    except HartonomousError as error:
        return problem("store.json", error.message, "put it back from a backup; see FORMAT.md")
    features = [*card.required_features, *card.optional_features]
    return ok(
        "store.json",
        f"format version {card.version}, features: {', '.join(features) or 'none beyond it'}",
    )


def _packs(path: Path, catalog: health.CatalogHealth | None) -> Check:
    """Read the header and the footer of each pack, and compare with what the catalog has."""
    objects = LocalObjects(path)
    sizes: dict[str, int] = {}
    wrong: list[str] = []
    for entry in objects.list("packs/"):
        sizes[entry.key] = entry.size
        if len(sizes) > _MOST_PACKS:
            continue
        try:
            reader = PackReader(objects.open(entry.key), entry.key)
            try:
                reader.header()
                reader.footer()
            finally:
                reader.close()
        except NotFoundError:
            continue  # gc removed it meanwhile
        except HartonomousError as error:
            wrong.append(error.message)
    wrong += [] if catalog is None else _other_sizes(path, catalog, sizes)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return problem(
            "packs", f"{'; '.join(wrong[:3])}{more}", "hart verify names everything that is damaged"
        )
    part = f", the first {_MOST_PACKS:,} were opened" if len(sizes) > _MOST_PACKS else ""
    return ok("packs", f"{len(sizes):,}, {size(sum(sizes.values()))}{part}")


def _other_sizes(path: Path, catalog: health.CatalogHealth, sizes: dict[str, int]) -> list[str]:
    """Say which packs of the catalog are missing or of another size."""
    differ = {key for key, size in catalog.packs.items() if sizes.get(pack_object_key(key)) != size}
    if differ:
        # gc may have removed some since the catalog was read: rows go first, then files.
        again, _ = look_at_catalog(path)
        differ &= set() if again is None else again.packs.keys()
    found = []
    for key in sorted(differ):
        there = sizes.get(pack_object_key(key))
        if there is None:
            found.append(f"pack {key.hex()} is missing")
        else:
            found.append(f"pack {key.hex()} has {there:,} bytes instead of {catalog.packs[key]:,}")
    return found


def _in_use(path: Path) -> Check:
    place = path / "locks" / "store.lock"
    if not place.exists():
        return ok("use", "nobody has the store open")
    lock = locks.try_lock(place, shared=True)
    if lock is None:
        return note("use", "the store is being repaired or migrated", "wait for that to end")
    lock.release()
    return ok("use", "no repair or migration is running")


def _writers(path: Path, catalog: health.CatalogHealth) -> Check:
    alive = dead = 0
    processes = []
    for key, _, process in catalog.writers:
        if locks.is_held(path / "locks" / f"writer-{key.hex()}.lock"):
            alive += 1
            processes.append(str(process))
        else:
            dead += 1
    text = f"{alive} at work" + (f" (process {', '.join(processes[:8])})" if processes else "")
    if dead:
        return note(
            "writers", f"{text}, {dead} ended without tidying up", "hart gc frees what they left"
        )
    return ok("writers", text)


def _store_clock(catalog: health.CatalogHealth, clock: Callable[[], int]) -> Check:
    ahead = catalog.last_us - clock()
    if ahead > _CLOCK_SLACK_US:
        return problem(
            "store clock", f"the store's last change lies {ahead / _DAY_US:.3g} days in the future",
            "set the machine's clock; until then trash and cache are kept too long or too short",
        )  # fmt: skip
    return ok("store clock", "the store's last change lies in the past")


def _litter(path: Path, catalog: health.CatalogHealth | None, clock: Callable[[], int]) -> Check:
    count, size = LocalObjects(path).litter()
    before = clock() - leftovers.LEAST_AGE_US
    count += len(leftovers.old_files(path, before_us=before))
    if catalog is not None:
        known = {key.hex() for key, _, _ in catalog.writers}
        count += len(leftovers.dead_writer_locks(path, known))
    cache = PlainCache(
        root=path / "cache", lock_path=lambda name: path / "locks" / f"{name}.lock", clock=clock
    )
    count += cache.litter_count()
    if count:
        return note(
            "litter", f"{count} things that dead processes left, {size:,} bytes in tmp",
            "hart gc removes them",
        )  # fmt: skip
    return ok("litter", "none")
