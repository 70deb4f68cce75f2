"""Descriptions of files, and their summary as it is checked before it is published."""

import json
import math
from typing import Any

import msgspec

from hartonomous.core.description import Description, Tensor
from hartonomous.core.dtype import DTYPES
from hartonomous.core.model import ModelSummary, summarise
from hartonomous.core.model_schema import validate_summary

Member = tuple[str, Description]


def tensor(name: str, shape: tuple[int, ...], dtype: str = "F32") -> Tensor:
    size = DTYPES[dtype].byte_count(math.prod(shape))
    assert size is not None
    return Tensor(name=name, dtype=dtype, shape=shape, offset=0, length=size)


def weights(path: str, *tensors: Tensor, **metadata: Any) -> Member:
    return path, Description(
        format=path.rpartition(".")[2], tensors=tensors, metadata=dict(metadata)
    )


def side(path: str, metadata: Any) -> Member:
    return path, Description(format="hf-config", metadata=metadata)


def summary_of(*members: Member) -> ModelSummary:
    summary = summarise(members)
    assert summary is not None
    validate_summary(as_json(summary))
    return summary


def as_json(summary: ModelSummary) -> Any:
    return json.loads(msgspec.json.encode(summary))
