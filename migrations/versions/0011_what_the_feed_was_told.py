"""What the change feed has been told, and versions of lists that go on where a database is made anew.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Milliseconds since 1970: more than there were flushes of any database made before, whose lists the feed may still have.
_VERSIONS_GO_ON = """
SELECT setval('list_version', greatest(last_value, (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
FROM list_version
"""


def upgrade() -> None:
    op.create_table(
        "told_lists",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("feed_partition", sa.Integer(), nullable=False),
        sa.Column("feed_offset", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("neighbours", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_told_lists")),
        postgresql_with={"fillfactor": "50", "toast_tuple_target": "8160"},
    )
    op.create_table(
        "told_offsets",
        sa.Column("owner_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("feed_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_partition", "feed_partition", name=op.f("pk_told_offsets")),
    )
    op.execute(sa.text(_VERSIONS_GO_ON))


def downgrade() -> None:
    op.drop_table("told_offsets")
    op.drop_table("told_lists")
