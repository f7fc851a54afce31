"""Named parts of the vectors.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A catalogue that is there goes on as one of vectors without parts.
    op.add_column("catalogue", sa.Column("aspects", postgresql.JSONB()))


def downgrade() -> None:
    # Similarities of a catalogue with aspects stay right: its vectors are weighed already. Only new events would be refused.
    op.drop_column("catalogue", "aspects")
