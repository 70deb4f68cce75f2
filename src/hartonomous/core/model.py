"""A model: what its files' descriptions add up to, as one bounded summary.

`summarise` reads descriptions only; it opens nothing and trusts nothing. Which of several copies of
the same weights count is the rule of `core.weight_set`; all sums, histograms and layers are over
the sets that count. ``parameter_count`` is the number of elements of weight tensors: buffers, rope
tables, quantisation scales and optimizer state are left out, ggml's quantised types count their
elements; weights packed into integers (GPTQ, AWQ, bitsandbytes) count what they hold where
`core.packed_weight` knows it, and as stored otherwise, with a notice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from hartonomous.core import declared
from hartonomous.core.checkpoint import Checkpoint, find_checkpoint
from hartonomous.core.claims import MAX_NUMBER, NoticeLog, clean
from hartonomous.core.component import Component, component_parts
from hartonomous.core.declared import Adapter, DeclaredBase, Sources, Tokenizer, Training
from hartonomous.core.description import Notice, Tensor
from hartonomous.core.finding import Finding, find_code
from hartonomous.core.layer import Layer, LayerKind, group_layers, layer_name
from hartonomous.core.packed_weight import is_packed
from hartonomous.core.quantisation import Quantisation, bits_per_weight, find_quantisation
from hartonomous.core.role import Role
from hartonomous.core.weight import Weight, bounded_sum, sums_by, weigh
from hartonomous.core.weight_set import (
    Copy,
    Member,
    WeightSet,
    copies_of,
    counted_copies,
    optimizer_tensors,
)

MAX_LAYERS = 4096
MAX_WEIGHT_SETS = 64
MAX_DTYPES = 64
MAX_FINDINGS = 64
"""Of what would run; `hart scan` lists all."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a model's tensors; ``parameters`` add up to the model's."""

    tensors: int
    parameters: int
    bytes: int


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is: one JSON object, described by the schema of `core.model_schema`.

    Sizes are bytes, lengths are elements. A field is absent when nothing says what it is.
    """

    formats: list[str]
    parameter_count: int
    tensor_count: int
    tensor_bytes: int
    weight_sets: list[WeightSet]
    dtypes: dict[str, Share]
    roles: dict[str, Share]
    layers: list[Layer]
    layer_count: int
    architecture: str | None = None
    model_type: str | None = None
    name: str | None = None
    title: str | None = None
    summary: str | None = None
    quantisation: Quantisation | None = None
    bits_per_weight: float | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    vocabulary_size: int | None = None
    head_count: int | None = None
    kv_head_count: int | None = None
    feed_forward_length: int | None = None
    expert_count: int | None = None
    expert_used_count: int | None = None
    licence: str | None = None
    declared_base_models: list[DeclaredBase] = []
    tokenizer: Tokenizer | None = None
    training: Training | None = None
    adapter: Adapter | None = None
    checkpoint: Checkpoint | None = None
    components: list[Component] = []
    languages: list[str] = []
    tags: list[str] = []
    datasets: list[str] = []
    pipeline_tag: str | None = None
    library: str | None = None
    findings: list[Finding] = []
    notices: list[Notice] = []


def summarise(members: Sequence[Member]) -> ModelSummary | None:
    """Return what the members (path in the artifact, description) are as a model.

    None if no member has tensors. Never raises on what files claim: wrong values are left out with
    a notice. The result does not depend on the order of the members.
    """
    summary = _summary_of(members)
    if summary is None:
        return None
    ordered = sorted(members, key=lambda member: member[0])
    log = NoticeLog(summary.notices)
    return msgspec.structs.replace(
        summary,
        components=_components(ordered, log),
        findings=find_code(ordered)[:MAX_FINDINGS],
        notices=log.notices(),
    )


def _summary_of(members: Sequence[Member]) -> ModelSummary | None:
    """Return the summary without the parts of a pipeline and without what would run."""
    ordered = sorted(members, key=lambda member: member[0])
    copies = copies_of(ordered)
    if not copies:
        return None
    log = NoticeLog()
    counted = counted_copies(copies)
    weights = [weight for copy in counted for weight in copy.weights]
    summed = _summed(copies, counted, weights, log)
    sources = declared.find_sources(ordered, counted, log)
    checkpoint = find_checkpoint(ordered, log)
    changes = {
        **_declared_fields(sources),
        **_numbers(sources, weights),
        "quantisation": find_quantisation(weights, sources.quantisation, sources.gguf, log),
        "training": declared.training_of(
            sources,
            len(optimizer_tensors(copies)),
            step=None if checkpoint is None else checkpoint.step,
        ),
        "adapter": declared.adapter_of(sources, _lora_rank(weights)),
        "checkpoint": checkpoint,
    }
    return msgspec.structs.replace(summed, **changes, notices=log.notices())


def tensor_facts(path: str, tensors: Iterable[Tensor]) -> list[tuple[Role, str | None]]:
    """Return each tensor's role, and the name of its block as in ``ModelSummary.layers`` or None.

    ``path`` is the path of their file inside the artifact.
    """
    return [(weight.role, layer_name(weight)) for weight in weigh(path, tensors)]


def _summed(
    copies: Sequence[Copy], counted: Sequence[Copy], weights: Sequence[Weight], log: NoticeLog
) -> ModelSummary:
    """Return the summary of the tensors alone."""
    if is_packed(weights):
        log.add("packed-weights", "some weights are packed into integers and counted as stored")
    layers = group_layers(weights, limit=MAX_LAYERS)
    return ModelSummary(
        formats=sorted({clean(copy.format, 64) for copy in copies})[:MAX_WEIGHT_SETS],
        parameter_count=bounded_sum(weight.parameter_count for weight in weights),
        tensor_count=len(weights),
        tensor_bytes=bounded_sum(weight.size_bytes for weight in weights),
        weight_sets=_weight_sets(copies, counted, log),
        dtypes=_shares(weights, lambda weight: clean(weight.tensor.dtype, 64)),
        roles=_shares(weights, lambda weight: weight.role.value),
        layers=layers,
        layer_count=sum(layer.kind is LayerKind.BLOCK for layer in layers),
        bits_per_weight=bits_per_weight(weights),
    )


def _weight_sets(
    copies: Sequence[Copy], counted: Sequence[Copy], log: NoticeLog
) -> list[WeightSet]:
    """Return the sets that count, the largest first, then the others by path."""
    counted_ids = {id(copy) for copy in counted}
    others = [copy for copy in copies if id(copy) not in counted_ids]
    if len(copies) > MAX_WEIGHT_SETS:
        left = len(copies) - MAX_WEIGHT_SETS
        log.add("weight-sets", f"{left} of {len(copies)} weight sets are not listed")
    listed = [(copy, True) for copy in counted] + [(copy, False) for copy in others]
    return [copy.summed(counted=counts) for copy, counts in listed[:MAX_WEIGHT_SETS]]


def _shares(weights: Sequence[Weight], key: Callable[[Weight], str]) -> dict[str, Share]:
    """Return the histogram of ``key``, the largest share first; what is beyond 64 is ``other``."""
    sums = sums_by(weights, key)
    ordered = sorted(sums.items(), key=lambda item: (-item[1][2], item[0]))
    shares = {name: _share([total]) for name, total in ordered[: MAX_DTYPES - 1]}
    rest = [total for name, total in ordered if name not in shares]
    return {**shares, "other": _share([*rest, *_totals(shares, "other")])} if rest else shares


def _totals(shares: Mapping[str, Share], name: str) -> list[list[int]]:
    found = shares.get(name)
    return [[found.tensors, found.parameters, found.bytes]] if found else []


def _share(totals: Sequence[Sequence[int]]) -> Share:
    return Share(
        tensors=bounded_sum(total[0] for total in totals),
        parameters=bounded_sum(total[1] for total in totals),
        bytes=bounded_sum(total[2] for total in totals),
    )


def _numbers(sources: Sources, weights: Sequence[Weight]) -> dict[str, int]:
    """Return the model's dimensions: as declared, else as its token embedding shows them.

    ``layer_count`` is left out, and so stays the number of blocks found, where nothing declares it.
    """
    found = {field: declared.number_of(field, sources) for field in declared.NUMBERS}
    if found["vocabulary_size"] is None:
        found["vocabulary_size"] = sources.gguf.length("tokenizer.ggml.tokens")
    shapes = {
        weight.tensor.shape
        for weight in weights
        if weight.role is Role.EMBEDDING_TOKEN and len(weight.tensor.shape) == 2
    }
    if len(shapes) == 1:
        rows, width = shapes.pop()
        for field, value in (("vocabulary_size", rows), ("embedding_length", width)):
            if found[field] is None and 0 < value <= MAX_NUMBER:
                found[field] = value
    return {field: value for field, value in found.items() if value is not None}


def _declared_fields(sources: Sources) -> dict[str, Any]:
    """Return what the card, the configuration and GGUF's keys say in words."""
    architecture, model_type = declared.architecture_of(sources)
    card, gguf = sources.card, sources.gguf
    return {
        "architecture": architecture,
        "model_type": model_type,
        "name": gguf.text("general.name"),
        "title": card.text("title"),
        "summary": card.text("summary") or gguf.text("general.description"),
        "licence": declared.licence_of(sources),
        "declared_base_models": declared.declared_bases(sources),
        "tokenizer": declared.tokenizer_of(sources),
        "languages": card.texts("language") or gguf.texts("general.languages"),
        "tags": card.texts("tags") or gguf.texts("general.tags"),
        "datasets": card.texts("datasets"),
        "pipeline_tag": card.text("pipeline_tag"),
        "library": card.text("library_name"),
    }


def _components(members: Sequence[Member], log: NoticeLog) -> list[Component]:
    """Return the models that a pipeline is made of, each summed up by itself."""
    found = []
    for part in component_parts(members, log):
        inner = _summary_of(part.members)
        if inner is not None:
            found.append(
                Component(
                    name=part.name,
                    library=part.library,
                    class_name=part.class_name,
                    architecture=inner.architecture,
                    parameter_count=inner.parameter_count,
                    tensor_count=inner.tensor_count,
                    tensor_bytes=inner.tensor_bytes,
                    layer_count=inner.layer_count,
                    dtypes=list(inner.dtypes),
                    quantisation=inner.quantisation,
                )
            )
    return found


def _lora_rank(weights: Sequence[Weight]) -> int | None:
    """Return the rank of low-rank adapter tensors: the smaller extent of the first ``lora_A``."""
    shapes = (weight.tensor.shape for weight in weights if weight.role is Role.LORA_A)
    return next(
        (min(shape) for shape in shapes if len(shape) == 2 and 0 < min(shape) <= MAX_NUMBER), None
    )
