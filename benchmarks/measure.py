"""Runs a command and measures it: wall time, CPU-seconds, anonymous memory of all its processes.

Memory is RssAnon of the command and everything it started, summed, read from /proc every 20 ms; the
figure is the highest sum seen. CPU-seconds are those of the command and of every process that it
waited for, ``user_s`` the part of them outside the kernel. After the command the file system is
synced: tools that do not sync themselves leave that work to the kernel, and ``synced_s`` counts it
for all alike.
"""

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.02
_OUTPUT_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One command and what it took; ``exit_code`` is None when it was not run, with the reason."""

    command: tuple[str, ...]
    exit_code: int | None
    wall_s: float = 0.0
    synced_s: float = 0.0
    cpu_s: float = 0.0
    user_s: float = 0.0
    peak_anon_bytes: int = 0
    process_count: int = 0
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran and ended well."""
        return self.exit_code == 0


def not_run(command: Sequence[str], reason: str) -> Measured:
    """Return the mark of a command that was not run."""
    return Measured(command=tuple(command), exit_code=None, output=reason)


def added_up(several: Sequence[Measured]) -> Measured:
    """Return commands that ran one after the other as one; the first that failed speaks."""
    if len(several) == 1:
        return several[0]
    failed = next((one for one in several if not one.ok), None)
    return Measured(
        command=several[0].command if several else (),
        exit_code=0 if failed is None else failed.exit_code,
        wall_s=sum(one.wall_s for one in several),
        synced_s=sum(one.synced_s for one in several),
        cpu_s=sum(one.cpu_s for one in several),
        user_s=sum(one.user_s for one in several),
        peak_anon_bytes=max((one.peak_anon_bytes for one in several), default=0),
        process_count=max((one.process_count for one in several), default=0),
        output="" if failed is None else failed.output,
    )


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 3600,
) -> Measured:
    """Run a command to its end; its output is kept, not shown."""
    os.sync()  # what others left unwritten is not this command's
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(
        list(command),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        output = bytearray()
        peak = count = 0
        while process.poll() is None:
            anon, processes = _tree_anon(process.pid)
            peak, count = max(peak, anon), max(count, processes)
            output += process.stdout.read() or b""
            if time.perf_counter() - started > timeout_s:
                process.kill()
                output += f"\nkilled after {timeout_s:g} s".encode()
                break
            time.sleep(SAMPLE_S)
        exit_code = process.wait()
        wall_s = time.perf_counter() - started
        output += process.stdout.read() or b""
    os.sync()
    synced_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(
        command=tuple(command),
        exit_code=exit_code,
        wall_s=wall_s,
        synced_s=synced_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        user_s=after.ru_utime - before.ru_utime,
        peak_anon_bytes=peak,
        process_count=count,
        output=output.decode(errors="replace")[-_OUTPUT_CHARS:],
    )


def _tree_anon(pid: int) -> tuple[int, int]:
    """Return RssAnon of a process and all its descendants, in bytes, and how many there are."""
    total = count = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            status = Path(f"/proc/{one}/status").read_text(encoding="ascii", errors="replace")
            for task in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208  # names alone are wanted
                children = Path(f"/proc/{one}/task/{task}/children")
                waiting += [int(child) for child in children.read_text(encoding="ascii").split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
                count += 1
    return total, count
