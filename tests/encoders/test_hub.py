"""Encoders fetched from a hub: the real client against a server of this test."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

import hartonomous as hn
from hartonomous.errors import UsageError
from hartonomous.sources.hub_download import chosen_files, parse_hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """The part of a hub's interface that fetching a model needs."""

    folder: Path
    extra: tuple[str, ...] = ()
    asked: list[str]

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        path = unquote(self.path.partition("?")[0])
        if path in (f"/api/models/org/small/revision/{one}" for one in ("main", "v1", COMMIT)):
            files = [
                one.relative_to(self.folder).as_posix()
                for one in sorted(self.folder.rglob("*")) if one.is_file()
            ]  # fmt: skip
            told = {
                "id": "org/small", "modelId": "org/small", "sha": COMMIT, "tags": [],
                "siblings": [{"rfilename": one} for one in [*files, *self.extra]],
            }  # fmt: skip
            return self._send(200, json.dumps(told).encode(), body=body)
        prefix = f"/org/small/resolve/{COMMIT}/"
        file = self.folder / path.removeprefix(prefix)
        if path.startswith(prefix) and file.is_file():
            self.asked.append(path.removeprefix(prefix))
            content = file.read_bytes()
            return self._send(200, content, body=body, etag=hashlib.sha1(content).hexdigest())
        code = "RevisionNotFound" if "/org/small/" in path else "RepoNotFound"
        return self._send(404, b"{}", body=body, error=code)

    def _send(self, status, content, *, body, etag=None, error=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(fixtures):
    handler = type("Hub", (_Hub,), {"folder": fixtures / "bert", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hart(tmp_path, hub):
    """Run a command in a process of its own: the client reads HF_ENDPOINT when it is imported."""
    kept = {key: of for key, of in os.environ.items() if not key.startswith(("HF_", "HARTONOMOUS"))}
    environment = kept | {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip

    def run(*arguments):
        command = [sys.executable, "-m", "hartonomous", "--store", str(tmp_path / "store")]
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=240,
            check=False, cwd=tmp_path,
        )  # fmt: skip

    with hn.open(tmp_path / "store", create=True):
        pass
    return run


def test_a_model_of_the_hub_becomes_an_encoder(hart, hub, tmp_path):
    done = hart("encoders", "add", "hf:org/small@v1", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["name"] == "org/small" and shown["version"] == "org/small@1"
    assert "model.safetensors" in hub.asked
    with hn.open(tmp_path / "store") as store:
        metadata = store.show("org/small").metadata
        assert metadata["hub.repository"] == "org/small" and metadata["hub.commit"] == COMMIT
        stored = {one.path for one in store.show("org/small").files}
        assert stored == {one.relative_to(hub.folder).as_posix()
                          for one in hub.folder.rglob("*") if one.is_file()}  # fmt: skip
    assert not list((tmp_path / "store" / "tmp").iterdir())


@pytest.mark.parametrize("source", ["hf:org/other@v1", "hf:org/small@v2"])
def test_what_the_hub_does_not_have(hart, source):
    done = hart("encoders", "add", source)
    assert done.returncode == 1
    assert "the hub has no" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hub_that_names_paths_elsewhere(hart, hub, tmp_path):
    hub.extra = ("../../evil.json",)
    done = hart("encoders", "add", "hf:org/small")
    assert done.returncode == 2
    assert "a path that leads elsewhere" in done.stderr
    assert not list(tmp_path.rglob("evil.json"))


def test_names_on_a_hub():
    asked = parse_hub_name("hf:org/name.x@feature/1")
    assert (asked.repository, asked.revision) == ("org/name.x", "feature/1")
    assert parse_hub_name("hf:name").revision == "main"
    for wrong in ("hf:", "hf:a/b/c", "hf:../x", "hf:a/b@", "hf:a/b@-x", "hf:/etc", "hf:a/..b"):
        with pytest.raises(UsageError, match="names no model on a hub"):
            parse_hub_name(wrong)


def test_one_form_of_the_weights_is_fetched():
    settings = ["config.json", "tokenizer.json", "1_Pooling/config.json", "modules.json"]
    many = [*settings, "model.safetensors", "pytorch_model.bin", "tf_model.h5", "rust_model.ot",
            "onnx/model.onnx", "onnx/model_O4.onnx", "openvino/openvino_model.bin"]  # fmt: skip
    assert chosen_files(many, "f32") == [*settings, "model.safetensors"]
    graphs = [*settings, "onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert chosen_files(graphs, "f32") == [*settings, "onnx/model.onnx"]
    assert chosen_files(graphs, "int8") == [*settings, "onnx/model_quantized.onnx"]
    layer = ["2_Dense/pytorch_model.bin", "2_Dense/model.safetensors"]
    assert chosen_files([*graphs[:-2], *layer, "model.safetensors"], "f32") == [
        *settings, "model.safetensors", "2_Dense/model.safetensors"
    ]  # fmt: skip
    assert chosen_files([*graphs, *layer[:1]], "f32") == [*settings, layer[0], "onnx/model.onnx"]
    towers = ["onnx/text_model.onnx", "onnx/vision_model.onnx"]
    assert chosen_files([*settings, *towers, "model.safetensors"], "f32") == [*settings, *towers]
