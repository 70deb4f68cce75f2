"""Which jobs are forgotten: those that ended long ago."""

from hartonomous.catalog import jobs
from hartonomous.catalog.database import ROWS_PER_TRANSACTION
from hartonomous.packs.parts import StoreParts


def shed(parts: StoreParts, *, before_us: int) -> int:
    """Forget jobs that ended before a time in small transactions; return how many went."""
    count = 0
    while True:
        with parts.database.write(durable=False, alone=False) as tx:
            gone = jobs.shed(tx, ended_before_us=before_us, limit=ROWS_PER_TRANSACTION)
        count += gone
        if not gone:
            return count


def foresee(parts: StoreParts, *, before_us: int) -> int:
    """Return how many jobs ``shed`` would forget."""
    with parts.database.read() as tx:
        return jobs.count_ended(tx, before_us=before_us)
