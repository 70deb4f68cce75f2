"""Documents contain pictures: counted and placed, and related to the files that they are."""

from pathlib import Path

import pytest

from hartonomous.errors import ConflictError, NotFoundError, UsageError
from hartonomous.operations.search import SearchFilter

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
MEMOS = ("memo.docx", "memo.pdf", "memo.odt")
SCENE = "scene.jpg@1:scene.jpg"
OTHER = "other.jpg@1:other.jpg"


@pytest.fixture
def filled(store, source):
    for name in (*MEMOS, "scene.jpg", "other.jpg"):
        store.add(source(name, (PICTURES / name).read_bytes()))
    return store


def places(shown):
    return [(one.page, one.same_as, one.area) for one in shown.contains]


def edges(found):
    return {(one.source, one.target): one for one in found.edges}


@pytest.mark.parametrize(
    ("name", "counts"),
    [("memo.docx", {1: 1, 2: 2}), ("memo.pdf", {1: 1, 2: 2}), ("memo.odt", {1: 1, 2: 1, 3: 1})],
)
def test_a_passage_says_how_many_pictures_are_on_its_page(filled, name, counts):
    filled.views.make()
    hits = filled.search(
        "valve valves repair third page", where=SearchFilter(name=name, kinds=("passage",))
    ).hits
    assert {one.page: one.contains for one in hits} == counts
    assert {one.pages for one in hits} == {"page"}


def test_a_document_is_shown_with_its_pictures_and_what_they_are(filled):
    before = filled.show("memo.docx")
    assert (before.contains, before.unread_count) == ((), 1)
    filled.views.make()
    shown = filled.show("memo.docx")
    assert places(shown) == [
        (1, (SCENE,), None), (2, (SCENE,), None), (2, (OTHER,), (0.05, 0.1513, 0.1, 0.1)),
    ]  # fmt: skip
    assert shown.unread_count == 0
    first = shown.contains[0]
    assert (first.part, first.format, first.width) == ("word/media/image1.jpg", "jpeg", 192)
    assert first.digest == filled.show("scene.jpg").files[0].digest
    assert places(filled.show("memo.pdf")) == [
        (1, (SCENE,), (0.25, 0.5, 0.5, 0.25)), (2, (SCENE,), (0, 0.75, 0.5, 0.25)),
        (2, (OTHER,), (0.5, 0.75, 0.5, 0.25)),
    ]  # fmt: skip
    inside = filled.show("other.jpg").contained_in
    assert {(one.name, one.page) for one in inside} == {(one, 2) for one in MEMOS[:2]} | {
        ("memo.odt", 3)
    }
    assert {one.member for one in inside} == {"other.jpg"}


def test_lineage_and_impact_tell_what_contains_what(filled):
    filled.views.make()
    found = filled.lineage("memo.docx")
    held = edges(found)
    assert {pair: one.kind for pair, one in held.items()} == {
        ("memo.docx@1", "scene.jpg@1"): "contains", ("memo.docx@1", "other.jpg@1"): "contains",
    }  # fmt: skip
    assert held["memo.docx@1", "scene.jpg@1"].places == (
        "memo.docx page 1 (word/media/image1.jpg) is scene.jpg",
        "memo.docx page 2 (word/media/image1.jpg) is scene.jpg",
    )
    below = edges(filled.lineage("scene.jpg", direction="down"))
    assert set(below) == {(f"{one}@1", "scene.jpg@1") for one in MEMOS}
    assert filled.lineage("scene.jpg", direction="up").edges == ()
    assert len(filled.impact("scene.jpg").contained_in) == 6
    assert "memo.pdf@1:memo.pdf page 1 (1/1)" in filled.impact("scene.jpg").contained_in
    assert filled.impact("memo.docx").contained_in == ()
    with pytest.raises(UsageError, match="no relation that can be stated"):
        filled.relate("memo.docx", "contains", "scene.jpg")


def test_what_contains_what_follows_what_is_in_use(filled):
    filled.views.make()
    filled.rm("scene.jpg")
    assert set(edges(filled.lineage("memo.docx"))) == {("memo.docx@1", "other.jpg@1")}
    assert filled.show("memo.docx").contains[0].same_as == ()
    filled.undo()
    filled.rm("memo.docx")
    assert {one.name for one in filled.show("scene.jpg").contained_in} == set(MEMOS[1:])
    filled.gc(trash_days=0, grace_s=0)
    filled.views.make()
    assert {one.name for one in filled.show("scene.jpg").contained_in} == set(MEMOS[1:])
    filled.views.drop()
    assert filled.show("scene.jpg").contained_in == ()
    assert filled.lineage("scene.jpg").edges == ()


def test_a_version_that_has_both_is_not_related_to_itself(store, source):
    for name in ("memo.docx", "scene.jpg", "other.jpg"):
        path = source(f"trip/{name}", (PICTURES / name).read_bytes())
    source("trip/config.json", b'{"model_type": "bert"}')
    source("trip/model.safetensors", (2).to_bytes(8, "little") + b"{}")
    store.add(path.parent, name="trip")
    store.views.make()
    assert store.lineage("trip").edges == ()
    shown = store.show("trip")
    assert shown.contains[0].same_as == ("trip@1:scene.jpg",)
    assert {one.document for one in shown.contained_in} == {"memo.docx"}
    assert store.impact("trip").contained_in == ()


def test_similar_says_which_have_the_very_bytes(filled):
    hits = filled.similar_images(PICTURES / "scene.jpg").hits
    assert [(one.name, one.same_bytes) for one in hits][:1] == [("scene.jpg", True)]
    assert not any(one.same_bytes for one in hits[1:])
    assert not any(one.same_bytes for one in filled.similar_images(PICTURES / "scene.png").hits)
    inside = filled.similar_images("scene.jpg").hits[0]
    assert (inside.same_bytes, inside.part != "") == (True, True)


def test_a_contained_picture_is_written_out(filled, tmp_path):
    filled.views.make()
    folder = tmp_path / "out"
    folder.mkdir()
    for name, part, called in (
        ("memo.docx", "word/media/image1.jpg", "memo.docx-image1.jpg"),
        ("memo.pdf", "2/1", "memo.pdf-page-2-picture-1.jpg"),
    ):
        path = filled.views.write(name, part=part, folder=folder)
        assert path == folder / called
        assert path.read_bytes() == (PICTURES / "scene.jpg").read_bytes()
        with pytest.raises(ConflictError):
            filled.views.write(name, part=part, folder=folder)
        assert filled.views.write(name, part=part, folder=folder, force=True) == path
    with pytest.raises(NotFoundError):
        filled.views.write("memo.docx", part="word/document.xml", folder=folder)
