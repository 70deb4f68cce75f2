"""What files say of a model that helps to find where its tensors came from."""

from collections.abc import Iterator
from typing import Any

from hartonomous.core.claims import Claims, NoticeLog
from hartonomous.core.declared import NUMBERS
from hartonomous.core.description import Description

MOST_HEADS = 65_536
MOST_BASES = 8
_BASE_KEYS = ("base_model_name_or_path", "_name_or_path")


def heads_of(description: Description) -> tuple[int, ...]:
    """Return the numbers of attention heads that a file's metadata names, each once.

    Rows of query and key weights are permuted by them in some formats. Values of other types, and
    those out of bounds, are passed over: they are hints.
    """
    found: dict[int, None] = {}
    for field in ("head_count", "kv_head_count"):
        names, suffix = NUMBERS[field]
        for value in _values(description.metadata, names, suffix):
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_HEADS:
                found[value] = None
    return tuple(found)


def _values(
    metadata: dict[str, Any], names: tuple[str, ...], suffix: str | None
) -> Iterator[object]:
    for name in names:
        yield metadata.get(name)
    for key, value in metadata.items():
        if suffix is not None and key.endswith(f".{suffix}"):
            yield from value[:8] if isinstance(value, list) else (value,)
        elif key in ("text_config", "llm_config") and isinstance(value, dict):
            for name in names:
                yield value.get(name)


def bases_of(description: Description) -> tuple[str, ...]:
    """Return the names of models that a file's metadata names as what this one was made from.

    A card's ``base_model``, an adapter's configuration, GGUF's ``general.base_model.*``, and where
    a configuration was loaded from. Each once, at most ``MOST_BASES``.
    """
    said = Claims(description.metadata, origin="", log=NoticeLog())
    found = said.texts("base_model")
    found += [text for key in _BASE_KEYS if (text := said.text(key))]
    for index in range(min(said.count("general.base_model.count") or 0, MOST_BASES)):
        key = f"general.base_model.{index}"
        name, owner = said.text(f"{key}.name"), said.text(f"{key}.organization")
        address = [part for part in (said.text(f"{key}.repo_url") or "").split("/") if part]
        found += ["/".join(address[-2:])] if len(address) > 3 else []
        found += [f"{owner}/{name}" if owner else name] if name else []
    return tuple(dict.fromkeys(found))[:MOST_BASES]
