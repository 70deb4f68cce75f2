"""What ``hart estimate`` says before an add beside what the add then stored, by class of member.

Members of ``family.toml`` and of the demo come into an empty store one after the other; each is
estimated against what the store holds by then. Stored is by how much packs and catalog grew. A
class's error is of its sums, the median that of its members; "inside" counts members whose stored
bytes lie in the range that the estimate gave.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from context import Context, Result
from family import build, definition
from made_files import size_of
from tables import megabytes, table

import hartonomous as hn
from hartonomous.errors import HartonomousError
from hartonomous.operations.demo_base import fetch_base
from hartonomous.operations.demo_family import make_family

_QUICK = 3
"""Members of a class when quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """One member: its bytes, what was estimated, and what it took."""

    name: str
    kind: str
    plain_bytes: int
    estimated_bytes: int
    low_bytes: int
    high_bytes: int
    stored_bytes: int
    read_bytes: int
    estimate_s: float

    @property
    def error(self) -> float:
        """How far the estimate is over (below 0: under) what was stored, as a share of that."""
        return self.estimated_bytes / max(self.stored_bytes, 1) - 1

    @property
    def inside(self) -> bool:
        """Whether the range holds what was stored."""
        return self.low_bytes <= self.stored_bytes <= self.high_bytes


def run(context: Context) -> Result:
    """Measure the demo's members, then those of the family that are built."""
    texts, figures = [], {}
    for name, members in (("demo", _demo(context)), ("family", _family(context))):
        if isinstance(members, str):
            texts.append(f"estimate, {name}: not run: {members}\n")
            figures[name] = members
            continue
        done = _measure(context, name, members)
        texts.append(_by_kind(f"estimate against stored, {name}, MB", done))
        texts.append(_worst(done))
        figures[name] = [asdict(one) for one in done]
    return Result(text="\n".join(texts), figures=figures)


def _demo(context: Context) -> list[tuple[str, Path]] | str:
    folder = context.files / "demo-family"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        base = fetch_base(
            context.files / "family-base", cache=context.files, from_path=context.model
        )
        return [(one.path.name, one.path) for one in make_family(base, folder)]
    except HartonomousError as error:
        return str(error)


def _family(context: Context) -> list[tuple[str, Path]] | str:
    found: list[tuple[str, Path]] = []
    family = definition.load()
    counts: dict[tuple[str, str], int] = {}
    for one in family.members:
        path = build.path_of(context.family, one)
        part, kind = family.part_of(one.name), one.kind or ""
        if not path.exists() or context.part not in (None, part):
            continue
        counts[part, kind] = counts.get((part, kind), 0) + 1
        if not context.quick or counts[part, kind] <= _QUICK:
            found.append((kind, path))
    return found or f"nothing is built in {context.family}; make family"


def _measure(context: Context, name: str, members: Sequence[tuple[str, Path]]) -> list[Foretold]:
    place = context.work / f"estimate-{name}"
    shutil.rmtree(place, ignore_errors=True)
    done = []
    hn.open(place, create=True).close()
    before = _stored(place)
    try:
        for number, (kind, path) in enumerate(members, 1):
            print(f"estimate: {name} {number} of {len(members)}", file=sys.stderr, flush=True)
            with hn.open(place) as store:
                started = time.perf_counter()
                told = store.estimate([path])
                took_s = time.perf_counter() - started
                store.add([path])
            after = _stored(place)
            done.append(
                Foretold(
                    name=path.name, kind=kind, plain_bytes=size_of(path),
                    estimated_bytes=told.estimated_bytes, low_bytes=told.low_bytes,
                    high_bytes=told.high_bytes, stored_bytes=after - before,
                    read_bytes=told.read_bytes, estimate_s=took_s,
                )
            )  # fmt: skip
            before = after
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return done


def _stored(place: Path) -> int:
    """Return the bytes of packs and catalog; the store is closed: nothing waits in a log."""
    packs = sum(one.stat().st_size for one in (place / "packs").rglob("*.pack"))
    return packs + (place / "catalog.sqlite3").stat().st_size


def _by_kind(title: str, done: Sequence[Foretold]) -> str:
    rows: list[list[object]] = []
    kinds = dict.fromkeys(one.kind for one in done)
    for kind in kinds:
        rows.append(_row(kind, [one for one in done if one.kind == kind]))
    rows.append(_row("all", done))
    head = ["", "members", "plain", "estimated", "stored", "error %", "of plain %", "median %",
            "inside", "read %"]  # fmt: skip
    return table(title, head, rows)


def _row(kind: str, done: Sequence[Foretold]) -> list[object]:
    plain = sum(one.plain_bytes for one in done)
    estimated = sum(one.estimated_bytes for one in done)
    stored = sum(one.stored_bytes for one in done)
    return [
        kind, len(done), megabytes(plain), megabytes(estimated), megabytes(stored),
        round(100 * (estimated / max(stored, 1) - 1), 1),
        round(100 * (estimated - stored) / max(plain, 1), 2),
        round(100 * statistics.median(abs(one.error) for one in done), 1),
        sum(one.inside for one in done),
        round(100 * sum(one.read_bytes for one in done) / max(plain, 1), 2),
    ]  # fmt: skip


def _worst(done: Sequence[Foretold]) -> str:
    """Return the members whose estimates are furthest off, in bytes."""
    worst = sorted(done, key=lambda one: -abs(one.estimated_bytes - one.stored_bytes))[:10]
    rows = [
        [one.name, megabytes(one.plain_bytes), megabytes(one.low_bytes),
         megabytes(one.estimated_bytes), megabytes(one.high_bytes), megabytes(one.stored_bytes)]
        for one in worst
    ]  # fmt: skip
    return table("furthest off, MB", ["", "plain", "from", "estimated", "to", "stored"], rows)
