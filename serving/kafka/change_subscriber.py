"""The change feed as the API follows it: one consumer for all readers, and what each of them is told."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from serving.kafka.broker import BrokerUnavailableError, keep_following, partitions_of, started, stopped
from streams.kafka.clients import READ_COMMITTED

_ID = re.compile(r"\d{1,6}:-?\d{1,19}(,\d{1,6}:-?\d{1,19})*")
# Seconds without a message after which a replay takes it that the rest of the log has been compacted away.
_REPLAY_IDLE = 3.0
# Changes that a reader is given at a time.
_AT_ONCE = 32
_OPTIONS: dict[str, Any] = {"group_id": None, "enable_auto_commit": False, "isolation_level": READ_COMMITTED}


@dataclass(frozen=True, slots=True)
class Change:
    """One message of the change feed; `value` is None where the track has been withdrawn."""

    partition: int
    offset: int
    track_id: str
    value: bytes | None


def change_of(record: ConsumerRecord) -> Change | None:
    """The change that a message tells of, None for one without a usable key."""
    try:
        track_id = (record.key or b"").decode()
    except UnicodeDecodeError:
        return None
    return Change(record.partition, record.offset, track_id, record.value) if track_id else None


def described(change: Change, *, whole: bool) -> dict[str, Any]:
    """A change as subscribers see it.

    Args:
        change: What has happened.
        whole: Whether the list that there is now is part of it.
    """
    value: dict[str, Any] = {"added": [], "recommendations": []}
    if change.value is not None:
        value = orjson.loads(change.value)
    told: dict[str, Any] = {
        "track_id": change.track_id,
        "reason": "withdrawn" if change.value is None else _reason(value),
        "offset": {"partition": change.partition, "offset": change.offset},
        **{name: value.get(name) for name in ("added", "removed", "version", "generated_at", "source")},
    }
    return told | ({"recommendations": value.get("recommendations")} if whole else {})


def _reason(value: Mapping[str, Any]) -> str:
    added = value.get("added")
    if added is None:
        return "told-again"
    if value.get("removed"):
        return "changed"
    return "first-list" if len(added) == len(value.get("recommendations", ())) > 0 else "changed"


def read_positions(text: str) -> dict[int, int]:
    """What a `Last-Event-ID` says was seen last: partition to offset, -1 before the first message.

    Raises:
        ValueError: It is not one of ours.
    """
    if len(text) > 20_000 or not _ID.fullmatch(text):
        raise ValueError("is not partition:offset, or several of these separated by commas")
    pairs = [part.split(":") for part in text.split(",")]
    seen = {int(partition): int(offset) for partition, offset in pairs}
    if len(seen) != len(pairs) or min(seen.values()) < -1 or max(seen.values()) >= 2**63:
        raise ValueError("names a partition twice, or an offset that cannot be")
    return seen


class Subscription:
    """The changes that one reader waits for; bounded, so that one who does not read costs little.

    Args:
        limit: Changes kept for a reader who is behind.
        wanted: The one track it is about, None for all.

    Attributes:
        overrun: Whether a change was lost because the reader was too slow.
    """

    def __init__(self, limit: int, wanted: str | None) -> None:
        self.wanted = wanted
        self.overrun = False
        self._limit = limit
        self._queue: deque[Change] = deque()
        self._wake = asyncio.Event()

    def offer(self, change: Change) -> None:
        """Keep a change for the reader, unless it is too far behind: then nothing more."""
        if self.overrun:
            return
        if len(self._queue) >= self._limit:
            self.overrun = True
        else:
            self._queue.append(change)
        self._wake.set()

    async def next(self) -> list[Change]:
        """The next changes, some at a time; none once the reader has seen everything before the one that was lost."""
        while not self._queue:
            if self.overrun:
                return []
            self._wake.clear()
            await self._wake.wait()
        return [self._queue.popleft() for _ in range(min(len(self._queue), _AT_ONCE))]


class ChangeFeed:
    """Follows the topic from its end; tells listeners of each change, and subscribers of those they want.

    Args:
        options: What aiokafka's clients take.
        topic: The change feed's topic.
        listener: Called with every change, at once.
        limit: Changes kept for a subscriber who is behind.

    Attributes:
        positions: For each partition, the offset of the next message. Empty until the topic has been found.
    """

    def __init__(
        self, options: dict[str, Any], topic: str, listener: Callable[[Change], None], limit: int
    ) -> None:
        self._options = options
        self._topic = topic
        self._listener = listener
        self._limit = limit
        self._everything: set[Subscription] = set()
        self._by_track: dict[str, set[Subscription]] = {}
        self._replays = asyncio.Semaphore(4)
        self._found = asyncio.Event()
        self.positions: dict[int, int] = {}
        self.messages = 0

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

    def subscribe(self, track_id: str | None) -> Subscription:
        """From now on, keep the changes of one track, or all, for a reader; `unsubscribe` it."""
        made = Subscription(self._limit, track_id)
        if track_id is None:
            self._everything.add(made)
        else:
            self._by_track.setdefault(track_id, set()).add(made)
        return made

    def unsubscribe(self, subscription: Subscription) -> None:
        """Keep nothing more for it."""
        if subscription.wanted is None:
            self._everything.discard(subscription)
            return
        others = self._by_track.get(subscription.wanted, set())
        others.discard(subscription)
        if not others:
            self._by_track.pop(subscription.wanted, None)

    async def run(self) -> None:
        """Follow for ever; a broker that is away is waited for."""
        await keep_following(self._follow, "the change feed cannot be read")

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._options, **_OPTIONS, auto_offset_reset="earliest", metadata_max_age_ms=5_000
        )
        try:
            await started(consumer)
            await self._place(consumer)
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        self._take(record)
                await self._adopt(consumer)
        finally:
            await stopped(consumer)

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
        self._listener(change)
        for subscription in self._everything:
            subscription.offer(change)
        for subscription in self._by_track.get(change.track_id, ()):
            subscription.offer(change)

    async def replay(self, seen: Mapping[int, int], track_id: str | None = None) -> AsyncIterator[Change]:
        """What has come after the offsets `seen` and before now, of one track or of all, partition by partition.

        Partitions that `seen` does not name are left out. Subscribe first: what comes meanwhile is not replayed.

        Raises:
            BrokerUnavailableError: The broker does not answer, or went away.
        """
        ends = {p: end for p, end in self.positions.items() if p in seen and seen[p] + 1 != end}
        # Behind the end is another log's offset: the topic has been made anew, and nothing of it has been seen.
        starts = {p: seen[p] + 1 if seen[p] < end else 0 for p, end in ends.items()}
        if not ends:
            return
        async with self._replays:
            consumer = AIOKafkaConsumer(**self._options, **_OPTIONS, auto_offset_reset="earliest")
            try:
                await started(consumer)
                async for change in self._replayed(consumer, starts, ends):
                    if track_id is None or change.track_id == track_id:
                        yield change
            except (KafkaError, OSError) as error:
                raise BrokerUnavailableError(str(error) or type(error).__name__) from error
            finally:
                await stopped(consumer)

    async def _replayed(
        self, consumer: AIOKafkaConsumer, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[Change]:
        left = {TopicPartition(self._topic, partition): end for partition, end in ends.items()}
        consumer.assign(list(left))
        for place in left:
            consumer.seek(place, starts[place.partition])
        while left:
            batches = await consumer.getmany(*left, timeout_ms=int(_REPLAY_IDLE * 1000))
            for place, records in batches.items():
                for record in records:
                    change = change_of(record)
                    if change is not None and record.offset < left[place]:
                        yield change
            done = [place for place, end in left.items() if await consumer.position(place) >= end]
            for place in done if batches else list(left):
                del left[place]
                consumer.pause(place)
