"""Operands: parts of bases that prediction after prediction needs whole.

A transposition takes its operand whole for every window of its target. Such parts are decoded once
and kept here; the least recently used goes first.
"""

import contextlib
import threading
from collections.abc import Callable

import numpy as np

from hartonomous.core.plan import WHOLE_BYTES
from hartonomous.packs.bounded_cache import ENTRY_BYTES, BoundedCache

_ALONE_BYTES = 4 << 20
"""Parts of this size are decoded by one thread at a time, so that memory holds them once."""

OperandKey = tuple[bytes, int, int]
"""A base's digest, and which of its bytes."""


class Operands:
    """Decoded parts of bases, at most ``limit_bytes`` of them; safe to use from several threads."""

    def __init__(self, limit_bytes: int = WHOLE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._kept: BoundedCache[OperandKey, memoryview] = BoundedCache(limit_bytes + ENTRY_BYTES)
        # Reentrant: a base may itself be predicted from a base that is needed whole.
        self._loading = threading.RLock()

    def get(self, key: OperandKey, fill: Callable[[memoryview], None]) -> memoryview:
        """Return bytes ``[key[1], key[2])`` of a base; ``fill`` decodes them into new memory."""
        found = self._kept.get(key)
        if found is not None:
            return found
        size = key[2] - key[1]
        with self._loading if size >= _ALONE_BYTES else contextlib.nullcontext():
            found = self._kept.get(key)
            if found is None:
                found = filled(size, fill).toreadonly()
                self._kept.put(key, found, size)
        return found


def filled(size: int, fill: Callable[[memoryview], None]) -> memoryview:
    """Return new memory of ``size`` bytes that ``fill`` was given, if there are any."""
    content: memoryview = np.empty(size, np.uint8).data
    if size:
        fill(content)
    return content
