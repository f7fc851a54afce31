"""The store.

Revision ID: 0001
Revises: nothing, it is the first
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


READABLE = (
    "tracks",
    "neighbour_lists",
    "ingest_partitions",
    "absorbed_offsets",
    "catalogue",
    "alembic_version",
)


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("list_version")))
    op.create_table(
        "absorbed_offsets",
        sa.Column("owner_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("absorbed_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_partition", "source_partition", name=op.f("pk_absorbed_offsets")),
    )
    op.create_table(
        "catalogue",
        sa.Column("only_row", sa.Integer(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("dimension > 0", name=op.f("ck_catalogue_positive_dimension")),
        sa.CheckConstraint("only_row = 1", name=op.f("ck_catalogue_one_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_catalogue")),
    )
    op.create_table(
        "ingest_partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("consumed_offset", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("published_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_ingest_partitions")),
    )
    op.create_table(
        "neighbour_lists",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("neighbours", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("scores", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("source_partition", sa.SmallInteger(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "cardinality(neighbours) = cardinality(scores)", name=op.f("ck_neighbour_lists_same_length")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_neighbour_lists")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "tracks",
        sa.Column("track_id", sa.Text(), nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("composer", sa.Text(), nullable=True),
        sa.Column("composer_full", sa.Text(), nullable=True),
        sa.Column("opus", sa.Text(), nullable=True),
        sa.Column("movement", sa.Text(), nullable=True),
        sa.Column("movement_name", sa.Text(), nullable=True),
        sa.Column("era", sa.Text(), nullable=True),
        sa.Column("form", sa.Text(), nullable=True),
        sa.Column("key_signature", sa.Text(), nullable=True),
        sa.Column("tempo_marking", sa.Text(), nullable=True),
        sa.Column("performer_id", sa.Text(), nullable=True),
        sa.Column("performer_name", sa.Text(), nullable=True),
        sa.Column("instrument", sa.Text(), nullable=True),
        sa.Column("ensemble", sa.Text(), nullable=True),
        sa.Column("recording_date", sa.Text(), nullable=True),
        sa.Column("dataset_source", sa.Text(), nullable=True),
        sa.Column("dataset_version", sa.Text(), nullable=True),
        sa.Column("difficulty_level", sa.Text(), nullable=True),
        sa.Column("artist", sa.Text(), nullable=True),
        sa.Column("album", sa.Text(), nullable=True),
        sa.Column("year_composed", sa.Integer(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("popular_rank", sa.Float(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "extra", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column("source_partition", sa.Integer(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "search",
            postgresql.TSVECTOR(),
            sa.Computed(
                "to_tsvector('simple'::regconfig, coalesce(title, '') || ' ' || coalesce(composer, '') || ' ' || coalesce(composer_full, '') || ' ' || coalesce(opus, '') || ' ' || coalesce(movement_name, '') || ' ' || coalesce(artist, '') || ' ' || coalesce(album, '') || ' ' || coalesce(performer_name, ''))",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("track_id", name=op.f("pk_tracks")),
        sa.UniqueConstraint("key", name=op.f("uq_tracks_key")),
    )
    op.create_index(op.f("ix_tracks_composer"), "tracks", ["composer"], unique=False)
    op.create_index(op.f("ix_tracks_era"), "tracks", ["era"], unique=False)
    op.create_index(op.f("ix_tracks_form"), "tracks", ["form"], unique=False)
    op.create_index("ix_tracks_search", "tracks", ["search"], unique=False, postgresql_using="gin")
    op.create_index(
        op.f("ix_tracks_source_partition_source_offset"),
        "tracks",
        ["source_partition", "source_offset"],
        unique=False,
    )
    op.create_index("ix_tracks_tags", "tracks", ["tags"], unique=False, postgresql_using="gin")
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("track_id", sa.Text(), nullable=False),
        sa.Column("source_partition", sa.Integer(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawals")),
    )
    # Float32 noise does not compress: spend no time on trying.
    op.execute("ALTER TABLE tracks ALTER COLUMN embedding SET STORAGE EXTERNAL")
    _grant_reads()


def _grant_reads() -> None:
    """Let the API's role read what it serves. The role gets its login and password where the stack is deployed."""
    op.execute(
        """
        DO $$ BEGIN
          IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mess_api') THEN
            CREATE ROLE mess_api NOLOGIN;
          END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database's migration was quicker
        END $$
        """
    )
    op.execute("GRANT USAGE ON SCHEMA public TO mess_api")
    op.execute(f"GRANT SELECT ON {', '.join(READABLE)} TO mess_api")


def downgrade() -> None:
    op.drop_table("withdrawals")
    op.drop_index("ix_tracks_tags", table_name="tracks", postgresql_using="gin")
    op.drop_index(op.f("ix_tracks_source_partition_source_offset"), table_name="tracks")
    op.drop_index("ix_tracks_search", table_name="tracks", postgresql_using="gin")
    op.drop_index(op.f("ix_tracks_form"), table_name="tracks")
    op.drop_index(op.f("ix_tracks_era"), table_name="tracks")
    op.drop_index(op.f("ix_tracks_composer"), table_name="tracks")
    op.drop_table("tracks")
    op.drop_table("neighbour_lists")
    op.drop_table("ingest_partitions")
    op.drop_table("catalogue")
    op.drop_table("absorbed_offsets")
    op.execute(sa.schema.DropSequence(sa.Sequence("list_version")))
