"""What `label`, `mv`, `rm` and `undo` show: the change that was made, and how to take it back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hartonomous.cli.page import Block
from hartonomous.cli.sizes import several, size

if TYPE_CHECKING:
    from hartonomous.cli.output import Output
    from hartonomous.operations.change import Changed

_MOST_VERSIONS = 20
_MOST_NAMED = 3


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
        if done.base_count:
            kept = f"{several(done.base_count, 'tensor')} of {size(done.base_bytes)}"
            needing = ", ".join(done.needed_by[:_MOST_NAMED])
            others = ", ..." if len(done.needed_by) > _MOST_NAMED else ""
            yield f"  others are built on {kept} of it ({needing}{others}): once the trash is"
            yield "  emptied, 'hart gc' keeps them as bases or builds the others on something else"


def _line(done: "Changed") -> str:
    text = f"{done.name}: {done.detail}" if done.name else done.detail
    if not done.changed:
        return f"{text}; nothing to change"
    if done.dry_run:
        return f"{text}; nothing was changed (dry run)"
    if done.sequence is None or done.action == "undo":
        return text
    return f"{text}; 'hart undo {done.sequence}' takes it back"
