"""External data while files are read: which members of an artifact others describe.

The models of an artifact are described first, in the limited parser process, so that a file of
their weights is cut into tensors whatever its name sorts to. Such a model is short, and is
described again when its turn comes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from hartonomous.core.description import Description, Notice
from hartonomous.core.external_data import describe_data, listed_files
from hartonomous.errors import HartonomousError
from hartonomous.formats.sandbox import ParserProcess
from hartonomous.packs.source_file import SourceFile
from hartonomous.ports.source import MemberSource

_MODELS = ".onnx"

Said = Mapping[str, Sequence[tuple[str, list[Any]]]]
"""By the path of a member: the paths of those that list its tensors, with their lists."""


def external_files(members: Sequence[MemberSource], parser: ParserProcess) -> Said:
    """Return what the artifact's models say of its other members; empty for most artifacts.

    A model that cannot be read is passed over here: whoever reads it next says so.
    """
    models = [one for one in members if one.path.lower().endswith(_MODELS)]
    if not models or len(members) == len(models):
        return {}
    found: dict[str, Description] = {}
    for model in models:
        try:
            with SourceFile(model.location) as source:
                found[model.path] = parser.describe(source.descriptor, model.path)
        except HartonomousError:
            continue
    return said_by(found, {one.path for one in members})


def said_by(models: Mapping[str, Description], paths: Collection[str]) -> Said:
    """Return what described files say of the members at ``paths``, by those."""
    said: dict[str, list[tuple[str, list[Any]]]] = {}
    for model, description in models.items():
        for path, listed in listed_files(model, description).items():
            if path in paths:
                said.setdefault(path, []).append((model, listed))
    return said


def with_external(description: Description, path: str, size: int, said: Said) -> Description:
    """Return the description of a member, by what others say of it where it has none of its own."""
    if description.format != "file" or path not in said:
        return description
    try:
        found = describe_data(size, said[path])
    except msgspec.ValidationError as error:
        text = f"not cut into tensors: what is said of it is no list of them ({str(error)[:200]})"
        found = Description(format="file", notices=(Notice(kind="structure", text=text),))
    return msgspec.structs.replace(found, notices=(*description.notices, *found.notices))
