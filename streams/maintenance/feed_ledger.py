"""Knows which lists have been published: from the store, and from the feed itself for those not recorded yet."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg
import numpy as np
import numpy.typing as npt
import orjson

from store import partitions, told, tracks
from store.pool import transaction
from store.told import ToldList
from streams.contracts import track_key
from streams.kafka.feed_log import FeedStretch, Message


class ReadableFeed(Protocol):
    """The log of the change feed: see `FeedLog`."""

    async def deliver(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Deliver messages; the partition and offset of each."""

    def read(self, starts: Mapping[int, int]) -> AsyncIterator[FeedStretch]:
        """What every partition has from an offset on."""


@dataclass(slots=True)
class Settlement:
    """The records after a delivery, for one transaction.

    Attributes:
        told: The delivered messages.
        withdrawals: The outbox rows of delivered tombstones.
        published: By owner, the version up to which all lists have been published.
        known: The owners whose earlier publications are all recorded.
    """

    told: list[ToldList] = field(default_factory=list)
    withdrawals: list[int] = field(default_factory=list)
    published: dict[int, int] = field(default_factory=dict)
    known: list[int] = field(default_factory=list)


class FeedLedger:
    """Knows the last published list of each track, whichever worker published it.

    Args:
        pool: The store.
        log: The feed.
    """

    def __init__(self, pool: asyncpg.Pool, log: ReadableFeed) -> None:
        self._pool = pool
        self._log = log

    async def catch_up(self, epochs: Mapping[int, int]) -> None:
        """Record all publications of these owners' lists that are on the feed, under their epochs.

        Raises:
            FencedError: Another worker holds one of them.
            BrokerUnavailable: No broker answers.
            StoreUnavailableError: Postgres does not.
        """
        owners = sorted(epochs)
        async with transaction(self._pool) as connection:
            positions = await told.told_positions(connection, owners)
        known = set.intersection(*(set(positions[owner]) for owner in owners))
        starts = {p: min(positions[owner][p] for owner in owners) for p in known}
        async for stretch in self._log.read(starts):
            found = await asyncio.to_thread(_told_in, stretch)
            async with transaction(self._pool) as connection:
                await partitions.hold_partitions(connection, epochs)
                if stretch.replaced:
                    await told.forget_feed_partition(connection, stretch.partition)
                await told.record_told(connection, found)
                await told.move_told_positions(connection, owners, {stretch.partition: stretch.next_offset})

    async def told(self, keys: npt.NDArray[np.int64]) -> dict[int, ToldList]:
        """By key, the last published list of these tracks, int64 (m,), if there is one."""
        async with transaction(self._pool) as connection:
            return await told.read_told(connection, keys)

    async def held(self, keys: Sequence[int], owners: Sequence[int]) -> set[int]:
        """Which of these tracks, given with their owners, another owner may still publish."""
        async with transaction(self._pool) as connection:
            return await told.read_held(connection, keys, owners)

    async def owed(self, owners: Sequence[int]) -> list[tuple[int, str, int]]:
        """Number, track id and partition of the tombstones in the outbox."""
        async with transaction(self._pool) as connection:
            return await tracks.owed_tombstones(connection, owners)

    async def forget_owed(self, owners: Sequence[int]) -> None:
        """Drop the tombstones in the outbox: nobody has been told of these lists."""
        async with transaction(self._pool) as connection:
            owed = await tracks.owed_tombstones(connection, owners)
            await tracks.settle_tombstones(connection, [at for at, *_ in owed])

    async def deliver(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Deliver messages; the partition and offset of each."""
        return await self._log.deliver(messages)

    async def settle(self, epochs: Mapping[int, int], settled: Settlement) -> None:
        """Record deliveries, under the epochs of all owned partitions.

        Raises:
            FencedError: Another worker holds one of them.
        """
        ends: dict[int, int] = {}
        for one in settled.told:
            ends[one.partition] = max(ends.get(one.partition, 0), one.offset + 1)
        async with transaction(self._pool) as connection:
            await partitions.hold_partitions(connection, epochs)
            await told.record_told(connection, settled.told)
            if ends and settled.known:
                await told.move_told_positions(connection, settled.known, ends)
            await tracks.settle_tombstones(connection, settled.withdrawals)
            await partitions.record_published(connection, settled.published)


def _told_in(stretch: FeedStretch) -> list[ToldList]:
    """The last message of each track in a stretch of the feed; foreign messages are ignored."""
    last = {key: (offset, value) for offset, key, value in stretch.messages if key is not None}
    found = []
    for key, (offset, value) in last.items():
        try:
            change = None if value is None else orjson.loads(value)
            names = None if change is None else [str(item["track_id"]) for item in change["recommendations"]]
            version = 0 if change is None else int(change["version"])
            found.append(ToldList(track_key(key.decode()), stretch.partition, offset, version, names))
        except (ValueError, KeyError, TypeError):
            continue
    return found
