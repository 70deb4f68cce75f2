"""Digest of a version: one name for a set of (path, file digest) members.

The digest of an artifact's version is the BLAKE3 of its sorted lines ``<hex digest>  <path>\\n``,
so that two folders with the same files are the same content, whatever order they were read in.
A single file counts as a folder of one member under its own file name.
"""

from collections.abc import Iterable

from hartonomous.core.digest import digest


def tree_digest(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the 32-byte digest of ``(path, file digest)`` members.

    Paths are relative, with ``/`` between parts, and valid UTF-8 (a member whose name on disk is
    none carries its bytes beside an escaped path).
    """
    lines = sorted((path.encode(), content.hex().encode()) for path, content in members)
    return digest(b"".join(content + b"  " + path + b"\n" for path, content in lines))
