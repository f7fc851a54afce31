"""When events were accepted that lists have not absorbed."""

import pytest

from serving.recommend import accepted_events
from serving.recommend.accepted_events import AcceptedEvents

pytestmark = pytest.mark.unit


def test_the_oldest_event_that_is_not_absorbed_is_dated() -> None:
    """Each event is as old as the first look that found it consumed, whichever partition it is of."""
    events = AcceptedEvents()
    assert events.oldest({}) == float("inf")
    events.note({0: 10, 1: 5}, 100.0)
    events.note({0: 12, 1: 5}, 101.0)
    events.note({0: 12, 1: 6}, 102.0)
    assert events.oldest({0: 12, 1: 6}) == float("inf")
    assert events.oldest({0: 12, 1: 5}) == 102.0
    assert events.oldest({0: 11, 1: 5}) == 101.0
    assert events.oldest({0: 10, 1: 5}) == 101.0
    assert events.oldest({0: 9, 1: 6}) == 100.0
    assert events.oldest({0: 12}) == 100.0


def test_a_new_log_begins_anew() -> None:
    """Offsets that go back are of another log: what was seen of the former one is forgotten."""
    events = AcceptedEvents()
    events.note({0: 10}, 100.0)
    events.note({0: 2}, 200.0)
    assert events.oldest({0: 1}) == 200.0
    assert events.oldest({0: 2}) == float("inf")


def test_a_long_backlog_takes_little_memory_and_looks_no_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbouring times become one where there are many; no event is said to be younger than it is."""
    monkeypatch.setattr(accepted_events, "_MARKS", 8)
    events = AcceptedEvents()
    for offset in range(1, 1000):
        events.note({0: offset}, float(offset))
        assert len(events._offsets[0]) == len(events._times[0]) <= 9
        assert events.oldest({0: offset - 1}) <= offset
        assert events.oldest({0: offset}) == float("inf")
    assert all(events.oldest({0: at}) <= at + 1 for at in range(999))
    assert events.oldest({0: 0}) == 1.0


def test_events_after_a_pause_are_not_as_old_as_the_pause() -> None:
    """However many times there are, the last event is as old as its own first look says."""
    events = AcceptedEvents()
    for offset in range(1, 1000):
        events.note({0: offset}, offset * 3600.0)
        assert events.oldest({0: offset - 1}) == offset * 3600.0
