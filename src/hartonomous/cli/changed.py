"""What `label`, `mv`, `rm` and `undo` show: the change that was made, and how to take it back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hartonomous.cli.page import Block

if TYPE_CHECKING:
    from hartonomous.cli.output import Output
    from hartonomous.operations.change import Changed

_MOST_VERSIONS = 20


def show_change(output: "Output", done: "Changed") -> None:
    """Write one change; its ids are the versions concerned, or the name where it is about that."""
    output.emit(done, human=_page, ids=lambda made: made.versions or (made.name,))


def _page(done: "Changed") -> Iterable[Block]:
    yield _line(done)
    if done.action == "remove":
        yield from (f"  {spec}" for spec in done.versions[:_MOST_VERSIONS])
        more = len(done.versions) - _MOST_VERSIONS
        if more > 0:
            yield f"  and {more} more"


def _line(done: "Changed") -> str:
    text = f"{done.name}: {done.detail}" if done.name else done.detail
    if not done.changed:
        return f"{text}; nothing to change"
    if done.dry_run:
        return f"{text}; nothing was changed (dry run)"
    if done.sequence is None or done.action == "undo":
        return text
    return f"{text}; 'hart undo {done.sequence}' takes it back"
