"""Interactions, popularity, and recommendations that are kept ready.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

READABLE = ("withdrawals", "popularity", "popularity_version", "materialised_recommendations")


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("popularity_version")))
    op.create_table(
        "interaction_offsets",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_interaction_offsets")),
    )
    op.create_table(
        "interactions",
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_interactions")),
    )
    op.create_index(
        "ix_interactions_received_at", "interactions", ["received_at"], unique=False, postgresql_using="brin"
    )
    op.create_table(
        "popularity",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("count", sa.Float(), nullable=False),
        sa.Column("reference", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_popularity")),
        postgresql_with={"fillfactor": "50"},
    )
    _create_materialised()
    op.execute(f"GRANT SELECT ON {', '.join(READABLE)} TO mess_api")


def _create_materialised() -> None:
    op.create_table(
        "materialised_recommendations",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("variant", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "question",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("members", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("list_version", sa.BigInteger(), nullable=True),
        sa.Column("popularity_version", sa.BigInteger(), nullable=True),
        sa.Column("popularity_due", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outdated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_hit", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heat", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "key", "strategy", "mode", "variant", name=op.f("pk_materialised_recommendations")
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_materialised_recommendations_members",
        "materialised_recommendations",
        ["members"],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(
        op.f("ix_materialised_recommendations_heat"), "materialised_recommendations", ["heat"], unique=False
    )
    # Sent as they are: compressing would cost each reader more than it saves.
    op.execute("ALTER TABLE materialised_recommendations ALTER COLUMN body SET STORAGE EXTERNAL")
    # A deletion looks members up in every batch: none may wait for the index to be tidied up.
    op.execute("ALTER INDEX ix_materialised_recommendations_members SET (fastupdate = off)")


def downgrade() -> None:
    op.drop_table("materialised_recommendations")
    op.drop_table("popularity")
    op.drop_table("interactions")
    op.drop_table("interaction_offsets")
    op.execute(sa.schema.DropSequence(sa.Sequence("popularity_version")))
    op.execute("REVOKE SELECT ON withdrawals FROM mess_api")
