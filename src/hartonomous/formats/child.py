"""The program of a limited process: limits itself, then looks at one file after the other.

``sandbox.LimitedProcess`` starts it; it sees nothing of the machine but the descriptors that come
over its socket. It ends when the socket closes, when a limit is met, or when a parser fails in a
way that parsers must not: the parent then says so of that file.

No parent-death signal: Linux sends it when the starting *thread* ends. The closed socket and the
alarm of each request do the same work.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from hartonomous.formats import messages
from hartonomous.formats.limits import give_up, grant_time, lower
from hartonomous.formats.reader import FileReader
from hartonomous.ports.entry import load

_COLLECT_AFTER = 100_000
_OPEN_FILES = 16
_WRAPPING_BYTES = 64
_PR_SET_NO_NEW_PRIVS = 38


def main(socket_fd: int) -> None:
    """Serve requests on this socket until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent
    os.set_blocking(2, False)  # nobody reads the error output before the end: never wait for it
    with socket.socket(fileno=socket_fd) as connection:
        try:
            content = messages.receive(connection, limit_bytes=messages.REQUEST_LIMIT_BYTES)
            setup = msgspec.msgpack.decode(content, type=messages.Setup)
            program = _loaded(setup)
            _limit(setup.memory_bytes)
            # What stays is not looked through again and again while a file makes many objects.
            gc.freeze()
            gc.set_threshold(_COLLECT_AFTER)
            gc.enable()  # the parent starts this program without, see there
            messages.send(connection, b"")
            while True:
                _serve(connection, setup, program)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the parent is gone or wants no more
        except MemoryError:
            sys.exit(messages.OUT_OF_MEMORY_EXIT)


def _loaded(setup: messages.Setup) -> Callable[..., Any]:
    """Import the program and its entries, before limits would be in the way."""
    found: Callable[..., Any] = load(setup.program)
    for entry in setup.formats:
        load(entry)
    return found


def _serve(connection: socket.socket, setup: messages.Setup, program: Callable[..., Any]) -> None:
    """Answer one request."""
    content, fd = messages.receive_with_fd(connection, limit_bytes=messages.REQUEST_LIMIT_BYTES)
    request = msgspec.msgpack.decode(content, type=messages.Request)
    if fd is None:
        raise EOFError
    _arm(setup)
    try:
        reader = FileReader(fd, limit_bytes=request.read_limit_bytes)
        # What was found is given up before it is wrapped: it may be most of what is granted.
        content = msgspec.msgpack.encode(program(reader, request.path, formats=setup.formats))
        if len(content) > messages.ANSWER_LIMIT_BYTES - _WRAPPING_BYTES:
            limit = messages.ANSWER_LIMIT_BYTES
            answer = _encode(b"", reader, refused=f"its description is over {limit} bytes")
        else:
            answer = _encode(content, reader)
        del content
    finally:
        os.close(fd)
    signal.alarm(0)
    messages.send(connection, answer)


def _encode(found: bytes, reader: FileReader, *, refused: str = "") -> bytes:
    answer = messages.Answer(
        found=msgspec.Raw(found or b"\xc0"), read_bytes=reader.read_bytes, refused=refused
    )
    return msgspec.msgpack.encode(answer)


def _arm(setup: messages.Setup) -> None:
    """Set the processor and wall time that the next file may take; both kill at their end."""
    grant_time(setup.cpu_s)
    signal.alarm(setup.wall_s)


def _limit(memory_bytes: int) -> None:
    """Give up what a parser does not need, for good."""
    give_up(memory_bytes=memory_bytes, open_files=_OPEN_FILES)
    lower(resource.RLIMIT_NPROC, 0)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses to bar new privileges")
