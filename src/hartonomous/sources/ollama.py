"""Ollama's models folder: ``manifests/<registry>/<namespace>/<model>/<tag>`` and ``blobs/``.

Each manifest is one candidate called ``model:tag`` (``namespace/model:tag`` outside ``library``).
Its members have names that tools understand instead of digests: ``model.gguf``,
``projector.gguf``, ``adapter.gguf``, ``template.txt``, ``params.json`` …, ``config.json`` and, so
that it can be put back, ``manifest.json``. A second layer of a kind is ``model-2.gguf``. Blobs are
named by nothing but 64 hex digits, so no manifest can name another file.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hartonomous.core.name import path_endings
from hartonomous.core.undecodable import UNDECODABLE
from hartonomous.ports.source import Candidate, CandidateKind, MemberSource, Skipped
from hartonomous.sources.listing import (
    Entry,
    EntryKind,
    has,
    join,
    list_folder,
    read_member,
    skipped,
    text_of,
    unreadable,
)
from hartonomous.sources.pattern import Filter

MAX_MANIFEST_BYTES = 4 * 1024 * 1024

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_LEVELS = 4  # registry, namespace, model, tag
_MEDIA_PREFIX = "application/vnd.ollama.image."
_MEMBER_NAMES = {
    "model": ("model", ".gguf"),
    "projector": ("projector", ".gguf"),
    "adapter": ("adapter", ".gguf"),
    "license": ("license", ".txt"),
    "template": ("template", ".txt"),
    "system": ("system", ".txt"),
    "prompt": ("prompt", ".txt"),
    "params": ("params", ".json"),
    "messages": ("messages", ".json"),
}

# What Ollama keeps beside ``models``: its private key, its history. Never added.
_BESIDE_MODELS = frozenset({"id_ed25519", "id_ed25519.pub", "history", "logs"})


class _Layer(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    layers: list[_Layer]
    config: _Layer | None = None


def is_models_folder(entries: list[Entry]) -> bool:
    """Say whether a listing is that of Ollama's models folder."""
    return all(has(entries, name, EntryKind.FOLDER) for name in ("manifests", "blobs"))


def private_entries(location: str, entries: list[Entry]) -> frozenset[str]:
    """Return the names that Ollama keeps for itself in the folder around its models folder."""
    if has(entries, "models", EntryKind.FOLDER):
        try:
            if is_models_folder(list_folder(join(location, "models"))):
                return _BESIDE_MODELS
        except OSError:
            return frozenset()  # the walk meets it again and says so
    return frozenset()


def models(location: str, *, wanted: Filter) -> Iterator[Candidate | Skipped]:
    """Yield the models of Ollama's folder at ``location``, in the order of their manifests."""
    top = join(location, "manifests")
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        depth = folder.count("/") + 1 if folder else 0
        try:
            entries = list_folder(join(top, folder))
        except OSError as error:
            yield unreadable(join(top, folder), error)
            continue
        below: list[str] = []
        for entry in entries:
            path = join(folder, entry.name)
            if entry.kind is EntryKind.FOLDER and depth + 1 < _LEVELS:
                below.append(path)
            elif entry.kind is EntryKind.FILE and depth + 1 == _LEVELS:
                yield from _model(location, path, wanted=wanted)
            else:
                yield skipped(join(top, path), "no manifest of Ollama's: not a file at its place")
        waiting.extend(reversed(below))


def _model(location: str, path: str, *, wanted: Filter) -> Iterator[Candidate | Skipped]:
    source = join(join(location, "manifests"), path)
    manifest = _read_manifest(source)
    if isinstance(manifest, Skipped):
        yield manifest
        return
    _registry, namespace, model, tag = text_of(path).split("/")
    endings = path_endings(
        f"{text_of(source).rpartition('/')[0]}:{tag}", at_least=1 if namespace == "library" else 2
    )
    shown = f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"
    members: list[MemberSource] = []
    for found in _members(location, source, manifest):
        if isinstance(found, Skipped):
            yield found
            yield skipped(source, "an incomplete model: pull it again with Ollama, then add it")
            return
        if wanted.keeps(f"{shown}/{found.path}"):
            members.append(found)
    if members:
        yield Candidate(
            kind=CandidateKind.MODEL,
            names=endings,
            members=tuple(sorted(members, key=lambda member: member.path.encode())),
            source=text_of(source),
        )


def _read_manifest(source: str) -> _Manifest | Skipped:
    try:
        with Path(source).open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        return unreadable(source, error)
    if len(content) > MAX_MANIFEST_BYTES:
        return skipped(source, f"a manifest of more than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = msgspec.json.decode(content, type=_Manifest)
    except UNDECODABLE as error:
        return skipped(source, f"no manifest of Ollama's: {str(error)[:200]}")
    return manifest if manifest.layers else skipped(source, "a manifest without layers")


def _members(location: str, source: str, manifest: _Manifest) -> Iterator[MemberSource | Skipped]:
    yield read_member(source, "manifest.json", boundary=os.path.realpath(location))
    layers = [("config", ".json", manifest.config)] if manifest.config else []
    layers += [(*_name_of(layer), layer) for layer in manifest.layers]
    used: dict[str, int] = {}
    for stem, ending, layer in layers:
        number = used[stem] = used.get(stem, 0) + 1
        name = f"{stem}{ending}" if number == 1 else f"{stem}-{number}{ending}"
        yield _blob(location, layer, name)


def _name_of(layer: _Layer) -> tuple[str, str]:
    kind = layer.media_type.removeprefix(_MEDIA_PREFIX)
    return _MEMBER_NAMES.get(kind, ("layer", ".bin"))


def _blob(location: str, layer: _Layer, name: str) -> MemberSource | Skipped:
    digest = _DIGEST.fullmatch(layer.digest)
    blobs = join(location, "blobs")
    if not digest:
        return skipped(blobs, f"the blob {layer.digest[:80]!a} of {name} has no SHA-256 name")
    boundary = os.path.realpath(location)
    place = join(blobs, f"sha256-{digest[1]}")
    member = read_member(place, name, boundary=boundary)
    if isinstance(member, Skipped):  # older programs wrote the digest as it is
        older = read_member(join(blobs, f"sha256:{digest[1]}"), name, boundary=boundary)
        member = older if isinstance(older, MemberSource) else member
    if isinstance(member, MemberSource) and member.size != layer.size:
        return skipped(place, f"has {member.size} bytes where its manifest says {layer.size}")
    return member
