"""Whether a body was made from what still holds."""

import time
from math import inf

import numpy as np
import pytest

from streams.engine.types import EVENT, TrackBatch, no_events
from streams.recommender.told_changes import ToldChanges

pytestmark = pytest.mark.unit

# Later than everything in a test.
NOW = inf


def changed(key: int, offset: int, *, withdrawn: bool = False) -> TrackBatch:
    """A batch of one track."""
    event = np.zeros(1, dtype=EVENT)
    event["offset"] = offset
    one, none = np.array([key], dtype=np.int64), np.empty(0, dtype=np.int64)
    vectors = np.ones((0 if withdrawn else 1, 2), dtype=np.float32)
    if withdrawn:
        return TrackBatch(none, [], vectors, no_events(), one, event)
    return TrackBatch(one, ["a"], vectors, event, none, no_events())


@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_later_event_of_a_track_outdates_what_was_made_from_an_earlier(withdrawn: bool) -> None:
    """The event that a body was made from, and earlier ones, do not."""
    changes = ToldChanges()
    assert changes.unchanged({7: 5}, NOW)
    changes.follow(changed(7, 5, withdrawn=withdrawn))
    assert changes.unchanged({7: 5, 8: 1}, NOW)
    changes.follow(changed(7, 6, withdrawn=withdrawn))
    assert not changes.unchanged({7: 5, 8: 1}, NOW)
    assert changes.unchanged({8: 1}, NOW)


def test_only_the_latest_changes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recent go first, so memory is bounded."""
    monkeypatch.setattr("streams.recommender.told_changes._CHANGES", 2)
    changes = ToldChanges()
    for key in (1, 2, 3):
        changes.follow(changed(key, 10))
    assert changes.unchanged({1: 0}, NOW)
    assert not changes.unchanged({3: 0}, NOW)


def test_metadata_that_changed_without_an_event_outdate_what_was_begun_before() -> None:
    """Also while it is on its way to the store; what is begun afterwards is made from the new ones."""
    changes = ToldChanges()
    before = time.monotonic()
    changes.follow(changed(7, 5))
    changes.describe([7, 9])
    after = time.monotonic()
    assert not changes.unchanged({7: 5}, before)
    assert changes.unchanged({8: 5}, before)
    assert changes.unchanged({7: 5, 9: 1}, after)
    assert not changes.unchanged({7: 4}, after)
