"""Disks that run full or cannot be written, as real small file systems in a mount name space.

Needs `unshare` and `mount` (util-linux), and either root or unprivileged user name spaces.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.durability import small_disk

import hartonomous as hn

SOURCE = str(Path(hn.__file__).parents[1])
ROOT = str(Path(__file__).parents[2])


@pytest.mark.parametrize("scenario", sorted(small_disk.SCENARIOS))
@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)
def test_on_a_small_disk(tmp_path: Path, scenario: str, catalog_engine: str) -> None:
    run(tmp_path, scenario)


@pytest.mark.parametrize("scenario", ["adding_runs_full", "copying_runs_full"])
@pytest.mark.parametrize("catalog_engine", ["postgresql"], indirect=True)
def test_packs_alone_on_a_small_disk(tmp_path: Path, scenario: str, catalog_engine: str) -> None:
    """The server has a disk of its own: of the others only what concerns packs would differ."""
    run(tmp_path, scenario)


def run(tmp_path: Path, scenario: str) -> None:
    spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        ["unshare", *spaces, sys.executable, small_disk.__file__, scenario, str(tmp_path)],
        check=False, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": f"{SOURCE}:{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
