"""Events whose time has not come yet."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from streams.kafka.received import ReceivedMessage
from streams.maintenance.decoding import decode_messages
from streams.maintenance.ingest import Ingest
from streams.metrics import WorkerMetrics
from streams.strategies.aspects import Layout

pytestmark = pytest.mark.unit


def event(track_id: str, offset: int, ahead: timedelta) -> ReceivedMessage:
    """A message whose event says that it happens `ahead` of now."""
    moment = (datetime.now(UTC) + ahead).isoformat()
    value = {"track_id": track_id, "embedding": [1.0, 2.0], "event_time": moment}
    return ReceivedMessage(
        0, offset, track_id.encode(), json.dumps(value).encode(), time.time_ns() // 1_000_000, ()
    )


def test_events_ahead_of_the_clock_are_counted_and_told_once_a_batch() -> None:
    """A batch with events an hour ahead is told in one line with the first one's place; a few seconds are no matter."""
    metrics = WorkerMetrics()
    ingest = Ingest(None, None, None, None, metrics, None)  # type: ignore[arg-type]
    hour, moment = timedelta(hours=1), timedelta(seconds=5)
    batch = [event("a", 7, moment), event("b", 8, hour), event("c", 9, hour)]
    with capture_logs() as logs:
        ingest._count(decode_messages(batch, Layout(2)))
        ingest._count(decode_messages([event("a", 10, moment)], Layout(2)))
    (line,) = [each for each in logs if "ahead" in each["event"]]
    assert (line["events"], line["partition"], line["offset"]) == (2, 0, 8)
    assert 3_590 < line["seconds"] <= 3_600
    assert metrics.registry.get_sample_value("mess_future_events_total") == 2
