"""Embed: bring spaces up to what the store holds, beside those that are searched meanwhile."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hartonomous.catalog import spaces
from hartonomous.catalog.derived_tables import check_may_write
from hartonomous.catalog.spaces import SpaceRow
from hartonomous.core.space import MODALITIES, Space
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.packs.embedding import Embedded, TextWork, embed_texts, plan_texts, rate
from hartonomous.packs.encoders import find_kept, kept_encoders
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_embedding import (
    PictureWork,
    embed_pictures,
    has_pictures,
    plan_pictures,
)
from hartonomous.packs.picture_views import update_pictures
from hartonomous.packs.space_encoders import FIRST, RULES, encoder_named, encoder_of
from hartonomous.packs.space_writer import ensure_space, find_space, first_state, writing
from hartonomous.packs.text_views import update_views
from hartonomous.packs.vector_blocks import find_blocks
from hartonomous.packs.vector_search import update_index
from hartonomous.packs.vector_truth import SpaceTruth
from hartonomous.ports.progress import NoProgress, Progress


class EmbedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to embed; see `hart embed --help`.

    ``patches`` of pictures get vectors too (True), lose them (False), or as the space has it.
    """

    space: str | None = None
    encoder: str | None = None
    modality: str | None = None
    switch: bool = False
    patches: bool | None = None


class EmbedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What embedding did, or (``dry_run``) would do; ``notes`` say what could not be done."""

    spaces: tuple[Embedded, ...]
    added_count: int
    removed_count: int
    notes: tuple[str, ...] = ()
    dry_run: bool = False


class _Target(NamedTuple):
    """A space to be brought up to date; without a row it is not there yet."""

    space: Space
    row: SpaceRow | None


def check_options(options: EmbedOptions) -> None:
    """Raise UsageError for options that exclude each other or name no modality."""
    if options.space is not None and options.encoder is not None:
        raise UsageError(
            "--space and --encoder exclude each other", hint="a space has its encoder already"
        )
    if options.modality is not None and options.modality not in MODALITIES:
        raise UsageError(
            f"there is no modality {options.modality[:40]!r}", hint=f"one of {MODALITIES}"
        )
    if options.patches is not None and options.modality == "text":
        raise UsageError("texts have no patches", hint="leave out --modality, or the patches")


def check_names(parts: StoreParts, options: EmbedOptions) -> None:
    """Raise NotFoundError or UsageError where the store has no such space or encoder.

    No model is opened for that.
    """
    if options.encoder is not None and options.encoder not in RULES:
        find_kept(parts, options.encoder)
    elif options.encoder is not None or options.space is not None:
        files = OpenFiles(parts)
        try:
            _chosen(parts, files, options)
        finally:
            files.close()


def embed(
    parts: StoreParts,
    files: OpenFiles,
    *,
    options: EmbedOptions,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> EmbedReport:
    """Compute the vectors that spaces lack, and remove those of what is gone.

    Without a space or encoder in ``options``, of every space that is searched or being built whose
    encoder the store has, and of the rule for a modality that has no space. Each space may end at
    any moment and goes on from there. Raises NotFoundError, UsageError, ConflictError.
    """
    check_options(options)
    if not dry_run:
        check_may_write(parts.database)
    progress = progress or NoProgress()
    notes = list(find_blocks(parts, files))
    if options.modality in (None, "picture") and options.space is None:
        notes += update_pictures(parts, files, progress).notes
    targets = _chosen(parts, files, options)
    if any(one.space.modality == "text" for one in targets):
        notes += update_views(parts, files, progress).notes
    if options.space is not None and targets[0].space.modality == "picture":
        notes += update_pictures(parts, files, progress).notes
    if options.space is None and options.encoder is None:
        notes += _unused_encoders(parts)
    done: list[Embedded] = []
    for one in targets:
        try:
            if dry_run:
                done.append(_foreseen(parts, files, one, patches=options.patches))
            else:
                done.append(_embedded(parts, files, one, progress, options))
        except HartonomousError as error:
            alone = options.space is not None or options.encoder is not None
            if alone or error.kind not in ("not-found", "conflict", "usage"):
                raise
            notes.append(f"{one.space.title()} stays as it is: {error.message}")
    return EmbedReport(
        spaces=tuple(done),
        added_count=sum(one.added_count for one in done),
        removed_count=sum(one.removed_count for one in done),
        notes=tuple(notes),
        dry_run=dry_run,
    )


def _chosen(parts: StoreParts, files: OpenFiles, options: EmbedOptions) -> Sequence[_Target]:
    if options.space is not None:
        row = find_space(parts, files, options.space)
        if options.modality not in (None, row.space.modality):
            raise UsageError(f"the space {row.name} is of {row.space.modality}s")
        return [_Target(row.space, row)]
    if options.encoder is not None:
        wanted = [options.modality] if options.modality else list(MODALITIES)
        return _of_encoder(parts, files, options.encoder, wanted, asked=bool(options.modality))
    with parts.database.read() as tx:
        rows = [
            one
            for one in spaces.listed(tx)
            if one.state != spaces.RETIRED and one.use != spaces.OWN
        ]
    targets = [
        _Target(one.space, one) for one in rows if options.modality in (None, one.space.modality)
    ]
    for modality, name in FIRST.items():
        has_one = any(one.space.modality == modality for one in targets)
        if modality == "picture" and not has_pictures(parts):
            continue
        if options.modality in (None, modality) and not has_one:
            targets += _of_encoder(parts, files, name, [modality], asked=True)
    return targets


def _unused_encoders(parts: StoreParts) -> list[str]:
    """Return a note of the encoders that are kept, where no space is of any of them."""
    with parts.database.read() as tx:
        if any(one.use == spaces.MEANING for one in spaces.listed(tx)):
            return []
    return [
        "no space is of an encoder that the store keeps; "
        f"'hart embed --encoder {one.card.name}' makes one"
        for one in kept_encoders(parts)[:1]
    ]


def _of_encoder(
    parts: StoreParts, files: OpenFiles, name: str, modalities: Sequence[str], *, asked: bool
) -> list[_Target]:
    encoder = encoder_named(parts, files, name)
    found = []
    try:
        for modality in modalities:
            try:
                space = encoder.space(modality)
            except UsageError:
                if asked:
                    raise
                continue
            with parts.database.read() as tx:
                found.append(_Target(space, spaces.by_key(tx, space.key)))
    finally:
        encoder.close()
    return found


def _plan(
    parts: StoreParts, truth: SpaceTruth | None, modality: str, *, patches: bool | None
) -> TextWork | PictureWork:
    if modality == "picture":
        return plan_pictures(parts, truth, patches=patches)
    return plan_texts(parts, truth)


def _foreseen(
    parts: StoreParts, files: OpenFiles, target: _Target, *, patches: bool | None
) -> Embedded:
    space, row = target
    truth = None if row is None else SpaceTruth(parts, files, row)
    work = _plan(parts, truth, space.modality, patches=patches)
    left = 0 if truth is None else len(truth.ids()) - len(work.dead)
    with parts.database.read() as tx:
        state = first_state(tx, space, spaces.use_of(space)) if row is None else row.state
    return Embedded(
        space=space.encoder if row is None else row.name, modality=space.modality,
        encoder=space.encoder, state=state,
        added_count=work.missing_count, removed_count=len(work.dead),
        vector_count=left + work.missing_count, duration_s=0.0, rate=0.0, dry_run=True,
    )  # fmt: skip


def _embedded(
    parts: StoreParts,
    files: OpenFiles,
    target: _Target,
    progress: Progress,
    options: EmbedOptions,
) -> Embedded:
    since = time.monotonic()
    encoder = encoder_of(parts, files, target.space)
    try:
        row = target.row or ensure_space(parts, target.space)
        with writing(parts, files, row) as writer:
            work = _plan(parts, writer.truth, row.space.modality, patches=options.patches)
            if isinstance(work, PictureWork):
                count = embed_pictures(files, writer, encoder, work, progress)
            else:
                count = embed_texts(parts, writer, encoder, work, progress)
            writer.merge()
            total = len(writer.truth.ids())
            update_index(parts, row, writer.truth)
    finally:
        encoder.close()
    if options.switch:
        parts.database.run(lambda tx: spaces.switch(tx, row, now_us=parts.clock()))
    elif row.state == spaces.CURRENT and row.switched_us is None:
        parts.database.run(lambda tx: spaces.completed(tx, row, now_us=parts.clock()))
    with parts.database.read() as tx:
        now = spaces.by_id(tx, row.id)
    took, speed = rate(count, since)
    return Embedded(
        space=row.name, modality=row.space.modality, encoder=row.space.encoder,
        state=row.state if now is None else now.state, added_count=count,
        removed_count=len(work.dead), vector_count=total, duration_s=round(took, 3),
        rate=round(speed, 1),
    )  # fmt: skip
