"""Where a version's files go on disk: relative paths that never lead out of their folder."""

import hashlib
import os
import unicodedata
from pathlib import Path, PurePosixPath

from hartonomous.catalog.versions import MemberRow
from hartonomous.core.name import escape_path, unescape_path
from hartonomous.errors import IntegrityError

MAX_PART_BYTES = 255
"""The longest name that a file may have on Linux."""


def member_path(member: MemberRow) -> Path:
    """Return the member's relative path on disk; raises IntegrityError when it would lead out."""
    raw = member.raw_path if member.raw_path is not None else unescape_path(member.path)
    return safe_path(os.fsdecode(raw))


def safe_path(text: str) -> Path:
    """Return a relative path that stays below its folder; raises IntegrityError."""
    pure = PurePosixPath(text)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in text:
        raise IntegrityError(f"the stored path {text!r} would lead out of its folder")
    return Path(*pure.parts)


def disk_path(name: str) -> Path:
    """Return the relative path for an artifact, whose parts are those of its name.

    A part over 255 bytes, which no file may have, is cut and closed by ``~`` and 16 hex digits of
    the SHA-256 of what it was, as ``rescue.py`` does, which has no BLAKE3.
    """
    return Path(*(_cut(part) for part in safe_path(name).parts))


def file_path(name: str, member: MemberRow) -> Path:
    """Return the relative path for an artifact that is this one file.

    That is the artifact's name, whose last part is what the file was called on disk if the name
    came from there: a name is printable and in NFC, a file's need not be.
    """
    path, own = disk_path(name), member_path(member).name
    told = unicodedata.normalize("NFC", escape_path(os.fsencode(own)))
    is_its_own = told == name.rpartition("/")[2] and own == _cut(own)
    return path.with_name(own) if is_its_own else path


def folder_name(name: str) -> str:
    """Return the name of the folder for an artifact: the last part of its path."""
    return disk_path(name).name


def _cut(part: str) -> str:
    raw = os.fsencode(part)
    if len(raw) <= MAX_PART_BYTES:
        return part
    mark = f"~{hashlib.sha256(raw).hexdigest()[:16]}"
    return raw[: MAX_PART_BYTES - len(mark)].decode("utf-8", "ignore") + mark
