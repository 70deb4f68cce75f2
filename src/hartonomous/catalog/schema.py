"""Tables of the catalog: what is stored where, what it is called, who refers to what.

Keys are bigint surrogates beside unique 32-byte digests; times are integer microseconds UTC.
The schema equals the sum of the migrations, which a test holds. Nothing here is SQLite's own.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, ForeignKey, Index, MetaData, Table, text

from hartonomous.catalog.columns import Binary, Count, Mode, RowId, Small, Whole, Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# An id names one row for ever, as a sequence's numbers do: what held on to the id of a row that was
# removed meanwhile must not meet another row under it. SQLite alone has to be told.
_NEVER_AGAIN = True


def _id() -> Column[int]:
    return Column("id", RowId(), primary_key=True, autoincrement=True)


def _ref(name: str, target: str, *, nullable: bool = False, key: bool = False) -> Column[int]:
    kind = RowId(optional=nullable)
    return Column(name, kind, ForeignKey(f"{target}.id"), nullable=nullable, primary_key=key)


_partial: list[tuple[Index, ColumnElement[bool]]] = []


def _partial_index(
    name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False
) -> None:
    _partial.append((Index(name, *columns, unique=unique, sqlite_where=where), where))


def tell_postgres() -> None:
    """Say for PostgreSQL too which indexes are partial.

    Whoever says that has its dialect loaded, which costs each command on SQLite 20 ms.
    """
    for index, where in _partial:
        index.dialect_kwargs["postgresql_where"] = where


store_property = Table(
    "store_property",
    metadata,
    Column("name", Words(), primary_key=True),
    Column("value", Words(), nullable=False),
)

writer = Table(
    "writer",
    metadata,
    _id(),
    Column("key", Binary(16), nullable=False, unique=True),
    Column("host", Words(), nullable=False),
    Column("process", Count(), nullable=False),
    Column("started_us", Whole(), nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)

pack = Table(
    "pack",
    metadata,
    _id(),
    Column("key", Binary(16), nullable=False, unique=True),
    Column("writer_key", Binary(16), nullable=False),
    Column("size_bytes", Count(), nullable=False),
    Column("record_count", Count(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)

atom = Table(
    "atom",
    metadata,
    _id(),
    Column("digest", Binary(32), nullable=False, unique=True),
    Column("size_bytes", Count(), nullable=False),
    Column("stored_bytes", Count(), nullable=False),
    Column("encoding", Small(), nullable=False),
    Column("reference_count", Count(), nullable=False, server_default=text("0")),
    Column("created_us", Whole(), nullable=False),
    # 1 when verify found its bytes damaged: adding them again stores them anew.
    Column("damaged", Small(), nullable=False, server_default=text("0")),
    # The longest chain of bases below it: 0 if it is kept on its own.
    Column("depth", Small(), nullable=False, server_default=text("0")),
    sqlite_autoincrement=_NEVER_AGAIN,
)

_partial_index("ix_atom_damaged", atom.c.damaged, where=atom.c.damaged == 1)

# What an atom's extents are predicted from: the base is needed as long as the atom is there.
atom_base = Table(
    "atom_base",
    metadata,
    _ref("atom_id", "atom", key=True),
    Column("ordinal", Count(), primary_key=True, autoincrement=False),
    _ref("base_atom_id", "atom"),
    Index(None, "base_atom_id"),
)

extent = Table(
    "extent",
    metadata,
    _id(),
    _ref("atom_id", "atom"),
    _ref("pack_id", "pack"),
    Column("position", Count(), nullable=False),
    Column("length", Count(), nullable=False),
    Column("header_offset", Count(), nullable=False),
    Column("stored_bytes", Count(), nullable=False),
    # 0 for what is read, 1 for the second copy of what many atoms are built on.
    Column("copy", Small(), nullable=False, server_default=text("0")),
    Index(None, "atom_id", "position"),
    Index(None, "pack_id"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

# Derived from the atoms: what lies at 256 places of a tensor, for finding what resembles it.
sketch = Table(
    "sketch",
    metadata,
    _id(),
    _ref("atom_id", "atom"),
    Column("first_element", Count(), nullable=False),
    Column("element_count", Count(), nullable=False),
    Column("columns", Count(), nullable=False),
    Column("dtype", Words(), nullable=False),
    Column("signs", Binary(32), nullable=False),
    Column("content", Binary(), nullable=False),
    Index("uq_sketch_part", "atom_id", "first_element", "element_count", unique=True),
    # With the signs in it, so that those of one size are read without the rows.
    Index("ix_sketch_signs", "element_count", "id", "signs"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

manifest = Table(
    "manifest",
    metadata,
    _id(),
    Column("digest", Binary(32), nullable=False, unique=True),
    Column("file_digest", Binary(32), nullable=False, unique=True),
    Column("sha256", Binary(32), nullable=False),
    Column("size_bytes", Count(), nullable=False),
    Column("format", Words(), nullable=False),
    Column("tensor_count", Count(), nullable=False),
    Column("inline_bytes", Count(), nullable=False),
    Column("notices", Words(), nullable=False),  # JSON list of {kind, text}
    _ref("pack_id", "pack"),
    Column("header_offset", Count(), nullable=False),
    Column("stored_bytes", Count(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    # 0 while rows are being staged; nobody uses the manifest before it is 1.
    Column("complete", Small(), nullable=False),
    # 1 once its references are counted in atom.reference_count.
    Column("counted", Small(), nullable=False),
    Index(None, "sha256"),
    Index(None, "pack_id"),
    Index(None, "counted"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

manifest_atom = Table(
    "manifest_atom",
    metadata,
    _ref("manifest_id", "manifest", key=True),
    _ref("atom_id", "atom", key=True),
    Column("count", Count(), nullable=False),
    Index(None, "atom_id"),
)

tensor = Table(
    "tensor",
    metadata,
    _ref("manifest_id", "manifest", key=True),
    Column("ordinal", Count(), primary_key=True, autoincrement=False),
    Column("name", Words(), nullable=False),
    Column("dtype", Words(), nullable=False),
    Column("shape", Words(), nullable=False),  # JSON list, row-major
    Column("offset", Count(), nullable=False),
    Column("length", Count(), nullable=False),
    Column("digest", Binary(32, optional=True)),
    Column("role", Words(), nullable=False),
    Column("layer", Words(optional=True)),
    Index(None, "digest"),
    Index(None, "name"),
)

artifact = Table(
    "artifact",
    metadata,
    _id(),
    Column("uid", Binary(16), nullable=False, unique=True),
    Column("name", Words(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    Column("removed_us", Whole(optional=True)),
    Column("next_number", Count(), nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)
_partial_index(
    "uq_artifact_live_name", artifact.c.name, where=artifact.c.removed_us.is_(None), unique=True
)
Index("ix_artifact_name", artifact.c.name)

version = Table(
    "version",
    metadata,
    _id(),
    Column("uid", Binary(16), nullable=False, unique=True),
    _ref("artifact_id", "artifact", nullable=True),  # NULL while staged
    Column("number", Count(optional=True)),
    Column("digest", Binary(32), nullable=False),
    Column("kind", Words(), nullable=False),  # model or file
    Column("size_bytes", Count(), nullable=False),
    Column("file_count", Count(), nullable=False),
    Column("tensor_count", Count(), nullable=False),
    Column("parameter_count", Count(optional=True)),
    Column("source_host", Words(), nullable=False),
    Column("source_place", Words(), nullable=False),
    Column("model", Words(optional=True)),  # JSON of core.model.ModelSummary
    Column("sequence", Count(optional=True)),
    Column("created_us", Whole(), nullable=False),
    Column("published", Small(), nullable=False),
    Column("removed_us", Whole(optional=True)),
    _ref("writer_id", "writer", nullable=True),
    _ref("pack_id", "pack", nullable=True),
    Column("header_offset", Count(optional=True)),
    Index("uq_version_artifact_id_number", "artifact_id", "number", unique=True),
    Index(None, "digest"),
    Index(None, "source_place"),
    Index(None, "pack_id"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

member = Table(
    "member",
    metadata,
    _ref("version_id", "version", key=True),
    Column("ordinal", Count(), primary_key=True, autoincrement=False),
    Column("path", Words(), nullable=False),
    Column("raw_path", Binary(optional=True)),
    _ref("manifest_id", "manifest"),
    Column("mode", Mode(), nullable=False),
    Column("modified_us", Whole(), nullable=False),
    Index(None, "manifest_id"),
)

layer = Table(
    "layer",
    metadata,
    _ref("version_id", "version", key=True),
    Column("ordinal", Count(), primary_key=True, autoincrement=False),
    Column("name", Words(), nullable=False),
    Column("kind", Words(), nullable=False),
    Column("tensor_count", Count(), nullable=False),
    Column("parameter_count", Count(), nullable=False),
    Column("size_bytes", Count(), nullable=False),
)

label = Table(
    "label",
    metadata,
    _ref("artifact_id", "artifact", key=True),
    Column("name", Words(), primary_key=True),
    _ref("version_id", "version"),
    Index(None, "version_id"),
)

version_tag = Table(
    "version_tag",
    metadata,
    _ref("version_id", "version", key=True),
    Column("tag", Words(), primary_key=True),
    Index(None, "tag"),
)

version_metadata = Table(
    "version_metadata",
    metadata,
    _ref("version_id", "version", key=True),
    Column("key", Words(), primary_key=True),
    Column("value", Words(), nullable=False),
)

# What somebody stated that one version is to another, until it is taken back.
relation = Table(
    "relation",
    metadata,
    _ref("source_version_id", "version", key=True),
    _ref("target_version_id", "version", key=True),
    Column("kind", Words(), primary_key=True),
    Column("weight", Words(optional=True)),  # a decimal number
    Column("note", Words(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    Index(None, "target_version_id"),
)

change = Table(
    "change",
    metadata,
    _id(),
    Column("sequence", Count(), nullable=False, unique=True),
    Column("time_us", Whole(), nullable=False),
    Column("action", Words(), nullable=False),
    Column("content", Words(), nullable=False),  # the record's JSON
    Column("undone", Small(), nullable=False),
    _ref("pack_id", "pack"),
    Column("header_offset", Count(), nullable=False),
    Index(None, "pack_id"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

atom_pin = Table(
    "atom_pin",
    metadata,
    _ref("writer_id", "writer", key=True),
    _ref("atom_id", "atom", key=True),
    Index(None, "atom_id"),
)

manifest_pin = Table(
    "manifest_pin",
    metadata,
    _ref("writer_id", "writer", key=True),
    _ref("manifest_id", "manifest", key=True),
    Index(None, "manifest_id"),
)

# The change feed: written in the transaction of the change that it tells of.
event = Table(
    "event",
    metadata,
    _id(),
    # Grows when a catalog is rebuilt or copied, so that no event's id is given twice.
    Column("era", Count(), nullable=False),
    # The transaction's number where several are written at once, so that none is read too early.
    Column("transaction_number", Count(), nullable=False),
    Column("type", Words(), nullable=False),
    Column("subject", Words(optional=True)),
    Column("time_us", Whole(), nullable=False),
    Column("data", Words(), nullable=False),  # a JSON object
    Index("ix_event_place", "era", "transaction_number", "id"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

# How far each consumer of the feed has got: behind the event of these numbers.
event_cursor = Table(
    "event_cursor",
    metadata,
    Column("consumer", Words(), primary_key=True),
    Column("era", Count(), nullable=False),
    Column("transaction_number", Count(), nullable=False),
    Column("number", Count(), nullable=False),
    Column("updated_us", Whole(), nullable=False),
)

# Work to be done, held or done. A job waits while it has neither a lease nor an end, is held while
# it has a lease, and is active until it has an end; indexes and queries go by these columns.
job = Table(
    "job",
    metadata,
    _id(),
    Column("kind", Words(), nullable=False),
    Column("arguments", Words(), nullable=False),  # JSON
    Column("unique_key", Words(optional=True)),
    Column("status", Words(), nullable=False),
    Column("priority", Whole(), nullable=False),
    Column("run_after_us", Whole(), nullable=False),
    Column("attempts", Count(), nullable=False),
    Column("max_attempts", Count(), nullable=False),
    Column("epoch", Count(), nullable=False),
    Column("worker", Words(optional=True)),
    Column("lease_until_us", Whole(optional=True)),
    Column("heartbeat_us", Whole(optional=True)),
    Column("cancel_asked", Small(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    Column("started_us", Whole(optional=True)),
    Column("ended_us", Whole(optional=True)),
    Column("stage", Words(optional=True)),
    Column("record_count", Count(), nullable=False),
    Column("done_bytes", Count(), nullable=False),
    Column("total_bytes", Count(optional=True)),
    Column("error", Words(optional=True)),  # JSON {kind, message, hint}
    Column("result", Words(optional=True)),  # JSON
    sqlite_autoincrement=_NEVER_AGAIN,
)
_job_waits = job.c.lease_until_us.is_(None) & job.c.ended_us.is_(None)
_job_leased, _job_ended = job.c.lease_until_us.is_not(None), job.c.ended_us.is_not(None)
_job_active = job.c.ended_us.is_(None)
_partial_index("uq_job_active_key", job.c.unique_key, where=_job_active, unique=True)
_partial_index("ix_job_waiting", job.c.priority, job.c.run_after_us, job.c.id, where=_job_waits)
_partial_index("ix_job_leased", job.c.lease_until_us, where=_job_leased)
_partial_index("ix_job_ended", job.c.ended_us, where=_job_ended)

schedule = Table(
    "schedule",
    metadata,
    Column("name", Words(), primary_key=True),
    Column("kind", Words(), nullable=False),
    Column("arguments", Words(), nullable=False),  # JSON
    Column("every_s", Count(optional=True)),
    Column("cron", Words(optional=True)),
    Column("priority", Whole(), nullable=False),
    Column("max_attempts", Count(), nullable=False),
    Column("created_us", Whole(), nullable=False),
    Column("next_us", Whole(), nullable=False),
    Column("last_us", Whole(optional=True)),
    Column("last_job_id", Count(optional=True)),
)

# An embedding space. Its vectors are blocks, which are stored files, and the newest ones as rows.
space = Table(
    "space",
    metadata,
    _id(),
    # Of this catalog's ids of vectors: a catalog that is made anew has others, and other indexes.
    Column("uid", Binary(16), nullable=False),
    Column("key", Words(), nullable=False, unique=True),
    Column("name", Words(), nullable=False, unique=True),
    Column("content", Words(), nullable=False),  # JSON of core.space.Space
    Column("modality", Words(), nullable=False),
    Column("use", Words(), nullable=False),
    Column("state", Words(), nullable=False),  # building, current or retired
    Column("engine", Words(), nullable=False),  # of its index: auto, or the name of one
    Column("next_id", Count(), nullable=False),
    Column("epoch", Count(), nullable=False),  # grows with each change of its vectors
    Column("created_us", Whole(), nullable=False),
    Column("switched_us", Whole(optional=True)),
    sqlite_autoincrement=_NEVER_AGAIN,
)
_partial_index(
    "uq_space_current",
    space.c.modality,
    space.c.use,
    where=space.c.state == "current",
    unique=True,
)

# Which stored files are blocks of a space. An id in the file plus id_offset is an id here.
space_block = Table(
    "space_block",
    metadata,
    _ref("space_id", "space", key=True),
    Column("version_uid", Binary(16), primary_key=True),
    Column("file_digest", Binary(32), nullable=False),
    Column("first_id", Count(), nullable=False),
    Column("last_id", Count(), nullable=False),
    Column("id_offset", Whole(), nullable=False),
    Column("row_count", Count(), nullable=False),
)

space_tail = Table(
    "space_tail",
    metadata,
    _ref("space_id", "space", key=True),
    Column("id", Count(), primary_key=True, autoincrement=False),
    Column("place", Binary(), nullable=False),  # msgpack of core.place.Place
    Column("vector", Binary(), nullable=False),  # in the space's type, little-endian
)

# Vectors of blocks that no longer count.
space_dead = Table(
    "space_dead",
    metadata,
    _ref("space_id", "space", key=True),
    Column("id", Count(), primary_key=True, autoincrement=False),
)

# How often versions and files were read, and when last; written in batches.
access = Table(
    "access",
    metadata,
    Column("kind", Words(), primary_key=True),  # version (key: its uid) or file (its digest)
    Column("key", Binary(), primary_key=True),
    Column("count", Count(), nullable=False),
    Column("last_us", Whole(), nullable=False),
)
