"""Embedding pictures: files that are one, those that documents contain, and patches of both.

What cannot be decoded is noted and left out; the next run tries it again. A space that has a vector
of a patch goes on having them, until it is told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hartonomous.catalog import manifests, texts
from hartonomous.catalog.picture_index import IndexedPlace, PictureIndex
from hartonomous.core.picture import Pixels, address, embedded_patches
from hartonomous.core.place import Place
from hartonomous.core.vector_block import KINDS
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.formats.sandbox import LimitedProcess
from hartonomous.packs.encoded_parts import EncodedParts
from hartonomous.packs.encoder_probe import known_pictures
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
_PICTURE, _PATCH = KINDS.index("picture"), KINDS.index("patch")


class _Wanted(NamedTuple):
    """Places of one picture; ``part`` names it in its document, ``size`` is (width, height)."""

    part: str
    size: tuple[int, int]
    places: list[Place]


@dataclass(slots=True)
class PictureWork:
    """What is to be done in a space of pictures: of each file, by its digest."""

    missing: dict[bytes, list[_Wanted]] = field(default_factory=dict)
    missing_count: int = 0
    dead: list[int] = field(default_factory=list)


def has_pictures(parts: StoreParts) -> bool:
    """Say whether any picture was read."""
    with open_pictures(parts) as index:
        return any(count for _, count in index.totals().values())


def plan_pictures(
    parts: StoreParts, truth: SpaceTruth | None, *, patches: bool | None = None
) -> PictureWork:
    """Compare a space, None for one without any vector, with the pictures that were read.

    ``patches`` says whether these have vectors too; None for as it is in the space.
    """
    held = {} if truth is None else _held(truth)
    if patches is None:
        patches = any(one.kind == "patch" for have in held.values() for one in have)
    work = PictureWork()
    with open_pictures(parts) as index:
        known = index.recipes()
        with parts.database.read() as tx:
            in_use = texts.said_by_people(tx, known)[1]
        for digest in sorted(known):
            have = held.pop(digest, {})
            if digest not in in_use:
                continue  # in the trash: it may come back
            wanted: set[Place] = set()
            for number, one in enumerate(index.places_in(digest), 1):
                every = _places(index, one, number if one.part else 0, patches=patches)
                wanted.update(every.places)
                missing = [place for place in every.places if place not in have]
                if missing:
                    work.missing.setdefault(digest, []).append(every._replace(places=missing))
                    work.missing_count += len(missing)
            for place, numbers in have.items():
                work.dead += numbers[1:] if place in wanted else numbers
    for gone in held.values():
        work.dead += [number for numbers in gone.values() for number in numbers]
    work.dead.sort()
    return work


def _places(index: PictureIndex, one: IndexedPlace, start: int, *, patches: bool) -> _Wanted:
    """Return the places of a picture that get vectors: all of it, then its patches."""
    whole = Place(digest=one.file_digest, kind="picture", page=one.page, start=start)
    picture = index.picture(one.picture_id) if patches else None
    if picture is None:
        return _Wanted(one.part, (0, 0), [whole])
    size = picture.facts.width, picture.facts.height
    cut = [
        Place(
            digest=one.file_digest, kind="patch", page=one.page, start=start, x=each.x, y=each.y,
            width=each.width, height=each.height,
        )
        for each in embedded_patches(*size)
    ]  # fmt: skip
    return _Wanted(one.part, size, [whole, *cut])


def embed_pictures(
    files: OpenFiles, writer: SpaceWriter, encoder: Encoder, work: PictureWork, progress: Progress
) -> int:
    """Carry out what was planned; return how many vectors came."""
    writer.bury(np.asarray(work.dead, np.int64))
    if not work.missing or not has_images():
        return 0
    progress.stage(f"embed pictures in {writer.row.name}")
    parts, count = writer.parts, 0
    encoding = EncodedParts(writer.row.space, encoder.encode_pictures, known_pictures()[0])
    places: list[Place] = []
    pictures: list[NDArray[np.uint8]] = []
    held = 0
    for place, pixels in _decoded(parts, files, work, progress):
        size = pixels.shape[0] * pixels.shape[1]
        if pictures and (held + size > _HELD_PIXELS or len(pictures) == _HELD_PICTURES):
            count += _encode(writer, encoding, places, pictures, progress)
            places, pictures, held = [], [], 0
        places.append(place)
        pictures.append(pixels)
        held += size
    return count + (_encode(writer, encoding, places, pictures, progress) if pictures else 0)


def _encode(
    writer: SpaceWriter,
    encoding: EncodedParts[NDArray[np.uint8]],
    places: Sequence[Place],
    pictures: Sequence[NDArray[Any]],
    progress: Progress,
) -> int:
    found = encoding.encoded(pictures)
    for at, why in found.refused.items():
        name = f"blake3:{places[at].digest.hex()[:16]}"
        progress.note(f"a picture of {name} gets no vector: {why}")
    kept = [places[at] for at in found.kept]
    if kept:
        source = f"pictures of blake3:{kept[0].digest.hex()[:16]}"
        writer.append(kept, found.vectors, source=source)
    progress.count(len(kept))
    if found.gave_up:
        last = places[max(found.refused)]
        raise encoding.error(f"a picture of blake3:{last.digest.hex()[:16]}")
    return len(kept)


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
                            whole = flat.reshape(pixels.height, pixels.width, 3)
                            for place in one.places:
                                yield place, _cropped(whole, one.size, place)
                            continue
                        for notice in pixels.notices:
                            progress.note(f"{uses[0].path}: {notice.text}")
            except (IntegrityError, NotFoundError) as error:
                progress.note(f"{uses[0].path}: {error.message}")


def _pixels(process: LimitedProcess[Pixels], descriptor: int, where: str) -> Pixels:
    return process.look(descriptor, where)[0]


def _cropped(whole: NDArray[np.uint8], size: tuple[int, int], place: Place) -> NDArray[np.uint8]:
    """Return a patch of a picture [height, width, 3], which may be smaller than its ``size``."""
    if place.kind != "patch":
        return whole
    height, width = whole.shape[:2]
    left, right = _scaled(place.x, place.width, size[0], width)
    top, bottom = _scaled(place.y, place.height, size[1], height)
    return np.ascontiguousarray(whole[top:bottom, left:right])


def _scaled(start: int, length: int, side: int, decoded: int) -> tuple[int, int]:
    first = min(start * decoded // side, decoded - 1)
    return first, min(decoded, max(first + 1, -(-(start + length) * decoded // side)))


def _held(truth: SpaceTruth) -> dict[bytes, dict[Place, list[int]]]:
    """Return {file digest: {place: ids of its vectors}}."""
    ids, table = truth.every_place()
    held: dict[bytes, dict[Place, list[int]]] = {}
    for at, number in enumerate(ids.tolist()):
        if table.rows[at, 1] in (_PICTURE, _PATCH):
            place = table.place(at)
            held.setdefault(place.digest, {}).setdefault(place, []).append(number)
    return held
