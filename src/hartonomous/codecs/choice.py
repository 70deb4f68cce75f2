"""Which encoding an atom gets, and which codec reads an encoding.

One table; a new codec is a line in it and a rule in ``choose``.
"""

from collections.abc import Mapping, Sequence

from hartonomous.codecs.fields import FieldsCodec
from hartonomous.codecs.zstd import ZstdCodec, repetition_bytes
from hartonomous.core.record import FRAME_BYTES, Encoding
from hartonomous.errors import UnsupportedStoreError
from hartonomous.ports.codec import Codec

RULE = 2
"""Version of what follows; higher when another encoding may be chosen. See `hart repack`."""
SAMPLE_FRAMES = 3
"""How many frames are measured at most."""
MIN_GAIN = 0.02
"""Share of the bytes that an encoding must save; else raw, which can be mapped, is better."""

_ZSTD = ZstdCodec()
_FIELDS = FieldsCodec()
_CODECS: dict[Encoding, Codec] = {_ZSTD.encoding: _ZSTD, _FIELDS.encoding: _FIELDS}


def choose(frames: Sequence[memoryview], dtype: str | None) -> Encoding:
    """Return the encoding for an atom, measured on up to three of its frames.

    The first, the middle and the last frame are taken, so a sequence that makes its items when
    asked may stand for the whole atom. ``dtype`` is the element type, if the atom is a tensor.
    """
    return best(measure(frames, dtype))


def measure(frames: Sequence[memoryview], dtype: str | None) -> dict[Encoding, int]:
    """Return the bytes that up to three frames take in RAW and in the best encoding for each."""
    indexes = spread(len(frames))
    sample = [frames[index] for index in indexes]
    positions = [index * FRAME_BYTES for index in indexes]
    sizes = {Encoding.RAW: sum(frame.nbytes for frame in sample)}
    made = smallest(sample, dtype, positions=positions)
    for encoding in {encoding for encoding, payload in made if payload is not None}:
        codec = _CODECS[encoding]
        again = [
            payload if used is encoding else codec.encode(frame, dtype, position=position)
            for (used, payload), frame, position in zip(made, sample, positions, strict=True)
        ]
        sizes[encoding] = sum(
            frame.nbytes if payload is None else len(payload)
            for frame, payload in zip(sample, again, strict=True)
        )
    return sizes


def smallest(
    frames: Sequence[memoryview], dtype: str | None, *, positions: Sequence[int]
) -> list[tuple[Encoding, bytes | None]]:
    """Encode each frame in the encoding that takes least; (RAW, None) where none saves a byte.

    Weights have no repetitions, so zstd is tried on a tensor only where a look at its repetitions
    alone, some ten times faster, already takes less than the fields do.
    """
    fields = _FIELDS.encode_many(frames, dtype, positions=positions)
    return [_smaller(frame, dtype, coded) for frame, coded in zip(frames, fields, strict=True)]


def _smaller(
    frame: memoryview, dtype: str | None, fields: bytes | None
) -> tuple[Encoding, bytes | None]:
    if fields is not None and repetition_bytes(frame) >= len(fields):
        return Encoding.FIELDS, fields
    coded = _ZSTD.encode(frame, dtype)
    if coded is not None and (fields is None or len(coded) < len(fields)):
        return Encoding.ZSTD, coded
    return (Encoding.RAW, None) if fields is None else (Encoding.FIELDS, fields)


def best(sizes: Mapping[Encoding, int]) -> Encoding:
    """Return the encoding of the fewest bytes, RAW where none saves two percent."""
    least = min(sizes, key=lambda encoding: sizes[encoding])
    whole = sizes[Encoding.RAW]
    return least if whole - sizes[least] >= MIN_GAIN * whole > 0 else Encoding.RAW


def codec_for(encoding: Encoding, recipe: int | None = None) -> Codec:
    """Return the codec of an encoding, for reading with the ``recipe`` that a record names.

    Raises UnsupportedStoreError for one that this program does not know, ValueError for RAW, whose
    bytes are simply there.
    """
    if encoding is Encoding.RAW:
        raise ValueError("raw bytes have no codec")
    codec = _CODECS.get(encoding)
    if codec is None or recipe not in (None, codec.recipe):
        version = "" if recipe is None else f", recipe {recipe}"
        raise UnsupportedStoreError(
            f"the encoding {encoding.name.lower()}{version} is unknown to this program",
            hint="read this store with a newer version of hartonomous",
        )
    return codec


def spread(count: int) -> list[int]:
    """Return which of ``count`` frames are looked at: the first, the middle and the last one."""
    if count <= SAMPLE_FRAMES:
        return list(range(count))
    return [index * (count - 1) // (SAMPLE_FRAMES - 1) for index in range(SAMPLE_FRAMES)]
