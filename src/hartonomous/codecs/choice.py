"""Which encoding an atom gets, and which codec reads an encoding.

One table; a new codec is a line in it and a rule in ``choose``.
"""

from collections.abc import Mapping, Sequence

from hartonomous.codecs.zstd import ZstdCodec
from hartonomous.core.record import Encoding
from hartonomous.errors import UnsupportedStoreError
from hartonomous.ports.codec import Codec

RULE = 1
"""Version of what follows; higher when another encoding may be chosen. See `hart repack`."""
SAMPLE_FRAMES = 3
"""How many frames are measured at most."""
MIN_GAIN = 0.02
"""Share of the bytes that an encoding must save; else raw, which can be mapped, is better."""

_ZSTD = ZstdCodec()
_CODECS: dict[Encoding, Codec] = {_ZSTD.encoding: _ZSTD}


def choose(sample_frames: Sequence[memoryview], dtype: str | None) -> Encoding:
    """Return the encoding for an atom, measured on up to three of ``sample_frames``.

    The first, the middle and the last frame are taken, so a sequence that makes its items when
    asked may stand for the whole atom. ``dtype`` is the element type, if the atom is a tensor.
    """
    return best(measure(sample_frames, dtype))


def measure(sample_frames: Sequence[memoryview], dtype: str | None) -> dict[Encoding, int]:
    """Return the bytes that up to three frames take in each encoding; RAW is their own size."""
    frames = [sample_frames[index] for index in _spread(len(sample_frames))]
    sizes = {Encoding.RAW: sum(frame.nbytes for frame in frames)}
    for encoding, codec in _CODECS.items():
        payloads = ((codec.encode(frame, dtype), frame.nbytes) for frame in frames)
        sizes[encoding] = sum(
            size if payload is None else len(payload) for payload, size in payloads
        )
    return sizes


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


def _spread(count: int) -> list[int]:
    if count <= SAMPLE_FRAMES:
        return list(range(count))
    return [index * (count - 1) // (SAMPLE_FRAMES - 1) for index in range(SAMPLE_FRAMES)]
