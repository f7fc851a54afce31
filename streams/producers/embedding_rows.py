"""Tracks from a file that holds many: arrays with ids, and columnar files whose rows are tracks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from streams.contracts import InvalidEvent, Reason
from streams.producers.items import Position, Record, RefusedRecord, TrackItem
from streams.producers.report import SourceReport
from streams.producers.row_files import RowFile
from streams.producers.tables import MetadataTable
from streams.producers.tracks import (
    DUPLICATE,
    EmbeddingOptions,
    TrackEncoder,
    TrackRefusedError,
    refused_track,
    row_facts,
    vector_of,
)


class EmbeddingRows:
    """Tracks from a file that holds many.

    Args:
        file: what yields its rows.
        table: metadata of the tracks, if it is in another file.
        options: how embeddings are read and sent.
    """

    def __init__(
        self, file: RowFile, table: MetadataTable | None = None, options: EmbeddingOptions | None = None
    ) -> None:
        self.name = file.name
        self.total: int | None = file.count
        self.report = SourceReport()
        self._file = file
        self._table = table
        self._options = options or EmbeddingOptions()
        self._encoder = TrackEncoder(self.report, self._options)
        self._axes = self._options.reader()
        self._used: set[int] = set()
        file.describe(self.report)
        if table is not None:
            table.describe(self.report)

    def fingerprint(self) -> dict[str, Any]:
        """Return the file's name and the pooling."""
        return {"kind": "rows", "name": Path(self.name).name, "pool": str(self._options.pooling)}

    def records(self, after: Position | None) -> Iterator[Record]:
        """Yield a record for every row; positions count rows from 1."""
        skip = after if isinstance(after, int) else 0
        self._axes.learn(self._file.shapes())
        seen: set[int] = set()
        position = skip
        for batch in self._file.batches(skip):
            for track_id, array, facts in zip(batch.ids, batch.arrays, batch.facts, strict=True):
                position += 1
                yield self._record(track_id, array, facts, position, seen)
        for note in self._axes.notes():
            self.report.note(note)
        if self._table is not None and not skip:
            for name in self._table.unused(self._used):
                self.report.unused_rows.add(name)

    def _record(
        self,
        track_id: str | None,
        array: npt.NDArray[Any] | None,
        facts: Mapping[str, Any],
        position: int,
        seen: set[int],
    ) -> TrackItem | RefusedRecord:
        try:
            track_id, facts = self._named(track_id, facts, seen)
            vector = vector_of(array, self._axes, self._options.pooling)
            return self._encoder.encode(track_id, vector, facts, position, position)
        except TrackRefusedError as exc:
            return RefusedRecord(f"row {position}", exc.reason, exc.detail, track_id, position, position)
        except InvalidEvent as exc:
            return refused_track(exc, f"row {position}", track_id, position, position)

    def _named(
        self, track_id: str | None, facts: Mapping[str, Any], seen: set[int]
    ) -> tuple[str, Mapping[str, Any]]:
        """Return a row's track id and facts, the table's among them."""
        if not track_id:
            raise TrackRefusedError(Reason.INVALID_TRACK_ID, "the row has no track id")
        # Ids are remembered by their hashes: a million take 60 MB so, and thrice that as text.
        if (known := hash(track_id)) in seen:
            raise TrackRefusedError(DUPLICATE, "an earlier row has the same track id")
        seen.add(known)
        if self._table is None:
            return track_id, facts
        match = self._table.find(track_id)
        if match is None:
            self.report.without_row.add(track_id)
        of_table = row_facts(self._table, match, required=self._options.require_metadata)
        if isinstance(match, int):
            self._used.add(match)
        facts = {**facts, **of_table}
        return str(facts.pop("track_id", track_id)), facts
