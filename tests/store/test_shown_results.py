"""What Python shows of results and errors: one short line, HTML for notebooks, hints."""

import traceback
from html.parser import HTMLParser

import numpy as np
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.core.notebook import ROWS_SHOWN, html_table
from hartonomous.core.picture_page import ShownPicture, pictures_page, pictures_table
from hartonomous.core.quantity import several
from hartonomous.core.search_page import Hit, search_page
from hartonomous.errors import NoStoreError, NotFoundError, UsageError


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert attrs == []

    def handle_data(self, data):
        self.texts.append(data)


def parsed(html):
    parser = _Texts()
    parser.feed(html)
    parser.close()
    return parser


def weights(path, *, step=0.0):
    save_file({"w": np.arange(64, dtype=np.float32) + np.float32(step)}, str(path))
    return path


def test_one_line_each(store, tmp_path):
    report = store.add([weights(tmp_path / f"{name}.safetensors") for name in "abcd"])
    assert repr(report).startswith("<AddReport: 4 added; 1.3 kB, stored ")
    found = store.ls()
    assert isinstance(found, list)
    assert repr(found) == (
        "<Listing of 4 versions: a.safetensors@1, b.safetensors@1, c.safetensors@1, ...>"
    )
    assert repr(store.ls("a*")) == "<Listing of 1 version: a.safetensors@1>"
    assert repr(store.stats()).startswith("<Stats: 4 artifacts, 4 files, 1.3 kB, stored ")
    assert repr(store.diff("a.safetensors", "b.safetensors")) == (
        "<Difference: a.safetensors@1 and b.safetensors@1: identical>"
    )
    weights(tmp_path / "e.safetensors", step=0.5)
    store.add(tmp_path / "e.safetensors")
    assert repr(store.diff("a.safetensors", "e.safetensors")) == (
        "<Difference: a.safetensors@1 and e.safetensors@1: 1 changed>"
    )


def test_html_of_each(store, tmp_path):
    report = store.add([weights(tmp_path / "a"), weights(tmp_path / "b", step=1.0)])
    for result in (report, store.ls(), store.stats(), store.diff("a", "b")):
        shown = parsed(result._repr_html_())
        assert {"table", "th", "td"} <= set(shown.tags)
    assert "changed" in parsed(store.diff("a", "b")._repr_html_()).texts


def test_html_says_what_it_was_given_and_nothing_more():
    rows = [("<script>alert(1)</script>", 'a"b', None)] * (ROWS_SHOWN + 3)
    shown = parsed(html_table("<b>", ("x\u202ey", "\x1b[2J", "z"), rows))
    assert set(shown.tags) == {"p", "table", "thead", "tbody", "tr", "th", "td"}
    assert shown.texts.count("<script>alert(1)</script>") == ROWS_SHOWN
    assert shown.texts[:4] == ["<b>", "x\\u202ey", "\\x1b[2J", "z"]
    assert shown.texts[-1] == "and 3 more"


def test_pages_show_what_nobody_would_see():
    strange = "a\x1b]0;t\x07\x9b\u202eb"
    hit = Hit(strange, strange, strange, strange, ((0, 3),), {strange: 1})
    picture = ShownPicture("", strange, strange, strange)
    for page in (
        search_page(strange, [hit], note=strange),
        pictures_page(strange, [picture]),
        pictures_table(strange, [picture]),
    ):
        assert not set(page) & {"\x1b", "\x07", "\x9b", "\u202e"}
        assert "\\x1b" in page
        assert "\\u202eb" in page


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1000, "1,000 files")]
)
def test_plurals(number, text):
    assert several(number, "file") == text


def test_a_traceback_shows_the_hint(store):
    with pytest.raises(NotFoundError) as caught:
        store.show("none")
    assert caught.value.hint == "hart ls shows what is there"
    assert "hint: hart ls shows what is there" in "".join(traceback.format_exception(caught.value))
    assert not hasattr(NotFoundError("nothing"), "__notes__")


@pytest.mark.parametrize("spec", ["NAME@{}", "{}", "NAME@blake3:{}", "blake3:{}"])
def test_too_short_a_digest_prefix_is_told(store, source, spec):
    store.add(source("NAME", b"x" * 500))
    digits = store.ls()[0].digest.removeprefix("blake3:")
    with pytest.raises((NotFoundError, UsageError)) as caught:
        store.show(spec.format(digits[:6]))
    assert "8 digits or more" in caught.value.hint
    assert store.show(spec.format(digits[:8])).name == "NAME"


def test_a_path_where_a_name_is_wanted(tmp_path, store, monkeypatch):
    path = weights(tmp_path / "m.safetensors")
    monkeypatch.chdir(tmp_path)
    for given in ("m.safetensors", "./m.safetensors", str(path)):
        with pytest.raises((NotFoundError, UsageError)) as caught:
            hn.load_file(given, store)
        assert "is a file on disk" in caught.value.message
        assert f"store.add({given!r})" in caught.value.hint
    with pytest.raises(NoStoreError, match="is a file on disk"):
        hn.load_file("m.safetensors", tmp_path / "nowhere")
    store.add(path)
    assert list(hn.load_file("m.safetensors", store)) == ["w"]
    with pytest.raises(NotFoundError) as caught:
        hn.load_file("m.safetensors", store, member="none")
    assert "on disk" not in caught.value.message
    with pytest.raises(NotFoundError) as caught:
        hn.load_file("not-there", store)
    assert "on disk" not in caught.value.message
