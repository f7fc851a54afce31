"""Where tracks stand on the map.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("map_change")))
    op.create_table(
        "map_positions",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("x", sa.REAL(), nullable=False),
        sa.Column("y", sa.REAL(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_map_positions")),
        sa.UniqueConstraint("change", name=op.f("uq_map_positions_change")),
    )
    op.execute("GRANT SELECT ON map_positions TO mess_api")


def downgrade() -> None:
    op.drop_table("map_positions")
    op.execute(sa.schema.DropSequence(sa.Sequence("map_change")))
