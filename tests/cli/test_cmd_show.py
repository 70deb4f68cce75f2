"""``hart show``: what the files' own libraries say is what it says."""

import hashlib
import json

import gguf
import numpy as np
import pytest
from cli_files import LAYERS, tensors
from cli_schema import SCHEMAS, validate
from safetensors import safe_open

from hartonomous.cli.reasons import summary
from hartonomous.cli.show import runs
from hartonomous.core.model_schema import SCHEMA
from hartonomous.operations.add import Reason
from hartonomous.operations.listing import ShownLayer


def shown(hart, spec):
    code, out, err = hart("show", spec, "--json")
    assert (code, err) == (0, "")
    return validate("show", out)[0]


def test_the_schema_holds_the_summarys_own(hart):
    schema = json.loads((SCHEMAS / "show.json").read_text())
    model = schema["properties"]["model"]
    model.pop("description")
    expected = {
        key: value
        for key, value in SCHEMA.items()
        if key not in ("$schema", "title", "description")
    }
    expected["type"] = ["object", "null"]
    assert model == json.loads(json.dumps(expected))


def test_tensors_are_those_of_the_writers_library(hart, full, sources):
    found = shown(hart, "tiny")
    file = next(one for one in found["files"] if one["format"] == "safetensors")
    with safe_open(sources / "tiny" / "model.safetensors", framework="np") as opened:
        expected = {
            name: (list(opened.get_slice(name).get_shape()), opened.get_slice(name).get_dtype())
            for name in opened.keys()  # noqa: SIM118
        }
    assert {one["name"]: (one["shape"], one["dtype"]) for one in file["tensors"]} == expected
    assert file["sha256"] == "sha256:" + _sha256(sources / "tiny" / "model.safetensors")


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_model_fields(hart, full):
    found = shown(hart, "tiny")
    model = found["model"]
    assert model["architecture"] == "LlamaForCausalLM"
    assert model["context_length"] == 2048
    assert model["licence"] == "apache-2.0"
    assert model["parameter_count"] == sum(value.size for value in tensors().values())
    assert [one["path"] for one in found["files"]] == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert len(found["layers"]) == LAYERS + 1


def test_gguf(hart, full, sources):
    reader = gguf.GGUFReader(str(sources / "a.gguf"))
    found = shown(hart, "a.gguf")
    assert found["model"]["context_length"] == 4096
    assert found["model"]["licence"] == "mit"
    (tensor,) = found["files"][0]["tensors"]
    assert tensor["name"] == reader.tensors[0].name
    assert tensor["logical_bytes"] == reader.tensors[0].n_bytes
    assert tensor["offset"] == reader.tensors[0].data_offset


def test_page_for_people(hart, full):
    code, out, err = hart("show", "tiny")
    assert (code, err) == (0, "")
    assert out.isascii()
    rows = dict(line.split(":", 1) for line in out.split("\n\n")[0].splitlines())
    values = {key: value.strip() for key, value in rows.items()}
    assert values["architecture"] == "LlamaForCausalLM"
    assert values["parameters"] == "40.4 k (40,448), 32.00 bits each"
    assert values["context length"] == "2,048"
    assert values["base models"].startswith("org/base (")
    assert f"model.layers.0 to model.layers.{LAYERS - 1} ({LAYERS}, each:)" in out
    assert "embed_tokens.weight" not in out
    lines = hart("show", "tiny", "--tensors")[1].splitlines()
    tensor = next(line for line in lines if line.startswith("model.embed_tokens.weight"))
    assert tensor.split()[1:3] == ["F32", "120x64"]


def test_a_file_that_is_no_model(hart, full):
    found = shown(hart, "notes.txt")
    assert (found["kind"], found["model"], found["layers"]) == ("file", None, [])
    assert "parameters" not in hart("show", "notes.txt")[1]


def test_an_array(hart, full):
    found = shown(hart, "x.npy")
    assert found["files"][0]["tensors"][0]["shape"] == list(np.zeros((100, 100)).shape)


def test_notices_are_shown(hart, store, home):
    (home / "bad.safetensors").write_bytes(b"\xff" * 100)
    assert hart("add", str(home / "bad.safetensors"))[0] == 0
    assert "note: bad.safetensors: " in hart("show", "bad.safetensors")[1]
    assert shown(hart, "bad.safetensors")["files"][0]["notices"]


@pytest.mark.parametrize(
    ("spec", "expected"), [("none", 1), ("tiny@9", 1), ("tiny@prod", 1), ("tiny@ ", 1), ("a//b", 2)]
)
def test_refuses(hart, full, spec, expected):
    code, out, err = hart("show", spec)
    assert (code, out) == (expected, "")
    assert "hint: " in err


def test_near_names_are_offered(hart, full):
    assert "did you mean" in hart("show", "tuned")[2]


def test_by_digest(hart, full):
    digest = shown(hart, "tiny")["digest"]
    assert hart("show", "-q", digest)[1] == "tiny@1\n"
    assert hart("show", "-q", f"tiny@{digest.partition(':')[2][:8]}")[1] == "tiny@1\n"


def test_runs_of_equal_layers():
    def layer(name, size=4):
        return ShownLayer(
            name=name, kind="block", tensor_count=1, parameter_count=size, logical_bytes=size
        )

    found = runs([layer("a"), layer("b"), layer("c", 8), layer("d")])
    assert [[one.name for one in run] for run in found] == [["a", "b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([], ""),
        ([("inside the manifest", 2, 20, 0)], "all of it inside the manifest"),
        ([("file already stored", 1, 9, 0)], "file already stored"),
        (
            [("file already stored", 2, 9, 0), ("tensor stored zstd", 1, 100, 92)],
            "2 files already stored; zstd 0.92",
        ),
        (
            [
                ("tensor already stored", 97, 900, 0),
                ("tensor stored raw", 1, 50, 50),
                ("tensor stored zstd", 3, 100, 50),
                ("data stored zstd", 1, 100, 50),
                ("data already stored", 1, 100, 0),
            ],
            "97 of 101 tensors already stored; zstd 0.50, raw",
        ),
        ([("data already stored", 2, 9, 0), ("data stored zstd", 1, 9, 0)],
         "2 of 3 pieces of data already stored; zstd under 0.01"),
    ],
)  # fmt: skip
def test_summary_of_reasons(reasons, expected):
    rows = [
        Reason(reason=reason, piece_count=count, logical_bytes=logical, stored_bytes=stored)
        for reason, count, logical, stored in reasons
    ]
    assert summary(rows) == expected
