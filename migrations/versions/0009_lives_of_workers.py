"""The lives of workers, and event times that everybody can read.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = "worker_lives"
# The last microsecond of year 9999 is infinity to asyncpg.
FIRST, LAST = "0001-01-01 00:00:00.000001+00", "9999-12-31 23:59:59.999998+00"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("owning_at", sa.DateTime(timezone=True)),
        sa.Column("stalled_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text()),
        sa.Column("offsets", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("trial_partition", sa.Integer()),
        sa.Column("trial_offset", sa.BigInteger()),
    )
    op.execute(sa.text(f"GRANT SELECT ON {TABLE} TO mess_api"))
    # Seconds as a float made years of 10000 and infinities of some.
    for table in ("tracks", "neighbour_lists", "interactions"):
        op.execute(
            sa.text(
                f"UPDATE {table} SET event_time = greatest(least(event_time, '{LAST}'), '{FIRST}') "  # noqa: S608
                f"WHERE event_time NOT BETWEEN '{FIRST}' AND '{LAST}'"
            )
        )


def downgrade() -> None:
    op.drop_table(TABLE)
