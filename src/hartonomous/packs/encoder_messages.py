"""What a store and the process of an encoder tell each other, as msgpack over a Unix socket.

The framing is that of ``formats.messages``. The first message is a ``Setup``; it and every request
are answered by an ``Answer``. The graph's file comes as a descriptor that the process inherits.
"""

import msgspec

from hartonomous.inference.dense import DenseWeights
from hartonomous.inference.recipe import PictureRecipe, TextRecipe

SETUP_LIMIT_BYTES = 256 << 20
REQUEST_LIMIT_BYTES = 256 << 20
ANSWER_LIMIT_BYTES = 256 << 20


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a process loads; it has ``text`` or ``picture``. Limits are set before it loads."""

    graph_fd: int
    threads: int
    memory_bytes: int  # beyond what is mapped once its libraries are there
    cpu_s: int  # for each request, and for loading
    tokenizer: bytes = b""
    text: TextRecipe | None = None
    weights: tuple[DenseWeights, ...] = ()
    picture: PictureRecipe | None = None


class Pixels(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures of one size, uint8 [count, height, width, 3]."""

    count: int
    height: int
    width: int
    content: bytes


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Texts or pictures to encode."""

    texts: tuple[str, ...] = ()
    query: bool = False
    pictures: Pixels | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors as little-endian float32 [rows, dimension], or why there are none."""

    rows: int = 0
    dimension: int = 0
    vectors: bytes = b""
    error: str = ""
    hint: str | None = None
