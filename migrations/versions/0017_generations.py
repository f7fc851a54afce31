"""Generations of spaces.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("weights", sa.Text()),
        sa.Column("serving", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("space", "number", name=op.f("pk_generations")),
        sa.CheckConstraint("NOT (serving AND retired_at IS NOT NULL)", name=op.f("ck_generations_state")),
    )
    op.create_index(
        "ix_generations_serving",
        "generations",
        ["space"],
        unique=True,
        postgresql_where=sa.text("serving"),
    )
    # A catalogue that is there is the first generation: no row of it moves.
    op.execute("INSERT INTO generations (space, number, serving) VALUES ('default', 1, true)")
    op.execute("GRANT SELECT ON generations TO mess_api")


def downgrade() -> None:
    connection = op.get_bind()
    others = (
        "SELECT space, number FROM generations WHERE retired_at IS NULL AND (space, number) <> ('default', 1)"
    )
    for space, number in connection.execute(sa.text(others)).all():
        # Its topic keeps its vectors.
        op.execute(f"DROP SCHEMA mess_{space}_{number} CASCADE")
    op.drop_table("generations")
