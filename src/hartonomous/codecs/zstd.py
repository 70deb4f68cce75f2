"""Codec of ``Encoding.ZSTD``, recipe 1: each frame is one Zstandard frame.

Level 1 for tensors of floats, whose gain is all in the entropy coding of their exponents, level 3
for everything else; content size in the header, no checksum (the record's frame table has one), no
dictionary. Any level decodes, so it may change without a new recipe.
"""

import sys
import threading
from collections.abc import Sequence

from hartonomous.core.dtype import DTYPES
from hartonomous.core.record import Encoding
from hartonomous.errors import DecodeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 3
FLOAT_LEVEL = 1
_REPETITION_LEVEL = -7  # looks for repetitions only: literals stay as they are
MAGIC = b"\x28\xb5\x2f\xfd"

_MIN_WINDOW_LOG, _MAX_WINDOW_LOG = zstd.DecompressionParameter.window_log_max.bounds()

_FLOATS = frozenset(name for name, dtype in DTYPES.items() if dtype.kind == "float")
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.content_size_flag: 1,
    zstd.CompressionParameter.checksum_flag: 0,
    zstd.CompressionParameter.dict_id_flag: 0,
}


def library() -> str:
    """Return which module decodes, and the version of the zstd library in it."""
    return f"{zstd.__name__}, zstd {zstd.zstd_version}"


class _Contexts(threading.local):
    """One compressor a thread and level: it keeps its tables, which are larger than a frame."""

    def __init__(self) -> None:
        self.plain = _compressor(LEVEL)
        self.floats = _compressor(FLOAT_LEVEL)
        self.repetitions = _compressor(_REPETITION_LEVEL)


def _compressor(level: int) -> zstd.ZstdCompressor:
    return zstd.ZstdCompressor(
        options={**_OPTIONS, zstd.CompressionParameter.compression_level: level}
    )


_contexts = _Contexts()


def repetition_bytes(frame: memoryview) -> int:
    """Return what a frame takes when only its repetitions are saved, which is fast to find out."""
    compressor = _contexts.repetitions
    return len(compressor.compress(frame, compressor.FLUSH_FRAME))


class ZstdCodec:
    """Zstandard frames; holds no state, so one object serves all threads."""

    encoding = Encoding.ZSTD
    recipe = 1

    def encode(
        self,
        frame: memoryview,
        dtype: str | None,
        *,
        position: int = 0,  # noqa: ARG002
    ) -> bytes | None:
        """Return the payload of one frame, or None where it would not be smaller."""
        compressor = _contexts.floats if dtype in _FLOATS else _contexts.plain
        payload = compressor.compress(frame, compressor.FLUSH_FRAME)
        return payload if len(payload) < frame.nbytes else None

    def encode_many(
        self,
        frames: Sequence[memoryview],
        dtype: str | None,
        *,
        positions: Sequence[int],  # noqa: ARG002
    ) -> list[bytes | None]:
        """Encode frames one by one: each releases the GIL for long enough."""
        return [self.encode(frame, dtype) for frame in frames]

    def decode_into(self, payload: memoryview, out: memoryview, params: bytes) -> None:
        """Fill ``out`` from ``payload``, which must be one whole frame of exactly that content.

        Never allocates more than ``out`` and its window need, whatever the payload claims. Raises
        DecodeError on damage; what ``out`` holds is then undefined. Damage that leaves a valid
        frame gives wrong bytes: the caller checks the frame's checksum first.
        """
        if params:
            raise DecodeError("a zstd payload takes no parameters")
        _check_frame(payload, out.nbytes)
        window_log = min(max((out.nbytes - 1).bit_length(), _MIN_WINDOW_LOG), _MAX_WINDOW_LOG)
        limit: dict[int, int] = {zstd.DecompressionParameter.window_log_max: window_log}
        decompressor = zstd.ZstdDecompressor(options=limit)  # serves one frame only
        try:
            content = decompressor.decompress(payload, out.nbytes)
        except zstd.ZstdError as error:
            raise DecodeError(f"a zstd payload is damaged: {error}") from error
        if not decompressor.eof or decompressor.unused_data or len(content) != out.nbytes:
            raise DecodeError(f"a zstd payload does not decode to its {out.nbytes} bytes")
        out[:] = content

    def decode_many(
        self, payloads: Sequence[memoryview], outs: Sequence[memoryview], params: bytes = b""
    ) -> None:
        """Decode frames one by one; see ``decode_into``."""
        for payload, out in zip(payloads, outs, strict=True):
            self.decode_into(payload, out, params)


def _check_frame(payload: memoryview, size: int) -> None:
    """Refuse, before anything is decoded, a frame that does not declare ``size`` bytes."""
    if bytes(payload[: len(MAGIC)]) != MAGIC:
        raise DecodeError("a zstd payload does not begin with a zstd frame")
    try:
        header = zstd.get_frame_info(payload)
    except zstd.ZstdError as error:
        raise DecodeError(f"a zstd payload is damaged: {error}") from error
    if header.decompressed_size != size:
        raise DecodeError(
            f"a zstd payload declares {header.decompressed_size} bytes where {size} are expected"
        )
    if header.dictionary_id:
        raise DecodeError(f"a zstd payload wants the dictionary {header.dictionary_id}")
