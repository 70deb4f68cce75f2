"""Layers of a model: which block a tensor's name puts it in, and weights grouped by layer.

``encoder.layer.3.output.dense.weight`` lies in layer 3 of the group ``encoder.layer``. Names that
carry no layer index are gathered by their module: embeddings, heads, and the rest.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache

import msgspec

from hartonomous.core.claims import clean
from hartonomous.core.item_names import whole_name
from hartonomous.core.role import EMBEDDINGS, MAX_NAME_CHARACTERS, Role
from hartonomous.core.weight import MAX_COUNT, Weight, bounded_sum, sums_by

MAX_LAYER_NAME_BYTES = 512
_MAX_INDEX_DIGITS = 6
_SCANNED_PARTS = 64

# Lists of repeated blocks; ``layer1.0`` is ResNet's, ``…_blocks`` that of diffusion models.
_CONTAINER = re.compile(
    r"(?:\w*_)?(?:layers?|blocks?|blk|resblocks|resnets|attentions|stages?|downsamplers"
    r"|upsamplers)\d*|h"
)
# Lists whose entries hold further lists of blocks; the inner one is the layer.
_STAGES = re.compile(r"(?:down|up)_blocks|stages?")
_INNER = frozenset({"blocks", "resnets", "attentions", "layers", "downsamplers", "upsamplers"})
# One part with its index: ``layer_3`` of TensorFlow, ``h_3``.
_JOINED = re.compile(rf"(layers?|blocks?|h)_([0-9]{{1,{_MAX_INDEX_DIGITS}}})")
_EMBEDDING_PART = re.compile(r"emb(?!d_norm)|^wte$|^wpe$|^shared$|_token$")
_HEAD_PART = re.compile(r"head|^cls$|pooler|classifier|score|qa_outputs|projection$|^output$")
_LEAVES = frozenset({"weight", "bias", "kernel", "gamma", "beta"})
_SEPARATOR = re.compile(r"[./]")
# What ``_is_index`` says yes to, and no other part.
_INDEX = re.compile(rf"(?<![^./])[0-9]{{1,{_MAX_INDEX_DIGITS}}}(?![^./])")


class LayerKind(StrEnum):
    """What a layer is to its model, in the order in which layers are listed."""

    EMBEDDING = "embedding"
    BLOCK = "block"
    OTHER = "other"
    HEAD = "head"


_ORDER = {kind: rank for rank, kind in enumerate(LayerKind)}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer with the sums of its tensors; ``parameter_count`` leaves out buffers and scales."""

    name: str
    kind: LayerKind
    tensor_count: int
    parameter_count: int
    tensor_bytes: int


def layer_of(name: str) -> tuple[str, int] | None:
    """Return the layer that ``name`` lies in, as (group, index), or None.

    The group is the path of the list of blocks: ``("model.layers", 17)``, ``("blk", 0)``,
    ``("down_blocks.1.resnets", 0)``. Of nested lists the outer one counts (a T5 block has layers of
    its own), except below the stages of U-Nets and hierarchical vision models.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        return None
    at = _index_part(_INDEX.sub("0", name))
    if at is None:
        return None
    parts = _parts(name)
    joined = _JOINED.fullmatch(parts[at])
    if joined is not None:
        return ".".join([*parts[:at], joined[1]]), int(joined[2])
    return ".".join(parts[:at]), int(parts[at])


@lru_cache(maxsize=1024)
def _index_part(name: str) -> int | None:
    """Return which part of ``name`` holds the layer's index, whatever the index is."""
    parts = _parts(name)
    for at, part in enumerate(parts):
        if _JOINED.fullmatch(part) is not None:
            return at
        if at == 0 or not _is_index(part) or _CONTAINER.fullmatch(parts[at - 1]) is None:
            continue
        return at + 2 if _holds_blocks(parts, at) else at
    return None


def layer_name(weight: Weight) -> str | None:
    """Return the name of the block that a tensor lies in, or None.

    ``encoder.layer.3``, or ``text_encoder/encoder.layer.3`` for a file in a folder of its own.
    """
    found = layer_of(whole_name(weight.name))
    return None if found is None else _named(weight, f"{found[0]}.{found[1]}")


def group_layers(weights: Iterable[Weight], *, limit: int) -> list[Layer]:
    """Return the layers of a model: embeddings, blocks by group and index, the rest, heads.

    The order does not depend on that of ``weights``. At most ``limit`` entries; those beyond are
    summed up in a last one of kind ``other``.
    """
    sums = sums_by(weights, _place)
    ordered = sorted(sums.items(), key=lambda item: (_ORDER[item[0][0]], _natural(item[0][1])))
    layers = [_layer(name, kind, *total) for (kind, name), total in ordered]
    return layers if len(layers) <= limit else [*layers[: limit - 1], _rest(layers[limit - 1 :])]


def _parts(name: str) -> list[str]:
    parts = _SEPARATOR.split(name, maxsplit=_SCANNED_PARTS)
    return parts[:_SCANNED_PARTS]


def _is_index(part: str) -> bool:
    return len(part) <= _MAX_INDEX_DIGITS and part.isascii() and part.isdigit()


def _holds_blocks(parts: Sequence[str], at: int) -> bool:
    """Say whether the entry at index part ``at`` is a stage with a list of blocks below it."""
    if at + 2 >= len(parts) or parts[at + 1] not in _INNER or not _is_index(parts[at + 2]):
        return False
    below_layers = parts[at - 1] == "layers" and parts[at + 1] == "blocks"
    return below_layers or _STAGES.fullmatch(parts[at - 1]) is not None


def _place(weight: Weight) -> tuple[LayerKind, str]:
    """Return the layer of one weight, as (kind, name)."""
    if weight.role is Role.OPTIMIZER_STATE:
        return LayerKind.OTHER, _named(weight, "optimizer state")
    if len(weight.name) > MAX_NAME_CHARACTERS:
        return LayerKind.OTHER, _named(weight, "overlong names")
    block = layer_name(weight)
    if block is not None:
        return LayerKind.BLOCK, block
    parts = _parts(whole_name(weight.name))
    if weight.role is Role.HEAD:
        return LayerKind.HEAD, _named(weight, _module(parts, _HEAD_PART))
    if weight.role in EMBEDDINGS or "embeddings" in parts:
        return LayerKind.EMBEDDING, _named(weight, _module(parts, _EMBEDDING_PART))
    return LayerKind.OTHER, _named(weight, _module(parts, None))


def _module(parts: list[str], marked: "re.Pattern[str] | None") -> str:
    """Return the path up to the first part that ``marked`` finds, else without the leaf."""
    if marked is not None:
        for at, part in enumerate(parts):
            if marked.search(part.lower()):
                return ".".join(parts[: at + 1])
    if len(parts) > 1 and parts[-1].lower() in _LEAVES:
        parts = parts[:-1]
    return ".".join(parts)


def _named(weight: Weight, layer: str) -> str:
    name = f"{weight.folder}/{layer}" if weight.folder else layer
    return clean(name, MAX_LAYER_NAME_BYTES)


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if _is_index(p) else (1, 0, p) for p in _SEPARATOR.split(name)]


def _layer(name: str, kind: LayerKind, tensors: int, parameters: int, size: int) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        tensor_count=tensors,
        parameter_count=min(MAX_COUNT, parameters),
        tensor_bytes=min(MAX_COUNT, size),
    )


def _rest(layers: Sequence[Layer]) -> Layer:
    return _layer(
        f"({len(layers)} more layers)",
        LayerKind.OTHER,
        sum(layer.tensor_count for layer in layers),
        bounded_sum(layer.parameter_count for layer in layers),
        bounded_sum(layer.tensor_bytes for layer in layers),
    )
