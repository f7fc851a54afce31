"""What workers need to know of each other's partitions: deletions, and whether a log has been replaced.

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
    op.create_table(
        "departures",
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source_partition", "source_offset", name=op.f("pk_departures")),
    )
    op.add_column(
        "ingest_partitions",
        sa.Column("generation", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("ingest_partitions", "generation")
    op.drop_table("departures")
