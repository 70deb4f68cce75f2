"""Embedding spaces: which vectors may be compared with each other, and what one of them is about.

Two vectors belong together only if the same files computed them in the same way. int8 and f32 runs
of one model are different spaces (measured: their cosine is .987 to .9935).
"""

from typing import Literal

import msgspec

from hartonomous.core.digest import digest
from hartonomous.errors import UsageError

MODALITIES = ("text", "picture")
METRICS = ("cosine", "dot", "euclidean")
MOST_DIMENSIONS = 16_384
_MOST_CHARS = 200

RECIPE_KEY = "encoder.recipe"
"""The metadata key of a version with encoders; ``packs.encoders`` says what its value is."""

VectorType = Literal["f32", "f16", "bf16"]


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """What vectors are made by. Equal fields, equal space; ``modality`` is what goes in.

    ``encoder`` is what people call it. ``encoder_digest`` is the digest, in hex, of the files that
    compute (empty for spaces that need no model, whose ``recipe`` says what computes). An encoder
    with two modalities has two spaces of the same ``family``: their vectors may be compared.
    """

    modality: str
    encoder: str
    encoder_digest: str
    recipe: str
    quantisation: str
    pooling: str
    dimension: int
    metric: str = "cosine"
    dtype: VectorType = "f32"
    family: str = ""

    @property
    def key(self) -> str:
        """The space's identity, 32 hexadecimal digits."""
        return digest(msgspec.json.encode(self, order="deterministic")).hex()[:32]

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.dimension * (4 if self.dtype == "f32" else 2)

    def title(self) -> str:
        """Return it in a line for people, such as ``text minilm f32 384-d cosine``."""
        return (
            f"{self.modality} {self.encoder} {self.quantisation} {self.dimension}-d {self.metric}"
        )


def is_word(text: str) -> bool:
    """Say whether a space or an encoder may be called so: printable, and 200 characters at most."""
    return bool(text.strip()) and len(text) <= _MOST_CHARS and text.isprintable()


def check_comparable(first: Space, second: Space) -> None:
    """Raise UsageError, naming both, unless vectors of the two may be compared."""
    same_family = bool(first.family) and first.family == second.family
    if first.key == second.key or (same_family and first.dimension == second.dimension):
        return
    raise UsageError(
        f"vectors of different spaces are never compared: {first.title()} and {second.title()}",
        hint="'hart spaces ls' lists the spaces of this store",
    )
