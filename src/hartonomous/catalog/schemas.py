"""Schemas of a PostgreSQL database as wholes: whether one is there, renaming, copying, dropping."""

from sqlalchemy import Connection, text

from hartonomous.catalog.derived_tables import PREFIX


def exists(tx: Connection, schema: str) -> bool:
    """Say whether a schema is there."""
    query = text("SELECT 1 FROM pg_namespace WHERE nspname = :schema")
    return tx.scalar(query, {"schema": schema}) is not None


def is_closed(tx: Connection, schema: str) -> bool:
    """Say whether a schema is there that this user may not even look into."""
    query = text(
        "SELECT 1 FROM pg_namespace WHERE nspname = :schema"
        " AND NOT has_schema_privilege(oid, 'USAGE')"
    )
    return tx.scalar(query, {"schema": schema}) is not None


def size_bytes(tx: Connection) -> int:
    """Return what the tables of the schema in use take on the server, with their indexes."""
    query = text(
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
    )
    return int(tx.scalar(query) or 0)


def encoding(tx: Connection) -> str:
    """Return the encoding of the database's texts."""
    return str(tx.exec_driver_sql("SHOW server_encoding").scalar_one())


def may_make(tx: Connection) -> bool:
    """Say whether this user may make schemas in the database."""
    query = text("SELECT has_database_privilege(current_database(), 'CREATE')")
    return bool(tx.scalar(query))


def rename(tx: Connection, schema: str, name: str) -> None:
    """Give a schema another name."""
    quote = tx.dialect.identifier_preparer.quote
    tx.exec_driver_sql(f"ALTER SCHEMA {quote(schema)} RENAME TO {quote(name)}")


def drop(tx: Connection, schema: str) -> None:
    """Drop a schema with everything in it; nothing where there is none."""
    quote = tx.dialect.identifier_preparer.quote
    tx.exec_driver_sql(f"DROP SCHEMA IF EXISTS {quote(schema)} CASCADE")


def copy(tx: Connection, schema: str, name: str) -> None:
    """Copy every table with its rows into a new schema, but for derived ones.

    Foreign keys are not copied.
    """
    quote = tx.dialect.identifier_preparer.quote
    tables = text(
        "SELECT tablename FROM pg_tables WHERE schemaname = :schema"
        " AND NOT starts_with(tablename, :derived) ORDER BY tablename"
    )
    tx.exec_driver_sql(f"CREATE SCHEMA {quote(name)}")
    for table in tx.scalars(tables, {"schema": schema, "derived": PREFIX}).all():
        there, here = (f"{quote(one)}.{quote(table)}" for one in (schema, name))
        tx.exec_driver_sql(f"CREATE TABLE {here} (LIKE {there} INCLUDING ALL)")
        tx.exec_driver_sql(f"INSERT INTO {here} SELECT * FROM {there}")  # noqa: S608
