"""Fuzzes one target with atheris until it is stopped; started by run.py, once for each target.

one.py TARGET [OPTIONS AND FOLDERS OF LIBFUZZER]

Coverage is measured of the modules of hartonomous. An exception that leaves the target ends the
process, and libFuzzer writes the input to a file.
"""

import resource
import sys
import warnings
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
MEMORY_BYTES = 1 << 30
"""What a target may take beyond what the process has when it begins."""


def limit_memory() -> None:
    """Let what a small input makes of itself fail before it fills the machine."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Import the targets, so that they report their coverage, and fuzz the one that is named."""
    name, *options = sys.argv[1:]
    sys.path[0] = str(ROOT)
    with atheris.instrument_imports(include=["hartonomous"], enable_loader_override=False):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    warnings.simplefilter("error")
    atheris.Setup([sys.argv[0], *options], target.run)
    limit_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
