"""What is derived of pictures that real programs wrote, and of those in documents."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hartonomous.core.digest import digest
from hartonomous.core.picture import PictureViews, address, patches
from hartonomous.core.picture_hash import hashes_of, nearest
from hartonomous.core.picture_layout import DIMENSION, layout_vector
from hartonomous.errors import UsageError
from hartonomous.formats.reader import FileReader
from hartonomous.media import picture_reading
from hartonomous.media.picture_reading import ENTRIES, PDF_ENTRY
from hartonomous.packs.picture_views import content_process, picture_process, pixel_process

PICTURES = Path(__file__).parents[1] / "fixtures" / "pictures"
SCENES = [f"scene.{ending}" for ending in ("png", "jpg", "webp", "gif", "tiff", "bmp", "avif")]


@pytest.fixture(scope="module")
def views() -> Iterator[dict[str, PictureViews]]:
    found = {}
    with picture_process() as process:
        for path in sorted(PICTURES.iterdir()):
            if path.suffix != ".py":
                with path.open("rb") as file:
                    found[path.name] = process.look(file.fileno(), path.name)[0]
    return found


@pytest.mark.parametrize(
    ("name", "format_", "mode", "frames"),
    [
        ("scene.png", "png", "RGB", 1),
        ("scene.jpg", "jpeg", "RGB", 1),
        ("scene.webp", "webp", "RGB", 1),
        ("scene.gif", "gif", "P", 1),
        ("scene.tiff", "tiff", "RGB", 1),
        ("scene.bmp", "bmp", "RGB", 1),
        ("scene.avif", "avif", "RGB", 1),
        ("moving.gif", "gif", "P", 3),
        ("pages.tiff", "tiff", "RGB", 2),
        ("cmyk.jpg", "jpeg", "CMYK", 1),
        ("grey16.png", "png", "I;16", 1),
        ("clear.png", "png", "RGBA", 1),
    ],
)
def test_facts(views, name, format_, mode, frames):
    (picture,) = views[name].pictures
    assert (picture.format, picture.mode, picture.frames) == (format_, mode, frames)
    assert (picture.width, picture.height) == (192, 128)
    assert (views[name].kind, views[name].notices) == ("picture", ())
    assert picture.quality >= 50
    assert len(picture.hashes) == 32
    assert 0 < len(picture.thumbnail) <= 64 << 10


@pytest.mark.parametrize("name", [*SCENES, "photo.jpg", "cmyk.jpg", "grey16.png", "moving.gif"])
def test_every_format_gives_the_same_picture(views, name):
    scene, other = (views[one].pictures[0] for one in ("scene.png", "other.jpg"))
    (picture,) = views[name].pictures
    hashes = np.frombuffer(scene.hashes[:32] + other.hashes[:32], np.uint8).reshape(2, 32)
    bits, orientation = nearest(picture.hashes, hashes)
    assert bits[0] <= 31
    assert orientation[0] == 0
    assert bits[1] > 60
    if name != "grey16.png":
        first, second = (np.frombuffer(one.layout, "<f4") for one in (picture, scene))
        assert float(first @ second) > 0.95


def test_exif_with_the_position_apart(views):
    (picture,) = views["photo.jpg"].pictures
    assert picture.orientation == 6
    assert (picture.width, picture.height) == (192, 128)  # it lies turned in the file
    assert picture.exif == {
        "maker": "Maker", "camera": "Camera 3", "artist": "Ada", "lens": "50 mm",
        "taken": "2024-05-06T07:08:09+02:00",
    }  # fmt: skip
    assert picture.position is not None
    assert picture.position.latitude == pytest.approx(48.1375)
    assert picture.position.longitude == pytest.approx(-11.575)
    assert picture.position.altitude == 520


@pytest.mark.parametrize(
    ("name", "kind", "pages", "page", "area"),
    [
        ("report.docx", "docx", "page", 2, (0, 0, 0, 0)),
        ("plan.pptx", "pptx", "slide", 2, (0.25, 0.2, 0.5, 0.444)),
        ("stock.xlsx", "xlsx", "sheet", 2, (0, 0, 0, 0)),
        ("text.odt", "odf", "", 0, (0, 0, 0, 0)),
        ("slides.odp", "odf", "slide", 2, (0, 0, 0, 0)),
        ("book.epub", "epub", "chapter", 2, (0, 0, 0, 0)),
        ("paper.pdf", "pdf", "page", 2, (0.25, 0.25, 0.5, 0.25)),
    ],
)
def test_documents_contain_the_exact_picture(views, name, kind, pages, page, area):
    found = views[name]
    assert (found.kind, found.pages, found.notices) == (kind, pages, ())
    place = found.places[0]
    assert place.page == page
    assert (place.x, place.y, place.width, place.height) == pytest.approx(area, abs=0.001)
    exact = (PICTURES / "scene.jpg").read_bytes()
    assert found.pictures[place.picture].digest == digest(exact)
    with content_process() as process, (PICTURES / name).open("rb") as file:
        taken = process.look(file.fileno(), address(name, place.part))[0]
    assert taken.content == exact


def test_what_lies_in_a_pdf_as_no_file_is_decoded(views):
    place = views["paper.pdf"].places[2]
    assert (place.part, place.page) == ("3/1", 3)
    assert views["paper.pdf"].pictures[place.picture].format == "pixels"
    where = address("paper.pdf", place.part)
    with pixel_process() as process:
        with (PICTURES / "paper.pdf").open("rb") as file:
            inside = process.look(file.fileno(), where)[0]
        with (PICTURES / "scene.png").open("rb") as file:
            scene = process.look(file.fileno(), "scene.png")[0]
    assert (inside.width, inside.height) == (192, 128)
    assert inside.rgb == scene.rgb


def test_pixels_are_upright():
    found = []
    with pixel_process() as process:
        for name in ("photo.jpg", "scene.png"):
            with (PICTURES / name).open("rb") as file:
                one = process.look(file.fileno(), name)[0]
            pixels = np.frombuffer(one.rgb, np.uint8).reshape(one.height, one.width, 3)
            found.append(pixels.astype(int))
    assert np.abs(found[0] - found[1]).mean() < 12


def test_turned_and_mirrored_pictures_are_told_apart():
    random = np.random.default_rng(1)
    small = random.integers(0, 255, (8, 10, 3), dtype=np.uint8)
    picture = np.kron(small, np.ones((24, 24, 1), np.uint8))
    hashes, quality = hashes_of(picture, turned=True)
    assert quality >= 50
    turned = [
        picture, np.rot90(picture), np.rot90(picture, 2), np.rot90(picture, 3), picture[::-1],
        picture[:, ::-1], picture.transpose(1, 0, 2), np.rot90(picture, 2).transpose(1, 0, 2),
    ]  # fmt: skip
    for at, one in enumerate(turned):
        theirs = np.frombuffer(hashes_of(one)[0][:32], np.uint8).reshape(1, 32)
        bits, orientation = nearest(hashes, theirs)
        assert bits[0] == 0
        assert orientation[0] == at


def test_a_blank_picture_has_no_hash_that_counts():
    assert hashes_of(np.full((100, 100, 3), 200, np.uint8))[1] < 50


def test_patches_cover_the_picture_and_overlap():
    for width, height in ((100, 50), (3, 3), (7, 1000), (2, 5), (1, 1)):
        covered = np.zeros((height, width), int)
        found = patches(width, height)
        for one in found:
            assert one.width > 0
            assert one.height > 0
            covered[one.y : one.y + one.height, one.x : one.x + one.width] += 1
        assert covered.min() >= 1
    first, second = patches(100, 50)[:2]
    assert (first.x, first.width, second.x) == (0, 40, 30)


def test_layout_is_of_what_is_where():
    random = np.random.default_rng(2)
    picture = np.kron(random.integers(0, 255, (9, 9, 3), dtype=np.uint8), np.ones((20, 20, 1)))
    picture = picture.astype(np.uint8)
    vector = layout_vector(picture)
    assert (vector.shape, vector.dtype) == ((DIMENSION,), np.float32)
    assert float(np.linalg.norm(vector)) == pytest.approx(1)
    assert float(vector @ layout_vector(picture[4:-4, 4:-4])) > 0.8
    assert float(vector @ layout_vector(picture[::-1])) < 0.6
    assert layout_vector(np.zeros((1, 1, 3), np.uint8)).shape == (DIMENSION,)
    with pytest.raises(UsageError):
        layout_vector(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize(
    ("name", "pages", "places"),
    [
        ("memo.docx", "page", [(1, ()), (2, ()), (2, (0.05, 0.1513, 0.1, 0.1))]),
        ("memo.odt", "page", [(3, (0.1, 0.1, 0.2, 0.1)), (1, ()), (2, (0.5, 0.5, 0.2, 0.1))]),
        ("memo.odp", "slide", [(1, (0.25, 0.3333, 0.5, 0.3333))]),
        (
            "memo.pdf",
            "page",
            [(1, (0.25, 0.5, 0.5, 0.25)), (2, (0, 0.75, 0.5, 0.25)), (2, (0.5, 0.75, 0.5, 0.25))],
        ),
    ],
)
def test_rectangles_where_the_document_places_them_on_the_page(views, name, pages, places):
    found = views[name]
    assert (found.pages, found.notices) == (pages, ())
    assert [(one.page, (one.x, one.y, one.width, one.height)) for one in found.places] == [
        (page, area or (0, 0, 0, 0)) for page, area in places
    ]


@pytest.mark.parametrize(("name", "formats"), [("memo.docx", ENTRIES), ("memo.pdf", (PDF_ENTRY,))])
def test_what_was_read_when_time_is_up_is_given_back(monkeypatch, name, formats):
    """Each look at the clock is some seconds: there is time for two of three places."""
    seconds = iter(range(0, 1_000, 15))
    monkeypatch.setattr(picture_reading, "monotonic", lambda: next(seconds))
    with (PICTURES / name).open("rb") as file:
        found = picture_reading.look(FileReader(file.fileno()), name, formats=formats)
    assert len(found.places) == 2
    assert found.pictures[found.places[0].picture].digest == digest(
        (PICTURES / "scene.jpg").read_bytes()
    )
    (notice,) = found.notices
    assert notice.kind == "limit"
    assert "on were not read within 40 s" in notice.text
