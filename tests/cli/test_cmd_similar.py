"""``similar``, and what ``views`` shows of pictures."""

from pathlib import Path

import pytest
from cli_schema import validate

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
SCENE = str(PICTURES / "scene.png")


@pytest.fixture
def pictures(hart, store):
    for name in ("photo.jpg", "report.docx"):
        assert hart("add", str(PICTURES / name))[0] == 0


def test_similar(hart, pictures):
    code, out, _ = hart("similar", SCENE)
    assert code == 0
    assert "report.docx@1:report.docx page 2" in out
    assert "contained as word/media/image1.jpg" in out
    assert "same picture" in out
    (found,) = validate("similar", hart("similar", SCENE, "--json")[1])
    assert {one["name"] for one in found["hits"]} == {"photo.jpg", "report.docx"}
    assert hart("similar", "photo.jpg", "-q")[1] == "report.docx@1\n"
    assert len(hart("similar", SCENE, "-k", "1", "-q")[1].splitlines()) == 1
    assert hart("similar", "nothing.jpg")[0] == 1
    assert hart("similar", "report.docx")[0] == 2


def test_what_contains_the_very_picture(hart, store, tmp_path, monkeypatch):
    for name in ("scene.jpg", "report.docx"):
        assert hart("add", str(PICTURES / name))[0] == 0
    assert "1 document not looked at for pictures yet" in hart("show", "report.docx")[1]
    told = hart("views", "update")[1]
    assert "read 1 file for words" in told
    assert "; 2 files for pictures" in told
    out = hart("show", "report.docx")[1]
    assert "report.docx: word/media/image1.jpg" in out
    assert "scene.jpg@1:scene.jpg" in out
    assert "not looked at" not in out
    assert "report.docx@1:report.docx" in hart("show", "scene.jpg")[1]
    (shown,) = validate("show", hart("show", "report.docx", "--json")[1])
    assert shown["contains"][0]["same_as"] == ["scene.jpg@1:scene.jpg"]
    validate("show", hart("show", "scene.jpg", "--json")[1])
    out = hart("lineage", "report.docx")[1]
    assert "scene.jpg@1: contains; report.docx page 2 (word/media/image1.jpg) is scene.jpg" in out
    assert "contains" in hart("lineage", "scene.jpg", "--dot")[1]
    (told,) = validate("lineage", hart("lineage", "scene.jpg", "--json")[1])
    assert told["edges"][0]["kind"] == "contains"
    line = "contained in report.docx@1:report.docx page 2 (word/media/image1.jpg)"
    assert line in hart("impact", "scene.jpg")[1]
    validate("impact", hart("impact", "scene.jpg", "--json")[1])
    assert "same bytes, 1.00" in hart("similar", str(PICTURES / "scene.jpg"))[1]

    exact = (PICTURES / "scene.jpg").read_bytes()
    out = hart("views", "get", "report.docx", "word/media/image1.jpg", "-o", str(tmp_path))[1]
    assert out.strip() == str(tmp_path / "report.docx-image1.jpg")
    assert (tmp_path / "report.docx-image1.jpg").read_bytes() == exact
    deep = tmp_path / "new" / "folder"
    assert hart("views", "get", "report.docx", "word/media/image1.jpg", "-o", str(deep))[0] == 0
    assert (deep / "report.docx-image1.jpg").read_bytes() == exact
    blocked = ("-o", str(tmp_path / "report.docx-image1.jpg" / "below"))
    code, _, err = hart("views", "get", "report.docx", "word/media/image1.jpg", *blocked)
    assert (code, "cannot be made" in err) == (1, True)
    assert hart("views", "get", "report.docx", "nothing", "-o", str(tmp_path))[0] == 1
    monkeypatch.chdir(tmp_path)
    opened = hart("similar", "scene.jpg", "--open", "1", "--force")[1].strip()
    assert Path(opened).read_bytes() == exact
    assert hart("similar", "scene.jpg", "--open", "99")[0] == 2
    assert hart("embed", "--patches", "-q")[0] == 0
    found = hart("search", "--like", "scene.jpg", "--space", "layout", "--json")[1]
    (hits,) = validate("search", found)
    assert hits["hits"][0]["part"] == "word/media/image1.jpg"
    (tmp_path / "report.docx-image1.jpg").unlink()
    search = ("search", "--like", str(PICTURES / "scene.png"), "--name", "report*")
    assert hart(*search, "--space", "layout", "--open", "1")[1].strip() == "report.docx-image1.jpg"
    assert Path("report.docx-image1.jpg").read_bytes() == exact


def test_a_page_of_pictures(hart, pictures, tmp_path):
    page = tmp_path / "like.html"
    assert hart("similar", SCENE, "--html", str(page))[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.count('<img src="data:image/') == 2
    assert "http" not in text.replace("http-equiv", "")
    assert hart("similar", SCENE, "--html", str(page))[0] == 11
    assert hart("similar", SCENE, "--html", str(page), "--force")[0] == 0


def test_a_page_and_a_picture_are_written_by_one_command(hart, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = hart("similar", SCENE, "--html", "like.html", "--open", "1")
    assert code == 0
    assert Path(out.strip()).stat().st_size
    assert "<img" in Path("like.html").read_text(encoding="utf-8")


def test_views_show_pictures_and_the_position_when_asked(hart, pictures):
    assert hart("views", "rebuild")[0] == 0
    out = hart("views", "ls", "photo.jpg")[1]
    assert "Camera 3" in out
    assert "48.1375" not in out
    assert "48.1375" in hart("views", "ls", "photo.jpg", "--position")[1]
    (shown,) = validate("views", hart("views", "ls", "photo.jpg", "--json")[1])
    assert shown["pictures"][0]["position"] is None
    asked = hart("views", "ls", "photo.jpg", "--position", "--json")[1]
    assert validate("views", asked)[0]["pictures"][0]["position"]["altitude"] == 520
    out = hart("views", "ls", "report.docx")[1]
    assert "word/media/image1.jpg on page 2" in out
    (kinds,) = validate("views", hart("views", "ls", "--json")[1])
    assert {one["kind"]: one["picture_count"] for one in kinds["kinds"]} == {
        "docx": 1, "picture": 1,
    }  # fmt: skip
