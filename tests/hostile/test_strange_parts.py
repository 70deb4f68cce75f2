"""Pipes, sockets, devices and folders in place of a store's files: nobody waits, all is told."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hartonomous as hn
from hartonomous.errors import HartonomousError, IntegrityError, UsageError
from hartonomous.packs import rescue

SOURCE = str(Path(hn.__file__).parents[1])
CONTENT = os.urandom(50_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with hn.open(tmp_path / "store", create=True) as store:
        store.add(tmp_path / "a.bin")
    return tmp_path / "store"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may have some hundred bytes only
        try:
            listening.bind(path.name)
        finally:
            os.chdir(here)


STRANGE: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "socket": make_socket,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


def replace(path: Path, kind: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    STRANGE[kind](path)


def hart(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hartonomous", *words, "--store", str(place)],
        check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip


def rescued(place: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, rescue.__file__, "restore", str(place), str(out)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_store_json(place, tmp_path, kind):
    replace(place / "store.json", kind)
    with pytest.raises(IntegrityError, match=r"store\.json is no regular file"):
        hn.open(place)
    done = hart(place, "ls")
    assert done.returncode != 0
    assert "unexpected" not in done.stderr
    if kind != "folder":  # which makes it no store, whatever lies beside it
        assert "store.json is no regular file" in done.stderr
        assert "store.json" in hart(place, "doctor").stdout
    done = rescued(place, tmp_path / "out")
    assert done.returncode == 0
    assert "store.json cannot be read" in done.stderr
    assert (tmp_path / "out" / "a.bin" / "a.bin").read_bytes() == CONTENT


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_catalog(place, tmp_path, kind, ending):
    replace(place / f"catalog.sqlite3{ending}", kind)
    with pytest.raises(IntegrityError, match="is no regular file") as error:
        hn.open(place)
    assert "hart repair" in error.value.hint
    if not ending:
        assert "no regular file" in hart(place, "doctor").stdout
    assert hn.repair(place).version_count == 1
    with hn.open(place) as store:
        store.get("a.bin", tmp_path / "out")
        assert store.verify(files=True).sound
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", ["packs", "locks", "tmp", "cache", "index"])
def test_folders(place, tmp_path, kind, name):
    replace(place / name, kind)
    for use in (hn.open, hn.repair):
        with pytest.raises(HartonomousError, match=f"{name} is ") as error:
            use(place)
        assert error.value.hint
    done = rescued(place, tmp_path / "out")
    assert done.returncode == (1 if name == "packs" else 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_settings(place, kind):
    replace(place / "hartonomous.toml", kind)
    with pytest.raises(UsageError, match=r"hartonomous\.toml: it is no regular file"):
        hn.open(place)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_the_only_pack(place, tmp_path, kind):
    for pack in (place / "packs").rglob("*.pack"):
        replace(pack, kind)
        name = str(pack.relative_to(place))
    report = hn.repair(place)
    assert report.version_count == 0
    assert f"{name}: is no regular file" in report.damaged
    done = rescued(place, tmp_path / "out")
    assert done.returncode == 4
    assert pack.name in done.stderr
