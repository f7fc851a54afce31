"""The metadata fields of a track: the one list from which contract, store, filters and API take theirs.

A field is added here, with a migration for its column and a line in docs/metadata.md.
"""

from enum import StrEnum
from typing import Any, Final, NamedTuple


class FieldKind(StrEnum):
    """What a field holds: how it is read, stored and compared."""

    TEXT = "text"  # up to 2,000 bytes
    TERM = "term"  # text of up to 600 bytes, which indexes can hold
    UUID = "uuid"
    ISRC = "isrc"
    DATE = "date"  # YYYY, YYYY-MM or YYYY-MM-DD
    YEAR = "year"
    SECONDS = "seconds"
    NUMBER = "number"
    LIST = "list"  # of terms
    ARTISTS = "artists"  # a list of terms; text is split where credits are joined
    UUIDS = "uuids"


class MetadataField(NamedTuple):
    """A metadata field.

    Attributes:
        name: its key, its column and its filter.
        kind: what it holds.
        relaxed: filters on fields of lower numbers are given up first: what describes a track least.
        description: for the contract.
        example: for the contract.
    """

    name: str
    kind: FieldKind
    relaxed: int
    description: str
    example: Any


_K = FieldKind
METADATA: Final = (
    MetadataField("title", _K.TEXT, 130, "Title of the track", "Fugue in D minor"),
    MetadataField("composer", _K.TERM, 240, "Composer, short form: the one that is filtered on", "Bach"),
    MetadataField("composer_full", _K.TEXT, 230, "Composer in full", "Johann Sebastian Bach"),
    MetadataField("opus", _K.TERM, 120, "Opus or catalogue number", "BWV 849"),
    MetadataField("movement", _K.TERM, 110, "Movement number", "1"),
    MetadataField("movement_name", _K.TEXT, 100, "Movement name", "Prelude"),
    MetadataField("era", _K.TERM, 210, "Era", "Baroque"),
    MetadataField("form", _K.TERM, 200, "Musical form", "fugue"),
    MetadataField("key_signature", _K.TERM, 60, "Key", "C# minor"),
    MetadataField("tempo_marking", _K.TERM, 50, "Tempo marking", "Andante"),
    MetadataField("performer_id", _K.TERM, 150, "Performer's identifier in its source", "001"),
    MetadataField("performer_name", _K.TEXT, 160, "Performer", "Glenn Gould"),
    MetadataField("instrument", _K.TERM, 190, "Instrument", "piano"),
    MetadataField("ensemble", _K.TEXT, 180, "Ensemble", "string quartet"),
    MetadataField(
        "recording_date",
        _K.DATE,
        70,
        "Date of recording, ISO 8601, as precise as known: YYYY, YYYY-MM or YYYY-MM-DD. "
        "Read also from DD.MM.YYYY, YYYYMMDD, MM/DD/YYYY, `September 16, 2009`, `c. 1960` and date-times",
        "2009-09-16",
    ),
    MetadataField("year_composed", _K.YEAR, 90, "Year of composition; the first of a span", 1722),
    MetadataField(
        "duration_seconds",
        _K.SECONDS,
        80,
        "Duration in seconds; read also from m:ss, h:mm:ss, PT3M45S and 225000 ms",
        191.5,
    ),
    MetadataField("dataset_source", _K.TERM, 20, "Data set or collection", "smd"),
    MetadataField("dataset_version", _K.TERM, 10, "Version of the data set", "2.0"),
    MetadataField("tags", _K.LIST, 140, "Tags; read also from text with commas or semicolons", ["piano"]),
    MetadataField("difficulty_level", _K.TERM, 30, "Difficulty", "advanced"),
    MetadataField("popular_rank", _K.NUMBER, 40, "Popularity as the source ranks it", 12),
    MetadataField("artist", _K.TEXT, 220, "Artist as credited", "Amandine Beyer, Pierre Hantaï"),
    MetadataField(
        "artists",
        _K.ARTISTS,
        221,
        "Each artist; made of `artist` where it is absent, split at semicolons, ` / ` and `feat.`. "
        "Filters and caps on `artist` count any of them",
        ["Amandine Beyer", "Pierre Hantaï"],
    ),
    MetadataField("album", _K.TEXT, 170, "Album", "Sonatas and Partitas"),
    MetadataField(
        "musicbrainz_recording_id",
        _K.UUID,
        222,
        "MusicBrainz's id of the recording; read also from its address",
        "b1a9c0e9-d987-4042-ae91-78d6a3267d69",
    ),
    MetadataField(
        "musicbrainz_release_id",
        _K.UUID,
        171,
        "MusicBrainz's id of the release",
        "76df3287-6cda-33eb-8e9a-044b5e15ffdd",
    ),
    MetadataField(
        "musicbrainz_artist_ids",
        _K.UUIDS,
        223,
        "MusicBrainz's ids of the artists",
        ["24f1766e-9635-4d58-a4d4-9413f9f98a4c"],
    ),
    MetadataField("isrc", _K.ISRC, 224, "International Standard Recording Code", "USRC17607839"),
)

_LISTS: Final = frozenset({_K.LIST, _K.ARTISTS, _K.UUIDS})
NUMBER_FIELDS: Final = tuple(
    field.name for field in METADATA if field.kind in {_K.YEAR, _K.SECONDS, _K.NUMBER}
)
DATE_FIELDS: Final = tuple(field.name for field in METADATA if field.kind is _K.DATE)
LIST_FIELDS: Final = tuple(field.name for field in METADATA if field.kind in _LISTS)
# Stored as text, dates included.
TEXT_FIELDS: Final = tuple(
    field.name for field in METADATA if field.name not in {*NUMBER_FIELDS, *LIST_FIELDS}
)
# What filters and caps on a field read instead of it: a credit is text, who is credited a list.
COMPARED_BY: Final = {"artist": "artists"}
