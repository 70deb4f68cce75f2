"""Alembic's entry: runs the steps on the connection it is given, inside its transaction."""

from alembic import context

from hartonomous.catalog.schema import metadata


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


run()
