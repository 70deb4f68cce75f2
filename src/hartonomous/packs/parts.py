"""What a store is made of, as one value that operations receive."""

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hartonomous import locks
from hartonomous.catalog.database import Database
from hartonomous.core.record import PACK_BYTES
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs.access_counts import AccessCounts
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.catalog_home import CatalogHome
from hartonomous.packs.operands import Operands
from hartonomous.ports.objects import ObjectStore

FRAME_CACHE_BYTES = 64 << 20
"""What the cache of decoded frames may hold unless a setting says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreParts:
    """The open parts of one store. ``clock`` gives microseconds UTC.

    ``home`` is where the catalog is kept that ``database`` has open.
    ``parser`` starts at the first file that is added and serves until the store is closed: starting
    it takes longer than adding a small file. ``frames`` is the cache that all readers share,
    ``operands`` what they keep of bases. With ``variants``, tensors are kept as what differs from
    others where that is less, in chains of at most ``max_depth``; of versions with one of
    ``hot_labels`` at most 1. ``accesses`` counts what is read, None where nothing is counted.
    """

    directory: Path
    objects: ObjectStore
    database: Database
    home: CatalogHome
    clock: Callable[[], int]
    parser: ParserProcess
    host: str = socket.gethostname()
    pack_bytes: int = PACK_BYTES
    workers: int = os.cpu_count() or 1
    check: bool = True
    frames: FrameCache = field(default_factory=lambda: FrameCache(FRAME_CACHE_BYTES))
    operands: Operands = field(default_factory=Operands)
    variants: bool = True
    max_depth: int = 2
    hot_labels: tuple[str, ...] = ("hot",)
    accesses: AccessCounts | None = None

    def count_read(self, version_uid: bytes, file_digests: Iterable[bytes] = ()) -> None:
        """Count one read of a version, and of some of its files, if that is wanted."""
        if self.accesses is not None:
            self.accesses.count(version_uid, file_digests)

    def lock_path(self, name: str) -> Path:
        """Return the file of a lock of this store."""
        return self.directory / "locks" / f"{name}.lock"

    def writer_lock(self, key: bytes) -> Path:
        """Return the lock file that a writing session holds while it is alive."""
        return self.lock_path(f"writer-{key.hex()}")

    def writer_alive(self, key: bytes) -> bool:
        """Say whether a writing session's process still runs."""
        return locks.is_held(self.writer_lock(key))


def pack_object_key(key: bytes) -> str:
    """Return the object key of a pack."""
    name = key.hex()
    return f"packs/{name[:2]}/{name}.pack"
