"""Arithmetic of estimates: how many samples, where, and how far from the truth they may be.

Samples are taken at equal steps over the bytes of a class, so each byte is as likely to be seen as
any other and the mean ratio of the samples estimates the ratio of the whole. The range is about
95 % (Student's t for few samples), and never under a floor for what samples cannot show.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_STUDENT_T = (0.0, 0.0, 12.7, 4.3, 3.2, 2.8, 2.6, 2.5, 2.4, 2.3, 2.3, 2.2)
_STUDENT_T_MANY = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """An estimated number of bytes and the range that the truth is expected in."""

    estimated: int
    low: int
    high: int

    def of(self, total: int, part: int) -> "Guess":
        """Return the guess for ``total`` bytes, of which ``part`` was looked at."""
        if total == part or not part:
            return self
        low, high = self.low * total // part, self.high * total // part
        return Guess(estimated=self.estimated * total // part, low=low, high=min(high, total))

    @property
    def half(self) -> float:
        """Half the width of the range, the wider side."""
        return max(self.estimated - self.low, self.high - self.estimated)


def guess_from_samples(
    total: int, samples: Sequence[tuple[int, int]], *, floor: float, whole: bool
) -> Guess:
    """Estimate what ``total`` bytes take from samples of (bytes, stored bytes).

    ``floor`` is the least half width, as a share of the estimate; ``whole`` says that the samples
    are all there is. Without samples anything from nothing to all is possible.
    """
    if total == 0:
        return Guess(estimated=0, low=0, high=0)
    if not samples:
        return Guess(estimated=total, low=0, high=total)
    if whole:
        estimated = float(sum(stored for _, stored in samples))
        error = 0.0
    else:
        # Samples come one to an equal stretch of bytes, so their ratios count alike.
        ratios = [stored / size for size, stored in samples]
        mean = sum(ratios) / len(ratios)
        estimated = mean * total
        error = total * _error_of_mean(ratios, mean)
    half = max(error, floor * estimated)
    return Guess(
        estimated=round(estimated),
        low=max(0, math.floor(estimated - half)),
        high=min(total, math.ceil(estimated + half)),
    )


def _error_of_mean(ratios: Sequence[float], mean: float) -> float:
    count = len(ratios)
    if count == 1:
        return max(mean, 1 - mean)
    deviation = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (count - 1))
    factor = _STUDENT_T[count] if count < len(_STUDENT_T) else _STUDENT_T_MANY
    return factor * deviation / math.sqrt(count)


def sum_of(guesses: Sequence[Guess]) -> Guess:
    """Add guesses whose errors are independent."""
    estimated = sum(guess.estimated for guess in guesses)
    below = math.sqrt(sum((guess.estimated - guess.low) ** 2 for guess in guesses))
    above = math.sqrt(sum((guess.high - guess.estimated) ** 2 for guess in guesses))
    return Guess(
        estimated=estimated, low=max(0, round(estimated - below)), high=round(estimated + above)
    )


def share_out(budget: int, sizes: Sequence[int]) -> list[int]:
    """Split a budget over classes: by size, but a quarter of it evenly, and none over its size.

    What small classes do not need goes to the others.
    """
    shares = [0] * len(sizes)
    open_ones = [index for index, size in enumerate(sizes) if size > 0]
    left = budget
    while open_ones and left > 0:
        whole = sum(sizes[index] for index in open_ones)
        wanted = {
            index: int(left * (0.75 * sizes[index] / whole + 0.25 / len(open_ones)))
            for index in open_ones
        }
        full = [index for index in open_ones if shares[index] + wanted[index] >= sizes[index]]
        if not full:
            for index in open_ones:
                shares[index] += wanted[index]
            break
        for index in full:
            left -= sizes[index] - shares[index]
            shares[index] = sizes[index]
        open_ones = [index for index in open_ones if index not in full]
    return shares


def steps(total: int, count: int, *, seed: int) -> list[int]:
    """Return ``count`` positions in ``[0, total)``, one at random in each equal stretch."""
    chooser = random.Random(seed)  # noqa: S311  # where to look, not a secret
    return [
        min(total - 1, int((index + chooser.random()) * total / count)) for index in range(count)
    ]


def spots(length: int, size: int) -> list[tuple[int, int]]:
    """Return (offset, size) of the places that are compared of something ``length`` bytes long.

    The first and the last ``size`` bytes and four in between, one more for every MiB up to 28, the
    same for every thing of this length; the whole where that is not more.
    """
    count = 4 + min(24, length >> 20)
    if length <= (count + 2) * size:
        return [(0, length)]
    chooser = random.Random(length)  # noqa: S311  # where to look, not a secret
    inner = sorted(chooser.randrange(size, length - 2 * size + 1) for _ in range(count))
    return [(0, size), *((at, size) for at in inner), (length - size, size)]
