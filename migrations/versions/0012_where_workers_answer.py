"""Where workers answer questions.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLE = "worker_lives"


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("questions_url", sa.Text()))
    op.add_column(TABLE, sa.Column("questions_token", sa.Text()))


def downgrade() -> None:
    op.drop_column(TABLE, "questions_token")
    op.drop_column(TABLE, "questions_url")
