"""``hart drop`` and ``hart get --as safetensors``."""

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch_writer
from cli_schema import validate
from safetensors.numpy import load_file

import hartonomous as hn

VALUES = np.random.default_rng(1).standard_normal((30, 40), dtype=np.float32)


@pytest.fixture
def run(store):
    """A checkpoint with its optimizer."""
    with hn.open(store) as opened:
        opened.add_tensors(
            {"w": VALUES},
            "run",
            optimizer={"state": {0: {"exp_avg": VALUES}}, "param_groups": []},
            step=100,
        )
    return store


def test_drop_show_get_undo(hart, run, home):
    code, out, _ = hart("drop", "run@step-100", "--part", "optimizer", "-n")
    assert code == 0
    assert "nothing was changed (dry run)" in out
    done = validate("drop", hart("drop", "run@step-100", "--part", "optimizer", "--json")[1])[0]
    assert (done["action"], done["versions"]) == ("drop-members", ["run@1"])
    out = hart("show", "run")[1]
    assert "note: optimizer.safetensors" in out
    assert f"'hart undo {done['sequence']}' brings it back" in out
    shown = validate("show", hart("show", "run", "--json")[1])[0]
    assert [one["path"] for one in shown["dropped"]] == ["optimizer.safetensors"]
    assert hart("get", "run", "-o", "left")[0] == 0
    assert [path.name for path in (home / "work" / "left").iterdir()] == ["model.safetensors"]
    assert validate("log", hart("log", "--json")[1])[0]["undoable"] is True
    code, out, _ = hart("drop", "run", "--part", "optimizer")
    assert (code, "nothing to change" in out) == (0, True)
    undone = validate("undo", hart("undo", "--json")[1])[0]
    assert undone["detail"] == f"drop-members {done['sequence']} taken back"
    assert "note" not in hart("show", "run")[1]


def test_drop_looks_at_all_before_it_changes_one(hart, run):
    code, _, err = hart("drop", "run", "none", "--part", "optimizer")
    assert code == 1
    assert "none" in err
    assert "dropped" not in hart("show", "run")[1]
    code, _, err = hart("drop", "run", "--part", "biases")
    assert code == 2


def test_plain_paths_and_exports_of_what_is_left_are_folders(hart, run, home):
    hart("drop", "run", "--part", "optimizer")
    place = Path(hart("path", "run")[1].strip())
    assert [path.name for path in place.iterdir()] == ["model.safetensors"]
    assert hart("export", "--all", "there")[0] == 0
    assert (home / "work" / "there" / "run" / "model.safetensors").is_file()


@pytest.fixture
def quantised(store, home, hart):
    path = home / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("plain", np.ones((4, 32), np.float32))
    blocks = gguf.quants.quantize(np.ones((4, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blocks", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert hart("add", str(path), "--name", "small")[0] == 0


def test_get_as_safetensors(hart, store, home):
    view = torch_writer.Tensor("0", "F32", VALUES.size, 0, (40, 30), (1, 40))
    content = torch_writer.archive({"turned": view}, {"0": VALUES.tobytes()})
    (home / "model.pt").write_bytes(content)
    assert hart("add", str(home / "model.pt"))[0] == 0
    foreseen = validate("get", hart("get", "model.pt", "--as", "safetensors", "--json", "-n")[1])[0]
    assert (foreseen["dry_run"], foreseen["files"][0]["digest"]) == (True, None)
    assert list((home / "work").iterdir()) == []
    done = validate("get", hart("get", "model.pt", "--as", "safetensors", "--json")[1])[0]
    assert done["files"][0]["path"] == done["output"] == "model.safetensors"
    assert np.array_equal(load_file(home / "work" / "model.safetensors")["turned"], VALUES.T)
    code, out, _ = hart("get", "model.pt", "--as", "safetensors")
    assert (code, "there already" in out) == (0, True)
    shutil.copyfile(home / "model.pt", home / "work" / "model.safetensors")
    assert hart("get", "model.pt", "--as", "safetensors")[0] == 11
    assert hart("get", "model.pt", "--as", "safetensors", "--force", "-q")[1] == (
        "model.safetensors\n"
    )


def test_what_cannot_be_carried_is_listed(hart, quantised, home):
    code, out, err = hart("get", "small", "--as", "safetensors")
    assert (code, out) == (2, "")
    assert "blocks: safetensors has no element type Q8_0" in err
    assert "--partial" in err
    assert list((home / "work").iterdir()) == []
    code, out, err = hart("get", "small", "--as", "safetensors", "--partial", "--json")
    assert code == 3
    assert [one["name"] for one in validate("get", out)[0]["left_out"]] == ["blocks"]
    assert list(load_file(home / "work" / "small.safetensors")) == ["plain"]


def test_options_that_do_not_go_together(hart, run):
    assert hart("get", "run", "--partial")[0] == 2
    assert hart("get", "run", "--as", "safetensors", "--file", "model.safetensors")[0] == 2
    assert hart("get", "run", "--as", "onnx")[0] == 2
