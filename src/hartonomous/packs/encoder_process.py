"""Runs one graph of an encoder in a limited child process that lives as long as it is used.

The child is started at the first request. One that fails on a request is given up, and the next
request starts another; one that somebody else killed is replaced and asked again, once.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

from hartonomous.errors import HartonomousError, LimitError, UsageError
from hartonomous.formats import messages as framing
from hartonomous.packs.encoder_messages import ANSWER_LIMIT_BYTES, Answer, Request, Setup
from hartonomous.ports.encoder import EncoderEndedError

REQUEST_LIMIT_S = 900
"""Seconds of processor time and on the clock that a request, or loading, may take."""

_SPARE_BYTES = 2 << 30
_THREAD_BYTES = 128 << 20  # of addresses: a stack, and what malloc reserves for each thread
_GRAPH_COPIES = 8  # the parsed file, the weights taken out of it, those rearranged for speed
_END_LIMIT_S = 2.0
_LEFT_OF_ERROR_CHARS = 300
_ENDED_HINT = (
    "'hart encoders show NAME --check' says whether it computes fixed texts and pictures here"
)
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from hartonomous.packs.encoder_child import main; main(int(sys.argv[1]))"
)

MakeGraph = Callable[[], IO[bytes]]
"""Gives a file that holds the graph; it is closed once the graph is loaded."""


class _KilledError(Exception):
    """Somebody killed the child; its own limits end it otherwise."""


class EncoderProcess:
    """One graph, loaded in a process of its own. Threads may share it; they take turns."""

    def __init__(self, setup: Setup, graph: MakeGraph, *, limit_s: int = REQUEST_LIMIT_S) -> None:
        self._setup, self._graph, self._limit_s = setup, graph, limit_s
        self._child: _Child | None = None
        self._guard = threading.Lock()
        self._closed = False

    def encode(self, request: Request) -> NDArray[np.float32]:
        """Return one row for each text or picture; raises HartonomousError, UsageError."""
        content = msgspec.msgpack.encode(request)
        with self._guard:
            if self._closed:
                raise UsageError("the encoder is closed", hint="open it again")
            try:
                answer = self._ask(content)
            except _KilledError:
                answer = self._ask_again(content)
        expected = request.pictures.count if request.pictures is not None else len(request.texts)
        vectors = np.frombuffer(answer.vectors, "<f4")
        if answer.rows != expected or vectors.size != answer.rows * answer.dimension:
            raise HartonomousError("the encoder's process gave another count of vectors")
        return vectors.reshape(answer.rows, answer.dimension).astype(np.float32)

    def close(self) -> None:
        """End the process; later requests raise UsageError."""
        with self._guard:
            self._closed = True
            self._drop()

    def _ask_again(self, content: bytes) -> Answer:
        try:
            return self._ask(content)
        except _KilledError as error:
            raise EncoderEndedError(
                f"the encoder's process {error}", hint="a machine short of memory does that"
            ) from error

    def _ask(self, content: bytes) -> Answer:
        answered = False
        try:
            answer = self._living_child().ask(content, limit_s=self._limit_s)
            answered = True
        finally:
            if not answered:
                self._drop()
        return _checked(answer)

    def _living_child(self) -> "_Child":
        if self._child is None or not self._child.usable:
            self._drop()
            with self._graph() as file:
                self._child = _Child(self._setup, file, limit_s=self._limit_s)
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()


def _checked(answer: Answer) -> Answer:
    if answer.error:
        raise HartonomousError(answer.error, hint=answer.hint)
    return answer


class _Child:
    """One running child and its socket."""

    def __init__(self, setup: Setup, graph: IO[bytes], *, limit_s: int) -> None:
        self._owner = os.getpid()
        graph.seek(0, os.SEEK_END)
        setup = msgspec.structs.replace(
            setup,
            graph_fd=graph.fileno(),
            memory_bytes=_SPARE_BYTES
            + _THREAD_BYTES * setup.threads
            + _GRAPH_COPIES * graph.tell(),
            cpu_s=limit_s,
        )
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _start(theirs.fileno(), graph.fileno())
        except OSError as error:
            self._socket.close()
            raise HartonomousError(
                f"the encoder's process does not start: {error.strerror}"
            ) from error
        loaded = False
        try:
            self._loaded(self.ask(msgspec.msgpack.encode(setup), limit_s=limit_s))
            loaded = True
        finally:
            if not loaded:
                self.close()

    @staticmethod
    def _loaded(answer: Answer) -> None:
        if answer.error:
            raise UsageError(answer.error, hint=answer.hint)

    @property
    def usable(self) -> bool:
        """Whether it runs, and is a child of this process, not of one that forked this one."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, content: bytes, *, limit_s: int) -> Answer:
        """Send one message and return the answer; raises HartonomousError, _KilledError."""
        try:
            self._socket.settimeout(limit_s)
            framing.send(self._socket, content)
            deadline = time.monotonic() + limit_s
            found = framing.receive(self._socket, limit_bytes=ANSWER_LIMIT_BYTES, deadline=deadline)
            return msgspec.msgpack.decode(found, type=Answer)
        except TimeoutError as error:
            raise _ended(f"took longer than {limit_s} s") from error
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise self._end() from error
        except (LimitError, msgspec.DecodeError) as error:
            raise HartonomousError(f"the encoder gave no usable answer: {error}") from error

    def _end(self) -> Exception:
        """Return how it ended, as an error."""
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return _ended("stopped answering")
        if status == framing.OUT_OF_MEMORY_EXIT:
            return _ended("needed more memory than it is granted")
        if status == -signal.SIGXCPU:
            return _ended("needed more processor time than it is granted")
        if status == -signal.SIGKILL:
            return _KilledError("was killed")
        if status < 0:
            return _ended(f"crashed with {signal.Signals(-status).name}")
        return _ended(f"ended with status {status}: {self._last_words()}")

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        lines = (self._process.stderr.read() or b"").decode("utf-8", "replace").split("\n")
        return ascii(
            next((one for one in reversed(lines) if one.strip()), "")[:_LEFT_OF_ERROR_CHARS]
        )

    def close(self) -> None:
        """End the process and release what it held; a forked copy only lets go of its copies."""
        self._socket.close()
        if self._owner == os.getpid():
            self._process.kill()  # it holds nothing that could be lost
            self._process.wait()
        else:
            self._process.returncode = 0  # not ours to wait for
        if self._process.stderr is not None:
            self._process.stderr.close()


def _ended(how: str) -> EncoderEndedError:
    return EncoderEndedError(f"the encoder {how}", hint=_ENDED_HINT)


def _start(socket_fd: int, graph_fd: int) -> subprocess.Popen[bytes]:
    """Start the child; it finds modules where this process does, none in the working directory."""
    if not sys.executable:
        raise HartonomousError("the path of the Python interpreter is not known (sys.executable)")
    places = [str(Path(place).absolute()) for place in sys.path if place]
    kept = {name: of for name, of in os.environ.items() if name == "LD_LIBRARY_PATH"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, str(socket_fd), *places],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(socket_fd, graph_fd),
        cwd="/",
        env={**kept, "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    return process
