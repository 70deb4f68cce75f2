"""Tables of the catalog: what is stored where, what it is called, who refers to what.

Keys are bigint surrogates beside unique 32-byte digests; times are integer microseconds UTC.
The schema equals the sum of the migrations, which a test holds. Nothing here is SQLite's own.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite gives rowids to INTEGER keys only

# An id names one row for ever, as a sequence's numbers do: what held on to the id of a row that was
# removed meanwhile must not meet another row under it. SQLite alone has to be told.
_NEVER_AGAIN = True


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def _ref(name: str, target: str, *, nullable: bool = False, key: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=nullable, primary_key=key)


store_property = Table(
    "store_property",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

writer = Table(
    "writer",
    metadata,
    _id(),
    Column("key", LargeBinary(16), nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("process", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)

pack = Table(
    "pack",
    metadata,
    _id(),
    Column("key", LargeBinary(16), nullable=False, unique=True),
    Column("writer_key", LargeBinary(16), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)

atom = Table(
    "atom",
    metadata,
    _id(),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("encoding", SmallInteger, nullable=False),
    Column("reference_count", BigInteger, nullable=False, server_default=text("0")),
    Column("created_us", BigInteger, nullable=False),
    # 1 when verify found its bytes damaged: adding them again stores them anew.
    Column("damaged", SmallInteger, nullable=False, server_default=text("0")),
    sqlite_autoincrement=_NEVER_AGAIN,
)

Index(
    "ix_atom_damaged",
    atom.c.damaged,
    sqlite_where=atom.c.damaged == 1,
    postgresql_where=atom.c.damaged == 1,
)

extent = Table(
    "extent",
    metadata,
    _id(),
    _ref("atom_id", "atom"),
    _ref("pack_id", "pack"),
    Column("position", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("header_offset", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Index(None, "atom_id", "position"),
    Index(None, "pack_id"),
    sqlite_autoincrement=_NEVER_AGAIN,
)

manifest = Table(
    "manifest",
    metadata,
    _id(),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("file_digest", LargeBinary(32), nullable=False, unique=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("format", Text, nullable=False),
    Column("tensor_count", BigInteger, nullable=False),
    Column("inline_bytes", BigInteger, nullable=False),
    Column("notices", Text, nullable=False),  # JSON list of {kind, text}
    _ref("pack_id", "pack"),
    Column("header_offset", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    # 0 while rows are being staged; nobody uses the manifest before it is 1.
    Column("complete", SmallInteger, nullable=False),
    # 1 once its references are counted in atom.reference_count.
    Column("counted", SmallInteger, nullable=False),
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
    Column("count", BigInteger, nullable=False),
    Index(None, "atom_id"),
)

tensor = Table(
    "tensor",
    metadata,
    _ref("manifest_id", "manifest", key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("shape", Text, nullable=False),  # JSON list, row-major
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("digest", LargeBinary(32)),
    Column("role", Text, nullable=False),
    Column("layer", Text),
    Index(None, "digest"),
    Index(None, "name"),
)

artifact = Table(
    "artifact",
    metadata,
    _id(),
    Column("uid", LargeBinary(16), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("removed_us", BigInteger),
    Column("next_number", BigInteger, nullable=False),
    sqlite_autoincrement=_NEVER_AGAIN,
)
Index(
    "uq_artifact_live_name",
    artifact.c.name,
    unique=True,
    sqlite_where=artifact.c.removed_us.is_(None),
    postgresql_where=artifact.c.removed_us.is_(None),
)
Index("ix_artifact_name", artifact.c.name)

version = Table(
    "version",
    metadata,
    _id(),
    Column("uid", LargeBinary(16), nullable=False, unique=True),
    _ref("artifact_id", "artifact", nullable=True),  # NULL while staged
    Column("number", BigInteger),
    Column("digest", LargeBinary(32), nullable=False),
    Column("kind", Text, nullable=False),  # model or file
    Column("size_bytes", BigInteger, nullable=False),
    Column("file_count", BigInteger, nullable=False),
    Column("tensor_count", BigInteger, nullable=False),
    Column("parameter_count", BigInteger),
    Column("source_host", Text, nullable=False),
    Column("source_place", Text, nullable=False),
    Column("model", Text),  # JSON of core.model.ModelSummary
    Column("sequence", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("published", SmallInteger, nullable=False),
    Column("removed_us", BigInteger),
    _ref("writer_id", "writer", nullable=True),
    _ref("pack_id", "pack", nullable=True),
    Column("header_offset", BigInteger),
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
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("raw_path", LargeBinary),
    _ref("manifest_id", "manifest"),
    Column("mode", Integer, nullable=False),
    Column("modified_us", BigInteger, nullable=False),
    Index(None, "manifest_id"),
)

layer = Table(
    "layer",
    metadata,
    _ref("version_id", "version", key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("tensor_count", BigInteger, nullable=False),
    Column("parameter_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)

label = Table(
    "label",
    metadata,
    _ref("artifact_id", "artifact", key=True),
    Column("name", Text, primary_key=True),
    _ref("version_id", "version"),
    Index(None, "version_id"),
)

version_tag = Table(
    "version_tag",
    metadata,
    _ref("version_id", "version", key=True),
    Column("tag", Text, primary_key=True),
    Index(None, "tag"),
)

version_metadata = Table(
    "version_metadata",
    metadata,
    _ref("version_id", "version", key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

change = Table(
    "change",
    metadata,
    _id(),
    Column("sequence", BigInteger, nullable=False, unique=True),
    Column("time_us", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("content", Text, nullable=False),  # the record's JSON
    Column("undone", SmallInteger, nullable=False),
    _ref("pack_id", "pack"),
    Column("header_offset", BigInteger, nullable=False),
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
