"""Builds stores byte by byte from ``core.record`` alone, for tests of the format and of rescue.py.

Independent of the product's own writer: what both agree on is the specification.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from backports import zstd

from hartonomous.codecs.fields import FieldsCodec
from hartonomous.core import manifest as manifests
from hartonomous.core.description import Description
from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import (
    FRAME_ENTRY,
    PACK_HEADER_BYTES,
    Encoding,
    PackFooter,
    PackHeader,
    RecordHeader,
    RecordKind,
    header_start,
    payload_start,
)
from hartonomous.core.tree import tree_digest

Part = bytes | tuple[bytes, ...]
"""A segment: bytes kept as an atom; with a tuple, an atom cut into several extents."""


@dataclass
class PackByHand:
    """One pack in memory; ``content()`` seals it."""

    key: bytes
    created_us: int = 0
    required: int = 0
    body: bytearray = field(default_factory=bytearray)
    headers: list[RecordHeader] = field(default_factory=list)

    def add(
        self,
        kind: RecordKind,
        content: bytes,
        *,
        whole: bytes | None = None,
        position: int = 0,
        encoding: Encoding = Encoding.RAW,
        frame_bytes: int = 256 * 1024,
        name: bytes | None = None,
        frames: list[bytes] | None = None,
    ) -> RecordHeader:
        """Append a record of ``content``, a part of ``whole`` from ``position`` on.

        ``name`` and ``frames`` stand in for the right digest and the right payload.
        """
        whole = content if whole is None else whole
        windows = [content[at : at + frame_bytes] for at in range(0, len(content), frame_bytes)]
        frames = frames or [encode(window, encoding, k) for k, window in enumerate(windows)]
        table = np.array([(len(frame), checksum(frame)) for frame in frames], FRAME_ENTRY)
        header = RecordHeader(
            kind=kind, encoding=encoding, digest=name or digest(whole), total=len(whole),
            position=position, length=len(content), frame_bytes=frame_bytes, frames=table,
            recipe=int(encoding is Encoding.FIELDS),
        )  # fmt: skip
        at = PACK_HEADER_BYTES + len(self.body)
        header = header.at(payload_start(at, encoding))
        self.body += bytes(header.offset - at) + b"".join(frames)
        self.body += bytes(header_start(len(self.body)) - len(self.body)) + header.encode()
        self.headers.append(header)
        return header

    def content(self) -> bytes:
        """Return the sealed pack."""
        start = PackHeader(
            key=self.key, writer=b"w" * 16, created_us=self.created_us, required=self.required
        )
        toc = b"".join(header.encode() for header in self.headers)
        footer = PackFooter(
            key=self.key, toc_offset=PACK_HEADER_BYTES + len(self.body), toc_bytes=len(toc),
            record_count=len(self.headers), toc_check=checksum(toc),
        )  # fmt: skip
        return start.encode() + bytes(self.body) + toc + footer.encode()


def encode(window: bytes, encoding: Encoding, number: int = 0) -> bytes:
    """Encode one frame; those that would not shrink stay raw. Fields are those of F32."""
    if encoding is Encoding.RAW:
        return window
    if encoding is Encoding.FIELDS:
        position = number * len(window)  # right for every frame but a shorter last one
        return FieldsCodec().encode(memoryview(window), "F32", position=position) or window
    packed = zstd.compress(window, 3)
    return packed if len(packed) < len(window) else window


def uid(text: str) -> str:
    """Return 32 hex digits that stand for ``text``."""
    return hashlib.md5(text.encode()).hexdigest()


def to_json(value: dict[str, Any]) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


class StoreByHand:
    """A store folder in the making; every pack that was asked for is written by ``write``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.packs: list[PackByHand] = []
        self.seq = 0
        self.files: dict[str, dict[str, bytes]] = {}  # version uid → path → bytes

    def pack(self) -> PackByHand:
        """Begin another pack."""
        key = hashlib.md5(b"pack %d" % len(self.packs)).digest()
        self.packs.append(PackByHand(key=key))
        return self.packs[-1]

    def next(self) -> dict[str, int]:
        """Return the order fields of the next commit or change."""
        self.seq += 1
        return {"seq": self.seq, "time_us": 1_700_000_000_000_000 + self.seq}

    def add_file(
        self, parts: list[Part], pack: PackByHand, *, atoms: bool = True, **how: Any
    ) -> dict[str, Any]:
        """Store a file; returns the member without its path. Short parts lie in the manifest.

        With ``atoms`` off the atoms are left out, for a test to store them in its own way.
        """
        whole, segments = b"", []
        for part in parts:
            atom = b"".join(part) if isinstance(part, tuple) else part
            whole += atom
            if len(atom) <= manifests.INLINE_BYTES:
                segments.append(manifests.Segment(len(atom), inline=atom))
                continue
            segments.append(manifests.Segment(len(atom), digest=digest(atom)))
            position = 0
            pieces = part if isinstance(part, tuple) else (part,)
            for number, piece in enumerate(pieces if atoms else ()):
                there = pack if number == 0 else self.pack()
                there.add(RecordKind.EXTENT, piece, whole=atom, position=position, **how)
                position += len(piece)
        manifest = manifests.encode(
            manifests.Manifest(
                size=len(whole),
                digest=digest(whole),
                sha256=hashlib.sha256(whole).digest(),
                segments=tuple(segments),
                description=Description(format="file"),
            )
        )
        pack.add(RecordKind.MANIFEST, manifest, encoding=how.get("encoding", Encoding.RAW))
        return {
            "manifest": digest(manifest).hex(), "digest": digest(whole).hex(),
            "size": len(whole), "mode": 0o640, "modified_us": 1_600_000_000_000_000,
            "_bytes": whole,
        }  # fmt: skip

    def commit(
        self,
        artifact: str,
        number: int,
        files: dict[str, list[Part]],
        *,
        name: str | None = None,
        labels: tuple[str, ...] = (),
        pack: PackByHand | None = None,
        raw_path: bytes | None = None,
        **how: Any,
    ) -> str:
        """Store a version of an artifact; returns its uid."""
        pack = pack or self.pack()
        version = uid(f"{artifact}@{number}")
        members = []
        for path, parts in files.items():
            member = self.add_file(parts, pack, **how)
            self.files.setdefault(version, {})[path] = member.pop("_bytes")
            raw = {"raw_path": base64.b64encode(raw_path).decode()} if raw_path else {}
            members.append({"path": path, **member, **raw})
        tree = tree_digest((m["path"], bytes.fromhex(m["digest"])) for m in members)
        pack.add(
            RecordKind.COMMIT,
            to_json(
                {
                    "version": 1, "kind": "commit", **self.next(), "artifact": uid(artifact),
                    "name": name or artifact, "number": number, "uid": version,
                    "digest": tree.hex(), "members": members,
                    "source": {"host": "example", "place": "/models"}, "labels": list(labels),
                    "tags": [], "metadata": {}, "model": None, "kind_of": "model",
                }
            ),
            encoding=how.get("encoding", Encoding.RAW),
        )  # fmt: skip
        return version

    def change(self, action: str, **fields: Any) -> int:
        """Store a change in a pack of its own; returns its seq."""
        order = self.next()
        content = {"version": 1, "kind": "change", **order, "action": action, **fields}
        self.pack().add(RecordKind.CHANGE, to_json(content), encoding=Encoding.ZSTD)
        return order["seq"]

    def path_of(self, pack: PackByHand) -> Path:
        """Return where a pack is written."""
        key = pack.key.hex()
        return self.place / "packs" / key[:2] / f"{key}.pack"

    def write(self) -> Path:
        """Write the store folder; returns it."""
        for pack in self.packs:
            self.path_of(pack).parent.mkdir(parents=True, exist_ok=True)
            self.path_of(pack).write_bytes(pack.content())
        card = {
            "format": "hartonomous-store", "version": 1, "id": uid("store"),
            "created": "2026-01-01T00:00:00Z", "required_features": [], "optional_features": [],
        }  # fmt: skip
        (self.place / "store.json").write_text(json.dumps(card))
        return self.place
