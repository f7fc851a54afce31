"""The MAESTRO data set's metadata table.

Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset",
ICLR 2019. One row a recording: canonical_composer, canonical_title, split, year, midi_filename,
audio_filename, duration.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from streams.producers.composers import by_full_name

DATASET: Final = "maestro"
COLUMNS: Final = frozenset({"canonical_composer", "canonical_title"})
_VERSION: Final = re.compile(r"maestro-v(\d+(?:\.\d+)*)", re.IGNORECASE)
_OPUS: Final = re.compile(r"\b(?:Op\.?|BWV|K\.?|KV|D\.?|Hob\.?|L\.?|S\.?)\s?\d+[a-z]?(?:[,]?\s?No\.?\s?\d+)?")


def version_of(file_name: str) -> str | None:
    """Return the version in a table's own file name: `3.0.0` of `maestro-v3.0.0.csv`."""
    found = _VERSION.search(file_name)
    return found[1] if found else None


def read_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as track metadata.

    `year` is the year of the performance, not of the work. A transcription names two composers
    (`Franz Schubert / Franz Liszt`); the first counts.
    """
    full = str(row.get("canonical_composer") or "").strip()
    first = full.split("/")[0].strip()
    known = by_full_name(first)
    title = str(row.get("canonical_title") or "").strip()
    opus = _OPUS.search(title)
    metadata: dict[str, Any] = {
        "title": title,
        "composer": first.split()[-1] if first else None,
        "composer_full": full,
        "era": known.era if known else None,
        "opus": opus[0] if opus else None,
        "recording_date": row.get("year"),
        "duration_seconds": row.get("duration"),
        "instrument": "piano",
        "dataset_source": DATASET,
    }
    return {name: value for name, value in metadata.items() if value is not None}
