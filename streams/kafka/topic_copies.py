"""Copies a topic's messages as lines of JSON, byte for byte: a backup of the log."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion

from streams.errors import StreamsError, TopicError
from streams.kafka.clients import (
    admin_client,
    fetched_ends,
    group_less_consumer,
    sendable_key,
    start_producer,
)
from streams.kafka.topic_configs import CREATE_TIME, TIMESTAMP_TYPE, read_topic_config, set_topic_config
from streams.kafka.topics import partition_counts
from streams.settings import KafkaSettings

# Deliveries awaited together: bounded memory, and enough to fill the producer's batches.
_CHUNK: Final = 500


class CopyError(StreamsError):
    """A line is not one of a copy."""


@dataclass(frozen=True, slots=True)
class CopiedMessage:
    """One message without its offset, which is another log's after a restore.

    Attributes:
        key: Raw bytes, None without a key.
        value: Raw bytes, None for a tombstone.
        timestamp: Milliseconds since 1970, as Kafka keeps it.
        headers: Names and raw values, in order.
        partition: Where it was; None in copies that did not say so.
    """

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None

    @classmethod
    def of(cls, record: ConsumerRecord[bytes, bytes]) -> Self:
        """The message as a consumer got it."""
        headers = tuple(record.headers)
        return cls(record.key, record.value, record.timestamp, headers, record.partition)

    async def send(self, producer: AIOKafkaProducer, topic: str) -> asyncio.Future[Any]:
        """Hand the message to a producer, for its partition and with its time; the future ends with its delivery."""
        delivery: asyncio.Future[Any] = await producer.send(
            topic,
            key=sendable_key(self.key, self.value),
            value=self.value,
            partition=self.partition,
            timestamp_ms=self.timestamp,
            headers=list(self.headers),
        )
        return delivery

    def line(self) -> bytes:
        """The message as one line of JSON, ended by a line feed; bytes as base64."""
        fields: dict[str, Any] = {"key": _text(self.key), "value": _text(self.value), "time": self.timestamp}
        if self.partition is not None:
            fields["partition"] = self.partition
        if self.headers:
            fields["headers"] = [[name, _text(value)] for name, value in self.headers]
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read what `line` wrote.

        Raises:
            CopyError: It is something else.
        """
        try:
            fields = orjson.loads(line)
            headers = tuple((str(name), _raw(value) or b"") for name, value in fields.get("headers", ()))
            partition = None if fields.get("partition") is None else _whole(fields["partition"])
            return cls(_raw(fields["key"]), _raw(fields["value"]), _whole(fields["time"]), headers, partition)
        except (
            orjson.JSONDecodeError,
            binascii.Error,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
        ) as exc:
            raise CopyError("not a message of a topic's copy") from exc


async def dump_topic(kafka: KafkaSettings, topic: str, write: Callable[[bytes], object]) -> int:
    """Hand each message that `topic` holds now to `write`, as a line, partition by partition in order.

    Returns:
        How many.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: There is no such topic.
    """
    count = 0
    async with group_less_consumer(kafka) as reader:
        partitions = [TopicPartition(topic, number) for number in range(await count_partitions(kafka, topic))]
        starts = await reader.beginning_offsets(partitions)
        # A broker's word is not enough: Tansu's leaves most of the newest batch out.
        ends = await fetched_ends(kafka, topic, {each.partition: at for each, at in starts.items()})
        for partition in partitions:
            # Alone, so that its messages stay together: a restore needs the order of each key.
            reader.assign([partition])
            await reader.seek_to_beginning(partition)
            count += await _dump_partition(reader, partition, ends[partition.partition], write)
    return count


async def _dump_partition(
    reader: AIOKafkaConsumer, partition: TopicPartition, end: int, write: Callable[[bytes], object]
) -> int:
    count = 0
    while await reader.position(partition) < end:
        batches: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]
        batches = await reader.getmany(partition, timeout_ms=500)
        for record in batches.get(partition, []):
            if record.offset < end:
                write(CopiedMessage.of(record).line())
                count += 1
    return count


async def load_topic(
    kafka: KafkaSettings, topic: str, lines: Iterable[bytes], *, into_used: bool = False
) -> int:
    """Write the messages of a copy to `topic`: each to the partition that it was in, in order, with its time.

    Messages of a copy that names no partitions go where their keys belong. Where the broker gives messages its own time, it
    is told to leave them theirs meanwhile: of a track's events in several partitions the latest counts.

    Args:
        kafka: How to reach the broker.
        topic: An existing topic.
        lines: What `dump_topic` wrote; empty lines are left out.
        into_used: Whether the topic may hold messages already.

    Returns:
        How many were delivered.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: There is no such topic, or it has been written to, or it has fewer partitions than the copy.
        CopyError: A line is not one of a copy; what stood before it has been delivered.
    """
    count = await count_partitions(kafka, topic)
    if not into_used:
        await require_unused(kafka, topic, count)
    async with times_kept(kafka, topic):
        producer = await start_producer(kafka)
        try:
            return await _load(producer, topic, count, lines)
        finally:
            await producer.stop()


@asynccontextmanager
async def times_kept(kafka: KafkaSettings, topic: str, *, like: str | None = None) -> AsyncIterator[None]:
    """Have messages keep the times that they come with; afterwards it is as before, or as with the topic `like`."""
    async with admin_client(kafka) as admin:
        found = await _whose_times(admin, topic)
        afterwards = found if like is None else await _whose_times(admin, like)
        if found != CREATE_TIME and not await _are_kept(admin, topic):
            afterwards = CREATE_TIME
    try:
        yield
    finally:
        if afterwards != CREATE_TIME:
            async with admin_client(kafka) as admin:
                await set_topic_config(admin, topic, {TIMESTAMP_TYPE: afterwards})


async def _are_kept(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Tell the broker to keep the times of messages; False where it does so anyway: Tansu changes no configuration."""
    try:
        await set_topic_config(admin, topic, {TIMESTAMP_TYPE: CREATE_TIME})
    except IncompatibleBrokerVersion:
        return False
    return True


async def _whose_times(admin: AIOKafkaAdminClient, topic: str) -> str:
    return (await read_topic_config(admin, topic)).get(TIMESTAMP_TYPE, (CREATE_TIME, False))[0]


async def _load(producer: AIOKafkaProducer, topic: str, count: int, lines: Iterable[bytes]) -> int:
    waiting: list[asyncio.Future[Any]] = []
    loaded = 0
    try:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                message = CopiedMessage.parse(line)
            except CopyError as exc:
                raise CopyError(f"line {number}: {exc}") from exc
            if message.partition is not None and message.partition >= count:
                raise TopicError(
                    f"topic {topic} has {count} partitions, and line {number} is of partition {message.partition}"
                )
            waiting.append(await message.send(producer, topic))
            loaded += 1
            if len(waiting) >= _CHUNK:
                await asyncio.gather(*waiting)
                waiting.clear()
    finally:
        await asyncio.gather(*waiting)
    return loaded


async def require_unused(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Check that nothing has ever been written to a topic of so many partitions.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: Something has.
    """
    partitions = [TopicPartition(topic, number) for number in range(count)]
    async with group_less_consumer(kafka) as reader:
        if held := sum((await reader.end_offsets(partitions)).values()):
            raise TopicError(f"topic {topic} is not empty: {held} messages have been written to it")


async def count_partitions(kafka: KafkaSettings, topic: str) -> int:
    """How many partitions a topic has.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: There is no such topic.
    """
    async with admin_client(kafka) as admin:
        topics = await partition_counts(admin)
    if topic not in topics:
        known = ", ".join(sorted(name for name in topics if not name.startswith("__"))) or "none"
        raise TopicError(f"there is no topic {topic!r}; the broker has: {known}")
    return topics[topic]


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode("ascii")


def _whole(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError("not a whole number")
    return number


def _raw(text: object) -> bytes | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError("neither base64 nor null")
    return base64.b64decode(text, validate=True)
