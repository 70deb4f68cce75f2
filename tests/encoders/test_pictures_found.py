"""Pictures found by words and by pictures, in the spaces of an encoder of both and of a rule."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hartonomous.core.picture import patches
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


def test_patches_are_found_and_named(filled, tmp_path):
    """A part of a picture is nearest to the patch that shows it, in a file and in a document."""
    plain = filled.embed(encoder="layout").spaces[0]
    assert (plain.added_count, plain.vector_count) == (3, 3)
    foreseen = filled.embed(space="layout", patches=True, dry_run=True)
    assert (foreseen.added_count, foreseen.removed_count) == (27, 0)
    assert filled.embed(space="layout", patches=True).spaces[0].vector_count == 30
    assert filled.embed(space="layout").added_count == 0

    cut = patches(192, 128)[5]
    with Image.open(PICTURES / "scene.png") as opened:
        box = (cut.x, cut.y, cut.x + cut.width, cut.y + cut.height)
        opened.convert("RGB").crop(box).resize((300, 200)).save(tmp_path / "part.png")
    hits = filled.search(like=str(tmp_path / "part.png"), space="layout").hits
    assert {(one.member, one.page) for one in hits[:2]} == {("scene.jpg", 0), ("report.docx", 2)}
    region = (cut.x, cut.y, cut.width, cut.height)
    assert [one.region for one in hits[:2]] == [region, region]
    assert f"{cut.width} x {cut.height} at {cut.x}, {cut.y}" in hits[0].snippet
    assert len(hits) == len({(one.name, one.page) for one in hits})  # each picture once
    inside = next(one for one in hits if one.member == "report.docx")
    assert (inside.part, inside.area) == ("word/media/image1.jpg", None)
    whole = filled.search(like=str(PICTURES / "scene.jpg"), space="layout").hits[0]
    assert whole.region is None
    stored = filled.search(like="scene.jpg", space="layout").hits
    assert (stored[0].member, stored[0].region) == ("report.docx", None)


def test_a_space_goes_on_having_patches_until_it_is_told_otherwise(filled, tmp_path):
    filled.embed(encoder="layout", patches=True)
    filled.add(PICTURES / "scene.webp")
    Image.new("RGB", (63, 200), (9, 90, 200)).save(tmp_path / "narrow.png")
    filled.add(tmp_path / "narrow.png")
    assert filled.embed(space="layout").added_count == 10 + 1  # a small one as a whole only
    filled.rm("scene.webp")
    filled.gc(trash_days=0, grace_s=0)
    filled.views.make()
    done = filled.embed(space="layout").spaces[0]
    assert (done.added_count, done.vector_count) == (0, 31)
    fewer = filled.embed(space="layout", patches=False).spaces[0]
    assert (fewer.removed_count, fewer.vector_count) == (27, 4)
    assert filled.embed(space="layout").added_count == 0
    with pytest.raises(UsageError, match="no patches"):
        filled.embed(modality="text", patches=True)


def test_patches_with_an_encoder_of_both(filled, fixtures):
    filled.encoders.add(fixtures / "clip")
    filled.embed(encoder="clip", modality="picture", patches=True)
    hits = filled.search("the red house", where=ONLY, top_k=2)
    assert len(hits.hits) == 2
    assert hits.more
    assert any(one.region for one in filled.search("the red house", where=ONLY).hits)


def test_patches_of_a_picture_that_is_decoded_smaller(store, tmp_path):
    """Places are pixels of the picture itself, which may be larger than what is looked at."""
    with Image.open(PICTURES / "scene.png") as opened:
        opened.convert("RGB").resize((3_000, 2_000)).save(tmp_path / "large.png")
    store.add(tmp_path / "large.png")
    assert store.embed(encoder="layout", patches=True).added_count == 10
    cut = patches(3_000, 2_000)[8]
    with Image.open(tmp_path / "large.png") as opened:
        opened.crop((cut.x, cut.y, cut.x + cut.width, cut.y + cut.height)).save(
            tmp_path / "part.png"
        )
    (hit,) = store.search(like=str(tmp_path / "part.png"), space="layout").hits
    assert hit.region == (cut.x, cut.y, cut.width, cut.height)
    assert hit.scores["pictures"] > 0.99
