"""``hart schedule``: work that is put into the queue again and again."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.background import Wanted, WantedError
from hartonomous.cli.commands import COMMANDS, Entry
from hartonomous.cli.frame import HartGroup
from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.job_words import command_line
from hartonomous.cli.page import Block, Column, Table
from hartonomous.cli.quantities import Duration
from hartonomous.cli.sizes import moment
from hartonomous.cli.text import clean
from hartonomous.errors import UsageError

if TYPE_CHECKING:
    from hartonomous.core.schedule import Schedule

_SECTION = "Schedules"
_MODULE = "hartonomous.cli.schedule"
_OF_SCHEDULE = ("--every", "--cron", "--replace")

command = HartGroup(
    "schedule",
    table={
        "add": Entry(f"{_MODULE}:add", "Have a command run again and again.", _SECTION),
        "ls": Entry(f"{_MODULE}:ls", "List schedules.", _SECTION),
        "rm": Entry(f"{_MODULE}:rm", "Forget a schedule.", _SECTION),
    },
    sections=(_SECTION,),
    help="""Have work done again and again.

    A schedule puts a job whenever it is due, as long as a worker runs ('hart worker'). One job of a
    schedule waits or runs at a time; what was missed while no worker ran is done once.""",
)


@make_command(
    "add", context_settings={
        "help_option_names": ["-h", "--help"], "max_content_width": 100,
        "allow_interspersed_args": False, "ignore_unknown_options": False,
    },
)  # fmt: skip
@click.argument("name")
@click.argument("words", nargs=-1, required=True, metavar="COMMAND...", type=click.UNPROCESSED)
@click.option(
    "--every", "every_s", type=Duration(), metavar="1d", help="Once in this time, from now on."
)
@click.option(
    "--cron", metavar="'0 3 * * *'",
    help="Minute, hour, day, month, weekday, in UTC, as in crontab(5).",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Take the place of a schedule of that name.")
@click.pass_obj
def add(
    invocation: Invocation,
    *,
    name: str,
    words: tuple[str, ...],
    every_s: float | None,
    cron: str | None,
    replace: bool,
) -> None:
    """Have a command run again and again.

    COMMAND is add, repack, verify, gc, embed, views rebuild or repair with its options, written as
    without 'hart': 'hart schedule add --every 1d nightly verify --read-data-subset 1/10'. Options
    of the schedule stand before NAME.
    """
    wanted = _learn(invocation, words)
    with invocation.store() as store:
        made = store.jobs.add_schedule(
            name, wanted.kind, wanted.arguments, every_s=every_s, cron=cron, replace=replace
        )
    _emit(invocation, [made])


@make_command("ls")
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List schedules."""
    with invocation.store() as store:
        wrong: dict[str, str] = {}
        found = store.jobs.schedules(wrong=wrong)
    for name, why in wrong.items():
        text = f"the schedule {name} is damaged: {why}; 'hart schedule rm' removes it"
        click.echo(f"hart: note: {clean(text)}", err=True)
    if not found and not wrong and invocation.output.is_for_people:
        click.echo("hart: note: there are no schedules", err=True)
    _emit(invocation, found)


@make_command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def rm(invocation: Invocation, *, names: tuple[str, ...]) -> None:
    """Forget a schedule.

    A job of it that waits or runs stays; 'hart jobs cancel' cancels it.
    """
    with invocation.store() as store:
        gone = [store.jobs.remove_schedule(name) for name in names]
    _emit(invocation, [one for one in gone if one is not None])


def _learn(invocation: Invocation, words: tuple[str, ...]) -> Wanted:
    """Return the job that a command line would put."""
    root = click.get_current_context().find_root()
    group = root.command
    assert isinstance(group, click.Group), group
    verb, *arguments = words
    if verb.startswith("-"):
        raise _misplaced(verb, "where its command has to be")
    found = group.get_command(root, verb) if verb in COMMANDS else None
    if isinstance(found, click.Group) and arguments:
        below, *arguments = arguments
        verb, found = f"{verb} {below}", found.get_command(root, below)
    if found is None or not any(param.name == "later" for param in found.params):
        raise UsageError(
            f"{verb!r} is no command that can be scheduled",
            hint="add, repack, verify, gc, embed, views rebuild and repair can",
        )
    before = invocation.learning
    invocation.learning = True
    try:
        with found.make_context(verb, [*arguments, "--background"], parent=root) as context:
            found.invoke(context)
    except WantedError as carried:
        return carried.wanted
    except click.NoSuchOption as error:
        if error.option_name in _OF_SCHEDULE:
            raise _misplaced(error.option_name, f"where options of {verb} are") from error
        raise
    finally:
        invocation.learning = before
    raise AssertionError(f"hart {verb} --background put nothing")


def _misplaced(option: str, where: str) -> UsageError:
    return UsageError(
        f"{option} stands behind the schedule's name, {where}",
        hint="options first: hart schedule add --every 1d NAME verify",
    )


def _emit(invocation: Invocation, found: Iterable["Schedule"]) -> None:
    invocation.output.emit_each(found, human=_table, ids=lambda one: one.name)


def _table(found: Iterable["Schedule"]) -> Iterable[Block]:
    columns = (
        Column("name"), Column("command"), Column("when", whole=True), Column("next", whole=True),
        Column("last job", right=True, extra=True),
    )  # fmt: skip
    yield Table(columns=columns, rows=map(_row, found))


def _row(one: "Schedule") -> tuple[str, ...]:
    when = one.cron if one.every_s is None else f"every {_exactly(one.every_s)}"
    last = "-" if one.last_job_id is None else str(one.last_job_id)
    return one.name, command_line(one.kind, one.arguments), when or "", moment(one.next_us), last


def _exactly(seconds: int) -> str:
    """Return ``1 d``, ``1 h 30 min``, ``2 d 5 s``: the units that are there, and no rounding."""
    said = []
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        whole, seconds = divmod(seconds, unit)
        said += [f"{whole} {name}"] if whole else []
    return " ".join(said)
