"""Codec of ``Encoding.DELTA``, recipe 1: floats as differences from a prediction of their bytes.

For tensors that are close to one that the store has: a fine-tune, a later checkpoint. The format
is docs/format-delta.md, the work is done by ``kernel``; what predicts is the caller's matter.
"""

from collections.abc import Sequence

from hartonomous.codecs import kernel
from hartonomous.codecs.differences import KINDS
from hartonomous.codecs.layouts import LAYOUTS
from hartonomous.core.record import Encoding
from hartonomous.errors import DecodeError

ALONE = 0
"""First byte of a payload whose rest is one of FIELDS and needs no prediction."""

_TRIED_ALONE_FROM = 8
"""A frame is tried alone too where its differences take more than an eighth of it."""


class DeltaCodec:
    """Frames of differences; holds no state, so one object serves all threads."""

    encoding = Encoding.DELTA
    recipe = 1

    def encode_many(
        self,
        frames: Sequence[memoryview],
        predictions: Sequence[memoryview],
        dtype: str,
        *,
        positions: Sequence[int],
    ) -> list[bytes | None]:
        """Return the payload of each frame given as many predicted bytes.

        Empty where the prediction is exact; None where the payload would have more than 49/50 of
        the frame. ``positions`` say where the frames begin in their tensor, in bytes. Raises
        ValueError where there is not a prediction of each frame's size.
        """
        sizes = [one.nbytes for one in frames]
        if sizes != [one.nbytes for one in predictions] or len(positions) != len(frames):
            raise ValueError("there is not a prediction and a position of each frame")
        kind = KINDS.get(dtype)
        if kind is None:
            payloads = [
                b"" if frame == prediction else None
                for frame, prediction in zip(frames, predictions, strict=True)
            ]
        else:
            leads = [-position % kind.width for position in positions]
            payloads = kernel.active().encode_deltas(frames, predictions, leads, kind)
        return _tried_alone(payloads, frames, dtype, positions)

    def decode_many(
        self,
        payloads: Sequence[memoryview],
        predictions: Sequence[memoryview],
        outs: Sequence[memoryview],
    ) -> None:
        """Fill each of ``outs`` from its payload and as many predicted bytes.

        Raises DecodeError for the first damaged one; the others are decoded all the same, and what
        a damaged one's output holds is undefined. Damage that leaves a valid frame, or another
        prediction than the encoder's, gives wrong bytes: the caller has checksums and digests.
        """
        if len(payloads) != len(outs) or len(predictions) != len(outs):
            raise ValueError("there are not as many payloads and predictions as outputs")
        alone = [k for k, one in enumerate(payloads) if len(one) and one[0] == ALONE]
        other = sorted(set(range(len(payloads))) - set(alone))
        found = kernel.active().decode_many(
            [payloads[k][1:] for k in alone], [outs[k] for k in alone]
        )
        found += kernel.active().decode_deltas(
            [payloads[k] for k in other],
            [predictions[k] for k in other],
            [outs[k] for k in other],
        )
        faults = dict(zip([*alone, *other], found, strict=True))
        for number in sorted(faults):
            if faults[number] is not None:
                raise DecodeError(f"a delta payload is damaged: {faults[number]}")


def _tried_alone(
    payloads: list[bytes | None],
    frames: Sequence[memoryview],
    dtype: str,
    positions: Sequence[int],
) -> list[bytes | None]:
    """Return payloads, those replaced that a frame of FIELDS makes smaller."""
    layout = LAYOUTS.get(dtype)
    large = [
        k
        for k, (payload, frame) in enumerate(zip(payloads, frames, strict=True))
        if payload is None or _TRIED_ALONE_FROM * len(payload) > frame.nbytes
    ]
    if layout is None or not large:
        return payloads
    leads = [layout.lead(positions[k]) for k in large]
    alone = kernel.active().encode_many([frames[k] for k in large], leads, layout)
    for k, one in zip(large, alone, strict=True):
        payload = payloads[k]
        if one is None or 50 * (len(one) + 1) > 49 * frames[k].nbytes:
            continue
        if payload is None or len(one) + 1 < len(payload):
            payloads[k] = bytes([ALONE]) + one
    return payloads
