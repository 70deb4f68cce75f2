"""Port of codecs: one frame of decoded bytes to a payload and back, exactly."""

from collections.abc import Sequence
from typing import Protocol

from hartonomous.core.record import Encoding


class Codec(Protocol):
    """A lossless encoding of independent frames."""

    @property
    def encoding(self) -> Encoding:
        """The number written into record headers."""
        ...

    @property
    def recipe(self) -> int:
        """Version of the encoding's rules; a version never changes its meaning."""
        ...

    def encode(self, frame: memoryview, dtype: str | None, *, position: int = 0) -> bytes | None:
        """Return the payload of one frame, or None where it would not be smaller.

        ``dtype`` is the element type of the tensor that the bytes belong to, if any, ``position``
        where the frame begins in it, in bytes.
        """
        ...

    def encode_many(
        self, frames: Sequence[memoryview], dtype: str | None, *, positions: Sequence[int]
    ) -> list[bytes | None]:
        """Return what ``encode`` would of each frame; one call lets other threads run longer."""
        ...

    def decode_into(self, payload: memoryview, out: memoryview, params: bytes) -> None:
        """Fill ``out`` (exactly one frame) from ``payload``; raises DecodeError on damage."""
        ...

    def decode_many(
        self, payloads: Sequence[memoryview], outs: Sequence[memoryview], params: bytes = b""
    ) -> None:
        """Fill each of ``outs`` as ``decode_into`` would; raises DecodeError for a damaged one."""
        ...
