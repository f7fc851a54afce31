"""Publishing to `track-ingest`: ordered per track, acknowledged, bounded, resumable."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.contracts import Reason
from streams.errors import BrokerUnavailable, TopicError
from streams.kafka.clients import admin_client, start_producer
from streams.kafka.topics import TRACK_INGEST, partition_counts
from streams.producers.checkpoint import Checkpoint
from streams.producers.items import Position, PublishSummary, Record, RefusedRecord, TrackItem
from streams.settings import KafkaSettings

_CHUNK: Final = 64
_MAX_IN_FLIGHT: Final = 2_000
_BATCH_BYTES: Final = 512 * 1024

OnProgress = Callable[[PublishSummary], None]
OnRefused = Callable[[RefusedRecord], None]


class TrackPublisher:
    """Sends track events and waits for every acknowledgement. Use as an asynchronous context manager.

    Messages of one track keep their order. A message the broker finds too large counts as refused; any
    other failure to deliver ends the run, since what follows must not overtake what was lost.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        topic: str = TRACK_INGEST,
        max_in_flight: int = _MAX_IN_FLIGHT,
        on_refused: OnRefused | None = None,
    ) -> None:
        self.summary = PublishSummary()
        self._kafka = kafka
        self._topic = topic
        self._on_refused = on_refused
        self._room = asyncio.Semaphore(max_in_flight)
        self._max_in_flight = max_in_flight
        self._producer: AIOKafkaProducer | None = None
        self._failure: BaseException | None = None
        self._watermark = _Watermark()

    async def __aenter__(self) -> Self:
        async with admin_client(self._kafka) as admin:
            topics = await partition_counts(admin)
        if self._topic not in topics:
            raise TopicError(f"the broker at {self._kafka.bootstrap_servers} has no topic {self._topic}")
        # Vectors in base64 shrink by a tenth at best: see docs/decisions/compression.md.
        plain = {"compression_type": None} if self._kafka.compression == "auto" else {}
        self._producer = await start_producer(self._kafka, linger_ms=5, max_batch_size=_BATCH_BYTES, **plain)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, item: TrackItem) -> None:
        """Send one message, waiting while too many are unacknowledged.

        Raises:
            BrokerUnavailable: an earlier message could not be delivered, or this one cannot be sent.
        """
        assert self._producer is not None
        await self._room.acquire()
        self._raise_failure()
        ticket = self._watermark.enter(item.position)
        try:
            delivery = await self._producer.send(self._topic, item.value, key=item.key)
        except MessageSizeTooLargeError:
            self._room.release()
            self._too_large(item, ticket)
        except KafkaError as exc:
            self._failure = exc
            self._raise_failure()
        else:
            delivery.add_done_callback(lambda done: self._delivered(done, item, ticket))

    def refuse(self, refusal: RefusedRecord) -> None:
        """Count a record that is not sent."""
        self._refused(refusal, self._watermark.enter(refusal.position))

    async def flush(self) -> None:
        """Wait until everything sent is acknowledged.

        Raises:
            BrokerUnavailable: something could not be delivered.
        """
        for _ in range(self._max_in_flight):
            await self._room.acquire()
        for _ in range(self._max_in_flight):
            self._room.release()
        self._raise_failure()

    def _delivered(self, delivery: "asyncio.Future[object]", item: TrackItem, ticket: int) -> None:
        self._room.release()
        if delivery.cancelled():
            self._failure = self._failure or asyncio.CancelledError()
        elif (exc := delivery.exception()) is None:
            self.summary.published += 1
            self.summary.position = self._watermark.leave(ticket)
        elif isinstance(exc, MessageSizeTooLargeError):
            self._too_large(item, ticket)
        else:
            self._failure = self._failure or exc

    def _too_large(self, item: TrackItem, ticket: int) -> None:
        size = len(item.value or b"")
        detail = f"the event is {size:,} bytes long, more than the broker takes"
        track_id = item.key.decode(errors="replace")
        self._refused(
            RefusedRecord(str(item.position), Reason.TOO_LARGE.value, detail, track_id, item.position), ticket
        )

    def _refused(self, refusal: RefusedRecord, ticket: int) -> None:
        self.summary.refused += 1
        self.summary.reasons[refusal.reason] += 1
        self.summary.position = self._watermark.leave(ticket)
        if self._on_refused is not None:
            self._on_refused(refusal)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            name = type(self._failure).__name__
            raise BrokerUnavailable(
                f"the broker at {self._kafka.bootstrap_servers} stopped taking messages ({name})"
            ) from self._failure


class _Watermark:
    """The position up to which everything is settled, while acknowledgements arrive in any order."""

    def __init__(self) -> None:
        self._next = 0
        self._low = 0
        self._positions: dict[int, Position] = {}
        self._settled: set[int] = set()
        self._position: Position | None = None

    def enter(self, position: Position) -> int:
        ticket = self._next
        self._next += 1
        self._positions[ticket] = position
        return ticket

    def leave(self, ticket: int) -> Position | None:
        self._settled.add(ticket)
        while self._low in self._settled:
            self._settled.remove(self._low)
            self._position = self._positions.pop(self._low)
            self._low += 1
        return self._position


async def publish_all(
    kafka: KafkaSettings,
    items: Iterable[Record],
    *,
    topic: str = TRACK_INGEST,
    on_progress: OnProgress | None = None,
    on_refused: OnRefused | None = None,
    checkpoint: Checkpoint | None = None,
    stop: threading.Event | None = None,
) -> PublishSummary:
    """Publish everything that `items` yields, and return once all of it is acknowledged.

    Args:
        kafka: how to reach the broker.
        items: messages and refusals; read in a worker thread, so that it may block or compute.
        topic: where to.
        on_progress: called in the event loop after every few messages, and once at the end.
        on_refused: called for every record that is not sent.
        checkpoint: kept up to date, whatever happens, with the position that is settled.
        stop: when set, no more is read; what is sent is still awaited.

    Raises:
        BrokerUnavailable: no broker answers, or one stopped taking messages.
        TopicError: the topic does not exist.
        SourceError: the source cannot be read.
    """
    started = time.monotonic()
    iterator = iter(items)
    async with TrackPublisher(kafka, topic=topic, on_refused=on_refused) as publisher:
        summary = publisher.summary
        try:
            ended = False
            while not ended and not (stop is not None and stop.is_set()):
                records, ended = await asyncio.to_thread(_take, iterator)
                for record in records:
                    if isinstance(record, RefusedRecord):
                        publisher.refuse(record)
                    else:
                        await publisher.publish(record)
                    summary.done = max(summary.done, record.done)
                if checkpoint is not None:
                    checkpoint.note(summary.position)
                if on_progress is not None:
                    on_progress(summary)
            await publisher.flush()
            summary.interrupted = not ended
        finally:
            summary.seconds = time.monotonic() - started
            if checkpoint is not None:
                checkpoint.save(summary.position)
    if on_progress is not None:
        on_progress(summary)
    return summary


def _take(iterator: Iterator[Record]) -> tuple[list[TrackItem | RefusedRecord], bool]:
    """Return the next few records, fewer where none is ready, and whether the source has ended."""
    records: list[TrackItem | RefusedRecord] = []
    for record in iterator:
        if record is None:
            return records, False
        records.append(record)
        if len(records) >= _CHUNK:
            return records, False
    return records, True
