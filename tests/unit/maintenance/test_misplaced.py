"""Events in another partition than their key's are counted, and warned of now and then."""

import pytest
import structlog

from streams.kafka.received import ReceivedMessage
from streams.kafka.topics import partition_of
from streams.maintenance import misplaced
from streams.maintenance.misplaced import WARN_SECONDS, IngestTopic, MisplacedEvents
from streams.metrics import WorkerMetrics

pytestmark = pytest.mark.unit

PARTITIONS = 4


def message(offset: int, *, shifted: int = 0, key: bytes | None = b"a") -> ReceivedMessage:
    """A message, so many partitions beside the one that its key belongs to."""
    home = partition_of(key or b"", PARTITIONS)
    return ReceivedMessage((home + shifted) % PARTITIONS, offset, key, b"{}", 0)


def counted(metrics: WorkerMetrics) -> float | None:
    """How many have been counted."""
    return metrics.registry.get_sample_value("mess_misplaced_events_total")


def test_only_events_beside_their_partition_count() -> None:
    """Those without a key belong nowhere."""
    metrics = WorkerMetrics()
    MisplacedEvents(metrics, IngestTopic(lambda: PARTITIONS)).look(
        [message(0), message(1, shifted=1), message(2, key=None), message(3, shifted=2)]
    )
    assert counted(metrics) == 2


def test_nothing_is_misplaced_while_the_number_of_partitions_is_unknown() -> None:
    """No event is blamed early."""
    metrics = WorkerMetrics()
    MisplacedEvents(metrics, IngestTopic()).look([message(1, shifted=1)])
    assert counted(metrics) == 0


def test_a_warning_says_how_many_came_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one in a while, with the first event of its batch."""
    clock = [1_000.0]
    monkeypatch.setattr(misplaced.time, "monotonic", lambda: clock[0])
    look = MisplacedEvents(WorkerMetrics(), IngestTopic(lambda: PARTITIONS)).look
    with structlog.testing.capture_logs() as lines:
        look([message(5, shifted=1)])
        look([message(6, shifted=1), message(7, shifted=1)])
        clock[0] += WARN_SECONDS
        look([message(8, shifted=1)])
    assert [(line["events"], line["offset"]) for line in lines] == [(1, 5), (3, 8)]
