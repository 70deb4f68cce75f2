"""Signs of sketches compared with those of one, in numpy: what the C kernel has to give."""

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 8192
"""The words and counts of so many columns stay in the processor's second cache."""


def near(
    words: NDArray[np.uint64], wanted: NDArray[np.uint64], limits: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return numbers of columns and their Hamming distances; see ``Kernel.near_signs``."""
    if words.ndim != 2 or len(words) != 4 or wanted.shape != (4,) or limits.shape != (257,):
        raise ValueError("words have to be (4, n), wanted (4,) and limits (257,)")
    columns, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    most = int(limits.max())
    for start in range(0, words.shape[1], _AT_ONCE):
        part = words[:, start : start + _AT_ONCE]
        apart = np.bitwise_count(part[0] ^ wanted[0]).astype(np.int16)
        for row, word in zip(part[1:], wanted[1:], strict=True):
            apart += np.bitwise_count(row ^ word)
        hits = np.flatnonzero(apart <= most)
        ones = np.bitwise_count(part[:, hits]).sum(axis=0, dtype=np.int64)
        hits = hits[apart[hits] <= limits[ones]]
        columns.append(start + hits)
        distances.append(apart[hits].astype(np.int64))
    return np.concatenate(columns), np.concatenate(distances)


def any_near(
    words: NDArray[np.uint64], wanted: NDArray[np.uint64], limits: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Return for each sketch whether a column is near to it; see ``Kernel.any_near``."""
    if wanted.ndim != 2 or limits.shape != (len(wanted), 257):
        raise ValueError("wanted has to be (m, 4) and limits (m, 257)")
    found = [len(near(words, *one)[0]) > 0 for one in zip(wanted, limits, strict=True)]
    return np.array(found, np.bool_)
