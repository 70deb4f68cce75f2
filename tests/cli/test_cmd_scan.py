"""``hart scan``: names in the store, paths with and without one, tables, JSON, exit codes."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from cli_schema import validate
from torch_writer import Called, Name, Tensor, archive, pickled

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "checkpoints"
WEIGHT = Tensor("0", "F32", 3, 0, (3,), (1,))
DANGER = Called(Name("os", "system"), ("touch /tmp/hartonomous-a-pickle-was-loaded",))


@pytest.fixture
def model(home):
    folder = home / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling_x.X"}}))
    (folder / "modeling_x.py").write_text("print('hello')\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ raise_exception('no') }}"})
    )
    (folder / "pytorch_model.bin").write_bytes(archive({"w": WEIGHT}, {"0": bytes(12)}))
    return folder


def test_a_path_without_a_store(hart, home, model):
    code, out, err = hart("scan", str(model))
    assert (code, err) == (0, "")
    assert "4 files looked at: 3 code" in out
    assert "AutoModel is modeling_x.X" in out
    assert "calls raise_exception" in out
    assert not list(home.rglob("store.json"))


def test_danger_ends_with_4_and_is_told_first(hart, home, model):
    (model / "extra.pkl").write_bytes(pickled([DANGER]))
    code, out, err = hart("scan", str(model))
    assert code == 4
    assert "1 danger found" in err and "do not load" in err
    lines = out.splitlines()
    assert lines[1].startswith("danger") and "os.system" in lines[1]
    code, out, err = hart("scan", "--json", str(model))
    (found,) = validate("scan", out)
    assert code == 4
    assert (found["danger_count"], found["code_count"], found["number"]) == (1, 3, None)
    assert json.loads(err)["error"]["kind"] == "danger"


def test_a_name_is_judged_by_what_was_found_when_it_was_added(hart, store, home, model):
    (model / "extra.pkl").write_bytes(pickled([DANGER]))
    code, _, err = hart("add", str(model))
    assert code == 0
    assert err.count("'hart scan' tells") == 1
    assert "1 danger, 2 pieces of code" in err
    for path in model.iterdir():
        path.unlink()
    code, out, _ = hart("scan", "model", "--json")
    (found,) = validate("scan", out)
    assert code == 4
    assert (found["name"], found["number"], found["file_count"]) == ("model", 1, 5)
    assert found["findings"][0]["artifact"] == "model@1"
    code, out, _ = hart("show", "model")
    assert "would run" in out and "1 danger" in out
    (shown,) = validate("show", hart("show", "model", "--json")[1])
    assert shown["model"]["findings"][0]["severity"] == "danger"


def test_a_harmless_model_says_nothing(hart, store, home):
    (home / "m.pt").write_bytes(archive({"w": WEIGHT}, {"0": bytes(12)}))
    code, _, err = hart("add", str(home / "m.pt"))
    assert (code, err) == (0, "")
    code, out, err = hart("scan", "m.pt")
    assert (code, err) == (0, "")
    assert "nothing that would run was found" in out


def test_a_tree_names_the_artifacts(hart, home, model):
    (home / "other.pkl").write_bytes(pickle.dumps([1]))
    code, out, _ = hart("scan", str(home))
    assert code == 0
    assert out.splitlines()[0].split() == ["what", "kind", "artifact", "file", "why"]


def test_quiet_prints_the_files(hart, model):
    (model / "extra.pkl").write_bytes(pickled([DANGER]))
    code, out, _ = hart("scan", "-q", str(model))
    assert code == 4
    assert out.splitlines()[0] == "extra.pkl"


def test_what_is_not_there(hart, store, home):
    code, _, err = hart("scan", "nowhere")
    assert code == 1 and "nowhere" in err
    code, _, err = hart("scan", "./nowhere")
    assert code == 1 and "nowhere" in err


def test_what_is_not_there_without_a_store(hart, home):
    code, _, _ = hart("scan", "nowhere")
    assert code == 10


def test_two_steps_of_one_run(hart, store):
    code, _, err = hart("add", str(CHECKPOINTS / "distributed"))
    assert (code, err) == (0, "")
    code, out, _ = hart("diff", "distributed/step-10", "distributed/step-20", "--json")
    (found,) = validate("diff", out)
    statuses = {one["name_a"]: one["status"] for one in found["tensors"]}
    assert code == 0
    assert set(statuses.values()) == {"same", "changed"}
    assert {name for name, status in statuses.items() if status == "changed"} == {
        f"{prefix}.layers.0.self_attn.q_proj.weight{suffix}"
        for prefix, endings in (("model", ("",)), ("optimizer", (".exp_avg",)))
        for ending in endings
        for suffix in (f"{ending}[0,0]", f"{ending}[5,0]")
    }
    place = str(CHECKPOINTS / "distributed" / "step-10")
    code, out, _ = hart("diff", "distributed/step-10", place, "--json")
    (found,) = validate("diff", out)
    assert code == 0 and found["identical"]
    assert {one["status"] for one in found["tensors"]} == {"same"}
    code, out, _ = hart("show", "distributed/step-20")
    assert "checkpoint:" in out and "torch-distributed, 2 files, 5 whole tensors, step 20" in out


def test_ranks_of_deepspeed_and_megatron(hart, store):
    code, _, _ = hart("add", str(CHECKPOINTS / "deepspeed"), str(CHECKPOINTS / "megatron"))
    assert code == 0
    _, out, _ = hart("show", "deepspeed/global_step4")
    assert "deepspeed, 6 files, 2 tensor ranks, 2 data ranks, step 4" in out
    _, out, _ = hart("show", "megatron/iter_0000100")
    assert "megatron, 4 files, 2 tensor ranks, 2 pipeline ranks, 8 data ranks, step 100" in out
    (found,) = validate("scan", hart("scan", "megatron/iter_0000100", "--json")[1])
    assert {one["text"].split()[-5] for one in found["findings"]} == {"argparse.Namespace,"}


def test_hidden_files_are_looked_at_when_they_are_asked_for(hart, home):
    place = home / "tree"
    place.mkdir()
    (place / "a.txt").write_text("a")
    (place / ".hidden.pkl").write_bytes(pickled([DANGER]))
    code, _, err = hart("scan", str(place))
    assert code == 0
    assert "(--hidden takes them)" in err
    code, out, _ = hart("scan", str(place), "--hidden")
    assert code == 4
    assert ".hidden.pkl" in out


def test_an_array_of_objects_is_a_pickle(hart, store, home):
    array = np.array([None], dtype=object)
    array[0] = Calls()
    np.save(home / "m.npy", array, allow_pickle=True)
    code, out, _ = hart("scan", str(home / "m.npy"))
    assert code == 4
    assert "posix.system" in out
    code, _, err = hart("add", str(home / "m.npy"))
    assert code == 0
    assert err.count("posix.system") == 1
    assert hart("add", str(home / "m.npy"))[2] == ""
    assert hart("scan", "m.npy")[0] == 4


class Calls:
    """What does harm when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch /tmp/hartonomous-a-pickle-was-loaded",)
