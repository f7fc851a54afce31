"""Keys of the API's callers, and what has been done about dead letters.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("rate_limit", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("octet_length(digest) = 32", name=op.f("ck_api_keys_sha256")),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("version", name=op.f("uq_api_keys_version")),
    )
    op.create_table(
        "handled_letters",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("written_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("action IN ('replayed', 'dropped')", name=op.f("ck_handled_letters_known_action")),
        sa.PrimaryKeyConstraint("partition", "offset", "written_at", name=op.f("pk_handled_letters")),
    )
    op.execute("GRANT SELECT ON api_keys TO mess_api")


def downgrade() -> None:
    op.drop_table("handled_letters")
    op.drop_table("api_keys")
