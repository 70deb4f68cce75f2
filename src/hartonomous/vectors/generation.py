"""Which segments an index has: one small file that is replaced whole, so that readers never wait.

A reader takes the segments of one generation and keeps them mapped, whatever is removed meanwhile.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hartonomous.core.space import Space
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError
from hartonomous.vectors.derived_file import TEMPORARY, open_derived, write_derived
from hartonomous.vectors.segment import SUFFIX, Segment, open_segment

FILE = "generation"
LOCK = "lock"
_FORMAT = 1
_MOST_SEGMENTS = 10_000
_ATTEMPTS = 5


class _Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file; ``names`` are those of segments, the largest first."""

    format: int
    space: str
    number: int
    names: list[str]


@dataclass(frozen=True, eq=False)
class Generation:
    """Open segments, and what was found wrong with others."""

    number: int
    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()


Stamp = tuple[int, int, int]


def stamp(directory: Path) -> Stamp | None:
    """Return what changes with each generation, None where there is none."""
    try:
        found = (directory / FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_generation(directory: Path, space: Space, known: Generation | None = None) -> Generation:
    """Open what is listed; segments that ``known`` has open are not opened again.

    What is damaged or of another space is left out, with a note: its vectors are compared exactly
    until the next update codes them anew.
    """
    opened = {one.name: one for one in known.segments} if known is not None else {}
    for left in reversed(range(_ATTEMPTS)):
        try:
            listed = _listed(directory, space)
        except FileNotFoundError:
            return Generation(0, ())
        except (IntegrityError, OSError) as error:
            return Generation(0, (), (f"the list of segments is left out: {error}",))
        segments, notes, is_gone = [], [], False
        for name in listed.names:
            try:
                segments.append(opened.get(name) or open_segment(directory / name, space))
            except FileNotFoundError as error:
                is_gone = True  # replaced since the list was read, unless it is so again
                notes.append(f"a segment is left out: {error}")
            except (IntegrityError, OSError) as error:
                notes.append(f"a segment is left out: {error}")
        if not is_gone or not left:
            return Generation(listed.number, tuple(segments), tuple(notes))
    raise AssertionError("the last attempt returns")


def _listed(directory: Path, space: Space) -> _Listed:
    try:
        listed = msgspec.json.decode(open_derived(directory / FILE), type=_Listed)
    except UNDECODABLE as error:
        raise IntegrityError(f"{directory / FILE} cannot be read: {error}") from error
    if listed.format != _FORMAT or listed.space != space.key:
        raise IntegrityError(f"{directory / FILE} is of another space or version")
    if len(listed.names) > _MOST_SEGMENTS:
        raise IntegrityError(f"{directory / FILE} lists too many segments")
    if len(set(listed.names)) != len(listed.names):
        raise IntegrityError(f"{directory / FILE} lists a segment twice")
    for name in listed.names:
        strange = name.startswith(".") or not name.isprintable()
        if Path(name).name != name or not name.endswith(SUFFIX) or strange:
            raise IntegrityError(f"{directory / FILE} lists a name that cannot be: {name!r}")
    return listed


def publish(directory: Path, space: Space, number: int, names: list[str]) -> None:
    """Make segments the current ones and remove the files of others; the lock is held."""
    listed = _Listed(format=_FORMAT, space=space.key, number=number, names=names)
    write_derived(directory / FILE, [msgspec.json.encode(listed)])
    kept = {FILE, LOCK, *names}
    for path in directory.iterdir():
        if path.name not in kept and path.name.endswith((SUFFIX, TEMPORARY)):
            with contextlib.suppress(OSError):  # tried again at the next update
                path.unlink()
