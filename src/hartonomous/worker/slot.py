"""A worker's side of one child process, and the job that it has."""

import contextlib
import os
import subprocess
import sys

from hartonomous.core.job import Job
from hartonomous.worker import messages
from hartonomous.worker.running import STALLED_CODE

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; from hartonomous.worker.child import main; main()"
)
_READ_BYTES = 1 << 16


class Slot:
    """One child process; it is started with the slot and has at most one job."""

    def __init__(self, setup: messages.Setup) -> None:
        # It finds modules where this process did, and none in the working directory.
        places = [place for place in sys.path if place]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
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
        if code == STALLED_CODE:
            return (
                "showed no progress for longer than 'stall_s', did not stop either, and was ended"
            )
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"

    def _say(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: who listens to it learns that
            self._given.write(text)
            self._given.flush()
