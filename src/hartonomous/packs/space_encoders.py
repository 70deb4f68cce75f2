"""Encoders by name: those that are rules and always there, and those that the store keeps."""

from collections.abc import Callable

from hartonomous.core import hashed_ngrams, layout_rule
from hartonomous.core.space import Space
from hartonomous.errors import ConflictError
from hartonomous.packs.encoders import open_encoder, open_encoder_of
from hartonomous.packs.open_files import OpenFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.encoder import Encoder

RULES: dict[str, Callable[[], Encoder]] = {
    hashed_ngrams.NAME: hashed_ngrams.HashedNgrams,
    layout_rule.NAME: layout_rule.LayoutRule,
}
"""Rules, by name."""
FIRST = {"text": hashed_ngrams.NAME, "picture": layout_rule.NAME}
"""The rule for a modality that has no space yet."""


def encoder_named(parts: StoreParts, files: OpenFiles, name: str) -> Encoder:
    """Return an encoder, to be closed; raises NotFoundError, and what opening it raises."""
    rule = RULES.get(name)
    return open_encoder(parts, files, name) if rule is None else rule()


def encoder_of(parts: StoreParts, files: OpenFiles, space: Space) -> Encoder:
    """Return the encoder that computes a space's vectors, to be closed.

    Raises NotFoundError where the store does not keep it, ConflictError where what it keeps under
    that name computes another space.
    """
    rule = RULES.get(space.encoder)
    found = open_encoder_of(parts, files, space) if rule is None else rule()
    try:
        now = found.space(space.modality)
        if now.key != space.key:
            raise ConflictError(
                f"the encoder {space.encoder!r} computes {now.title()} now, which is another space "
                f"than {space.title()}",
                hint=f"hart embed --encoder {space.encoder} makes the new space",
            )
    except BaseException:
        found.close()
        raise
    return found
