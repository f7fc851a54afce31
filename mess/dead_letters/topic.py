"""Reads dead letters from their topic, and replays them to their source topics."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from store.dead_letters import DeadLetterId, mark_handled
from streams.contracts import times
from streams.contracts.dead_letters import (
    HEADER_DETAIL,
    HEADER_ERROR,
    HEADER_FAILED_AT,
    HEADER_LEFT_OUT,
    HEADER_SOURCE_OFFSET,
    HEADER_SOURCE_PARTITION,
    HEADER_SOURCE_TOPIC,
    read_dead_letter_headers,
)
from streams.errors import StreamsError, TopicError
from streams.generations import GenerationName, generation_of_topic
from streams.kafka.clients import admin_client, group_less_consumer, sendable_key, start_producer
from streams.kafka.topics import DEAD_LETTERS, partition_counts
from streams.settings import KafkaSettings

_OURS: Final = frozenset(
    {
        HEADER_ERROR,
        HEADER_DETAIL,
        HEADER_SOURCE_TOPIC,
        HEADER_SOURCE_PARTITION,
        HEADER_SOURCE_OFFSET,
        HEADER_FAILED_AT,
        HEADER_LEFT_OUT,
    }
)
_PARTITION: Final = re.compile(r"[0-9]{1,9}")
_OFFSET: Final = re.compile(r"[0-9]{1,18}")
# Dead letters that are sent and recorded together; a crash in between sends them again.
_CHUNK: Final = 100
_CHUNK_BYTES: Final = 16 * 1024 * 1024


class DeadLetterError(StreamsError):
    """There is no such dead letter, or it cannot be sent back."""


@dataclass(frozen=True, slots=True)
class DeadLetterSource:
    """Where a refused message was read."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of dead-letters.

    Attributes:
        id: Its coordinates in dead-letters.
        key: The refused message's key, as received.
        value: Its value, as received.
        headers: Its own headers followed by ours.
        reason: Why it was refused; empty if unknown.
        detail: The reason for people.
        source: Where it was read; None if unknown.
        failed_at: When it was refused, aware.
    """

    id: DeadLetterId
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    reason: str
    detail: str
    source: DeadLetterSource | None
    failed_at: datetime

    @classmethod
    def of(cls, record: "ConsumerRecord[bytes, bytes]") -> Self:
        """The dead letter of a message; one that no worker has written has no reason and no source."""
        told = read_dead_letter_headers(record.headers)
        written_at = times.kafka_moment(record.timestamp) or times.moment_of(0)
        return cls(
            DeadLetterId(record.partition, record.offset, record.timestamp),
            record.key,
            record.value,
            tuple((name, value or b"") for name, value in record.headers),
            told.get(HEADER_ERROR, ""),
            told.get(HEADER_DETAIL, ""),
            _source(told),
            _moment(told.get(HEADER_FAILED_AT, "")) or written_at,
        )

    @property
    def place(self) -> str:
        """Its coordinates as `partition:offset`, the form of commands."""
        return f"{self.id.partition}:{self.id.offset}"

    @property
    def own_headers(self) -> list[tuple[str, bytes]]:
        """The refused message's headers, without those that say why it was refused."""
        return [(name, value) for name, value in self.headers if name not in _OURS]

    @property
    def generation(self) -> GenerationName | None:
        """The generation whose topic it was read from; None for other topics."""
        return None if self.source is None else generation_of_topic(self.source.topic)

    @property
    def event(self) -> tuple[str, int, int] | None:
        """Track id, source partition and offset of an event of a generation; None for other messages."""
        if self.source is None or self.generation is None or self.key is None:
            return None
        try:
            return self.key.decode(), self.source.partition, self.source.offset
        except UnicodeDecodeError:
            return None


async def read_dead_letters(kafka: KafkaSettings, *, since: int = 0) -> AsyncIterator[DeadLetter]:
    """All dead letters of the topic, in order, from `since` on, milliseconds since 1970.

    Raises:
        BrokerUnavailable: No broker answers.
        TopicError: There is no topic dead-letters.
    """
    async with group_less_consumer(kafka) as reader:
        for partition, end in (await _ends(kafka, reader)).items():
            reader.assign([partition])
            if (start := await _start(reader, partition, since)) is None:
                continue
            reader.seek(partition, start)
            async for record in _until(reader, partition, end):
                yield DeadLetter.of(record)


async def read_dead_letter(kafka: KafkaSettings, partition: int, offset: int) -> DeadLetter:
    """The dead letter at one place.

    Raises:
        DeadLetterError: There is none, or it has been deleted.
        BrokerUnavailable: No broker answers.
        TopicError: There is no topic dead-letters.
    """
    async with group_less_consumer(kafka) as reader:
        where = TopicPartition(DEAD_LETTERS, partition)
        ends = await _ends(kafka, reader)
        starts = await reader.beginning_offsets([where]) if where in ends else {}
        if where in ends and starts[where] <= offset < ends[where]:
            reader.assign([where])
            reader.seek(where, offset)
            async for record in _until(reader, where, ends[where]):
                if record.offset == offset:
                    return DeadLetter.of(record)
                break
    raise DeadLetterError(f"there is no dead letter {partition}:{offset}, or it is not kept any more")


async def _ends(kafka: KafkaSettings, reader: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    async with admin_client(kafka) as admin:
        counts = await partition_counts(admin)
    if DEAD_LETTERS not in counts:
        raise TopicError(f"there is no topic {DEAD_LETTERS}; `mess topics create` makes it")
    partitions = [TopicPartition(DEAD_LETTERS, number) for number in range(counts[DEAD_LETTERS])]
    ends: dict[TopicPartition, int] = await reader.end_offsets(partitions)
    return ends


async def _start(reader: AIOKafkaConsumer, partition: TopicPartition, since: int) -> int | None:
    """The first offset to read; None if nothing is as recent as `since`."""
    if since <= 0:
        starts: dict[TopicPartition, int] = await reader.beginning_offsets([partition])
        return starts[partition]
    found = await reader.offsets_for_times({partition: since})
    return None if found[partition] is None else int(found[partition].offset)


async def _until(
    reader: AIOKafkaConsumer, partition: TopicPartition, end: int
) -> "AsyncIterator[ConsumerRecord[bytes, bytes]]":
    while await reader.position(partition) < end:
        batches: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]
        batches = await reader.getmany(partition, timeout_ms=500)
        for record in batches.get(partition, []):
            if record.offset < end:
                yield record


class DeadLetterReplayer:
    """Sends dead letters back to their source topics and partitions, and records it in the store.

    A crash between the two repeats at most `_CHUNK` dead letters at the next replay; consumers apply an event once in
    effect.

    Args:
        producer: Started.
        pool: The store.
        partitions: The number of partitions of each topic.
    """

    def __init__(self, producer: AIOKafkaProducer, pool: asyncpg.Pool, partitions: dict[str, int]) -> None:
        self._producer = producer
        self._pool = pool
        self._partitions = partitions

    async def replay(self, letters: Sequence[DeadLetter]) -> list[tuple[DeadLetter, str]]:
        """Send `letters` back, in order; returns those that cannot be sent, each with the reason.

        Raises:
            DeadLetterError: The broker did not accept one.
            StoreUnavailableError: Postgres went away; what was sent may not have been recorded.
        """
        left = [(letter, why) for letter in letters if (why := self._objection(letter))]
        sent = [letter for letter in letters if not self._objection(letter)]
        # One after the other, which keeps the order within a partition.
        deliveries = [await self._send(letter) for letter in sent]
        try:
            await asyncio.gather(*deliveries)
        except KafkaError as exc:
            raise DeadLetterError(f"the broker did not take a letter back: {exc}") from exc
        await mark_handled(self._pool, [letter.id for letter in sent], "replayed")
        return left

    def _objection(self, letter: DeadLetter) -> str:
        if letter.source is None:
            return "nothing says where it came from"
        if any(name == HEADER_LEFT_OUT for name, _ in letter.headers):
            return f"its value was too large for {DEAD_LETTERS}; it is at {letter.source}"
        if letter.source.topic == DEAD_LETTERS or letter.source.topic not in self._partitions:
            return f"it came from {letter.source.topic!r}, to which nothing can be sent back"
        return ""

    async def _send(self, letter: DeadLetter) -> "asyncio.Future[Any]":
        assert letter.source is not None
        # To its original partition, whatever partitioner its producer used; by key if that partition is gone.
        known = letter.source.partition < self._partitions[letter.source.topic]
        delivery: asyncio.Future[Any] = await self._producer.send(
            letter.source.topic,
            key=sendable_key(letter.key, letter.value),
            value=letter.value,
            partition=letter.source.partition if known else None,
            headers=letter.own_headers,
        )
        return delivery


async def resend_dead_letters(
    kafka: KafkaSettings,
    pool: asyncpg.Pool,
    letters: AsyncIterator[DeadLetter],
    left_out: Callable[[DeadLetter, str], object],
) -> int:
    """Send `letters` back in chunks, and call `left_out` for each that cannot be sent.

    Returns:
        How many were sent.

    Raises:
        BrokerUnavailable: No broker answers.
        DeadLetterError: The broker did not accept one.
        StoreUnavailableError: Postgres cannot be reached.
    """
    async with admin_client(kafka) as admin:
        partitions = await partition_counts(admin)
    producer = await start_producer(kafka)
    replayer = DeadLetterReplayer(producer, pool, partitions)
    sent = 0
    try:
        async for chunk in _chunks(letters):
            left = await replayer.replay(chunk)
            for letter, why in left:
                left_out(letter, why)
            sent += len(chunk) - len(left)
    finally:
        await producer.stop()
    return sent


async def _chunks(letters: AsyncIterator[DeadLetter]) -> AsyncIterator[list[DeadLetter]]:
    chunk: list[DeadLetter] = []
    size = 0
    async for letter in letters:
        chunk.append(letter)
        size += len(letter.value or b"")
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _source(told: dict[str, str]) -> DeadLetterSource | None:
    partition, offset = told.get(HEADER_SOURCE_PARTITION, ""), told.get(HEADER_SOURCE_OFFSET, "")
    if HEADER_SOURCE_TOPIC not in told or not (_PARTITION.fullmatch(partition) and _OFFSET.fullmatch(offset)):
        return None
    return DeadLetterSource(told[HEADER_SOURCE_TOPIC], int(partition), int(offset))


def _moment(text: str) -> datetime | None:
    try:
        return times.read_moment(text)
    except ValueError:
        return None
