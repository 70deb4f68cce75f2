"""The kernel outside Python: under sanitizers against damaged payloads, and on another machine."""

import pytest
from sample_deltas import RELATIONS, pair
from sample_tensors import weights

from hartonomous.codecs import kernel
from hartonomous.codecs.differences import KINDS
from hartonomous.codecs.layouts import LAYOUTS

TYPES = ("BF16", "F32", "F64", "U8", "Q8_0", "Q4_K")
_ROUNDS = 800


def samples(dtype: str) -> list[tuple[int, bytes]]:
    """Return (lead, frame) of different sizes; the last begins inside an element."""
    element = LAYOUTS[dtype].element_bytes
    content = weights(dtype, 70_000)
    return [(0, content), (0, content[:9000]), (element - 1, content[1:20_002])]


def expected(dtype: str) -> list[tuple[int, bytes]]:
    """Return what the program must say of the samples; status 1 is that it does not pay."""
    items = samples(dtype)
    frames = [memoryview(frame) for _, frame in items]
    leads = [lead for lead, _ in items]
    payloads = kernel.of_name("numpy").encode_many(frames, leads, LAYOUTS[dtype])
    return [(1, b"") if one is None else (0, one) for one in payloads]


def check_program(program, dtype):
    payloads = expected(dtype)
    coded = [
        (len(frame), payload, frame)
        for (_, frame), (status, payload) in zip(samples(dtype), payloads, strict=True)
        if status == 0
    ]
    assert coded
    for path in program.paths:
        layout = LAYOUTS[dtype].encode().hex()
        assert program.results("encode", path, layout, items=samples(dtype)) == payloads
        found = program.results("decode", path, items=[(size, one) for size, one, _ in coded])
        assert found == [(0, frame) for _, _, frame in coded]


@pytest.mark.parametrize("dtype", TYPES)
def test_under_sanitizers(sanitised, dtype):
    assert "scalar" in sanitised.paths
    check_program(sanitised, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_damaged_payloads_under_sanitizers(sanitised, dtype):
    """A sanitizer ends the program at the first byte read or written outside a buffer."""
    small = [(lead, frame[:9000]) for lead, frame in samples(dtype)[1:]]
    for path in sanitised.paths:
        said = sanitised.run(
            "fuzz", path, LAYOUTS[dtype].encode().hex(), "1", str(_ROUNDS), items=small
        )
        attacks, decoded = (int(word) for word in said.split() if word.isdigit())
        assert attacks >= 2 * _ROUNDS
        assert 0 < decoded < attacks / 2


@pytest.mark.parametrize("dtype", TYPES)
def test_on_aarch64(foreign, dtype):
    assert foreign.paths == ["neon", "scalar"]
    check_program(foreign, dtype)


def delta_samples(dtype: str) -> list[tuple[bytes, bytes, int]]:
    """Return (prediction, frame, lead) of every relation; the last one begins in an element."""
    samples = [(*pair(dtype, 9000, relation), 0) for relation in RELATIONS]
    return [*samples, (*pair(dtype, 3001, "trained", edges=(b"x", b"y")), 1)]


def check_deltas(program, dtype):
    kind, samples = KINDS[dtype], delta_samples(dtype)
    payloads = kernel.of_name("numpy").encode_deltas(
        [memoryview(frame) for _, frame, _ in samples],
        [memoryview(prediction) for prediction, _, _ in samples],
        [lead for _, _, lead in samples],
        kind,
    )
    items = [one for before, after, lead in samples for one in ((lead, after), (0, before))]
    expected = [(1, b"") if one is None else (0, one) for one in payloads]
    coded = [
        one
        for (before, after, _), payload in zip(samples, payloads, strict=True)
        if payload is not None
        for one in ((len(after), payload), (0, before))
    ]
    frames = [
        (0, after) for (_, after, _), one in zip(samples, payloads, strict=True) if one is not None
    ]
    assert len(frames) >= 7
    for path in program.paths:
        assert program.results("delta-encode", path, str(kind.number), items=items) == expected
        assert program.results("delta-decode", path, items=coded) == frames


@pytest.mark.parametrize("dtype", KINDS)
def test_differences_under_sanitizers(sanitised, dtype):
    check_deltas(sanitised, dtype)


@pytest.mark.parametrize("dtype", KINDS)
def test_damaged_differences_under_sanitizers(sanitised, dtype):
    """Payloads of every form, attacked as those of FIELDS are."""
    small = [
        one
        for relation in ("few", "trained", "partly scaled", "decayed", "blocks")
        for prediction, frame in [pair(dtype, 3000, relation)]
        for one in ((0, frame), (0, prediction))
    ]
    for path in sanitised.paths:
        kind = str(KINDS[dtype].number)
        said = sanitised.run("delta-fuzz", path, kind, "1", str(_ROUNDS), items=small)
        attacks, decoded = (int(word) for word in said.split() if word.isdigit())
        assert attacks >= 6 * _ROUNDS
        assert 0 < decoded < attacks / 2


@pytest.mark.parametrize("dtype", KINDS)
def test_differences_on_aarch64(foreign, dtype):
    check_deltas(foreign, dtype)


def test_quantised_blocks_under_sanitizers(sanitised):
    """Noise through every recipe; the number that it says is of all bytes that came out."""
    said = {sanitised.run("quantised", path, "5", "40") for path in sanitised.paths}
    assert len(said) == 1


def test_quantised_blocks_on_aarch64(sanitised, foreign):
    expected = sanitised.run("quantised", "scalar", "6", "20")
    assert {foreign.run("quantised", path, "6", "20") for path in foreign.paths} == {expected}
