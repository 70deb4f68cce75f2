"""Pictures over a whole store: which resemble one, where they lie, and when they no longer do."""

import io
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from hartonomous.errors import AmbiguousNameError, NotFoundError, UsageError
from hartonomous.packs import picture_views
from hartonomous.packs.picture_views import pictures_path

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"


def changed(name: str, kind: str = "jpeg", *, change=lambda one: one, **how) -> bytes:
    with Image.open(PICTURES / name) as opened:
        out = io.BytesIO()
        change(opened.convert("RGB")).save(out, kind, **how)
        return out.getvalue()


@pytest.fixture
def filled(store, source):
    for name in ("scene.jpg", "other.jpg", "report.docx", "paper.pdf"):
        store.add(source(name, (PICTURES / name).read_bytes()))
    return store


def found_in(result):
    return [(one.kind, one.name, one.page) for one in result.hits]


@pytest.mark.parametrize(
    ("given", "turned"),
    [
        (changed("scene.png", quality=40), ""),
        (changed("scene.png", "webp", quality=60), ""),
        (changed("scene.png", change=lambda one: one.resize((480, 320))), ""),
        (changed("scene.png", change=lambda one: one.rotate(90, expand=True)), "turned 90° right"),
        (changed("scene.png", change=ImageOps.mirror), "mirrored"),
    ],
    ids=["recompressed", "webp", "resized", "turned", "mirrored"],
)
def test_the_same_picture_is_found_wherever_it_lies(filled, given, turned):
    result = filled.similar_images(given)
    # One picture with three places: the file first, then the documents that contain it.
    hit = next(one for one in result.hits if one.name == "scene.jpg")
    assert hit.kind == "same picture"
    assert (hit.turned, hit.part, hit.member) == (turned, "", "scene.jpg")
    assert hit.bits_apart is not None
    assert hit.bits_apart <= 31
    assert set(hit.also_in) == {"report.docx@1:report.docx page 2", "paper.pdf@1:paper.pdf page 2"}
    assert hit.thumbnail.startswith("data:image/")
    assert ("same picture", "paper.pdf", 3) in found_in(result)  # what it lies in as pixels
    assert "other.jpg" not in [one.name for one in result.hits if one.kind == "same picture"]


def test_a_stored_picture_does_not_find_itself(filled, source):
    hits = filled.similar_images("scene.jpg").hits
    assert (hits[0].name, hits[0].page, hits[0].bits_apart) == ("report.docx", 2, 0)
    assert hits[0].part == "word/media/image1.jpg"
    filled.add(source("copy.jpg", (PICTURES / "scene.jpg").read_bytes()), name="copy")
    assert filled.similar_images("scene.jpg").hits[0].name == "copy"


def test_hits_follow_what_is_in_use(filled):
    filled.rm("scene.jpg")
    names = [one.name for one in filled.similar_images(PICTURES / "scene.png").hits]
    assert "scene.jpg" not in names
    assert "report.docx" in names
    filled.undo()
    assert "scene.jpg" in [one.name for one in filled.similar_images(PICTURES / "scene.png").hits]


def test_pictures_of_a_purged_document_are_gone(filled):
    filled.similar_images(PICTURES / "scene.png")
    for name in ("report.docx", "paper.pdf", "scene.jpg"):
        filled.rm(name)
    filled.gc(trash_days=0, grace_s=0)
    made = filled.views.make()
    assert made.forgotten_count >= 3
    with picture_views.open_pictures(filled.parts) as index:
        assert len(index.recipes()) == 1
        assert sum(len(block.ids) for block in index.features()) == 1
    assert "scene.jpg" not in [
        one.name for one in filled.similar_images(PICTURES / "scene.png").hits
    ]


def test_views_of_pictures(filled, source):
    filled.add(source("photo.jpg", (PICTURES / "photo.jpg").read_bytes()))
    assert filled.views.list().waiting_count == 5
    made = filled.views.make()
    assert made.picture_count == 7
    kinds = {one.kind: one for one in filled.views.list().kinds}
    assert (kinds["picture"].file_count, kinds["picture"].picture_count) == (3, 3)
    assert (kinds["pdf"].file_count, kinds["pdf"].picture_count) == (1, 3)
    assert filled.views.list().waiting_count == 0
    (shown,) = filled.views.of("photo.jpg")
    (picture,) = shown.pictures
    assert picture.position is None
    assert picture.exif["camera"] == "Camera 3"
    assert len(picture.patches) == 9
    (located,) = filled.views.of("photo.jpg", position=True)
    assert located.pictures[0].position.latitude == pytest.approx(48.1375)
    (report,) = filled.views.of("report.docx")
    assert [(one.part, one.page) for one in report.pictures] == [("word/media/image1.jpg", 2)]
    exact = (PICTURES / "scene.jpg").read_bytes()
    assert filled.views.picture("report.docx", "word/media/image1.jpg") == exact
    assert filled.views.picture("paper.pdf", "2/1") == exact
    with Image.open(io.BytesIO(filled.views.picture("paper.pdf", "3/1"))) as taken:
        assert (taken.format, taken.size) == ("PNG", (192, 128))
    for part in ("", "word/document.xml", "../x"):
        with pytest.raises(NotFoundError):
            filled.views.picture("report.docx", part)


def test_views_are_dropped_and_made_again(filled, monkeypatch):
    before = filled.similar_images(PICTURES / "scene.png").hits
    assert filled.views.drop()
    assert not pictures_path(filled.parts).exists()
    assert filled.similar_images(PICTURES / "scene.png").hits == before
    pictures_path(filled.parts).write_bytes(b"no database")
    assert filled.similar_images(PICTURES / "scene.png").hits == before
    shutil.rmtree(pictures_path(filled.parts).parent)
    assert filled.views.make(rebuild=True).picture_count == 6
    assert filled.views.make().read_count == 0
    monkeypatch.setattr(picture_views, "_READING", "pictures-of-tomorrow")
    assert filled.views.make().read_count == 4
    assert filled.similar_images(PICTURES / "scene.png").hits == before


def test_what_cannot_be_searched_with(filled, source, tmp_path):
    filled.add(source("words.txt", b"no picture"))
    os.mkfifo(tmp_path / "pipe")
    for given in ("words.txt", "report.docx", tmp_path, tmp_path / "pipe", b"", b"rubbish"):
        with pytest.raises(UsageError):
            filled.similar_images(given)
    for given in ("nothing", tmp_path / "nothing"):
        with pytest.raises(NotFoundError):
            filled.similar_images(given)
    with pytest.raises(UsageError):
        filled.similar_images("scene.jpg", top_k=0)


def test_a_version_of_several_files_asks_which_is_meant(filled, source):
    source("model/config.json", b'{"model_type": "bert"}')
    source("model/model.safetensors", (2).to_bytes(8, "little") + b"{}")
    path = source("model/drawing.png", (PICTURES / "scene.png").read_bytes())
    filled.add(path.parent, name="model")
    with pytest.raises(AmbiguousNameError):
        filled.similar_images("model")
    hits = filled.similar_images("model", member="drawing.png").hits
    assert "scene.jpg" in [one.name for one in hits]
    assert "model" not in [one.name for one in hits]


def test_a_damaged_picture_costs_a_note(store, source):
    whole = (PICTURES / "scene.jpg").read_bytes()
    store.add(source("cut.jpg", whole[: len(whole) // 2]))
    store.add(source("whole.jpg", whole))
    result = store.similar_images(PICTURES / "scene.png")
    assert [one.name for one in result.hits] == ["whole.jpg"]
    assert any(note.startswith("cut.jpg: ") for note in result.notes)
    assert store.similar_images(PICTURES / "scene.png").notes == ()


def test_without_the_extra(filled, monkeypatch):
    monkeypatch.setattr(picture_views, "_PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(UsageError) as missing:
        filled.views.picture("report.docx", "word/media/image1.jpg")
    assert "[images]" in missing.value.hint
    with pytest.raises(UsageError) as raised:
        filled.similar_images(PICTURES / "scene.png")
    assert "hartonomous[images]" in (raised.value.hint or "")
    made = filled.views.make()
    assert made.picture_count == 0
    assert "hartonomous[images]" in made.notes[-1]
    monkeypatch.undo()
    assert filled.views.make().picture_count == 6


def test_a_result_shows_thumbnails_and_escapes_names(store, source):
    store.add(source("scene.jpg", (PICTURES / "scene.jpg").read_bytes()), name="a&b")
    text = store.similar_images(PICTURES / "scene.png")._repr_html_()
    assert '<img src="data:image/' in text
    assert "a&amp;b@1" in text


def test_the_same_bytes_come_before_what_measures_the_same(store, source):
    gradient = Image.linear_gradient("L").convert("RGB")  # no structure, so that no hash counts
    kept = {}
    for kind in ("bmp", "png", "tiff"):
        out = io.BytesIO()
        gradient.save(out, kind)
        kept[kind] = out.getvalue()
        store.add(source(f"gradient.{kind}", kept[kind]))
    for kind, content in kept.items():
        first = store.similar_images(content).hits[0]
        assert (first.name, first.same_bytes) == (f"gradient.{kind}", True)
        assert first.bits_apart is None


def test_a_picture_of_a_document_that_nobody_looked_at(filled):
    with pytest.raises(NotFoundError) as unseen:
        filled.views.picture("report.docx", "word/media/image1.jpg")
    assert "hart views update" in unseen.value.hint
    filled.views.make()
    assert filled.views.picture("report.docx", "word/media/image1.jpg")


def test_an_empty_file_is_told_as_one(store, source):
    store.add(source("nothing.pdf", b""))
    assert store.views.make().notes == (
        "nothing.pdf: its pictures are not read: the file is empty",
    )
