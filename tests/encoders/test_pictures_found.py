"""Pictures found by words and by pictures, in the spaces of an encoder of both and of a rule."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hartonomous.core.search_page import Hit, search_page
from hartonomous.errors import NotFoundError, UsageError
from hartonomous.operations.search import SearchFilter

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
ONLY = SearchFilter(kinds=("picture",))


@pytest.fixture
def filled(store):
    for name in ("scene.jpg", "other.jpg", "report.docx"):
        store.add(PICTURES / name)
    store.views.make()
    return store


def smaller(tmp_path) -> Path:
    path = tmp_path / "small.png"
    with Image.open(PICTURES / "scene.png") as opened:
        opened.convert("RGB").resize((200, 150)).save(path)
    return path


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_pictures_are_found_by_words_in_the_order_of_their_vectors(filled, fixtures, name):
    filled.encoders.add(fixtures / name)
    filled.embed(encoder=name, modality="picture")
    encoder = filled.encoders.get(name)
    try:
        query = encoder.encode_texts(["the red house"], query=True)[0]
        with Image.open(PICTURES / "scene.jpg") as one, Image.open(PICTURES / "other.jpg") as two:
            rows = encoder.encode_pictures([np.asarray(each.convert("RGB")) for each in (one, two)])
    finally:
        encoder.close()
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    hits = filled.search("the red house", where=ONLY).hits
    assert {one.kind for one in hits} == {"picture"}
    assert all("pictures" in one.ranks for one in hits)
    alone = [one for one in hits if one.member in ("scene.jpg", "other.jpg")]
    expected = dict(zip(("scene.jpg", "other.jpg"), cosines.tolist(), strict=True))
    assert {one.member: one.scores["pictures"] for one in alone} == pytest.approx(
        expected, abs=1e-2
    )
    scores = [one.scores["pictures"] for one in hits]
    assert scores == sorted(scores, reverse=True)
    same = filled.search(like=str(PICTURES / "scene.jpg"), where=ONLY).hits
    assert same[0].scores["pictures"] == pytest.approx(1, abs=1e-3)


def test_pictures_like_one_on_the_disk_in_a_space_without_a_model(filled, tmp_path):
    filled.embed(encoder="layout")
    hits = filled.search(like=str(smaller(tmp_path)), space="layout", modality="picture").hits
    assert hits[0].member in ("scene.jpg", "report.docx")
    inside = next(one for one in hits if one.member == "report.docx" and one.page == 2)
    assert inside.snippet.startswith("picture ")
    assert "640 x 480" in inside.snippet or " x " in inside.snippet
    assert inside.score > next(one.score for one in hits if one.member == "other.jpg")
    with pytest.raises(NotFoundError):  # its rule takes no text, and there is no other space
        filled.search(like=str(Path(__file__)), modality="text")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(UsageError, match="no picture"):
        filled.search(like=str(tmp_path / "broken.png"), space="layout")


def test_each_space_is_asked_for_what_its_encoder_takes(filled, tmp_path):
    filled.embed(encoder="layout")
    filled.embed(encoder="ngrams")
    hits = filled.search(like=str(smaller(tmp_path))).hits
    assert {one.kind for one in hits} == {"picture"}
    stored = filled.search(like="scene.jpg").hits
    assert {one.kind for one in stored} == {"picture"}
    assert "scene.jpg" not in {one.member for one in stored}


def test_thumbnails_are_shown_and_pages_say_that_they_contain_pictures(filled, tmp_path):
    filled.embed(encoder="layout")
    found = filled.search(like=str(smaller(tmp_path)), space="layout")
    assert all(one.thumbnail.startswith("data:image/") for one in found.hits)
    assert found._repr_html_().count("<img ") == len(found.hits)
    one = found.hits[0]
    page = search_page("x", [Hit("here", "", "", "", (), {}, one.thumbnail)])
    assert f'<img src="{one.thumbnail}"' in page
    assert "<img" not in search_page("x", [Hit("here", "", "", "", (), {}, 'x" onerror="y')])
    passages = filled.search("the first page", where=SearchFilter(name="report*")).hits
    assert [(one.page, one.contains) for one in passages if one.kind == "passage"] == [(1, 0)]
    hit = next(one for one in filled.search(
        like=str(smaller(tmp_path)), space="layout", top_k=100
    ).hits if one.member == "report.docx")  # fmt: skip
    assert hit.page == 2


def test_a_picture_is_decoded_as_it_is_shown(filled, tmp_path):
    """The orientation that EXIF gives counts: a turned copy lies where the picture does."""
    filled.embed(encoder="layout")
    with Image.open(PICTURES / "scene.jpg") as opened:
        exif = Image.Exif()
        exif[0x0112] = 6
        out = io.BytesIO()
        opened.convert("RGB").rotate(90, expand=True).save(out, "jpeg", quality=95, exif=exif)
    (tmp_path / "turned.jpg").write_bytes(out.getvalue())
    hits = filled.search(like=str(tmp_path / "turned.jpg"), space="layout").hits
    assert hits[0].member in ("scene.jpg", "report.docx")
    assert hits[0].scores["pictures"] > 0.98
