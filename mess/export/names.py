"""What can be exported, and how: known before anything heavy is imported."""

from enum import StrEnum


class ExportKind(StrEnum):
    """What can be exported."""

    LISTS = "lists"
    TRACKS = "tracks"
    POPULARITY = "popularity"


class ExportFormat(StrEnum):
    """How an export is written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    NPZ = "npz"
