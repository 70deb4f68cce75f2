"""Trees and model folders: what is found, under which name, and what is left out."""

import os
from pathlib import Path

import pytest

from hartonomous.ports.source import CandidateKind
from hartonomous.sources import gather, listing
from hartonomous.sources.discover import discover


def test_the_name_of_what_is_in_a_tree_begins_with_that_of_the_tree(write, find):
    top = write(
        "models/org/x/config.json",
        "models/org/x/model.safetensors",
        "models/org/x/tokenizer/vocab.txt",
        "models/b.gguf",
        "models/readme.md",
    )
    found = find(top / "models")
    assert found.contents == {
        "models/b.gguf": ["b.gguf"],
        "models/org/x": ["config.json", "model.safetensors", "tokenizer/vocab.txt"],
        "models/readme.md": ["readme.md"],
    }
    model = found.candidate("models/org/x")
    assert model.kind is CandidateKind.MODEL
    assert model.names[1] == f"{top.name}/models/org/x"
    assert list(find(top / "models/org").contents) == ["org/x"]
    assert model.source == str(top / "models/org/x")
    assert model.size == sum(Path(member.location).stat().st_size for member in model.members)


def test_a_file_in_a_tree_has_the_name_of_the_tree_in_front(write, find):
    top = write("data/notes/deep/a.txt")
    (one,) = find(top / "data").candidates
    assert one.names[0] == "data/notes/deep/a.txt"
    assert one.members[0].path == "a.txt"
    assert one.kind is CandidateKind.FILE


def test_a_model_folder_has_its_own_name(write, find, monkeypatch):
    top = write("a/bert-base/config.json", "a/bert-base/pytorch_model.bin")
    (one,) = find(f"{top}/a/bert-base/").candidates
    assert one.names[:2] == ("bert-base", "a/bert-base")
    monkeypatch.chdir(top / "a/bert-base")
    (same,) = find(".").candidates
    assert (same.names, same.source) == (one.names, one.source)


@pytest.mark.parametrize(
    "files",
    [
        ["config.json", "model.safetensors"],
        ["config.json", "model.gguf"],
        ["adapter_config.json", "adapter_model.safetensors"],
        ["config.json", "model.onnx"],
        ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
        ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"],
        ["modules.json", "0_Transformer/config.json", "0_Transformer/model.safetensors"],
    ],
)
def test_what_makes_a_folder_one_model(write, find, files):
    top = write(*(f"m/{path}" for path in files))
    assert find(top / "m").contents == {"m": sorted(files)}


@pytest.mark.parametrize(
    "files",
    [
        ["a.gguf", "b.gguf", "readme.md"],
        ["config.json", "training_args.bin"],
        ["config.json", "readme.md"],
        ["a.safetensors", "b.safetensors"],
        ["model_index.json", "unet/readme.md"],
    ],
)
def test_what_does_not(write, find, files):
    top = write(*(f"m/{path}" for path in files))
    assert len(find(top / "m").candidates) == len(files)


def test_split_gguf_sets_in_a_folder_are_one_model_each(write, find):
    top = write(
        "m/q/big-00001-of-00002.gguf",
        "m/q/big-00002-of-00002.gguf",
        "m/q/small.gguf",
        "m/q/big-00001-of-00003.gguf",
    )
    found = find(top / "m", exclude=["big-*-of-00003.gguf"])
    assert found.contents == {
        "m/q/big": ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"],
        "m/q/small.gguf": ["small.gguf"],
    }


def test_a_nested_complete_model_is_its_own(write, find):
    top = write(
        "bert/config.json",
        "bert/model.safetensors",
        "bert/1_Pooling/config.json",
        "bert/onnx/model.onnx",
        "bert/runs/log.txt",
        "bert/runs/checkpoint-500/config.json",
        "bert/runs/checkpoint-500/model.safetensors",
        "bert/runs/checkpoint-500/optimizer.pt",
        "bert/fp16/model.safetensors",
        "bert/fp16/model.safetensors.index.json",
    )
    expected = {
        "bert": [
            "1_Pooling/config.json",
            "config.json",
            "fp16/model.safetensors",
            "fp16/model.safetensors.index.json",
            "model.safetensors",
            "onnx/model.onnx",
            "runs/log.txt",
        ],
        "bert/runs/checkpoint-500": ["config.json", "model.safetensors", "optimizer.pt"],
    }
    assert find(top / "bert").contents == expected
    above = {f"{top.name}/{name}": files for name, files in expected.items()}
    assert find(top).contents == above


def test_the_parts_of_a_composite_belong_to_it_but_checkpoints_do_not(write, find):
    top = write(
        "st/modules.json",
        "st/config.json",
        "st/model.safetensors",
        "st/2_Dense/config.json",
        "st/2_Dense/model.safetensors",
        "st/checkpoint-9/modules.json",
        "st/checkpoint-9/config.json",
        "st/checkpoint-9/model.safetensors",
    )
    found = find(top / "st")
    assert sorted(found.contents) == ["st", "st/checkpoint-9"]
    assert "2_Dense/model.safetensors" in found.contents["st"]


def test_a_checkpoint_in_a_checkpoint_is_found(write, find):
    paths = [f"m{'/checkpoint-1' * depth}" for depth in range(4)]
    top = write(*(f"{p}/{name}" for p in paths for name in ("config.json", "a.safetensors")))
    assert list(find(top / "m").contents) == paths


def test_hidden_lock_and_temporary_files_are_passed_over(write, find):
    top = write(
        "t/.git/config",
        "t/.DS_Store",
        "t/x.lock",
        "t/x.incomplete",
        "t/x.tmp",
        "t/x.part",
        "t/x.txt~",
        "t/x.txt",
        "t/old.tmp/y.txt",
    )
    found = find(top / "t")
    assert sorted(found.contents) == ["t/old.tmp/y.txt", "t/x.txt"]
    assert "only what is hidden or temporary: " in found.reason("/t")
    assert "(--hidden takes them)" in found.reason("/t")
    taken = find(top / "t", hidden=True)
    assert taken.skipped == []
    files = {path for path in (top / "t").rglob("*") if path.is_file()}
    assert sorted(taken.contents) == sorted(f"t/{path.relative_to(top / 't')}" for path in files)
    assert len(taken.contents) > len(found.contents)


def test_hidden_files_of_a_model_folder_come_when_they_are_asked_for(write, find):
    top = write("m/config.json", "m/model.gguf", "m/.gitattributes", "m/.git/HEAD", "m/x.lock")
    (shown,) = find(top / "m").candidates
    assert [one.path for one in shown.members] == ["config.json", "model.gguf"]
    assert "left out hidden or temporary (--hidden takes them): .git, .gitattributes, x.lock" in (
        shown.notes
    )
    (whole,) = find(top / "m", hidden=True).candidates
    assert [one.path for one in whole.members] == [
        ".git/HEAD", ".gitattributes", "config.json", "model.gguf", "x.lock",
    ]  # fmt: skip
    assert whole.notes == ()


def test_links_inside_the_tree_are_kept_as_files(write, find):
    top = write("t/real/a.bin")
    (top / "t/alias.bin").symlink_to("real/a.bin")
    found = find(top / "t")
    assert sorted(found.contents) == ["t/alias.bin", "t/real/a.bin"]
    (member,) = found.candidate("t/alias.bin").members
    assert Path(member.location).read_bytes() == b"t/real/a.bin"
    assert member.location == str(top / "t/alias.bin")  # so that moving removes only the link


def test_links_that_leave_loop_or_dangle_are_skipped(write, find):
    top = write("t/a.bin", "secret.txt", "t2/b.bin")
    for name, target in {
        "up": "../../../../../../../../etc/passwd",
        "absolute": "/etc/passwd",
        "out": "../secret.txt",
        "sibling": "../t2/b.bin",
        "loop": "loop",
        "gone": "nowhere",
        "folder": ".",
    }.items():
        (top / "t" / name).symlink_to(target)
    (top / "t/hop").symlink_to("out")
    found = find(top / "t")
    assert list(found.contents) == ["t/a.bin"]
    for name in ("up", "absolute", "out", "sibling", "hop"):
        assert "leaves" in found.reason(f"t/{name}")
    assert "loop" in found.reason("t/loop")
    assert "nowhere" in found.reason("t/gone")
    assert "folder" in found.reason("t/folder")


def test_links_out_of_a_model_folder_are_notes_of_the_model(write, find):
    top = write("m/config.json", "m/model.safetensors", "m/sub/x", "secret")
    (top / "m/sub/leak").symlink_to("../../secret")
    os.mkfifo(top / "m/pipe")
    found = find(top / "m")
    (one,) = found.candidates
    assert [member.path for member in one.members] == ["config.json", "model.safetensors", "sub/x"]
    assert len(one.notes) == 2
    assert any("leak" in note and "leaves" in note for note in one.notes)
    assert found.skipped == []


def test_a_model_may_link_to_a_file_elsewhere_in_the_tree(write, find):
    top = write("t/shared/vocab.txt", "t/m/config.json", "t/m/model.safetensors")
    (top / "t/m/vocab.txt").symlink_to("../shared/vocab.txt")
    assert find(top / "t").contents["t/m"] == ["config.json", "model.safetensors", "vocab.txt"]
    assert find(top / "t/m").contents["m"] == ["config.json", "model.safetensors"]


def test_pipes_are_skipped(write, find):
    top = write("t/a.txt")
    os.mkfifo(top / "t/pipe")
    found = find(top / "t")
    assert list(found.contents) == ["t/a.txt"]
    assert "pipe" in found.reason("t/pipe")


def test_a_store_is_never_added(write, find):
    store = ["store.json", "packs/ab/1.pack", "catalog.sqlite3"]
    top = write(*(f"t/s/{path}" for path in store), *(f"t/m/s/{path}" for path in store))
    write("t/m/config.json", "t/m/model.safetensors")
    found = find(top / "t")
    assert found.contents == {"t/m": ["config.json", "model.safetensors"]}
    assert [each.reason.split(":")[0] for each in found.skipped] == ["a store", "a store"]
    assert find(top / "t/s").candidates == []


def test_a_folder_of_snapshots_is_never_added(write, find):
    backup = ["backup.json", "packs/ab/1.pack", "snapshots/one/snapshot.json"]
    top = write(*(f"t/b/{path}" for path in backup), "t/backup.json", "t/note.txt")
    found = find(top / "t")
    assert list(found.contents) == ["t/backup.json", "t/note.txt"]
    assert found.reason("t/b") == "snapshots of a store: hart restore makes a store of them"
    assert find(top / "t/b").candidates == []


def test_patterns_apply_to_files_of_trees_and_models(write, find):
    top = write(
        "t/m/config.json",
        "t/m/model.safetensors",
        "t/m/pytorch_model.bin",
        "t/old/a.gguf",
        "t/b.gguf",
        "t/c.txt",
    )
    found = find(top / "t", exclude=["pytorch_model.bin", "old/", "*.txt"])
    assert found.contents == {"t/b.gguf": ["b.gguf"], "t/m": ["config.json", "model.safetensors"]}
    found = find(top / "t", include=["*.gguf", "m/*.safetensors"])
    assert sorted(found.contents) == ["t/b.gguf", "t/m", "t/old/a.gguf"]
    assert found.contents["t/m"] == ["model.safetensors"]


def test_members_are_sorted_by_the_bytes_of_their_paths(write, find):
    names = ["a/b", "a.txt", "a-b", "B", "é", "z", "config.json", "w.safetensors"]
    top = write(*(f"m/{name}" for name in names))
    (one,) = find(top / "m").candidates
    paths = [member.path for member in one.members]
    assert paths == sorted(names, key=str.encode)


def test_the_order_is_the_same_whatever_the_disk_says(write, find, monkeypatch):
    top = write(*(f"t/{name}/{name}.bin" for name in "cab"), "t/b.bin", "t/a.txt")
    expected = [item.source for item in find(top / "t").candidates]
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as found:
                self.items = sorted(found, key=lambda item: item.name, reverse=True)

        def __enter__(self):
            return iter(self.items)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(listing.os, "scandir", Reversed)
    assert [item.source for item in find(top / "t").candidates] == expected
    assert [Path(source).name for source in expected] == [
        "a.bin", "a.txt", "b.bin", "b.bin", "c.bin",
    ]  # fmt: skip


def test_folders_are_listed_only_when_their_turn_comes(write, monkeypatch):
    top = write(*(f"t/{number:03}/x.bin" for number in range(50)))
    listed = []
    scandir = os.scandir

    def counting(path):
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", counting)
    items = discover([top / "t"])
    assert listed == []
    next(items)
    assert len(listed) == 2
    assert len(list(items)) == 49


def test_a_folder_that_may_not_be_read_is_noted_and_passed(write, find, monkeypatch):
    top = write("t/a.bin", "t/locked/b.bin", "t/m/config.json", "t/m/x.gguf", "t/m/locked/c")
    write("t/z.bin")
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(listing.os, "scandir", refusing)
    monkeypatch.setattr(
        listing.os, "access", lambda path, _mode: not os.fspath(path).endswith("z.bin")
    )
    found = find(top / "t")
    assert found.contents == {"t/a.bin": ["a.bin"], "t/m": ["config.json", "x.gguf"]}
    assert "denied" in found.reason("t/locked")
    assert "denied" in found.reason("t/z.bin")
    assert "denied" in found.candidate("t/m").notes[0]


def test_a_path_deeper_than_the_system_allows_is_noted(tmp_path, find):
    top = tmp_path / "t"
    top.mkdir()
    (top / "a.txt").write_text("a")
    home = os.open(top, os.O_RDONLY)
    handle = home
    for _ in range(25):  # 25 × 201 bytes is over what one path may have
        os.mkdir("d" * 200, dir_fd=handle)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
        if handle != home:
            os.close(handle)
        handle = below
    os.close(handle)
    os.close(home)
    found = find(top)
    assert list(found.contents) == ["t/a.txt"]
    assert "name too long" in found.skipped[0].reason.lower()
    _remove_deep(top)


def _remove_deep(top):
    """Move the lower half up first, since tools that clean up use whole paths."""
    half = top.joinpath(*["d" * 200] * 12)
    half.rename(top / "lower")


def test_folders_nested_hundreds_deep_are_walked(tmp_path, find):
    deep = tmp_path / "t" / "/".join(["d"] * 900)
    deep.mkdir(parents=True)
    (deep / "x.bin").write_bytes(b"x")
    (one,) = find(tmp_path / "t").candidates
    assert one.members[0].size == 1
    (tmp_path / "t/config.json").write_text("{}")
    (tmp_path / "t/a.gguf").write_text("")
    (model,) = find(tmp_path / "t").candidates
    assert len(model.members) == 3
    # 900 levels are more than clean-up by recursion may have.
    (tmp_path / "t" / "/".join(["d"] * 450)).rename(tmp_path / "lower")


def test_a_model_with_too_many_files_is_taken_as_a_tree(write, find, monkeypatch):
    monkeypatch.setattr(gather, "MAX_MEMBERS", 5)
    top = write("m/config.json", "m/x.safetensors", *(f"m/data/{n}.txt" for n in range(6)))
    found = find(top / "m")
    assert "as a tree" in found.reason("/m")
    assert len(found.candidates) == 8


def test_notes_of_a_model_are_counted_when_there_are_many(write, find):
    top = write("m/config.json", "m/x.safetensors")
    for number in range(150):
        (top / f"m/gone{number}").symlink_to("nowhere")
    (one,) = find(top / "m").candidates
    assert len(one.notes) == 101
    assert "50 more" in one.notes[-1]


def test_a_folder_whose_own_name_is_no_utf8(write, find):
    top = write(b"m\xff/config.json", b"m\xff/w\xfe.safetensors")
    (one,) = find(os.fsdecode(os.fsencode(top) + b"/m\xff")).candidates
    assert one.names[0] == r"m\xff"
    assert [member.raw_path for member in one.members] == [None, b"w\xfe.safetensors"]
    assert [Path(member.location).exists() for member in one.members] == [True, True]


def test_a_link_to_a_folder_that_was_named_is_walked(write, find):
    top = write("real/m/config.json", "real/m/a.gguf", "real/m/v.txt")
    (top / "alias").symlink_to("real/m")
    (top / "real/m/same.txt").symlink_to("v.txt")
    (one,) = find(top / "alias").candidates
    assert one.names[0] == "alias"
    assert len(one.members) == 4


def test_an_onnx_model_comes_with_its_weights(write, find):
    top = write(
        "m/a.onnx", "m/a.onnx.data", "m/b.onnx", "m/b.onnx_data", "m/b.onnx_data_1", "m/c.onnx",
        "m/d.onnx_data", "m/a.onnx.database",
    )  # fmt: skip
    found = find(top / "m")
    assert found.contents == {
        "m/a.onnx": ["a.onnx", "a.onnx.data"],
        "m/b.onnx": ["b.onnx", "b.onnx_data", "b.onnx_data_1"],
        "m/c.onnx": ["c.onnx"],
        "m/d.onnx_data": ["d.onnx_data"],
        "m/a.onnx.database": ["a.onnx.database"],
    }
    assert found.candidate("m/b.onnx").kind is CandidateKind.MODEL
    assert find(top / "m/b.onnx").contents == {"b.onnx": ["b.onnx", "b.onnx_data", "b.onnx_data_1"]}
    assert find(top / "m/b.onnx_data").contents == {"b.onnx_data": ["b.onnx_data"]}
    assert find(top / "m/c.onnx").contents == {"c.onnx": ["c.onnx"]}
    without = find(top / "m", exclude=["*_data*"])
    assert without.contents["m/b.onnx"] == ["b.onnx"]


def test_weights_of_onnx_that_lie_elsewhere_are_left_out_with_a_note(write, find):
    top = write("m/a.onnx", "secret")
    (top / "m/a.onnx.data").symlink_to(top / "secret")
    (one,) = find(top / "m").candidates
    assert [member.path for member in one.members] == ["a.onnx"]
    assert one.notes[0].startswith(f"left out {top}/m/a.onnx.data: ")
