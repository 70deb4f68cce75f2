"""Encoders of a store: models whose versions carry an ``encoder.recipe``, opened to compute.

The mark, a list of ``EncoderCard`` as JSON, is metadata of the version, so the journal, repair and
copies keep it. The model stays an ordinary artifact; its graph is built, or read, from the stored
files each time it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hartonomous.catalog import versions
from hartonomous.core.name import MAX_META_BYTES
from hartonomous.core.space import RECIPE_KEY, Space
from hartonomous.errors import AmbiguousNameError, LimitError, NotFoundError, UsageError
from hartonomous.inference.recipe import COMPUTED_BY, Quantisation
from hartonomous.packs.open_files import OpenFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.stored_encoder import StoredEncoder, open_files_as_encoder

_cards_encoder = msgspec.json.Encoder(order="deterministic")


class EncoderCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an encoder beside its files, in the metadata of its version.

    ``name`` is its name in spaces, whatever becomes of the artifact's. ``digest`` is that of the
    files that compute and of what they say. ``dimensions`` are those of each modality. ``probe``
    are the first numbers of the vectors of fixed texts, by which another machine sees that it
    computes the same.
    """

    name: str
    quantisation: Quantisation
    digest: str
    dimensions: dict[str, int]
    computed_by: str = COMPUTED_BY
    probe: tuple[tuple[float, ...], ...] = ()


_cards = msgspec.json.Decoder(list[EncoderCard])


class Kept(NamedTuple):
    """An encoder of a store: the version it runs from, as ``NAME@NUMBER``, and its card."""

    spec: str
    card: EncoderCard


def open_encoder(parts: StoreParts, files: OpenFiles, name: str) -> StoredEncoder:
    """Open an encoder by its name, or that of its artifact; close it after use.

    Raises NotFoundError where there is none, UsageError where it is read otherwise now than when
    it was added.
    """
    return open_kept(parts, files, find_kept(parts, name))


def open_encoder_of(parts: StoreParts, files: OpenFiles, space: Space) -> StoredEncoder:
    """Open the encoder that makes vectors of a space; raises NotFoundError where it is gone."""
    for kept in kept_encoders(parts):
        if kept.card.digest == space.encoder_digest and kept.card.name == space.encoder:
            return open_kept(parts, files, kept)
    raise NotFoundError(
        f"the encoder of the space {space.title()} is not in the store",
        hint="'hart encoders ls' lists those that are",
    )


def open_kept(parts: StoreParts, files: OpenFiles, kept: Kept) -> StoredEncoder:
    """Open an encoder that was found; raises UsageError where it is read otherwise now."""
    version, card = find_version(parts, kept.spec), kept.card
    again = f"'hart encoders add {version.version.name}' adds it anew, as another space"
    if card.computed_by != COMPUTED_BY:
        raise UsageError(
            f"the encoder {card.name} was added by a version that computes otherwise", hint=again
        )
    encoder = open_files_as_encoder(parts, files, version, card.quantisation, card.name)
    if encoder.digest != card.digest:
        raise UsageError(
            f"the files of the encoder {card.name} are read otherwise than when it was added",
            hint=again,
        )
    encoder.dimensions.update(card.dimensions)
    return encoder


def find_kept(parts: StoreParts, name: str) -> Kept:
    """Return an encoder by its name, the newest of it, else by ``NAME`` or ``NAME@X`` of its model.

    Raises NotFoundError, and AmbiguousNameError where a version has several.
    """
    every = kept_encoders(parts)
    named = [one for one in every if one.card.name == name]
    if named:
        return named[-1]
    try:
        spec = find_version(parts, name).spec
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no encoder {name!r}", hint="'hart encoders ls' lists those of this store"
        ) from error
    found = [one for one in every if one.spec == spec]
    if not found:
        raise NotFoundError(
            f"{spec} is no encoder", hint=f"'hart encoders add {name}' makes it one"
        )
    if len(found) > 1:
        raise AmbiguousNameError(
            f"{spec} has {len(found)} encoders",
            hint=f"name one of them: {', '.join(one.card.name for one in found)}",
        )
    return found[0]


def kept_encoders(parts: StoreParts) -> list[Kept]:
    """Return every encoder of versions in use, by artifact and number."""
    with parts.database.read() as tx:
        found = versions.with_metadata(tx, RECIPE_KEY)
    return [
        Kept(f"{row.name}@{row.number}", card) for row, value in found for card in cards_in(value)
    ]


def cards_in(value: str) -> list[EncoderCard]:
    """Return the cards that a metadata value holds; none where it is something else."""
    try:
        return _cards.decode(value or "[]")
    except (msgspec.DecodeError, ValueError):
        return []  # anybody may set metadata of this name


def cards_value(cards: Sequence[EncoderCard]) -> str:
    """Return the metadata value of some cards; raises LimitError where they are too many."""
    value = _cards_encoder.encode(list(cards)).decode()
    if len(value.encode()) > MAX_META_BYTES:
        raise LimitError(
            "the version has more encoders than its metadata has room for",
            hint="'hart encoders rm NAME' takes one away",
        )
    return value
