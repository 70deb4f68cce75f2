"""What is said of versions, as the index of words holds it: names, tags, metadata, model cards.

A summary of a model is decoded once for each version; what people change later (names, tags,
metadata) is compared by a digest whenever the catalog changed.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from hartonomous.catalog import texts
from hartonomous.catalog.database import Database
from hartonomous.catalog.texts import VersionWords
from hartonomous.core.digest import digest
from hartonomous.core.indexed_text import SaidVersion
from hartonomous.core.space import RECIPE_KEY
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.text_index import TextIndex

_RECIPE = "said-2"
_AT_ONCE = 200
_SAID = (
    "title", "summary", "architecture", "model_type", "licence", "library", "pipeline_tag",
    "formats", "languages", "tags", "datasets",
)  # fmt: skip


def update_said(parts: StoreParts, index: TextIndex) -> None:
    """Bring what is said of versions up to date."""
    with parts.database.read() as tx:
        listed = texts.versions(tx)
        annotations = texts.tags_and_metadata(tx)
    known = index.stamps()
    waiting = []
    for one in listed:
        tags, metadata = annotations.get(one.version_id, (set(), {}))
        stamp = _stamp(one, tags, metadata)
        if known.pop(one.uid, None) != stamp:
            waiting.append((one, stamp, tags, metadata))
    for at in range(0, len(waiting), _AT_ONCE):
        some = waiting[at : at + _AT_ONCE]
        with parts.database.read() as tx:
            models = texts.models(tx, [one.version_id for one, *_ in some])
        index.put_said(
            SaidVersion(
                uid=one.uid,
                stamp=stamp,
                text=said_of(one.name, tags, metadata, models.get(one.version_id, {})),
            )
            for one, stamp, tags, metadata in some
        )
    if known:
        index.forget_said(known)


def _stamp(one: VersionWords, tags: set[str], metadata: dict[str, str]) -> bytes:
    # The id too: a catalog that was rebuilt may have made another summary.
    told = [_RECIPE, str(one.version_id), one.name, sorted(tags), sorted(metadata.items())]
    return digest(msgspec.json.encode(told))


def said_of(
    name: str, tags: Sequence[str] | set[str], metadata: dict[str, str], model: dict[str, Any]
) -> str:
    """Return what is said of a version, in one line."""
    # How an encoder computes is JSON for the program: its words would be found everywhere.
    notes = (f"{key}: {value}" for key, value in metadata.items() if key != RECIPE_KEY)
    told: list[Any] = [name, *sorted(tags), *notes]
    for key in _SAID:
        value = model.get(key)
        told.extend(value if isinstance(value, list) else [value])
    return " · ".join(item for item in told if isinstance(item, str))


def said_of_versions(database: Database, shown: Sequence[VersionWords]) -> dict[int, str]:
    """Return {version id: what is said of it now}."""
    ids = [one.version_id for one in shown]
    with database.read() as tx:
        annotations = texts.tags_and_metadata(tx, ids)
        models = texts.models(tx, ids)
    told = {}
    for one in shown:
        tags, metadata = annotations.get(one.version_id, (set(), {}))
        told[one.version_id] = said_of(one.name, tags, metadata, models.get(one.version_id, {}))
    return told
