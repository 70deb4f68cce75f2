"""Limits that a process of the program sets itself before it looks at what somebody else wrote.

For the parsers' process (``child.py``) and the encoders' (``packs/encoder_child.py``).
"""

import math
import resource
from pathlib import Path


def give_up(*, memory_bytes: int, open_files: int) -> None:
    """Limit memory to so much beyond what is mapped now, and bar core dumps and written files.

    For good: none of these can be raised again.
    """
    mapped_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    lower(resource.RLIMIT_AS, mapped_pages * resource.getpagesize() + memory_bytes)
    lower(resource.RLIMIT_NOFILE, open_files)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)


def grant_time(cpu_s: int) -> None:
    """Set how much processor time may be used from now on; the kernel kills at its end."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = math.ceil(usage.ru_utime + usage.ru_stime)
    lower(resource.RLIMIT_CPU, used_s + cpu_s, soft=True)


def lower(which: int, value: int, *, soft: bool = False) -> None:
    """Set a limit, at most what it was allowed to be; ``soft`` leaves room to set it again."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, hard if soft else value))
