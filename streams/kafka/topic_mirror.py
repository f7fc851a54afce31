"""Copies what one topic holds to another: each message to its partition, in order, with its time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from streams.errors import TopicError
from streams.kafka.clients import fetched_ends, group_less_consumer, start_producer
from streams.kafka.end_offsets import count_lag
from streams.kafka.topic_copies import CopiedMessage, count_partitions, require_unused, times_kept
from streams.settings import KafkaSettings

# Messages delivered together; a copy has caught up if no more than so many came while it read the rest.
_CHUNK: Final = 500
_WAIT_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What was copied.

    Attributes:
        messages: How many messages, in this run.
        resumed: Whether an earlier run had copied those before them.
    """

    messages: int
    resumed: bool


def _group(source: str, target: str) -> str:
    """The group whose offsets say how far a copy has come."""
    return f"{target}.copy-of.{source}"


async def mirror_topic(
    kafka: KafkaSettings,
    source: str,
    target: str,
    *,
    follow: bool = False,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Mirrored:
    """Copy every message of `source` to `target`, up to those that come meanwhile.

    A copy that was broken off goes on where it was; the messages that were on their way then are copied twice, in their order.

    Args:
        kafka: How to reach the broker.
        source: A topic.
        target: A topic with at least as many partitions that holds nothing, or what an earlier run copied.
        follow: Whether to go on for ever with what comes.
        show: Called with the number of messages that have been read of this run, and of all that are there.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: A topic is not there, they are the same, or the target holds something else or has fewer partitions.
    """
    count = await _check(kafka, source, target)
    async with group_less_consumer(kafka, offsets_of=_group(source, target)) as reader:
        places = [TopicPartition(source, number) for number in range(count)]
        starts, resumed = await _starts(kafka, reader, places, target)
        async with times_kept(kafka, target, like=source):
            producer = await start_producer(kafka)
            try:
                copy = _Copy(kafka, reader, producer, target, starts, show)
                return Mirrored(await copy.run(follow=follow), resumed)
            finally:
                await producer.stop()


async def _check(kafka: KafkaSettings, source: str, target: str) -> int:
    if source == target:
        raise TopicError(f"topic {source} cannot be copied to itself")
    count, room = await count_partitions(kafka, source), await count_partitions(kafka, target)
    if room < count:
        raise TopicError(f"topic {target} has {room} partitions, and {source} has {count}")
    return count


async def _starts(
    kafka: KafkaSettings, reader: AIOKafkaConsumer, places: list[TopicPartition], target: str
) -> tuple[dict[TopicPartition, int], bool]:
    """By partition, where to begin, and whether an earlier run had come there. Positions the reader there."""
    reader.assign(places)
    committed = {place: await reader.committed(place) for place in places}
    written = await reader.end_offsets([TopicPartition(target, place.partition) for place in places])
    # A target that was made anew has nothing of what an earlier one was given.
    resumed = any(written.values()) and any(offset is not None for offset in committed.values())
    starts = await reader.beginning_offsets(places)
    if resumed:
        starts |= {place: offset for place, offset in committed.items() if offset is not None}
    else:
        await require_unused(kafka, target, await count_partitions(kafka, target))
        # Before the first message, so that what a run leaves behind is known as its own.
        await reader.commit(starts)
    for place, offset in starts.items():
        reader.seek(place, offset)
    return starts, resumed


class _Copy:
    """One run of a copy."""

    def __init__(
        self,
        kafka: KafkaSettings,
        reader: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        target: str,
        starts: dict[TopicPartition, int],
        show: Callable[[int, int], None],
    ) -> None:
        self._kafka = kafka
        self._reader = reader
        self._producer = producer
        self._target = target
        self._source = next(iter(starts)).topic
        self._starts = starts
        self._show = show
        self._copied = 0

    async def run(self, *, follow: bool) -> int:
        """Copy, until nothing is left or for ever; how many messages that were."""
        left = _CHUNK + 1
        while left > _CHUNK:
            ends = await self._ends()
            left = count_lag(ends, await self._positions())
            while count_lag(ends, await self._positions()):
                await self._copy_some(sum(ends.values()))
        while follow:
            await self._copy_some()
        return self._copied

    async def _positions(self) -> dict[int, int]:
        return {place.partition: await self._reader.position(place) for place in self._starts}

    async def _ends(self) -> dict[int, int]:
        """Where the partitions end. Fetches tell it: Tansu's own word leaves most of the newest batch out."""
        return await fetched_ends(self._kafka, self._source, await self._positions())

    async def _copy_some(self, end: int = 0) -> None:
        """Read what is there, or wait a moment for something, and return when it has been delivered."""
        batches: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]
        batches = await self._reader.getmany(timeout_ms=_WAIT_MS, max_records=_CHUNK)
        deliveries: list[asyncio.Future[Any]] = []
        try:
            for records in batches.values():
                for record in records:
                    deliveries.append(await CopiedMessage.of(record).send(self._producer, self._target))  # noqa: PERF401 -- those before a failure are awaited
        finally:
            await asyncio.gather(*deliveries)
        if batches:
            await self._reader.commit({place: records[-1].offset + 1 for place, records in batches.items()})
        self._copied += len(deliveries)
        start, at = sum(self._starts.values()), sum((await self._positions()).values())
        self._show(at - start, max(at, end) - start)
