"""A worker's side of one child process, and the job that it has."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from hartonomous.core.job import Job
from hartonomous.worker import messages

_PROGRAM = "hartonomous.worker.child"
_READ_BYTES = 1 << 16


class Slot:
    """One child process; it is started with the slot and has at most one job."""

    def __init__(self, setup: messages.Setup) -> None:
        root = str(Path(__file__).absolute().parents[2])
        path = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            # -P: nothing in the working directory takes a module's place.
            [sys.executable, "-P", "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{root}:{path}" if path else root},
            start_new_session=True,  # a terminal's Ctrl-C is the worker's business
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._given, self._told = self._process.stdin, self._process.stdout
        self._rest = b""
        self.job: Job | None = None
        self.released = False
        self._say(messages.line(setup))

    def fileno(self) -> int:
        """Return what to listen on."""
        return self._told.fileno()

    def give(self, job: Job) -> None:
        """Let the child run a claimed job."""
        self.job = job
        self._say(messages.line(job))

    def hear(self) -> list[messages.Told] | None:
        """Return what the child has said; None where it has ended. Waits if it said nothing."""
        content = os.read(self.fileno(), _READ_BYTES)
        if not content:
            return None
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [messages.to_told.decode(text) for text in lines]

    def release(self) -> None:
        """Let the child give its job back, if it has one, and end."""
        if not self.released:
            self.released = True
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._given.close()

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()

    def wait(self) -> str:
        """Wait for the child's end and return how it ended, in words."""
        self.release()
        code = self._process.wait()
        self._told.close()
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def _say(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: who listens to it learns that
            self._given.write(text)
            self._given.flush()
