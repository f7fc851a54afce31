"""Lists that have been replaced.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Who may read a schema's lists.
_READERS = """
SELECT DISTINCT a.grantee::regrole::text FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE c.oid = :lists ::regclass AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
"""


def _schemas() -> list[str]:
    """The schemas of the generations beside the first, which are not retired."""
    rows = op.get_bind().execute(
        sa.text(
            "SELECT space, number FROM generations WHERE retired_at IS NULL AND (space, number) <> ('default', 1)"
        )
    )
    return [f"mess_{space}_{number}" for space, number in rows]


def upgrade() -> None:
    op.create_table(
        "list_history",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("replaced_by", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("source_partition", sa.SmallInteger(), nullable=False),
        sa.Column("neighbours", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("scores", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.PrimaryKeyConstraint("key", "version", name=op.f("pk_list_history")),
    )
    op.create_index("ix_list_history_replaced_at", "list_history", ["replaced_at"])
    for schema in _schemas():
        op.execute(f"CREATE TABLE {schema}.list_history (LIKE list_history INCLUDING ALL)")
    for prefix in ("", *(f"{schema}." for schema in _schemas())):
        readers = op.get_bind().execute(sa.text(_READERS), {"lists": f"{prefix}neighbour_lists"}).scalars()
        for role in readers.all():
            op.execute(f"GRANT SELECT ON {prefix}list_history TO {role}")


def downgrade() -> None:
    for schema in _schemas():
        op.execute(f"DROP TABLE {schema}.list_history")
    op.drop_table("list_history")
