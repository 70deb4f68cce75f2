"""Writes ``docs/commands.md``: ``python -m hartonomous.cli.reference > docs/commands.md``.

Everything in it comes from the commands themselves; a test fails while the file is not current.
"""

from collections.abc import Iterable, Iterator

import click

from hartonomous.cli.frame import HartGroup
from hartonomous.cli.main import hart
from hartonomous.cli.options import GLOBAL_OPTIONS
from hartonomous.errors import all_kinds
from hartonomous.settings import PREFIX, setting_texts

_WIDTH = 96
_SETTINGS_TEXT = """\
A value comes from the first of these that has one: `--set NAME=VALUE`; the environment variable,
or the file that the same variable with `_FILE` after it names; `hartonomous.toml` in the store
directory; `hartonomous.toml` in the user's configuration folder; the default. `hart config` shows
values and sources. Sizes may have units: `512MiB`, `20GB`. The store's place is set by `--store`,
by `HARTONOMOUS_STORE`, or by `store` in the user's file."""


def reference() -> str:
    """Return the whole page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    root = click.Context(hart, info_name="hart", terminal_width=_WIDTH, max_content_width=_WIDTH)
    yield "# Commands"
    yield ""
    yield "Made by `python -m hartonomous.cli.reference`; a test compares."
    for section in hart.sections:
        verbs = [verb for verb, entry in hart.table.items() if entry.section == section]
        if verbs:
            yield from ("", f"## {section}")
        for verb in verbs:
            yield from _command(verb, hart, root)
    yield from ("", "## Global options", "", "Before or after the verb; after it wins.", "")
    yield from _options(GLOBAL_OPTIONS, root)
    yield from _settings()
    yield from _exit_codes()


def _command(verb: str, group: HartGroup, parent: click.Context) -> Iterator[str]:
    command = group.get_command(parent, verb)
    assert command is not None, verb
    settings = {**command.context_settings, "max_content_width": _WIDTH}
    ctx = click.Context(command, info_name=verb, parent=parent, terminal_width=_WIDTH, **settings)
    yield from ("", f"### `{ctx.command_path}`", "", "```text", command.get_usage(ctx), "```", "")
    yield from (line.strip() for line in (command.help or "").strip().split("\n"))
    own = [param for param in command.params if isinstance(param, click.Option)]
    if own:
        yield ""
        yield from _options(own, ctx)
    if isinstance(command, HartGroup):
        for inner in command.table:
            yield from _command(inner, command, ctx)


def _options(options: Iterable[click.Option], ctx: click.Context) -> Iterator[str]:
    yield "| option | what it does |"
    yield "| --- | --- |"
    for option in options:
        record = option.get_help_record(ctx)
        if record is not None:
            names, text = (part.replace("|", "\\|") for part in record)
            yield f"| `{names}` | {text} |"


def _settings() -> Iterator[str]:
    yield from ("", "## Settings", "")
    yield _SETTINGS_TEXT
    yield from ("", "| setting | variable | what it is |", "| --- | --- | --- |")
    for name, help_text in setting_texts():
        yield f"| `{name}` | `{PREFIX}{name.upper()}` | {help_text} |"


def _exit_codes() -> Iterator[str]:
    yield from ("", "## Exit codes", "", "| code | kinds of error |", "| --- | --- |")
    yield "| 0 | none: done |"
    codes: dict[int, list[str]] = {}
    for kind, cls in all_kinds().items():
        codes.setdefault(cls.exit_code, []).append(kind)
    codes.setdefault(5, []).append("none: `diff --exit-code` found a difference")
    for code, kinds in sorted(codes.items()):
        yield f"| {code} | {', '.join(sorted(kinds))} |"


if __name__ == "__main__":
    click.echo(reference(), nl=False)
