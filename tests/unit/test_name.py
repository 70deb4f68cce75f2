"""Names, labels, tags, selectors and the text form of paths."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core.name import (
    MAX_NAME_BYTES,
    Selector,
    check_label,
    check_meta,
    check_name,
    check_tag,
    escape_path,
    is_label,
    is_name,
    parse_meta,
    parse_selector,
    path_endings,
    split_spec,
    unescape_path,
)
from hartonomous.errors import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "org/name",
        "llama3:8b",
        "my model (final).safetensors",
        "größe/模型.gguf",
        "a@b.bin",
        "...",
        ".hidden",
        "x" * 512,
        r"bad\xff.bin",
    ],
)
def test_valid_names_come_back_as_they_are(text):
    assert check_name(text) == text
    assert is_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "a\nb",
        "a\0b",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "exe\u202egnp",
        "\udcff.bin",
        "x" * 513,
        "ä" * 257,
        "x" * 10_000_000,
    ],
)
def test_invalid_names_are_refused_with_a_remedy(text):
    assert not is_name(text)
    with pytest.raises(UsageError) as caught:
        check_name(text)
    assert caught.value.hint
    assert len(caught.value.message) < 8000
    caught.value.message.encode()  # can be printed


def test_a_name_typed_in_either_unicode_form_is_one_name():
    composed, decomposed = "modèle", unicodedata.normalize("NFD", "modèle")
    assert composed != decomposed
    assert check_name(decomposed) == composed
    assert split_spec(f"{decomposed}@prod")[1] == (composed, "prod")


def test_a_name_that_grows_over_the_limit_when_composed_is_refused():
    growing = "\ufb2c" * 170  # 3 bytes each, 6 in NFC
    assert len(growing.encode()) <= MAX_NAME_BYTES
    assert not is_name(growing)
    with pytest.raises(UsageError):
        check_name(growing)


def test_what_cannot_be_printed_is_escaped_byte_by_byte():
    assert escape_path(b"a/caf\xc3\xa9.bin") == "a/café.bin"
    assert escape_path(b"caf\xe9") == r"caf\xe9"
    assert escape_path(b"two\nlines") == r"two\x0alines"
    assert escape_path(rb"back\slash") == r"back\x5cslash"
    assert escape_path("a\u202eb".encode()) == r"a\xe2\x80\xaeb"
    assert escape_path(b"\xed\xa0\x80") == r"\xed\xa0\x80"


@given(st.binary(max_size=200))
def test_every_path_has_a_text_form_of_its_own(raw):
    text = escape_path(raw)
    assert unescape_path(text) == raw
    text.encode()
    assert not any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in text)


def test_endings_come_shortest_first():
    assert path_endings("/m/bert/model.safetensors") == (
        "model.safetensors",
        "bert/model.safetensors",
        "m/bert/model.safetensors",
    )
    assert path_endings("/m/bert/x", at_least=2) == ("bert/x", "m/bert/x")
    assert path_endings("/m/x", at_least=9) == ("m/x",)
    assert path_endings("/") == ()


def test_endings_that_are_too_long_are_left_out_or_cut():
    assert path_endings("/" + "d" * 510 + "/ab") == ("ab",)
    (first,) = path_endings("/" + "ü" * 300)
    (other,) = path_endings("/" + "ü" * 301)
    assert is_name(first)
    assert is_name(other)
    assert first != other


_PART = st.binary(min_size=1, max_size=255).filter(
    lambda part: part not in (b".", b"..") and b"/" not in part and b"\0" not in part
)


@given(st.lists(_PART, min_size=1, max_size=8), st.integers(1, 8))
def test_every_ending_of_a_path_on_disk_is_a_name(parts, at_least):
    endings = path_endings(escape_path(b"/" + b"/".join(parts)), at_least=at_least)
    assert endings
    for ending in endings:
        assert check_name(ending) == ending


def test_a_spec_is_read_whole_first_then_split_at_the_last_at_sign():
    assert split_spec("org/name") == [("org/name", None)]
    assert split_spec("name@prod") == [("name@prod", None), ("name", "prod")]
    assert split_spec("a@b.bin@2") == [("a@b.bin@2", None), ("a@b.bin", "2")]
    assert split_spec("a@") == [("a@", None)]
    assert split_spec("@x") == [("@x", None)]
    assert split_spec("a@not a label") == [("a@not a label", None)]
    assert split_spec("n" * 512 + "@prod") == [("n" * 512, "prod")]
    assert split_spec("a@blake3:00112233") == [
        ("a@blake3:00112233", None),
        ("a", "blake3:00112233"),
    ]


@pytest.mark.parametrize("text", ["", "/x", "x/", "a\nb", "a\nb@prod", "ok@\x01", "\udcff@1"])
def test_a_spec_that_is_no_name_is_a_usage_error(text):
    with pytest.raises(UsageError):
        split_spec(text)


@given(st.text(max_size=40))
def test_a_spec_gives_names_or_a_usage_error(text):
    try:
        readings = split_spec(text)
    except UsageError:
        return
    assert readings
    for name, selector in readings:
        assert check_name(name) == name
        if selector is not None:
            parse_selector(selector)


def test_a_selector_keeps_every_meaning_it_may_have():
    assert parse_selector("3") == Selector(text="3", number=3)
    assert parse_selector("prod") == Selector(text="prod", label="prod")
    assert parse_selector("DEADBEEF") == Selector(
        text="DEADBEEF", label="DEADBEEF", digest_prefix="deadbeef"
    )
    assert parse_selector("12345678") == Selector(
        text="12345678", number=12345678, digest_prefix="12345678"
    )
    assert parse_selector("00000001") == Selector(text="00000001", digest_prefix="00000001")
    assert parse_selector("blake3:0011223344") == Selector(
        text="blake3:0011223344", digest_prefix="0011223344"
    )
    assert parse_selector("refs/pr/1").label == "refs/pr/1"


@pytest.mark.parametrize(
    "text",
    ["", "0", "007", "-x y", "a@b", "ü", "blake3:12", "9" * 65, "٣", "9223372036854775808x:"],
)
def test_what_selects_nothing_is_refused(text):
    with pytest.raises(UsageError):
        parse_selector(text)


def test_a_number_over_64_bits_is_no_version():
    assert parse_selector("9223372036854775807").number == 2**63 - 1
    assert parse_selector("9223372036854775808").number is None  # still a digest prefix


def test_labels():
    for text in ("prod", "v1.2", "refs/pr/1", "a" * 64, "8b", "0123abc"):
        assert check_label(text) == text
    for text in ("", "12", "a b", "a" * 65, "blake3:aa", "ü", "a\n", "a@b"):
        assert not is_label(text)
        with pytest.raises(UsageError):
            check_label(text)


def test_tags():
    for text in ("german", "lang=de", "task:summarise", "größe"):
        assert check_tag(text) == text
    assert check_tag(unicodedata.normalize("NFD", "größe")) == "größe"
    for text in ("", "a b", "a,b", "a\n", "x" * 65, "a\u202eb", "\udcff"):
        with pytest.raises(UsageError):
            check_tag(text)


def test_metadata_is_split_at_the_first_equals_sign():
    assert parse_meta("licence=apache-2.0") == ("licence", "apache-2.0")
    assert parse_meta("note=a=b") == ("note", "a=b")
    assert parse_meta("empty=") == ("empty", "")
    assert parse_meta("text=two\nlines\tüber") == ("text", "two\nlines\tüber")
    for text in ("x", "=x", "a b=c", "k=" + "v" * 4097, "k=" + "ü" * 2049, "k=\0", "k=\udcff"):
        with pytest.raises(UsageError):
            parse_meta(text)


def test_metadata_are_text_under_a_key():
    check_meta("licence", "a=b")
    for key, value in (("a=b", "c"), ("", "c"), (3, "c"), ("epoch", 3), ("k", None), ("k", b"v")):
        with pytest.raises(UsageError, match="metadata"):
            check_meta(key, value)
