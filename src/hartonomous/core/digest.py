"""Digests: BLAKE3 names atoms and records, SHA-256 is what everybody else names files by.

Inside the program a digest is its 32 raw bytes; people and JSON see ``blake3:…`` and ``sha256:…``.
XXH3-64 guards stored frames against rot; it names nothing.
"""

import hashlib
import re

import blake3 as _blake3
import xxhash

Bytes = bytes | bytearray | memoryview
"""What the hashes accept: contiguous bytes."""

DIGEST_BYTES = 32
"""Length of a BLAKE3 or SHA-256 digest."""

_HEX = re.compile(r"[0-9a-f]+")


def digest(content: Bytes) -> bytes:
    """Return the 32-byte BLAKE3 digest of ``content``."""
    return _blake3.blake3(content).digest()


def checksum(content: Bytes) -> int:
    """Return the XXH3-64 of ``content`` as an unsigned integer."""
    return xxhash.xxh3_64_intdigest(content)


class Sha256Hasher:
    """SHA-256 alone, fed piece by piece."""

    __slots__ = ("_sha256",)

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, piece: Bytes) -> None:
        """Take the next piece."""
        self._sha256.update(piece)

    def digest(self) -> bytes:
        """Return the 32-byte digest of everything fed so far."""
        return self._sha256.digest()


class ContentHasher:
    """BLAKE3 and SHA-256 of one stream, fed piece by piece."""

    __slots__ = ("_blake3", "_sha256", "size")

    def __init__(self) -> None:
        self._blake3 = _blake3.blake3()
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, piece: Bytes) -> None:
        """Take the next piece of the stream."""
        self._blake3.update(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    def digest(self) -> bytes:
        """Return the 32-byte BLAKE3 digest of everything fed so far."""
        return self._blake3.digest()

    def sha256(self) -> bytes:
        """Return the 32-byte SHA-256 digest of everything fed so far."""
        return self._sha256.digest()


class AtomHasher:
    """BLAKE3 alone, fed piece by piece."""

    __slots__ = ("_blake3",)

    def __init__(self) -> None:
        self._blake3 = _blake3.blake3()

    def update(self, piece: Bytes) -> None:
        """Take the next piece."""
        self._blake3.update(piece)

    def digest(self) -> bytes:
        """Return the 32-byte digest of everything fed so far."""
        return self._blake3.digest()


def format_digest(value: bytes, algorithm: str = "blake3") -> str:
    """Return the text form, ``blake3:<64 hex digits>``."""
    return f"{algorithm}:{value.hex()}"


LEAST_DIGITS = 8
"""A digest prefix of fewer hex digits is taken for none."""


def is_short_prefix(text: str) -> bool:
    """Say whether ``text`` looks like a digest prefix that is too short to be one."""
    digits = text.removeprefix("blake3:").lower()
    least = 1 if text.startswith("blake3:") else 4
    return least <= len(digits) < LEAST_DIGITS and _HEX.fullmatch(digits) is not None


def parse_digest_prefix(text: str) -> str | None:
    """Return the lower-case hex digits of a digest or digest prefix, or None if it is none.

    Accepts 8 to 64 hex digits, with or without ``blake3:`` in front.
    """
    digits = text.removeprefix("blake3:").lower()
    if LEAST_DIGITS <= len(digits) <= 2 * DIGEST_BYTES and _HEX.fullmatch(digits):
        return digits
    return None
