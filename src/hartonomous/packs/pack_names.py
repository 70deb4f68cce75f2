"""Packs under a wrong name: who a pack is stands inside it, and repair gives it its name back.

A file system check, a backup or a hand may have swapped or renamed files. Each step is one atomic
rename, so whatever cuts it short leaves packs that the next repair goes on with.
"""

from pathlib import Path

from hartonomous.errors import HartonomousError
from hartonomous.objects import linux
from hartonomous.objects.durable import sync_directory
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key


def give_names_back(parts: StoreParts, *, dry_run: bool = False) -> list[str]:
    """Rename packs whose header and footer agree on another name; return what was done.

    With ``dry_run`` nothing is renamed.

    The caller holds the store alone. Where the right name is taken by the very pack, nothing is
    done, and the survey that follows tells of the copy.
    """
    identities = {entry.key: _identity(parts, entry.key) for entry in parts.objects.list("packs/")}
    done: list[str] = []
    for key in sorted(identities):
        while (identity := identities[key]) is not None and identity != key:
            if identities.get(identity, "") == identity:
                break  # a copy of a pack that is in its place
            swapped = identity in identities
            try:
                if not dry_run:
                    _rename(parts.directory, key, identity, swap=swapped)
            except OSError:
                break  # the survey tells of it too, and how to do it by hand
            done.append(f"{key} -> {identity}")
            # What was in the way lies here now; each round puts one pack where it belongs.
            identities[key] = identities[identity] if swapped else None
            identities[identity] = identity
    return done


def _identity(parts: StoreParts, key: str) -> str | None:
    """Return the object key that a pack should have; None if it does not say so twice."""
    try:
        reader = PackReader(parts.objects.open(key), key)
        try:
            name = reader.header().key
            return pack_object_key(name) if reader.footer().key == name else None
        finally:
            reader.close()
    except HartonomousError:
        return None


def _rename(root: Path, key: str, identity: str, *, swap: bool) -> None:
    source, target = root / key, root / identity
    target.parent.mkdir(exist_ok=True)
    if swap:
        linux.exchange_names(source, target)
    else:
        linux.rename_without_overwriting(source, target)
    for folder in {target.parent, source.parent, root / "packs"}:
        sync_directory(folder)
