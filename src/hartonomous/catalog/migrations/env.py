"""Alembic's entry: runs the steps on the connection it is given, inside its transaction."""

from alembic import context
from sqlalchemy import Connection, text

from hartonomous.catalog.schema import metadata

_OTHER_ORDER = text(
    "SELECT c.relname, a.attname FROM pg_attribute a "
    "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation l ON l.oid = a.attcollation "
    "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' "
    "AND a.attnum > 0 AND a.atttypid = 'text'::regtype AND l.collname <> 'C'"
)


def run() -> None:
    """Apply the steps that are missing."""
    connection = context.config.attributes["connection"]
    # The connection's own transaction covers DDL on SQLite too: nothing is left half applied.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    context.run_migrations()
    if connection.dialect.name == "postgresql":
        _order_by_bytes(connection)


def _order_by_bytes(connection: Connection) -> None:
    """Let every text be compared by its bytes, as SQLite does, whatever the database's locale."""
    quote = connection.dialect.identifier_preparer.quote
    changes: dict[str, list[str]] = {}
    for table, column in connection.execute(_OTHER_ORDER):
        how = f'ALTER COLUMN {quote(column)} TYPE text COLLATE pg_catalog."C"'
        changes.setdefault(table, []).append(how)
    for table, some in changes.items():
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} {', '.join(some)}")


run()
