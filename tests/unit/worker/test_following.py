"""What a follower makes of a stretch of the store."""

import numpy as np
import pytest

from store.rows import TrackVectors
from store.tail import CommittedTail, Departures
from streams.maintenance.arrays import later_than
from streams.maintenance.following import batch_of

pytestmark = pytest.mark.unit


def stretch(tracks: list[tuple[int, int, int]], gone: list[tuple[int, int, int]]) -> CommittedTail:
    """Tracks and deletions, each as (key, partition, offset)."""
    keys, partitions, offsets = np.array(tracks, dtype=np.int64).reshape(-1, 3).T
    gone_keys, gone_partitions, gone_offsets = np.array(gone, dtype=np.int64).reshape(-1, 3).T
    return CommittedTail(
        TrackVectors(
            keys,
            [f"t{key}" for key in keys.tolist()],
            np.ones((len(keys), 2), dtype=np.float32),
            partitions.astype(np.int32),
            offsets,
            np.full(len(keys), 9),
            [(f"title {key}",) for key in keys.tolist()],
        ),
        Departures(gone_keys, gone_partitions.astype(np.int32), gone_offsets, np.full(len(gone), 1)),
        upto={0: 100},
        whole=True,
        appended=np.full(len(keys), 1),
        moved={},
        consumed={0: 100},
    )


def test_a_track_that_came_back_is_not_deleted() -> None:
    """A deletion counts only where the stretch has no track of that key; several of one track are one."""
    batch = batch_of(stretch([(1, 0, 7)], [(1, 0, 5), (2, 0, 3), (2, 0, 6)]))
    assert batch is not None
    assert batch.keys.tolist() == [1]
    assert batch.track_ids == ["t1"]
    assert batch.deleted.tolist() == [2]
    assert batch.events["offset"].tolist() == [7]
    assert len(batch.deleted_events) == 1


def test_a_stretch_in_which_nothing_happened_is_no_batch() -> None:
    """Offsets that were refused or superseded move the follower and change nothing."""
    assert batch_of(stretch([], [])) is None


def test_what_was_read_from_the_store_is_not_applied_once_more() -> None:
    """Of a batch only what lies at or beyond its partition's offset is left; other partitions are whole."""
    batch = batch_of(stretch([(1, 0, 7), (2, 0, 8), (3, 1, 2)], [(4, 0, 6), (5, 0, 9)]))
    assert batch is not None
    left = later_than(batch, {0: 8})
    assert left.keys.tolist() == [2, 3]
    assert left.track_ids == ["t2", "t3"]
    assert left.metadata == [("title 2",), ("title 3",)]
    assert len(left.vectors) == 2
    assert left.deleted.tolist() == [5]
    assert later_than(batch, {}) is batch
