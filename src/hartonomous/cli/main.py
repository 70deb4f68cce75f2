"""The door of the command line: parse, run, and turn every error into a message and an exit code.

``hart`` and ``python -m hartonomous`` call ``run``; ``main`` is the same for a list of arguments.
Nothing heavy is imported here; ``tests/cli/test_imports.py`` holds that.
"""

import gc
import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from hartonomous.cli import failures
from hartonomous.cli.commands import COMMANDS, SECTIONS
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.invocation import Invocation

PROGRAM = "hart"
_COMPLETE = "_HART_COMPLETE"
_SPINNING, _LEAST_SPINNING = "OPENBLAS_THREAD_TIMEOUT", "4"  # see hartonomous._load
_COLLECT_AFTER = 100_000
_STDOUT = 1
_READER_GONE = 141  # 128 + SIGPIPE, what any Unix tool ends with when its reader is gone

hart = HartGroup(
    PROGRAM,
    table=COMMANDS,
    sections=SECTIONS,
    help="Keep every model variant once, and get exact bytes back.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 4 damage found,"
    " 5 different, 10 no store, 11 locked or conflict, 130 interrupted."
    " 'hart help COMMAND' says more about a command.",
)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are reported on standard error."""
    invocation = Invocation()
    try:
        return _invoke(arguments, invocation)
    except BrokenPipeError as error:
        if not _reader_is_gone():
            return failures.report(error, invocation.options, arguments)
        _drop_standard_output()
        return _READER_GONE
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001  # the door: every error is told
        return failures.report(error, invocation.options, arguments)


def run() -> NoReturn:
    """Run the process's command line, or answer the shell's question for completions."""
    _prepare_streams()
    interrupt_on_terminate()
    os.environ.setdefault(_SPINNING, _LEAST_SPINNING)
    gc.set_threshold(_COLLECT_AFTER)
    question = os.environ.get(_COMPLETE)
    if question:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(hart, {}, PROGRAM, _COMPLETE, question))
    code = main(sys.argv[1:])
    gc.freeze()  # the end frees what there is without looking through it for cycles
    sys.exit(code)


def interrupt_on_terminate() -> None:
    """Make SIGTERM end the work as Ctrl-C does: tidily, with exit code 130."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _invoke(arguments: Sequence[str], invocation: Invocation) -> int:
    try:
        with hart.make_context(PROGRAM, list(arguments), obj=invocation) as ctx:
            hart.invoke(ctx)
        code = 0
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    with failures.naming_standard_output():
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    return code


def _prepare_streams() -> None:
    if sys.stderr is None:  # closed by who started us: nobody to tell
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        print("hart: error: standard output is closed", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        # Names on disk need not be text in this locale; printing one must not fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _reader_is_gone() -> bool:
    """Say whether standard output is a pipe that nobody reads any more.

    Other pipes break too, such as one to a child process; that is an error to be told.
    """
    watch = select.poll()
    watch.register(_STDOUT, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def _drop_standard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush is quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)
