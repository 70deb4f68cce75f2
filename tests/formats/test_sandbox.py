"""The parser process: what files do to it, and that the next file is described all the same."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from hartonomous.core.description import Description
from hartonomous.errors import HartonomousError, UsageError
from hartonomous.formats.detect import FORMATS
from hartonomous.formats.sandbox import ParserProcess

HERE = str(Path(__file__).parent)
MODEL = safetensors.numpy.save({"w": np.ones((2, 3), np.float32)})


def process(**limits: Any) -> ParserProcess:
    formats = (*FORMATS, "misbehaving:OBEDIENT")
    return ParserProcess(formats=formats, search_path=(HERE,), **limits)


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    with process(wall_s=60) as shared:
        yield shared


@pytest.fixture(scope="module")
def impatient() -> Iterator[ParserProcess]:
    with process(wall_s=1) as shared:
        yield shared


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Writes bytes to a file and returns its descriptor."""

    def make(content: bytes) -> int:
        path = tmp_path / "file"
        path.write_bytes(content)
        fd = os.open(path, os.O_RDONLY)
        stack.callback(os.close, fd)
        return fd

    with contextlib.ExitStack() as stack:
        yield make


def order(parser: ParserProcess, action: str) -> Description:
    with tempfile.TemporaryFile() as file:
        file.write(action.encode())
        file.flush()
        return parser.describe(file.fileno(), "order")


def report(parser: ParserProcess) -> dict[str, Any]:
    return order(parser, "report").metadata


def is_gone(pid: int) -> bool:
    """Whether the process has ended (a zombie of another parent counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    while not is_gone(pid):
        time.sleep(0.01)


ENDINGS = {
    "structure": ("structure", "not taken as obedient: it says so"),
    "limit": ("limit", "not taken as obedient: it says so"),
    "abort": ("structure", "crashed with SIGABRT"),
    "segfault": ("structure", "crashed with SIGSEGV"),
    "killed": ("limit", "was killed"),
    "exit": ("structure", "ended with status 3"),
    "quit": ("structure", "ended with status 1: 'not today'"),
    "raise": ("structure", "ended with status 1: \"KeyError: 'not expected'\""),
    "recursion": ("structure", "RecursionError"),
    "shut": ("structure", "stopped answering"),
    "rubbish": ("structure", "gave an answer that cannot be used"),
    "empty answer": ("structure", "gave an answer that cannot be used"),
    "other type": ("structure", "gave an answer that cannot be used"),
    "negative": ("structure", "a tensor lies outside the file"),
    "deep answer": ("structure", "gave an answer that cannot be used"),
    "long claim": ("limit", "gave too long an answer"),
    "beyond": ("structure", "a tensor lies outside the file"),
    "long answer": ("limit", "its description is over"),
    "deep": ("structure", "RecursionError"),
    "huge integer": ("structure", "OverflowError"),
    "lone surrogate": ("structure", "UnicodeEncodeError"),
}


@pytest.mark.parametrize("action", ENDINGS)
def test_harm_becomes_a_notice(
    parser: ParserProcess, opened: Callable[[bytes], int], action: str
) -> None:
    kind, text = ENDINGS[action]
    found = order(parser, action)
    assert (found.format, found.tensors, found.metadata) == ("file", (), {})
    assert [notice.kind for notice in found.notices] == [kind]
    assert text in found.notices[0].text
    next_one = parser.describe(opened(MODEL), "model.safetensors")
    assert (next_one.format, len(next_one.tensors)) == ("safetensors", 1)


@pytest.mark.parametrize("action", ["hang", "spin", "half an answer"])
def test_time_is_limited_and_the_child_ended(impatient: ParserProcess, action: str) -> None:
    pid = report(impatient)["pid"]
    found = order(impatient, action)
    assert (found.format, [notice.kind for notice in found.notices]) == ("file", ["limit"])
    assert "took longer than 1 s" in found.notices[0].text
    assert is_gone(pid)
    assert report(impatient)["pid"] != pid


def test_a_child_that_was_killed_from_outside_is_given_another_try(parser: ParserProcess) -> None:
    pid = report(parser)["pid"]
    found = order(parser, "killed once")
    assert (found.format, found.notices) == ("obedient", ())
    assert found.metadata["pid"] == report(parser)["pid"] != pid
    assert is_gone(pid)


def test_waiting_for_the_processor_is_not_counted_as_its_use() -> None:
    """Ten seconds of work are the guard; on a machine under load they take longer."""
    setup = ParserProcess()._setup
    assert setup.cpu_s == 10
    assert setup.wall_s > 60


def test_processor_time_is_limited() -> None:
    with process(cpu_s=1, wall_s=60) as parser:
        first = report(parser)["limits"]["CPU"]
        found = order(parser, "spin")
        assert [notice.kind for notice in found.notices] == ["limit"]
        assert "more time" in found.notices[0].text
        assert report(parser)["limits"]["CPU"][0] <= first[0] + 1


def test_memory_is_limited() -> None:
    with process(memory_bytes=24 << 20) as parser:
        seen = report(parser)
        assert seen["limits"]["AS"][0] <= seen["mapped"] + (24 << 20)
        found = order(parser, "hog")
        assert [notice.kind for notice in found.notices] == ["limit"]
        assert "needed more memory" in found.notices[0].text
        assert report(parser)["pid"] != seen["pid"]


def test_noise_does_not_block(impatient: ParserProcess) -> None:
    for _ in range(2):
        assert "ended with status" in order(impatient, "noise").notices[0].text


def test_what_the_child_sees(parser: ParserProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with tempfile.TemporaryFile() as other, process() as fresh:
        os.set_inheritable(other.fileno(), True)
        seen = report(fresh)
    assert set(seen["environment"]) <= {"LC_CTYPE", "LD_LIBRARY_PATH"}
    assert seen["cwd"] == "/"
    assert all(Path(entry).is_absolute() for entry in seen["path"])
    assert seen["no_new_privileges"]
    assert seen["stdin"] == ""
    assert seen["write"] == "OSError"
    # Standard streams, the socket, the file, and the listing of descriptors.
    assert len(seen["descriptors"]) == 6
    limits = seen["limits"]
    assert limits["CORE"] == limits["FSIZE"] == limits["NPROC"] == [0, 0]
    assert limits["NOFILE"] == [16, 16]
    assert not {"numpy", "sqlalchemy", "blake3", "subprocess"} & set(seen["modules"])


def test_child_serves_many_files_and_keeps_no_descriptor(parser: ParserProcess) -> None:
    seen = [report(parser) for _ in range(40)]
    assert len({one["pid"] for one in seen}) == 1
    assert len({tuple(one["descriptors"]) for one in seen}) == 1


def test_child_is_replaced_after_its_share_of_files() -> None:
    with process(files_per_child=3) as parser:
        pids = [report(parser)["pid"] for _ in range(7)]
    assert pids[0] == pids[2] != pids[3] == pids[5] != pids[6]
    assert is_gone(pids[0])


def test_child_that_died_while_idle_is_replaced(parser: ParserProcess) -> None:
    pid = report(parser)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    assert report(parser)["pid"] != pid


def test_a_child_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with tempfile.TemporaryFile() as file:
        file.write(MODEL)
        with process() as child, pytest.raises(HartonomousError, match="does not start"):
            child.describe(file.fileno(), "m.safetensors")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_close_ends_the_child_and_describe_starts_another() -> None:
    with process() as parser:
        pid = report(parser)["pid"]
        parser.close()
        parser.close()
        assert is_gone(pid)
        assert report(parser)["pid"] != pid


def test_descriptor_stays_open_and_where_it_was(
    parser: ParserProcess, opened: Callable[[bytes], int]
) -> None:
    fd = opened(MODEL)
    os.lseek(fd, 5, os.SEEK_SET)
    assert parser.describe(fd, "model.safetensors").format == "safetensors"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 5


def test_pipe_is_refused(parser: ParserProcess) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(UsageError, match="no regular file"):
            parser.describe(reading, "order")
    finally:
        os.close(reading)
        os.close(writing)


def test_closed_descriptor_is_the_callers_error(parser: ParserProcess) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        parser.describe(reading, "order")


def test_format_that_cannot_be_imported_is_an_error(opened: Callable[[bytes], int]) -> None:
    with ParserProcess(formats=("hartonomous.formats.absent:ABSENT",)) as parser:
        for _ in range(2):
            with pytest.raises(HartonomousError, match=r"ModuleNotFoundError.*absent"):
                parser.describe(opened(MODEL), "model.safetensors")


def test_threads_take_turns(parser: ParserProcess) -> None:
    def describe(number: int) -> tuple[int, ...]:
        content = safetensors.numpy.save({"w": np.ones((number,), np.uint8)})
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            return parser.describe(file.fileno(), "m.safetensors").tensors[0].shape

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(describe, range(60))) == [(number,) for number in range(60)]


def test_interrupted_caller_gets_no_answer_of_another_file() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError("stop")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with process(wall_s=60) as parser:
            pid = report(parser)["pid"]
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(InterruptedError, match="stop"):
                order(parser, "hang")
            timer.join()
            assert is_gone(pid)
            assert report(parser)["pid"] != pid
    finally:
        signal.signal(signal.SIGUSR1, before)


def run(script: str) -> str:
    """Run a script that begins with a parser process; return what it prints."""
    start = f"""
import os, sys, tempfile
from hartonomous.formats.sandbox import ParserProcess
parser = ParserProcess(formats=("misbehaving:OBEDIENT",), search_path=({HERE!r},))
def order(action):
    with tempfile.TemporaryFile() as file:
        file.write(action.encode())
        file.flush()
        return parser.describe(file.fileno(), "order").metadata
"""
    done = subprocess.run(
        [sys.executable, "-c", start + script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_child_ends_with_its_parent() -> None:
    printed = run('print(order("report")["pid"], flush=True); os._exit(0)')
    wait_until_gone(int(printed))


def test_forked_copy_starts_a_child_of_its_own() -> None:
    printed = run("""
first = order("report")["pid"]
copy = os.fork()
if copy == 0:
    other = order("report")["pid"]
    parser.close()
    os._exit(0 if other != first else 1)
assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
assert order("report")["pid"] == first
parser.close()
print("both")
""")
    assert printed == "both\n"


def test_nothing_in_the_working_directory_is_imported(tmp_path: Path) -> None:
    for name in ("socket", "msgspec", "ctypes", "hartonomous"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(9)")
    printed = run(f"os.chdir({str(tmp_path)!r}); print(order('report')['cwd']); parser.close()")
    assert printed == "/\n"


def test_reads_are_counted_and_bounded(tmp_path: Path) -> None:
    header = b'{"t":{"dtype":"U8","shape":[20000],"data_offsets":[0,20000]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(20000))
    with path.open("rb") as file, ParserProcess() as parser:
        found, read = parser.describe_within(file.fileno(), "a.safetensors", read_limit_bytes=8192)
        assert [tensor.name for tensor in found.tensors] == ["t"]
        assert 4096 + len(header) <= read <= 8192
        found, read = parser.describe_within(file.fileno(), "a.safetensors", read_limit_bytes=4100)
        assert found.tensors == ()
        assert [notice.kind for notice in found.notices] == ["limit"]
        assert read <= 4100
