"""Ollama's folder: manifests, blobs named by digest, and manifests that lie."""

import json
from pathlib import Path

import pytest

from hartonomous.ports.source import CandidateKind
from hartonomous.sources.ollama import MAX_MANIFEST_BYTES

LIBRARY = "registry.example/library"


def test_a_model_has_named_members(ollama, find):
    source = ollama.model(
        f"{LIBRARY}/llama3/8b",
        ollama.layer("model", b"GGUF weights"),
        ollama.layer("projector", b"GGUF projector"),
        ollama.layer("template", b"{{ .Prompt }}"),
        ollama.layer("license", b"MIT"),
        ollama.layer("license", b"Apache-2.0"),
        ollama.layer("params", b"{}"),
        ollama.layer("future", b"?"),
    )
    (one,) = find(ollama.top).all
    assert one.kind is CandidateKind.MODEL
    assert one.names[:2] == ("llama3:8b", "library/llama3:8b")
    assert one.source == str(source)
    content = {member.path: Path(member.location).read_bytes() for member in one.members}
    assert list(content) == sorted(content)
    assert content.pop("manifest.json") == source.read_bytes()
    assert content == {
        "config.json": b'{"model_format":"gguf"}',
        "layer.bin": b"?",
        "license-2.txt": b"Apache-2.0",
        "license.txt": b"MIT",
        "model.gguf": b"GGUF weights",
        "params.json": b"{}",
        "projector.gguf": b"GGUF projector",
        "template.txt": b"{{ .Prompt }}",
    }


def test_other_namespaces_stay_in_the_name_and_models_share_blobs(ollama, find):
    layer = ollama.layer("model", b"GGUF")
    ollama.model(f"{LIBRARY}/llama3/8b", layer)
    ollama.model(f"{LIBRARY}/llama3/latest", layer)
    ollama.model("registry.example/someone/llama3/8b", layer)
    ollama.model("hub.example/someone/llama3/8b", layer)
    names = [each.names[:3] for each in find(ollama.top).candidates]
    assert [each[0] for each in names] == [
        "someone/llama3:8b", "llama3:8b", "llama3:latest", "someone/llama3:8b",
    ]  # fmt: skip
    assert names[0][1] == "hub.example/someone/llama3:8b"


def test_blobs_may_have_the_older_name(ollama, find):
    ollama.blob_mark = ":"
    ollama.model(f"{LIBRARY}/m/t", ollama.layer("model", b"GGUF"))
    assert find(ollama.top).contents["m:t"] == ["config.json", "manifest.json", "model.gguf"]


def test_the_folder_around_it_keeps_its_secrets(ollama, find, write, tmp_path):
    ollama.model(f"{LIBRARY}/m/t", ollama.layer("model", b"GGUF"))
    write("id_ed25519", "id_ed25519.pub", "history", "logs/server.log")
    found = find(tmp_path)
    assert list(found.contents) == ["m:t"]
    assert "itself" in found.reason("id_ed25519")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256-" + "0" * 63 + "/",
        "../" * 20 + "etc/passwd",
        "/etc/passwd",
        "sha512:" + "0" * 64,
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 64 + "\n",
        "",
    ],
)
def test_a_digest_that_is_none_reaches_no_file(ollama, find, digest):
    layer = ollama.layer("model", b"GGUF") | {"digest": digest}
    ollama.model(f"{LIBRARY}/m/t", layer)
    found = find(ollama.top)
    assert found.candidates == []
    assert "SHA-256" in found.reason("/blobs")
    assert "incomplete" in found.reason("m/t")


def test_a_missing_or_short_blob_makes_the_model_incomplete(ollama, find):
    gone, short = ollama.layer("model", b"GGUF gone"), ollama.layer("model", b"GGUF short")
    ollama.model(f"{LIBRARY}/a/t", gone)
    ollama.model(f"{LIBRARY}/b/t", short | {"size": 1000})
    ollama.model(f"{LIBRARY}/c/t", ollama.layer("model", b"GGUF"))
    (ollama.top / "blobs" / str(gone["digest"]).replace(":", "-")).unlink()
    found = find(ollama.top)
    assert list(found.contents) == ["c:t"]
    assert "incomplete" in found.reason("a/t")
    assert any("1000" in each.reason for each in found.skipped)


def test_a_blob_that_links_out_of_the_folder_is_not_followed(ollama, find, write):
    top = write("secret")
    layer = ollama.layer("model", b"GGUF")
    blob = ollama.top / "blobs" / str(layer["digest"]).replace(":", "-")
    blob.unlink()
    blob.symlink_to(top / "secret")
    ollama.model(f"{LIBRARY}/m/t", layer | {"size": 6})
    found = find(ollama.top)
    assert found.candidates == []
    assert any("leaves" in each.reason for each in found.skipped)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": [{"digest": "x"}]}',
        b'{"layers": []}',
        b'{"layers": [{"mediaType": "m", "digest": "\xff", "size": 1}]}',
        b'{"layers": [], "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b" " * (MAX_MANIFEST_BYTES + 1),
        json.dumps({"layers": [{"mediaType": "m", "digest": "d", "size": 1e300}]}).encode(),
    ],
)
def test_a_manifest_that_is_none_is_skipped(ollama, find, content):
    ollama.manifest(f"{LIBRARY}/bad/t", content)
    ollama.model(f"{LIBRARY}/good/t", ollama.layer("model", b"GGUF"))
    found = find(ollama.top)
    assert list(found.contents) == ["good:t"]
    assert found.reason("bad/t")


def test_files_at_the_wrong_depth_are_noted(ollama, find):
    ollama.model("registry.example/stray", ollama.layer("model", b"GGUF"))
    ollama.model(f"{LIBRARY}/m/t/too/deep", ollama.layer("model", b"GGUF"))
    found = find(ollama.top)
    assert found.candidates == []
    assert "place" in found.reason("stray")
    assert "place" in found.reason("m/t")


def test_patterns_see_the_name_and_the_member(ollama, find):
    ollama.model(f"{LIBRARY}/a/t", ollama.layer("model", b"GGUF a"))
    ollama.model(f"{LIBRARY}/b/t", ollama.layer("model", b"GGUF b"))
    assert find(ollama.top, include=["a:t/*.gguf"]).contents == {"a:t": ["model.gguf"]}
