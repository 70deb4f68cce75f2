"""Rules for the files themselves: no machine's paths, no registry's hosts, sizes, docstrings."""

import ast
import re
from pathlib import Path

import pytest

from hartonomous.packs.store_card import CARRIED

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = {
    ".git", ".venv", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
    ".import_linter_cache", "__pycache__", "dist", "build", "out", "demo-store", "fixtures",
}  # fmt: skip
_LONGEST = 500
# One file on purpose: a copy lies in every store and has to work by itself, with the standard
# library and numpy, when nothing else of the program can be had.
_MAY_BE_LONGER = {"src/hartonomous/packs/rescue.py"}
_HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "files.python" + "hosted", "npm" + "js.org",
          "index" + "-url =", "extra-index" + "-url", "artifact" + "ory")  # fmt: skip
_PLACES = re.compile(r"(?<![\w.$}/])/(?:work|home/\w|Users/\w|root|tmp/w)(?:/|\b)")


def tracked():
    """Return the files of the working copy that are ours; generated and foreign ones left out."""
    found = []
    waiting = [ROOT]
    while waiting:
        for path in waiting.pop().iterdir():
            if path.name in _LEFT_OUT or path.name.endswith((".egg-info", ".so")):
                continue
            if path.is_dir() and not path.is_symlink():
                waiting.append(path)
            elif path.is_file():
                found.append(path)
    return sorted(found)


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def name_of(path):
    return str(path.relative_to(ROOT))


def text_of(path):
    return path.read_bytes().decode("utf-8", "replace")


def test_the_rules_see_the_files():
    names = set(map(name_of, FILES))
    assert {"README.md", "Makefile", ".ci/run", "src/hartonomous/store.py"} <= names


@pytest.mark.parametrize("host", _HOSTS)
def test_no_file_names_a_registry(host):
    assert [name_of(path) for path in FILES if host in text_of(path)] == []


def test_no_file_names_a_place_of_one_machine():
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if _PLACES.search(line)
    ]
    assert found == []


def test_files_are_short_enough_to_read():
    lengths = {
        name_of(path): len(text_of(path).splitlines())
        for path in PYTHON
        if "migrations/versions" not in name_of(path)
    }
    long = {name: length for name, length in lengths.items() if length > _LONGEST}
    assert long.keys() <= _MAY_BE_LONGER, long


def test_no_module_has_a_name_that_says_nothing():
    names = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "service",
             "engine", "data", "info"}  # fmt: skip
    assert [name_of(path) for path in PYTHON if path.stem in names] == []


def test_every_module_of_the_program_says_what_it_is():
    silent = [
        name_of(path)
        for path in PYTHON
        if path.is_relative_to(ROOT / "src") and not ast.get_docstring(ast.parse(text_of(path)))
    ]
    assert silent == []


def test_no_module_uses_a_broad_except_without_a_reason():
    """The linter asks for a noqa; this asks for the words behind it."""
    bare = re.compile(r"# noqa: BLE001\s*$")
    assert [
        name_of(path)
        for path in PYTHON
        if any(bare.search(line) for line in text_of(path).splitlines())
    ] == []


def test_the_store_carries_the_specification():
    packs = ROOT / "src" / "hartonomous" / "packs"
    carried_pages = [name for name in CARRIED if name.endswith(".md")]
    assert sorted(carried_pages) == sorted(path.name for path in packs.glob("FORMAT*.md"))
    for carried in carried_pages:
        page = carried.lower()
        assert (packs / carried).read_bytes() == (ROOT / "docs" / page).read_bytes()
