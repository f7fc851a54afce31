"""The order of a track's events that lie in different partitions.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was there before is older than whatever comes from another partition.
    for table in ("tracks", "departures"):
        op.add_column(
            table, sa.Column("appended_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )
    op.add_column("tracks", sa.Column("previous_partition", sa.Integer()))
    op.add_column(
        "departures",
        sa.Column("departed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.create_index(op.f("ix_departures_key"), "departures", ["key"])
    op.create_table(
        "moves",
        sa.Column("to_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("to_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("from_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("to_partition", "to_offset", "from_partition", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_key"), "moves", ["key"])


def downgrade() -> None:
    op.drop_table("moves")
    op.drop_index(op.f("ix_departures_key"), table_name="departures")
    op.drop_column("departures", "departed_at")
    op.drop_column("tracks", "previous_partition")
    for table in ("departures", "tracks"):
        op.drop_column(table, "appended_at")
