"""``hart config``: every setting, its value, and where the value came from."""

from collections.abc import Iterable
from dataclasses import dataclass

import click

from hartonomous.cli.frame import command as make_command
from hartonomous.cli.invocation import Invocation
from hartonomous.cli.page import Block, Cell, Column, Table
from hartonomous.cli.sizes import size
from hartonomous.settings import (
    SettingValue,
    StorePlace,
    setting_values,
    unknown_variables,
    user_settings_file,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings that hold here, and the store that they hold for."""

    store: StorePlace
    user_file: str
    settings: tuple[SettingValue, ...]


@make_command("config")
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Show every setting and its source.

    A value comes from a flag (--set, --progress, --store), else from HARTONOMOUS_<NAME>, else from
    hartonomous.toml in the store directory, else from the user's own, else it is the default.
    """
    place = invocation.place()
    settings = invocation.settings(place.path if place.exists else None)
    for name in unknown_variables():
        click.echo(f"hart: note: {name} names no setting and is ignored", err=True)
    found = Configuration(
        store=place, user_file=str(user_settings_file()), settings=setting_values(settings)
    )
    invocation.output.emit(found, human=_page, ids=lambda shown: (s.name for s in shown.settings))


def _page(found: Configuration) -> Iterable[Block]:
    state = "" if found.store.exists else " (none there yet)"
    rows: list[tuple[str | Cell, ...]] = [("store", f"{found.store.path}{state}", found.store.how)]
    rows += [(setting.name, _shown(setting), setting.source) for setting in found.settings]
    yield Table(columns=(Column("setting"), Column("value"), Column("source")), rows=rows)
    yield f"user's settings file: {found.user_file}"


def _shown(setting: SettingValue) -> str:
    if isinstance(setting.value, bool):
        return str(setting.value).lower()
    if isinstance(setting.value, int) and setting.name.endswith("_bytes"):
        return f"{setting.value} ({size(setting.value)})"
    if isinstance(setting.value, tuple):
        return ", ".join(setting.value)
    return str(setting.value)
