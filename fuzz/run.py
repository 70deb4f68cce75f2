"""Fuzzes the targets of targets.py in turn.

run.py [TARGET …] [--seconds 60 | --runs 1000]

With --seconds each target goes on from what earlier ones kept in .cache/fuzz; with --runs it begins
with the seeds alone and goes the same way every time. An input that makes a target fail is put into
tests/fixtures/fuzz/TARGET, and the exit code is 1.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from fuzz import seeds  # noqa: E402 — found through the line above
from fuzz.targets import FOUND, TARGETS, Target  # noqa: E402

KEPT = ROOT / ".cache" / "fuzz"
TIMEOUT_S = 20
"""Seconds that one input may take."""
RSS_MIB = 1536


def write_seeds(target: Target, folder: Path) -> None:
    """Write what the target begins with, and what once made it fail, as files."""
    folder.mkdir(parents=True)
    contents = [*seeds.seeds_of(target.name)]
    contents += [path.read_bytes() for path in seeds.found_before(target.name)]
    for number, content in enumerate(contents):
        (folder / f"{number:03}").write_bytes(content)


def fuzz(target: Target, work: Path, asked: argparse.Namespace) -> bool:
    """Run one target in a process of its own; return whether nothing was found."""
    folder = work / target.name
    write_seeds(target, folder / "seeds")
    kept = folder / "corpus" if asked.runs else KEPT / target.name
    kept.mkdir(parents=True, exist_ok=True)
    found = folder / "found"
    found.mkdir()
    words = folder / "words"
    words.write_text("".join(map(_entry, target.words)))
    said_words = [f"-dict={words}"] if target.words else []
    limits = [f"-runs={asked.runs}", "-seed=1"] if asked.runs else []
    limits += [] if asked.runs else [f"-max_total_time={asked.seconds}"]
    command = [
        sys.executable, str(ROOT / "fuzz" / "one.py"), target.name, *limits,
        f"-max_len={target.max_bytes}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={RSS_MIB}",
        f"-artifact_prefix={found}/", *said_words, "-verbosity=0", "-print_final_stats=1",
        str(kept), str(folder / "seeds"),
    ]  # fmt: skip
    begun = time.monotonic()
    # Threads of numpy's libraries would take address space that is counted as the target's.
    environ = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(folder)}
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode(errors="replace")
    runs = said.rpartition("stat::number_of_executed_units:")[2].split("\n")[0].strip()
    took = time.monotonic() - begun
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{target.name:20} {verdict:6} {runs or '?':>9} runs {took:7.1f} s", flush=True)
    if done.returncode:
        print("\n".join(_telling(said)))
        keep(target, found)
    return done.returncode == 0


def _entry(word: str) -> str:
    """Return a word as a line of libFuzzer's dictionaries."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\x0A")
    return f'"{escaped}"\n'


def _telling(said: str) -> list[str]:
    """Return what libFuzzer said without what it says every time."""
    return [one[:400] for one in said.split("\n") if not one.startswith(("INFO:", "WARNING:"))]


def keep(target: Target, found: Path) -> None:
    """Put the inputs that were found where the tests feed them to the target again."""
    for path in found.iterdir():
        (FOUND / target.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, FOUND / target.name / path.name)
        print(f"{(FOUND / target.name / path.name).relative_to(ROOT)} makes it fail")


def main() -> int:
    """Run the targets that were asked for, all of them otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, help="inputs for each target, instead of seconds")
    asked = parser.parse_args()
    unknown = set(asked.targets) - set(TARGETS)
    if unknown:
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not for this machine (see requirements/fuzz.txt): NOTHING WAS FUZZED;")
        print("tests/fuzzing feeds every target its seeds and damaged forms of them all the same")
        return 0
    with tempfile.TemporaryDirectory(prefix="hartonomous-fuzz-") as work:
        results = [
            fuzz(TARGETS[name], Path(work), asked) for name in asked.targets or list(TARGETS)
        ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
