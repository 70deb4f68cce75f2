"""Codec of ``Encoding.FIELDS``, recipe 1: fields of elements cut into byte planes, entropy-coded.

For tensors of a known type. The frame says how it is cut, so decoding needs no type. The format is
docs/format-fields.md, the work is done by ``kernel``.
"""

from collections.abc import Sequence

from hartonomous.codecs import kernel
from hartonomous.codecs.layouts import LAYOUTS
from hartonomous.core.record import Encoding
from hartonomous.errors import DecodeError


class FieldsCodec:
    """Frames of planes; holds no state, so one object serves all threads."""

    encoding = Encoding.FIELDS
    recipe = 1

    def encode(self, frame: memoryview, dtype: str | None, *, position: int = 0) -> bytes | None:
        """Return the payload of one frame, or None where it would not be 2 % smaller.

        ``position`` is where the frame begins in its tensor, in bytes. A type without a layout, or
        none at all, is None too.
        """
        return self.encode_many([frame], dtype, positions=[position])[0]

    def encode_many(
        self, frames: Sequence[memoryview], dtype: str | None, *, positions: Sequence[int]
    ) -> list[bytes | None]:
        """Encode several frames of one tensor in one call, which lets other threads run longer."""
        layout = None if dtype is None else LAYOUTS.get(dtype)
        if layout is None:
            return [None] * len(frames)
        leads = [layout.lead(position) for position in positions]
        return kernel.active().encode_many(frames, leads, layout)

    def decode_into(self, payload: memoryview, out: memoryview, params: bytes) -> None:
        """Fill ``out`` from ``payload``, which must be one frame of exactly that content.

        Raises DecodeError on damage; what ``out`` holds is then undefined. Damage that leaves a
        valid frame gives wrong bytes: the caller checks the frame's checksum first.
        """
        self.decode_many([payload], [out], params)

    def decode_many(
        self, payloads: Sequence[memoryview], outs: Sequence[memoryview], params: bytes = b""
    ) -> None:
        """Fill each of ``outs``; two frames or more in a call are decoded faster than one by one.

        Raises DecodeError for the first damaged one; the others are decoded all the same.
        """
        if params:
            raise DecodeError("a fields payload takes no parameters")
        for fault in kernel.active().decode_many(payloads, outs):
            if fault is not None:
                raise DecodeError(f"a fields payload is damaged: {fault}")
