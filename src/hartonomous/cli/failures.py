"""What a failed command says on standard error, and the exit code that it ends with."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import click

from hartonomous.cli.options import Options, OutputFormat
from hartonomous.cli.text import clean
from hartonomous.errors import HartonomousError, InterruptedWorkError, UsageError

_NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Failure(NamedTuple):
    """An error as it is told: stable kind, message, what to do next, exit code."""

    kind: str
    message: str
    hint: str | None
    exit_code: int


@contextmanager
def naming_standard_output() -> Iterator[None]:
    """Have an error of writing say that standard output is meant: a stream has no path to tell."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_WRITING:
            raise
        raise OSError(error.errno, error.strerror, "standard output") from error


def report(error: BaseException, options: Options, arguments: Sequence[str]) -> int:
    """Write ``error`` to standard error and return the exit code.

    For people two lines, in JSON mode one object. ``arguments`` tell whether JSON was asked for
    where the error came before the options were understood.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help(), err=True)
        return UsageError.exit_code
    failure = describe(error)
    if options.debug:
        import traceback

        traceback.print_exception(error)
    try:
        if options.format is OutputFormat.JSON or _asks_for_json(arguments):
            _write_json(failure)
        else:
            _write_text(failure, error if options.verbose else None)
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads standard error; the exit code still says it
    return failure.exit_code


def describe(error: BaseException) -> Failure:
    """Return what to say about ``error``."""
    match error:
        case HartonomousError():
            return Failure(error.kind, error.message, error.hint, error.exit_code)
        case click.Abort() | KeyboardInterrupt():
            return Failure(
                InterruptedWorkError.kind,
                "interrupted; the store is whole, and what was reported as done is kept",
                "run the same command again to go on",
                InterruptedWorkError.exit_code,
            )
        case click.UsageError():
            return Failure(UsageError.kind, _usage_text(error), _usage_hint(error), 2)
        case click.ClickException():
            return Failure(HartonomousError.kind, error.format_message(), None, error.exit_code)
        case MemoryError():
            hint = "lower memory_limit_bytes or workers; 'hart config' shows them"
            return Failure(HartonomousError.kind, "out of memory", hint, 1)
        case OSError():
            return Failure(HartonomousError.kind, _os_text(error), None, 1)
        case _:
            return Failure(
                HartonomousError.kind,
                f"unexpected {type(error).__name__}: {error}",
                "this is a mistake in hart; please report it with what --debug prints",
                1,
            )


def _usage_text(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"there is no option {error.option_name!r}"  # click's text has the near names in it
    return error.format_message()


def _usage_hint(error: click.UsageError) -> str:
    near = getattr(error, "near", None)
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        near = error.possibilities[0]
    path = error.ctx.command_path if error.ctx is not None else "hart"
    option = error.option_name if isinstance(error, click.NoSuchOption) else "--"
    if path.endswith(" search") and not option.startswith("--"):
        return f"words that must not be there stand behind two dashes: {path} -- valve -sea"
    more = f"'{path} --help' says more"
    return f"did you mean {near!r}? {more}" if near else more


def _os_text(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([" -> ".join(names), text]) if names else text


def _asks_for_json(arguments: Sequence[str]) -> bool:
    ours = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    pairs = pairwise(ours)
    return "--json" in ours or "--format=json" in ours or ("--format", "json") in pairs


def _write_json(failure: Failure) -> None:
    import json

    shown = {"kind": failure.kind, "message": failure.message, "hint": failure.hint}
    print(json.dumps({"error": shown}), file=sys.stderr)  # noqa: T201


def _write_text(failure: Failure, causes_of: BaseException | None) -> None:
    # One line each: a line break inside a name must not look like a message of ours.
    click.echo(f"hart: error: {clean(' '.join(failure.message.split()))}", err=True)
    for cause in _causes(causes_of):
        click.echo(
            f"cause: {type(cause).__name__}: {clean(' '.join(str(cause).split()))}", err=True
        )
    if failure.hint:
        click.echo(f"hint: {clean(' '.join(failure.hint.split()))}", err=True)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
        yield error
