"""Values of a JSON text, counted before they are made: the count agrees with a real parser."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.core import json_size
from hartonomous.core import manifest as manifests
from hartonomous.core.description import Description
from hartonomous.core.digest import digest
from hartonomous.core.journal_entry import decode_entry
from hartonomous.core.json_size import MAX_VALUES, count_values
from hartonomous.core.manifest import Manifest, Segment
from hartonomous.errors import IntegrityError
from hartonomous.packs import rescue

MARKS = st.text(alphabet=st.sampled_from('a,[{"\\\n\u00e9'))
VALUES = st.recursive(
    MARKS | st.none() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(MARKS, inner),
)


def marks(value: object) -> int:
    """Count commas and opening brackets as a parser sees them."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(map(marks, value.values()))
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(map(marks, value))
    return 0


@given(VALUES, st.booleans(), st.integers(1, 50))
def test_strings_do_not_count(value, plain, window):
    text = json.dumps(value, ensure_ascii=plain).encode()
    expected = marks(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_size, "_WINDOW_BYTES", window)
        patch.setattr(rescue, "SCAN_BYTES", window)
        assert count_values(text, enough=-1) in range(min(1, expected), expected + 1)
        assert count_values(text, enough=max(0, expected - 1)) >= expected
        assert count_values(text, enough=expected) <= count_values(text, enough=10**9)
        for limit, refused in ((expected, False), (expected - 1, True)):
            patch.setattr(rescue, "MAX_JSON_VALUES", limit)
            assert rescue.has_too_many_values(text) is refused


@pytest.mark.parametrize(
    "text",
    [
        b'["' + b'\\"' * 5_000_000,
        b'"' * 5_000_001 + b"," * 10_000_000,
        b"\\" * 5_000_001 + b"," * 10_000_000,
        b'["' + b"\\\\" * 5_000_000 + b'",' + b"[" * 5_000_000,
    ],
)
def test_broken_texts_take_no_time(text):
    """They would take hours where every quote is tried as a beginning."""
    begun = time.process_time()
    most = text.count(b",") + text.count(b"[") + 1
    assert 0 <= count_values(text, enough=0) <= most
    print(f"{len(text):,} bytes in {time.process_time() - begun:.2f} CPU s")


def bomb(segment: bytes) -> bytes:
    count = MAX_VALUES // (segment.count(b",") + segment.count(b"[")) + 1
    name = json.dumps("A" * 43 + "=").encode()
    return (
        b'{"version":1,"size":0,"digest":' + name + b',"sha256":' + name + b',"segments":['
        + (segment * count)[:-1] + b'],"description":{"format":"file"}}'
    )  # fmt: skip


def test_a_manifest_of_too_many_segments_is_not_decoded(monkeypatch):
    monkeypatch.setattr(manifests.msgspec.json, "decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(IntegrityError, match="more than 33,554,432 values"):
        manifests.decode(bomb(b'[0,null,""],'))
    with pytest.raises(IntegrityError, match="more than 33,554,432 values"):
        decode_entry(bomb(b"[],"))


def test_an_empty_segment_is_damage():
    manifest = Manifest(
        size=1, digest=digest(b"x"), sha256=digest(b"x"),
        segments=(Segment(1, None, b"x"), Segment(0, None, b"")),
        description=Description(format="file"),
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="segment of the manifest is empty"):
        manifests.decode(manifests.encode(manifest))
