"""A test that is skipped for a reason that nobody listed fails, and so does a module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

LISTED = """
import pytest

def test_listed():
    pytest.skip("there is no C compiler")

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False

def test_sound():
    assert True
"""
UNLISTED = """
import pytest

@pytest.mark.skipif(True, reason="not today")
def test_marked():
    assert True

def test_called():
    pytest.skip("no PostgreSQL")
"""
MODULE = """
import pytest

pytest.importorskip("there_is_no_such_module")

def test_never():
    assert True
"""


def run(folder, content):
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "test_one.py").write_text(content)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder,
         "-p", "no:cacheprovider", folder / "test_one.py"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "exit_code", "told"),
    [
        (LISTED, 0, "1 passed, 1 skipped, 1 xfailed"),
        (UNLISTED, 1, "1 failed, 1 error"),
        (MODULE, 2, "there_is_no_such_module"),
    ],
    ids=["listed", "unlisted", "module"],
)
def test_what_is_skipped(tmp_path, content, exit_code, told):
    done = run(tmp_path, content)
    assert done.returncode == exit_code, done.stdout
    assert told in done.stdout
    assert ("MAY_BE_MISSING" in done.stdout) == (exit_code != 0)
