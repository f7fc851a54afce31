"""The name of the model that makes the vectors.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of a catalogue that is there nobody knows it.
    op.add_column("catalogue", sa.Column("model", sa.Text()))


def downgrade() -> None:
    op.drop_column("catalogue", "model")
