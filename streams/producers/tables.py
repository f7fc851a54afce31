"""Metadata tables, CSV or JSON, and finding a feature file's row in them."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from streams.contracts.metadata import TrackMetadata
from streams.producers import maestro
from streams.producers.items import SourceError

# Columns that say which recording a row is of, in the order in which they are believed.
_ID_COLUMNS: Final = ("track_id", "id")
_FILE_COLUMNS: Final = ("filename", "file", "audio_filename", "midi_filename", "path")
_EXTENSIONS: Final = re.compile(r"\.(?:npy|wav|mp3|flac|ogg|m4a|aiff?|midi?)$", re.IGNORECASE)
_FIELDS: Final = frozenset(TrackMetadata.model_fields) | {*_ID_COLUMNS, *_FILE_COLUMNS}


class MetadataTable:
    """Rows of catalogue facts, found by track id or by file name.

    Attributes:
        rows: how many rows it holds.
        duplicates: keys that several rows claim; the first row has them.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], *, version: str | None = None) -> None:
        self.rows = 0
        self.duplicates: list[str] = []
        self._by_key: dict[str, dict[str, Any]] = {}
        for row in rows:
            self.rows += 1
            known = {_field(name): value for name, value in row.items()}
            facts = maestro.read_row(known, version) if maestro.is_maestro(known) else known
            keys = list(dict.fromkeys(_keys(known)))
            if keys and keys[0] in self._by_key:
                self.duplicates.append(keys[0])
            for key in keys:
                self._by_key.setdefault(key, facts)

    @classmethod
    def read(cls, path: Path) -> "MetadataTable":
        """Read a table.

        CSV needs a header; commas, semicolons or tabs part its columns. JSON is a list of objects, an
        object of them by track id, an object with such a list under `tracks`, or an object of columns.

        Raises:
            SourceError: it cannot be read, or no column says which track a row is of.
        """
        try:
            raw = path.read_bytes()
            rows = (
                _json_rows(raw) if path.suffix.casefold() == ".json" else _csv_rows(raw.decode("utf-8-sig"))
            )
        except OSError as exc:
            raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise SourceError(f"{path} is not UTF-8 at byte {exc.start}") from exc
        except (orjson.JSONDecodeError, csv.Error, _NotATableError) as exc:
            raise SourceError(f"{path} cannot be read as a table: {exc}") from exc
        table = cls(rows, version=maestro.version_of(path.name))
        if table.rows and not table._by_key:
            wanted = ", ".join((*_ID_COLUMNS, *_FILE_COLUMNS))
            raise SourceError(f"{path} has no column that names a track; one of {wanted} is needed")
        return table

    def find(self, stem: str) -> dict[str, Any] | None:
        """Return the row of a feature file, by its name without folder and extension."""
        for key in (stem, stem.removesuffix("-SMD"), stem.removeprefix("maestro_")):
            if (row := self._by_key.get(key)) is not None:
                return row
        return None


class _NotATableError(ValueError):
    pass


def _field(name: object) -> str:
    """Return a column's name as the contract spells it, if it is one of its keys."""
    plain = re.sub(r"[\s-]+", "_", str(name).strip()).casefold()
    return plain if plain in _FIELDS or plain.startswith("canonical_") else str(name).strip()


def _keys(row: Mapping[str, Any]) -> Iterable[str]:
    for column in _ID_COLUMNS:
        if row.get(column) not in (None, ""):
            yield str(row[column]).strip()
    for column in _FILE_COLUMNS:
        if row.get(column) not in (None, ""):
            yield _EXTENSIONS.sub("", re.split(r"[\\/]", str(row[column]).strip())[-1])


def _csv_rows(text: str) -> list[dict[str, Any]]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    for row in reader:
        if None in row:
            raise _NotATableError(f"line {reader.line_num} has more columns than the header")
        rows.append(row)
    return rows


def _json_rows(raw: bytes) -> list[dict[str, Any]]:
    loaded = orjson.loads(raw)
    if isinstance(loaded, dict) and isinstance(loaded.get("tracks"), list | dict):
        loaded = loaded["tracks"]
    if isinstance(loaded, dict) and loaded.keys() >= {"canonical_composer", "canonical_title"}:
        # A data frame dumped by columns: {column: {row: value}}.
        indices = loaded["canonical_title"]
        loaded = [{column: cells.get(at) for column, cells in loaded.items()} for at in indices]
    elif isinstance(loaded, dict):
        loaded = [{"track_id": key, **row} if isinstance(row, dict) else row for key, row in loaded.items()]
    if not isinstance(loaded, list):
        raise _NotATableError("it holds neither a list nor an object of tracks")
    for at, row in enumerate(loaded):
        if not isinstance(row, dict):
            raise _NotATableError(f"entry {at + 1} is not an object")
    return loaded
