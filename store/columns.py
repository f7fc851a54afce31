"""What every process knows of the schema by name.

The tables are in `store.schema`, which takes SQLAlchemy to import, a good part of a process's start: only migrations and
who grants rights need them.
"""

from streams.metadata_fields import METADATA

# The Alembic revision that the tables are at; a process refuses to start on another.
REVISION = "0011"

# Columns of metadata, in the order of the event contract; what a catalogue adds beyond these is in `extra`.
METADATA_FIELDS = (*(field.name for field in METADATA), "extra")
