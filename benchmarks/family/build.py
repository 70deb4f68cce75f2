"""Makes what is missing of the family in a folder, one part after the other, and can be resumed.

``members/NAME`` and ``steps/NAME`` appear by a rename when they are whole; ``records/NAME.json``
says how each was made, how large it is and what its digest is. A part whose definition, or that of
one of its sources, has changed is made anew.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from family.definition import Family, Member
from family.recipes import Making, recipe

SIZE_TOLERANCE = 0.01
"""Share by which a size may differ where no digest is pinned: versions write other headers."""


class PinError(Exception):
    """A part is not what ``family.toml`` says it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a part that was made."""

    name: str
    key: str
    size_bytes: int
    blake3: str
    seconds: float


def path_of(folder: Path, one: Member) -> Path:
    """Return where a part lies."""
    return folder / ("members" if one.measured else "steps") / one.name


def build(
    family: Family, folder: Path, names: Sequence[str] = (), say: Callable[[str], None] = print
) -> list[Record]:
    """Make the named parts, or all, with what they need; return the records of the members."""
    parts = family.needed(list(names) or [one.name for one in family.parts])
    by_name = {one.name: one for one in family.parts}
    records = []
    for one in parts:
        record = _kept(family, folder, one)
        if record is None:
            sources = tuple(path_of(folder, by_name[name]) for name in one.sources)
            record = _make(family, folder, one, sources)
            say(f"{record.seconds:8.1f} s  {record.size_bytes:13,}  {one.name}")
        _check(one, record, say)
        if one.measured:
            records.append(record)
    return records


def _kept(family: Family, folder: Path, one: Member) -> Record | None:
    """Return the record of a part that is there and was made as it would be made today."""
    path = folder / "records" / f"{one.name}.json"
    if not path.is_file() or not path_of(folder, one).exists():
        return None
    record = Record(**json.loads(path.read_text(encoding="utf-8")))
    return record if record.key == family.key(one.name) else None


def _make(family: Family, folder: Path, one: Member, sources: tuple[Path, ...]) -> Record:
    place, scratch = path_of(folder, one), folder / "unfinished" / one.name
    for path in (place, scratch):
        _remove(path)
    scratch.mkdir(parents=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    # The name is final and only the folder above it is not: some formats write the name inside.
    making = Making(
        target=scratch / one.name, sources=sources, seed=one.seed,
        parameters=one.parameters, downloads=folder / "downloads",
    )  # fmt: skip
    started = time.perf_counter()
    recipe(one.recipe)(making)
    seconds = time.perf_counter() - started
    making.target.rename(place)
    shutil.rmtree(scratch)
    size, digest = measured(place) if one.measured else (0, "")
    record = Record(
        name=one.name, key=family.key(one.name), size_bytes=size, blake3=digest, seconds=seconds
    )
    target = folder / "records" / f"{one.name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    return record


def measured(path: Path) -> tuple[int, str]:
    """Return size and BLAKE3 of a file, or of a folder: the digest of its list of files.

    The list has a line ``<hex digest>  <relative path>`` for each file, sorted by path.
    """
    if path.is_file():
        return path.stat().st_size, _digest(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    lines = [f"{_digest(one)}  {one.relative_to(path).as_posix()}\n" for one in files]
    return sum(one.stat().st_size for one in files), blake3("".join(lines).encode()).hexdigest()


def _digest(path: Path) -> str:
    return blake3().update_mmap(path).hexdigest()


def _check(one: Member, record: Record, say: Callable[[str], None]) -> None:
    """Hold a part to its digest; where none is pinned, say when its size is not the expected."""
    found = (record.size_bytes, record.blake3)
    if one.blake3 is not None and found != (one.size_bytes, one.blake3):
        raise PinError(
            f"{one.name} has {record.size_bytes} bytes and BLAKE3 {record.blake3}; "
            f"pinned are {one.size_bytes} and {one.blake3}"
        )
    expected = one.size_bytes or record.size_bytes
    if abs(record.size_bytes - expected) > SIZE_TOLERANCE * expected:
        say(f"warning: {one.name} has {record.size_bytes:,} bytes, expected were {expected:,}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
