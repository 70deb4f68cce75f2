"""Frames of one record: encoded for a pack, decoded from it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import msgspec

from hartonomous.codecs import predicted
from hartonomous.codecs.choice import MIN_GAIN, codec_for, smallest
from hartonomous.codecs.predicted import Prediction
from hartonomous.core.digest import checksum, digest
from hartonomous.core.record import FRAME_BYTES, Encoding, RecordHeader
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.packs.chain import NOBODY
from hartonomous.packs.frame_batch import FrameBatch, StoredRecord
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.predicted_frames import TOGETHER
from hartonomous.packs.predictions import BaseGoneError, BaseSource, Variant, predict_spans

WORTH = 1 - MIN_GAIN
"""A frame stays raw unless its encoding is under this part of its size."""


class BaseReadError(Exception):
    """What a frame was to be predicted from cannot be read; the frame itself is sound."""


class EncodedFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame's bytes for the pack; raw where ``len(payload) == length``."""

    payload: bytes | memoryview
    length: int
    check: int
    encoding: Encoding


class FrameWork(msgspec.Struct, frozen=True, gc=False):
    """A frame to encode; with ``expected``, only if that is its digest.

    ``position`` is where it begins in its atom. Without an ``encoding`` it gets the smallest one.
    With a ``variant`` it is predicted, and what differs is encoded; ``atom`` is the atom's digest,
    ``smallest`` allows recipes that are slow to decode.
    """

    frame: bytes | memoryview
    encoding: Encoding | None
    dtype: str | None = None
    expected: bytes | None = None
    position: int = 0
    variant: Variant | None = None
    atom: bytes = b""
    smallest: bool = False


def encode_frame(
    frame: bytes | memoryview, encoding: Encoding | None, dtype: str | None, *, check: bool
) -> EncodedFrame:
    """Encode one frame; see ``encode_frames``."""
    (encoded,) = encode_frames([FrameWork(frame, encoding, dtype)], check=check)
    assert encoded is not None, "no digest was expected"
    return encoded


def encode_frames(
    work: Sequence[FrameWork],
    *,
    check: bool,
    bases: BaseSource | None = None,
    on_fault: Callable[[str], None] | None = None,
) -> list[EncodedFrame | None]:
    """Encode several frames as one piece of work for a thread; None for one of another digest.

    With ``check``, each is decoded again and compared: raises IntegrityError when a codec does not
    give back what it was given. Frames whose ``bases`` cannot be read are kept raw, and
    ``on_fault`` is told why.
    """
    made: list[_Made] = [(Encoding.RAW, None)] * len(work)
    wanted = [
        at for at, one in enumerate(work) if one.encoding is not Encoding.RAW and not one.variant
    ]
    for (encoding, dtype), group in groupby(wanted, lambda at: (work[at].encoding, work[at].dtype)):
        at = list(group)
        for index, coded in zip(at, _encode([work[i] for i in at], encoding, dtype), strict=True):
            made[index] = coded
    if check:
        _check_payloads(work, made)
    for run in _predicted_runs(work):
        assert bases is not None, "variants are encoded with their bases at hand"
        try:
            coded_run = encode_predicted(work[run.start : run.stop], bases, check=check)
        except BaseReadError as error:
            if on_fault is not None:
                on_fault(str(error))
            continue
        made[run.start : run.stop] = coded_run
    return [_encoded(one, *coded) for one, coded in zip(work, made, strict=True)]


_Made = tuple[Encoding, bytes | None]


def _predicted_runs(work: Sequence[FrameWork]) -> Iterator[range]:
    """Yield runs of neighbouring frames of one predicted atom."""
    start = 0
    for at in range(1, len(work) + 1):
        end = at == len(work) or at - start == TOGETHER or work[at].atom != work[start].atom
        if end:
            if work[start].variant is not None:
                yield range(start, at)
            start = at


def encode_predicted(
    run: Sequence[FrameWork], bases: BaseSource, *, check: bool
) -> list[tuple[Encoding, bytes | None]]:
    """Encode neighbouring frames of one variant; (RAW, None) for those that gain too little.

    Raises BaseReadError when a base cannot be read, IntegrityError when the codec fails its
    ``check``.
    """
    variant = run[0].variant
    assert variant is not None, "frames of a variant have it"
    dtype = variant.plan.dtype
    spans = [(one.position, one.position + len(one.frame)) for one in run]
    try:
        predictions = predict_spans(bases, variant, spans, NOBODY.below(run[0].atom))
    except (HartonomousError, BaseGoneError) as error:
        raise BaseReadError(str(error)) from error
    frames = [memoryview(one.frame) for one in run]
    positions = [one.position for one in run]
    payloads = predicted.encode_many(
        frames,
        predictions,
        dtype,
        positions=positions,
        shape=variant.plan.shape,
        smallest=run[0].smallest,
    )
    made = [
        payload if payload is not None and len(payload) < WORTH * frame.nbytes else None
        for frame, payload in zip(frames, payloads, strict=True)
    ]
    if check:
        _check_predicted(run, made, predictions, dtype)
    encoding = predicted.encoding_of(dtype)
    return [(Encoding.RAW if one is None else encoding, one) for one in made]


def _check_predicted(
    run: Sequence[FrameWork],
    made: Sequence[bytes | None],
    predictions: Sequence[Prediction],
    dtype: str,
) -> None:
    coded = [at for at, payload in enumerate(made) if payload is not None]
    backs = [bytearray(len(run[at].frame)) for at in coded]
    predicted.decode_many(
        [memoryview(made[at] or b"") for at in coded],
        [predictions[at] for at in coded],
        [memoryview(back) for back in backs],
        dtype,
        positions=[run[at].position for at in coded],
    )
    for at, back in zip(coded, backs, strict=True):
        _refuse_other(back, run[at].frame, predicted.encoding_of(dtype))


def _encode(
    work: Sequence[FrameWork], encoding: Encoding | None, dtype: str | None
) -> Iterator[_Made]:
    """Encode frames of one type alike; (RAW, None) for those that gain too little."""
    frames = [memoryview(one.frame) for one in work]
    positions = [one.position for one in work]
    if encoding is None:
        made = smallest(frames, dtype, positions=positions)
    else:
        payloads = codec_for(encoding).encode_many(frames, dtype, positions=positions)
        made = [(encoding, payload) for payload in payloads]
    for frame, (used, payload) in zip(frames, made, strict=True):
        worth = payload is not None and len(payload) < WORTH * frame.nbytes
        yield (used, payload) if worth else (Encoding.RAW, None)


def _encoded(one: FrameWork, encoding: Encoding, payload: bytes | None) -> EncodedFrame | None:
    if one.expected is not None and digest(one.frame) != one.expected:
        return None
    kept = one.frame if payload is None else payload
    return EncodedFrame(kept, len(one.frame), checksum(kept), encoding)


def _check_payloads(work: Sequence[FrameWork], made: Sequence[_Made]) -> None:
    """Decode payloads and compare them with their frames, those of one encoding in one call."""
    for encoding in {encoding for encoding, payload in made if payload is not None}:
        pairs = [
            (one.frame, payload)
            for one, (used, payload) in zip(work, made, strict=True)
            if used is encoding and payload is not None
        ]
        backs = [bytearray(len(frame)) for frame, _ in pairs]
        payloads = [memoryview(payload) for _, payload in pairs]
        codec_for(encoding).decode_many(payloads, [memoryview(back) for back in backs])
        for back, (frame, _) in zip(backs, pairs, strict=True):
            _refuse_other(back, frame, encoding)


def _refuse_other(back: bytearray, frame: bytes | memoryview, encoding: Encoding) -> None:
    # A bytearray on the left compares whole; two views are compared byte by byte.
    if back != frame:  # type: ignore[comparison-overlap]  # bytes all the same
        raise IntegrityError(
            f"the {encoding.name.lower()} codec did not give back what it was given",
            hint="this is a fault of the program or the machine's memory; report it",
        )


def split_frames(content: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the frames of a small object held in memory."""
    view = memoryview(content)
    for start in range(0, len(view), FRAME_BYTES):
        yield view[start : start + FRAME_BYTES]


def decode_record_whole(pack: PackReader, header: RecordHeader, *, limit: int) -> bytes:
    """Return a small record's decoded bytes; raises IntegrityError over ``limit`` bytes."""
    if header.length != header.total or header.length > limit:
        raise IntegrityError(f"a record of {header.total} bytes is more than the {limit} granted")
    out = bytearray(header.length)
    batch = FrameBatch()
    batch.add(pack, StoredRecord(header), 0, memoryview(out))
    batch.decode()
    return bytes(out)
