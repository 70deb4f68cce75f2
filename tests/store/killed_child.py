"""A program at work on a store in a process of its own, killed at some moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import hartonomous as hn

_SOURCE = str(Path(hn.__file__).parents[1])


def run_and_kill(code: str, store: Path, chance: random.Random, *, within_s: float) -> None:
    """Run ``code`` with the store's path; kill it up to ``within_s`` after it prints ``began``."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _SOURCE},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"began\n"
    time.sleep(chance.random() * within_s)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
