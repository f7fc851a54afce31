"""Tracks from a file of many rows, which lies in memory here."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from streams.producers.embedding_rows import EmbeddingRows
from streams.producers.items import Record, RefusedRecord, TrackItem
from streams.producers.rawtables import RawTable
from streams.producers.report import SourceReport
from streams.producers.row_files import RowBatch
from streams.producers.tables import MetadataTable
from streams.producers.tracks import EmbeddingOptions

pytestmark = pytest.mark.unit

Row = tuple[str | None, Any, Mapping[str, Any]]


class Rows:
    """A file in memory, two rows a batch."""

    name = "/music/vectors.parquet"

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.count = len(rows)

    def batches(self, skip: int) -> Iterator[RowBatch]:
        for start in range(skip, self.count, 2):
            ids, arrays, facts = zip(*self._rows[start : start + 2], strict=True)
            yield RowBatch(ids, [None if a is None else np.array(a, np.float32) for a in arrays], facts)

    def shapes(self) -> Iterator[tuple[int, ...]]:
        yield from (np.shape(array) for _, array, _ in self._rows if array is not None)

    def describe(self, report: SourceReport) -> None:
        report.note("each row is a track")


def row(track_id: str | None, **facts: Any) -> Row:
    """A row with a vector."""
    return track_id, [0.6, 0.8], facts


def told(records: list[Record]) -> list[tuple[Any, ...]]:
    """Id and title of what is sent, place and reason of what is not."""
    return [
        (each.where, each.reason) if isinstance(each, RefusedRecord) else sent(each) for each in records
    ]  # fmt: skip


def sent(item: Record) -> tuple[str, str | None]:
    """Id and title of a message."""
    assert isinstance(item, TrackItem)
    assert item.value is not None
    event = json.loads(item.value)
    assert event["track_id"].encode() == item.key
    return event["track_id"], event.get("metadata", {}).get("title")


def described(rows: list[dict[str, Any]]) -> MetadataTable:
    """A table of metadata."""
    return MetadataTable(RawTable.of(rows))


def test_a_row_is_refused_alone_and_the_next_is_sent() -> None:
    """Without an id, without a vector, with zeros, of another dimension, and twice."""
    source = EmbeddingRows(
        Rows(
            [
                row("a", title="Air"),
                row(None),
                row(""),
                ("b", None, {}),
                ("c", [0.0, 0.0], {}),
                ("d", [1.0, 0.0, 0.0], {}),
                row("a", title="Jig"),
                row("e"),
            ]
        )
    )
    records = list(source.records(None))
    assert told(records) == [
        ("a", "Air"),
        ("row 2", "invalid_track_id"),
        ("row 3", "invalid_track_id"),
        ("row 4", "missing_embedding"),
        ("row 5", "zero_vector"),
        ("row 6", "wrong_dimension"),
        ("row 7", "duplicate_track_id"),
        ("e", None),
    ]
    assert [(each.position, each.done) for each in records if each] == [(n, n) for n in range(1, 9)]


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_reading_goes_on_behind_a_position(after: int) -> None:
    """Positions are those of the whole file, whatever the batches are."""
    source = EmbeddingRows(Rows([row(name) for name in "abcd"]))
    assert [each.position for each in source.records(after) if each] == list(range(after + 1, 5))
    assert source.total == 4


def test_a_table_says_more_than_the_row_and_may_name_the_track() -> None:
    """The id of its row counts; tracks without one, and rows without a track, are reported."""
    table = described(
        [{"track_id": "a", "title": "Air"}, {"track_id": "x", "title": "Nobody's"}, {"track_id": "c", "title": "Jig"}]
    )  # fmt: skip
    source = EmbeddingRows(Rows([row("a", title="of the row"), row("b", title="own"), row("c")]), table)
    assert told(list(source.records(None))) == [("a", "Air"), ("b", "own"), ("c", "Jig")]
    assert (source.report.without_row.count, source.report.unused_rows.count) == (1, 1)
    assert "each row is a track" in source.report.lines()


def test_a_run_that_is_resumed_calls_no_row_unused() -> None:
    """What came before has used some of them."""
    table = described([{"track_id": "a", "title": "Air"}])
    source = EmbeddingRows(Rows([row("a"), row("b")]), table)
    list(source.records(1))
    assert source.report.unused_rows.count == 0


def test_where_metadata_is_required_a_track_without_is_refused() -> None:
    """Rather than sent with nothing known of it."""
    table = described([{"track_id": "a", "title": "Air"}])
    options = EmbeddingOptions(require_metadata=True)
    source = EmbeddingRows(Rows([row("a"), row("b")]), table, options)
    assert told(list(source.records(None))) == [("a", "Air"), ("row 2", "no_metadata")]


def test_the_catalogues_dimension_holds_from_the_first_row_on() -> None:
    """Not that of the file's first vector."""
    source = EmbeddingRows(Rows([row("a")]), options=EmbeddingOptions(dimension=3))
    (refused,) = source.records(None)
    assert isinstance(refused, RefusedRecord)
    assert (refused.reason, refused.track_id) == ("wrong_dimension", "a")
    assert refused.detail == "embedding has 2 components; this catalogue has 3"
