"""What a collection dropped, or would drop: counted while it works, and told at its end."""

from dataclasses import dataclass, field

import msgspec

from hartonomous.packs.rebasing import Rebased


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was dropped, or (``dry_run``) would be.

    ``rebased_count`` atoms were written anew without bases that no file holds any more; what they
    and those bases took was ``rebased_saved_bytes`` more, by estimate. ``kept_count`` atoms of
    ``kept_bytes`` stay because others are built on them.
    """

    purged_versions: tuple[str, ...]
    manifest_count: int
    atom_count: int
    pack_count: int
    compacted_count: int
    litter_count: int
    freed_bytes: int
    rebased_count: int = 0
    rebased_saved_bytes: int = 0
    kept_count: int = 0
    kept_bytes: int = 0
    dry_run: bool = False
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """What a collection has counted so far."""

    purged: list[str] = field(default_factory=list)
    manifests: int = 0
    atoms: int = 0
    packs: int = 0
    compacted: int = 0
    litter: int = 0
    freed_bytes: int = 0
    rebased: Rebased = field(default_factory=Rebased)
    gone: set[int] = field(default_factory=set)  # atoms, in a dry run
    kept: list[int] = field(default_factory=list)  # atoms that others need alone, in a dry run
    notes: list[str] = field(default_factory=list)
