"""Events that lie in another partition than the one their key belongs to: some producer places keys otherwise."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from streams.generations import TRACK_INGEST
from streams.kafka.received import ReceivedMessage
from streams.kafka.topics import partition_of
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

# Told of at most this often.
WARN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class IngestTopic:
    """The topic of a generation's vectors.

    Attributes:
        partition_count: How many partitions it has; 0 as long as it is not known.
        name: Its name.
    """

    partition_count: Callable[[], int] = lambda: 0
    name: str = TRACK_INGEST


class MisplacedEvents:
    """Counts them, and warns of them now and then.

    Args:
        metrics: Where they are counted.
        topic: The topic.
    """

    def __init__(self, metrics: WorkerMetrics, topic: IngestTopic) -> None:
        self._metrics = metrics
        self._topic = topic
        self._warned = -WARN_SECONDS
        self._untold = 0

    def look(self, messages: Sequence[ReceivedMessage]) -> None:
        """Count what is misplaced of these messages. Takes CPU time: not for the event loop."""
        count = self._topic.partition_count()
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
            topic=self._topic.name,
            events=self._untold,
            partition=found[0].partition,
            offset=found[0].offset,
            hint="set partitioner=murmur2_random in librdkafka's clients, confluent-kafka and kcat among them; where "
            "partitions were added, this is what lay there before. `mess topics check` says more",
        )
        self._warned, self._untold = time.monotonic(), 0
