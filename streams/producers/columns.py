"""Maps the columns of a table to metadata fields."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streams.contracts.cleaning import is_missing
from streams.metadata_fields import LIST_FIELDS, METADATA
from streams.producers.items import SourceError
from streams.producers.presets import Facts, Preset, joined_values, preset_of

# Columns with the id or file of a track, in order of precedence.
ID_COLUMNS: Final = ("track_id", "id")
PATH_COLUMNS: Final = (
    "filename",
    "file",
    "path",
    "file_name",
    "filepath",
    "file_path",
    "audio_filename",
    "midi_filename",
)
_FIELDS: Final = frozenset(field.name for field in METADATA)
# What --map may name beside a field.
_TRACK_ID, _PATH = "track_id", "path"
_EXTRA: Final = "extra."
_FLOAT_TYPED: Final = re.compile(r"\d+\.0", re.ASCII)
# The column of a data frame's index in a written table.
_INDEX: Final = re.compile(r"(?:unnamed(?:[:_ ]*\d+)?|index|level_0|__index_level_\d+__)", re.IGNORECASE)

# A length in such a column is in milliseconds, whatever field it is mapped to.
_DURATION: Final = "duration_seconds"
_MILLISECONDS: Final = re.compile(r".*_(?:ms|msec|millis|milliseconds)")


def parse_map(texts: Iterable[str]) -> dict[str, str]:
    """Return column by field of `--map field=column` options.

    Raises:
        ValueError: it is not of that form, or names no field.
    """
    wanted: dict[str, str] = {}
    for text in texts:
        field, equals, column = text.partition("=")
        field = field.strip()
        if not equals or not column.strip():
            raise ValueError(f"--map {text}: must be field=column")
        if field not in {*_FIELDS, _TRACK_ID, _PATH} and not (
            field.startswith(_EXTRA) and len(field) > len(_EXTRA)
        ):
            raise ValueError(
                f"--map {text}: {field!r} is no metadata field; others are named extra.<key>, and track_id and path "
                "say which track and which file a row is of"
            )
        wanted[field] = column.strip()
    return wanted


def plain_name(name: str) -> str:
    """Return a column's name as the contract spells names."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


class ColumnMap:
    """What the columns of a table become.

    Args:
        columns: their names.
        wanted: field to column, as `--map` says.

    Attributes:
        preset: the well-known table that this is, or None.
        fields: column to field, of those that become fields.
        extra: columns that become keys of `extra`.

    Raises:
        SourceError: `wanted` names a column that is not there.
    """

    def __init__(self, columns: Sequence[str], wanted: Mapping[str, str] | None = None) -> None:
        wanted = wanted or {}
        if missing := [column for column in wanted.values() if column not in columns]:
            raise SourceError(f"--map: there is no column {missing[0]!r}; there are {', '.join(columns)}")
        self.preset: Preset | None = preset_of(columns)
        # A copy of a well-known table may name its tracks in a way of its own.
        preset = self.preset if self.preset and {*self.preset.ids, *self.preset.paths} & {*columns} else None
        self._ids = self._naming(columns, wanted.get(_TRACK_ID), preset and preset.ids, ID_COLUMNS)
        self._paths = self._naming(columns, wanted.get(_PATH), preset and preset.paths, PATH_COLUMNS)
        self.fields = self._fields(columns, {column: field for field, column in wanted.items()})
        left_out = self.preset.left_out if self.preset else frozenset()
        self.extra = [
            column
            for column in columns
            if column not in self.fields
            and column not in left_out
            and column not in self._ids
            and not _INDEX.fullmatch(column)
        ]
        self._float_typed: set[str] = set()

    @staticmethod
    def _naming(
        columns: Sequence[str], wanted: str | None, preset: tuple[str, ...] | None, usual: tuple[str, ...]
    ) -> list[str]:
        if wanted is not None:
            return [wanted]
        if preset:
            return [column for column in preset if column in columns]
        by_name = {plain_name(column): column for column in reversed(columns)}
        return [by_name[name] for name in usual if name in by_name]

    def _fields(self, columns: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
        fields: dict[str, str] = {}
        for column in columns:
            field = wanted.get(column) or (self.preset.fields.get(column) if self.preset else None)
            if field is None and (plain := plain_name(column)) in _FIELDS:
                # What was mapped on purpose is not overruled by a column of the field's own name.
                field = None if plain in wanted.values() else plain
            elif field is None and plain == "duration_ms" and _DURATION not in wanted.values():
                field = _DURATION
            if field is not None and field not in (_TRACK_ID, _PATH):
                fields[column] = field
        if self.preset:
            fields = {column: field for column, field in fields.items() if column not in self.preset.left_out}
        return fields

    @property
    def names_tracks(self) -> bool:
        """Whether a column says which track or file a row is of."""
        return bool(self._ids or self._paths)

    def learn_types(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """See which id columns are whole numbers that became floats, as a column with gaps does."""
        values = {column: [] for column in self._ids}  # type: dict[str, list[str]]
        for row in rows:
            for column in self._ids:
                if not is_missing(value := row.get(column)):
                    values[column].append(str(value).strip())
        self._float_typed = {
            column for column, held in values.items() if held and all(map(_FLOAT_TYPED.fullmatch, held))
        }

    def track_id(self, row: Mapping[str, Any]) -> str | None:
        """Return the id that a row gives its track, or None."""
        for column in self._ids:
            if not is_missing(value := row.get(column)):
                text = (
                    str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
                )
                return text.removesuffix(".0") if column in self._float_typed else text
        return None

    def names(self, row: Mapping[str, Any]) -> list[str]:
        """Return all that a row calls its track: its id, then its files."""
        track_id = self.track_id(row)
        paths = [str(row[column]).strip() for column in self._paths if not is_missing(row.get(column))]
        return list(dict.fromkeys([*([track_id] if track_id else []), *paths]))

    def facts(self, row: Mapping[str, Any]) -> Facts:
        """Return a row as metadata."""
        facts: Facts = {column: row.get(column) for column in self.extra}
        by_field: dict[str, list[Any]] = {}
        for column, field in self.fields.items():
            by_field.setdefault(field, []).append(_with_unit(column, field, row.get(column)))
        for field, values in by_field.items():
            present = [value for value in values if not is_missing(value)]
            value = joined_values(values) if field in LIST_FIELDS else (present[0] if present else None)
            facts[field.removeprefix(_EXTRA)] = value
        if self.preset and self.preset.more:
            self.preset.more(row, facts)
        return {name: value for name, value in facts.items() if not is_missing(value)}


def _with_unit(column: str, field: str, value: Any) -> Any:
    if field != _DURATION or is_missing(value) or not _MILLISECONDS.fullmatch(plain_name(column)):
        return value
    return f"{value} ms"
