"""Decoding: frames of records gathered, checked, and decoded straight to where they belong.

Everything that reads stored bytes comes through ``FrameBatch``. A frame that lies wholly inside the
wanted range is decoded into the destination and kept nowhere; of one that lies in it partly, the
whole is decoded into the cache of frames and the part is copied.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hartonomous.codecs.choice import codec_for
from hartonomous.codecs.predicted import can_decode_parts
from hartonomous.core.record import PREDICTED, Encoding, RecordHeader
from hartonomous.errors import IntegrityError, UnsupportedStoreError
from hartonomous.packs.bounded_cache import FrameCache, FrameKey
from hartonomous.packs.chain import NOBODY, Chain
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.predicted_frames import TOGETHER, Waiting, decode_frames
from hartonomous.packs.predictions import (
    BaseCircleError,
    BaseGoneError,
    BaseSource,
    Variant,
    variant_of,
)

_PART = 2
"""What is at most so small a share of a frame is decoded alone, where that goes."""

BATCH_FRAMES = 16
"""Frames that one call of a codec decodes at most: payloads are in the processor's cache then."""


class StoredRecord:
    """A record's header, made ready for reading frames anywhere in it.

    ``starts`` says where each frame's payload begins inside the record's payload.
    """

    __slots__ = ("_seen", "_variant", "header", "starts")

    def __init__(self, header: RecordHeader) -> None:
        self.header = header
        self._variant: Variant | None = None
        self.starts = np.zeros(len(header.frames) + 1, np.uint64)
        np.cumsum(header.frames["stored"], out=self.starts[1:], dtype=np.uint64)
        self._seen = np.zeros(0, np.bool_)

    @property
    def size_bytes(self) -> int:
        """Memory that this takes, about."""
        return 1024 + len(self.header.frames) * 24 + 2 * len(self.header.params)

    def variant(self) -> Variant:
        """Return the plan and bases of a predicted record; raises IntegrityError."""
        if self._variant is None:
            self._variant = variant_of(self.header)
        return self._variant

    def check_raw(self, pack: PackReader, start: int, stop: int) -> None:
        """Check the frames of a raw payload under ``[start, stop)``, each once; IntegrityError."""
        header = self.header
        if not len(self._seen):
            self._seen = np.zeros(len(header.frames), np.bool_)
        for index in range(start // header.frame_bytes, -(-stop // header.frame_bytes)):
            if not self._seen[index]:
                at = int(self.starts[index])
                payload = pack.frame(header, index, at)
                if at != index * header.frame_bytes or len(payload) != header.frame_length(index):
                    raise _wrong_size()
                self._seen[index] = True


@dataclass(slots=True)
class _Part:
    """What is copied, and kept, once a frame is decoded of which a part was wanted."""

    key: FrameKey
    content: memoryview
    low: int
    target: memoryview


class Bases(BaseSource, Protocol):
    """Who has bases, and may find an atom kept otherwise than it was a moment ago."""

    def moved(self, header: RecordHeader, start: int, /) -> bool:
        """Say whether an atom's byte at ``start`` is kept otherwise now than by this record."""
        ...


class FrameBatch:
    """Frames that wait to be decoded together; ``decode`` ends the work. For one thread.

    Predicted frames are read with ``bases``; ``chain`` are the atoms that need this work as a base.
    """

    def __init__(
        self, cache: FrameCache | None = None, bases: Bases | None = None, chain: Chain = NOBODY
    ) -> None:
        self._cache = cache
        self._bases = bases
        self._chain = chain
        self._record: StoredRecord | None = None  # of the predicted frames that wait
        self._waiting: list[Waiting] = []
        self._kind: tuple[Encoding | int, int, bytes] | None = None
        self._payloads: list[memoryview] = []
        self._outs: list[memoryview] = []
        self._parts: list[_Part] = []

    def add(self, pack: PackReader, record: StoredRecord, start: int, out: memoryview) -> None:
        """Fill ``out`` with the record's decoded bytes from ``start``, now or in ``decode``.

        ``start`` counts from the record's own first byte. Each frame's checksum is compared before
        anything is decoded; raises IntegrityError.
        """
        header = record.header
        stop = start + len(out)
        if start < 0 or stop > header.length:
            raise ValueError(f"[{start}, {stop}) is outside the record's {header.length} bytes")
        if not len(out):
            return
        size = header.frame_bytes
        first = start // size
        stored = header.frames["stored"][first : (stop - 1) // size + 1].tolist()
        for index, stored_bytes in enumerate(stored, first):
            base, length = index * size, header.frame_length(index)
            low, high = max(start, base), min(stop, base + length)
            target = out[low - start : high - start]
            if stored_bytes == length:
                payload = pack.frame(header, index, int(record.starts[index]))
                target[:] = payload[low - base : high - base]
            else:
                self._encoded(pack, record, index, low - base, target)

    def _encoded(
        self, pack: PackReader, record: StoredRecord, index: int, low: int, target: memoryview
    ) -> None:
        header = record.header
        length = header.frame_length(index)
        key = (header.digest, header.position + index * header.frame_bytes, length)
        kept = None if self._cache is None else self._cache.get(key)
        if kept is not None:
            target[:] = kept[low : low + len(target)]
            return
        payload = pack.frame(header, index, int(record.starts[index]))
        self._make_room(record)
        if self._in_part(record, payload, len(target), length):
            self._waiting.append(Waiting(index, payload, target, low))
            return
        out = target
        # Bases of bases are kept whole too: what shares them must not decode them time and again.
        if len(target) != length or len(self._chain) > 1:
            out = np.empty(length, np.uint8).data
            self._parts.append(_Part(key, out, low, target))
        if header.encoding in PREDICTED:
            self._waiting.append(Waiting(index, payload, out))
        else:
            self._payloads.append(payload)
            self._outs.append(out)

    def _in_part(self, record: StoredRecord, payload: memoryview, wanted: int, length: int) -> bool:
        """Say whether a part of a frame is decoded without the rest, and not kept.

        Its bases' frames are kept, so what is read next to it costs little more.
        """
        if _PART * wanted > length or len(self._chain) > 1:
            return False
        if record.header.encoding == Encoding.DELTA:
            return not len(payload)
        return record.header.encoding == Encoding.DERIVED and can_decode_parts(
            record.variant().plan.dtype
        )

    def _make_room(self, record: StoredRecord) -> None:
        """Decode what cannot wait together with a frame of ``record``."""
        header = record.header
        if header.encoding in PREDICTED:
            if record is not self._record or len(self._waiting) >= TOGETHER:
                self.decode()
                self._record = record
            return
        kind = (header.encoding, header.recipe, header.params)
        if len(self._payloads) == BATCH_FRAMES or kind != self._kind:
            self.decode()
            self._kind = kind

    def decode(self) -> None:
        """Decode what waits; afterwards every ``out`` is full. Raises DecodeError."""
        payloads, outs, parts = self._payloads, self._outs, self._parts
        record, waiting = self._record, self._waiting
        self._payloads, self._outs, self._parts, self._waiting = [], [], [], []
        if payloads and self._kind is not None:
            _decode(self._kind, payloads, outs)
        if waiting and record is not None:
            self._decode_predicted(record, waiting)
        for part in parts:
            content = part.content.toreadonly()
            part.target[:] = content[part.low : part.low + len(part.target)]
            if self._cache is not None:
                self._cache.put(part.key, content, len(content))

    def _decode_predicted(self, record: StoredRecord, waiting: list[Waiting]) -> None:
        header = record.header
        if self._bases is None:
            raise IntegrityError(f"a record of kind {header.kind} must not have bases")
        try:
            decode_frames(self._bases, header, record.variant(), waiting, self._chain)
        except BaseGoneError as gone:
            if not self._bases.moved(header, header.position):
                if isinstance(gone, BaseCircleError) and self._chain:
                    raise
                raise gone.error from gone
            for frame in waiting:
                start = header.position + frame.index * header.frame_bytes
                self._bases.read_base(header.digest, frame.out, start, self._chain)


def _decode(
    kind: tuple[Encoding | int, int, bytes], payloads: list[memoryview], outs: list[memoryview]
) -> None:
    encoding, recipe, params = kind
    if encoding == Encoding.RAW:
        raise _wrong_size()
    if not isinstance(encoding, Encoding):
        raise UnsupportedStoreError(
            f"encoding {encoding} is unknown to this program",
            hint="read this store with a newer version of hartonomous",
        )
    codec_for(encoding, recipe).decode_many(payloads, outs, params)


def _wrong_size() -> IntegrityError:
    return IntegrityError("a raw record has a frame of another size than it should")
