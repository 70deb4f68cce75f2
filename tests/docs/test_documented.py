"""What a user can meet is documented: commands, settings, errors; and links lead somewhere."""

import re

import pytest
from markdown_blocks import DOCUMENTS, ROOT, blocks_of

import hartonomous
from hartonomous.cli.commands import COMMANDS
from hartonomous.cli.error_page import error_page
from hartonomous.errors import all_kinds
from hartonomous.settings import PREFIX, setting_names
from hartonomous.store import Store

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_INTRODUCED = ("add", "get", "init", "verify", "demo")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_page_of_errors_is_current():
    assert text_of("docs/errors.md") == error_page(), "make docs"


def test_every_kind_of_error_has_its_row():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \|", text_of("docs/errors.md"), re.M))
    assert rows == {kind: cls.__name__ for kind, cls in all_kinds().items()}


def test_every_error_says_what_it_means_in_one_line():
    for cls in all_kinds().values():
        assert (cls.__doc__ or "").splitlines()[0].endswith("."), cls


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_is_documented(name):
    assert f"| `{name}` | `{PREFIX}{name.upper()}` |" in text_of("docs/commands.md")


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_command_is_documented(verb):
    assert f"### `hart {verb}`" in text_of("docs/commands.md")


def test_the_readme_introduces_the_main_commands():
    readme = text_of("README.md")
    for verb in _INTRODUCED:
        assert re.search(rf"\bhart (--store models )?{verb}\b", readme), verb


def test_commands_that_the_pages_name_are_there():
    """A verb in a block that is run exists; in blocks that need a command it may not yet."""
    for path in DOCUMENTS:
        for block in blocks_of(path):
            if block.language != "sh" or block.word == "needs":
                continue
            for verb in re.findall(r"(?:^|[|(] ?)hart (?:--\S+ (?:models |backup )?)*([a-z]+)",
                                   block.code, re.M):  # fmt: skip
                assert verb in COMMANDS, f"{block.document}:{block.line}: hart {verb}"


def test_the_methods_that_llms_txt_names_are_there():
    listed = re.search(r"Methods: ([^.]+)\.", text_of("llms.txt"))
    assert listed is not None
    for name in re.split(r",\s+", listed[1]):
        assert callable(getattr(Store, name)), name


def test_links_lead_to_files():
    for path in [*DOCUMENTS, ROOT / "llms.txt"]:
        for target in _LINK.findall(path.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (path.parent / target).exists(), f"{path}: {target}"


def test_architecture_has_a_heading_for_every_package():
    text = text_of("ARCHITECTURE.md")
    assert len(text.splitlines()) <= 360
    packages = [path.parent.name for path in ROOT.glob("src/hartonomous/*/__init__.py")]
    for name in packages:
        heading = re.search(rf"^## .*`{name}/`.*\?$", text, re.M)
        assert heading is not None, f"no heading that asks what {name}/ answers"


_NAMED_AS_A_WHOLE = {"catalog", "cli", "codecs", "operations", "ports", "testing"}
"""Folders of one file for each command, operation or table; of the others each file is named."""


def test_architecture_names_every_module():
    text = text_of("ARCHITECTURE.md")
    top = ROOT / "src" / "hartonomous"
    missing = [
        str(path.relative_to(top))
        for path in sorted(top.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py", "version.py")
        and path.relative_to(top).parts[0] not in _NAMED_AS_A_WHOLE
        and f"`{path.name}`" not in text
    ]
    assert missing == []
    assert all(f"## `{name}/`" in text for name in _NAMED_AS_A_WHOLE)


def test_architecture_names_no_module_that_is_not_there():
    there = {path.name for path in ROOT.glob("src/hartonomous/**/*.py")}
    there |= {path.name for path in ROOT.glob("tests/**/*.py")}
    there |= {
        path.name for folder in (".", "native", "fuzz") for path in (ROOT / folder).glob("*.py")
    }
    named = set(re.findall(r"`(?:\w+/)*(\w+\.py)`", text_of("ARCHITECTURE.md")))
    assert named <= there


def test_llms_txt_names_every_command():
    text = text_of("llms.txt")
    assert [verb for verb in COMMANDS if f"`{verb}`" not in text] == []


def test_decisions_are_numbered_without_gaps():
    paths = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for number, path in enumerate(paths, 1):
        assert path.name.startswith(f"{number:04d}-")
        assert path.read_text(encoding="utf-8").startswith(f"# {number}. ")
        assert "**Given up.**" in path.read_text(encoding="utf-8"), path


def test_the_version_is_one():
    pyproject = text_of("pyproject.toml")
    assert f'\nversion = "{hartonomous.__version__}"\n' in pyproject
    assert len(hartonomous.__all__) <= 40
