"""Folders as the world's programs lay them out."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hartonomous.ports.source import Candidate, Skipped
from hartonomous.sources.discover import discover

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below ``tmp_path``: ``write("a/b.bin", "c.txt")``; the content is the path."""

    def write_all(*paths: str | bytes) -> Path:
        for path in paths:
            place = tmp_path / os.fsdecode(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(os.fsencode(path))
        return tmp_path

    return write_all


class Found:
    """Everything one discovery gave, sorted by what it is."""

    def __init__(self, items: Iterable[Candidate | Skipped]) -> None:
        self.all = list(items)
        self.candidates = [item for item in self.all if isinstance(item, Candidate)]
        self.skipped = [item for item in self.all if isinstance(item, Skipped)]

    @property
    def contents(self) -> dict[str, list[str]]:
        """Preferred name to member paths; fails if two candidates share a name."""
        contents = {
            each.names[0]: [member.path for member in each.members] for each in self.candidates
        }
        assert len(contents) == len(self.candidates)
        return contents

    def candidate(self, name: str) -> Candidate:
        return next(each for each in self.candidates if each.names[0] == name)

    def reason(self, ending: str) -> str:
        """The reason of the one thing skipped whose location ends so."""
        (one,) = [each for each in self.skipped if each.location.endswith(ending)]
        return one.reason


@pytest.fixture
def find() -> Callable[..., Found]:
    def discovered(*paths: str | os.PathLike[str], **patterns: list[str]) -> Found:
        return Found(discover(paths, **patterns))

    return discovered


class HubCache:
    """Writes a hub cache the way the hub's own library does: blobs, relative links, refs."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def snapshot(
        self, folder: str, revision: str, files: dict[str, bytes], *, refs: Iterable[str] = ()
    ) -> Path:
        repository = self.top / folder
        place = repository / "snapshots" / revision
        place.mkdir(parents=True)
        (repository / "blobs").mkdir(exist_ok=True)
        for path, content in files.items():
            blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            link = place / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        for ref in refs:
            file = repository / "refs" / ref
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(revision)
        return place


@pytest.fixture
def hub(tmp_path: Path) -> HubCache:
    return HubCache(tmp_path / "hub")


class OllamaFolder:
    """Writes Ollama's models folder; ``blob_mark`` is what stands between sha256 and its hex."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.blob_mark = "-"

    def blob(self, content: bytes) -> tuple[str, int]:
        digits = hashlib.sha256(content).hexdigest()
        place = self.top / "blobs" / f"sha256{self.blob_mark}{digits}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return f"sha256:{digits}", len(content)

    def layer(self, kind: str, content: bytes) -> dict[str, object]:
        digest, size = self.blob(content)
        media_type = f"application/vnd.ollama.image.{kind}"
        return {"mediaType": media_type, "digest": digest, "size": size}

    def model(self, path: str, *layers: dict[str, object]) -> Path:
        digest, size = self.blob(b'{"model_format":"gguf"}')
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest,
                "size": size,
            },
            "layers": list(layers),
        }
        return self.manifest(path, json.dumps(manifest).encode())

    def manifest(self, path: str, content: bytes) -> Path:
        place = self.top / "manifests" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.top / "blobs").mkdir(exist_ok=True)
        place.write_bytes(content)
        return place


@pytest.fixture
def ollama(tmp_path: Path) -> OllamaFolder:
    return OllamaFolder(tmp_path / "models")
