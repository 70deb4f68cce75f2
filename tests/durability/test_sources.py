"""Sources that change, vanish or cannot be read cost themselves and nothing else."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from tests.durability.workload import DirectParser

import hartonomous as hn
from hartonomous.operations import add as adding
from hartonomous.packs import directory
from hartonomous.packs.source_file import SourceFile

SOURCE = str(Path(hn.__file__).parents[1])
SHARED = np.random.default_rng(1).standard_normal((300, 512), np.float32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hn.Store]:
    monkeypatch.setattr(directory, "ParserProcess", DirectParser)
    with hn.open(tmp_path / "store", create=True, settings={"pack_bytes": 4 << 20}) as opened:
        yield opened
        assert opened.verify(files=True).faults == ()
        opened.gc(trash_days=0, grace_s=0)
        assert opened.verify(files=True).faults == ()
    assert not list((tmp_path / "store" / "tmp").iterdir())
    assert not list((tmp_path / "store" / "locks").glob("writer-*"))
    hn.repair(tmp_path / "store")
    with hn.open(tmp_path / "store") as opened:
        assert opened.verify(files=True).faults == ()


def model(seed: int) -> bytes:
    """Return a file with a tensor of several blocks, one that all have, and one that is tiny."""
    wide = np.random.default_rng(seed).integers(0, 256, 5 << 20, np.uint8)
    return bytes(save({"wide": wide, "shared": SHARED, "tiny": wide[:9]}))


def plain(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(5_000_000)


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def grow(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b"more")


def overwrite_unnoticed(path: Path) -> None:
    """Change bytes near the end and give the file its old time again."""
    before = path.stat()
    with path.open("r+b") as out:
        out.seek(before.st_size - 50)
        out.write(b"!" * 30)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("make", [model, plain])
@pytest.mark.parametrize("damage", [shrink, grow, overwrite_unnoticed])
def test_a_file_that_changes_at_any_read(
    store: hn.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int], bytes],
    damage: Callable[[Path], None],
) -> None:
    """The file is damaged before its first read, its second …; the next file is not hurt."""
    original = SourceFile.read
    state = {"left": 0, "victim": ""}

    def read(self: SourceFile, offset: int, length: int) -> bytes:
        if self.location == state["victim"]:
            if state["left"] == 0:
                damage(Path(self.location))
            state["left"] -= 1
        return original(self, offset, length)

    monkeypatch.setattr(SourceFile, "read", read)
    outcomes = set()
    for turn in range(40):
        victim, other = tmp_path / f"a{turn}", tmp_path / f"b{turn}"
        first, second = make(turn * 2), make(turn * 2 + 1)
        victim.write_bytes(first)
        other.write_bytes(second if turn % 2 else first)  # as the victim was
        state.update(left=turn, victim=str(victim))
        one, two = store.add([victim, other]).artifacts
        outcomes.add(one.outcome)
        assert two.outcome == "added"
        store.get(two.name, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == other.read_bytes()
        (tmp_path / "out").unlink()
        if one.outcome == "failed":
            assert "while it was being read" in (one.error or "")
        else:
            store.get(one.name, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() in (first, victim.read_bytes())
            (tmp_path / "out").unlink()
        other.unlink()
        victim.unlink()
        if state["left"] >= 0:  # it was read whole before its turn came
            break
    assert outcomes == {"added", "failed"}
    assert turn > 2


def test_a_read_error_is_the_files_own(
    store: hn.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread
    bad = tmp_path / "bad.bin"

    def fail(descriptor: int, length: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == bad and offset:
            raise OSError(5, "Input/output error")
        return pread(descriptor, length, offset)

    bad.write_bytes(plain(1))
    (tmp_path / "good.bin").write_bytes(plain(2))
    monkeypatch.setattr(os, "pread", fail)
    one, two = store.add([bad, tmp_path / "good.bin"]).artifacts
    assert (one.outcome, two.outcome) == ("failed", "added")
    assert "Input/output error" in (one.error or "")


def test_what_is_no_file_any_more(
    store: hn.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between discovery and reading a file vanishes, becomes a folder, a pipe, or forbidden."""
    names = ["a-gone", "b-folder", "c-pipe", "d-loop", "e-good"]
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode() * 100)
    discover = adding.discover

    def discover_then_change(*args: object, **kwargs: object) -> Iterator[object]:
        found = list(discover(*args, **kwargs))  # type: ignore[arg-type]
        for name in names[:4]:
            (folder / name).unlink()
        (folder / "b-folder").mkdir()
        os.mkfifo(folder / "c-pipe")
        (folder / "d-loop").symlink_to("d-loop")
        return iter(found)

    monkeypatch.setattr(adding, "discover", discover_then_change)
    report = store.add(folder)
    outcomes = {one.source.rsplit("/", 1)[-1]: one.outcome for one in report.artifacts}
    assert outcomes == dict.fromkeys(names[:4], "failed") | {"e-good": "added"}
    assert report.failed_count == 4


def test_a_sparse_file_costs_next_to_nothing(store: hn.Store, tmp_path: Path) -> None:
    size = 300 << 20
    with (tmp_path / "zeros").open("wb") as out:
        out.truncate(size)
    [one] = store.add(tmp_path / "zeros").artifacts
    assert one.logical_bytes == size
    assert one.stored_bytes < 100_000
    store.get("zeros", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size == size


def test_a_path_as_deep_as_the_system_allows(store: hn.Store, tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    while len(str(folder)) + 110 < 4000:
        folder = folder / ("d" * 100)
    folder.mkdir(parents=True)
    (folder / ("f" * 90)).write_bytes(b"deep down")
    [one] = store.add(tmp_path / "deep").artifacts
    assert one.outcome == "added", one
    store.get(one.name, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"deep down"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_add_leaves_the_store_whole(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / "store"
    hn.init(place).close()
    (tmp_path / "files").mkdir()
    for i in range(50):
        (tmp_path / "files" / f"{i}.bin").write_bytes(plain(i)[:1_500_000])
    program = """
import sys, threading
import hartonomous as hn
from hartonomous.cli.main import interrupt_on_terminate
interrupt_on_terminate()
class Progress:
    def stage(self, name, **kwargs): print(name, flush=True)
    def advance(self, *args): pass
    def count(self, *args): pass
    def note(self, text): pass
try:
    with hn.open(sys.argv[1]) as store:
        store.add(sys.argv[2], progress=Progress())
except KeyboardInterrupt:
    print("threads", threading.active_count(), flush=True)
    sys.exit(130)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(place), str(tmp_path / "files")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": SOURCE},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(60) == 130
    assert rest.splitlines()[-1] == "threads 1"
    with hn.open(place) as store:
        with store.parts.database.read() as tx:
            assert not tx.exec_driver_sql("SELECT * FROM writer").all()
        assert store.verify(files=True).sound
        store.gc(grace_s=0)
        report = store.add(tmp_path / "files")
        assert report.failed_count == 0
        assert store.verify(files=True).sound


def test_a_stream_is_safe_from_the_collection(store: hn.Store, tmp_path: Path) -> None:
    class Slow:
        """A stream that is collected around while it is read."""

        def __init__(self) -> None:
            self.blocks = [b"one" * 1000, b"two" * 1000]

        def read(self, _size: int = -1) -> bytes:
            done = threading.Event()

            def collect() -> None:
                store.gc(trash_days=0, grace_s=0)
                done.set()

            threading.Thread(target=collect).start()
            assert done.wait(60)
            return self.blocks.pop(0) if self.blocks else b""

    [one] = store.add_stream(Slow(), name="stream").artifacts  # type: ignore[arg-type]
    assert one.logical_bytes == 6000


def test_what_a_dead_process_left_is_swept(store: hn.Store, tmp_path: Path) -> None:
    left = [
        tmp_path / "store" / "tmp" / "1-dead",
        tmp_path / "store" / "locks" / f"writer-{16 * '00'}.lock",
    ]
    for path in left:
        path.write_bytes(b"left")
    store.gc(grace_s=0)
    assert not any(path.exists() for path in left)
