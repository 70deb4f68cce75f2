"""The classes behind every command and group: global options, lazy loading, sections, near names.

A command file says ``@command("ls")`` over its function; a group takes a table as in
``commands.py`` and imports a command's module only when that command is run or its own help shown.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from hartonomous.cli.commands import Entry
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.options import GLOBAL_OPTIONS, GlobalOption
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# What other tools call it.
_ELSEWHERE = {
    "list": "ls", "remove": "rm", "delete": "rm", "rename": "mv", "info": "show", "compare": "diff",
    "checkout": "get", "tag": "label", "check": "verify", "fsck": "verify",
    "status": "stats", "du": "stats", "history": "log", "prune": "gc",
}  # fmt: skip


class NoSuchCommandError(click.UsageError):
    """The verb is none of this group's; ``near`` is the one that was probably meant."""

    def __init__(self, name: str, near: str | None, ctx: click.Context) -> None:
        super().__init__(f"there is no command {name!r}", ctx)
        self.near = near


class HartCommand(click.Command):
    """A command that takes the global options too.

    ``surplus`` is the hint for one argument too many, in which ``{}`` stands for that.
    """

    def __init__(self, *args: Any, surplus: str | None = None, **attributes: Any) -> None:
        attributes.setdefault("context_settings", dict(_CONTEXT))
        super().__init__(*args, **attributes)
        self.surplus = surplus

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; where there is an argument too many, ``surplus`` says what may have been meant."""
        # click tells of it in a text alone; so it is asked to leave the rest, for this to look at.
        if self.surplus is None or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.allow_extra_args = True
        left = super().parse_args(ctx, args)
        if left:
            raise UsageError(
                f"there is an argument too many: {' '.join(map(str, left))!r}",
                hint=self.surplus.replace("{}", shlex.quote(str(left[0]))),
            )
        return left

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters and the global options."""
        return [*super().get_params(ctx), *GLOBAL_OPTIONS]

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments; the outermost context gets an invocation to gather options in."""
        if parent is None:
            extra.setdefault("obj", Invocation())
        return super().make_context(info_name, args, parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones apart."""
        self._write_options(ctx, formatter, "Options", wanted=False)
        self._write_options(ctx, formatter, "Global options", wanted=True)

    def _write_options(
        self, ctx: click.Context, formatter: click.HelpFormatter, title: str, *, wanted: bool
    ) -> None:
        rows = [
            record
            for param in self.get_params(ctx)
            if isinstance(param, GlobalOption) is wanted
            and (record := param.get_help_record(ctx)) is not None
        ]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


class HartGroup(HartCommand, click.Group):
    """A group over a table of commands that are imported when they are needed."""

    def __init__(
        self,
        name: str,
        *,
        table: Mapping[str, Entry],
        sections: Sequence[str],
        **attributes: Any,
    ) -> None:
        # Not where the group does something by itself, without one of its commands.
        attributes.setdefault("no_args_is_help", True)
        super().__init__(name, **attributes)
        self.table = table
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the verbs of the table, in its order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command, or return None where there is none of that name."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command), entry.target
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begins with; raises NoSuchCommandError."""
        name = str(args[0])
        if name not in self.table and not ctx.resilient_parsing:
            near = _ELSEWHERE.get(name) or next(
                iter(get_close_matches(name, self.table, n=1)), None
            )
            raise NoSuchCommandError(name, near, ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Return the verbs that fit, from the table alone, and the options."""
        from click.shell_completion import CompletionItem

        verbs = [
            CompletionItem(name, help=entry.help)
            for name, entry in self.table.items()
            if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the group's own options, its commands by section, and the global options."""
        self._write_options(ctx, formatter, "Options", wanted=False)
        self.format_commands(ctx, formatter)
        self._write_options(ctx, formatter, "Global options", wanted=True)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands, a section each, without importing them."""
        for section in self.sections:
            rows = [(name, entry.help) for name, entry in self.table.items()]
            rows = [row for row in rows if self.table[row[0]].section == section]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], HartCommand]:
    """Make a function a command named ``name``; its docstring is the help."""
    return click.command(name, cls=HartCommand, **attributes)
