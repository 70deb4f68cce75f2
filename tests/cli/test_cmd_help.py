"""Every command's help, completions of names, and pages on narrow terminals."""

import io
import os
import shlex
import subprocess

import click
import pytest

from hartonomous.cli.commands import COMMANDS
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.main import hart as root
from hartonomous.cli.page import Cell, Column, Table
from hartonomous.cli.terminal import write_terminal
from hartonomous.cli.text import width


def every_command(group=root, path=()):
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*path, name), command
        if isinstance(command, HartGroup):
            yield from every_command(command, (*path, name))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_commands_help(hart, option):
    walked = list(every_command())
    assert {path[0] for path, _ in walked} == set(COMMANDS)
    for path, command in walked:
        code, out, err = hart(*path, option)
        assert (code, err) == (0, ""), path
        assert out.startswith(f"Usage: hart {' '.join(path)} "), path
        assert "Global options:" in out
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.opts[0] in out, (path, param.name)
        assert max(map(len, out.splitlines())) <= 100, path


def test_options_that_do_not_exist_are_two(hart, store):
    for path, _ in every_command():
        code, out, err = hart(*path, "--no-such-option")
        assert (code, out) == (2, ""), path
        assert "there is no option" in err


def complete(process, line, **environ):
    words = line.split(" ")
    done = process(
        env={
            **os.environ,
            "_HART_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environ,
        }
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_names_are_completed(process, full):
    assert complete(process, "hart show t") == ["plain,tiny", "plain,tuned.safetensors"]
    assert complete(process, "hart rm tiny tun") == ["plain,tuned.safetensors"]
    assert complete(process, "hart get none") == []


def test_names_of_the_store_that_is_named(process, full, home):
    place = {"HARTONOMOUS_STORE": str(home / "none")}
    assert complete(process, "hart show x", **place) == []
    assert complete(process, f"hart --store {full} show x", **place) == ["plain,x.npy"]


def test_completion_where_the_store_is_damaged_is_quiet(process, full):
    (full / "catalog.sqlite3").write_bytes(b"no database " * 1000)
    assert complete(process, "hart show t") == []
    (full / "store.json").write_text("{")
    assert complete(process, "hart show t") == []


class Narrow(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("columns", [30, 40, 60, 100])
def test_narrow_terminals_lose_extra_columns_first(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = Table(
        columns=(
            Column("name"), Column("size", right=True), Column("files", right=True, extra=True),
            Column("outcome", whole=True, extra=True), Column("time", whole=True, extra=True),
        ),
        rows=[
            ("a-model-with-a-long-name.safetensors", "1.2 GB", "12,345", Cell("unchanged", "dim"),
             "2026-11-21 08:30:00Z"),
        ] * 3,
    )  # fmt: skip
    stream = Narrow()
    write_terminal([table], stream, color=False)
    lines = stream.getvalue().splitlines()
    assert all(width(line) <= columns for line in lines)
    assert "1.2 GB" in stream.getvalue()
    assert ("2026-11-21 08:30:00Z" in stream.getvalue()) is (columns >= 72)
    assert len(lines) <= 1 + 3 * 3, "a name folds into at most three lines"


@pytest.mark.parametrize("verb", [("ls",), ("log",), ("show", "tiny"), ("stats",)])
def test_real_pages_fit(hart, full, monkeypatch, verb):
    from hartonomous.cli import output

    monkeypatch.setenv("COLUMNS", "48")
    monkeypatch.setattr(output, "draws_on", lambda stream: True)
    code, out, _ = hart(*verb, "--no-color")
    assert code == 0
    assert max(width(line.rstrip()) for line in out.splitlines()) <= 48


def test_pages_of_work_fit_sixty_columns(hart, full, sources, home, monkeypatch):
    """No line is cut, and nothing important is left out."""
    from hartonomous.cli import output

    long = home / "a-folder-with-a-rather-long-name" / "weights-of-some-model-2026-11.safetensors"
    long.parent.mkdir()
    long.write_bytes((sources / "tuned.safetensors").read_bytes())
    assert hart("path", "x.npy")[0] == 0
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(output, "draws_on", lambda stream: True)
    told = {
        ("add", str(long.parent)): ("added", "stored"),
        ("add", "-n", str(long.parent)): ("unchanged", "dry run"),
        ("ls", "a-folder*"): ("weights-of-some-model-2", "026-11.safetensors", "163 kB"),
        ("get", "tiny", "-o", "there"): ("there/model.safetensors", "written"),
        ("export", "tiny", "x.npy", "out", "-n"): ("x.npy", "2 exported"),
        ("diff", "tiny", "tuned.safetensors"): ("1 changed", "lp.up_proj.weigh"),
        ("estimate", str(sources)): ("manifests", "7 files"),
        ("scan", "tiny"): ("looked at",),
        ("path", "--list"): ("80.1 kB", "x.npy"),
        ("explain", "a.gguf", "blk.0.attn_q.weight"): ("encoding", "fields"),
        ("gc", "-n"): ("nothing to remove", "dry run"),
        ("verify", "--quick"): ("no fault found",),
    }
    for arguments, wanted in told.items():
        code, out, err = hart(*arguments, "--no-color")
        assert (code, err) == (0, ""), arguments
        lines = [line.rstrip() for line in out.splitlines()]
        joined = "".join(line.replace(" ", "") for line in lines)
        assert all(word.replace(" ", "") in joined for word in wanted), (arguments, out)
        # A line by itself is wrapped by the terminal; a table has to fit.
        tables = [line for line in lines if "  " in line.strip() and "blake3:" not in line]
        assert max(map(width, tables), default=0) <= 60, (arguments, out)


@pytest.mark.parametrize(
    ("typed", "inserted"), [("fin", "fine\\ tune"), ("'fin", "fine tune"), ('"fin', "fine tune")]
)
def test_bash_inserts_names_as_one_word(hart, tmp_path, typed, inserted):
    script, answer = tmp_path / "completions.sh", tmp_path / "answer"
    script.write_text(hart("completions", "bash")[1])
    answer.write_text("#!/bin/sh\necho 'plain,fine tune'\n")
    answer.chmod(0o755)
    asked = (
        f". {script}; COMP_WORDS=(hart get {shlex.quote(typed)}); COMP_CWORD=2; COMPREPLY=();"
        f" _hart_completion {answer}; printf '%s|' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, check=True)
    assert done.stdout.decode() == f"{inserted}|"


def test_help_completes_commands():
    ctx = click.Context(root)
    command = root.get_command(ctx, "help")
    found = command.params[0].shell_complete(click.Context(command, parent=ctx), "ex")
    assert [one.value for one in found] == ["explain", "export"]
