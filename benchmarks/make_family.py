"""Builds the benchmark family of ``family.toml``; what is there already is kept.

    python benchmarks/make_family.py FOLDER [--only NAME,NAME] [--list] [--pins] [--definition FILE]

It runs in the environment of ``requirements-family.txt``; ``make family`` sets that up.
"""

import argparse
import os
import sys
import time
from pathlib import Path

# Before torch, numpy and tokenizers are loaded: the order of sums depends on threads.
# Waiting threads sleep, since a spinning one takes the core that the other needs on a busy machine.
os.environ |= {
    "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "2",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip
sys.path.insert(0, str(Path(__file__).resolve().parent))

from family import build, definition


def main() -> int:
    """Build what is asked for and print what was made, or the pins of what is there."""
    arguments = _arguments()
    family = definition.load(arguments.definition)
    names = [name for text in arguments.only for name in text.replace(",", " ").split()]
    if arguments.list:
        for one in family.members:
            print(f"{one.kind:10} {one.size_bytes or 0:13,} {one.name}")
        return 0
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    records = build.build(family, folder, names, lambda text: print(text, flush=True))
    total = sum(one.size_bytes for one in records)
    print(f"{len(records)} members, {total:,} bytes, {time.perf_counter() - started:,.0f} s")
    if arguments.pins:
        for one in records:
            print(f"{one.name} size_bytes = {one.size_bytes} blake3 = {one.blake3}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the family is kept")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAMES",
        help="members to build, with what they are made from; commas or spaces between them",
    )  # fmt: skip
    parser.add_argument(
        "--definition", type=Path, default=definition.PINS, help="instead of family.toml"
    )
    parser.add_argument("--list", action="store_true", help="list the members and stop")
    parser.add_argument("--pins", action="store_true", help="print size and digest of each member")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
