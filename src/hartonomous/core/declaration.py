"""What a declared base means: the relation that files name, in this program's words."""

from hartonomous.core.relation import RelationKind

_WORDS = {
    "finetune": RelationKind.FINE_TUNE_OF,
    "fine-tune": RelationKind.FINE_TUNE_OF,
    "quantized": RelationKind.QUANTISED_FROM,
    "quantised": RelationKind.QUANTISED_FROM,
    "merge": RelationKind.MERGED_FROM,
    "adapter": RelationKind.ADAPTER_OF,
}


def declared_kind(word: str | None, *, adapter: bool, quantised: bool) -> RelationKind:
    """Return the relation that a model card's word means; without one, what the model itself is."""
    if word is not None and word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if adapter:
        return RelationKind.ADAPTER_OF
    return RelationKind.QUANTISED_FROM if quantised else RelationKind.FINE_TUNE_OF


def names_meant(declared: str) -> tuple[str, ...]:
    """Return the artifact names that a declared base may mean, the likeliest first.

    ``org/name`` may be kept under that name or under its last part; a path under its last part.
    """
    cleaned = declared.strip().rstrip("/").replace("\\", "/")
    tail = cleaned.rsplit("/", 1)[-1]
    two = "/".join(cleaned.split("/")[-2:])
    return tuple(dict.fromkeys(one for one in (cleaned, two, tail) if one))
