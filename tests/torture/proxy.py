"""A socket before a PostgreSQL server that cuts the connection at a chosen message.

It understands nothing but where a message ends. Counted is what has the server do something: Query,
Parse and Execute, over all connections. ``before``: the message never reaches the server, as when a
line breaks; ``after``: the server does it, and the program never hears so.
"""

import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_COUNTED = b"QPE"
_READY = b"Z"
_SYNCS = b"QS"  # messages behind which the server says that it is ready again


class _CutError(Exception):
    """The connection is to end now."""


class Proxy:
    """Listens in ``folder`` as a server with a socket there does; use it as a context manager."""

    def __init__(self, folder: Path, server: Path, *, nth: int = 0, mode: str = "before") -> None:
        self.count = 0
        self.was_cut = False
        self._nth, self._mode = nth, mode
        self._server = str(server / ".s.PGSQL.5432")
        self._guard = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        folder.mkdir(exist_ok=True)
        place = folder / ".s.PGSQL.5432"
        place.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place))
        self._listener.listen(64)
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone would leave the accepting thread waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._end(*self._open)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        for one in self._open:
            one.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            self._open += [client, server]
            answered = threading.Semaphore(0)
            state = {"awaiting": 0, "deaf": False}
            self._start(self._forward, client, server, state, answered)
            self._start(self._answer, client, server, state, answered)

    def _forward(
        self,
        client: socket.socket,
        server: socket.socket,
        state: dict[str, int],
        answered: threading.Semaphore,
    ) -> None:
        """Pass on what the program says."""
        try:
            server.sendall(_first(client))
            with self._guard:
                state["awaiting"] += 1  # the server says that it is ready when it has let one in
            while True:
                kind, message = _message(client)
                cut = self._is_due(kind)
                if cut and self._mode == "before":
                    raise _CutError
                if cut:
                    state["deaf"] = True
                server.sendall(message)
                with self._guard:
                    state["awaiting"] += kind in _SYNCS
                if state["deaf"] and kind in _SYNCS:
                    while state["awaiting"]:
                        answered.acquire()
                    raise _CutError
        except (OSError, EOFError, _CutError):
            self._end(client, server)

    def _is_due(self, kind: bytes) -> bool:
        with self._guard:
            self.count += kind in _COUNTED
            due = kind in _COUNTED and self.count == self._nth
            self.was_cut = self.was_cut or due
            return due

    def _answer(
        self,
        client: socket.socket,
        server: socket.socket,
        state: dict[str, int],
        answered: threading.Semaphore,
    ) -> None:
        """Pass on what the server says, as long as the program is to hear it."""
        try:
            while True:
                kind, message = _message(server)
                if not state["deaf"]:
                    client.sendall(message)
                if kind == _READY:
                    with self._guard:
                        state["awaiting"] -= 1
                    answered.release()
        except (OSError, EOFError):
            with self._guard:
                state["awaiting"] = 0
            answered.release()
            self._end(client, server)

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its other end is gone already


def _read(source: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = source.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    return content


def _first(source: socket.socket) -> bytes:
    """Return the first message of a connection, which has no letter."""
    length = _read(source, 4)
    return length + _read(source, struct.unpack("!I", length)[0] - 4)


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    head = _read(source, 5)
    return head[:1], head + _read(source, struct.unpack("!I", head[1:])[0] - 4)
