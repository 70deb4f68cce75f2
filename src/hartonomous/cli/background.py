"""``--background``: work that a worker does later, in place of doing it here and now.

``hart schedule add`` runs the same commands to learn which job they would put.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.core.job import Job

F = TypeVar("F", bound=Callable[..., Any])


class Wanted(NamedTuple):
    """The kind of a job and its arguments, as a command line says them."""

    kind: str
    arguments: dict[str, Any]


class WantedError(Exception):
    """Carries what a command would put out of it, to the schedule."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.wanted = wanted


def background(function: F) -> F:
    """Give the command ``--background``, passed as ``later``."""
    return click.option(
        "--background", "later", is_flag=True,
        help="Put this as a job for 'hart worker', and print its number.",
    )(function)  # fmt: skip


def submit(invocation: Invocation, kind: str, arguments: dict[str, Any]) -> None:
    """Put a job and print its number."""
    given = sorted(name for name in invocation.options.settings if name != "progress")
    if given:
        raise UsageError(
            f"--set {given[0]} does not go with a job: the worker's settings hold",
            hint="give it to 'hart worker', or write it in the store's hartonomous.toml",
        )
    if invocation.learning:
        raise WantedError(Wanted(kind, arguments))
    with invocation.store() as store:
        job = store.jobs.submit(kind, arguments)
    invocation.output.emit(job, human=_page, ids=lambda one: [str(one.id)])


def refuse(**options: object) -> None:
    """Raise UsageError where one of these options was given beside ``--background``."""
    invocation = click.get_current_context().find_object(Invocation)
    scheduled = invocation is not None and invocation.learning  # then nobody wrote --background
    for name, value in options.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} does not go with "
                + ("a schedule, whose jobs a worker does" if scheduled else "--background"),
                hint="leave it out" if scheduled else "leave one of the two out",
            )


def _page(job: "Job") -> Iterable[Block]:
    yield f"job {job.id} ({job.kind}) waits for a worker; 'hart jobs wait {job.id}' for its end"
