"""Derived tables in a catalog's schema on PostgreSQL: their prefix, and who may use them.

They are made when they are needed, by whoever writes first. From then on they belong to the role of
the store's writers, so that any of them may fill, replace and drop them; readers may read them.
"""

from sqlalchemy import Connection, text

from hartonomous.catalog.database import Database
from hartonomous.catalog.engines.postgres import may_not_write
from hartonomous.errors import HartonomousError

PREFIX = "derived_"
"""Tables of such names are no part of the catalog: no copy takes them along."""

_SHARE = """
DO $$ DECLARE
  one record;
  reader text := current_schema() || '_reader';
  writer text := current_schema() || '_writer';
BEGIN
FOR one IN SELECT c.oid::regclass AS name FROM pg_class c
  WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND starts_with(c.relname, 'derived_') AND pg_has_role(c.relowner, 'USAGE')
LOOP
  IF to_regrole(quote_ident(reader)) IS NOT NULL THEN
    EXECUTE format('GRANT SELECT ON %s TO %I', one.name, reader);
  END IF;
  IF to_regrole(quote_ident(writer)) IS NOT NULL THEN
    EXECUTE format('GRANT ALL ON %s TO %I', one.name, writer);
    IF pg_has_role(to_regrole(quote_ident(writer)), 'MEMBER')
      AND has_schema_privilege(to_regrole(quote_ident(writer)), current_schema(), 'CREATE') THEN
      EXECUTE format('ALTER TABLE %s OWNER TO %I', one.name, writer);
    END IF;
  END IF;
END LOOP; END $$
"""


def may_make_tables(tx: Connection) -> bool:
    """Say whether this user may make tables in the catalog's schema."""
    query = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    return bool(tx.scalar(query))


def check_may_make(tx: Connection, what: str) -> None:
    """Raise HartonomousError where this user may not make ``what``, which is missing."""
    if not may_make_tables(tx):
        raise HartonomousError(
            f"{what} is not there, and this role may not make it",
            hint="who may write to the store runs hart views update; hart catalog roles --sql"
            " prints what lets writers make it",
        )


def check_may_write(database: Database) -> None:
    """Raise HartonomousError where this user only reads a catalog on a server."""
    if database.dialect == "sqlite":
        return
    with database.read() as tx:
        query = text("SELECT has_table_privilege('version', 'INSERT')")
        if not tx.scalar(query):
            raise may_not_write("this role reads only")


def share_tables(tx: Connection) -> None:
    """Give the derived tables that were just made to the store's roles, where it has any."""
    tx.exec_driver_sql(_SHARE, execution_options={"no_parameters": True})
