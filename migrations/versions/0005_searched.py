"""How far the catalogue had come when a kept recommendation was searched for in it.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "materialised_recommendations"


def upgrade() -> None:
    # What is kept does not say how far it had come: it is made again when it is asked for.
    op.execute(sa.text(f"TRUNCATE {TABLE}"))
    op.add_column(TABLE, sa.Column("searched", postgresql.JSONB(), nullable=True))
    op.add_column(TABLE, sa.Column("searched_due", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column(TABLE, "searched_due")
    op.drop_column(TABLE, "searched")
