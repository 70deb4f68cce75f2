"""One run of the command line: its options, and the output, settings and progress made of them.

A command asks for it with ``@click.pass_obj``. Everything is made when it is first asked for, so
that a command pays for what it uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hartonomous.cli.options import Options

if TYPE_CHECKING:
    from hartonomous.cli.output import Output
    from hartonomous.ports.progress import Progress
    from hartonomous.settings import Settings, StorePlace
    from hartonomous.store import Store


class Invocation:
    """The options given so far and what they make; one a process, or one a test."""

    def __init__(self) -> None:
        self.options = Options()
        self._progress: Progress | None = None
        self.learning = False
        """Whether commands only tell which job they would put, for a schedule."""

    def change(self, **changes: Any) -> None:
        """Take options that were given; later ones win."""
        self.options = replace(self.options, **changes)

    @cached_property
    def output(self) -> "Output":
        """Where results go."""
        from hartonomous.cli.output import Output

        return Output(format=self.options.format, color=self.options.color)

    def place(self, *, parents: bool = True) -> "StorePlace":
        """Return where the store is or would be; raises UsageError. See ``locate_store``."""
        from hartonomous.settings import locate_store

        return locate_store(self.options.store, parents=parents)

    def store_path(self) -> Path:
        """Return the directory of the store; raises NoStoreError where there is none."""
        from hartonomous.settings import find_store

        return find_store(self.options.store)[0]

    @contextmanager
    def store(self) -> Iterator["Store"]:
        """Open the store that is found, with the settings given; raises NoStoreError."""
        from hartonomous import locks
        from hartonomous.opening import open_store

        with (
            locks.telling(self.tell),
            open_store(
                self.store_path(),
                settings=dict(self.options.settings),
                force=self.options.force_network,
            ) as store,
        ):
            yield store

    def tell(self, text: str) -> None:
        """Say something on standard error, above the progress that is shown, if any is."""
        if self._progress is not None:
            self._progress.note(text)
            return
        from hartonomous.cli.text import clean

        click.echo(f"hart: note: {clean(text)}", err=True)

    def settings(self, store: Path | None = None) -> "Settings":
        """Return the settings that hold for the store at ``store``, if any; raises UsageError."""
        from hartonomous.settings import load_settings

        return load_settings(given=self.options.settings, store=store)

    @contextmanager
    def progress(self, settings: "Settings") -> Iterator["Progress"]:
        """Show progress on standard error, as the settings want it, until the block ends."""
        from hartonomous.cli.progress import open_progress

        with open_progress(settings.progress, color=self.options.color) as progress:
            self._progress = progress
            try:
                yield progress
            finally:
                self._progress = None

    def confirm(self, question: str) -> None:
        """Ask before a dangerous change; see ``confirm.py``."""
        from hartonomous.cli.confirm import confirm

        confirm(question, yes=self.options.yes)
