"""The schema's revision and the names of the metadata columns.

The tables are in `store.schema`. Importing it imports SQLAlchemy, which slows a start; only migrations and grants need it.
"""

from streams.metadata_fields import METADATA

# The Alembic revision of the tables; a process refuses to start on another.
REVISION = "0019"

# Columns of metadata, in the order of the event contract. Further keys are in `extra`.
METADATA_FIELDS = (*(field.name for field in METADATA), "extra")
