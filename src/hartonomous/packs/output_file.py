"""Files that are written out: where they are written first, and what must not be in their way."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hartonomous.errors import ConflictError, HartonomousError, LockedError, UsageError
from hartonomous.locks import NO_LOCKS

_CUT_BYTES = 200  # of a name, so that what is put around it fits beside it


def output_place(output: str | os.PathLike[str]) -> Path:
    """Return where something is to be written; raises UsageError for what no path can be."""
    place = Path(output)
    try:
        place.lstat()
    except ValueError as error:
        raise UsageError(f"{os.fspath(output)!r} is no path: it has a zero byte in it") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(
                f"{os.fspath(output)[:100]!r}… is longer than a path may be",
                hint="choose a shorter name with -o",
            ) from error
    return place


def part_of(target: Path, mark: str) -> Path:
    """Return where a file is written before it gets its name; ``mark`` says which content."""
    name = os.fsencode(target.name)[:_CUT_BYTES].decode("utf-8", "ignore")
    return target.with_name(f".{name}.{mark}.part")


def open_part(part: Path) -> int:
    """Open what an interrupted get left, or a new file, for one writer; raises OSError.

    A link, a pipe, a file with a second name or another user's is nothing that a get left: it is
    taken away, so that no byte goes into somebody else's file. Raises LockedError where somebody
    writes to it: two would cut off what the other had written.
    """
    while True:
        descriptor = _open_own(part)
        try:
            if _locked(descriptor, part):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it got its name just now; the next one is a new file


def _locked(descriptor: int, part: Path) -> bool:
    """Take the file for this writer; False where it has another name by now, or none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(
            f"another get is writing {part}", hint="wait for it, or choose another place with -o"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        return os.path.samestat(os.fstat(descriptor), part.lstat())
    except FileNotFoundError:
        return False


def _open_own(part: Path) -> int:
    try:
        status = part.lstat()
    except FileNotFoundError:
        pass
    else:
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or status.st_nlink != 1:
            part.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(part, flags, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)  # somebody replaced it between the two calls
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(part))


def kept_content(
    target: Path, size_bytes: int, same: Callable[[BinaryIO], bytes | None], *, force: bool
) -> bytes | None:
    """Return the digest of what is at ``target`` already; None where a file is to be written.

    ``same`` reads a file of ``size_bytes`` and returns its digest, or None if it is another one.
    A folder stays, and so does a link to one, whatever ``force`` is. Any other link is in the way,
    and ``force`` puts the file in its place: no byte goes where a link leads. Raises ConflictError,
    HartonomousError where nobody can say what is there.
    """
    try:
        mode = target.lstat().st_mode
        led_to = target.readlink() if stat.S_ISLNK(mode) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unseen(target, error) from error
    link = "" if led_to is None else f" a link to {led_to}, which is"
    if os.path.isdir(target):  # noqa: PTH112  # the other raises for a link that nobody may follow
        raise ConflictError(f"{target} is{link} a folder", hint="choose another place with -o")
    what = "exists and is something else" if led_to is None else f"is a link to {led_to}"
    if stat.S_ISREG(mode):
        try:
            with target.open("rb") as there:
                right_size = os.fstat(there.fileno()).st_size == size_bytes
                digest = same(there) if right_size else None
        except OSError as error:
            what = f"exists and cannot be read: {error.strerror or error}"
        else:
            if digest is not None:
                return digest
    if not force:
        how = "write over it" if led_to is None else "put the file in the link's place"
        raise ConflictError(
            f"{target} {what}", hint=f"choose another place with -o, or {how} with --force"
        )
    return None


def _unseen(place: Path, error: OSError) -> HartonomousError:
    return HartonomousError(
        f"cannot look at {place}: {error.strerror or error}",
        hint="check the folders on the way there, or choose another place with -o",
    )


def refuse_linked_folder(root: Path, target: Path) -> None:
    """Raise ConflictError where a folder between ``root`` and a file in it is a link.

    Raises HartonomousError where that cannot be seen.
    """
    for folder in target.parents:
        if folder == root or root not in folder.parents:
            return
        try:
            linked = folder.is_symlink()
        except OSError as error:
            raise _unseen(folder, error) from error
        if linked:
            raise ConflictError(
                f"{folder} is a symbolic link, which would lead {target.name} out of {root}",
                hint="remove the link, or choose another place with -o",
            )
