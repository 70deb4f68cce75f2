"""``lineage``, ``relate``, ``impact`` and ``search``."""

import numpy as np
import pytest
from cli_schema import validate
from safetensors.numpy import save_file

pytestmark = pytest.mark.usefixtures("catalog_engine")


def test_relate_and_lineage(hart, full):
    code, out, err = hart("relate", "tuned.safetensors", "fine-tune-of", "tiny", "--note", "by us")
    assert (code, err) == (0, "")
    assert "tuned.safetensors@1 is fine-tune-of tiny@1" in out
    (listed,) = validate("relate", hart("relate", "--list", "--json")[1])
    assert listed["note"] == "by us"
    assert "by us" in hart("relate", "--list", "tiny")[1]
    (found,) = validate("lineage", hart("lineage", "tuned.safetensors", "--json")[1])
    assert [(edge["source"], edge["target"]) for edge in found["edges"]] == [
        ("tuned.safetensors@1", "tiny@1")
    ]
    code, out, _ = hart("lineage", "tuned.safetensors")
    assert code == 0 and "came from" in out and "declared by user (by us)" in out
    assert "gave rise to" in hart("lineage", "tiny")[1]
    dot = hart("lineage", "tiny", "--dot")[1]
    assert dot.startswith("digraph") and '"tuned.safetensors@1" -> "tiny@1"' in dot
    (gone,) = validate(
        "relate",
        hart("relate", "tuned.safetensors", "fine-tune-of", "tiny", "--remove", "--json")[1],
    )
    assert gone["changed"]
    assert "nothing was stated" in hart("relate", "--list")[1]


def test_a_chain_is_followed_once(hart, store, home):
    """What two relatives have in common stands below the first of them."""
    for name in "abcde":
        (home / name).write_text(f"this is {name}, which nothing else resembles")
        assert hart("add", str(home / name))[0] == 0
    for source, target in ("ab", "ac", "bd", "cd", "de"):
        assert hart("relate", source, "fine-tune-of", target)[0] == 0
    up = [line.strip() for line in hart("lineage", "a")[1].splitlines()]
    assert [line.partition(":")[0] for line in up] == [
        "a@1", "came from", "b@1", "d@1", "e@1", "c@1", "d@1 (see above)",
    ]  # fmt: skip
    down = [line.strip() for line in hart("lineage", "d")[1].splitlines()]
    assert [line.partition(":")[0] for line in down] == [
        "d@1", "came from", "e@1", "gave rise to", "b@1", "a@1", "c@1", "a@1",
    ]  # fmt: skip


def test_wrong_usage(hart, full):
    assert hart("relate", "tiny")[0] == 2
    assert hart("relate", "tiny", "nonsense", "notes.txt")[0] == 2
    assert hart("lineage", "tiny", "--up", "--down")[0] == 2
    assert hart("search")[0] == 2
    for text in ("a,b", "x", "", ",", "4,,4", "[4", "(4]", "-4", "1e3"):
        code, out, err = hart("search", "--shape", text)
        assert (code, out) == (2, ""), text
        assert "is no shape" in err
    for text in ("128,64", "[128, 64]", "(128,64)", "128x64", "128, 64,", "[]", "()"):
        assert hart("search", "--shape", text)[0] == 0, text
    assert hart("search", "--tensor", "x", "--near", "tiny", "y")[0] == 2
    assert hart("lineage", "missing")[0] == 1
    assert hart("impact", "missing")[0] == 1


def test_impact(hart, full):
    (found,) = validate("impact", hart("impact", "tiny", "--json")[1])
    assert found["name"] == "tiny"
    out = hart("impact", "tiny")[1]
    rows = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert set(rows) >= {
        "removing it frees", "stays, as others have it too", "stays, as others need it",
        "versions computed from it",
    }  # fmt: skip
    assert rows["versions computed from it"].strip() == str(len(found["dependents"]))


def test_search(hart, full):
    (found,) = validate("search", hart("search", "--tensor", "*", "--json")[1])
    assert len(found["tensors"]) > 5
    one = next(
        each for each in found["tensors"] if each["digest"] and each["logical_bytes"] > 16384
    )
    assert one["name"] in hart("search", "--tensor", one["digest"], "-q")[1]
    assert "no tensor fits" in hart("search", "--tensor", "nothing-like-this")[1]
    near = hart("search", "--near", one["name"], one["tensor"], "--json")
    assert near[0] == 0
    assert all(validate("search", line) for line in near[1].splitlines())


def test_what_is_found_by_its_name_is_called_what_it_is(hart, full):
    assert "tiny@1 (model)" in hart("search", "tiny")[1]
    assert "notes.txt@1 (file)" in hart("search", "notes")[1]


@pytest.mark.parametrize(
    ("kind", "hint"), [("pdf", "--where 'format = pdf'"), ("picure", "did you mean 'picture'?")]
)
def test_an_unknown_kind_of_hits_is_told_with_those_there_are(hart, store, kind, hint):
    code, _, err = hart("search", "words", "--kind", kind)
    assert code == 2
    assert "there are passage, picture, model, tensor" in err
    assert hint in err


def test_many_copies_are_told_by_their_number(hart, store, home):
    """A base in many copies, and a fine-tune of one of them in many copies."""
    random = np.random.default_rng(3)
    base = {f"l{at}.weight": random.standard_normal((64, 96)).astype(np.float32) for at in range(4)}
    tuned = {name: (value * np.float32(1.001)) for name, value in base.items()}
    for name, weights in (("base", base), ("tuned", tuned)):
        for number in range(6):
            path = home / f"{name}{number}.safetensors"
            save_file(weights, path, metadata={"copy": str(number)})
            assert hart("add", str(path), "--name", f"{name}{number}")[0] == 0
    for number in range(6):
        hart("relate", f"tuned{number}", "fine-tune-of", "base0")
    lines = [line.strip() for line in hart("lineage", "base0")[1].splitlines()]
    assert sum(line.startswith("base0@1 ~ base") or " ~ base0@1" in line for line in lines) == 3
    assert sum(line.startswith("tuned") for line in lines) == 3
    assert lines.count("and 2 more copies: --json lists all") == 1
    assert lines.count("and 3 more copies: --json lists all") == 1
    (found,) = validate("lineage", hart("lineage", "base0", "--json")[1])
    near = [one for one in found["edges"] if one["kind"] == "same-tensors"]
    assert sum("base0@1" in (one["source"], one["target"]) for one in near) == 5
    assert sum(one["kind"] == "fine-tune-of" for one in found["edges"]) == 6
