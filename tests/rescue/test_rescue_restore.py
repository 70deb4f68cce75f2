"""rescue.py gives back what packs hold: bytes, names, versions, labels, removals."""

import ast
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_by_hand import PackByHand, StoreByHand, uid

from hartonomous.core.record import Encoding, RecordKind
from hartonomous.packs import rescue
from hartonomous.packs.member_paths import disk_path

NOISE = np.random.default_rng(7).bytes(700_000)
WEIGHTS = np.random.default_rng(7).standard_normal(90_001, np.float32).tobytes()
TEXT = b"all work and no play " * 30_000


def files_below(place: Path) -> dict[str, bytes]:
    """Return every file under a folder by its relative path."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def two_versions(store: StoreByHand) -> tuple[str, str]:
    """Store two versions of one model and one more file."""
    first = store.commit("bert/model", 1, {"config.json": [b"{}"], "w.bin": [NOISE[:90_000]]})
    second = store.commit("bert/model", 2, {"config.json": [b'{"a":1}'], "w.bin": [NOISE[9:]]})
    store.commit("notes.txt", 1, {"notes.txt": [TEXT]}, encoding=Encoding.ZSTD)
    return first, second


def test_atoms_of_several_extents_in_several_packs_come_back(store, run, tmp_path):
    cut = (NOISE[:300_000], NOISE[300_000:300_001], NOISE[300_001:])
    parts = [b"head", cut, TEXT, TEXT[:200], b"tail"]
    parts.insert(1, WEIGHTS)
    encodings = (Encoding.RAW, Encoding.ZSTD, Encoding.FIELDS)
    for encoding in encodings:
        store.commit(encoding.name, 1, {"a/b.bin": parts}, encoding=encoding, frame_bytes=65_536)
    store.write()
    run("restore", tmp_path / "out")
    whole = b"head" + WEIGHTS + NOISE + TEXT + TEXT[:200] + b"tail"
    assert files_below(tmp_path / "out") == {f"{one.name}/a/b.bin": whole for one in encodings}
    run("verify")


def test_an_empty_file_comes_back(store, run, tmp_path):
    store.commit("empty", 1, {"empty": []})
    run("restore", store.write(), tmp_path / "out")
    assert files_below(tmp_path / "out") == {"empty/empty": b""}


def test_the_newest_version_is_restored_and_all_when_asked(store, run, tmp_path):
    first, second = two_versions(store)
    store.write()
    run("restore", tmp_path / "new")
    new = files_below(tmp_path / "new")
    assert new["bert/model/w.bin"] == store.files[second]["w.bin"]
    assert new["notes.txt/notes.txt"] == TEXT
    assert len(new) == 3
    run("restore", tmp_path / "all", "--all-versions", "--name", "bert/model")
    assert files_below(tmp_path / "all") == {
        f"bert/model@{number}/{path}": content
        for number, version in ((1, first), (2, second))
        for path, content in store.files[version].items()
    }
    assert "no version" in run("restore", tmp_path / "x", "--name", "nobody", code=1).stderr


def test_modes_times_and_names_that_are_no_utf8_come_back(store, run, tmp_path):
    store.commit("odd", 1, {"caf_": [b"x" * 100]}, raw_path=b"caf\xe9")
    store.write()
    run("restore", tmp_path / "out")
    status = (tmp_path / "out" / "odd" / os.fsdecode(b"caf\xe9")).stat()
    assert status.st_mode & 0o777 == 0o640
    assert status.st_mtime == 1_600_000_000


def test_list_shows_labels_sizes_and_removals(store, run):
    first, second = two_versions(store)
    store.change("label", artifact=uid("bert/model"), label="prod", version_uid=second,
                 previous_uid=None)  # fmt: skip
    store.change("remove", version_uids=[first], labels=[])
    store.write()
    lines = run("list").stdout.splitlines()
    assert lines == [
        "bert/model@1  90002 bytes  2 files  (removed)",
        "bert/model@2  699998 bytes  2 files  prod",
        f"notes.txt@1  {len(TEXT)} bytes  1 files",
    ]


def test_removed_stays_removed_unless_asked_for(store, run, tmp_path):
    first, second = two_versions(store)
    store.change("remove", version_uids=[second], labels=[])
    store.write()
    run("restore", tmp_path / "kept", "--name", "bert/model")
    kept = files_below(tmp_path / "kept")
    assert kept["bert/model/w.bin"] == store.files[first]["w.bin"]
    run("restore", tmp_path / "both", "--name", "bert/model", "--include-removed")
    both = files_below(tmp_path / "both")
    assert both["bert/model/w.bin"] == store.files[second]["w.bin"]


def test_purged_versions_never_come_back(store, run):
    first, _ = two_versions(store)
    store.change("remove", version_uids=[first], labels=[])
    seq = store.change("purge", version_uids=[first], manifests=[])
    store.change("undo", of=seq)
    store.write()
    assert "bert/model@1" not in run("list").stdout
    assert "bert/model@2" in run("list").stdout


def test_undo_reverses_each_kind_of_change(store, run):
    first, second = two_versions(store)
    bert = uid("bert/model")
    label = {"artifact": bert, "label": "prod"}
    store.change("label", **label, version_uid=first, previous_uid=None)
    moved = store.change("label", **label, version_uid=second, previous_uid=first)
    store.change("undo", of=moved)
    named = store.change("rename", artifact=bert, name="new", previous_name="bert/model")
    again = store.change("undo", of=named)
    gone = store.change("remove", version_uids=[first], labels=[{**label, "version_uid": first}])
    store.change("undo", of=gone)
    taken = store.change("unlabel", artifact=bert, label="prod", previous_uid=first)
    store.change("undo", of=taken)
    store.write()
    assert run("list").stdout.splitlines()[:2] == [
        "bert/model@1  90002 bytes  2 files  prod",
        "bert/model@2  699998 bytes  2 files",
    ]
    store.change("undo", of=again)
    store.write()
    assert "new@2" in run("list").stdout


def test_a_label_given_elsewhere_is_not_taken_back(store, run):
    first, second = two_versions(store)
    label = {"artifact": uid("bert/model"), "label": "prod"}
    store.change("label", **label, version_uid=first, previous_uid=None)
    gone = store.change("remove", version_uids=[first], labels=[{**label, "version_uid": first}])
    store.change("label", **label, version_uid=second, previous_uid=None)
    store.change("undo", of=gone)
    store.write()
    assert "bert/model@2  699998 bytes  2 files  prod" in run("list").stdout


def test_labels_of_a_commit_point_to_its_version(store, run):
    store.commit("a", 1, {"a": [TEXT]}, labels=("prod",))
    store.commit("a", 2, {"a": [NOISE]}, labels=("prod", "best"))
    store.write()
    lines = run("list").stdout.splitlines()
    assert [line.split("  ")[3:] for line in lines] == [[], ["best", "prod"]]


def test_order_is_by_seq_wherever_the_records_lie(store, run):
    store.commit("a", 1, {"a": [TEXT]})
    store.change("rename", artifact=uid("a"), name="b", previous_name="a")
    store.change("rename", artifact=uid("a"), name="c", previous_name="b")
    for pack, key in zip(store.packs, (b"\xff", b"\x80", b"\x00"), strict=True):
        pack.key = key * 16
    store.write()
    assert run("list").stdout.startswith("c@1 ")


def test_two_artifacts_of_one_name_do_not_meet(store, run, tmp_path):
    store.commit("a", 1, {"f": [b"one"]}, name="Same")
    store.commit("b", 1, {"f": [b"two"]}, name="same")
    store.write()
    run("restore", tmp_path / "out")
    assert sorted(files_below(tmp_path / "out").values()) == [b"one", b"two"]


def test_nothing_is_overwritten(store, run, tmp_path):
    two_versions(store)
    store.write()
    there = tmp_path / "out" / "notes.txt" / "notes.txt"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    assert "not overwritten" in run("restore", tmp_path / "out", code=1).stderr
    assert there.read_text() == "mine"
    assert len(files_below(tmp_path / "out")) == 3


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//x", ".", "", "a\0b", "a/"])
def test_paths_that_lead_out_are_refused(store, run, tmp_path, path):
    store.commit("bad", 1, {path: [b"evil"], "good": [b"good"]})
    store.write()
    assert "refused" in run("restore", tmp_path / "out", code=4).stderr
    assert files_below(tmp_path / "out") == {"bad/good": b"good"}


def test_raw_paths_that_lead_out_are_refused(store, run, tmp_path):
    store.commit("bad", 1, {"x": [b"evil"]}, raw_path=b"../x")
    store.write()
    assert "refused" in run("restore", tmp_path / "out", code=4).stderr


@pytest.mark.parametrize("name", ["../x", "/x", "..", "a/../../x", "", "\x1b[2Jx", "..\\x"])
def test_names_are_made_harmless(store, run, tmp_path, name):
    store.commit("bad", 1, {"f": [b"content"]}, name=name or "/")
    store.write()
    listed = run("list").stdout
    assert "\x1b" not in listed
    run("restore", tmp_path / "out")
    assert [*files_below(tmp_path / "out").values()] == [b"content"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


@pytest.mark.parametrize("name", ["n" * 512, "é" * 256, f"{'a' * 250}@b/{'c' * 250}"])
def test_names_longer_than_a_disk_takes_are_cut(store, run, tmp_path, name):
    store.commit("one", 1, {"f": [b"first"]}, name=name)
    store.commit("two", 1, {"f": [b"second"]}, name=name)
    store.write()
    run("restore", tmp_path / "out")
    run("restore", tmp_path / "all", "--all-versions")
    for out, cut in (("out", disk_path(name)), ("all", disk_path(f"{name}@1"))):
        assert sorted(files_below(tmp_path / out).values()) == [b"first", b"second"]
        # As hart export writes it, after hart repair: the later one has the name.
        assert (tmp_path / out / cut / "f").read_bytes() == b"second"


def test_a_damaged_file_with_the_longest_name_is_kept_as_far_as_it_goes(store, run, tmp_path):
    version = store.commit("odd", 1, {"n" * 255: [b"x" * 100_000]})
    place = store.write()
    pack = max(place.glob("packs/*/*.pack"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    at = content.index(store.files[version]["n" * 255][:64])
    content[at] ^= 1
    pack.write_bytes(content)
    run("restore", tmp_path / "out", code=4)
    (name,) = files_below(tmp_path / "out")
    assert name.endswith(".damaged")


def test_a_store_that_needs_a_newer_program_is_refused(store, run, tmp_path):
    two_versions(store)
    card = store.write() / "store.json"
    card.write_text(card.read_text().replace('"required_features": []',
                                             '"required_features": ["holograms"]'))  # fmt: skip
    assert "holograms" in run("list", code=1).stderr
    card.unlink()
    assert "bert/model@2" in run("list").stdout


def test_a_pack_that_needs_a_newer_program_is_left_out(store, run):
    two_versions(store)
    store.packs[0].required = 2
    store.write()
    done = run("list", code=4)
    assert "features 0x2" in done.stderr
    assert "bert/model@1" not in done.stdout
    assert "bert/model@2" in done.stdout


def test_unknown_record_kinds_and_strangers_are_skipped(store, run):
    two_versions(store)
    pack = store.packs[0]
    pack.add(RecordKind.VECTORS, b"vectors" * 20)
    store.write()
    (store.place / "packs" / "notes.txt").write_text("not a pack")
    (store.place / "tmp").mkdir()
    assert len(run("list").stdout.splitlines()) == 3


def test_a_folder_that_is_no_store_is_refused(store, run):
    assert "is no store" in run("list", code=1).stderr


def test_the_script_is_python_3_9_and_imports_nothing_of_the_product():
    source = Path(rescue.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(name.name for name in node.names)
    assert {str(name).split(".")[0] for name in imported} <= sys.stdlib_module_names


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(
        st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3), max_size=4
    ),
    frame_bytes=st.integers(1, 200),
    encoding=st.sampled_from([Encoding.RAW, Encoding.ZSTD]),
)
def test_any_cut_into_segments_extents_and_frames_comes_back(
    tmp_path_factory, parts, frame_bytes, encoding
):
    store = StoreByHand(tmp_path_factory.mktemp("store"))
    pieces = [tuple(part) for part in parts]
    how = {"frame_bytes": frame_bytes, "encoding": encoding}
    version = store.commit("a", 1, {"a": pieces}, **how)
    index = rescue.read_store(store.write())
    commit = rescue.replay(index).versions[version]
    out = store.place / "out"
    with out.open("wb") as file:
        assert rescue.rebuild(index, commit["members"][0]["manifest"], file)
    assert out.read_bytes() == b"".join(b"".join(part) for part in parts)


def test_memory_holds_frames_and_not_files(store, run, tmp_path):
    """A file of 192 MiB is restored by a process that may not have 128 MiB."""
    block = bytes(64 << 20)
    content = (block, block, block)
    store.commit("big", 1, {"big": [content]}, encoding=Encoding.ZSTD)
    store.write()
    wrapper = tmp_path / "limited.py"
    wrapper.write_text(
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (128 << 20, 128 << 20))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    run("list")  # puts the script into the store
    done = os.spawnv(os.P_WAIT, sys.executable, [
        sys.executable, str(wrapper), str(store.place / "rescue.py"),
        "restore", str(store.place), str(tmp_path / "out"),
    ])  # fmt: skip
    assert done == 0
    assert (tmp_path / "out" / "big" / "big").stat().st_size == 3 * len(block)


def test_the_builder_follows_the_layout():
    """Packs by hand are read by the product's own reader."""
    from hartonomous.core import record

    pack = PackByHand(key=b"k" * 16)
    pack.add(RecordKind.EXTENT, TEXT, encoding=Encoding.ZSTD, frame_bytes=4096)
    content = pack.content()
    assert record.decode_pack_header(content).key == pack.key
    footer = record.decode_footer(content[-64:])
    toc = content[footer.toc_offset : footer.toc_offset + footer.toc_bytes]
    assert [header.digest for header in record.decode_toc(toc, footer)] == [pack.headers[0].digest]


def test_a_name_that_a_lost_renaming_freed_is_the_later_one_s(store, run, tmp_path):
    """As hart repair names them: who had the name before is recovered under another."""
    store.commit("a", 1, {"x": [b"first"]}, name="x")
    store.commit("b", 1, {"x": [b"second"]}, name="x")  # between them a record is lost: mv x y
    store.write()
    moved = f"recovered/x~{uid('a')[:8]}"
    run("restore", tmp_path / "out")
    assert files_below(tmp_path / "out") == {"x/x": b"second", f"{moved}/x": b"first"}


def test_a_name_of_what_is_in_the_trash_is_free(store, run):
    version = store.commit("a", 1, {"x": [b"first"]}, name="x")
    store.change("remove", version_uids=[version], labels=[])
    store.commit("b", 1, {"x": [b"second"]}, name="x")
    store.write()
    assert "recovered" not in run("list").stdout
