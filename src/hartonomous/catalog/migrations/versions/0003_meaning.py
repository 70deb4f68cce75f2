"""Tables for what is searched by meaning: embedding spaces, their newest vectors, what is read.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, one function for each concern."""
    _spaces()
    _reads()


def downgrade() -> None:
    """Drop them."""
    _drop_reads()
    _drop_spaces()


def _id() -> "sa.Column[int]":
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, autoincrement=True, nullable=False)


def _space_id(table: str) -> "tuple[sa.Column[int], sa.ForeignKeyConstraint]":
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return (
        sa.Column("space_id", kind, nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name=op.f(f"fk_{table}_space_id")),
    )


def _spaces() -> None:
    op.create_table(
        "space",
        _id(),
        sa.Column("uid", sa.LargeBinary(16), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("next_id", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("switched_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_space")),
        sa.UniqueConstraint("key", name=op.f("uq_space_key")),
        sa.UniqueConstraint("name", name=op.f("uq_space_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_space_current",
        "space",
        ["modality", "use"],
        unique=True,
        sqlite_where=sa.text("state = 'current'"),
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_table(
        "space_block",
        *_space_id("space_block"),
        sa.Column("version_uid", sa.LargeBinary(16), nullable=False),
        sa.Column("file_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("id_offset", sa.BigInteger(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "version_uid", name=op.f("pk_space_block")),
    )
    op.create_table(
        "space_tail",
        *_space_id("space_tail"),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "id", name=op.f("pk_space_tail")),
    )
    op.create_table(
        "space_dead",
        *_space_id("space_dead"),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "id", name=op.f("pk_space_dead")),
    )


def _drop_spaces() -> None:
    op.drop_table("space_dead")
    op.drop_table("space_tail")
    op.drop_table("space_block")
    op.drop_index("uq_space_current", table_name="space")
    op.drop_table("space")


def _reads() -> None:
    op.create_table(
        "access",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_access")),
    )


def _drop_reads() -> None:
    op.drop_table("access")
