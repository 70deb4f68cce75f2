"""A space of texts that needs no model: counts of runs of characters, hashed into 512 numbers.

It finds the same words spelt otherwise, in any language; it knows nothing of what they mean. The
method is feature hashing (Weinberger et al., 2009) of the runs of 3, 4 and 5 characters in words
with their borders, as fastText counts them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hartonomous.core.space import Space
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "ngrams"
"""What people call the encoder."""

RECIPE = "deterministic/ngrams-1"
DIMENSION = 512
_RUNS = (3, 4, 5)
_BORDER = ord(" ")
_CHARS_AT_ONCE = 1 << 20
_MOST_CHARS = 20_000
"""Of one text; what follows is not looked at."""

SPACE = Space(
    modality="text", encoder=NAME, encoder_digest="", recipe=RECIPE, quantisation="f32",
    pooling="sum", dimension=DIMENSION,
)  # fmt: skip


def hashed_ngrams(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return one row of length 1 a text, shape [n, 512].

    Each run adds 1 or -1 to one number, as its hash says; of the sums the square roots count, so
    that what comes often does not hide the rest. A text without any character is the first axis.
    """
    out = np.empty((len(texts), DIMENSION), np.float32)
    start, held, waiting = 0, 0, []
    for at, text in enumerate(texts):
        waiting.append(_prepared(text))
        held += len(waiting[-1])
        if held >= _CHARS_AT_ONCE or at == len(texts) - 1:
            out[start : at + 1] = _rows(waiting)
            start, held, waiting = at + 1, 0, []
    return out


def _prepared(text: str) -> NDArray[np.uint64]:
    """Return the characters of a text's words, each between borders."""
    plain = unicodedata.normalize("NFKC", text[:_MOST_CHARS]).casefold()
    words = f" {'  '.join(plain.split())} "
    return np.frombuffer(words.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)


def _rows(prepared: Sequence[NDArray[np.uint64]]) -> NDArray[np.float32]:
    chars = np.concatenate(prepared)
    owner = np.repeat(np.arange(len(prepared)), [len(one) for one in prepared])
    total = np.zeros(len(prepared) * DIMENSION)
    is_border = chars == _BORDER
    for length in _RUNS:
        places = len(chars) - length + 1
        if places <= 0:
            continue
        mixed = np.full(places, length, np.uint64)
        inside = np.zeros(places, np.bool_)
        for step in range(length):
            mixed = _mix(mixed ^ chars[step : step + places])
            if 0 < step < length - 1:  # a border may begin or end a run, but not lie in it
                inside |= is_border[step : step + places]
        same = owner[:places] == owner[length - 1 :]
        chosen = np.flatnonzero(same & ~inside)
        hashed = mixed[chosen]
        bucket = owner[chosen] * DIMENSION + (hashed % np.uint64(DIMENSION)).astype(np.int64)
        sign = np.where(hashed >> np.uint64(63), -1.0, 1.0)
        total += np.bincount(bucket, sign, minlength=len(total))
    rows = total.reshape(len(prepared), DIMENSION)
    rows = np.sign(rows) * np.sqrt(np.abs(rows))
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    empty = norms[:, 0] == 0
    rows[empty, 0] = 1
    norms[empty] = 1
    found: NDArray[np.float32] = (rows / norms).astype(np.float32)
    return found


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers with every bit depending on all of theirs (splitmix64, Steele 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class HashedNgrams:
    """The encoder of this space, behind ``ports.encoder``; it holds nothing."""

    def space(self, modality: str) -> Space:
        """Return the space of texts; UsageError for others."""
        if modality != "text":
            raise UsageError(
                f"the rule {NAME!r} knows texts, not {modality}s", hint="use another encoder"
            )
        return SPACE

    def encode_texts(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return one row a text; queries are texts like others."""
        del query
        return hashed_ngrams(texts)

    def encode_pictures(self, pictures: Sequence[Any]) -> NDArray[np.float32]:
        """Raise UsageError."""
        del pictures
        self.space("picture")
        raise AssertionError("it has no space of pictures")

    def close(self) -> None:
        """End nothing."""
