"""Questions before a dangerous change: asked on a terminal, answered by ``-y`` elsewhere."""

import sys

import click

from hartonomous.cli.text import clean
from hartonomous.errors import HartonomousError, UsageError


def confirm(question: str, *, yes: bool) -> None:
    """Return if the answer is yes.

    Raises UsageError where there is nobody to ask, HartonomousError when the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"this needs an answer, and there is no terminal to ask at: {question}",
            hint="add -y to answer yes",
        )
    if not click.confirm(clean(question), default=False, err=True):
        raise HartonomousError("nothing was changed", hint="the answer was no; -y answers yes")
