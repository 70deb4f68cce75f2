"""Include and exclude patterns."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.errors import UsageError
from hartonomous.sources.pattern import make_filter


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.bin", "a.bin", True),
        ("*.bin", "x/y/a.bin", True),
        ("*.bin", "a.bin.txt", False),
        ("/*.bin", "x/a.bin", False),
        ("/*.bin", "a.bin", True),
        ("onnx", "m/onnx/model.onnx", True),
        ("onnx/", "onnx/model.onnx", True),
        ("m/onnx", "m/onnx/model.onnx", True),
        ("onnx/*", "m/onnx/model.onnx", False),
        ("**/onnx/*", "m/onnx/model.onnx", True),
        ("org/**", "org/x/y.bin", True),
        ("org/**/y.bin", "org/y.bin", True),
        ("org/**/y.bin", "org/a/b/y.bin", True),
        ("org/*/y.bin", "org/a/b/y.bin", False),
        ("a?[0-9].bin", "ab7.bin", True),
        ("A.bin", "a.bin", False),
        ("mode\u0300le.bin", "modèle.bin", True),
        ("**", "anything/at/all", True),
    ],
)
def test_patterns(pattern, path, matches):
    assert make_filter(include=[pattern]).keeps(path) is matches
    assert make_filter(exclude=[pattern]).keeps(path) is not matches


def test_exclude_wins_and_prunes_folders():
    wanted = make_filter(include=["*.bin"], exclude=["old"])
    assert wanted.keeps("new/a.bin")
    assert not wanted.keeps("old/a.bin")
    assert not wanted.enters("x/old")
    assert wanted.enters("x")


def test_an_empty_pattern_is_a_usage_error():
    for pattern in ("", "/"):
        with pytest.raises(UsageError):
            make_filter(exclude=[pattern])


def test_many_stars_do_not_take_exponential_time():
    assert not make_filter(include=["*a" * 60 + "b"]).keeps("a" * 250)
    assert not make_filter(include=["**/a/" * 60 + "b"]).keeps("a/" * 250 + "c")


@given(st.text("ab*?.", min_size=1, max_size=8), st.text("ab.", min_size=1, max_size=8))
def test_one_part_is_matched_as_fnmatch_does(pattern, name):
    if pattern == "**":
        return
    assert make_filter(include=[pattern]).keeps(name) is fnmatch.fnmatchcase(name, pattern)
