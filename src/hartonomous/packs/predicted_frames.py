"""Predicted frames that wait to be decoded: those of one record, neighbours with one prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hartonomous.codecs import predicted
from hartonomous.core.record import Encoding, RecordHeader
from hartonomous.packs.chain import Chain
from hartonomous.packs.predictions import BaseSource, Span, Variant, predict_spans

TOGETHER = 4
"""Frames of one prediction at most: operands and values of a derived MiB are several times that."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame's payload, and the memory for exactly its decoded bytes.

    With ``low`` the memory is for a part of them, from that byte on.
    """

    index: int
    payload: memoryview
    out: memoryview
    low: int | None = None


def decode_frames(
    source: BaseSource,
    header: RecordHeader,
    variant: Variant,
    frames: Sequence[Waiting],
    chain: Chain,
) -> None:
    """Decode frames of one record into their memory.

    Raises BaseGoneError where a base is not stored, IntegrityError, DecodeError.
    """
    for run in _runs([frame for frame in frames if frame.low is None]):
        spans = [_span(header, frame.index) for frame in run]
        predictions = predict_spans(source, variant, spans, chain.below(header.digest))
        predicted.decode_many(
            [frame.payload for frame in run],
            predictions,
            [frame.out for frame in run],
            variant.plan.dtype,
            positions=[start for start, _ in spans],
            recipe=header.recipe,
        )
    for frame in frames:
        if frame.low is not None:
            _decode_part(source, header, variant, frame, frame.low, chain)


def _decode_part(  # noqa: PLR0917 - a frame, and what is wanted of it
    source: BaseSource, header: RecordHeader, variant: Variant, frame: Waiting, low: int,
    chain: Chain,
) -> None:  # fmt: skip
    start, stop = _span(header, frame.index)
    dtype, length = variant.plan.dtype, stop - start
    if not len(frame.payload) and header.encoding is Encoding.DELTA:  # the prediction itself
        span = start + low, start + low + len(frame.out)
        (exact,) = predict_spans(source, variant, [span], chain.below(header.digest))
        predicted.decode_many(
            [frame.payload], [exact], [frame.out], dtype, positions=[span[0]], recipe=header.recipe
        )
        return
    wanted = predicted.part_span(dtype, start, length, low, low + len(frame.out))
    (prediction,) = predict_spans(source, variant, [wanted], chain.below(header.digest))
    predicted.decode_part(
        frame.payload, prediction, frame.out, dtype, start, length, low, recipe=header.recipe
    )


def _runs(frames: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """Cut into runs of neighbours."""
    run: list[Waiting] = []
    for frame in sorted(frames, key=lambda one: one.index):
        if run and (frame.index != run[-1].index + 1 or len(run) == TOGETHER):
            yield run
            run = []
        run.append(frame)
    if run:
        yield run


def _span(header: RecordHeader, index: int) -> Span:
    start = header.position + index * header.frame_bytes
    return start, start + header.frame_length(index)
