"""The door: exit codes, messages, near names, where options may stand."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_schema import validate
from click.testing import CliRunner

from hartonomous import errors
from hartonomous.cli import main as door
from hartonomous.cli.commands import Entry
from hartonomous.cli.frame import command
from hartonomous.version import __version__


@pytest.fixture
def failing(monkeypatch):
    """Put a command ``fail`` into the table that raises what ``raises.error`` holds."""

    class raises:
        error: BaseException | None = None

    @command("fail")
    def fail() -> None:
        """Fail."""
        assert raises.error is not None
        raise raises.error

    monkeypatch.setitem(door.COMMANDS, "fail", Entry(f"{__name__}:fail", "Fail.", "Setup"))
    monkeypatch.setitem(globals(), "fail", fail)
    return raises


def test_help_lists_commands_by_section(hart):
    code, out, err = hart("--help")
    assert (code, err) == (0, "")
    assert "Setup:\n  completions" in out
    assert "Global options:" in out


def test_no_arguments_is_help_and_usage_error(hart):
    code, out, err = hart()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: hart")


def test_version(hart):
    assert hart("--version") == (0, f"hart {__version__}\n", "")
    assert hart("config", "--version") == (0, f"hart {__version__}\n", "")


def test_version_is_that_of_the_distribution():
    import tomllib

    from cli_schema import ROOT

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


@pytest.mark.parametrize("kind", sorted(errors.all_kinds()))
def test_every_error_class_has_its_exit_code_and_message(hart, failing, kind):
    cls = errors.all_kinds()[kind]
    failing.error = cls("the pack is gone", hint="run 'hart verify'")
    assert hart("fail") == (
        cls.exit_code,
        "",
        "hart: error: the pack is gone\nhint: run 'hart verify'\n",
    )


@pytest.mark.parametrize(
    "where", [("--json", "fail"), ("fail", "--json"), ("fail", "--format=json")]
)
def test_errors_as_json(hart, failing, where):
    failing.error = errors.NotFoundError("no artifact 'a'")
    code, out, err = hart(*where)
    assert (code, out) == (1, "")
    assert validate("error", err) == [
        {"error": {"kind": "not-found", "message": "no artifact 'a'", "hint": None}}
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt(hart, failing, error):
    failing.error = error
    code, _, err = hart("fail")
    assert code == 130
    assert "the store is whole" in err


def test_unexpected_error_asks_for_a_report_and_debug_shows_the_traceback(hart, failing):
    failing.error = ZeroDivisionError("by zero")
    code, _, err = hart("fail")
    assert code == 1
    assert err.splitlines()[0] == "hart: error: unexpected ZeroDivisionError: by zero"
    assert "report it" in err
    assert "Traceback" not in err
    assert "Traceback" in hart("fail", "--debug")[2]


def test_verbose_tells_the_cause(hart, failing):
    failing.error = errors.IntegrityError("pack 7 is damaged")
    failing.error.__cause__ = ValueError("short read")
    assert "cause:" not in hart("fail")[2]
    assert "cause: ValueError: short read\n" in hart("fail", "-v")[2]


def test_operating_system_errors_name_the_file(hart, failing):
    failing.error = PermissionError(13, "Permission denied", "/models/a.gguf")
    assert hart("fail") == (1, "", "hart: error: /models/a.gguf: Permission denied\n")


def test_out_of_memory(hart, failing):
    failing.error = MemoryError()
    code, _, err = hart("fail")
    assert code == 1
    assert "memory_limit_bytes" in err


def test_a_broken_pipe_elsewhere_is_told(hart, failing):
    failing.error = BrokenPipeError(32, "Broken pipe")
    assert hart("fail") == (1, "", "hart: error: Broken pipe\n")


def test_hostile_names_cannot_write_lines_or_move_the_cursor(hart, failing):
    failing.error = errors.NotFoundError("no '\x1b[2Ja\nhint: run rm -rf'\u202e")
    _, _, err = hart("fail")
    assert err == "hart: error: no '\\x1b[2Ja hint: run rm -rf'\\u202e\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("confg",), "did you mean 'config'?"),
        (("help", "complete"), "did you mean 'completions'?"),
        (("remove", "a"), "did you mean 'rm'?"),
        (("config", "--jsn"), "did you mean '--json'?"),
        (("--versoin",), "did you mean '--version'?"),
        (("completions", "csh"), "'hart completions --help' says more"),
        (("completions",), "'hart completions --help' says more"),
        (("config", "--set", "workers"), "'hart config --help' says more"),
        (("config", "--set", "worker=1"), "did you mean 'workers'?"),
        (("zzzzzz",), "'hart --help' says more"),
    ],
)
def test_usage_errors_have_a_hint(hart, arguments, hint):
    code, out, err = hart(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("hart: error: ")
    assert f"hint: {hint}" in err
    code, out, err = hart("--json", *arguments)
    assert (code, out) == (2, "")
    assert validate("error", err)[0]["error"]["kind"] == "usage"


def test_json_after_the_separator_is_a_name(hart):
    assert hart("help", "--", "--json")[2].startswith("hart: error: ")


def test_help_command_prints_what_the_option_prints(hart):
    assert hart("help", "config") == hart("config", "--help")
    assert hart("help") == hart("--help")


def test_help_of_a_word_too_many(hart):
    code, _, err = hart("help", "config", "more")
    assert code == 2
    assert "has no commands of its own" in err


def test_the_later_option_wins(hart):
    validate("config", hart("-q", "config", "--json")[1])
    assert hart("--json", "config", "-q")[1].startswith("memory_limit_bytes\nframe_cache_bytes\n")
    assert hart("config", "--json", "-q")[1].startswith("memory_limit_bytes\nframe_cache_bytes\n")


def test_clicks_own_runner_works_too():
    result = CliRunner().invoke(door.hart, ["config", "--json"])
    assert result.exit_code == 0
    validate("config", result.stdout)


def test_python_m_and_exit_codes_of_the_process(process):
    done = process("config", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    validate("config", done.stdout)
    assert process("confg").returncode == 2


def test_store_that_is_not_there(hart, failing):
    from hartonomous.settings import find_store

    with pytest.raises(errors.NoStoreError) as caught:
        find_store("nowhere")
    failing.error = caught.value
    code, _, err = hart("fail")
    assert code == 10
    assert "hart init" in err


def test_reader_that_goes_is_no_error():
    line = [sys.executable, "-m", "hartonomous", "config"]
    reading, writing = os.pipe()
    os.close(reading)  # the reader is gone before the first byte
    try:
        done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_full_disk_on_standard_output(how):
    line = [sys.executable, "-m", "hartonomous", "config", *how]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr


def test_closed_standard_output():
    line = f"exec {sys.executable} -m hartonomous config >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "hart: error: standard output is closed\n")


def test_names_that_are_not_text_in_the_locale(process):
    weird = os.fsdecode(b"caf\xe9-\xff")
    done = process("config", "--json", "--store", weird, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0
    assert json.loads(done.stdout)["store"]["path"].endswith("caf\\udce9-\\udcff")
    assert "\\udcff" in process("config", "--store", weird).stdout


def test_ctrl_c_in_a_real_process(tmp_path):
    (tmp_path / "sleeping.py").write_text(
        "import sys, time\n"
        "from hartonomous.cli import main\n"
        "from hartonomous.cli.commands import COMMANDS, Entry\n"
        "from hartonomous.cli.frame import command as make\n"
        "@make('sleep')\n"
        "def command():\n"
        "    '''Sleep.'''\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    COMMANDS['sleep'] = Entry('__main__:command', 'Sleep.', 'Setup')\n"
        "    sys.exit(main.main(['sleep']))\n"
    )
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleeping.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the store is whole" in err
    assert "Traceback" not in err
