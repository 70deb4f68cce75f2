"""What readers keep between reads, bounded in bytes: the least recently used goes first.

``FrameCache`` holds decoded frames and is shared by all readers of an open store. A frame is named
by its content (an atom's digest and a range of it), so neither compaction nor another encoding
makes an entry wrong.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ENTRY_BYTES = 256
"""Counted for each entry besides its content: key, objects and table."""


class BoundedCache(Generic[Key, Value]):
    """Values by key, never more than ``limit_bytes``; safe to use from several threads.

    A value that is larger than the limit by itself is not kept, so a limit of 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._held_bytes = 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes of all entries, as they were counted."""
        return self._held_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return what is kept under ``key``, which is the most recently used then, or None."""
        with self._guard:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keep ``value``, counted as ``size_bytes``; what was used longest ago makes room."""
        size_bytes += ENTRY_BYTES
        if size_bytes > self.limit_bytes:
            return
        with self._guard:
            old = self._entries.pop(key, None)
            self._held_bytes += size_bytes - (0 if old is None else old[1])
            self._entries[key] = (value, size_bytes)
            while self._held_bytes > self.limit_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._held_bytes -= freed

    def clear(self) -> None:
        """Forget everything."""
        with self._guard:
            self._entries.clear()
            self._held_bytes = 0


FrameKey = tuple[bytes, int, int]
"""An atom's digest, where the frame begins in the atom, and its decoded bytes."""

FrameCache = BoundedCache[FrameKey, memoryview]
"""Decoded frames of which a part was asked for; see ``packs.frames``."""
