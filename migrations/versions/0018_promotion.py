"""When a generation ceased to serve.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generations", sa.Column("served_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    # The version before serves readers from the catalogue's own tables, whatever is said here.
    op.execute("UPDATE generations SET serving = false WHERE serving AND space = 'default'")
    op.execute("UPDATE generations SET serving = true WHERE (space, number) = ('default', 1)")
    op.drop_column("generations", "served_until")
