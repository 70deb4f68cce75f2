import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hartonomous.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of a user who set nothing."""
    for name in [*os.environ]:
        if name.startswith(("HARTONOMOUS_", "XDG_", "_HART")) or name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("TERM", "xterm-256color")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


@pytest.fixture
def hart(
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m hartonomous`` with the given arguments."""

    def call(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "hartonomous", *arguments]
        return subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=60, **settings
        )

    return call


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store that every command finds."""
    import hartonomous

    place = home / "store"
    hartonomous.init(place).close()
    monkeypatch.setenv("HARTONOMOUS_STORE", str(place))
    return place


@pytest.fixture
def sources(home: Path) -> Path:
    """A folder with a model folder, a fine-tune of its weights, a GGUF, an array and a text."""
    from cli_files import write_sources

    folder = home / "sources"
    write_sources(folder)
    return folder


@pytest.fixture
def full(store: Path, sources: Path, hart: Callable[..., tuple[int, str, str]]) -> Path:
    """The store with the sources in it."""
    assert hart("add", *map(str, sorted(sources.iterdir())), "-q")[0] == 0
    return store
