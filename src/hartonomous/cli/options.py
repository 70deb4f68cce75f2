"""Options that every command takes, before or after the verb, and decorators that several share.

What was given is gathered in an ``Options`` value that hangs at the click context (see
``invocation.py``); an option after the verb wins over the same one before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])


class OutputFormat(StrEnum):
    """How results are written to standard output."""

    AUTO = "auto"  # for people: drawn on a terminal, plain text elsewhere
    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"  # ids only


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the global options say; ``settings`` are values by name for ``load_settings``."""

    store: str | None = None
    force_network: bool = False
    format: OutputFormat = OutputFormat.AUTO
    color: bool = True
    yes: bool = False
    verbose: int = 0
    debug: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


class GlobalOption(click.Option):
    """An option of every command; the help lists it apart, the function does not receive it."""


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Put one given option into the invocation's options."""
    if ctx.get_parameter_source(param.name or "") is not ParameterSource.COMMANDLINE:
        return
    options: Options = ctx.obj.options
    match param.name:
        case "as_json":
            ctx.obj.change(format=OutputFormat.JSON)
        case "quiet":
            ctx.obj.change(format=OutputFormat.QUIET)
        case "format":
            ctx.obj.change(format=OutputFormat(value))
        case "no_color":
            ctx.obj.change(color=False)
        case "progress":
            ctx.obj.change(settings={**options.settings, "progress": value})
        case "set_values":
            ctx.obj.change(settings={**options.settings, **dict(map(_pair, value))})
        case name:
            ctx.obj.change(**{str(name): value})


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
    return name.strip().replace("-", "_"), value


def _complete_setting(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from hartonomous.settings import ProgressMode, setting_names

    values = {"progress": [mode.value for mode in ProgressMode], "check": ["true", "false"]}
    words = [f"{name}=" for name in setting_names()]
    words += [f"{name}={value}" for name, known in values.items() for value in known]
    fitting = [word for word in words if word.startswith(incomplete)]
    return [word for word in fitting if word != incomplete or not word.endswith("=")]


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from hartonomous.version import __version__

        click.echo(f"hart {__version__}")
        ctx.exit()


def _option(*names: str, **attributes: Any) -> GlobalOption:
    return GlobalOption(names, **{"expose_value": False, "callback": _take, **attributes})


GLOBAL_OPTIONS: tuple[GlobalOption, ...] = (
    _option("--store", metavar="PATH", help="Directory of the store."),
    _option(
        "--force-network",
        is_flag=True,
        help="Use a store on a network file system all the same.",
    ),
    _option(
        "--format",
        type=click.Choice([word.value for word in OutputFormat]),
        help="How results are printed; auto is for people.",
    ),
    _option("--json", "as_json", is_flag=True, help="The same as --format json."),
    _option("-q", "--quiet", is_flag=True, help="The same as --format quiet: ids only."),
    _option(
        "--progress",
        type=click.Choice(["auto", "plain", "none"]),
        help="A bar on a terminal, a line every few seconds, or nothing.",
    ),
    _option("--no-color", is_flag=True, help="No colours; NO_COLOR does the same."),
    _option("-y", "--yes", is_flag=True, help="Answer yes to every question."),
    _option(
        "--set",
        "set_values",
        multiple=True,
        metavar="NAME=VALUE",
        shell_complete=_complete_setting,
        help="Give a setting for this run; 'hart config' lists them.",
    ),
    _option("-v", "--verbose", count=True, help="Say more; twice, still more."),
    _option("--debug", is_flag=True, help="Print the traceback of an error."),
    _option(
        "--version",
        is_flag=True,
        is_eager=True,
        callback=_print_version,
        help="Print the version and end.",
    ),
)


def dry_run(function: F) -> F:
    """Give the command ``-n/--dry-run``, passed as ``dry_run``."""
    return click.option(
        "-n", "--dry-run", is_flag=True, help="Say what would be done, and change nothing."
    )(function)


def force(help_text: str) -> Callable[[F], F]:
    """Give the command ``--force``, passed as ``force``; ``help_text`` says what it overrides."""
    return click.option("--force", is_flag=True, help=help_text)
