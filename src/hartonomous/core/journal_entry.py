"""Commits and changes as JSON: what each must hold before anything is made of it."""

from typing import Annotated, Any

import msgspec

from hartonomous.core.json_size import refuse_many_values
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.errors import IntegrityError

_MOST = 2**62  # what the catalog can hold, with room to count on
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
_Time = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]


class _Member(msgspec.Struct):
    path: str
    manifest: str
    digest: str
    size: _Count
    mode: _Count
    modified_us: _Time
    raw_path: bytes | None = None


class _Source(msgspec.Struct):
    host: str
    place: str


class _Layer(msgspec.Struct):
    name: str
    kind: str
    tensor_count: _Count
    parameter_count: _Count
    tensor_bytes: _Count


class _Model(msgspec.Struct):
    """What a rebuild takes from the summary of a model."""

    layers: list[_Layer]
    parameter_count: _Count | None


class _Commit(msgspec.Struct, tag_field="kind", tag="commit"):
    version: int
    seq: _Number
    time_us: _Time
    artifact: str
    name: str
    number: _Number
    uid: str
    digest: str
    kind_of: str
    members: list[_Member]
    source: _Source
    labels: list[str]
    tags: list[str]
    metadata: dict[str, str]
    model: _Model | None
    created_us: _Time | None = None


class _Held(msgspec.Struct):
    artifact: str
    label: str
    version_uid: str


class _Given(msgspec.Struct):
    artifact: str
    number: _Count


class _Change(msgspec.Struct, tag_field="kind", tag="change"):
    """All fields that some action has; which of them it must have is in ``_FIELDS``."""

    version: int
    seq: _Number
    time_us: _Time
    action: str
    artifact: str | None = None
    label: str | None = None
    name: str | None = None
    previous_name: str | None = None
    version_uid: str | None = None
    previous_uid: str | None = None
    version_uids: list[str] | None = None
    labels: list[_Held] | None = None
    manifests: list[str] | None = None
    of: _Count | None = None
    tags: list[str] | None = None
    metadata: dict[str, str] | None = None
    members: list[_Member] | None = None
    digest: str | None = None
    previous_digest: str | None = None
    numbers: list[_Given] = []
    source_uid: str | None = None
    target_uid: str | None = None
    relation: str | None = None
    weight: float | None = None
    note: str | None = None
    number: _Number | None = None
    previous_number: _Number | None = None
    origin_us: _Time | None = None


_FIELDS = {
    "label": ("artifact", "label", "version_uid"),
    "unlabel": ("artifact", "label"),
    "rename": ("artifact", "name", "previous_name"),
    "remove": ("version_uids", "labels"),
    "undo": ("of",),
    "purge": ("version_uids", "manifests"),
    "annotate": ("version_uid", "tags", "metadata"),
    "renumber": ("artifact", "version_uid", "number", "previous_number"),
    "drop-members": ("version_uid", "members", "digest", "previous_digest"),
    "relate": ("source_uid", "target_uid", "relation", "note"),
    "unrelate": ("source_uid", "target_uid", "relation", "note"),
}


def decode_entry(content: bytes) -> dict[str, Any]:
    """Return a commit or change as a dictionary; raises IntegrityError if it lacks something."""
    refuse_many_values(content)
    try:
        shape = msgspec.json.decode(content, type=_Commit | _Change)
        if shape.version != 1:
            raise IntegrityError(f"has version {shape.version}, this program knows 1")
        if isinstance(shape, _Commit):
            _check_hex(shape.artifact, shape.uid, shape.digest)
            for member in shape.members:
                _check_hex(member.manifest, member.digest)
        else:
            _check_change(shape)
        return msgspec.json.decode(content, type=dict[str, Any])
    except UNDECODABLE as error:
        raise IntegrityError(f"is not what its kind says: {error}") from error


def _check_change(shape: _Change) -> None:
    needed = _FIELDS.get(shape.action, ())
    missing = [name for name in needed if getattr(shape, name) is None]
    if missing:
        raise IntegrityError(f"the {shape.action} lacks {', '.join(missing)}")
    single = (
        shape.artifact, shape.version_uid, shape.previous_uid, shape.digest, shape.previous_digest,
        shape.source_uid, shape.target_uid,
    )  # fmt: skip
    _check_hex(*(one for one in single if one is not None))
    _check_hex(*(shape.version_uids or ()), *(shape.manifests or ()))
    for held in shape.labels or ():
        _check_hex(held.artifact, held.version_uid)
    for member in shape.members or ():
        _check_hex(member.manifest, member.digest)
    _check_hex(*(one.artifact for one in shape.numbers))


def _check_hex(*texts: str) -> None:
    for text in texts:
        try:
            bytes.fromhex(text)
        except ValueError as error:
            raise IntegrityError(f"{text[:80]!r} is no hexadecimal digest or id") from error
