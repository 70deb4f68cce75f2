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

    def encode(self, frame: memoryview, dtype: str | None) -> bytes | None:
        """Return the payload of one frame, or None where it would not be smaller.

        ``dtype`` is the element type of the tensor that the bytes belong to, if any.
        """
        ...

    def decode_into(self, payload: memoryview, out: memoryview, params: bytes) -> None:
        """Fill ``out`` (exactly one frame) from ``payload``; raises DecodeError on damage."""
        ...


class BatchDecoder(Protocol):
    """What a codec may have besides: one call for many frames.

    Readers use it where it is there. It is worth having for codecs that release the interpreter
    while they work, or that decode several frames side by side.
    """

    def decode_many(
        self, payloads: Sequence[memoryview], outs: Sequence[memoryview], params: bytes
    ) -> None:
        """Do ``decode_into`` for each pair; raises DecodeError if any payload is damaged.

        The frames are of one record or of several with the same parameters; ``outs`` do not
        overlap.
        """
        ...
