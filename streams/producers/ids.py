"""Lists of track ids that belong to the rows of an array."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from streams.producers.arrays import ArrayFile, texts_of_array
from streams.producers.compressed import kind_of, read_bytes
from streams.producers.items import SourceError
from streams.producers.rawtables import read_table
from streams.producers.tables import KNOWN_COLUMNS, MetadataTable

_SIDECARS: Final = (
    "{}.ids.txt", "{}_ids.txt", "{}.ids.json", "{}_ids.json", "{}.ids.npy", "{}_ids.npy", "{}.ids.csv", "{}_ids.csv",
    "{}.txt", "{}.json", "{}.csv", "{}.tsv", "{}.parquet",
)  # fmt: skip

Ids = tuple[Sequence[str], Sequence[Mapping[str, Any]] | None, MetadataTable | None]


def sidecar_of(path: Path) -> Path | None:
    """Return the file of ids beside an array.

    Raises:
        SourceError: there are several.
    """
    found = [
        beside
        for name in _SIDECARS
        if (beside := path.with_name(name.format(path.stem))) != path and beside.is_file()
    ]
    if len(found) > 1:
        raise SourceError(f"{found[0].name} and {found[1].name} stand beside {path}: say which with --ids")
    return found[0] if found else None


def read_ids(path: Path, wanted: Mapping[str, str] | None = None) -> Ids:
    """Return one id a row; of a table also each row's facts, and the table.

    Args:
        path: text with an id a line, a JSON list, a `.npy` of text or whole numbers, or a table with a row a track.
        wanted: field to column of a table.

    Raises:
        SourceError: it cannot be read.
    """
    kind = kind_of(path)
    if kind == ".npy":
        return texts_of_array(ArrayFile(path).read()), None, None
    if kind in (".txt", ""):
        try:
            lines = read_bytes(path).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as exc:
            raise SourceError(f"{path} is not UTF-8 at byte {exc.start}") from exc
        return [line.strip() for line in lines if line.strip()], None, None
    if kind == ".json":
        try:
            loaded = orjson.loads(read_bytes(path))
        except orjson.JSONDecodeError as exc:
            raise SourceError(f"{path} is not JSON: {exc}") from exc
        if isinstance(loaded, list) and all(isinstance(item, str | int) for item in loaded):
            return [str(item) for item in loaded], None, None
    raw = read_table(path, known=KNOWN_COLUMNS)
    table = MetadataTable(raw, wanted, path.name)
    named = [table.columns.names(row) for row in raw.rows]
    if empty := [at for at, names in enumerate(named, start=1) if not names]:
        raise SourceError(f"{path}: row {empty[0]} names no track")
    return [names[0] for names in named], [table.columns.facts(row) for row in raw.rows], table
