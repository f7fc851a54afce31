"""Metadata of a track of which nothing is known, as the store has it."""

from typing import Any

from store.columns import METADATA_FIELDS
from streams.metadata_fields import LIST_FIELDS

# The fields that are never null.
ABSENT: dict[str, Any] = {**{name: [] for name in LIST_FIELDS}, "extra": {}}
NOTHING_KNOWN: dict[str, Any] = {**dict.fromkeys(METADATA_FIELDS), **ABSENT}
