"""What a base install weighs, and how long it takes to import and to print the help.

Goals: 150 MB without pip, 0.3 s above a bare interpreter.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from context import Context, Result
from made_files import size_of
from tables import megabytes, table

_ROOT = Path(__file__).resolve().parents[1]
_NOT_OURS = (
    "pip",
    "setuptools",
    "wheel",
    "_distutils_hack",
    "distutils-precedence",
    "pkg_resources",
)


def run(context: Context) -> Result:
    """Install the checkout into an empty environment and measure it."""
    folder = context.tools / "base-install"
    failed = _install(folder)
    if failed:
        return Result(text=f"install: not run: {failed}\n", figures={"not_run": failed})
    site = next((folder / "lib").glob("python*/site-packages"))
    sizes = {one.name: size_of(one) for one in site.iterdir() if not one.name.startswith(_NOT_OURS)}
    total = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
    rows = [["all of it", megabytes(total)], *([name, megabytes(size)] for name, size in largest)]
    times = _times(folder, context)
    text = "\n".join(
        [
            table("install: base install without pip, compiled files included (limit 150 MB)",
                  ["package", "MB"], rows),
            table("install: medians of 15 interleaved (limit 0.3 s above a bare interpreter)",
                  ["", "s", "above bare s"],
                  [[name, value, value - times["bare interpreter"]]
                   for name, value in times.items()]),
        ]
    )  # fmt: skip
    return Result(text=text, figures={"bytes": total, "largest": dict(largest), "seconds": times})


def _install(folder: Path) -> str:
    """Make the environment anew; return why that failed, or nothing."""
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check",
         str(_ROOT)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return " | ".join(done.stderr.strip().splitlines()[-3:])
    return ""


def _times(folder: Path, context: Context) -> dict[str, float]:
    python = str(folder / "bin" / "python")
    commands = {
        "bare interpreter": [python, "-c", "pass"],
        "import hartonomous": [python, "-c", "import hartonomous"],
        "hart --help": [str(folder / "bin" / "hart"), "--help"],
        "hartonomous.open is there": [python, "-c", "import hartonomous; hartonomous.open"],
    }
    peers = {
        "hf-xet import": [str(context.tools / "hf-xet" / "bin" / "python"), "-c", "import hf_xet"],
        "dvc --version": [str(context.tools / "dvc" / "bin" / "dvc"), "--version"],
        "git-lfs version": ["/usr/bin/git-lfs", "version"],
    }
    commands.update({name: command for name, command in peers.items() if Path(command[0]).exists()})
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(16):
        for name, command in commands.items():
            measured = _seconds(command)
            if turn:  # the first one compiles and fills caches
                taken[name].append(measured)
    return {name: statistics.median(values) for name, values in taken.items()}


def _seconds(command: list[str]) -> float:
    """Return the wall time of a short command, without the sampling of ``measure``."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return taken
