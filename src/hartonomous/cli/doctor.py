"""``hart doctor``: looks at the program, the machine and the store."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Style, Table
from hartonomous.cli.sizes import several
from hartonomous.errors import HartonomousError

if TYPE_CHECKING:
    from hartonomous.operations.doctor import Diagnosis
    from hartonomous.packs.checks import Check
    from hartonomous.settings import Settings, StorePlace

_STYLES: dict[str, Style] = {"ok": "good", "note": "warn", "problem": "bad"}


@make_command("doctor")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look at the program, the machine and the store.

    Each thing is ok, a note, or a problem with what to do about it; a store is not needed. Changes
    nothing. Ends with 1 when there is a problem.
    """
    from hartonomous.opening import diagnose

    invocation: Invocation = ctx.obj
    found: list[Check] = []
    place = _place(invocation, found)
    settings = _settings(invocation, place, found)
    diagnosis = diagnose(place, settings, found=tuple(found))
    invocation.output.emit(diagnosis, human=_page, ids=_wrong)
    if diagnosis.problem_count:
        ctx.exit(1)


def _place(invocation: Invocation, found: "list[Check]") -> "StorePlace | None":
    from hartonomous.packs.checks import problem

    try:
        return invocation.place()
    except HartonomousError as error:
        found.append(problem("store", error.message, error.hint or "name another with --store"))
        return None


def _settings(
    invocation: Invocation, place: "StorePlace | None", found: "list[Check]"
) -> "Settings":
    from hartonomous.packs.checks import ok, problem
    from hartonomous.settings import Settings

    try:
        settings = invocation.settings(place.path if place and place.exists else None)
    except HartonomousError as error:
        found.append(problem("settings", error.message, error.hint or "correct or remove it"))
        return Settings()
    set_ones = len(settings.sources)
    found.append(ok("settings", f"{set_ones} set, the others are default; hart config shows all"))
    return settings


def _wrong(diagnosis: "Diagnosis") -> Iterable[str]:
    return (check.name for check in diagnosis.checks if check.state == "problem")


def _page(diagnosis: "Diagnosis") -> Iterable[Block]:
    columns = (Column("what"), Column("state"), Column("found"), Column("what to do"))
    rows = [
        (check.name, Cell(check.state, _STYLES[check.state]), check.text, check.remedy or "")
        for check in diagnosis.checks
    ]
    yield Table(columns=columns, rows=rows)
    count = diagnosis.problem_count
    yield several(count, "problem") if count else "no problem"
