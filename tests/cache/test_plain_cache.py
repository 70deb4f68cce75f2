"""The cache of plain files alone: races, kills, cap, links, tampering; with a clock of our own."""

import base64
import hashlib
import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import msgspec
import pytest

from hartonomous.errors import IntegrityError
from hartonomous.objects.plain_cache import PlainCache, held_bytes
from hartonomous.objects.plain_file import PlainFile, remove_tree

HOUR_US = 3_600_000_000
START_US = 1_700_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


class Bench:
    """A cache, its clock, and contents by SHA-256."""

    def __init__(self, root: Path, *, limit_bytes: int = 10**9, keep_hours: int = 24) -> None:
        self.clock = Clock()
        self.contents: dict[bytes, bytes] = {}
        self.written: list[bytes] = []
        (root / "locks").mkdir(exist_ok=True)
        self.cache = PlainCache(
            root=root / "cache",
            lock_path=lambda name: root / "locks" / f"{name}.lock",
            clock=self.clock,
            limit_bytes=limit_bytes,
            keep_us=keep_hours * HOUR_US,
        )

    def file(self, content: bytes, path: str | None = None) -> PlainFile:
        name = hashlib.sha256(content).digest()
        self.contents[name] = content
        return PlainFile(path=None if path is None else Path(path), sha256=name, size=len(content))

    def write(self, descriptor: int, file: PlainFile) -> None:
        self.written.append(file.sha256)
        os.write(descriptor, self.contents[file.sha256])

    def check(self, descriptor: int, file: PlainFile) -> bool:
        return os.pread(descriptor, file.size + 1, 0) == self.contents[file.sha256]

    def place(self, name: str, *files: PlainFile) -> tuple[Path, bool]:
        key = files[0].sha256
        if files[0].path is not None:
            key = hashlib.sha256(b"".join(one.sha256 for one in files)).digest()
        return self.cache.place(key, name, files, write=self.write, check=self.check)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_lies_under_its_digest_and_its_own_name_read_only(bench):
    file = bench.file(b"weights")
    path, built = bench.place("my model.bin", file)
    assert built
    assert path.is_absolute()
    assert path.read_bytes() == b"weights"
    assert (path.name, path.parent.name) == ("my model.bin", file.sha256.hex())
    assert mode(path) == 0o444
    assert bench.place("my model.bin", file) == (path, False)
    assert bench.written == [file.sha256]


def test_a_folder_has_all_its_files_and_is_read_only(bench):
    files = [bench.file(b"1", "a"), bench.file(b"", "x/empty"), bench.file(b"22", "x/y/b c")]
    path, _ = bench.place("folder", *files)
    assert tree(path) == {"a", "x", "x/empty", "x/y", "x/y/b c"}
    assert {mode(path), mode(path / "x"), mode(path / "x" / "y")} == {0o555}
    assert (path / "x" / "y" / "b c").read_bytes() == b"22"


def test_equal_files_are_one_file_on_disk(bench):
    first, _ = bench.place("one", bench.file(b"same", "a"), bench.file(b"same", "b"))
    second, _ = bench.place("two", bench.file(b"other", "a"), bench.file(b"same", "c"))
    third, _ = bench.place("alone", bench.file(b"same"))
    paths = (first / "a", first / "b", second / "c", third)
    assert len({path.stat().st_ino for path in paths}) == 1
    assert bench.written.count(hashlib.sha256(b"same").digest()) == 1
    assert held_bytes(bench.cache.entries()) == len(b"same") + len(b"other")


def test_without_hard_links_files_are_written_twice(bench, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, _ = bench.place("one", bench.file(b"same", "a"), bench.file(b"same", "b"))
    assert (path / "a").read_bytes() == (path / "b").read_bytes() == b"same"
    assert len(bench.written) == 2


@pytest.mark.parametrize("change", ["bytes", "shorter", "gone", "link", "folder"])
def test_a_file_that_was_tampered_with_is_built_again(bench, tmp_path, change):
    files = [bench.file(b"first", "a"), bench.file(b"second", "b")]
    path, _ = bench.place("model", *files)
    victim = path / "a"
    path.chmod(0o755)
    victim.chmod(0o644)
    if change == "bytes":
        victim.write_bytes(b"evil!")
    elif change == "shorter":
        victim.write_bytes(b"e")
    else:
        victim.unlink()
    if change == "link":
        victim.symlink_to("b")
    if change == "folder":
        victim.mkdir()
    assert bench.place("model", *files) == (path, True)
    assert (path / "a").read_bytes() == b"first"
    assert not (path / "a").is_symlink()
    assert (mode(path), mode(path / "a")) == (0o555, 0o444)
    assert bench.written.count(files[0].sha256) == 2
    assert bench.written.count(files[1].sha256) == 1
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_tampering_shows_in_every_entry_that_shares_the_file(bench):
    one, _ = bench.place("one", bench.file(b"same", "a"))
    two, _ = bench.place("two", bench.file(b"same", "a"), bench.file(b"more", "b"))
    (one / "a").chmod(0o644)
    (one / "a").write_bytes(b"evil")
    bench.place("two", bench.file(b"same", "a"), bench.file(b"more", "b"))
    bench.place("one", bench.file(b"same", "a"))
    assert (one / "a").read_bytes() == (two / "a").read_bytes() == b"same"


def test_a_file_that_was_only_touched_is_checked_and_stays(bench):
    file = bench.file(b"weights")
    path, _ = bench.place("m", file)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert bench.place("m", file) == (path, False)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"name":"Li4=","files":[]}'])
def test_a_lost_or_damaged_stamp_costs_a_check_only(bench, tmp_path, content):
    file = bench.file(b"weights")
    path, _ = bench.place("m", file)
    (stamp,) = (tmp_path / "cache" / "stamps").iterdir()
    if content is None:
        stamp.unlink()
    else:
        stamp.write_bytes(content)
    assert bench.place("m", file) == (path, False)
    assert [entry.path for entry in bench.cache.entries()] == [path]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_something_else_in_a_stamp_s_place_is_no_stamp(bench, tmp_path, kind):
    file = bench.file(b"weights")
    path, _ = bench.place("m", file)
    (stamp,) = (tmp_path / "cache" / "stamps").iterdir()
    stamp.unlink()
    if kind == "pipe":
        os.mkfifo(stamp)
    elif kind == "folder":
        stamp.mkdir()
    else:
        stamp.symlink_to("/dev/zero")
    assert bench.cache.entries() == []
    bench.cache.sweep()
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize(
    "path",
    ["../../../outside.bin", "{}/outside.bin", "a\0b", "a/../../../../outside.bin", "x" * 300],
)
def test_a_stamp_leads_to_nothing_outside_of_its_entry(bench, tmp_path, path):
    """Else a file there, of the size and time that a stamp promises, would be given out."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"secrets")
    state = outside.stat()
    inner, wanted = bench.file(b"other..", "a"), bench.file(b"weights")
    bench.place("folder", inner)
    (stamp,) = (tmp_path / "cache" / "stamps").iterdir()
    said = msgspec.json.decode(stamp.read_bytes())
    raw = base64.b64encode(path.format(tmp_path).encode()).decode()
    name = base64.b64encode(wanted.sha256).decode()
    said["files"].append([raw, name, 7, state.st_mtime_ns, state.st_ino])
    stamp.write_bytes(msgspec.json.encode(said))
    found, built = bench.place("m", wanted)
    assert built
    assert found.read_bytes() == b"weights"
    assert outside.stat().st_mode == state.st_mode
    assert [entry.name for entry in bench.cache.entries()] == ["m"]
    assert list(bench.cache.damaged()) == []


def test_wrong_bytes_are_never_given_out(bench, tmp_path):
    file = bench.file(b"weights")

    def write(descriptor, _):
        os.write(descriptor, b"wrong")
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError):
        bench.cache.place(file.sha256, "m", [file], write=write, check=bench.check)
    assert bench.cache.entries() == []
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert bench.place("m", file)[0].read_bytes() == b"weights"


# -- the limit


def names_of(bench: Bench) -> list[str]:
    return [entry.name for entry in bench.cache.entries()]


def test_the_least_recently_used_goes_first(tmp_path):
    bench = Bench(tmp_path, limit_bytes=250)
    files = {name: bench.file(name.encode() * 100) for name in "abcd"}
    for name in "ab":
        bench.place(name, files[name])
        bench.clock.now_us += HOUR_US
    bench.place("a", files["a"])  # used again: now b is the oldest
    bench.clock.now_us += 25 * HOUR_US
    bench.place("c", files["c"])
    assert names_of(bench) == ["a", "c"]
    bench.clock.now_us += 25 * HOUR_US
    bench.place("d", files["d"])
    assert names_of(bench) == ["c", "d"]
    assert not (tmp_path / "cache" / files["a"].sha256.hex()).exists()


def test_what_is_in_use_stays_though_the_limit_is_passed(tmp_path):
    bench = Bench(tmp_path, limit_bytes=150, keep_hours=24)
    for name in "abc":
        bench.place(name, bench.file(name.encode() * 100))
        bench.clock.now_us += HOUR_US
    assert names_of(bench) == ["a", "b", "c"]
    bench.clock.now_us += 22 * HOUR_US  # a and b are older than a day, c is not
    bench.place("c", bench.file(b"c" * 100))
    assert names_of(bench) == ["c"]


def test_room_is_made_before_and_only_for_what_is_not_shared(tmp_path):
    bench = Bench(tmp_path, limit_bytes=300)
    bench.place("old", bench.file(b"o" * 100))
    bench.clock.now_us += 25 * HOUR_US
    bench.place("one", bench.file(b"x" * 200, "x"))
    bench.place("two", bench.file(b"x" * 200, "y"))  # the same bytes under another name
    assert names_of(bench) == ["old", "one", "two"]


def test_clear_spares_what_is_in_use_unless_forced(bench, tmp_path):
    bench.place("old", bench.file(b"o", "deep/er/file"))
    bench.clock.now_us += 25 * HOUR_US
    bench.place("new", bench.file(b"nn"))
    removed = bench.cache.clear()
    assert (removed.entry_count, removed.freed_bytes) == (1, 1)
    assert (removed.kept_count, removed.kept_bytes) == (1, 2)
    assert bench.cache.clear(forced=True).entry_count == 1
    assert tree(tmp_path / "cache") == {"stamps", "tmp"}


# -- several processes


def _ask(root: str, index: int, answers) -> None:
    bench = Bench(Path(root))
    files = [bench.file(bytes([number]) * 70_000, f"f {number}") for number in range(20)]
    path, built = bench.place("model", *files)
    right = all((path / str(one.path)).stat().st_size == one.size for one in files)
    answers.put((str(path), built, len(bench.written), right))


def test_eight_processes_ask_at_once_and_one_builds(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [
        context.Process(target=_ask, args=(str(tmp_path), index, answers)) for index in range(8)
    ]
    for child in children:
        child.start()
    got = [answers.get() for _ in children]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len({path for path, _, _, _ in got}) == 1
    assert sum(built for _, built, _, _ in got) == 1
    assert sum(count for _, _, count, _ in got) == 20
    assert all(right for _, _, _, right in got)


def _build_slowly(root: str, started) -> None:
    bench = Bench(Path(root))
    files = [bench.file(b"first", "a"), bench.file(b"second", "b")]

    def write(descriptor, file):
        os.write(descriptor, bench.contents[file.sha256][:3])
        if file.path == Path("b"):
            started.put(True)
            time.sleep(300)
        os.write(descriptor, bench.contents[file.sha256][3:])

    key = hashlib.sha256(b"".join(one.sha256 for one in files)).digest()
    bench.cache.place(key, "model", files, write=write, check=bench.check)


@pytest.fixture
def killed(tmp_path):
    """A cache in which a process was killed while it built ``model``."""
    context = multiprocessing.get_context("fork")
    started = context.SimpleQueue()
    child = context.Process(target=_build_slowly, args=(str(tmp_path), started))
    child.start()
    assert started.get()
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert len(list((tmp_path / "cache" / "tmp").iterdir())) == 1
    return Bench(tmp_path)


def test_after_a_kill_the_next_one_builds_whole(killed, tmp_path):
    assert killed.cache.entries() == []
    files = [killed.file(b"first", "a"), killed.file(b"second", "b")]
    path, built = killed.place("model", *files)
    assert built
    assert (path / "b").read_bytes() == b"second"
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_litter_of_a_kill_is_swept(killed, tmp_path):
    assert killed.cache.sweep() == 1
    assert tree(tmp_path / "cache") == {"stamps", "tmp"}
    assert killed.cache.sweep() == 0


def test_sweep_leaves_a_builder_and_strangers_alone(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.SimpleQueue()
    child = context.Process(target=_build_slowly, args=(str(tmp_path), started))
    child.start()
    try:
        assert started.get()
        bench = Bench(tmp_path)
        (tmp_path / "cache" / "tmp" / "somebody's").write_text("x")
        assert bench.cache.sweep() == 0
        assert len(list((tmp_path / "cache" / "tmp").iterdir())) == 2
    finally:
        child.kill()
        child.join(60)


def test_sweep_removes_entries_without_stamps_when_they_are_old(bench, tmp_path):
    path, _ = bench.place("m", bench.file(b"weights"))
    for stamp in (tmp_path / "cache" / "stamps").iterdir():
        stamp.unlink()
    bench.clock.now_us = time.time_ns() // 1000
    assert bench.cache.sweep() == 0
    assert path.exists()
    bench.clock.now_us += 25 * HOUR_US
    assert bench.cache.sweep() == 1
    assert not path.parent.exists()


def test_sweep_removes_stamps_without_entries(bench, tmp_path):
    path, _ = bench.place("m", bench.file(b"weights"))
    remove_tree(path.parent)
    assert bench.cache.entries() == []
    assert bench.cache.sweep() == 1
    assert tree(tmp_path / "cache") == {"stamps", "tmp"}
