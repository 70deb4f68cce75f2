"""What a collection dropped, or would drop: counted while it works, and told at its end."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hartonomous.catalog import packs, versions
from hartonomous.packs.rebasing import Rebased


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What was dropped, or (``dry_run``) would be.

    ``rebased_count`` atoms were written anew without bases that no file holds any more; what they
    and those bases took was ``rebased_saved_bytes`` more, by estimate. ``kept_count`` atoms of
    ``kept_bytes`` stay because others are built on them. ``event_count`` events went from the
    change feed, ``vector_count`` vectors of files that are gone from the spaces. What a real run
    left: ``trash_count`` versions of ``trash_bytes`` in the trash, ``unused_bytes`` in packs of
    which too little is unused to write them anew. A dry run leaves the last at 0.
    """

    purged_versions: tuple[str, ...]
    manifest_count: int
    atom_count: int
    pack_count: int
    compacted_count: int
    litter_count: int
    freed_bytes: int
    event_count: int = 0
    job_count: int = 0
    vector_count: int = 0
    rebased_count: int = 0
    rebased_saved_bytes: int = 0
    kept_count: int = 0
    kept_bytes: int = 0
    trash_count: int = 0
    trash_bytes: int = 0
    unused_bytes: int = 0
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return how many of each kind were dropped or written anew; all 0 where nothing was."""
        return {
            "purged_count": len(self.purged_versions),
            "manifest_count": self.manifest_count,
            "atom_count": self.atom_count,
            "pack_count": self.pack_count,
            "compacted_count": self.compacted_count,
            "litter_count": self.litter_count,
            "event_count": self.event_count,
            "job_count": self.job_count,
            "vector_count": self.vector_count,
            "rebased_count": self.rebased_count,
        }


@dataclass(slots=True)
class Tally:
    """What a collection has counted so far."""

    purged: list[str] = field(default_factory=list)
    manifests: int = 0
    atoms: int = 0
    packs: int = 0
    compacted: int = 0
    litter: int = 0
    events: int = 0  # gone from the change feed
    jobs: int = 0  # that ended long ago
    vectors: int = 0  # of files that are gone
    freed_bytes: int = 0
    rebased: Rebased = field(default_factory=Rebased)
    gone: set[int] = field(default_factory=set)  # atoms, in a dry run
    kept: list[int] = field(default_factory=list)  # atoms that others need alone, in a dry run
    trash_count: int = 0
    trash_bytes: int = 0
    unused_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def look(self, tx: Any, *, dry_run: bool) -> None:
        """Count what is left in the trash, and unused in packs of which something is in use."""
        gone = set(self.purged)
        left = [row for row in versions.in_trash(tx) if f"{row.name}@{row.number}" not in gone]
        self.trash_count, self.trash_bytes = len(left), sum(row.size_bytes for row in left)
        if dry_run:
            return
        live = packs.live_records(tx)
        for row in packs.everything(tx):
            records, stored = live.get(row.id, (0, 0))
            if 0 < records < row.record_count:
                self.unused_bytes += row.size_bytes - stored

    def result(self, *, dry_run: bool) -> Collected:
        """Return what there is to tell at the end."""
        return Collected(
            purged_versions=tuple(self.purged),
            manifest_count=self.manifests,
            atom_count=self.atoms,
            pack_count=self.packs,
            compacted_count=self.compacted,
            litter_count=self.litter,
            event_count=self.events,
            job_count=self.jobs,
            vector_count=self.vectors,
            freed_bytes=self.freed_bytes,
            rebased_count=self.rebased.atom_count,
            rebased_saved_bytes=self.rebased.saved_bytes,
            kept_count=self.rebased.kept_count,
            kept_bytes=self.rebased.kept_bytes,
            trash_count=self.trash_count,
            trash_bytes=self.trash_bytes,
            unused_bytes=self.unused_bytes,
            dry_run=dry_run,
            notes=tuple(self.notes),
        )
