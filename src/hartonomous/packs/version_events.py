"""The events of a version that is published: that it is there, and what it is as a model."""

from collections.abc import Iterator
from typing import Any

from hartonomous.catalog.effects import first_of
from hartonomous.catalog.versions import NewVersion
from hartonomous.core.digest import format_digest
from hartonomous.core.event import NewEvent, short
from hartonomous.packs.proposal import Proposal

_MOST_NAMED = 16


def version_events(
    proposal: Proposal, *, artifact: bytes, name: str, number: int, sequence: int, host: str
) -> Iterator[NewEvent]:
    """Yield the events of a new version; ``artifact`` is the artifact's uid."""
    about = {
        "artifact": artifact.hex(),
        "name": name,
        "version": number,
        "digest": format_digest(proposal.digest),
        "sequence": sequence,
    }
    sizes = {
        "logical_bytes": sum(file.size for file in proposal.files),
        "file_count": len(proposal.files),
        "tensor_count": proposal.tensor_count,
        "parameter_count": proposal.parameter_count,
    }
    data = {
        **about,
        **sizes,
        "kind": proposal.kind,
        "source": {"host": short(host), "place": short(proposal.source_place)},
        "labels": first_of(proposal.labels),
        "tags": first_of(proposal.tags),
    }
    yield NewEvent("artifact.added" if number == 1 else "artifact.updated", name, data)
    if proposal.model is not None:
        yield NewEvent("model.ingested", name, {**about, **sizes, **_told(proposal.model)})


def received_events(
    commit: dict[str, Any], new: NewVersion, *, name: str, number: int
) -> Iterator[NewEvent]:
    """Yield the events of a version that another store made; ``commit`` is its record here."""
    about = {
        "artifact": commit["artifact"],
        "name": name,
        "version": number,
        "digest": format_digest(new.digest),
        "sequence": commit["seq"],
    }
    sizes = {
        "logical_bytes": new.size_bytes,
        "file_count": len(new.members),
        "tensor_count": new.tensor_count,
        "parameter_count": new.parameter_count,
    }
    data = {
        **about,
        **sizes,
        "kind": new.kind,
        "source": {"host": short(new.source_host), "place": short(new.source_place)},
        "labels": [],
        "tags": first_of(new.tags),
    }
    yield NewEvent("artifact.added" if number == 1 else "artifact.updated", name, data)
    if new.model is not None:
        yield NewEvent("model.ingested", name, {**about, **sizes, **_told(new.model)})


def _told(model: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says of a model's summary (see ``core.model``)."""
    quantisation = model.get("quantisation") or {}
    return {
        "architecture": model.get("architecture"),
        "model_type": model.get("model_type"),
        "licence": model.get("licence"),
        "layer_count": model["layer_count"],
        "formats": model["formats"][:_MOST_NAMED],
        "dtypes": list(model["dtypes"])[:_MOST_NAMED],
        "quantisation": quantisation.get("method"),
        "declared_bases": [one["name"] for one in model.get("declared_base_models", ())][
            :_MOST_NAMED
        ],
    }
