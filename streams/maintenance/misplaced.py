"""Events that lie in another partition than the one their key belongs to: some producer places keys otherwise."""

import time
from collections.abc import Callable, Sequence

import structlog

from streams.kafka.received import ReceivedMessage
from streams.kafka.topics import TRACK_INGEST, partition_of
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Told of at most this often.
WARN_SECONDS = 60.0


class MisplacedEvents:
    """Counts them, and warns of them now and then.

    Args:
        metrics: Where they are counted.
        partition_count: How many partitions the topic has; 0 as long as it is not known.
    """

    def __init__(self, metrics: WorkerMetrics, partition_count: Callable[[], int]) -> None:
        self._metrics = metrics
        self._partition_count = partition_count
        self._warned = -WARN_SECONDS
        self._untold = 0

    def look(self, messages: Sequence[ReceivedMessage]) -> None:
        """Count what is misplaced of these messages. Takes CPU time: not for the event loop."""
        count = self._partition_count()
        if not count:
            return
        found = [m for m in messages if m.key is not None and partition_of(m.key, count) != m.partition]
        if not found:
            return
        self._metrics.misplaced_events.inc(len(found))
        self._untold += len(found)
        if time.monotonic() < self._warned + WARN_SECONDS:
            return
        log.warning(
            "events lie in other partitions than their keys belong to; of a track's events in several partitions the one "
            "counts that the broker appended last",
            topic=TRACK_INGEST,
            events=self._untold,
            partition=found[0].partition,
            offset=found[0].offset,
            hint="set partitioner=murmur2_random in librdkafka's clients, confluent-kafka and kcat among them; where "
            "partitions were added, this is what lay there before. `mess topics check` says more",
        )
        self._warned, self._untold = time.monotonic(), 0
