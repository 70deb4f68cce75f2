"""Targets of what reads a store: packs, manifests, commits and changes, and all of rescue.py.

Checksums guard nearly every byte of a pack, so that a change of one would be seen before anything
is read. ``pack`` and ``rescued`` therefore take the bytes as they are, and again with all checksums
made right: what a writer with bad intentions would store.
"""

import argparse
import contextlib
import io
import json
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from hartonomous.core import journal_entry, manifest
from hartonomous.core.digest import checksum
from hartonomous.core.record import decode_record
from hartonomous.errors import HartonomousError
from hartonomous.objects.memory import MemoryObjects
from hartonomous.packs import rescue
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import pack_object_key

RECORDS_READ = 16
"""Records of a pack that are decoded, of each way to find them."""
DECODED_BYTES = 1 << 20
_HEADER, _FOOTER, _CHECK = 64, 64, 8


def record(content: bytes) -> None:
    """Read a record header, with a right checksum too."""
    for one in (content, with_checksums(content)):
        try:
            header, end = decode_record(one)
        except HartonomousError:
            continue
        assert 0 < end <= len(one)
        again, _ = decode_record(header.encode())
        assert again.encode() == header.encode()


def pack(content: bytes) -> None:
    """Read a pack by its table of contents and by looking for records, and decode some."""
    for one in (content, with_checksums(content)):
        objects = MemoryObjects()
        key = pack_object_key(bytes(16))
        objects.put(key, one)
        source = objects.open(key)
        reader = PackReader(source, "fuzz")
        with contextlib.suppress(HartonomousError):
            reader.header()
        for listed in (reader.records(), reader.salvage()):
            with contextlib.suppress(HartonomousError):
                for _, header in islice(listed, RECORDS_READ):
                    _decode(reader, StoredRecord(header))


def _decode(reader: PackReader, stored: StoredRecord) -> None:
    header = stored.header
    assert header.position + header.length <= header.total
    if header.length > DECODED_BYTES:
        return
    out = np.empty(header.length, np.uint8).data
    with contextlib.suppress(HartonomousError):
        batch = FrameBatch()
        batch.add(reader, stored, 0, out)
        batch.decode()
    with contextlib.suppress(HartonomousError):
        stored.check_raw(reader, 0, header.length)
    with contextlib.suppress(HartonomousError):
        stored.variant()


def with_checksums(content: bytes) -> bytes:
    """Return a pack with right checksums of frames, record headers, its own header and footer."""
    out = bytearray(content)
    if out.startswith(b"HARTPACK") and len(out) >= _HEADER:
        short = checksum(out[: _HEADER - 4]) & 0xFFFFFFFF
        out[_HEADER - 4 : _HEADER] = short.to_bytes(4, "little")
    at = out.find(b"HREC")
    while at >= 0:
        _mend_record(out, at)
        at = out.find(b"HREC", at + 4)
    if out[-_FOOTER:].startswith(b"HARTTOC1") and len(out) >= _FOOTER:
        place, size = (int.from_bytes(out[n : n + 8], "little") for n in (-56, -48))
        toc = checksum(out[place : place + size]) if place + size <= len(out) else 0
        out[-32:-24] = toc.to_bytes(8, "little")
        out[-8:] = checksum(out[-_FOOTER:-_CHECK]).to_bytes(8, "little")
    return bytes(out)


def _mend_record(out: bytearray, at: int) -> None:
    if at + rescue.RECORD.size + _CHECK > len(out):
        return
    fields = rescue.RECORD.unpack_from(out, at)
    size, offset, frame_count, base_count, param_bytes = fields[1], fields[6], *fields[-3:]
    if size < rescue.RECORD.size + _CHECK or at + size > len(out):
        return
    table = at + rescue.RECORD.size + 32 * base_count + param_bytes
    for place in range(table, min(table + 12 * frame_count, at + size - 8 - 11), 12):
        stored = int.from_bytes(out[place : place + 4], "little")
        if offset + stored > len(out):
            break
        check = checksum(out[offset : offset + stored])
        out[place + 4 : place + 12] = check.to_bytes(8, "little")
        offset += stored
    end = at + size
    out[end - _CHECK : end] = checksum(out[at : end - _CHECK]).to_bytes(8, "little")


def manifests(content: bytes) -> None:
    """Read a manifest; one that is accepted can be written, and is the same again."""
    try:
        found = manifest.decode(content)
    except HartonomousError:
        return
    again = manifest.encode(found)
    assert manifest.encode(manifest.decode(again)) == again
    segments = manifest.SegmentMap(found.segments)
    assert segments.size == found.size
    if found.size:
        assert sum(b - a for _, a, b in segments.spans(0, found.size)) == found.size


def journal(content: bytes) -> None:
    """Read commits and changes, one a line; rescue.py applies them in their order."""
    state = rescue.State()
    for line in content.split(b"\n")[:64]:
        with contextlib.suppress(HartonomousError):
            assert journal_entry.decode_entry(line)["version"] == 1
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict) or entry.get("version") != 1:
            continue
        with contextlib.suppress(LookupError, TypeError):  # what rescue.replay expects of them
            rescue.check_entry(entry)
            state.apply(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        rescue.show({}, state, argparse.Namespace())


def rescued(content: bytes) -> None:
    """List, verify and restore a store of this one pack with rescue.py."""
    for one in (content, with_checksums(content)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "store" / "packs" / "00" / f"{bytes(16).hex()}.pack"
            file.parent.mkdir(parents=True)
            file.write_bytes(one)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                _rescue(Path(folder))


def _rescue(place: Path) -> None:
    for found in rescue.FOUND.values():
        found.clear()
    rescue.KEPT_BASES.clear()
    options = argparse.Namespace(
        out=place / "out", name="", all_versions=True, include_removed=True
    )
    with contextlib.suppress(rescue.RefusedError):
        index = rescue.read_store(place / "store")
        state = rescue.replay(index)
        rescue.show(index, state, options)
        rescue.verify(index, state, options)
        rescue.restore(index, state, options)
