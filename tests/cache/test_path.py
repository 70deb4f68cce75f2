"""Paths out of a real store: what is stored comes out as plain files, checked."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import hartonomous as hn
from hartonomous.errors import IntegrityError, NotFoundError
from hartonomous.operations import path as plain_paths

pytestmark = pytest.mark.usefixtures("catalog_engine")


@pytest.fixture
def store(tmp_path):
    with hn.open(tmp_path / "a store", create=True) as opened:
        yield opened


def make_model(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    tensors = {f"t{n}": random.standard_normal((40, 40)).astype(np.float32) for n in range(3)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab list.txt").write_text("a\nb\n")
    return folder


def same(left: Path, right: Path) -> bool:
    names = {path.relative_to(left) for path in left.rglob("*") if path.is_file()}
    assert names == {path.relative_to(right) for path in right.rglob("*") if path.is_file()}
    return all((left / name).read_bytes() == (right / name).read_bytes() for name in names)


def test_a_single_file_is_a_file_that_its_library_opens(store, tmp_path):
    source = make_model(tmp_path / "m") / "model.safetensors"
    store.add(source)
    found = store.plain("model.safetensors")
    assert Path(found).name == "model.safetensors"
    assert found.sha256 == f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    assert os.fspath(found) == found.path
    assert load_file(found)["t1"].shape == (40, 40)
    assert found.built
    assert not store.plain("model.safetensors").built


def test_a_model_folder_is_a_folder_under_its_own_name(store, tmp_path):
    source = make_model(tmp_path / "org" / "my model")
    store.add(source, name="org/my model")
    found = store.plain("org/my model")
    assert Path(found).name == "my model"
    assert same(source, Path(found))
    lines = sorted(
        (str(path.relative_to(source)).encode(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in source.rglob("*")
        if path.is_file()
    )
    content = b"".join(digest.encode() + b"  " + name + b"\n" for name, digest in lines)
    assert found.sha256 == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_what_was_put_into_a_folder_is_not_given_out(store, tmp_path):
    source = make_model(tmp_path / "m")
    store.add(source, name="m")
    place = Path(store.plain("m"))
    for more in ("modeling.py", "tokenizer/added.json"):
        (place / more).parent.chmod(0o755)
        (place / more).write_text("print('not of this model')")
        assert store.plain("m").built
        assert same(source, place)
    assert not store.plain("m").built


@pytest.mark.parametrize("linked", ["", "tokenizer"])
def test_a_folder_that_leads_elsewhere_is_not_given_out(store, tmp_path, linked):
    """Nor are the files there touched, though they have the right bytes."""
    source = make_model(tmp_path / "m")
    store.add(source, name="m")
    place = Path(store.plain("m"))
    elsewhere = source / linked if linked else source
    folder = place / linked if linked else place
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    folder.rename(tmp_path / "taken")
    folder.symlink_to(elsewhere)
    before = {path: path.stat().st_mode for path in source.rglob("*")}
    assert store.plain("m").built
    assert not place.is_symlink() and not any(path.is_symlink() for path in place.rglob("*"))
    assert same(source, place)
    assert {path: path.stat().st_mode for path in source.rglob("*")} == before
    files = {path.stat().st_ino for path in source.rglob("*") if path.is_file()}
    assert files.isdisjoint({path.stat().st_ino for path in place.rglob("*")})


@pytest.mark.parametrize("strange", ["pipe", "device", "link", "folder", "nested"])
def test_a_strange_stamp_costs_a_check(store, tmp_path, strange):
    source = make_model(tmp_path / "m")
    store.add(source, name="m")
    place = Path(store.plain("m"))
    (stamp,) = (store.path / "cache" / "stamps").iterdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(stamp.read_bytes())
    os.utime(elsewhere, (1, 1))
    stamp.unlink()
    if strange == "pipe":
        os.mkfifo(stamp)
    elif strange == "folder":
        (stamp / "in it").mkdir(parents=True)
    elif strange == "nested":
        stamp.write_bytes(b'{"more":' + b"[" * 100_000)
    else:
        stamp.symlink_to("/dev/zero" if strange == "device" else elsewhere)
    assert store.plain_cache() == []
    assert Path(store.plain("m")) == place
    assert len(store.plain_cache()) == 1
    assert same(source, place)
    assert elsewhere.stat().st_mtime == 1
    assert stamp.is_file() and not stamp.is_symlink()


@pytest.mark.parametrize("strange", ["link", "file"])
@pytest.mark.parametrize("name", ["tmp", "stamps"])
def test_a_strange_folder_of_the_cache_is_replaced(store, tmp_path, name, strange):
    """Nothing is written to where a link leads, and nothing there is removed."""
    source = make_model(tmp_path / "m")
    store.add(source, name="m")
    store.plain("m")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own").write_bytes(b"own")
    folder = store.path / "cache" / name

    def replace_folder() -> None:
        folder.rename(tmp_path / f"taken-{len(list(tmp_path.iterdir()))}")
        if strange == "link":
            folder.symlink_to(elsewhere)
        else:
            folder.write_bytes(b"x")

    replace_folder()
    assert store.clear_plain_cache(force=True).kept_count == 0
    assert same(source, Path(store.plain("m")))
    replace_folder()
    assert same(source, Path(store.plain("m")))
    assert [path.name for path in elsewhere.iterdir()] == ["own"]


def test_one_file_of_a_folder(store, tmp_path):
    store.add(make_model(tmp_path / "bert"))
    found = store.plain("bert", file="tokenizer/vocab list.txt")
    assert Path(found).name == "vocab list.txt"
    assert Path(found).read_text() == "a\nb\n"
    assert [one.path for one in store.plain_cache()] == [found.path]
    with pytest.raises(NotFoundError) as raised:
        store.plain("bert", file="nothing")
    assert "config.json" in str(raised.value.hint)


def test_a_part_of_a_split_set_brings_the_other_parts(store, tmp_path):
    folder = tmp_path / "quants"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"big-0000{number}-of-00002.gguf").write_bytes(b"GGUF" * number)
    (folder / "config.json").write_text("{}")
    store.add(folder, name="quants")
    found = store.plain("quants", file="big-00001-of-00002.gguf")
    assert sorted(path.name for path in Path(found).parent.iterdir()) == [
        "big-00001-of-00002.gguf",
        "big-00002-of-00002.gguf",
    ]


def test_versions_have_paths_of_their_own_and_share_files(store, tmp_path):
    source = make_model(tmp_path / "bert")
    store.add(source)
    (source / "config.json").write_text('{"model_type": "other"}')
    store.add(source, update=True)
    first, second = store.plain("bert@1"), store.plain("bert@2")
    assert first.path != second.path
    weights = [Path(one) / "model.safetensors" for one in (first, second)]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino


def test_a_cap_that_is_passed_is_told(store, tmp_path):
    source = make_model(tmp_path / "m") / "model.safetensors"
    store.add(source)
    store.settings = replace(store.settings, cache_bytes=10)
    (note,) = store.plain("model.safetensors").notes
    assert "more than its limit of 10" in note


def test_damage_in_the_store_gives_no_path(store, tmp_path):
    source = make_model(tmp_path / "m") / "model.safetensors"
    store.add(source)
    (pack,) = (store.path / "packs").rglob("*.pack")
    content = bytearray(pack.read_bytes())
    content[1000:1010] = bytes(10)
    pack.chmod(0o644)
    pack.write_bytes(content)
    with pytest.raises(IntegrityError):
        store.plain("model.safetensors")
    assert store.plain_cache() == []


def test_names_that_are_too_long_for_a_folder_are_cut(store, tmp_path):
    store.add(make_model(tmp_path / "bert"), name="n" * 400)
    found = Path(store.plain("n" * 400))
    assert len(found.name) == 255
    assert (found / "config.json").exists()


def test_a_name_on_disk_that_is_no_text(store, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    raw = os.fsencode(folder) + b"/\xff line\n.bin"
    Path(os.fsdecode(raw)).write_bytes(b"content")
    store.add(os.fsdecode(raw))
    (listed,) = store.ls()
    found = store.plain(listed.name)
    assert os.fsencode(found.path).endswith(b"/\xff line\n.bin")
    assert Path(found).read_bytes() == b"content"


def test_listing_and_clearing(store, tmp_path):
    store.add(make_model(tmp_path / "bert"))
    found = store.plain("bert")
    (held,) = plain_paths.listing(store.parts, keep_hours=24)
    assert (held.path, held.file_count, held.in_use) == (found.path, 3, True)
    assert store.clear_plain_cache().kept_count == 1
    assert store.clear_plain_cache(force=True).removed_count == 1
    assert store.plain_cache() == []
    assert store.plain("bert").built
