"""Every command of the table: help text, reference page, schema, completions; and ``config``."""

import json
import os
import subprocess

import click
import pytest
from cli_schema import ROOT, SCHEMAS, validate, validator

from hartonomous.cli.commands import COMMANDS, SECTIONS
from hartonomous.cli.main import hart as root
from hartonomous.cli.options import GLOBAL_OPTIONS
from hartonomous.cli.reference import reference
from hartonomous.settings import setting_names

_WITHOUT_JSON = {"completions", "help"}


@pytest.fixture(params=sorted(COMMANDS))
def verb(request):
    return request.param


@pytest.fixture
def found(verb):
    command = root.get_command(click.Context(root), verb)
    assert command is not None
    return command


def test_the_tables_help_line_is_the_first_of_the_docstring(verb, found):
    assert found.help is not None
    assert found.help.splitlines()[0] == COMMANDS[verb].help
    assert found.name == verb
    assert COMMANDS[verb].section in SECTIONS


def test_every_option_has_a_help_text_and_none_hides_a_global_one(found):
    names = [name for option in GLOBAL_OPTIONS for name in option.opts]
    for param in found.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert not set(param.opts) & set(names), param.name


def test_every_command_has_a_schema_that_refuses_unknown_keys(verb):
    path = SCHEMAS / f"{verb}.json"
    assert path.is_file() is (verb not in _WITHOUT_JSON)
    if path.is_file():
        schema = validator(verb).schema
        kinds = [schema] if "properties" in schema else schema["oneOf"]
        assert all(one["additionalProperties"] is False for one in kinds)


def test_the_reference_page_is_current():
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == reference(), "python -m hartonomous.cli.reference > docs/commands.md"


def test_the_reference_page_has_every_command(verb):
    assert f"### `hart {verb}`" in reference()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(hart, shell):
    code, out, err = hart("completions", shell)
    assert (code, err) == (0, "")
    assert "_HART_COMPLETE" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_completion_of_commands_in_a_real_bash(process):
    done = process(
        env={
            **os.environ,
            "_HART_COMPLETE": "bash_complete",
            "COMP_WORDS": "hart co",
            "COMP_CWORD": "1",
        }
    )
    assert done.stdout.split() == ["plain,completions", "plain,config"]


def test_completion_of_options_after_the_verb(process):
    done = process(
        env={
            **os.environ,
            "_HART_COMPLETE": "bash_complete",
            "COMP_WORDS": "hart config --s",
            "COMP_CWORD": "2",
        }
    )
    assert done.stdout.split() == ["plain,--store", "plain,--set"]


def test_config_json_has_every_setting(hart):
    found = validate("config", hart("config", "--json")[1])[0]
    assert [setting["name"] for setting in found["settings"]] == list(setting_names())
    assert found["store"]["exists"] is False


def _sources(out):
    return {s["name"]: (s["value"], s["source"]) for s in json.loads(out)["settings"]}


def test_config_names_each_source(hart, home, monkeypatch):
    store, user = home / "store", home / ".config" / "hartonomous"
    store.mkdir()
    user.mkdir(parents=True)
    (store / "store.json").write_text("{}")
    (store / "hartonomous.toml").write_text('pack_bytes = "64 MiB"\ntrash_days = 7\n')
    (user / "hartonomous.toml").write_text("trash_days = 8\nworkers = 3\n")
    monkeypatch.setenv("HARTONOMOUS_CHECK", "off")
    arguments = ("config", "--json", "--store", str(store), "--progress", "plain")
    code, out, _ = hart(*arguments, "--set", "cache-keep-hours=1")
    assert code == 0
    shown = _sources(out)
    assert shown["pack_bytes"] == (64 << 20, str(store / "hartonomous.toml"))
    assert shown["trash_days"] == (7, str(store / "hartonomous.toml"))
    assert shown["workers"] == (3, str(user / "hartonomous.toml"))
    assert shown["check"] == (False, "HARTONOMOUS_CHECK")
    assert shown["progress"] == ("plain", "flag")
    assert shown["cache_keep_hours"] == (1, "flag")
    assert shown["cache_bytes"] == (20 << 30, "default")


def test_config_says_which_variables_name_nothing(hart, monkeypatch):
    monkeypatch.setenv("HARTONOMOUS_WORKRES", "3")
    code, _, err = hart("config")
    assert code == 0
    assert err == "hart: note: HARTONOMOUS_WORKRES names no setting and is ignored\n"


def test_config_for_people_off_a_terminal_is_plain(hart):
    _, out, _ = hart("config")
    assert out.isascii()
    assert "cache_bytes         21474836480 (21.5 GB)" in out
