"""Roles of a PostgreSQL server for the catalog of one store: the SQL that makes them.

It is printed and not run: who may make roles is not who uses a store.
"""

from dataclasses import dataclass

READER, WRITER, OWNER = "reader", "writer", "owner"
DUTIES = {
    READER: "lists, reads and restores",
    WRITER: "adds, changes, removes and collects, too",
    OWNER: "migrates, repairs and moves the catalog, too",
}
"""What each role may do with the store, each what the ones before it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRoles:
    """The names of a store's roles, of its schema, and of the database that has it."""

    schema: str
    database: str

    def name(self, duty: str) -> str:
        """Return the name of the role with a duty."""
        return f"{self.schema}_{duty}"


def roles_sql(roles: StoreRoles) -> str:
    """Return the SQL that makes the roles and gives them what they need; it may be run again."""
    reader, writer, owner = (_quoted(roles.name(duty)) for duty in (READER, WRITER, OWNER))
    schema, database = _quoted(roles.schema), _quoted(roles.database)
    makes = "\n".join(_make(roles.name(duty)) for duty in (READER, WRITER, OWNER))
    return f"""\
-- Run this as a superuser, or as who owns the schema and may make roles, in this database:
--   hart catalog roles --sql | psql {_in_comment(roles.database)}
-- then give people theirs: GRANT {writer} TO alice;
-- Who made the store has no rights of its own from now on, and needs the owner role too.
-- Who migrates or repairs: GRANT {owner} TO bob; ALTER ROLE bob SET role = {owner};
BEGIN;
{makes}
GRANT {reader} TO {writer};
GRANT {writer} TO {owner};
GRANT CONNECT ON DATABASE {database} TO {reader};
GRANT CREATE ON DATABASE {database} TO {owner};
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
ALTER SCHEMA {schema} OWNER TO {owner};
-- Indexes of words and vectors are tables that writers make, and that belong to all of them.
GRANT CREATE ON SCHEMA {schema} TO {writer};
DO $$
DECLARE one record;
BEGIN
  FOR one IN SELECT c.oid::regclass AS name,
    CASE WHEN starts_with(c.relname, 'derived_') THEN {_literal(roles.name(WRITER))}
      ELSE {_literal(roles.name(OWNER))} END AS owner FROM pg_class c
    WHERE c.relnamespace = {_literal(roles.schema)}::regnamespace AND c.relkind = 'r'
  LOOP
    EXECUTE format('ALTER TABLE %s OWNER TO %I', one.name, one.owner);
  END LOOP;
END $$;
GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};
-- A backup copies which ids were given out, too.
GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {reader};
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {writer};
GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {writer};
REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {writer};
-- What the owner makes later, such as the new schema of a repair.
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT CREATE ON SCHEMAS TO {writer};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON SEQUENCES TO {reader};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT INSERT, UPDATE, DELETE ON TABLES TO {writer};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE, UPDATE ON SEQUENCES TO {writer};
COMMIT;
"""  # noqa: S608


def _make(name: str) -> str:
    return (
        f"DO $$ BEGIN CREATE ROLE {_quoted(name)} NOLOGIN; "
        "EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
    )


def _in_comment(text: str) -> str:
    """Return ``text`` on one line: a comment ends with its line."""
    return "".join(char if char.isprintable() else " " for char in text)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
