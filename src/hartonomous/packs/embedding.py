"""Embedding: every passage that was read gets a vector in a space, and what is gone loses its own.

Work is planned from what the space has and what the index of words has, so it may be ended at any
moment and goes on from there. A batch is texts of about one length.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from hartonomous.catalog import texts
from hartonomous.core.indexed_text import IndexedPassage
from hartonomous.core.place import Place
from hartonomous.core.vector_block import KINDS, PlaceTable
from hartonomous.errors import HartonomousError
from hartonomous.packs.encoded_parts import EncodedParts
from hartonomous.packs.encoder_probe import KNOWN_TEXT
from hartonomous.packs.space_writer import SpaceWriter
from hartonomous.packs.text_views import open_index
from hartonomous.packs.vector_truth import SpaceTruth
from hartonomous.ports.encoder import Encoder
from hartonomous.ports.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.packs.parts import StoreParts

BATCH_TEXTS = 32
_HELD_TEXTS = 256
"""So many are put in order by length, and kept once they are encoded: what is cut short loses no
more than these."""
_PASSAGE = KINDS.index("passage")


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """What embedding did for one space, or (``dry_run``) would do; ``rate`` is vectors a second."""

    space: str
    modality: str
    encoder: str
    state: str
    added_count: int
    removed_count: int
    vector_count: int
    duration_s: float
    rate: float
    dry_run: bool = False


class _Spot(NamedTuple):
    """A passage's place in its file, as it is compared."""

    page: int
    start: int
    stop: int


@dataclass(slots=True)
class TextWork:
    """What is to be done in a space of texts."""

    missing: dict[bytes, set[_Spot]] = field(default_factory=dict)
    missing_count: int = 0
    missing_bytes: int = 0
    dead: list[int] = field(default_factory=list)


def plan_texts(parts: StoreParts, truth: SpaceTruth | None) -> TextWork:
    """Compare a space, None for one without any vector, with the passages that were read."""
    held = {} if truth is None else _held(*truth.every_place())
    work = TextWork()
    with open_index(parts) as index:
        known = index.recipes()
        with parts.database.read() as tx:
            chosen, in_use = texts.said_by_people(tx, known)
        for digest in sorted(known):
            have = held.pop(digest, {})
            if digest not in in_use:
                continue  # in the trash: it may come back
            if digest not in chosen:
                work.dead += [number for numbers in have.values() for number in numbers]
                continue
            wanted: dict[_Spot, int] = {
                _spot(one): len(one.text) for one in index.passages_of(digest)
            }
            missing = wanted.keys() - have.keys()
            if missing:
                work.missing[digest] = set(missing)
                work.missing_count += len(missing)
                work.missing_bytes += sum(wanted[one] for one in missing)
            for spot, numbers in have.items():
                # Of two vectors about one passage, such as from two stores, the first stays.
                work.dead += numbers[1:] if spot in wanted else numbers
    for gone in held.values():
        work.dead += [number for numbers in gone.values() for number in numbers]
    work.dead.sort()
    return work


def embed_texts(
    parts: StoreParts,
    writer: SpaceWriter,
    encoder: Encoder,
    work: TextWork,
    progress: Progress,
) -> int:
    """Carry out what was planned; return how many vectors came."""
    writer.bury(np.asarray(work.dead, np.int64))
    progress.stage(f"embed texts in {writer.row.name}", total_bytes=work.missing_bytes)
    encoding = EncodedParts(writer.row.space, encoder.encode_texts, KNOWN_TEXT)
    count = 0
    waiting: list[IndexedPassage] = []
    for one in _missing(parts, work):
        waiting.append(one)
        if len(waiting) >= _HELD_TEXTS:
            count += _encode(writer, encoding, waiting, progress)
            waiting = []
    return count + _encode(writer, encoding, waiting, progress)


def _missing(parts: StoreParts, work: TextWork) -> Iterator[IndexedPassage]:
    with open_index(parts) as index:
        for digest, wanted in work.missing.items():
            left = set(wanted)
            for one in index.passages_of(digest):
                if _spot(one) in left:
                    left.discard(_spot(one))
                    yield one


def _encode(
    writer: SpaceWriter,
    encoding: EncodedParts[str],
    passages: Sequence[IndexedPassage],
    progress: Progress,
) -> int:
    """Encode some passages and keep their vectors; return of how many."""
    if not passages:
        return 0
    # Of one length, so that little is padded; they are kept as they were read.
    order = sorted(range(len(passages)), key=lambda at: len(passages[at].text))
    rows = np.empty((len(passages), writer.row.space.dimension), np.float32)
    done: list[int] = []
    ended: HartonomousError | None = None
    for first in range(0, len(order), BATCH_TEXTS):
        batch = order[first : first + BATCH_TEXTS]
        found = encoding.encoded([embedded_text(passages[at]) for at in batch])
        kept = [batch[at] for at in found.kept]
        rows[kept] = found.vectors
        done += kept
        for at, why in found.refused.items():
            where = _where(writer.parts, passages[batch[at]])
            progress.note(f"{where} get no vector: {why}")
            if found.gave_up:
                ended = encoding.error(where)
        progress.advance(sum(len(passages[at].text) for at in batch))
        progress.count(len(kept))
        if ended is not None:
            break
    done.sort()
    if done:
        places = [
            Place(digest=one.digest, kind="passage", page=one.page, start=one.start, stop=one.stop)
            for one in (passages[at] for at in done)
        ]
        writer.append(places, rows[done], source=f"texts of blake3:{places[0].digest.hex()[:16]}")
    if ended is not None:
        raise ended  # what has vectors by now keeps them
    return len(done)


def _where(parts: StoreParts, one: IndexedPassage) -> str:
    """Say which passage it is."""
    with parts.database.read() as tx:
        uses = texts.uses(tx, [one.digest]).get(one.digest)
    file = uses[0].path if uses else f"blake3:{one.digest.hex()[:16]}"
    return f"{file}: its characters {one.start} to {one.stop}"


def embedded_text(one: IndexedPassage) -> str:
    """Return what of a passage is encoded: its headings say what it is about."""
    return f"{one.heading}\n{one.text}" if one.heading else one.text


def _spot(one: IndexedPassage) -> _Spot:
    return _Spot(one.page, one.start, one.stop)


def _held(ids: NDArray[np.int64], places: PlaceTable) -> dict[bytes, dict[_Spot, list[int]]]:
    digests = places.files()
    held: dict[bytes, dict[_Spot, list[int]]] = {}
    for number, (file, kind, page, start, stop, *_) in zip(
        ids.tolist(), places.rows.tolist(), strict=True
    ):
        if kind == _PASSAGE:
            held.setdefault(digests[file], {}).setdefault(_Spot(page, start, stop), []).append(
                number
            )
    return held


def rate(count: int, since: float) -> tuple[float, float]:
    """Return (seconds since a moment of ``time.monotonic``, things a second)."""
    took = time.monotonic() - since
    return took, count / took if took > 0 else 0.0
