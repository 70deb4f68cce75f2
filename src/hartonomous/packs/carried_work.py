"""Jobs and schedules that a repair takes over from the catalog it replaces, if that can be read."""

from hartonomous.catalog import carried
from hartonomous.catalog.database import SCHEMA_REVISION, Database, current_revision
from hartonomous.errors import HartonomousError, NoStoreError
from hartonomous.packs.parts import StoreParts
from hartonomous.ports.progress import Progress


def carry_work(parts: StoreParts, fresh: Database, progress: Progress) -> None:
    """Copy what waits, runs and is repeated; a note says why where that cannot be.

    The former catalog may be damaged, or of another revision: then there is nothing to carry.
    """
    try:
        parts.home.refuse_strange()
        former = parts.home.open()
        try:
            if current_revision(former.engine) == SCHEMA_REVISION:
                carried.carry(former, fresh, now_us=parts.clock())
        finally:
            former.close()
    except NoStoreError:
        return
    except HartonomousError as error:
        progress.note(f"jobs and schedules of the former catalog are lost: {error.message}")
