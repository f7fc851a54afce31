"""What every process knows of the schema by name.

The tables are in `store.schema`, which takes SQLAlchemy to import, a good part of a process's start: only migrations and
who grants rights need them.
"""

# The Alembic revision that the tables are at; a process refuses to start on another.
REVISION = "0005"

# Typed metadata, in the order of the event contract; what a catalogue adds beyond these is in `extra`.
TEXT_FIELDS = (
    "title",
    "composer",
    "composer_full",
    "opus",
    "movement",
    "movement_name",
    "era",
    "form",
    "key_signature",
    "tempo_marking",
    "performer_id",
    "performer_name",
    "instrument",
    "ensemble",
    "recording_date",
    "dataset_source",
    "dataset_version",
    "difficulty_level",
    "artist",
    "album",
)
METADATA_FIELDS = (*TEXT_FIELDS, "year_composed", "duration_seconds", "popular_rank", "tags", "extra")
