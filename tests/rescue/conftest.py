"""What the tests of rescue.py share: a way to run it, and a way to run it without its packages."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from store_by_hand import StoreByHand

from hartonomous.packs import rescue

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def store(tmp_path: Path) -> StoreByHand:
    place = tmp_path / "store"
    place.mkdir()
    return StoreByHand(place)


@pytest.fixture
def hide(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return an environment in which the named packages cannot be imported."""

    def make(*packages: str, path: str = os.environ["PATH"]) -> dict[str, str]:
        folder = tmp_path / "blockers"
        for package in packages:
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").write_text("raise ImportError('hidden')")
        return {"PYTHONPATH": str(folder), "PATH": path}

    return make


@pytest.fixture
def run(store: StoreByHand) -> Run:
    """Run the store's own copy of the script, away from the project's source."""

    def start(*words: str | Path, env: dict[str, str] | None = None, code: int | None = 0):
        script = store.place / "rescue.py"
        shutil.copy(rescue.__file__, script)
        command = [sys.executable, "-P", str(script), *map(str, words)]
        env = {"PATH": os.environ["PATH"]} if env is None else env
        done = subprocess.run(
            command, env=env, cwd=store.place.parent, capture_output=True, text=True, timeout=120
        )
        assert code in (done.returncode, None), done.stdout + done.stderr
        return done

    return start
