"""Reads tables without interpretation: CSV of any dialect, JSON in its usual shapes, Parquet and Arrow.

Cells of CSV stay text, so that no reader's idea of types loses a leading zero. docs/decisions/tables.md says why the
standard library reads them, and pyarrow Parquet and Arrow.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import orjson

from streams.producers.compressed import kind_of, read_bytes
from streams.producers.extras import import_extra
from streams.producers.items import SourceError

Row = dict[str, Any]
CSV_KINDS: Final = frozenset({".csv", ".tsv", ".tab", ".txt"})
COLUMNAR_KINDS: Final = frozenset({".parquet", ".pq", ".feather", ".arrow", ".ipc"})
LINES_KINDS: Final = frozenset({".jsonl", ".ndjson"})
_DELIMITERS: Final = ",;\t|"
_SAMPLE: Final = 64 * 1024
# A last column of several cells, as the tags in MTG-Jamendo's tables: they are joined with the delimiter.
GOES_ON: Final = "\t"


class RawTable:
    """A table as it stands in its file.

    Attributes:
        columns: their names, in order.
        rows: a dict each.
        notes: how it was read where that was not given.
    """

    def __init__(self, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
        self.columns = list(columns)
        self.rows = rows
        self.notes = list(notes)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "RawTable":
        """Return the table of these rows."""
        return cls(
            list(dict.fromkeys(str(name) for row in rows for name in row)), [dict(row) for row in rows]
        )


class _NotATableError(ValueError):
    pass


def read_table(path: Path, *, encoding: str | None = None, known: frozenset[str] = frozenset()) -> RawTable:
    """Read a whole table.

    Args:
        path: the file; `.gz` and `.zst` are decompressed.
        encoding: of CSV; None: UTF-8 or UTF-16 by its byte order mark, else UTF-8, else Windows-1252.
        known: names that columns may have, to tell a table by columns from one by tracks.

    Raises:
        SourceError: it cannot be read as a table.
    """
    kind = kind_of(path)
    try:
        if kind in COLUMNAR_KINDS:
            return _columnar(path, kind)
        raw = read_bytes(path)
        if kind == ".json":
            return RawTable.of(_json_rows(orjson.loads(raw), known))
        if kind in LINES_KINDS:
            return RawTable.of(_records([orjson.loads(line) for line in raw.splitlines() if line.strip()]))
        text, notes = _decoded(raw, encoding)
        table = _csv_table(text)
        return RawTable(
            table.columns, table.rows, [f"{path.name}: {note}" for note in (*notes, *table.notes)]
        )
    except (UnicodeError, LookupError) as exc:
        raise SourceError(f"{path} cannot be read as text: {exc}") from exc
    except (ValueError, csv.Error) as exc:  # of JSON and this module
        raise SourceError(f"{path} cannot be read as a table: {exc}") from exc


def _columnar(path: Path, kind: str) -> RawTable:
    pyarrow = import_extra("pyarrow", f"{kind} files")
    try:
        if kind in (".parquet", ".pq"):
            table = import_extra("pyarrow.parquet", f"{kind} files").read_table(path)
        else:
            table = import_extra("pyarrow.feather", f"{kind} files").read_table(path)
    except (OSError, pyarrow.ArrowException) as exc:
        raise SourceError(f"{path} cannot be read as a table: {exc}") from exc
    return RawTable(table.column_names, table.to_pylist())


def _decoded(raw: bytes, encoding: str | None) -> tuple[str, list[str]]:
    if encoding is not None:
        return raw.decode(encoding).removeprefix("\ufeff"), []
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16"), ["read as UTF-16"]
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as exc:
        # Every byte that Western spreadsheets write means something in it, but for five.
        note = f"not UTF-8 at byte {exc.start}, read as Windows-1252 (--table-encoding says otherwise)"
        return raw.decode("cp1252"), [note]


def _csv_table(text: str) -> RawTable:
    text, delimiter, quote = _dialect(text)
    # Strict, or a quote that is never closed swallows the rest of the file.
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)
    held = [cells for cells in lines if cells]
    if not held:
        return RawTable([], [])
    names, header = _header(held[:3])
    rows: list[Row] = []
    for cells in held[header:]:
        if len(cells) > len(names):
            cells = _shortened(cells, names)  # noqa: PLW2901 - the row as it is meant
        rows.append(dict(zip_longest(names, cells)))
    return RawTable(names, rows)


def _dialect(text: str) -> tuple[str, str, str]:
    """Return the text without its `sep=` line, the delimiter and the quote."""
    first, _, rest = text.partition("\n")
    if first.strip().strip('"').casefold().startswith("sep=") and len(first.strip().strip('"')) == 5:
        return rest, first.strip().strip('"')[-1], '"'
    if first.strip().casefold() == "sep=":
        return rest, "\t", '"'
    try:
        found = csv.Sniffer().sniff(text[:_SAMPLE], delimiters=_DELIMITERS)
    except csv.Error:
        # A single column, or rows of different lengths: what the header has most of.
        return text, max(_DELIMITERS, key=first.count), '"'
    # The sniffer counts in all lines; a header without the delimiter is none of its.
    delimiter = found.delimiter if found.delimiter in first else max(_DELIMITERS, key=first.count)
    return text, delimiter, found.quotechar or '"'


def _header(head: list[list[str]]) -> tuple[list[str], int]:
    """Return the columns' names, and how many lines they take.

    pandas writes columns of two levels as two lines, and the name of the index on a third.
    """
    first = [name.strip() for name in head[0]]
    levels = len(head) > 2 and not head[0][0] and not head[1][0] and head[2][0] and not any(head[2][1:])
    if levels:
        joined = [
            f"{one.strip()}.{two.strip()}".strip(".") for one, two in zip(head[0], head[1], strict=True)
        ]
        return _distinct([head[2][0].strip(), *joined[1:]]), 3
    return _distinct(first), 1


def _distinct(names: list[str]) -> list[str]:
    taken: set[str] = set()
    for at, name in enumerate(names):
        unique, number = name or f"unnamed_{at}", 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique)
        names[at] = unique
    return names


def _shortened(cells: list[str], names: list[str]) -> list[str]:
    """Return a row that is longer than the header: its last column goes on, or its last cells are empty."""
    last = len(names) - 1
    if not any(cells[last + 1 :]):
        return cells[: last + 1]
    if "tag" not in names[-1].casefold():
        raise _NotATableError(
            f"the row that begins with {cells[0]!r} has {len(cells)} columns, more columns than the header's {len(names)}"
        )
    return [*cells[:last], GOES_ON.join(cells[last:])]


def _json_rows(loaded: Any, known: frozenset[str]) -> list[Row]:
    """Return the rows of a table in any of pandas' shapes, of one track, or of an object of tracks."""
    if isinstance(loaded, dict) and isinstance(loaded.get("tracks"), list | dict):
        loaded = loaded["tracks"]
    if (
        isinstance(loaded, dict)
        and isinstance(loaded.get("data"), list)
        and (isinstance(loaded.get("columns"), list) or isinstance(loaded.get("schema"), dict))
    ):
        names = loaded.get("columns")
        rows = loaded["data"]
        return _records([dict(zip(names, row, strict=False)) for row in rows] if names else rows)
    if isinstance(loaded, dict):
        return _of_object(loaded, known)
    if not isinstance(loaded, list):
        raise _NotATableError("it holds neither a list nor an object of tracks")
    return _records(loaded)


def _of_object(loaded: Mapping[str, Any], known: frozenset[str]) -> list[Row]:
    values = list(loaded.values())
    named = {name.casefold() for name in loaded} & known
    if values and all(isinstance(value, dict) for value in values) and not named:
        return [{"track_id": key, **row} for key, row in loaded.items()]
    if values and named and all(isinstance(value, dict) for value in values):
        keys = list(dict.fromkeys(key for cells in values for key in cells))
        return [{name: cells.get(key) for name, cells in loaded.items()} for key in keys]
    lengths = {len(value) for value in values if isinstance(value, list)}
    if values and all(isinstance(value, list) for value in values) and len(lengths) == 1:
        return [dict(zip(loaded, cells, strict=True)) for cells in zip(*values, strict=True)]
    if named:
        return [dict(loaded)]
    raise _NotATableError("it holds neither a list nor an object of tracks, and no column that is known")


def _records(rows: list[Any]) -> list[Row]:
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _NotATableError(f"entry {at + 1} is not an object")
    return rows
