"""Tables of metadata: a track's row, by its id or its file's name."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from streams.metadata_fields import METADATA
from streams.producers import maestro
from streams.producers.columns import ID_COLUMNS, PATH_COLUMNS, ColumnMap
from streams.producers.items import SourceError
from streams.producers.joining import Match, RowIndex
from streams.producers.presets import PRESETS, Facts
from streams.producers.rawtables import RawTable, read_table
from streams.producers.report import SourceReport

# Names that distinguish a JSON object of columns from an object of tracks.
KNOWN_COLUMNS: Final = frozenset(
    name.casefold()
    for names in (
        (field.name for field in METADATA),
        ID_COLUMNS,
        PATH_COLUMNS,
        *((*preset.columns, *preset.fields) for preset in PRESETS),
    )
    for name in names
)


class MetadataTable:
    """Rows of catalogue facts, found by track id or by file name.

    Args:
        table: the table as it stands in its file.
        wanted: field to column, as `--map` says.
        name: of its file, for people.

    Raises:
        SourceError: it is empty, no column says which track a row is of, or `wanted` names a column that is not there.
    """

    def __init__(
        self, table: RawTable, wanted: Mapping[str, str] | None = None, name: str = "the table"
    ) -> None:
        if not table.rows:
            raise SourceError(f"{name} has no rows")
        self.columns = ColumnMap(table.columns, wanted)
        if not self.columns.names_tracks:
            usual = ", ".join((*ID_COLUMNS, *PATH_COLUMNS))
            raise SourceError(
                f"{name} has no column that names a track: its columns are {', '.join(table.columns)}; "
                f"one of {usual} is needed, or --map track_id=COLUMN or --map path=COLUMN"
            )
        self._rows = table.rows
        self._notes = table.notes
        self._version = maestro.version_of(name)
        self.columns.learn_types(table.rows)
        self._labels: dict[int, str] = {}
        self._by_id: dict[str, int] = {}
        self._duplicates: list[str] = []
        self._index = RowIndex(self._names())

    @classmethod
    def read(
        cls, path: Path, wanted: Mapping[str, str] | None = None, *, encoding: str | None = None
    ) -> "MetadataTable":
        """Read a table: CSV of any dialect, JSON in its usual shapes, JSON lines, Parquet, Arrow.

        Raises:
            SourceError: as the class, or it cannot be read.
        """
        return cls(read_table(path, encoding=encoding, known=KNOWN_COLUMNS), wanted, path.name)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "MetadataTable":
        """Return the table of these rows."""
        return cls(RawTable.of(rows))

    def _names(self) -> Iterable[tuple[int, str]]:
        for at, row in enumerate(self._rows):
            names = self.columns.names(row)
            if not names:
                continue
            if names[0] in self._by_id:
                self._duplicates.append(names[0])
                continue
            self._by_id[names[0]] = at
            self._labels[at] = names[0]
            yield from ((at, name) for name in names)

    def match(self, paths: Sequence[str]) -> list[Match]:
        """Return the row of each path; see `RowIndex.match`."""
        return self._index.match(paths)

    def join(
        self, files: Sequence[PurePosixPath], names: Sequence[str], report: SourceReport
    ) -> dict[PurePosixPath, Match]:
        """Return each file's row by a name for each, and say in a report what the table is and what is left over."""
        self.describe(report)
        matches = dict(zip(files, self.match(names), strict=True))
        for path, match in matches.items():
            if match is None:
                report.without_row.add(path.as_posix())
        used = [match for match in matches.values() if isinstance(match, int)]
        for name in self.unused(used):
            report.unused_rows.add(name)
        return matches

    def find(self, name: str) -> Match:
        """Return the row of one track, by its id, or else by the name it has."""
        if (row := self._by_id.get(name)) is not None:
            return row
        return self._index.find(name)

    def facts(self, row: int) -> Facts:
        """Return a row's facts, and `track_id` if it has one."""
        facts = self.columns.facts(self._rows[row])
        if self._version is not None and "dataset_source" in facts:
            facts.setdefault("dataset_version", self._version)
        if (track_id := self.columns.track_id(self._rows[row])) is not None:
            facts["track_id"] = track_id
        return facts

    def describe(self, report: SourceReport) -> None:
        """Say in a report what the table is, and which rows repeat others."""
        report.rows = len(self._rows)
        report.notes += self._notes
        if self.columns.preset is not None:
            report.note(f"the table was read as {self.columns.preset.name}'s")
        report.columns = dict(self.columns.fields)
        report.extra_columns = list(self.columns.extra)
        for name in self._duplicates:
            report.duplicates.add(name)

    def unused(self, used: Iterable[int]) -> Iterable[str]:
        """Yield the names of rows that are not among `used`."""
        held = set(used)
        return (name for row, name in self._labels.items() if row not in held)
