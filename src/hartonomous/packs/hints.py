"""What files say of a model that helps to find where its tensors came from."""

from collections.abc import Iterator
from typing import Any

from hartonomous.core.declared import NUMBERS
from hartonomous.core.description import Description

MOST_HEADS = 65_536


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
