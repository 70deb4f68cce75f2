"""``embed`` and ``spaces``."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_schema import ROOT, validate

PICTURES = ROOT / "tests" / "fixtures" / "pictures"
TINY = ROOT / "tests" / "fixtures" / "encoders" / "bert"
TEXTS = {
    "pump.md": "# Pumps\n\nThe main valve of the pump leaks at low pressure.\n",
    "ship.md": "# Ships\n\nA ship with two masts sailed for the harbour.\n",
}


@pytest.fixture
def notes(hart, store):
    for name, text in TEXTS.items():
        Path(name).write_text(text)
        assert hart("add", name, "-q")[0] == 0


@pytest.fixture
def embedded(hart, notes):
    assert hart("embed")[0] == 0


@pytest.fixture
def second(hart, embedded):
    """A second space, of an encoder, which is not searched yet."""
    shutil.copytree(TINY, Path("small"))
    assert hart("encoders", "add", "small")[0] == 0
    assert hart("encoders", "add", "small", "--quantisation", "int8")[0] == 0
    assert hart("embed", "--encoder", "small")[0] == 0
    code, out, err = hart("embed", "--encoder", "small-int8")
    assert code == 0, err
    assert "hart spaces switch small-int8" in out


def spaces(hart):
    code, out, _ = hart("spaces", "ls", "--json")
    assert code == 0
    return {one["name"]: one for one in validate("spaces", out)} if out else {}


def test_embedding_says_what_it_would_do_and_did(hart, notes):
    (foreseen,) = validate("embed", hart("embed", "-n", "--json")[1])
    assert foreseen["dry_run"]
    assert spaces(hart) == {}
    assert "nothing was changed (dry run)" in hart("embed", "-n")[1]
    (done,) = validate("embed", hart("embed", "--json")[1])
    assert not done["dry_run"]
    assert done["added_count"] == foreseen["added_count"] == 2
    assert [one["space"] for one in done["spaces"]] == ["ngrams"]
    assert hart("embed", "-q")[1] == "ngrams\n"
    (again,) = validate("embed", hart("embed", "--space", "ngrams", "--json")[1])
    assert (again["added_count"], again["spaces"][0]["vector_count"]) == (0, 2)


def test_where_no_space_is_of_an_encoder_that_is_kept_is_told(hart, notes):
    shutil.copytree(TINY, Path("small"))
    assert "an encoder" not in hart("embed")[2]
    assert hart("encoders", "add", "small")[0] == 0
    note = "no space is of an encoder that the store keeps; 'hart embed --encoder small' makes one"
    for dry_run in (("-n",), ()):
        assert note in hart("embed", *dry_run)[2]
    assert note not in hart("embed", "--encoder", "small")[2]
    assert "an encoder" not in hart("embed")[2]


def test_that_words_do_not_reach_pictures_is_noted_beside_a_space_of_texts(hart, second):
    code, out, err = hart("search", "valve", "--kind", "picture")
    assert (code, out) == (0, "nothing was found\n")
    assert "words do not reach pictures" in err
    assert hart("search", "valve", "--kind", "passage")[2] == ""


def test_what_is_gone_leaves_its_space(hart, embedded):
    assert hart("rm", "ship.md", "-y")[0] == 0
    assert hart("gc", "--trash-days", "0", "--grace", "0", "-y")[0] == 0
    assert spaces(hart)["ngrams"]["vector_count"] == 1
    (done,) = validate("embed", hart("embed", "--json")[1])
    assert done["added_count"] == 0
    assert done["spaces"][0]["vector_count"] == 1


def test_embedding_in_the_background(hart, notes):
    code, out, _ = hart("embed", "--background", "--json")
    assert code == 0
    (job,) = validate("jobs", out)
    assert job["kind"] == "embed"
    assert spaces(hart) == {}
    assert hart("worker", "--until-empty", "-q")[0] == 0
    assert spaces(hart)["ngrams"]["vector_count"] == 2
    assert hart("embed", "--background", "-n")[0] == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("embed", "--space", "nobody"), 1),
        (("embed", "--encoder", "nobody"), 1),
        (("embed", "--space", "ngrams", "--encoder", "ngrams"), 2),
        (("embed", "--space", "ngrams", "--modality", "picture"), 2),
        (("embed", "--encoder", "ngrams", "--modality", "picture"), 2),
        (("embed", "--modality", "sound"), 2),
        (("embed", "more"), 2),
        (("spaces", "show"), 2),
        (("spaces", "show", "nobody"), 1),
        (("spaces", "switch", "nobody"), 1),
        (("spaces", "switch", "ngrams", "--engine", "best"), 2),
        (("spaces", "switch", "ngrams", "--degree", "8"), 2),
        (("spaces", "switch", "ngrams", "--engine", "graph", "--degree", "1"), 2),
        (("spaces", "rm", "nobody"), 1),
        (("spaces", "import", "mine", "v.npy"), 2),
        (("spaces", "import", "mine", "v.npy", "--for", "n.txt"), 2),
        (("spaces", "import", "mine", "v.npy", "--for", "n.txt", "--encoder", "X"), 1),
        (("spaces", "nothing"), 2),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else str(given),
)
def test_wrong_usage(hart, embedded, words, code):
    before = spaces(hart)
    found, out, err = hart(*words)
    assert (found, out) == (code, "")
    assert err.startswith(("hart: error: ", "hart embed: error: ", "hart spaces: error: "))
    assert spaces(hart) == before


def test_listing_and_showing(hart, embedded):
    listed = spaces(hart)["ngrams"]
    assert (listed["state"], listed["modality"], listed["use"]) == ("current", "text", "likeness")
    assert hart("spaces", "ls", "-q")[1] == "ngrams\n"
    assert "ngrams" in hart("spaces", "ls")[1]
    (shown,) = validate("spaces", hart("spaces", "show", "ngrams", "--json")[1])
    assert shown["summary"] == listed
    assert shown["file_count"] == 2
    told = hart("spaces", "show", "ngrams")[1]
    assert "2 files" in told
    assert listed["key"] in told


def test_switching_there_and_back(hart, second):
    assert {name: one["state"] for name, one in spaces(hart).items()} == {
        "ngrams": "current",
        "small": "current",
        "small-int8": "building",
    }
    (would,) = validate("spaces", hart("spaces", "switch", "small-int8", "-n", "--json")[1])
    assert would["dry_run"]
    assert spaces(hart)["small-int8"]["state"] == "building"
    assert "small-int8 would be searched" in hart("spaces", "switch", "small-int8", "-n")[1]
    (done,) = validate("spaces", hart("spaces", "switch", "small-int8", "--json")[1])
    assert done["changed"]
    assert spaces(hart)["small-int8"]["state"] == "current"
    assert "is searched already" in hart("spaces", "switch", "small-int8")[1]
    assert hart("spaces", "switch", "small", "--engine", "exact", "-q")[1] == "small\n"
    assert spaces(hart)["small"]["engine"] == "exact"
    graph = ("--engine", "graph", "--degree", "24", "--search-list", "200")
    assert hart("spaces", "switch", "small", *graph, "-q")[1] == "small\n"
    chosen = "graph degree=24 build_list=128 search_list=200"
    assert spaces(hart)["small"]["engine"] == chosen
    assert chosen in hart("spaces", "show", "small")[1]


def test_removing(hart, second):
    (would,) = validate("spaces", hart("spaces", "rm", "small-int8", "-n", "--json")[1])
    assert (would["vector_count"] >= 2, would["dry_run"]) == (True, True)
    assert "small-int8" in spaces(hart)
    assert "small-int8 would be removed" in hart("spaces", "rm", "small-int8", "-n")[1]
    (gone,) = validate("spaces", hart("spaces", "rm", "small-int8", "--json")[1])
    assert gone["vector_count"] == would["vector_count"]
    assert (gone["searched"], gone["others"]) == (False, ["small"])
    assert sorted(spaces(hart)) == ["ngrams", "small"]


def test_removing_what_is_searched_says_what_becomes_of_searches(hart, second):
    lack = "searches by meaning of texts have no space then"
    for dry_run in (("-n",), ()):
        out = hart("spaces", "rm", "small", *dry_run)[1]
        assert f"{lack}; 'hart spaces switch small-int8' has them" in out
    assert "no space" not in hart("spaces", "rm", "small-int8", "-n")[1], "it was not searched"
    assert hart("spaces", "switch", "small-int8")[0] == 0
    assert f"{lack}; 'hart embed' makes one" in hart("spaces", "rm", "small-int8")[1]


@pytest.mark.parametrize("dry_run", [("-n",), ()])
def test_removing_an_encoder_names_its_spaces_and_what_becomes_of_searches(hart, second, dry_run):
    out = hart("encoders", "rm", "small-int8", *dry_run)[1]
    assert out.endswith("\nits vectors stay, in the space small-int8\n")  # it is not searched
    code, out, _ = hart("encoders", "rm", "small", *dry_run)
    again = "hart encoders add small@1 --name small"
    assert code == 0
    assert "in the space small\nsearches by words leave small out then: " in out
    assert f"'{again}' brings that back" in out
    left_out = "the space small is not searched" in hart("search", "valve")[2]
    assert left_out == (not dry_run)
    if not dry_run:
        assert hart(*again.split()[1:])[0] == 0
        assert hart("search", "valve")[2] == ""
    told = validate("encoders", hart("encoders", "rm", "small", "-n", "--json")[1])[0]
    assert told["spaces"] == told["searched"] == ["small"]


def test_bringing_vectors(hart, notes):
    np.save("v.npy", np.eye(2, 5, dtype=np.float32))
    Path("n.txt").write_text("pump.md\nship.md@1\n")
    words = ("spaces", "import", "mine", "v.npy", "--for", "n.txt", "--encoder", "X")
    (would,) = validate("spaces", hart(*words, "-n", "--json")[1])
    assert (would["added_count"], would["dry_run"]) == (2, True)
    assert spaces(hart) == {}
    assert "2 vectors brought to mine" in hart(*words, "--metric", "dot")[1]
    found = spaces(hart)["mine"]
    assert (found["use"], found["metric"], found["dimension"]) == ("own", "dot", 5)
    (again,) = validate("spaces", hart(*words, "--metric", "dot", "--json")[1])
    assert (again["added_count"], again["replaced_count"]) == (2, 2)
    Path("n.txt").write_text("pump.md\nnobody\n")
    code, out, err = hart(*words, "--metric", "dot")
    assert (code, out) == (1, "")
    assert "line 2" in err


def test_pictures_and_those_in_documents(hart, notes):
    for name in ("other.jpg", "report.docx"):
        assert hart("add", str(PICTURES / name), "-q")[0] == 0
    (foreseen,) = validate("embed", hart("embed", "--modality", "picture", "-n", "--json")[1])
    (done,) = validate("embed", hart("embed", "--modality", "picture", "--json")[1])
    assert done["added_count"] == foreseen["added_count"] == 2
    assert list(spaces(hart)) == ["layout"]
    out = hart("search", "--like", "report.docx", "--space", "layout", "--json")[1]
    (found,) = validate("search", out)
    assert [one["name"] for one in found["hits"]] == ["other.jpg"]
    (both,) = validate("embed", hart("embed", "--json")[1])
    assert {one["space"] for one in both["spaces"]} == {"layout", "ngrams"}


def test_a_picture_is_like_no_text(hart, embedded):
    shutil.copy(PICTURES / "cmyk.jpg", "photo.jpg")
    code, _, err = hart("search", "--like", "photo.jpg")
    assert code == 2
    assert "photo.jpg is a picture" in err and "hart similar" in err


def test_words_that_no_passage_has_are_told_with_what_is_listed_instead(hart, home, notes):
    hart("embed", "--encoder", "ngrams")
    said = "no passage has: xylophonist; what is near in meaning is listed"
    assert said in hart("search", "xylophonist", "--space", "ngrams")[1]
    hart("search", "xylophonist", "--space", "ngrams", "--html", str(home / "page.html"))
    assert said in (home / "page.html").read_text()
    assert "xylophonist, nor a word like that" in hart("search", "xylophonist")[1]


def test_a_word_that_must_not_be_there_is_told_how_to_write(hart, store):
    code, _, err = hart("search", "valve", "-sea")
    assert (code, "hart search -- valve -sea" in err) == (2, True)
