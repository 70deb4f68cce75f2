"""Builds the shim and reads the log that it writes."""

import ctypes
import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_HEAD = struct.Struct("<IHHQqII")
_MAGIC = 0x4C544F52


class Operation(IntEnum):
    """What a record of the log tells; the numbers are the shim's."""

    WRITE = 1
    TRUNCATE = 2
    SYNC = 3
    CREATE = 4
    LINK = 5
    RENAME = 6
    EXCHANGE = 7
    UNLINK = 8
    MKDIR = 9
    RMDIR = 10
    MARK = 11
    MAPPED = 12
    FAULT = 13
    ALLOCATE = 14
    SYMLINK = 15


MODES = {
    "none": 0,  # nothing fails
    "eio": 1,  # the n-th call fails with EIO
    "eio-on": 2,  # so does every later one
    "enospc": 3,  # the n-th call, if it takes room, fails with ENOSPC
    "enospc-on": 4,  # so does every later one that takes room
    "short": 5,  # the n-th call, if it writes, writes half
    "full": 6,  # the n-th call writes half, and nothing after it takes room
    "kill": 7,  # the process is killed instead of the n-th call
}


_AT_WRITES = {"short", "full"}
_WHERE_ROOM_IS_TAKEN = {"enospc", "enospc-on"}


def differs_at(mode: str, place: str) -> bool:
    """Say whether a mode does at such a call what it does at no other one; see ``Shim.places``.

    ``enospc-on`` at a call that takes no room fails the next one that does, and so does ``full`` at
    one that writes nothing; ``enospc`` and ``short`` do nothing there.
    """
    return place == "w" or mode not in (
        _AT_WRITES | (_WHERE_ROOM_IS_TAKEN if place == "s" else set())
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One record. ``first`` and ``second`` are paths, or the bytes written, or a mark's text."""

    operation: Operation
    error: int
    inode: int
    offset: int
    first: bytes
    second: bytes


def build(folder: Path) -> Path:
    """Compile the shim; a machine without a C compiler is told so, and skips nothing."""
    out = folder / "shim.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, *flags, str(SOURCE), "-o", str(out), "-ldl", "-lpthread"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise AssertionError(
            f"no C compiler ({command[0]}): tools/need_programs.sh installs what the tests need"
        ) from error
    assert done.returncode == 0, done.stderr
    return out


class Shim:
    """The shim as loaded into this very process by LD_PRELOAD."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.torture_count.restype = ctypes.c_long

    def begin(
        self, root: str, log: str | None, nth: int, mode: str, *, seed: str, epoch_s: int
    ) -> None:
        """Count, log and fail from here on what is done under ``root``.

        Random bytes come from ``seed``, times begin with ``epoch_s``.
        """
        name = b"" if log is None else os.fsencode(log)
        random = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
        self._library.torture_begin(
            os.fsencode(root), name, ctypes.c_long(nth), MODES[mode], ctypes.c_uint64(random),
            ctypes.c_int64(epoch_s),
        )  # fmt: skip

    def count(self) -> int:
        """Return how many calls were counted so far."""
        return int(self._library.torture_count())

    def places(self) -> str:
        """Return what each counted call was: w writes, r takes room otherwise, s takes none."""
        found = "".join(
            chr(self._library.torture_place(ctypes.c_long(number)))
            for number in range(1, self.count() + 1)
        )
        assert "\0" not in found, "there are more calls than the shim remembers"
        return found

    def mark(self, text: str) -> None:
        """Write a text into the log."""
        self._library.torture_mark(text.encode())


def read_log(path: Path) -> list[Call]:
    """Return the records of a log in order; a last one that was cut off is left out."""
    return list(_records(path.read_bytes()))


def _records(content: bytes) -> Iterator[Call]:
    at = 0
    while at + _HEAD.size <= len(content):
        magic, operation, error, inode, offset, first, second = _HEAD.unpack_from(content, at)
        assert magic == _MAGIC, "the log is not what the shim writes"
        at += _HEAD.size
        if at + first + second > len(content):
            return
        yield Call(Operation(operation), error, inode, offset, content[at : at + first],
                   content[at + first : at + first + second])  # fmt: skip
        at += first + second
