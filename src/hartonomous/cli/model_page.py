"""A model's summary as people read it; the summary is the JSON that `core.model` makes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import count, parameters, several, share, size

Summary = Mapping[str, Any]

_TEXTS = (
    ("title", "title"),
    ("architecture", "architecture"),
    ("model type", "model_type"),
    ("licence", "licence"),
    ("task", "pipeline_tag"),
    ("library", "library"),
)
_NUMBERS = (
    ("context length", "context_length"),
    ("embedding", "embedding_length"),
    ("feed forward", "feed_forward_length"),
    ("heads", "head_count"),
    ("key-value heads", "kv_head_count"),
    ("experts", "expert_count"),
    ("experts used", "expert_used_count"),
    ("vocabulary", "vocabulary_size"),
)
_LISTS = (("languages", "languages"), ("card tags", "tags"), ("datasets", "datasets"))
_MOST_WORDS = 12


def model_fields(model: Summary | None) -> list[tuple[str, str | Cell]]:
    """Return named values of what is known; none for a file that is no model."""
    if model is None:
        return []
    rows: list[tuple[str, str | Cell]] = [
        (title, model[key]) for title, key in _TEXTS if model.get(key)
    ]
    rows.append(("parameters", _parameters(model)))
    rows.append(("formats", ", ".join(model["formats"])))
    if model.get("quantisation"):
        rows.append(("quantisation", _quantisation(model["quantisation"])))
    rows += [(title, count(model[key])) for title, key in _NUMBERS if model.get(key) is not None]
    if model.get("declared_base_models"):
        rows.append(("base models", ", ".join(map(_base, model["declared_base_models"]))))
    for title, part in _PARTS.items():
        if model.get(title):
            rows.append((title, part(model[title])))
    if model.get("findings"):
        rows.append(("would run", _findings(model["findings"])))
    rows += [(title, _words(model[key])) for title, key in _LISTS if model.get(key)]
    return rows


def model_blocks(model: Summary | None) -> Iterable[Block]:
    """Yield the tables of dtypes, of roles, and of weight sets where there are several."""
    if model is None:
        return
    for title in ("dtypes", "roles"):
        if model.get(title):
            yield ""
            yield _shares(title[:-1], model[title], model["parameter_count"])
    if model.get("components"):
        yield ""
        yield _components(model["components"])
    if len(model["weight_sets"]) > 1:
        yield ""
        yield _weight_sets(model["weight_sets"])
    yield from (Cell(f"note: {notice['text']}", "warn") for notice in model.get("notices", ()))


def _parameters(model: Summary) -> str:
    number = model["parameter_count"]
    bits = model.get("bits_per_weight")
    exact = f"{parameters(number)} ({count(number)})" if number >= 1000 else str(number)
    return exact if bits is None else f"{exact}, {bits:.2f} bits each"


def _quantisation(found: Mapping[str, Any]) -> str:
    words = [str(found[key]) for key in ("method", "file_type") if found.get(key)]
    if found.get("bits"):
        words.append(f"{found['bits']} bits")
    if found.get("group_size"):
        words.append(f"groups of {count(found['group_size'])}")
    return ", ".join(dict.fromkeys(words)) or "yes"


def _base(found: Mapping[str, Any]) -> str:
    return f"{found['name']} ({found.get('relation') or 'declared'}, {found['said_by']})"


def _tokenizer(found: Mapping[str, Any]) -> str:
    words = [found["kind"]] if found.get("kind") else []
    if found.get("vocabulary_size") is not None:
        words.append(f"{count(found['vocabulary_size'])} tokens")
    if found.get("files"):
        words.append(_words(found["files"]))
    return ", ".join(words) or "yes"


def _training(found: Mapping[str, Any]) -> str:
    words = ["optimizer state" if found["has_optimizer_state"] else "no optimizer state"]
    if found.get("step") is not None:
        words.append(f"step {count(found['step'])}")
    return ", ".join(words)


def _adapter(found: Mapping[str, Any]) -> str:
    words = [found["kind"]]
    words += [f"{key} {found[key]:g}" for key in ("rank", "alpha") if found.get(key) is not None]
    if found.get("target_modules"):
        words.append(_words(found["target_modules"]))
    return ", ".join(words)


def _checkpoint(found: Mapping[str, Any]) -> str:
    words = [found["kind"], several(found["file_count"], "file")]
    if found.get("tensor_count") is not None:
        words.append(several(found["tensor_count"], "whole tensor"))
    words += [f"{several(number, f'{way} rank')}" for way, number in found.get("ranks", {}).items()]
    if found.get("step") is not None:
        words.append(f"step {count(found['step'])}")
    return ", ".join(words)


def _findings(found: list[Mapping[str, Any]]) -> Cell:
    counts = Counter(one["severity"] for one in found)
    told = ", ".join(f"{number:,} {word}" for word, number in counts.items())
    return Cell(f"{told} (hart scan tells)", "bad" if counts["danger"] else "warn")


_PARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "tokenizer": _tokenizer, "training": _training, "checkpoint": _checkpoint, "adapter": _adapter,
}  # fmt: skip


def _components(components: list[Mapping[str, Any]]) -> Table:
    columns = (
        Column("component"),
        Column("class", extra=True),
        Column("tensors", right=True, extra=True),
        Column("parameters", right=True),
        Column("size", right=True),
        Column("dtypes", extra=True),
    )
    return Table(
        columns=columns,
        rows=[
            (
                one["name"],
                one.get("class_name") or one.get("architecture") or "-",
                count(one["tensor_count"]),
                parameters(one["parameter_count"]),
                size(one["tensor_bytes"]),
                ", ".join(one["dtypes"][:3]),
            )
            for one in components
        ],
    )


def _words(words: list[str]) -> str:
    more = len(words) - _MOST_WORDS
    return ", ".join(words[:_MOST_WORDS]) + (f" and {more} more" if more > 0 else "")


def _shares(title: str, shares: Mapping[str, Mapping[str, int]], parameter_count: int) -> Table:
    columns = (
        Column(title),
        Column("tensors", right=True, extra=True),
        Column("parameters", right=True),
        Column("of all", right=True, extra=True),
        Column("size", right=True),
    )
    ordered = sorted(shares.items(), key=lambda item: (-item[1]["bytes"], item[0]))
    return Table(
        columns=columns,
        rows=[
            (
                name,
                count(part["tensors"]),
                parameters(part["parameters"]),
                share(part["parameters"], parameter_count),
                size(part["bytes"]),
            )
            for name, part in ordered
        ],
    )


def _weight_sets(sets: list[Mapping[str, Any]]) -> Table:
    columns = (
        Column("weights"),
        Column("format", whole=True, extra=True),
        Column("files", right=True, extra=True),
        Column("parameters", right=True),
        Column("counted"),
    )
    return Table(
        columns=columns,
        rows=[
            (
                one["name"],
                one["format"],
                count(one["file_count"]),
                parameters(one["parameter_count"]),
                "yes" if one["counted"] else "no",
            )
            for one in sets
        ],
    )
