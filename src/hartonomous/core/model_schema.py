"""JSON Schema (draft 2020-12) of a model's summary, and the check that is made before publishing.

Written by hand beside `core.model`, so that a change of one that the other does not know is found.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hartonomous.core.finding import Severity
from hartonomous.core.layer import LayerKind
from hartonomous.core.role import Role
from hartonomous.core.schema_subset import fits
from hartonomous.errors import IntegrityError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_TEXT = {"type": "string", "maxLength": 1024}
_SHORT = {"type": "string", "minLength": 1, "maxLength": 256}
_KEY = {"type": "string", "maxLength": 64}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 2**53}
_SCALAR = {
    "anyOf": [_TEXT, {"type": "boolean"}, {"type": "number", "minimum": -(2**53), "maximum": 2**53}]
}


def _object(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": required | optional,
    }


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}


_SHARE = _object({"tensors": _COUNT, "parameters": _COUNT, "bytes": _COUNT}, {})

_LAYER = _object(
    {
        "name": {"type": "string", "maxLength": 512},
        "kind": {"enum": [kind.value for kind in LayerKind]},
        "tensor_count": _COUNT,
        "parameter_count": _COUNT,
        "tensor_bytes": _COUNT,
    },
    {},
)

_WEIGHT_SET = _object(
    {
        "name": _TEXT,
        "format": _KEY,
        "file_count": _COUNT,
        "tensor_count": _COUNT,
        "parameter_count": _COUNT,
        "tensor_bytes": _COUNT,
        "counted": {"type": "boolean"},
    },
    {},
)

_QUANTISATION = _object(
    {},
    {
        "method": _TEXT,
        "bits": {"type": "integer", "minimum": 1, "maximum": 64},
        "group_size": _NUMBER,
        "file_type": _KEY,
        "config": {
            "type": "object",
            "maxProperties": 32,
            "propertyNames": _KEY,
            "additionalProperties": _SCALAR,
        },
    },
)

_TRAINING = _object(
    {"has_optimizer_state": {"type": "boolean"}},
    {"tensor_count": _COUNT, "files": _list(_TEXT, 256), "step": _NUMBER},
)

_ADAPTER = _object(
    {"kind": _TEXT},
    {
        "rank": _NUMBER,
        "alpha": {"type": "number"},
        "target_modules": _list(_SHORT, 256),
        "task": _TEXT,
    },
)

_CHECKPOINT = _object(
    {"kind": _KEY, "file_count": _COUNT},
    {
        "step": _NUMBER,
        "ranks": _object({}, dict.fromkeys(("tensor", "pipeline", "data", "expert"), _NUMBER)),
        "tensor_count": _COUNT,
        "written_to": _TEXT,
    },
)

_COMPONENT = _object(
    {
        "name": _SHORT,
        "parameter_count": _COUNT,
        "tensor_count": _COUNT,
        "tensor_bytes": _COUNT,
        "layer_count": _NUMBER,
        "dtypes": _list(_KEY, 65),
    },
    {
        "library": _SHORT,
        "class_name": _SHORT,
        "architecture": _TEXT,
        "quantisation": _QUANTISATION,
    },
)

_FINDING = _object(
    {
        "severity": {"enum": [one.value for one in Severity]},
        "kind": _KEY,
        "file": _TEXT,
        "text": _TEXT,
    },
    {},
)

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Model summary",
    "description": "What a model's files say it is. Sizes are bytes; absent fields are not known.",
    **_object(
        {
            "formats": _list(_KEY, 64),
            "parameter_count": _COUNT,
            "tensor_count": _COUNT,
            "tensor_bytes": _COUNT,
            "weight_sets": _list(_WEIGHT_SET, 64),
            "dtypes": {"type": "object", "maxProperties": 65, "propertyNames": _KEY,
                       "additionalProperties": _SHARE},
            "roles": {"type": "object", "propertyNames": {"enum": [role.value for role in Role]},
                      "additionalProperties": _SHARE},
            "layers": _list(_LAYER, 4096),
            "layer_count": _NUMBER,
        },
        {
            "architecture": _TEXT, "model_type": _TEXT, "name": _TEXT, "title": _TEXT,
            "summary": _TEXT, "licence": _TEXT, "pipeline_tag": _TEXT, "library": _TEXT,
            "bits_per_weight": {"type": "number", "minimum": 0},
            "quantisation": _QUANTISATION,
            "context_length": _NUMBER, "embedding_length": _NUMBER, "vocabulary_size": _NUMBER,
            "head_count": _NUMBER, "kv_head_count": _NUMBER, "feed_forward_length": _NUMBER,
            "expert_count": _NUMBER, "expert_used_count": _NUMBER,
            "declared_base_models": _list(
                _object({"name": _TEXT, "said_by": _KEY}, {"relation": _TEXT}), 32
            ),
            "tokenizer": _object(
                {}, {"kind": _TEXT, "vocabulary_size": _NUMBER, "files": _list(_TEXT, 256)}
            ),
            "training": _TRAINING,
            "adapter": _ADAPTER,
            "checkpoint": _CHECKPOINT,
            "components": _list(_COMPONENT, 64),
            "findings": _list(_FINDING, 64),
            "languages": _list(_SHORT, 256), "tags": _list(_SHORT, 256),
            "datasets": _list(_SHORT, 256),
            "notices": _list(_object({"kind": _KEY, "text": _TEXT}, {}), 32),
        },
    ),
}  # fmt: skip
"""The schema, as a JSON value."""


def validate_summary(summary: Any) -> None:
    """Check a summary's JSON value against the schema.

    Raises IntegrityError with the path and the reason of the first fault, such as
    ``layers/3/kind``.
    """
    if fits(summary, SCHEMA):
        return
    fault = next(_validator().iter_errors(summary), None)
    if fault is not None:
        place = "/".join(str(part) for part in fault.absolute_path) or "(the whole)"
        raise IntegrityError(
            f"the model summary is wrong at {place}: {fault.message[:300]}",
            hint="this is a fault of the program; the files themselves are not concerned",
        )


@lru_cache(maxsize=1)
def _validator() -> "Validator":
    # Loading jsonschema takes a tenth of a second; it is needed only to say what is wrong.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMA)
