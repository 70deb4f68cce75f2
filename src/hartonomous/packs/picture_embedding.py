"""Embedding pictures: files that are one, and those that documents contain.

What cannot be decoded is noted and left out; the next run tries it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hartonomous.catalog import manifests, texts
from hartonomous.core.picture import Pixels, address
from hartonomous.core.place import Place
from hartonomous.core.vector_block import KINDS
from hartonomous.errors import HartonomousError
from hartonomous.formats.sandbox import LimitedProcess
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.picture_views import has_images, open_pictures, pixel_process
from hartonomous.packs.space_writer import SpaceWriter
from hartonomous.packs.vector_truth import SpaceTruth
from hartonomous.packs.viewed_files import plain_copy
from hartonomous.ports.encoder import Encoder
from hartonomous.ports.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD_PIXELS = 1 << 24
"""Pixels of one batch; a picture that is larger is a batch."""
_HELD_PICTURES = 16
_PICTURE = KINDS.index("picture")


class _Wanted(NamedTuple):
    place: Place
    part: str


@dataclass(slots=True)
class PictureWork:
    """What is to be done in a space of pictures."""

    missing: dict[bytes, list[_Wanted]] = field(default_factory=dict)
    missing_count: int = 0
    dead: list[int] = field(default_factory=list)


def has_pictures(parts: StoreParts) -> bool:
    """Say whether any picture was read."""
    with open_pictures(parts) as index:
        return any(count for _, count in index.totals().values())


def plan_pictures(parts: StoreParts, truth: SpaceTruth | None) -> PictureWork:
    """Compare a space, None for one without any vector, with the pictures that were read."""
    held = {} if truth is None else _held(truth)
    work = PictureWork()
    with open_pictures(parts) as index:
        known = index.recipes()
        with parts.database.read() as tx:
            in_use = texts.said_by_people(tx, known)[1]
        for digest in sorted(known):
            have = held.pop(digest, {})
            if digest not in in_use:
                continue  # in the trash: it may come back
            wanted: dict[tuple[int, int], _Wanted] = {}
            for number, one in enumerate(index.places_in(digest), 1):
                start = number if one.part else 0
                place = Place(digest=digest, kind="picture", page=one.page, start=start)
                wanted[one.page, start] = _Wanted(place, one.part)
            missing = [one for spot, one in wanted.items() if spot not in have]
            if missing:
                work.missing[digest] = missing
                work.missing_count += len(missing)
            for spot, numbers in have.items():
                work.dead += numbers[1:] if spot in wanted else numbers
    for gone in held.values():
        work.dead += [number for numbers in gone.values() for number in numbers]
    work.dead.sort()
    return work


def embed_pictures(
    files: OpenFiles, writer: SpaceWriter, encoder: Encoder, work: PictureWork, progress: Progress
) -> int:
    """Carry out what was planned; return how many vectors came."""
    writer.bury(np.asarray(work.dead, np.int64))
    if not work.missing or not has_images():
        return 0
    progress.stage(f"embed pictures in {writer.row.name}")
    parts, count = writer.parts, 0
    places: list[Place] = []
    pictures: list[NDArray[np.uint8]] = []
    held = 0
    for place, pixels in _decoded(parts, files, work, progress):
        size = pixels.shape[0] * pixels.shape[1]
        if pictures and (held + size > _HELD_PIXELS or len(pictures) == _HELD_PICTURES):
            count += _encode(writer, encoder, places, pictures)
            places, pictures, held = [], [], 0
        places.append(place)
        pictures.append(pixels)
        held += size
    return count + (_encode(writer, encoder, places, pictures) if pictures else 0)


def _encode(
    writer: SpaceWriter,
    encoder: Encoder,
    places: Sequence[Place],
    pictures: Sequence[NDArray[Any]],
) -> int:
    rows = encoder.encode_pictures(pictures)
    writer.append(places, rows, source=f"pictures of blake3:{places[0].digest.hex()[:16]}")
    return len(places)


def _decoded(
    parts: StoreParts, files: OpenFiles, work: PictureWork, progress: Progress
) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
    with pixel_process() as process:
        for digest, wanted in work.missing.items():
            with parts.database.read() as tx:
                row = manifests.by_file_digest(tx, digest)
                uses = texts.uses(tx, [digest]).get(digest)
            if row is None or not uses:
                continue  # it went since the plan was made
            try:
                with plain_copy(parts, files, row) as plain:
                    for one in wanted:
                        where = address(uses[0].path, one.part)
                        pixels = _pixels(process, plain.fileno(), where)
                        if pixels.width and pixels.height:
                            flat = np.frombuffer(pixels.rgb, np.uint8)
                            yield one.place, flat.reshape(pixels.height, pixels.width, 3)
                            continue
                        for notice in pixels.notices:
                            progress.note(f"{uses[0].path}: {notice.text}")
            except HartonomousError as error:
                if error.kind not in ("integrity", "not-found"):
                    raise
                progress.note(f"{uses[0].path}: {error.message}")


def _pixels(process: LimitedProcess[Pixels], descriptor: int, where: str) -> Pixels:
    return process.look(descriptor, where)[0]


def _held(truth: SpaceTruth) -> dict[bytes, dict[tuple[int, int], list[int]]]:
    ids, places = truth.every_place()
    digests = places.files()
    held: dict[bytes, dict[tuple[int, int], list[int]]] = {}
    for number, (file, kind, page, start, *_) in zip(
        ids.tolist(), places.rows.tolist(), strict=True
    ):
        if kind == _PICTURE:
            held.setdefault(digests[file], {}).setdefault((page, start), []).append(number)
    return held
