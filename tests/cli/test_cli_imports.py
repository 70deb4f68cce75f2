"""What is loaded by ``import hartonomous`` and ``hart --help``; a new name here costs start-up."""

import json
import subprocess
import sys

import pytest

_PROGRAM = """
import json, sys
bare = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - bare)))
"""
_HELP = """
import contextlib, io
from hartonomous.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["--help"]) == 0
"""

_FRAME = {
    "hartonomous",
    "hartonomous.cli",
    "hartonomous.cli.commands",
    "hartonomous.cli.failures",
    "hartonomous.cli.frame",
    "hartonomous.cli.invocation",
    "hartonomous.cli.main",
    "hartonomous.cli.options",
    "hartonomous.cli.text",
    "hartonomous.errors",
    "hartonomous.version",
}
_SLOW_STANDARD = {
    "asyncio",
    "concurrent.futures",
    "email",
    "http",
    "importlib.metadata",
    "multiprocessing",
    "sqlite3",
    "ssl",
    "subprocess",
    "tomllib",
    "urllib.request",
}


def _loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout))


def _foreign(names: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"hartonomous"}


def test_the_probe_sees_what_is_loaded():
    assert "numpy" in _foreign(_loaded("import numpy"))


def test_import_hartonomous():
    names = _loaded("import hartonomous")
    assert _foreign(names) == set()
    assert not names & _SLOW_STANDARD


@pytest.mark.parametrize("code", [_HELP, "import hartonomous.cli.main"])
def test_hart_help(code):
    names = _loaded(code)
    assert _foreign(names) <= {"click"}
    assert {name for name in names if name.startswith("hartonomous")} <= _FRAME
    assert not names & _SLOW_STANDARD


def test_config_needs_no_store_and_nothing_of_it():
    code = _HELP.replace("--help", "config")
    assert _foreign(_loaded(code)) <= {"click", "platformdirs", "blake3", "xxhash"}
