"""Reads missed changes from the log for returning readers, in bounded parts, few readers at a time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from serving.kafka.broker import BrokerUnavailableError, start_client, stop_client
from serving.kafka.changes import FeedChange, change_of
from streams.kafka.clients import READ_COMMITTED

# Seconds without a message after which the rest of the log counts as compacted away.
_IDLE: Final = 3.0
# Maximum number of concurrent replays: each takes a connection, and the client's read-ahead.
_AT_ONCE: Final = 4
# Seconds that a reader waits for its turn, and that one part may take.
_TURN: Final = 10.0
_PART: Final = 10.0
# Bytes of changes in one part; a little more, as messages come some at a time. It is all that a reader who has come back
# takes while it is slow to accept them.
PART_BYTES: Final = 256 * 1024
_RECORDS: Final = 64


class ReplayBusyError(Exception):
    """Too many readers have returned at the same time: this one has not had its turn in time."""


@dataclass(slots=True)
class ReplayPart:
    """A part of the missed changes.

    Attributes:
        seen: For each partition that was read, the offset up to which there is nothing more to tell.
        changes: In the order of each partition.
    """

    seen: dict[int, int]
    changes: list[FeedChange] = field(default_factory=list)


class Replayer:
    """Reads the log for returning readers. It holds nothing for a reader between two parts.

    Args:
        options: What aiokafka's clients take.
        topic: The change feed's topic.
    """

    def __init__(self, options: dict[str, Any], topic: str) -> None:
        self._options = options
        self._topic = topic
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(
        self, seen: Mapping[int, int], ends: Mapping[int, int], track_id: str | None
    ) -> ReplayPart:
        """The next part of what has come after the offsets `seen` and before `ends`, of one track or of all.

        Args:
            seen: For each partition the offset seen last; partitions without one are left out.
            ends: For each of them, the offset at which it ends.
            track_id: The one track it is about, None for all.

        Raises:
            ReplayBusyError: Others are reading all the time.
            BrokerUnavailableError: The broker does not answer, or went away.
        """
        part = ReplayPart({p: at for p, at in seen.items() if p in ends})
        behind = {p: ends[p] for p, at in part.seen.items() if at + 1 < ends[p]}
        if not behind:
            return part
        mine = False
        try:
            try:
                async with asyncio.timeout(_TURN):
                    await self._turns.acquire()
                    mine = True
            except TimeoutError:
                raise ReplayBusyError from None
            await self._read_in_time(part, behind, track_id)
        finally:
            if mine:
                self._turns.release()
        return part

    async def _read_in_time(self, part: ReplayPart, ends: Mapping[int, int], track_id: str | None) -> None:
        before = dict(part.seen)
        # Read ahead is no more than a part, too.
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=None,
            enable_auto_commit=False,
            isolation_level=READ_COMMITTED,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PART_BYTES,
        )
        try:
            async with asyncio.timeout(_PART):
                await start_client(consumer)
                await self._read(consumer, part, ends, track_id)
        except (KafkaError, OSError) as error:  # a timeout is an OSError too
            if part.seen == before or not isinstance(error, TimeoutError):
                raise BrokerUnavailableError(str(error) or "no answer in time") from error
        finally:
            await stop_client(consumer)

    async def _read(
        self, consumer: AIOKafkaConsumer, part: ReplayPart, ends: Mapping[int, int], track_id: str | None
    ) -> None:
        left = {TopicPartition(self._topic, partition): end for partition, end in ends.items()}
        consumer.assign(list(left))
        for place in left:
            consumer.seek(place, part.seen[place.partition] + 1)
        size = 0
        while left and size < PART_BYTES:
            batches = await consumer.getmany(*left, timeout_ms=int(_IDLE * 1000), max_records=_RECORDS)
            for place, records in batches.items():
                for record in records:
                    change = change_of(record)
                    if record.offset >= left[place]:
                        break
                    part.seen[place.partition] = record.offset
                    if change is not None and track_id in (None, change.track_id):
                        part.changes.append(change)
                        size += change.size
            done = [place for place, end in left.items() if await consumer.position(place) >= end]
            for place in done if batches else list(left):
                part.seen[place.partition] = left.pop(place) - 1
                consumer.pause(place)
