"""A store's packs as a test sees them on disk: where things lie in them, and how to break them."""

import os
import shutil
from pathlib import Path

import numpy as np

from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import Encoding, RecordHeader, RecordKind
from hartonomous.objects.local import LocalObjects
from hartonomous.packs.pack_file import PackReader, PackWriter
from hartonomous.packs.parts import StoreParts


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def pack_paths(store: Path) -> list[Path]:
    return sorted((store / "packs").rglob("*.pack"))


def bytes_in_packs(store: Path) -> int:
    return sum(path.stat().st_size for path in pack_paths(store))


def key_of(pack: Path) -> str:
    return str(pack.relative_to(pack.parents[2]))


def open_pack(pack: Path) -> PackReader:
    return PackReader(LocalObjects(pack.parents[2]).open(key_of(pack)), pack.stem)


def records_of(pack: Path) -> list[tuple[int, RecordHeader]]:
    reader = open_pack(pack)
    try:
        return list(reader.records())
    finally:
        reader.close()


def pack_with(store: Path, kind: RecordKind, number: int = 0) -> Path:
    """Return the pack that holds the record of a kind, the oldest first."""
    packs = sorted(pack_paths(store), key=lambda one: one.stat().st_mtime_ns)
    return [one for one in packs if any(h.kind is kind for _, h in records_of(one))][number]


def first_record(pack: Path, kind: RecordKind) -> tuple[int, RecordHeader]:
    return next((at, header) for at, header in records_of(pack) if header.kind is kind)


def rewrite(pack: Path, content: bytes) -> None:
    """Put other bytes in a pack's place; a new file, since packs are mapped."""
    other = pack.with_suffix(".other")
    other.write_bytes(content)
    other.replace(pack)


def flip(pack: Path, at: int) -> None:
    content = bytearray(pack.read_bytes())
    content[at] ^= 0x10
    rewrite(pack, bytes(content))


def wreck_end(pack: Path) -> None:
    """Overwrite the footer and the last half of the table of contents."""
    reader = open_pack(pack)
    footer = reader.footer()
    reader.close()
    kept = footer.toc_offset + footer.toc_bytes // 2
    content = pack.read_bytes()
    rewrite(pack, content[:kept] + b"\xa5" * (len(content) - kept))


def copy_store(store: Path, target: Path) -> Path:
    shutil.copytree(store, target)
    return target


def write_pack(parts: StoreParts, objects: list[tuple[RecordKind, bytes, bytes]]) -> tuple:
    """Write a sealed pack of raw records (kind, digest as claimed, content).

    Returns what sealing gave, and where the headers lie.
    """
    out = PackWriter(parts.objects, writer=os.urandom(16), now_us=parts.clock())
    places = []
    for kind, name, content in objects:
        out.begin(Encoding.RAW)
        for start in range(0, len(content), 256 * 1024):
            frame = content[start : start + 256 * 1024]
            out.frame(frame, checksum(frame))
        places.append(
            out.end(
                kind=kind, encoding=Encoding.RAW, recipe=0, digest=name or digest(content),
                total=len(content), position=0, length=len(content),
            )
        )  # fmt: skip
    return out.seal(), places
