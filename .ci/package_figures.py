"""Prints the size of the install it runs in, by package, and what starting costs above Python.

Run with the interpreter of the environment to be measured. The size is held to 150 MB, without what
`python -m venv` puts there itself; times are printed only.
"""

import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

LIMIT_BYTES = 150_000_000
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
"""What `python -m venv` itself puts there; nothing of ours needs them."""

LINES = {
    "bare interpreter": ["-c", "pass"],
    "import hartonomous": ["-c", "import hartonomous"],
    "hart --help": ["-m", "hartonomous", "--help"],
}


def sizes() -> dict[str, int]:
    """Return bytes by top-level name in site-packages."""
    place = Path(sysconfig.get_paths()["purelib"])
    found: dict[str, int] = {}
    for path in place.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(place).parts[0]
            found[top] = found.get(top, 0) + path.stat().st_size
    return {name: size for name, size in found.items() if not name.startswith(NOT_OURS)}


def median_s(arguments: list[str]) -> float:
    """Return the median of seven runs, after one that is not counted."""
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def main() -> None:
    """Print both tables."""
    found = sizes()
    total = sum(found.values())
    for name, size in sorted(found.items(), key=lambda item: -item[1])[:12]:
        print(f"{size / 1e6:8.1f} MB  {name}")
    print(f"{total / 1e6:8.1f} MB  base install without pip (limit {LIMIT_BYTES / 1e6:.0f} MB)")
    bare = median_s(LINES["bare interpreter"])
    for name, arguments in LINES.items():
        took = median_s(arguments)
        print(f"{took:8.3f} s   {name} ({took - bare:+.3f} s)")
    if total > LIMIT_BYTES:
        sys.exit("the base install is larger than its limit")


if __name__ == "__main__":
    main()
