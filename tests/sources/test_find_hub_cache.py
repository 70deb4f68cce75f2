"""Hub caches: snapshots of linked blobs, refs, and links that lie."""

import os
from pathlib import Path

import pytest

from hartonomous.ports.source import CandidateKind
from hartonomous.sources.hub_cache import repository_name

OLD, NEW = "0" * 39 + "a", "f" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "onnx/model.onnx": b"graph"}


def test_each_snapshot_is_a_candidate_with_its_revision_and_refs_as_labels(hub, find):
    new = hub.snapshot("models--org--name", NEW, FILES, refs=["main", "refs/pr/1"])
    hub.snapshot("models--org--name", OLD, FILES | {"config.json": b"[]"}, refs=["v1.0"])
    os.utime(new, ns=(0, 0))  # main comes last all the same
    old, latest = find(hub.top).candidates
    assert old.labels == ("v1.0", OLD)
    assert latest.labels == ("main", "refs/pr/1", NEW)
    assert old.names[0] == latest.names[0] == "org/name"
    assert latest.names[1] == "hub/org/name"
    assert old.source == latest.source == str(hub.top / "models--org--name")
    assert [member.path for member in latest.members] == sorted(FILES)
    for member in latest.members:
        assert Path(member.location).read_bytes() == FILES[member.path]
    assert latest.kind is CandidateKind.MODEL


def test_every_level_of_the_cache_may_be_the_argument(hub, find, tmp_path):
    place = hub.snapshot("models--org--name", NEW, FILES, refs=["main"])
    expected = find(hub.top).all
    assert len(expected) == 1
    repository = hub.top / "models--org--name"
    for argument in (tmp_path, repository, repository / "snapshots", place):
        assert find(argument).all == expected
    (tmp_path / "alias").symlink_to(place)
    assert find(tmp_path / "alias").candidates == expected


def test_one_snapshot_of_two_may_be_the_argument(hub, find):
    hub.snapshot("models--org--name", NEW, FILES, refs=["main"])
    place = hub.snapshot("models--org--name", OLD, FILES)
    (one,) = find(place).all
    assert one.labels == (OLD,)


def test_a_cache_inside_a_tree_is_found(hub, find, write, tmp_path):
    hub.snapshot("models--gpt2", NEW, FILES)
    write("loose.gguf")
    assert sorted(find(tmp_path).contents) == sorted(["gpt2", f"{tmp_path.name}/loose.gguf"])


def test_datasets_and_spaces_are_files_under_their_own_names(hub, find):
    hub.snapshot("models--org--same", NEW, FILES)
    hub.snapshot("datasets--org--same", NEW, {"data/train.csv": b"1"})
    hub.snapshot("spaces--org--same", NEW, {"app.py": b"1"})
    found = find(hub.top)
    assert sorted(found.contents) == ["datasets/org/same", "org/same", "spaces/org/same"]
    assert found.candidate("datasets/org/same").kind is CandidateKind.FILE


def test_a_nested_checkpoint_stays_in_its_snapshot(hub, find):
    nested = {f"checkpoint-1/{path}": content + b"1" for path, content in FILES.items()}
    hub.snapshot("models--org--name", NEW, FILES | nested)
    assert len(find(hub.top).contents["org/name"]) == 6


def test_locks_tokens_and_other_leavings_are_never_added(hub, find, write, tmp_path):
    hub.snapshot("models--org--name", NEW, FILES)
    write(
        "hub/.locks/models--org--name/x.lock",
        "hub/models--org--name/.no_exist/abc/adapter.json",
        "hub/version.txt",
        "token",
        "stored_tokens",
        "xet/chunk-cache/x",
    )
    found = find(tmp_path)
    assert list(found.contents) == ["org/name"]
    assert "itself" in found.reason("/token")
    assert list(find(hub.top).contents) == ["org/name"]


def test_unfinished_downloads_are_noted(hub, find):
    place = hub.snapshot("models--org--name", NEW, FILES)
    blobs = hub.top / "models--org--name/blobs"
    (blobs / "abc.incomplete").write_bytes(b"half")
    (blobs / "abd").symlink_to("abc.incomplete")
    (place / "half.bin").symlink_to("../../blobs/abd")
    (place / "missing.bin").symlink_to("../../blobs/never")
    found = find(hub.top)
    assert "unfinished" in found.reason("abc.incomplete")
    (one,) = found.candidates
    assert [member.path for member in one.members] == sorted(FILES)
    assert any("half.bin" in note and "unfinished" in note for note in one.notes)
    assert any("missing.bin" in note and "nowhere" in note for note in one.notes)


def test_links_that_leave_the_repository_are_not_followed(hub, find, write):
    other = hub.snapshot("models--org--other", NEW, {"secret.bin": b"secret"})
    place = hub.snapshot("models--org--name", NEW, FILES)
    write("secret.txt")
    (place / "passwd").symlink_to("../../../../../../../../../etc/passwd")
    (place / "neighbour").symlink_to(other / "secret.bin")
    (place / "up").symlink_to("../../../../secret.txt")
    (place / "loop").symlink_to("loop")
    (place / "folder").symlink_to("../../blobs")
    found = find(hub.top / "models--org--name")
    (one,) = found.candidates
    assert [member.path for member in one.members] == sorted(FILES)
    assert len(one.notes) == 5


def test_a_cache_without_links_is_read_too(find, write, tmp_path):
    write(f"models--a--b/snapshots/{NEW}/config.json", f"models--a--b/snapshots/{NEW}/m.gguf")
    (one,) = find(tmp_path / "models--a--b").all
    assert one.names[0] == "a/b"
    assert len(one.members) == 2


def test_strange_refs_and_revisions_cost_a_note(hub, find, tmp_path):
    repository = hub.top / "models--org--name"
    hub.snapshot("models--org--name", "not a label", FILES, refs=["main"])
    (repository / "refs/has space").write_text(NEW)
    (repository / "refs/long").write_text("x" * 1000)
    (repository / "refs/link").symlink_to("/etc/passwd")
    (repository / "refs/binary").write_bytes(b"\xff\n")
    (repository / "snapshots/file").write_text("x")
    (repository / "snapshots/empty").mkdir()
    found = find(hub.top)
    (one,) = found.candidates
    assert one.labels == ("main",)
    assert "not a label" in one.notes[0]
    assert "label" in found.reason("has space")
    assert "too long" in found.reason("refs/long")
    assert "no ref" in found.reason("refs/link")
    assert "no snapshot" in found.reason("snapshots/file")
    assert "without files" in found.reason("snapshots/empty")


def test_refs_are_bounded(hub, find, monkeypatch):
    monkeypatch.setattr("hartonomous.sources.hub_cache.MAX_REFS", 3)
    hub.snapshot("models--org--name", NEW, FILES, refs=[f"r{number}" for number in range(9)])
    found = find(hub.top)
    assert len(found.candidates[0].labels) == 4
    assert "more than 3 refs" in found.reason("/refs")


def test_a_repository_without_snapshots_says_so(find, tmp_path):
    (tmp_path / "models--a--b/blobs").mkdir(parents=True)
    found = find(tmp_path / "models--a--b")
    assert found.candidates == []
    assert found.reason("snapshots")


def test_patterns_see_the_name_and_the_path_inside(hub, find):
    hub.snapshot("models--org--one", NEW, FILES)
    hub.snapshot("models--org--two", NEW, FILES)
    assert list(find(hub.top, include=["org/one"]).contents) == ["org/one"]
    assert find(hub.top, exclude=["onnx", "org/two"]).contents == {
        "org/one": ["config.json", "model.safetensors"]
    }


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models--org--name", "org/name"),
        ("models--gpt2", "gpt2"),
        ("datasets--a--b", "datasets/a/b"),
        ("models--", None),
        ("models----x", None),
        ("models--..--x", None),
        ("other--a--b", None),
    ],
)
def test_repository_names(folder, name):
    assert repository_name(folder) == name
