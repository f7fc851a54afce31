"""Follows the change feed: one consumer for all readers, with a bounded buffer for each."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import murmur2

from serving.kafka.broker import (
    BrokerUnavailableError,
    keep_following,
    partitions_of,
    start_client,
    stop_client,
)
from serving.kafka.changes import FeedChange, change_of
from serving.kafka.replay import Replayer
from streams.kafka.clients import READ_COMMITTED

logger = structlog.get_logger("serving")

# Maximum number and bytes of changes in one delivery to a reader; one change may exceed the bytes.
_AT_ONCE: Final = 32
_AT_ONCE_BYTES: Final = 64 * 1024


class ChangeSubscription:
    """The buffered changes of one reader; bounded, so that a stalled reader costs little.

    Args:
        limit: Maximum number of buffered changes.
        max_bytes: Maximum bytes of these.
        wanted: The only track of interest; None for all.

    Attributes:
        overrun: Whether a change was lost because the reader was too slow, or nothing more comes.
    """

    def __init__(self, limit: int, max_bytes: int, wanted: str | None) -> None:
        self.wanted = wanted
        self.overrun = False
        self._limit = limit
        self._max_bytes = max_bytes
        self._queue: deque[FeedChange] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()

    def offer(self, change: FeedChange) -> None:
        """Buffer a change, unless the reader is too far behind: then nothing more is buffered."""
        if self.overrun:
            return
        # A change that is larger than the buffer is buffered alone.
        if len(self._queue) >= self._limit or (self._queue and self._bytes + change.size > self._max_bytes):
            self.overrun = True
        else:
            self._queue.append(change)
            self._bytes += change.size
        self._wake.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.overrun = True
        self._wake.set()

    async def next(self) -> list[FeedChange]:
        """The next changes, some at a time; none once the reader has seen everything before the one that was lost."""
        while not self._queue:
            if self.overrun:
                return []
            self._wake.clear()
            await self._wake.wait()
        taken: list[FeedChange] = []
        size = 0
        while self._queue and len(taken) < _AT_ONCE and size < _AT_ONCE_BYTES:
            taken.append(self._queue.popleft())
            size += taken[-1].size
        self._bytes -= size
        return taken


class ChangeSubscriber:
    """Follows the topic from its end; passes each change to the listener, and to its subscribers.

    Args:
        options: Options of aiokafka's clients.
        topic: The change feed's topic.
        listener: Called with every change, at once.
        limit: Maximum number of buffered changes of a subscriber.
        max_bytes: Maximum bytes of these.

    Attributes:
        positions: For each partition, the offset of the next message. Empty until the topic has been found.
        replayer: Reads missed changes from the log.
        ended: Whether there are no more changes, as no generation of the space serves.
    """

    def __init__(
        self,
        options: dict[str, Any],
        topic: str,
        listener: Callable[[FeedChange], None],
        *,
        limit: int,
        max_bytes: int,
    ) -> None:
        self._options = options
        self._topic = topic
        self._listener = listener
        self._limit = limit
        self._max_bytes = max_bytes
        self._everything: set[ChangeSubscription] = set()
        self._by_track: dict[str, set[ChangeSubscription]] = {}
        self._found = asyncio.Event()
        self.replayer = Replayer(options, topic)
        self.positions: dict[int, int] = {}
        self.messages = 0
        self.ended = False

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._everything) + sum(map(len, self._by_track.values()))

    async def ready(self, seconds: float) -> None:
        """Wait until the topic has been found.

        Raises:
            BrokerUnavailableError: It was not, within so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._found.wait()
        except TimeoutError:
            raise BrokerUnavailableError("the change feed cannot be read at the moment") from None

    def partition_of(self, track_id: str) -> int:
        """The partition that a track's changes are in."""
        return int(murmur2(track_id.encode()) & 0x7FFFFFFF) % len(self.positions)

    def subscribe(self, track_id: str | None) -> ChangeSubscription:
        """Subscribe to the changes of one track, or all; `unsubscribe` must follow."""
        made = ChangeSubscription(self._limit, self._max_bytes, track_id)
        if self.ended:
            made.end()
        if track_id is None:
            self._everything.add(made)
        else:
            self._by_track.setdefault(track_id, set()).add(made)
        return made

    def unsubscribe(self, subscription: ChangeSubscription) -> None:
        """End a subscription."""
        if subscription.wanted is None:
            self._everything.discard(subscription)
            return
        others = self._by_track.get(subscription.wanted, set())
        others.discard(subscription)
        if not others:
            self._by_track.pop(subscription.wanted, None)

    def end(self) -> None:
        """Tell the subscribers that nothing more comes."""
        self.ended = True
        for subscription in (*self._everything, *(each for some in self._by_track.values() for each in some)):
            subscription.end()

    async def run(self) -> None:
        """Follow for ever; waits while the broker is away."""
        await keep_following(self._follow, "the change feed cannot be read")

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            isolation_level=READ_COMMITTED,
            auto_offset_reset="earliest",
            metadata_max_age_ms=5_000,
        )
        try:
            await start_client(consumer)
            await self._place(consumer)
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        self._take(record)
                await self._adopt(consumer)
        finally:
            await stop_client(consumer)

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Go on where it was, or start at the end."""
        found = await partitions_of(consumer, self._topic)
        places = {partition: TopicPartition(self._topic, partition) for partition in sorted(found)}
        consumer.assign(list(places.values()))
        # At once: each would wait for an answer of its own.
        unseen = [place for partition, place in places.items() if partition not in self.positions]
        if unseen and not self._found.is_set():
            await consumer.seek_to_end(*unseen)
        for partition, place in places.items():
            if partition in self.positions:
                consumer.seek(place, self.positions[partition])
            elif self._found.is_set():  # a partition that has been added since: none of it has been seen
                consumer.seek(place, 0)
            self.positions[partition] = await consumer.position(place)
        self._found.set()

    async def _adopt(self, consumer: AIOKafkaConsumer) -> None:
        """Follow partitions that have been added."""
        known = consumer.partitions_for_topic(self._topic) or set()
        if not known <= self.positions.keys():
            await self._place(consumer)

    def _take(self, record: ConsumerRecord) -> None:
        self.positions[record.partition] = record.offset + 1
        self.messages += 1
        change = change_of(record)
        if change is None:
            return
        try:
            self._listener(change)
        except Exception:  # a message from outside must not end this process
            logger.exception("a change cannot be taken in", partition=change.partition, offset=change.offset)
        for subscription in self._everything:
            subscription.offer(change)
        for subscription in self._by_track.get(change.track_id, ()):
            subscription.offer(change)

    def behind(self, seen: Mapping[int, int]) -> int:
        """How many offsets lie between `seen` and now; partitions that it does not name do not count."""
        return sum(max(0, self.positions[p] - 1 - at) for p, at in seen.items() if p in self.positions)
