"""Vectors indexed by the catalog's own server, where it can; files are used where it cannot."""

from hartonomous.catalog.database import Database
from hartonomous.catalog.vector_table import VectorTable, why_not
from hartonomous.ports.vector_index import VectorTruth
from hartonomous.vectors.approximate import ApproximateIndex


def table_index(database: Database, truth: VectorTruth, name: str) -> ApproximateIndex | None:
    """Return the index of a space upon its table; None where there is no pgvector.

    ``name`` is hexadecimal digits. ``catalog.vector_table.why_not`` says why there is none.
    """
    if why_not(database, truth.space.dimension) is not None:
        return None
    return ApproximateIndex(truth, VectorTable(database, truth, name))
