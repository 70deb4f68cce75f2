"""Which strings are keys of objects; one rule for every object store.

A key is ``part/part/part``. A part is ASCII letters, digits, ``.``, ``_`` and ``-`` and does not
begin with a dot: so ``..`` cannot climb out, and hidden files that a desktop or a network file
system leaves behind are never mistaken for objects. ``tmp`` as first part belongs to the store.
"""

import re

from hartonomous.errors import UsageError

TEMPORARY = "tmp"
"""First part that no key may have: objects in the making lie there."""
MAX_KEY_BYTES = 1024
MAX_PART_BYTES = 255

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def is_part(name: str) -> bool:
    """Say whether ``name`` may be one part of a key."""
    return len(name) <= MAX_PART_BYTES and _PART.fullmatch(name) is not None


def is_key(key: str) -> bool:
    """Say whether ``key`` names an object that may exist."""
    parts = key.split("/")
    return len(key) <= MAX_KEY_BYTES and parts[0] != TEMPORARY and all(map(is_part, parts))


def check_key(key: str) -> str:
    """Return ``key``; raises UsageError if it is none."""
    if is_key(key):
        return key
    raise UsageError(
        f"object key {key[:MAX_KEY_BYTES]!r} is not valid",
        hint="use relative paths of letters, digits, '.', '_' and '-', parted by '/', "
        f"no part beginning with '.', not under '{TEMPORARY}/'",
    )
