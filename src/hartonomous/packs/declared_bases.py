"""Declared bases: which stored tensors a file's own words say it was made from.

A hint for base search and nothing else: a wrong declaration costs a comparison, never a byte. One
step is followed, so declarations in a circle lead nowhere.
"""

from collections.abc import Sequence
from typing import Any

from hartonomous.catalog import artifacts, manifests, versions
from hartonomous.catalog.database import Database
from hartonomous.core.canonical_name import canonical_name
from hartonomous.core.declaration import names_meant
from hartonomous.packs.parts import StoreParts

_MOST_TENSORS = 100_000
"""Of a base with more the first of them are looked at."""
_MOST_KEPT = 8


def versions_meant(tx: Any, declared: str) -> list[int]:
    """Return the ids of the versions in use that a declared name may mean, the newest last.

    Those of the likeliest name that is there.
    """
    for name in names_meant(declared):
        artifact = artifacts.by_name(tx, name)
        found = [] if artifact is None else versions.of_artifact(tx, artifact.id)
        if found:
            return [one.id for one in found]
    return []


class DeclaredBases:
    """Finds the tensors of declared bases in one store, each base looked up once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, dict[str, tuple[bytes, ...]]] = {}

    def atoms(self, declared: Sequence[str], tensor: str) -> tuple[bytes, ...]:
        """Return the digests of what bears a tensor's name in the declared bases that are here."""
        if not declared or not tensor:
            return ()
        name = canonical_name(tensor)
        found = (one for base in declared for one in self._tensors(base).get(name, ()))
        return tuple(dict.fromkeys(found))

    def _tensors(self, base: str) -> dict[str, tuple[bytes, ...]]:
        held = self._known.get(base)
        if held is None:
            while len(self._known) >= _MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            held = self._known[base] = self._look_up(base)
        return held

    def _look_up(self, base: str) -> dict[str, tuple[bytes, ...]]:
        found: dict[str, tuple[bytes, ...]] = {}
        with self._database.read() as tx:
            meant = versions_meant(tx, base)
            members = versions.members_of(tx, meant[-1]) if meant else []
            for member in members:
                for row in manifests.tensors_of(tx, member.manifest_id):
                    if row.digest is not None and len(found) < _MOST_TENSORS:
                        name = canonical_name(row.name)
                        found[name] = (*found.get(name, ()), row.digest)
        return found


def _only_one_below(tx: Any, declared: str, own_name: str) -> bool:
    """Say whether one other artifact alone bears the name in some folder; lineage takes that."""
    meant = names_meant(declared)
    found = artifacts.names_below(tx, meant[-1], limit=3) if meant else []
    return len([name for name in found if name != own_name]) == 1


def missing_bases(
    parts: StoreParts, summary: dict[str, Any], own_name: str, own_number: int
) -> list[str]:
    """Return a note for each declared base of a model's summary that no other version here is."""
    names = [str(one.get("name", "")) for one in summary.get("declared_base_models") or ()]
    with parts.database.read() as tx:
        artifact = artifacts.by_name(tx, own_name) if names else None
        rows = [] if artifact is None else versions.of_artifact(tx, artifact.id)
        own = {one.id for one in rows if one.number == own_number}
        absent = [one for one in dict.fromkeys(names) if not {*versions_meant(tx, one)} - own]
        absent = [one for one in absent if not _only_one_below(tx, one, own_name)]
    return [
        f"{own_name} declares {one!r} as its base, which is not in this store" for one in absent
    ]
