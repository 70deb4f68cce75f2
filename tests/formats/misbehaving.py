"""A format whose files say what its parser shall do; loaded into the parser process by tests."""

import fcntl
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from hartonomous.core.description import Description, Tensor
from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.messages import ANSWER_LIMIT_BYTES
from hartonomous.ports.format import RangeReader


def its_socket() -> socket.socket:
    """The socket to the parent, found among the open descriptors."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            if str(entry.readlink()).startswith("socket:"):
                return socket.socket(fileno=os.dup(int(entry.name)))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    raise AssertionError("the child has no socket")


def nest(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def attempt(action) -> str:
    try:
        action()
    except (OSError, RuntimeError) as error:
        return type(error).__name__
    return "done"


def report() -> dict[str, object]:
    """What the child can see of the machine and what it may do."""
    status = Path("/proc/self/status").read_text()
    limits = ("AS", "CORE", "FSIZE", "NOFILE", "NPROC", "CPU")
    return {
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "cwd": str(Path.cwd()),
        "path": sys.path,
        "modules": sorted(sys.modules),
        "descriptors": sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in limits
        },
        "mapped": int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize(),
        "no_new_privileges": "NoNewPrivs:\t1" in status,
        "stdin": sys.stdin.read(),
        "write": attempt(lambda: Path("/dev/shm/written-by-a-parser").write_text("x")),
    }


def hang() -> None:
    time.sleep(3600)


def spin() -> None:
    while True:
        pass


def hog() -> None:
    held = []
    while True:
        held.append(bytearray(4 << 20))


def close_socket() -> None:
    connection = its_socket()
    connection.shutdown(socket.SHUT_RDWR)
    time.sleep(3600)


def say(message: bytes) -> None:
    its_socket().sendall(message)
    time.sleep(3600)


def packed(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def beyond() -> Description:
    tensor = Tensor(name="t", dtype="U8", shape=(9,), offset=1, length=9)
    return Description(format="obedient", tensors=(tensor,))


def structure_error() -> None:
    raise StructureError("it says so")


def limit_error() -> None:
    raise LimitError("it says so")


def key_error() -> None:
    raise KeyError("not expected")


def recursion() -> None:
    recursion()


def killed_once(fd: int) -> Description:
    """End like a process that the machine killed, the first time that the open file is seen.

    A lock on what the parent opened remembers it: it outlives the child.
    """
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Description(format="obedient", metadata={"pid": os.getpid()})
    finally:
        os.close(other)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


ACTIONS = {
    "report": lambda: Description(format="obedient", metadata=report()),
    "structure": structure_error,
    "limit": limit_error,
    "abort": os.abort,
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "quit": lambda: sys.exit("not today"),
    "raise": key_error,
    "recursion": recursion,
    "hang": hang,
    "spin": spin,
    "hog": hog,
    "shut": close_socket,
    "rubbish": lambda: say(packed(b"\xc1rubbish")),
    "empty answer": lambda: say(packed(b"")),
    "other type": lambda: say(packed(msgspec.msgpack.encode([1, 2]))),
    "negative": lambda: say(
        packed(
            msgspec.msgpack.encode(
                {
                    "found": {
                        "format": "x",
                        "tensors": [
                            {"name": "", "dtype": "", "shape": [], "offset": -1, "length": 1}
                        ],
                    },
                    "read_bytes": 0,
                }
            )
        )
    ),
    "deep answer": lambda: say(
        packed(
            b"\x81\xa5found\x82\xa6format\xa1x\xa8metadata\x81\xa1a" + b"\x91" * 100_000 + b"\x01"
        )
    ),
    "long claim": lambda: say(b"\xff\xff\xff\xff"),
    "half an answer": lambda: say(packed(b"x" * 100)[:50]),
    "beyond": beyond,
    "long answer": lambda: Description(format="x", metadata={"a": "x" * ANSWER_LIMIT_BYTES}),
    "deep": lambda: Description(format="x", metadata={"a": nest(100_000)}),
    "huge integer": lambda: Description(format="x", metadata={"a": 2**70}),
    "lone surrogate": lambda: Description(format="x", metadata={"a": "\ud800"}),
    "noise": lambda: sys.stderr.write("x" * 1_000_000),
}


class _Obedient:
    name = "obedient"

    def matches(self, path: str, head: bytes) -> bool:
        return path == "order"

    def parse(self, reader: RangeReader) -> Description:
        action = reader.read(0, reader.size).decode()
        if action == "killed once":
            return killed_once(reader._fd)
        found = ACTIONS[action]()
        return found if isinstance(found, Description) else Description(format="survived")


OBEDIENT = _Obedient()
