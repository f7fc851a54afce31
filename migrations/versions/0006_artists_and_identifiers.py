"""Each artist of a track, MusicBrainz's ids, and the ISRC.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXTS = ("musicbrainz_recording_id", "musicbrainz_release_id", "isrc")
LISTS = ("artists", "musicbrainz_artist_ids")


def upgrade() -> None:
    # Kept answers hold metadata without these fields: they are made again when they are asked for.
    op.execute(sa.text("TRUNCATE materialised_recommendations"))
    for name in TEXTS:
        op.add_column("tracks", sa.Column(name, sa.Text(), nullable=True))
    for name in LISTS:
        op.add_column(
            "tracks",
            sa.Column(name, postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        )
    # Filters and caps by artist read `artists`: what is stored has at least the credit as it stands.
    op.execute(sa.text("UPDATE tracks SET artists = ARRAY[artist] WHERE artist IS NOT NULL"))


def downgrade() -> None:
    for name in (*LISTS, *TEXTS):
        op.drop_column("tracks", name)
