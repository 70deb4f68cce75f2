"""The order of writing, read from the system calls of a real process: bytes, rows, the word.

Needs strace and the right to trace one's own children.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import hartonomous as hn

_CALLS = (
    "fsync,fdatasync,linkat,link,rename,renameat,renameat2,write,pwrite64,writev,unlink,unlinkat"
)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_PATH = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')
_PROGRAM = """
import os, sys
import hartonomous as hn
with hn.open(sys.argv[1], settings={"pack_bytes": 1 << 20}) as store:
    for word in sys.argv[2:]:
        store.rm(word[3:]) if word.startswith("rm:") else store.add(word)
        os.write(1, b"acknowledged\\n")
"""
MOST_FILE_SYNCS = 2
"""Syncs of files for one acknowledgement, beside one a pack: the log, its header when new."""
MOST_DIRECTORY_SYNCS = 2
"""Syncs of directories, beside two a pack: the folders that hold the folders, once a process."""


@dataclass(frozen=True)
class Call:
    name: str
    paths: tuple[str, ...]

    @property
    def what(self) -> str:
        """Name the kind of thing that the call touches first."""
        path = self.paths[0] if self.paths else ""
        if path.endswith("catalog.sqlite3-wal"):
            return "log"
        if path.endswith("catalog.sqlite3"):
            return "catalog"
        if "/tmp/" in path and re.search(r"/tmp/\d+-[0-9a-f]+( \(deleted\))?$", path):
            return "pack"
        return "directory" if re.search(r"/store(/packs(/..)?)?$", path) else "other"

    @property
    def acknowledges(self) -> bool:
        return self.name == "write" and self.what == "other" and "acknowledged" in self.paths

    @property
    def syncs(self) -> bool:
        return self.name in {"fsync", "fdatasync"}

    @property
    def writes(self) -> bool:
        return self.name in {"write", "writev", "pwrite64"}


def read_calls(text: str) -> Iterator[Call]:
    """Yield the calls that succeeded; one that another thread cut in two counts at its end."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        process, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>").strip()
            continue
        resumed = re.match(r" *<\.\.\. \w+ resumed>(.*)", rest)
        if resumed:
            line = f"{process} {begun.pop(process)}{resumed[1]}"
        match = _LINE.match(line)
        if match and not match[4].startswith("-"):
            paths = tuple(a or b for a, b in _PATH.findall(match[3]))
            if match[2] == "write" and '"acknowledged' in match[3]:
                paths = ("", "acknowledged")
            yield Call(match[2], paths)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    base = tmp_path_factory.mktemp("syncs")
    hn.init(base / "store").close()
    for name, size in (("small", 3000), ("middle", 400_000), ("large", 3_000_000), ("last", 10)):
        (base / name).write_bytes(os.urandom(size))
    words = [str(base / name) for name in ("small", "middle", "large", "last")]
    trace = base / "trace"
    source = str(Path(hn.__file__).parents[1])
    subprocess.run(
        ["strace", "-f", "-y", "-s", "16", "-e", f"trace={_CALLS}", "-o", str(trace),
         sys.executable, "-c", _PROGRAM, str(base / "store"), *words, "rm:small"],
        check=True, stdout=subprocess.PIPE, timeout=120, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    found = list(read_calls(trace.read_text(errors="replace")))
    assert sum(call.acknowledges for call in found) == 5
    return found


def acknowledged(calls: list[Call]) -> list[list[Call]]:
    """Return the calls of each acknowledgement."""
    parts: list[list[Call]] = [[]]
    for call in calls:
        parts[-1].append(call)
        if call.acknowledges:
            parts.append([])
    return parts[:-1]


def links(calls: list[Call]) -> list[tuple[int, str, str]]:
    """Return (place, temporary name, final name) of every pack that was put in its place."""
    return [
        (at, call.paths[-2], call.paths[-1])
        for at, call in enumerate(calls)
        if call.name in {"link", "linkat", "rename", "renameat2"}
        and call.paths[-1].endswith(".pack")
    ]


def test_a_pack_is_synced_before_it_has_its_name_and_its_directory_after(calls: list[Call]) -> None:
    found = links(calls)
    assert len(found) >= 7
    for at, temporary, final in found:
        synced = [i for i, c in enumerate(calls) if c.syncs and c.paths[:1] == (temporary,)]
        assert synced and synced[0] < at
        folder = str(Path(final).parent)
        after = [i for i, c in enumerate(calls) if i > at and c.syncs and c.paths[:1] == (folder,)]
        next_log_sync = next(
            i for i, c in enumerate(calls) if i > at and c.syncs and c.what == "log"
        )
        assert after and after[0] < next_log_sync


def test_no_byte_of_a_pack_is_written_after_its_sync(calls: list[Call]) -> None:
    for _, temporary, final in links(calls):
        synced = max(i for i, c in enumerate(calls) if c.syncs and c.paths[:1] == (temporary,))
        named = {temporary, final, f"{temporary} (deleted)"}
        touched = [i for i, c in enumerate(calls) if c.writes and c.paths and c.paths[0] in named]
        assert touched and max(touched) < synced


def test_the_log_is_synced_after_the_last_pack_and_before_the_word(calls: list[Call]) -> None:
    for part in acknowledged(calls):
        places = links(part)
        assert places
        directory_syncs = [i for i, c in enumerate(part) if c.syncs and c.what == "directory"]
        log_writes = [i for i, c in enumerate(part) if c.writes and c.what == "log"]
        log_syncs = [i for i, c in enumerate(part) if c.syncs and c.what == "log"]
        assert log_syncs
        packs_done = max(i for i in directory_syncs if i < log_syncs[-1])
        assert max(at for at, _, _ in places) < packs_done
        assert [i for i in log_writes if packs_done < i < log_syncs[-1]]


def test_the_number_of_syncs_is_bounded(calls: list[Call]) -> None:
    names = ("small", "middle", "large", "last", "rm")
    for name, part in zip(names, acknowledged(calls), strict=True):
        files = sum(c.syncs and c.what != "directory" for c in part)
        directories = sum(c.syncs and c.what == "directory" for c in part)
        packs = len(links(part))
        print(f"{name}: {files} syncs of files, {directories} of directories, {packs} packs")
        assert files <= MOST_FILE_SYNCS + packs
        assert directories <= MOST_DIRECTORY_SYNCS + 2 * packs
