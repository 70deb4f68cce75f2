"""rescue.py on damaged stores, and on machines that lack the packages it would like to have."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_by_hand import StoreByHand, encode, to_json

from hartonomous.codecs import kernel
from hartonomous.core.digest import digest
from hartonomous.core.record import Encoding, RecordKind
from hartonomous.packs import rescue

NOISE = np.random.default_rng(3).bytes(400_000)
WEIGHTS = np.random.default_rng(3).standard_normal(80_000, np.float32).tobytes()
TEXT = b"all work and no play " * 9_000
FRAME = 65_536
ALL = ("blake3", "xxhash", "backports", "compression", "zstandard", "numpy")


@pytest.fixture
def one(store: StoreByHand) -> Path:
    """A store of one file in one pack; the path of the pack."""
    store.commit("a", 1, {"a.bin": [NOISE, TEXT]}, encoding=Encoding.ZSTD, frame_bytes=FRAME)
    store.packs[0].key = bytes(16)  # the first of all packs, whose copies are tried first
    store.write()
    return store.path_of(store.packs[0])


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def restored(run, out: Path, **how) -> tuple[bytes, str]:
    """Restore and return the file's bytes and what was said."""
    said = run("restore", out, **how).stderr
    return (out / "a" / "a.bin").read_bytes(), said


@pytest.mark.parametrize("packages", [(), ALL])
@pytest.mark.parametrize("lost", ["footer", "contents", "end", "half the contents", "start"])
def test_a_pack_without_its_ends_is_salvaged(store, one, run, hide, tmp_path, lost, packages):
    content = one.read_bytes()
    toc_offset = struct.unpack_from("<Q", content, len(content) - 56)[0]
    toc_bytes = len(content) - 64 - toc_offset
    damaged = {
        "footer": content[:-64] + bytes(64),
        "contents": content[:toc_offset] + bytes(toc_bytes) + content[-64:],
        "end": content[:toc_offset],
        "half the contents": content[: toc_offset + toc_bytes // 2],
        "start": bytes(64) + content[64:],
    }
    one.write_bytes(damaged[lost])
    got, said = restored(run, tmp_path / "out", code=4, env=hide(*packages))
    assert got == NOISE + TEXT
    assert "reading what is left of it" in said


def test_a_damaged_record_header_is_found_in_the_contents(store, one, run, tmp_path):
    for header in store.packs[0].headers:
        flip(one, header.offset - 60)
    one.write_bytes(one.read_bytes()[:-64])  # and the footer is lost as well
    got, _ = restored(run, tmp_path / "out", code=4)
    assert got == NOISE + TEXT


def test_a_flipped_byte_is_reported_and_the_rest_is_kept(store, one, run, tmp_path):
    header = store.packs[0].headers[0]
    flip(one, header.offset + FRAME + 5)  # in the second frame, which is stored raw
    done = run("restore", tmp_path / "out", code=4)
    assert "fails its checksum" in done.stderr
    whole = NOISE + TEXT
    assert not (tmp_path / "out" / "a" / "a.bin").exists()
    kept = (tmp_path / "out" / "a" / "a.bin.damaged").read_bytes()
    assert kept == whole[:FRAME] + bytes(FRAME) + whole[2 * FRAME :]
    assert "fails its checksum" in run("verify", code=4).stderr


def test_a_flipped_byte_is_reported_without_any_package(store, one, run, hide, tmp_path):
    flip(one, store.packs[0].headers[0].offset + 5)
    env = hide(*ALL)
    assert "SHA-256 is wrong" in run("verify", code=4, env=env).stderr
    assert "is not what it was" in run("restore", tmp_path / "out", code=4, env=env).stderr
    assert (tmp_path / "out" / "a" / "a.bin.damaged").stat().st_size == len(NOISE + TEXT)


@pytest.mark.parametrize("packages", [(), ("blake3",), ("xxhash",), ALL])
def test_any_intact_copy_serves(store, one, run, hide, tmp_path, packages):
    store.commit("b", 1, {"b.bin": [(NOISE[:1000], NOISE[1000:])]}, frame_bytes=777)
    store.write()
    flip(one, store.packs[0].headers[0].offset + 5)
    got, _ = restored(run, tmp_path / "out", env=hide(*packages), code=4)
    assert got == NOISE + TEXT


def test_copies_fill_the_gaps_of_each_other(store, one, run, tmp_path):
    store.pack().add(RecordKind.EXTENT, NOISE, frame_bytes=10_000)
    store.write()
    flip(one, store.packs[0].headers[0].offset + 5)
    flip(store.path_of(store.packs[1]), store.packs[1].headers[0].offset + 300_000)
    got, said = restored(run, tmp_path / "out", code=4)
    assert got == NOISE + TEXT
    assert said.count("fails its checksum") == 2


@pytest.mark.parametrize("packages", [(), ("blake3",)])
def test_wrong_content_with_a_right_checksum_is_found(store, run, hide, tmp_path, packages):
    wrong = store.pack()
    wrong.key = bytes(16)
    wrong.add(RecordKind.EXTENT, bytes(len(NOISE)), name=digest(NOISE))
    store.commit("a", 1, {"a.bin": [NOISE]}, atoms=False)
    store.write()
    env = hide(*packages)
    said = run("verify", code=4, env=env).stderr
    assert "its SHA-256 is wrong" in said
    assert ("has wrong content" in said) is (not packages)
    store.pack().add(RecordKind.EXTENT, NOISE)
    store.write()
    got, said = restored(run, tmp_path / "out", code=4, env=env)
    assert got == NOISE
    assert "another copy served" in said


def test_a_lost_pack_costs_only_what_it_held(store, one, run, tmp_path):
    store.commit("b", 1, {"b.bin": [(NOISE[:9_000], NOISE[9_000:70_000]), TEXT[:500]]})
    store.write()
    store.path_of(store.packs[2]).unlink()
    done = run("restore", tmp_path / "out", code=4)
    assert (tmp_path / "out" / "a" / "a.bin").read_bytes() == NOISE + TEXT
    kept = (tmp_path / "out" / "b" / "b.bin.damaged").read_bytes()
    assert kept == NOISE[:9_000] + bytes(61_000) + TEXT[:500]
    assert "1 files restored" in done.stdout


def test_a_damaged_commit_is_reported(store, one, run):
    flip(one, store.packs[0].headers[-1].offset + 40)
    assert "commit or change cannot be read" in run("list", code=4).stderr


@pytest.mark.parametrize("encoding", [Encoding.RAW, Encoding.ZSTD])
def test_without_any_package_the_zstd_program_serves(store, run, hide, tmp_path, encoding):
    store.commit("a", 1, {"a.bin": [(TEXT[:70_000], TEXT[70_000:]), NOISE]}, encoding=encoding)
    store.change("remove", version_uids=[], labels=[])
    store.write()
    env = hide(*ALL)
    got, said = restored(run, tmp_path / "out", env=env)
    assert got == TEXT + NOISE
    assert "no blake3 here" in said
    assert "no xxhash here" in said
    run("verify", env=env)


def test_without_any_zstd_the_remedy_is_named(store, one, run, hide, tmp_path):
    env = hide(*ALL, path=str(tmp_path))
    assert "install the program zstd" in run("list", env=env, code=1).stderr


@pytest.mark.parametrize("packages", [(), ALL])
def test_a_frame_that_grows_without_end_is_bounded(store, run, hide, tmp_path, packages):
    """A few bytes that would decode to 256 MiB are damage, not a full memory."""
    content = bytes(200_000)
    bomb = encode(bytes(256 << 20), Encoding.ZSTD)
    pack = store.pack()
    pack.add(RecordKind.EXTENT, content, encoding=Encoding.ZSTD, frames=[bomb])
    store.commit("a", 1, {"a.bin": [content]}, pack=pack, atoms=False)
    store.write()
    done = run("restore", tmp_path / "out", code=4, env=hide(*packages))
    assert "does not decode to its length" in done.stderr
    assert (tmp_path / "out" / "a" / "a.bin.damaged").stat().st_size == len(content)


def test_garbage_never_raises(one, run):
    """Bytes flipped anywhere end in a report and an exit code, not in a traceback."""
    whole = one.read_bytes()
    random = np.random.default_rng(11)
    for _ in range(12):
        content = bytearray(whole)
        for at in random.integers(0, len(content), 40):
            content[at] = int(random.integers(256))
        start = int(random.integers(0, len(content) - 3000))
        content[-3000:] = content[start : start + 3000]
        one.write_bytes(content)
        done = run("verify", code=4)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "commit"},
        {"kind": "commit", "members": [1]},
        {"members": [{"path": "a", "manifest": "zz", "mode": 1, "modified_us": 1, "size": 1}]},
        {"members": [{"path": 5, "manifest": "00", "mode": 1, "modified_us": 1, "size": 1}]},
        {"seq": "1"},
        {"number": None},
        {"labels": [[]]},
        {"uid": []},
        {"kind": "change", "action": "label", "artifact": []},
        {"kind": "change", "action": "remove", "version_uids": 5, "labels": {}},
        {"kind": "change", "action": "undo", "of": None},
        {"kind": []},
    ],
)
def test_commits_and_changes_of_wrong_shape_are_reported(store, one, run, tmp_path, fields):
    commit = {
        "version": 1, "kind": "commit", "seq": 9, "time_us": 9, "artifact": "x", "name": "x",
        "number": 1, "uid": "x", "digest": "", "members": [], "labels": [],
    }  # fmt: skip
    bare = {"version": 1, "seq": 9, "time_us": 9}
    entry = {**(bare if "kind" in fields else commit), **fields}
    store.pack().add(RecordKind.COMMIT, to_json(entry))
    store.write()
    done = run("restore", tmp_path / "out", code=4)
    assert "DAMAGED" in done.stderr
    assert (tmp_path / "out" / "a" / "a.bin").read_bytes() == NOISE + TEXT


def test_a_commit_without_a_name_is_reported(store, one, run):
    commit = {
        "version": 1, "kind": "commit", "seq": 9, "time_us": 9, "artifact": "x", "number": 1,
        "uid": "x", "digest": "", "members": [], "labels": [],
    }  # fmt: skip
    store.pack().add(RecordKind.COMMIT, to_json(commit))
    store.write()
    done = run("list", code=4)
    assert "DAMAGED" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout.startswith("a@1")


@pytest.mark.parametrize("place", [1 << 63, (1 << 64) - 512])
def test_a_payload_that_lies_nowhere_is_reported(store, one, run, tmp_path, place):
    pack = store.pack()
    pack.add(RecordKind.EXTENT, NOISE)
    pack.headers[0] = pack.headers[0].at(place)
    store.write()
    done = run("verify", code=4)
    assert "cannot be read" in done.stderr and "Traceback" not in done.stderr
    run("restore", tmp_path / "out", code=None)
    assert (tmp_path / "out" / "a" / "a.bin").read_bytes() == NOISE + TEXT


@pytest.mark.parametrize(
    "segments",
    [
        [[1 << 70, "AAAA", None]],
        [[1 << 62, "AAAA", None]],
        [[-1, "AAAA", None], [1, None, "QQ=="]],
        [[5, None, "QQ=="]],
        [[1, None, "Q"]],
        [[1, 5, None]],
        [[]],
        [5],
        "abc",
        {"a": 1},
        None,
    ],
)
def test_manifests_of_wrong_shape_are_reported(store, one, run, tmp_path, segments):
    lengths = [part[0] for part in segments if isinstance(part, list) and part] if segments else []
    manifest = to_json({"version": 1, "size": sum(lengths), "sha256": "", "segments": segments})
    pack = store.pack()
    pack.add(RecordKind.MANIFEST, manifest)
    member = {"path": "x", "manifest": digest(manifest).hex(), "mode": 1, "modified_us": 1 << 80,
              "size": 1, "raw_path": 5}  # fmt: skip
    commit = {
        "version": 1, "kind": "commit", "seq": 9, "time_us": 9, "artifact": "x", "name": "x",
        "number": 1, "uid": "\ud800", "digest": "", "members": [member, {**member, "raw_path": ""}],
        "labels": [],
    }  # fmt: skip
    pack.add(RecordKind.COMMIT, to_json(commit))
    store.write()
    assert "x: x" in run("verify", code=4).stderr
    done = run("restore", tmp_path / "out", code=None)
    assert done.returncode in (1, 4)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "a" / "a.bin").read_bytes() == NOISE + TEXT


def test_deep_json_is_reported(store, one, run):
    store.pack().add(RecordKind.CHANGE, b"[" * 500_000)
    store.write()
    assert "cannot be read" in run("list", code=4).stderr


def test_a_bad_frame_of_fields_costs_that_frame(store, run, hide, tmp_path):
    """Without xxhash nothing is seen before decoding; the frames decoded with it are kept."""
    frames = [encode(WEIGHTS[k * FRAME : (k + 1) * FRAME], Encoding.FIELDS, k) for k in range(5)]
    frames[2] = frames[2][:400] + bytes([frames[2][400] ^ 1]) + frames[2][401:]  # the exponents
    store.commit("a", 1, {"a.bin": [WEIGHTS]}, atoms=False)
    store.packs[0].add(
        RecordKind.EXTENT, WEIGHTS, encoding=Encoding.FIELDS, frame_bytes=FRAME, frames=frames
    )
    store.write()
    run("restore", tmp_path / "out", code=4, env=hide("xxhash", "blake3"))
    got = (tmp_path / "out" / "a" / "a.bin.damaged").read_bytes()
    assert got == WEIGHTS[: 2 * FRAME] + bytes(FRAME) + WEIGHTS[3 * FRAME :]


def test_without_numpy_the_remedy_is_named(store, run, hide, tmp_path):
    store.commit("a", 1, {"a.bin": [WEIGHTS]}, encoding=Encoding.FIELDS, frame_bytes=FRAME)
    store.write()
    said = run("restore", tmp_path / "out", code=1, env=hide("numpy")).stderr
    assert "install the Python package numpy" in said


_STATES = struct.pack("<I", 0) + struct.pack("<I", 1 << 15) * 32
_HALF = b"\x87\xff"  # 2048 - 1, in two bytes


@pytest.mark.parametrize(
    ("field", "plane", "sound"),
    [
        ((1, 1), struct.pack("<I", 1) + b"\3" + _HALF + _HALF, True),
        ((1, 1), struct.pack("<I", 3) + b"\3\0" + _HALF + _HALF, False),  # an empty group
        ((1, 1), struct.pack("<I", 1) + b"\3" + b"\x80\x00\x8f\xfe", False),  # 0 in two bytes
        ((1, 4096), struct.pack("<I", 1) + b"\3" + _HALF + _HALF, True),
        ((1, 4097), struct.pack("<I", 1) + b"\3" + _HALF + _HALF, False),
    ],
)
def test_tables_and_elements_are_refused_as_by_the_program(field, plane, sound):
    """Frames of no element, so that nothing but their structure can be wrong."""
    payload = struct.pack("<IHBBH", 0, 0, 1, *field) + b"\2" + plane + _STATES
    (found,) = rescue.decode_fields([payload], [0])
    faults = kernel.active().decode_many([memoryview(payload)], [memoryview(bytearray())])
    assert isinstance(found, rescue.DamageError) is not sound
    assert (faults == [None]) is sound


@given(data=st.data())
def test_damaged_frames_of_fields_never_raise(data):
    content = WEIGHTS[: data.draw(st.integers(2000, 4000))]
    payload = bytearray(encode(content, Encoding.FIELDS, 0))
    for _ in range(data.draw(st.integers(1, 3))):
        last = data.draw(st.sampled_from((200, len(payload) - 1)))
        payload[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    whole = encode(content, Encoding.FIELDS, 0)
    found = rescue.decode_fields([whole, bytes(payload), whole], [len(content)] * 3)
    assert found[0] == found[2] == content
    assert isinstance(found[1], rescue.DamageError) or len(found[1]) == len(content)
