"""Search by folded words, and the words that typos are corrected to.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from store.search_text import deletion_variants, is_correctable, search_document, weighted_words

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PAGE = 5_000
_BEFORE = (
    "title",
    "composer",
    "composer_full",
    "opus",
    "movement_name",
    "artist",
    "album",
    "performer_name",
)


_NOW = (
    *_BEFORE,
    "artists",
    "movement",
    "form",
    "era",
    "key_signature",
    "tempo_marking",
    "instrument",
    "ensemble",
    "tags",
)


def upgrade() -> None:
    op.create_table(
        "search_words",
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("deletions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("word", name=op.f("pk_search_words")),
    )
    op.drop_index("ix_tracks_search", table_name="tracks")
    op.drop_column("tracks", "search")
    op.add_column(
        "tracks",
        sa.Column("search", postgresql.TSVECTOR(), server_default=sa.text("''"), nullable=False),
    )
    _fill(op.get_bind())
    op.create_index("ix_tracks_search", "tracks", ["search"], unique=False, postgresql_using="gin")
    op.create_index(
        "ix_search_words_deletions", "search_words", ["deletions"], unique=False, postgresql_using="gin"
    )
    op.execute("GRANT SELECT ON search_words TO mess_api")


def _fill(connection: sa.Connection) -> None:
    """Fold the words of the tracks that are there, page by page."""
    names = ", ".join(_NOW)
    page = sa.text(
        f"SELECT track_id, {names} FROM tracks WHERE track_id > :after ORDER BY track_id LIMIT {PAGE}"  # noqa: S608
    )
    write = sa.text("UPDATE tracks SET search = CAST(:words AS tsvector) WHERE track_id = :track_id")
    learn = sa.text(
        "INSERT INTO search_words (word, deletions) VALUES (:word, :deletions) ON CONFLICT DO NOTHING"
    )
    after, known = "", set[str]()
    while rows := connection.execute(page, {"after": after}).all():
        found = {row[0]: weighted_words(row[0], dict(zip(_NOW, row[1:], strict=True))) for row in rows}
        connection.execute(
            write, [{"track_id": each, "words": search_document(words)} for each, words in found.items()]
        )
        new = {word for words in found.values() for word in words if is_correctable(word)} - known
        if new:
            connection.execute(
                learn, [{"word": word, "deletions": deletion_variants(word)} for word in sorted(new)]
            )
        known |= new
        after = rows[-1][0]


def downgrade() -> None:
    op.drop_index("ix_tracks_search", table_name="tracks")
    op.drop_column("tracks", "search")
    searched = " || ' ' || ".join(f"coalesce({name}, '')" for name in _BEFORE)
    op.add_column(
        "tracks",
        sa.Column(
            "search",
            postgresql.TSVECTOR(),
            sa.Computed(f"to_tsvector('simple'::regconfig, {searched})", persisted=True),
            nullable=True,
        ),
    )
    op.create_index("ix_tracks_search", "tracks", ["search"], unique=False, postgresql_using="gin")
    op.drop_index("ix_search_words_deletions", table_name="search_words")
    op.drop_table("search_words")
