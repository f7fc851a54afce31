"""Tracks whose metadata change, and their vectors do not."""

import numpy as np
import pytest

from streams.engine.search.metadata import MetadataRow
from streams.engine.search.rows import TrackRows

pytestmark = pytest.mark.unit

KEYS = np.arange(4, dtype=np.int64)


def described(rows: TrackRows, keys: list[int]) -> list[MetadataRow]:
    """What is known of tracks."""
    return [
        tuple(rows.metadata.row(row).values())
        for row in rows.rows_of(np.array(keys, dtype=np.int64)).tolist()
    ]


@pytest.fixture
def rows() -> TrackRows:
    """Four tracks of two composers, the first two in an index, one of them withdrawn."""
    made = TrackRows(2, ("composer", "year"))
    metadata: list[MetadataRow] = [("Bach", 1720), ("Bach", None), ("Haydn", 1790), (None, True)]
    made.put(KEYS[:2], ["a", "b"], np.eye(2, dtype=np.float32), metadata[:2], np.array([7, 8]))
    made.fix()
    made.put(KEYS[2:], ["c", "d"], np.eye(2, dtype=np.float32), metadata[2:], np.array([9, 10]))
    made.drop(KEYS[1:2])
    return made


def test_only_tracks_that_had_other_metadata_are_told_of(rows: TrackRows) -> None:
    """Rows of an index are described in place; a track that is not there stays away; 1 is not True."""
    vectors, used = rows.vectors.copy(), rows.used
    given: list[MetadataRow] = [("Bach", 1721), ("Bach", 1), ("Haydn", 1790), (None, 1), ("Verdi", None)]
    changed = rows.describe(np.array([0, 1, 2, 3, 99]), given)
    assert sorted(changed.tolist()) == [0, 3]
    assert described(rows, [0, 2, 3]) == [("Bach", 1721), ("Haydn", 1790), (None, 1)]
    assert rows.rows_of(np.array([1, 99])).tolist() == [-1, -1]
    assert rows.used == used
    assert np.array_equal(rows.vectors, vectors)
    assert rows.offsets[rows.rows_of(KEYS[[0, 2, 3]])].tolist() == [7, 9, 10]
    assert rows.describe(np.array([0, 1, 2, 3, 99]), given).tolist() == []


def test_values_that_nobody_has_any_more_are_given_up(
    rows: TrackRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a track is described, memory is bounded."""
    monkeypatch.setattr("streams.engine.search.metadata._GIVEN_UP", 10)
    for year in range(100):
        assert rows.describe(KEYS[:1], [("Bach", year)]).tolist() == [0]
    assert len(rows.metadata["year"].values) < 20
    assert described(rows, [0, 2]) == [("Bach", 99), ("Haydn", 1790)]


def test_metadata_of_other_fields_are_refused(rows: TrackRows) -> None:
    """Nothing is changed then."""
    with pytest.raises(ValueError, match="2 fields"):
        rows.describe(KEYS[:1], [("Bach",)])
    assert described(rows, [0]) == [("Bach", 1720)]
