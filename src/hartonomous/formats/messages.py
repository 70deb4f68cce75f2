"""What the program and its parser process send each other over a Unix socket.

A message is its length in four little-endian bytes, then msgpack. The first message sets the
child up and is answered by an empty one; then each request (a path, with the file's descriptor
beside it) is answered by an ``Answer``. What is found out about a file is the program's business:
a struct as msgpack, which the parent decodes as the type that it expects.
"""

import socket
import time

import msgspec

from hartonomous.errors import LimitError

ANSWER_LIMIT_BYTES = 64 << 20
REQUEST_LIMIT_BYTES = 1 << 20
OUT_OF_MEMORY_EXIT = 71
"""Exit status of a child that met its memory limit."""

_LENGTH_BYTES = 4
_PIECE_BYTES = 1 << 20


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a child runs, which of its entries it loads, and the limits that it sets itself.

    ``program`` is ``module:function`` of ``function(reader, path, *, formats)``, ``formats`` are
    entries for ``ports.entry.load``.
    """

    program: str
    formats: tuple[str, ...]
    memory_bytes: int  # beyond what the child has mapped once it is ready
    cpu_s: int  # for each file
    wall_s: int  # for each file; the parent keeps a finer time itself


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One file to look at; reads beyond ``read_limit_bytes`` in all are refused."""

    path: str
    read_limit_bytes: int | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out, and how many bytes of the file were read for that.

    ``refused`` says why there is nothing, where there is not.
    """

    found: msgspec.Raw
    read_bytes: int
    refused: str = ""


def send(connection: socket.socket, content: bytes, *, fd: int | None = None) -> None:
    """Send one message, with a descriptor beside it if there is one."""
    message = len(content).to_bytes(_LENGTH_BYTES, "little") + content
    if fd is None:
        connection.sendall(message)
        return
    sent = socket.send_fds(connection, [message], [fd])
    if sent < len(message):  # sending nothing would still fail if the other side has ended since
        connection.sendall(memoryview(message)[sent:])


def receive(connection: socket.socket, *, limit_bytes: int, deadline: float | None = None) -> bytes:
    """Return the content of the next message.

    ``deadline`` is a time of ``time.monotonic``. Raises EOFError when the other side is gone,
    TimeoutError past the deadline, LimitError when the message claims more than ``limit_bytes``.
    """
    return _receive_body(connection, b"", limit_bytes, deadline)


def receive_with_fd(connection: socket.socket, *, limit_bytes: int) -> tuple[bytes, int | None]:
    """Return the next message and the descriptor sent with it; the caller closes that."""
    first, fds, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 1)
    return _receive_body(connection, first, limit_bytes, None), (fds[0] if fds else None)


def _receive_body(
    connection: socket.socket, first: bytes, limit_bytes: int, deadline: float | None
) -> bytes:
    missing = _LENGTH_BYTES - len(first)
    length = int.from_bytes(first + _receive_exactly(connection, missing, deadline), "little")
    if length > limit_bytes:
        raise LimitError(f"a message of {length} bytes, {limit_bytes} are granted")
    return bytes(_receive_exactly(connection, length, deadline))


def _receive_exactly(connection: socket.socket, length: int, deadline: float | None) -> bytearray:
    """Return ``length`` bytes; memory grows with what arrives, not with what was claimed."""
    content = bytearray()
    while len(content) < length:
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
        piece = connection.recv(min(length - len(content), _PIECE_BYTES))
        if not piece:
            raise EOFError
        content += piece
    return content
