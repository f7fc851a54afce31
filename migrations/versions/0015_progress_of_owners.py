"""One row of absorbed offsets an owner, and one of told offsets, not one for each pair of partitions.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_STORAGE = {"fillfactor": "50", "toast_tuple_target": "8160"}


def upgrade() -> None:
    _gather("absorbed_offsets", "source_partition", "absorbed_offset", "owner_progress", "absorbed")
    op.drop_table("absorbed_offsets")
    op.execute("""
        CREATE VIEW absorbed_offsets AS
        SELECT o.owner_partition, (s.place - 1)::int AS source_partition, s.absorbed AS absorbed_offset
        FROM owner_progress AS o, unnest(o.absorbed) WITH ORDINALITY AS s (absorbed, place)
    """)
    op.execute("GRANT SELECT ON owner_progress TO mess_api")
    op.execute("ALTER TABLE told_offsets RENAME TO told_pairs")
    op.execute("ALTER TABLE told_pairs RENAME CONSTRAINT pk_told_offsets TO pk_told_pairs")
    _gather("told_pairs", "feed_partition", "next_offset", "told_offsets", "next_offsets")
    op.drop_table("told_pairs")


def _gather(pairs: str, second: str, offset: str, table: str, column: str) -> None:
    """Make a table of one array an owner out of one with a row a pair."""
    op.create_table(
        table,
        sa.Column("owner_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(column, postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.PrimaryKeyConstraint("owner_partition", name=op.f(f"pk_{table}")),
        postgresql_with=_STORAGE,
    )
    op.execute(f"""
        INSERT INTO {table}
        SELECT o.owner_partition, ARRAY(
            SELECT coalesce(a.{offset}, 0) FROM generate_series(0, o.last) AS s (second)
            LEFT JOIN {pairs} AS a ON a.owner_partition = o.owner_partition AND a.{second} = s.second
            ORDER BY s.second
        )
        FROM (SELECT owner_partition, max({second}) AS last FROM {pairs} GROUP BY 1) AS o
    """)  # noqa: S608 -- the names above


def downgrade() -> None:
    op.execute("DROP VIEW absorbed_offsets")
    _scatter("owner_progress", "absorbed", "absorbed_offsets", "source_partition", "absorbed_offset")
    op.drop_table("owner_progress")
    op.execute("GRANT SELECT ON absorbed_offsets TO mess_api")
    op.execute("ALTER TABLE told_offsets RENAME TO told_arrays")
    op.execute("ALTER TABLE told_arrays RENAME CONSTRAINT pk_told_offsets TO pk_told_arrays")
    _scatter("told_arrays", "next_offsets", "told_offsets", "feed_partition", "next_offset")
    op.drop_table("told_arrays")


def _scatter(table: str, column: str, pairs: str, second: str, offset: str) -> None:
    """The reverse of `_gather`."""
    op.create_table(
        pairs,
        sa.Column("owner_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(second, sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(offset, sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_partition", second, name=op.f(f"pk_{pairs}")),
    )
    op.execute(f"""
        INSERT INTO {pairs}
        SELECT o.owner_partition, s.place - 1, s.value
        FROM {table} AS o, unnest(o.{column}) WITH ORDINALITY AS s (value, place) WHERE s.value > 0
    """)  # noqa: S608 -- the names above
