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


def test_opening_a_store_loads_what_is_used_then(tmp_path):
    place = str(tmp_path / "store")
    _loaded(f"import hartonomous; hartonomous.init({place!r}).close()")
    names = _loaded(f"import hartonomous; hartonomous.open({place!r}).close()")
    assert "sqlalchemy.dialects.sqlite" in names
    assert not _foreign(names) & {"alembic", "jsonschema", "rich", "click"}
    late = ("doctor", "estimate", "repair", "repack", "convert", "lineage")
    assert not names & {f"hartonomous.operations.{name}" for name in late}


def test_a_sound_summary_is_checked_without_jsonschema(tmp_path):
    code = f"""
import numpy as np, hartonomous
from hartonomous.tensors import save_file
with hartonomous.open({str(tmp_path / "store")!r}, create=True) as store:
    save_file({{"a.weight": np.zeros((4, 4), np.float32)}}, "m", store=store)
    assert store.show("m").model is not None
"""
    assert "jsonschema" not in _foreign(_loaded(code))


def test_an_import_leaves_collector_and_environment_as_they_were():
    code = """
import gc, os
before = dict(os.environ)
import hartonomous
hartonomous.Store
assert gc.isenabled() and dict(os.environ) == before
gc.disable()
hartonomous.load_file
assert not gc.isenabled()
"""
    assert "numpy" in _loaded(code)


def test_operations_stand_in_for_their_modules():
    from hartonomous import operations

    later = operations.__getattr__("stats")
    assert later.__name__ == "hartonomous.operations.stats"
    import hartonomous.operations.stats as real

    assert operations.__getattr__("stats") is not real  # it may be half imported
    assert later.stats is real.stats
    later.added_here = 1
    assert real.added_here == 1
    del later.added_here
    assert not hasattr(real, "added_here")
    for name in ("nothing", "_later"):
        with pytest.raises(AttributeError, match="no attribute"):
            operations.__getattr__(name)
