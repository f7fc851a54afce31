"""How many messages each topic holds, and how far the store is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from pydantic import BaseModel

from streams.kafka.clients import READ_COMMITTED
from streams.kafka.end_offsets import count_lag, read_end_offsets
from streams.kafka.topics import TRACK_INGEST

# A broker that has just gone away is asked again and again by its client, for longer than anybody waits for a status.
PATIENCE_SECONDS = 8.0


class TopicLag(BaseModel):
    """One topic: offsets summed over its partitions; `lag` is known for `track-ingest` alone.

    Attributes:
        end_offset: Messages ever written. Compaction and retention may have removed some since.
        lag: Messages that are not in the store yet; the store's offsets are the truth, not the group's.
    """

    topic: str
    partitions: int
    end_offset: int
    lag: int | None


async def read_lags(kafka_options: dict[str, Any], consumed: Mapping[int, int]) -> list[TopicLag]:
    """Ask the broker for the end of every topic.

    Args:
        kafka_options: What aiokafka's clients take.
        consumed: For each partition of `track-ingest`, the next offset the store wants.

    Raises:
        KafkaError: The broker refuses.
        TimeoutError: It does not answer in time.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await _read_lags(kafka_options, consumed)


async def _read_lags(kafka_options: dict[str, Any], consumed: Mapping[int, int]) -> list[TopicLag]:
    consumer = AIOKafkaConsumer(
        **kafka_options, group_id=None, enable_auto_commit=False, isolation_level=READ_COMMITTED
    )
    try:
        await consumer.start()
        lags = []
        for topic in sorted(name for name in await consumer.topics() if not name.startswith("__")):
            ends = await read_end_offsets(consumer, topic)
            lag = count_lag(ends, consumed) if topic == TRACK_INGEST else None
            lags.append(TopicLag(topic=topic, partitions=len(ends), end_offset=sum(ends.values()), lag=lag))
        return lags
    finally:
        await consumer.stop()
