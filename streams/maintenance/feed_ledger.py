"""Knows which lists have been published: from the store, and from the feed itself for those not recorded yet."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg
import numpy as np
import numpy.typing as npt
import orjson

from store import lists, partitions, told, tracks
from store.pool import transaction
from store.rows import ListRows
from store.terms import ServingTerm, read_term, require_term
from store.told import ToldList
from streams.contracts import track_key
from streams.generations import GenerationName
from streams.kafka.feed_log import FeedStretch, Message
from streams.kafka.topics import partition_of


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
        term: In which it was delivered.
        told: The delivered messages.
        withdrawals: The outbox rows of delivered tombstones.
        published: By owner, the version up to which all lists have been published.
        known: The owners whose earlier publications are all recorded.
    """

    term: ServingTerm
    told: list[ToldList] = field(default_factory=list)
    withdrawals: list[int] = field(default_factory=list)
    published: dict[int, int] = field(default_factory=dict)
    known: list[int] = field(default_factory=list)


class FeedLedger:
    """Knows the last published list of each track, whichever worker of whichever generation published it.

    Args:
        pool: The store, of one generation.
        log: The feed.
    """

    def __init__(self, pool: asyncpg.Pool, log: ReadableFeed) -> None:
        self._pool = pool
        self._log = log

    async def catch_up(self, epochs: Mapping[int, int]) -> dict[int, int]:
        """Record all publications of these owners' lists that are on the feed, under their epochs.

        Returns:
            By partition of the feed, the offset below which everything is recorded.

        Raises:
            FencedError: Another worker holds one of them.
            BrokerUnavailable: No broker answers.
            StoreUnavailableError: Postgres does not.
        """
        owners = sorted(epochs)
        async with transaction(self._pool) as connection:
            positions = await told.told_positions(connection, owners)
        known = set.intersection(*(set(positions[owner]) for owner in owners))
        ends = {p: min(positions[owner][p] for owner in owners) for p in known}
        async for stretch in self._log.read(dict(ends)):
            found = await asyncio.to_thread(_told_in, stretch)
            async with transaction(self._pool) as connection:
                await partitions.hold_partitions(connection, epochs)
                if stretch.replaced:
                    await told.forget_feed_partition(connection, stretch.partition)
                await told.record_told(connection, found)
                await told.move_told_positions(connection, owners, {stretch.partition: stretch.next_offset})
            ends[stretch.partition] = stretch.next_offset
        return ends

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

    async def forget_owed(self, owners: Sequence[int], generation: GenerationName) -> None:
        """Drop the tombstones in the outbox of a generation that does not serve: another one publishes its own."""
        async with transaction(self._pool) as connection:
            if await read_term(connection, generation) is not None:
                return
            owed = await tracks.owed_tombstones(connection, owners)
            await tracks.settle_tombstones(connection, [at for at, *_ in owed])

    async def owe_absent(self, epochs: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Put a tombstone into the outbox for each published track that is not there: another generation may have it.

        The feed itself says the ids, as no table need know the track any more. Each track is its natural partition's.

        Args:
            epochs: The owners that do so.
            ends: By partition of the feed, an offset that need not be read.

        Raises:
            FencedError: Another worker holds one of the owners.
            BrokerUnavailable: No broker answers.
        """
        async with transaction(self._pool) as connection:
            absent = await told.told_without_track(connection)
            count = await partitions.partition_count(connection)
        if not absent:
            return
        starts = dict(ends)
        for partition, offset in absent:
            starts[partition] = min(offset, starts.get(partition, offset))
        found = []
        async for stretch in self._log.read(starts):
            for offset, key, _ in stretch.messages:
                if (stretch.partition, offset) in absent and key:
                    found.append((key.decode(), partition_of(key, count)))
        async with transaction(self._pool) as connection:
            await partitions.hold_partitions(connection, epochs)
            await tracks.owe_tombstones(connection, [one for one in found if one[1] in epochs])

    async def unpublished(self, owners: Collection[int]) -> set[int]:
        """Those of these owners of whose lists none counts as published."""
        async with transaction(self._pool) as connection:
            return await partitions.unpublished(connection, owners)

    async def unpublished_page(self, owners: Collection[int], first: int) -> tuple[ListRows, int | None]:
        """A page of the stored lists that do not count as published: see `lists.read_unpublished_page`."""
        async with transaction(self._pool) as connection:
            return await lists.read_unpublished_page(connection, sorted(owners), first)

    async def draw_version(self) -> int:
        """A version greater than that of every list that is committed."""
        async with transaction(self._pool) as connection:
            return await lists.draw_version(connection)

    async def renew(
        self,
        epochs: Mapping[int, int],
        keys: Sequence[int],
        owners: Sequence[int],
        versions: Sequence[int],
        version: int,
    ) -> set[int]:
        """Give stored lists a greater version: see `lists.renew_versions`.

        Raises:
            FencedError: Another worker holds one of the owners.
        """
        async with transaction(self._pool) as connection:
            await partitions.hold_partitions(connection, epochs)
            return await lists.renew_versions(connection, keys, owners, versions, version)

    async def deliver(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Deliver messages; the partition and offset of each."""
        return await self._log.deliver(messages)

    async def settle(self, epochs: Mapping[int, int], settled: Settlement) -> None:
        """Record deliveries, under the epochs of all owned partitions.

        Raises:
            FencedError: Another worker holds one of them.
            TermEndedError: The generation has not served ever since the term began; nothing is recorded.
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
            # A promotion sets these rows back: it is seen, or comes after this transaction.
            await partitions.lock_published(connection, settled.published)
            await require_term(connection, settled.term)
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
