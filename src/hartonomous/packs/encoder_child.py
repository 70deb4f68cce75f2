"""The program of an encoder's process: limits itself, loads one graph, encodes until it is let go.

``encoder_process.EncoderProcess`` starts it. A graph computes whatever its maker wrote, so memory,
processor time, core dumps and files that it could write are limited before it is loaded. It ends
when the socket closes.
"""

import os
import signal
import socket
import sys

import msgspec
import numpy as np

from hartonomous.errors import HartonomousError
from hartonomous.formats import messages as framing
from hartonomous.formats.limits import give_up, grant_time
from hartonomous.inference.picture_encoder import PictureEncoder
from hartonomous.inference.sentence_encoder import SentenceEncoder
from hartonomous.packs.encoder_messages import (
    REQUEST_LIMIT_BYTES,
    SETUP_LIMIT_BYTES,
    Answer,
    Request,
    Setup,
)
from hartonomous.packs.extra_packages import lacks_encode_extra

_OPEN_FILES = 64


def main(socket_fd: int) -> None:
    """Serve requests on this socket until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent
    with socket.socket(fileno=socket_fd) as connection:
        try:
            content = framing.receive(connection, limit_bytes=SETUP_LIMIT_BYTES)
            setup = msgspec.msgpack.decode(content, type=Setup)
            _serve(connection, setup)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the parent is gone or wants no more
        except MemoryError:
            sys.exit(framing.OUT_OF_MEMORY_EXIT)


def _serve(connection: socket.socket, setup: Setup) -> None:
    try:
        _import_libraries(setup)
        give_up(memory_bytes=setup.memory_bytes, open_files=_OPEN_FILES)
        grant_time(setup.cpu_s)
        path = f"/proc/self/fd/{setup.graph_fd}"
        encoder: SentenceEncoder | PictureEncoder
        if setup.text is not None:
            encoder = SentenceEncoder(
                path, setup.tokenizer, setup.text, threads=setup.threads, weights=setup.weights
            )
        else:
            assert setup.picture is not None
            encoder = PictureEncoder(path, setup.picture, threads=setup.threads)
        os.close(setup.graph_fd)
    except HartonomousError as error:
        _send(connection, Answer(error=error.message, hint=error.hint))
        return
    _send(connection, Answer())
    while True:
        content = framing.receive(connection, limit_bytes=REQUEST_LIMIT_BYTES)
        grant_time(setup.cpu_s)
        _send(connection, _encode(encoder, msgspec.msgpack.decode(content, type=Request)))


def _encode(encoder: SentenceEncoder | PictureEncoder, request: Request) -> Answer:
    try:
        if isinstance(encoder, SentenceEncoder):
            vectors = encoder.encode(request.texts, query=request.query)
        else:
            given = request.pictures
            assert given is not None
            shape = (given.count, given.height, given.width, 3)
            pixels = np.frombuffer(given.content, np.uint8).reshape(shape)
            vectors = encoder.encode(list(pixels))
    except HartonomousError as error:
        return Answer(error=error.message, hint=error.hint)
    rows, dimension = vectors.shape
    content = np.ascontiguousarray(vectors, "<f4").tobytes()
    return Answer(rows=rows, dimension=dimension, vectors=content)


def _send(connection: socket.socket, answer: Answer) -> None:
    framing.send(connection, msgspec.msgpack.encode(answer))


def _import_libraries(setup: Setup) -> None:
    """Import what maps much memory and opens files, before limits would be in the way."""
    try:
        import onnxruntime  # noqa: F401

        if setup.text is not None:
            import tokenizers  # noqa: F401
    except ImportError as error:
        raise lacks_encode_extra(error.name) from error
