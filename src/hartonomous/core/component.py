"""The models that a pipeline folder is made of, as ``model_index.json`` of diffusers lists them."""

from collections.abc import Iterator, Sequence

import msgspec

from hartonomous.core.claims import NoticeLog, clean
from hartonomous.core.quantisation import Quantisation
from hartonomous.core.weight_set import Member

MAX_COMPONENTS = 64
_PIPELINE_FORMAT = "hf-pipeline"


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model inside a pipeline: the folder ``name``, and what it adds up to by itself.

    ``library`` and ``class_name`` are what the pipeline's index says will load it.
    """

    name: str
    parameter_count: int
    tensor_count: int
    tensor_bytes: int
    layer_count: int
    dtypes: list[str]
    library: str | None = None
    class_name: str | None = None
    architecture: str | None = None
    quantisation: Quantisation | None = None


class ComponentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that the index lists, and its files with paths inside of it."""

    name: str
    library: str | None
    class_name: str | None
    members: list[Member]


def component_parts(members: Sequence[Member], log: NoticeLog) -> Iterator[ComponentPart]:
    """Yield the parts of the pipeline at the artifact's top, in the order of their names."""
    index = next(
        (one for path, one in members if path == "model_index.json"
         and one.format == _PIPELINE_FORMAT), None,
    )  # fmt: skip
    if index is None:
        return
    listed = {
        name: value
        for name, value in index.metadata.items()
        if isinstance(value, list | tuple) and not name.startswith("_") and "/" not in name
    }
    if len(listed) > MAX_COMPONENTS:
        left = len(listed) - MAX_COMPONENTS
        log.add("components", f"{left} of {len(listed)} parts of the pipeline are not listed")
    below: dict[str, list[Member]] = {name: [] for name in sorted(listed)[:MAX_COMPONENTS]}
    for path, description in members:
        folder, _, rest = path.partition("/")
        if rest and folder in below:
            below[folder].append((rest, description))
    for name, found in below.items():
        words = [one if isinstance(one, str) else None for one in listed[name][:2]]
        library, class_name = (*words, None, None)[:2]
        if found:
            yield ComponentPart(
                name=clean(name, 256),
                library=clean(library, 256) if library else None,
                class_name=clean(class_name, 256) if class_name else None,
                members=found,
            )
