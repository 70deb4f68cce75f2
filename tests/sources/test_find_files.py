"""Single files, split GGUF sets, and what arguments may be."""

import os
import stat
from pathlib import Path

import pytest

from hartonomous.errors import NotFoundError, UsageError
from hartonomous.ports.source import CandidateKind
from hartonomous.sources.discover import discover


def test_a_file_has_its_file_name_then_longer_endings(write, find):
    top = write("m/bert/model.safetensors")
    location = top / "m/bert/model.safetensors"
    location.chmod(0o640)
    os.utime(location, ns=(1, 1_700_000_000_123_456_789))
    (one,) = find(location).all
    assert one.kind is CandidateKind.MODEL
    assert one.names[:2] == ("model.safetensors", "bert/model.safetensors")
    assert one.names[-1] == str(location).lstrip("/")
    assert one.source == str(location)
    (member,) = one.members
    assert member.path == "model.safetensors"
    assert member.raw_path is None
    assert member.size == location.stat().st_size
    assert member.mode == 0o640
    assert member.modified_us == 1_700_000_000_123_456


def test_relative_arguments_become_absolute(write, find, monkeypatch):
    top = write("a/b/x.bin", "a/y.bin")
    monkeypatch.chdir(top / "a/b")
    (one,) = find("x.bin").all
    assert one.source == str(top / "a/b/x.bin")
    (other,) = find("../y.bin").all
    assert other.source == str(top / "a/y.bin")
    assert find(".").candidates[0].source == str(top / "a/b/x.bin")


def test_parents_behind_a_link_are_the_real_ones(write, find):
    top = write("real/deep/x.bin", "real/y.bin", "y.bin")
    (top / "link").symlink_to(top / "real/deep")
    (one,) = find(top / "link/../y.bin").all
    assert one.source == str(top / "real/y.bin")


def test_kind_is_told_by_the_name(write, find):
    names = {
        "a.gguf": CandidateKind.MODEL,
        "pytorch_model.bin": CandidateKind.MODEL,
        "data.bin": CandidateKind.FILE,
        "training_args.bin": CandidateKind.FILE,
        "optimizer.pt": CandidateKind.FILE,
        "notes.txt": CandidateKind.FILE,
    }
    top = write(*names)
    for name, kind in names.items():
        assert find(top / name).candidates[0].kind is kind


def test_an_argument_is_taken_whatever_its_name(write, find):
    top = write(".hidden.bin", "x.tmp")
    found = find(top / ".hidden.bin", top / "x.tmp")
    assert found.contents == {".hidden.bin": [".hidden.bin"], "x.tmp": ["x.tmp"]}


def test_a_link_that_was_named_is_followed_and_keeps_its_name(write, find):
    top = write("store/v3.gguf")
    (top / "latest.gguf").symlink_to("store/v3.gguf")
    (one,) = find(top / "latest.gguf").all
    assert one.names[0] == "latest.gguf"
    assert Path(one.members[0].location).read_bytes() == b"store/v3.gguf"


def test_names_that_cannot_be_printed_are_escaped(write, find):
    top = write("two\nlines.bin", b"caf\xe9.bin", "with space ü.bin", "back\\slash")
    found = find(top)
    expected = {
        r"back\x5cslash": b"back\\slash",
        r"caf\xe9.bin": b"caf\xe9.bin",
        r"two\x0alines.bin": b"two\nlines.bin",
        "with space ü.bin": None,
    }
    endings = {each.names[0].split("/")[-1]: each.members[0].raw_path for each in found.candidates}
    assert endings == expected
    for each in found.candidates:
        member = each.members[0]
        raw = member.raw_path or member.path.encode()
        assert Path(member.location).read_bytes() == raw
        each.source.encode()  # can be stored as text


def test_a_split_gguf_is_one_model_by_any_of_its_parts(write, find):
    parts = [f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    top = write(*parts, "other-00001-of-00003.gguf", "big.gguf")
    found = find(*(top / part for part in parts))
    assert found.contents == {"big": parts}
    assert found.candidates[0].source == str(top / parts[0])
    assert found.candidates[0].notes == ()
    assert find(top / parts[1]).contents == {"big": parts}


def test_a_split_gguf_with_a_part_missing_says_so(write, find):
    top = write("big-00001-of-00003.gguf", "big-00003-of-00003.gguf")
    (one,) = find(top / "big-00003-of-00003.gguf").candidates
    assert len(one.members) == 2
    assert "1 of 3 parts" in one.notes[0]


def test_part_numbers_that_make_no_sense_are_plain_files(write, find):
    top = write("a-00000-of-00002.gguf", "a-00003-of-00002.gguf", "a-1-of-2.gguf")
    assert len(find(top).candidates) == 3


def test_a_hidden_part_that_was_named_is_taken(write, find):
    top = write(".x-00001-of-00001.gguf")
    assert find(top / ".x-00001-of-00001.gguf").contents == {".x": [".x-00001-of-00001.gguf"]}


@pytest.mark.parametrize("path", ["missing", "file/below", "nul\0byte"])
def test_a_path_that_does_not_exist_is_named_before_anything_is_yielded(write, path):
    top = write("file")
    with pytest.raises(NotFoundError) as caught:
        discover([top / "file", f"{top}/{path}"])
    assert path.replace("\0", r"\x00") in caught.value.message
    assert caught.value.hint


def test_a_dangling_or_looping_link_is_not_found(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("gone", "loop"):
        with pytest.raises(NotFoundError):
            discover([tmp_path / name])


def test_empty_arguments_are_usage_errors():
    for paths in ([], [""]):
        with pytest.raises(UsageError):
            discover(paths)


def test_a_pipe_is_skipped_and_never_opened(tmp_path, find):
    os.mkfifo(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert "pipe" in find(tmp_path / "pipe").reason("/pipe")


def test_nothing_found_is_said(write, find):
    top = write("d/.hidden", "x.bin")
    assert "hidden or temporary: .hidden (--hidden takes them)" in find(top / "d").reason("/d")
    (top / "empty").mkdir()
    assert "nothing to add" in find(top / "empty").reason("/empty")
    assert "nothing to add" in find(top / "x.bin", exclude=["*.bin"]).reason("/x.bin")


def test_a_file_whose_size_is_not_told_is_not_taken_for_empty(write, find):
    found = find("/proc/self/status")
    assert found.candidates == []
    assert "its size is not told beforehand" in found.reason("/proc/self/status")
    top = write("there")
    (top / "there").write_bytes(b"")
    (one,) = find(top / "there").candidates
    assert one.size == 0
