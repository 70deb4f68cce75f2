"""Which events leave the change feed: the oldest, once every consumer has passed them."""

from hartonomous.catalog import event_cursors, events
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.packs.parts import StoreParts


def shed(parts: StoreParts, *, before_us: int) -> int:
    """Drop events from before a time in small transactions; return how many went."""
    count = 0
    while True:
        with parts.database.write(durable=False) as tx:
            found = events.sheddable(
                tx,
                before_us=before_us,
                up_to=event_cursors.least(tx),
                limit=ROWS_PER_TRANSACTION - 1,  # and the row that says how far
            )
            events.shed(tx, found)
        count += len(found)
        if not found:
            return count


def foresee(parts: StoreParts, *, before_us: int) -> int:
    """Return how many events ``shed`` would drop."""
    with parts.database.read() as tx:
        up_to = event_cursors.least(tx)
        return events.count_sheddable(tx, before_us=before_us, up_to=up_to)
