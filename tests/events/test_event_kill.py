"""Nothing is lost when whoever writes or follows is killed: at least once, in order."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_crowd
import pytest
from mirror import Mirror, shown_by
from told import check, told

import hartonomous as hn

ROUNDS = int(os.environ.get("HARTONOMOUS_TEST_EVENT_ROUNDS", "5"))
ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")
CONSUMERS = ("one", "two")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: what a killed process wrote is there as well."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="hartonomous-") as name:
        yield Path(name)


def lines_of(path: Path) -> list[Any]:
    """Return what was written; a line that was cut off by a kill says nothing."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def ask(server: "subprocess.Popen[str]", roles: list[Any]) -> list[int]:
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(roles) + "\n")
    server.stdin.flush()
    return list(json.loads(server.stdout.readline()))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{Path(__file__).parent}"}


def run_and_kill(server: "subprocess.Popen[str]", chance: random.Random, turn: int) -> None:
    """Let writers and consumers work together, and kill each of them at some time."""
    roles: list[Any] = [["write", turn * 10 + one] for one in range(3)]
    roles += [["follow", name] for name in CONSUMERS]
    children = ask(server, roles)
    assert server.stdout is not None
    assert [json.loads(server.stdout.readline()) for _ in children] == ["ready"] * len(children)
    chance.shuffle(children)
    for child in children:
        time.sleep(chance.uniform(0.05, 0.35))
        os.kill(child, signal.SIGKILL)
    assert set(ask(server, [])) == {-signal.SIGKILL}, "a child failed before it was killed"


@contextlib.contextmanager
def following(place: Path, out: Path) -> Iterator[None]:
    """Run ``hart events --follow`` for a block, and kill it."""
    line = [sys.executable, "-m", "hartonomous", "--store", str(place), "events", "--follow",
            "--json", "--consumer", "command"]  # fmt: skip
    with out.open("ab") as stream:
        child = subprocess.Popen(line, stdout=stream, env=environment())
        try:
            yield
        finally:
            child.kill()
            child.wait()


@pytest.mark.timeout(900)
def test_nothing_is_lost_when_any_process_is_killed(folder: Path, catalog_engine: str) -> None:
    place, work = folder / "store", folder / "work"
    work.mkdir()
    hn.init(place).close()
    seed = int(os.environ.get("HARTONOMOUS_TEST_SEED", str(random.SystemRandom().getrandbits(31))))
    chance = random.Random(seed)
    print(f"HARTONOMOUS_TEST_SEED={seed}")
    script = [sys.executable, event_crowd.__file__, str(place), str(work)]
    with subprocess.Popen(
        script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as server:
        for turn in range(ROUNDS):
            with following(place, work / "command"):
                run_and_kill(server, chance, turn)
        assert server.stdin is not None
        server.stdin.close()
    assert lines_of(work / "failed") == []
    with hn.open(place, settings=event_crowd.SETTINGS) as store:
        feed = [one.cloudevent() for one in told(store)]
        heard = {name: [one for (one,) in lines_of(work / f"heard-{name}")] for name in CONSUMERS}
        heard["command"] = lines_of(work / "command")
        for name, some in heard.items():
            some += [one.cloudevent() for one in store.events(consumer=name)]
            check_heard(some, feed)
        check_acknowledged(work, feed)
        mirror = Mirror()
        for event in told(store):
            mirror.hear(event)
        assert mirror.shown() == shown_by(store)
    told_of = sum(len(lines_of(path)) for path in work.glob("said-*"))
    print(f"{told_of} acknowledged, {len(feed)} events,",
          {name: f"{len(some)} heard" for name, some in heard.items()})  # fmt: skip
    assert told_of > 0


def check_heard(heard: list[dict[str, Any]], feed: list[dict[str, Any]]) -> None:
    """What a consumer heard is the feed, in its order, some of it more than once."""
    first = {one["id"]: one for one in heard}
    assert list(dict.fromkeys(one["id"] for one in heard)) == [one["id"] for one in feed]
    assert [first[one["id"]] for one in feed] == feed
    for one in first.values():
        check(one)


def check_acknowledged(work: Path, feed: list[dict[str, Any]]) -> None:
    """All that was acknowledged was told, that of one writer on one subject in its order."""
    by_subject: dict[str, list[list[Any]]] = {}
    for one in feed:
        data = one["data"]
        words = [one["type"], one.get("subject"), data.get("version"), data.get("label")]
        by_subject.setdefault(str(one.get("subject")), []).append(words)
    for path in work.glob("said-*"):
        waiting: dict[str, list[list[Any]]] = {}
        for words in lines_of(path):
            if words[0] != "artifact.unchanged":
                padded = [*words, None] if len(words) == 3 else words
                waiting.setdefault(words[1], []).append(padded)
        for subject, acknowledged in waiting.items():
            rest = iter(by_subject[subject])
            for words in acknowledged:
                assert words in rest, f"{words} of {path.name} is not told, or not in order"
