"""Runs parsers in a limited child process, so that no file can harm the program that reads it.

``LimitedProcess`` starts ``formats.child`` on the first file and keeps it for many. The child has
no inherited descriptors, no environment, no working directory of its own, and limits on memory,
processor time, open and written files. Whatever a file does to it (crash, hang, memory, rubbish
for an answer) becomes a notice on that file; the next file gets a new child. ``ParserProcess``
describes files so.
"""

import math
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from hartonomous.core.closing import Closing
from hartonomous.core.description import Description, Notice
from hartonomous.errors import HartonomousError, LimitError, UsageError
from hartonomous.formats import messages
from hartonomous.formats.detect import FORMATS

START_LIMIT_S = 60.0
"""How long a child may take to import the formats; long, for machines under load."""

_END_LIMIT_S = 2.0
_STDERR_BYTES = 16 << 10
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path.extend(sys.argv[2:]); "
    "from hartonomous.formats.child import main; main(int(sys.argv[1]))"
)
_answers = msgspec.msgpack.Decoder(messages.Answer)


class _KilledError(Exception):
    """Somebody killed the child; its own limits end it with other signals."""


Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[Found]):
    """What a limited process does with a file.

    ``program`` is ``module:function`` of a pure function(reader, path, *, formats) that returns a
    ``result``, a struct; ``formats`` are entries for ``ports.entry.load``. ``refused(kind,
    reason)`` makes the result of a file that the process failed on; ``check(result, size)`` raises
    ValueError for one that cannot be.
    """

    program: str
    formats: tuple[str, ...]
    result: type[Found]
    refused: Callable[[str, str], Found]
    check: Callable[[Found, int], None]


class LimitedProcess(Closing, Generic[Found]):
    """A reused child process that looks at files. Threads may share it; they take turns.

    ``search_path`` are more directories to import from. Limits are for each file: ``cpu_s`` seconds
    of processor time, ``wall_s`` seconds on the clock (longer: on a machine under load a parser
    waits for its turn, and only one that hangs may not), ``memory_bytes`` beyond what an idle child
    has mapped. A child that somebody else killed is replaced once, and the file tried again. After
    ``files_per_child`` files a new child is started. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        task: Task[Found],
        *,
        search_path: Sequence[str] = (),
        wall_s: float = 60.0,
        cpu_s: int = 10,
        memory_bytes: int = 256 << 20,
        files_per_child: int = 2000,
    ) -> None:
        self._task = task
        self._decoder = msgspec.msgpack.Decoder(task.result)
        self._setup = messages.Setup(
            program=task.program,
            formats=task.formats,
            memory_bytes=memory_bytes,
            cpu_s=cpu_s,
            wall_s=math.ceil(wall_s) + 1,
        )
        self._search_path = tuple(search_path)
        self._wall_s = wall_s
        self._files_per_child = files_per_child
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the child; the next file starts a new one."""
        with self._lock:
            self._drop()

    def look(self, fd: int, path: str, *, read_limit_bytes: int | None = None) -> tuple[Found, int]:
        """Return what the task finds out of the open regular file ``fd``, and how much it read.

        ``path`` is its path inside the artifact, which some formats are told by. The descriptor's
        position stays where it is. A parser that wants more than ``read_limit_bytes`` is refused;
        one that fails is taken to have read all that it was granted. Raises UsageError if ``fd`` is
        no regular file, and HartonomousError if no child can be started; never for what the file
        holds.
        """
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path!r} is no regular file", hint="copy it to one first")
        request = msgspec.msgpack.encode(
            messages.Request(path=path, read_limit_bytes=read_limit_bytes)
        )
        granted = status.st_size if read_limit_bytes is None else read_limit_bytes
        with self._lock:
            try:
                return self._ask(request, fd, status.st_size, granted)
            except _KilledError:
                pass  # by a machine short of memory, most likely: not for what the file holds
            try:
                return self._ask(request, fd, status.st_size, granted)
            except _KilledError as error:
                return self._task.refused("limit", str(error)), granted

    def _ask(self, request: bytes, fd: int, size: int, granted: int) -> tuple[Found, int]:
        """Have a child look at the file once; raises _KilledError when it was killed."""
        refused = self._task.refused
        child = self._hand_over(request, fd)
        try:
            content = child.receive(deadline=time.monotonic() + self._wall_s)
            answer = _answers.decode(content)
            if answer.refused:
                child.busy = False
                return refused("limit", answer.refused), answer.read_bytes
            found = self._decoder.decode(answer.found)
            self._task.check(found, size)
        except TimeoutError:
            return refused("limit", f"took longer than {self._wall_s:g} s"), granted
        except (EOFError, ConnectionResetError):
            return refused(*child.explain_end()), granted
        except LimitError as error:
            return refused("limit", f"gave too long an answer: {error.message}"), granted
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            return refused("structure", f"gave an answer that cannot be used: {error}"), granted
        else:
            child.busy = False
            return found, answer.read_bytes
        finally:
            if child.busy:
                self._drop()

    def _hand_over(self, request: bytes, fd: int) -> "_Child":
        """Send the request to a child that lives; one that died while idle is replaced."""
        for _ in range(2):
            child = self._living_child()
            child.busy = True
            child.files += 1
            try:
                child.send(request, fd=fd, timeout_s=self._wall_s)
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                continue
            return child
        raise HartonomousError("the parser process ends before it takes a file")

    def _living_child(self) -> "_Child":
        child = self._child
        if child is None or not child.usable or child.files >= self._files_per_child:
            self._drop()
            child = self._child = _Child(self._setup, self._search_path)
        return child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


class ParserProcess(LimitedProcess[Description]):
    """A limited process that describes files by the table of formats.

    ``formats`` replace the table, which is how tests bring parsers that misbehave.
    """

    def __init__(self, *, formats: Sequence[str] = FORMATS, **limits: Any) -> None:
        task = Task(
            program="hartonomous.formats.detect:describe",
            formats=tuple(formats),
            result=Description,
            refused=_refused,
            check=_check,
        )
        super().__init__(task, **limits)

    def describe(self, fd: int, path: str) -> Description:
        """Return what the formats say of the open regular file ``fd``; see ``look``."""
        return self.look(fd, path)[0]

    def describe_within(
        self, fd: int, path: str, *, read_limit_bytes: int | None
    ) -> tuple[Description, int]:
        """Describe like ``describe``, reading at most so many bytes; return how many were read.

        The limit must grant the first ``detect.HEAD_BYTES``.
        """
        return self.look(fd, path, read_limit_bytes=read_limit_bytes)


class _Child:
    """One running child: its process, its socket, the pipe of its error output."""

    def __init__(self, setup: messages.Setup, search_path: Sequence[str]) -> None:
        self.files = 0
        self.busy = True  # an answer is due; closing it then means killing it
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs.fileno(), search_path)
        except OSError as error:
            self._socket.close()
            raise HartonomousError(
                f"the parser process does not start: {error.strerror}"
            ) from error
        try:
            messages.send(self._socket, msgspec.msgpack.encode(setup))
            self.receive(deadline=time.monotonic() + START_LIMIT_S)
        except (OSError, EOFError, LimitError) as error:
            reason = self._reason()
            self.close()
            raise HartonomousError(f"the parser process does not start: it {reason}") from error
        except BaseException:
            self.close()
            raise
        self.busy = False

    @property
    def usable(self) -> bool:
        """Whether it waits for a request of this process (not of one that this was forked from)."""
        return not self.busy and self._owner == os.getpid() and self._process.poll() is None

    def send(self, content: bytes, *, fd: int, timeout_s: float) -> None:
        """Send one message with a descriptor."""
        self._socket.settimeout(timeout_s)
        messages.send(self._socket, content, fd=fd)

    def receive(self, *, deadline: float) -> bytes:
        """Return the next message; raises what ``messages.receive`` raises."""
        limit = messages.ANSWER_LIMIT_BYTES
        return messages.receive(self._socket, limit_bytes=limit, deadline=deadline)

    def _reason(self) -> str:
        try:
            return self.explain_end()[1]
        except _KilledError as error:
            return str(error)

    def explain_end(self) -> tuple[str, str]:
        """Return the kind of a notice and how the child ended, once its socket has closed.

        Raises _KilledError where that was by a signal that none of its limits sends.
        """
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "structure", "stopped answering"
        if status == messages.OUT_OF_MEMORY_EXIT:
            return "limit", "needed more memory than it is granted"
        if -status in (signal.SIGXCPU, signal.SIGALRM):
            return "limit", "needed more time than it is granted"
        if -status == signal.SIGKILL:
            raise _KilledError("was killed, as a machine that lacks memory does")
        if status < 0:
            return "structure", f"crashed with {signal.Signals(-status).name}"
        return "structure", f"ended with status {status}: {self._last_words()}"

    def _last_words(self) -> str:
        """Return the last line that the child wrote to its error output."""
        assert self._process.stderr is not None
        lines = (
            (self._process.stderr.read(_STDERR_BYTES) or b"").decode("utf-8", "replace").split("\n")
        )
        return ascii(next((line for line in reversed(lines) if line.strip()), "")[:200])

    def close(self) -> None:
        """End the process and release what it held; a forked copy only lets go of its copies."""
        self._socket.close()
        if self._owner == os.getpid():
            if self.busy:
                self._process.kill()
            try:
                self._process.wait(_END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        else:
            self._process.returncode = 0  # not ours to wait for
        if self._process.stderr is not None:
            self._process.stderr.close()


def _start(socket_fd: int, search_path: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the child: isolated (-I), without site packages' start-up code (-S)."""
    if not sys.executable:
        raise HartonomousError("the path of the Python interpreter is not known (sys.executable)")
    # The directories that hold the two packages it needs come after the standard library, so that
    # nothing in them can take a standard module's place; the working directory is never among them.
    roots = dict.fromkeys((*_import_roots(), *search_path))
    options = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    program = [sys.executable, *options, "-c", _PROGRAM, str(socket_fd), *roots]
    keep = {"LD_LIBRARY_PATH"}  # some interpreters find their own library by it
    process = subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(socket_fd,),
        cwd="/",
        env={name: value for name, value in os.environ.items() if name in keep},
    )
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    return process


def _import_roots() -> list[str]:
    assert msgspec.__file__ is not None
    return [
        str(Path(file).absolute().parents[up])
        for file, up in ((__file__, 2), (msgspec.__file__, 1))
    ]


def _check(description: Description, size: int) -> None:
    """Raise ValueError unless the answer's tensors lie inside the file."""
    for tensor in description.tensors:
        if tensor.offset < 0 or tensor.length < 0 or tensor.offset + tensor.length > size:
            raise ValueError("a tensor lies outside the file")


def _refused(kind: str, reason: str) -> Description:
    text = f"structure not read: the parser {reason}"
    return Description(format="file", notices=(Notice(kind=kind, text=text),))
