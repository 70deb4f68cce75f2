"""Add: what is found at the given places becomes artifacts, or is found to be there already."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import msgspec

from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.catalog.versions import LayerRow
from hartonomous.core import name as naming
from hartonomous.core.finding import notices_of
from hartonomous.core.model import summarise
from hartonomous.core.model_schema import validate_summary
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.objects.durable import storage_error, write_fully
from hartonomous.objects.local import new_temporary
from hartonomous.packs.added import Added, AddReport, Reason
from hartonomous.packs.atoms import AtomReader
from hartonomous.packs.bounded_cache import FrameCache
from hartonomous.packs.checkpoint_files import STEP_KEY, checkpoint_files, step_label
from hartonomous.packs.declared_bases import missing_bases
from hartonomous.packs.ingest import FileIngest, IngestedFile
from hartonomous.packs.operands import Operands
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.preview import Foreseen, preview
from hartonomous.packs.proposal import Proposal
from hartonomous.packs.publication import Published, publish
from hartonomous.packs.session import WriteSession
from hartonomous.packs.source_file import BLOCK_BYTES
from hartonomous.packs.source_removal import SourceRemoval
from hartonomous.packs.stale_views import look_for_stale
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.ports.source import Candidate, CandidateKind, MemberSource, Skipped
from hartonomous.sources.discover import discover
from hartonomous.sources.shared_files import SharedFiles

__all__ = [
    "AddOptions", "AddReport", "Added", "Reason", "add", "add_stream", "add_tensors",
    "check_options", "foresee",
]  # fmt: skip

_BATCH_ROWS = ROWS_PER_TRANSACTION - 40
"""Rows of one publication, before the last artifact."""
_BATCH_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOptions:
    """How to add; see `hart add --help`."""

    name: str | None = None
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    update: bool = False
    move: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    delta: bool = True


@dataclass(slots=True, kw_only=True)
class _Taken:
    candidate: Candidate
    files: tuple[IngestedFile, ...]
    proposal: Proposal


def add(
    parts: StoreParts,
    paths: Sequence[str | os.PathLike[str]],
    *,
    options: AddOptions,
    progress: Progress | None = None,
) -> AddReport:
    """Add everything found at ``paths`` and return what became of each artifact.

    A file that cannot be read fails its artifact and no other. Raises UsageError for wrong options
    and NotFoundError for a path that does not exist, before anything is stored.
    """
    check_options(options)
    found = discover(paths, include=options.include, exclude=options.exclude, hidden=options.hidden)
    shared = SharedFiles(paths, hidden=options.hidden) if options.move else None
    report = _add_all(parts, found, options, progress := progress or NoProgress(), shared)
    look_for_stale(parts, progress)
    return report


def foresee(
    parts: StoreParts,
    paths: Sequence[str | os.PathLike[str]],
    *,
    options: AddOptions,
    progress: Progress | None = None,
) -> AddReport:
    """Return what ``add`` would report, storing nothing: ``dry_run`` is true in it.

    Names, numbers and outcomes are those of the add; ``stored_bytes`` is estimated from samples,
    digests are None where a file was not read whole, reasons name no encodings, tensors are 0.
    """
    check_options(options)
    progress = progress or NoProgress()
    found = discover(paths, include=options.include, exclude=options.exclude, hidden=options.hidden)
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for item in _only_one_if_named(found, options):
        if isinstance(item, Candidate):
            candidates.append(item)
        else:
            skipped.append(item)
            progress.note(f"skipped {item.location}: {item.reason}")
    foreseen = preview(parts, candidates, progress, name=options.name, update=options.update)
    return _report([_foreseen(one, options) for one in foreseen], skipped, dry_run=True)


def _foreseen(one: Foreseen, options: AddOptions) -> Added:
    candidate, decision = one.candidate, one.decision
    if decision is None:
        return Added(
            outcome="failed", name=_shown_name(candidate, options), kind=str(candidate.kind),
            source=candidate.source, file_count=len(candidate.members), error=one.error,
            unread_count=candidate.unread_count,
        )  # fmt: skip
    sketch = decision.proposal
    return Added(
        outcome=decision.outcome, name=decision.name, number=decision.number,
        digest=f"blake3:{sketch.digest.hex()}" if sketch.digest_known else None,
        kind=str(candidate.kind), source=candidate.source, file_count=len(candidate.members),
        logical_bytes=candidate.size, reasons=_reasons(one.tally.reasons),
        stored_bytes=sum(row[2] for row in one.tally.reasons.values()),
        labels=tuple(dict.fromkeys((*candidate.labels, *options.labels))),
        notices=(*candidate.notes, *notices_of(one.files)),
        unread_count=candidate.unread_count,
    )  # fmt: skip


def add_stream(
    parts: StoreParts,
    stream: BinaryIO,
    *,
    options: AddOptions,
    path: str | None = None,
    source: str = "standard input",
    progress: Progress | None = None,
) -> AddReport:
    """Add what a stream gives, under ``options.name``; it is kept in a temporary file meanwhile.

    ``path`` is the file's path inside the artifact, else the last part of the name; ``source``
    says where the bytes came from.
    """
    if options.name is None:
        raise UsageError(
            "standard input has no name of its own", hint="give one: hart add - --name NAME"
        )
    check_options(options)
    # Locked while it is open: a gc beside us sees that its writer lives.
    spool, out = new_temporary(parts.directory)
    with out:
        try:
            while block := stream.read(BLOCK_BYTES):
                write_fully(out.fileno(), memoryview(block))
            member = MemberSource(
                path=path or options.name.rsplit("/", 1)[-1],
                location=str(spool),
                size=spool.stat().st_size,
                mode=0o644,
                modified_us=parts.clock(),
            )
            found = Candidate(kind=CandidateKind.FILE, names=(), members=(member,), source=source)
            return _add_all(parts, iter([found]), options, progress or NoProgress())
        except OSError as error:
            raise storage_error(error, f"keep {source}", spool.parent) from error
        finally:
            spool.unlink(missing_ok=True)


def add_tensors(
    parts: StoreParts,
    tensors: Mapping[Any, Any] | Iterable[tuple[str, Any]],
    *,
    optimizer: object = None,
    step: int | None = None,
    options: AddOptions,
    progress: Progress | None = None,
) -> Added:
    """Add tensors in memory as ``options.name``; see ``packs.checkpoint_files``.

    A ``step`` becomes metadata and the label ``step-N``. Raises UsageError for what safetensors
    does not have, SourceChangedError where a tensor is written to meanwhile; then nothing is added.
    """
    progress = progress or NoProgress()
    members = checkpoint_files(tensors, optimizer=optimizer, step=step, now_us=parts.clock())
    if step is not None:
        options = replace(
            options,
            labels=(step_label(step), *options.labels),
            metadata={STEP_KEY: str(step), **options.metadata},
        )
    check_options(options)
    candidate = Candidate(
        kind=CandidateKind.MODEL, names=(), members=members, source="tensors in memory"
    )
    with _ingesting(parts, progress) as (session, _, ingest):
        progress.stage(_shown_name(candidate, options), total_bytes=candidate.size)
        files = tuple(ingest.take(member) for member in candidate.members)
        proposal = _propose(candidate, files, options)
        taken = _Taken(candidate=candidate, files=files, proposal=proposal)
        return _publish(session, [taken], progress)[0]


def check_options(options: AddOptions) -> None:
    """Raise UsageError for options that no add takes."""
    if options.name is not None:
        naming.check_new_name(options.name)
        if options.update:
            raise UsageError(
                "--name and --update exclude each other",
                hint="--name NAME alone makes the next version of NAME",
            )
    for label in options.labels:
        naming.check_label(label)
    for tag in options.tags:
        naming.check_tag(tag)
    for key, value in options.metadata.items():
        naming.check_meta(key, value)


def _add_all(
    parts: StoreParts,
    found: Iterable[Candidate | Skipped],
    options: AddOptions,
    progress: Progress,
    shared: SharedFiles | None = None,
) -> AddReport:
    """Add what is found; with ``shared`` its sources go, once they are stored."""
    artifacts: list[Added] = []
    skipped: list[Skipped] = []
    if not options.delta:
        parts = replace(parts, variants=False)
    with _ingesting(parts, progress) as (session, reader, ingest):
        removal = SourceRemoval(parts, reader, shared) if shared is not None else None
        batch: list[_Taken] = []
        for item in _only_one_if_named(found, options):
            if isinstance(item, Skipped):
                skipped.append(item)
                progress.note(f"skipped {item.location}: {item.reason}")
                continue
            taken = _take(ingest, item, options, progress)
            progress.count()
            if isinstance(taken, Added):
                artifacts.append(taken)
                continue
            batch.append(taken)
            rows = sum(one.proposal.row_count for one in batch)
            full = session.unsealed_bytes > _BATCH_BYTES or rows >= _BATCH_ROWS
            if full or item.size > _BATCH_BYTES or taken.proposal.is_adapter:
                artifacts += _publish(session, batch, progress, removal, len(artifacts))
                batch = []
                ingest.show_adapters()  # what one was merged into may come next
        artifacts += _publish(session, batch, progress, removal, len(artifacts))
        for at, kept in removal.finish() if removal is not None else ():
            moved = msgspec.structs.replace(artifacts[at], moved=kept is None, source_kept=kept)
            artifacts[at] = moved
    return _report(artifacts, skipped)


@contextlib.contextmanager
def _ingesting(
    parts: StoreParts, progress: Progress
) -> Iterator[tuple[WriteSession, AtomReader, FileIngest]]:
    with WriteSession(parts) as session:
        # No shared caches: before a source is removed, its copy is read from the disk.
        operands = Operands(parts.operands.limit_bytes)
        reader = AtomReader(parts, frames=FrameCache(0), operands=operands)
        ingest = FileIngest(session, parts.parser, reader, progress)
        try:
            yield session, reader, ingest
        finally:
            ingest.close()
            reader.close()


def _reasons(sums: Mapping[str, Sequence[int]]) -> tuple[Reason, ...]:
    return tuple(
        Reason(reason=reason, piece_count=row[0], logical_bytes=row[1], stored_bytes=row[2])
        for reason, row in sorted(sums.items())
    )


def _report(
    artifacts: Sequence[Added], skipped: Sequence[Skipped], *, dry_run: bool = False
) -> AddReport:
    return AddReport(
        artifacts=tuple(artifacts),
        skipped=tuple(f"{item.location}: {item.reason}" for item in skipped),
        logical_bytes=sum(one.logical_bytes for one in artifacts),
        stored_bytes=sum(one.stored_bytes for one in artifacts),
        failed_count=sum(one.outcome == "failed" for one in artifacts),
        dry_run=dry_run,
        unread_count=sum(one.unread_count for one in artifacts)
        + sum(one.unread_count for one in skipped),
    )


def _only_one_if_named(
    found: Iterable[Candidate | Skipped], options: AddOptions
) -> Iterator[Candidate | Skipped]:
    """With --name there must be one artifact (or the revisions of one); checked before storing."""
    if options.name is None:
        yield from found
        return
    items = list(found)
    sources = {item.source for item in items if isinstance(item, Candidate)}
    if len(sources) > 1:
        raise UsageError(
            f"--name {options.name!r} names one artifact, but {len(sources)} were found",
            hint="add them one at a time, or leave --name out",
        )
    yield from items


def _take(
    ingest: FileIngest, candidate: Candidate, options: AddOptions, progress: Progress
) -> _Taken | Added:
    progress.stage(_shown_name(candidate, options), total_bytes=candidate.size)
    try:
        files = ingest.take_all(candidate.members)
    except HartonomousError as error:
        if _concerns_store(error):
            raise
        progress.note(f"failed: {error.message}")
        return Added(
            outcome="failed", name=_shown_name(candidate, options), kind=str(candidate.kind),
            source=candidate.source, file_count=len(candidate.members), error=error.message,
            unread_count=candidate.unread_count,
        )  # fmt: skip
    return _Taken(candidate=candidate, files=files, proposal=_propose(candidate, files, options))


def _concerns_store(error: HartonomousError) -> bool:
    """A fault of the store ends the add; a fault of one source file does not."""
    return error.kind not in {"usage", "not-found", "source-changed"}


def _shown_name(candidate: Candidate, options: AddOptions) -> str:
    return options.name or (candidate.names[0] if candidate.names else candidate.source)


def _propose(
    candidate: Candidate, files: tuple[IngestedFile, ...], options: AddOptions
) -> Proposal:
    described = [(file.source.path, file.description) for file in files]
    summary = summarise(described)
    model: dict[str, Any] | None = None
    layers: tuple[LayerRow, ...] = ()
    parameter_count = None
    if summary is not None:
        model = msgspec.to_builtins(summary)
        validate_summary(model)
        parameter_count = summary.parameter_count
        layers = tuple(
            LayerRow(
                name=one.name,
                kind=str(one.kind),
                tensor_count=one.tensor_count,
                parameter_count=one.parameter_count,
                size_bytes=one.tensor_bytes,
            )
            for one in summary.layers
        )
    names = (options.name,) if options.name is not None else candidate.names
    if not names:
        raise UsageError(f"{candidate.source} has no name of its own", hint="give --name NAME")
    kind = "model" if summary is not None else "file"
    return Proposal(
        kind=kind,
        names=tuple(naming.check_name(name) for name in names),
        files=files,
        source_place=candidate.source,
        model=model,
        layers=layers,
        tensor_count=sum(len(file.description.tensors) for file in files),
        parameter_count=parameter_count,
        labels=tuple(dict.fromkeys((*candidate.labels, *options.labels))),
        tags=options.tags,
        metadata=options.metadata,
        next_version=options.name is not None,
        revisions=candidate.revisions,
        update=options.update,
    )


def _publish(
    session: WriteSession,
    batch: list[_Taken],
    progress: Progress,
    removal: SourceRemoval | None = None,
    first: int = 0,
) -> list[Added]:
    """Publish a batch; with ``removal`` its sources go, those of the add's ``first`` and so on."""
    if not batch:
        return []
    progress.stage("publish")
    published = publish(session, [one.proposal for one in batch])
    results = []
    for number, (taken, done) in enumerate(zip(batch, published, strict=True), first):
        if taken.proposal.model is not None and done.outcome != "unchanged":
            for note in missing_bases(session.parts, taken.proposal.model, done.name, done.number):
                progress.note(note)
        kept = None if removal is None else _remove(removal, number, taken)
        moved = removal is not None and kept is None
        results.append(_added(taken, done, moved=moved, source_kept=kept))
    return results


def _remove(removal: SourceRemoval, number: int, taken: _Taken) -> str | None:
    """Remove an artifact's source unless the store lacks some of it; see ``SourceRemoval``."""
    if taken.candidate.unread_count:
        return "not all of it could be read"
    return removal.remove(number, taken.files)


def _added(taken: _Taken, done: Published, *, moved: bool, source_kept: str | None) -> Added:
    sums: dict[str, list[int]] = {}
    for file in taken.files:
        for reason, row in file.tally.reasons.items():
            total = sums.setdefault(reason, [0, 0, 0])
            for index, value in enumerate(row):
                total[index] += value
    return Added(
        outcome=done.outcome, name=done.name, number=done.number,
        digest=f"blake3:{done.digest.hex()}",
        kind=taken.proposal.kind, source=taken.candidate.source, file_count=len(taken.files),
        tensor_count=taken.proposal.tensor_count, parameter_count=taken.proposal.parameter_count,
        logical_bytes=sum(file.size for file in taken.files), reasons=_reasons(sums),
        stored_bytes=sum(row[2] for row in sums.values()),
        labels=taken.proposal.labels,
        notices=(
            *taken.candidate.notes,
            *notices_of([(one.source.path, one.description) for one in taken.files]),
        ),
        moved=moved, source_kept=source_kept, unread_count=taken.candidate.unread_count,
    )  # fmt: skip
