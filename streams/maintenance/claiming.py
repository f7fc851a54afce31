"""Claims and releases partitions: lease, epoch, lists, and unpublished changes.

The order matters. A partition is released once none of its messages is in flight; only then can another worker get its lease.
The holder of the lease takes a new epoch, after which the former owner can no longer write. Only then are its lists read, and
brought up to date with everything in the store.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Protocol, TypeVar

import asyncpg
import numpy as np
import structlog

from store import lists, partitions
from store.errors import StoreUnavailableError
from store.partitions import PartitionClaim
from store.pool import snapshot, transaction
from store.rows import ListRows
from streams.kafka.retry import until_done
from streams.maintenance.arrays import stored_lists
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.feed_term import changed_block
from streams.maintenance.following import Follower
from streams.maintenance.lease import PartitionLease
from streams.maintenance.maintainer import ListMaintainer
from streams.maintenance.ownership import Ownership
from streams.maintenance.snapshots import RestoredSnapshot
from streams.metrics import WorkerMetrics

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class IngestLog(Protocol):
    """The used part of the ingest topic's log after a rebalance."""

    def current(self) -> bool:
        """Whether there has been no further rebalance."""

    async def replaced(self, consumed: dict[int, int]) -> list[int]:
        """The partitions whose log ends before the consumed offset: another log has replaced it."""

    async def start_from(self, offsets: dict[int, int]) -> None:
        """Set the positions of the partitions; does nothing if a further rebalance has begun."""


class LeaseUncertainError(StoreUnavailableError):
    """It is unknown at the moment whether the lease is still held."""


class PartitionClaimer:
    """Claims for one worker.

    Args:
        pool: The store.
        lease: Started.
        ownership: Updated with the claimed partitions.
        feed: Gets lists that may not have been published.
        owner: The worker's name in the store.
        patience: Seconds after which a session that blocks a claim with its locks is ended.
        metrics: Counts failures.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        lease: PartitionLease,
        ownership: Ownership,
        feed: ChangePublisher,
        owner: str,
        patience: float,
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._ownership = ownership
        self._feed = feed
        self._owner = owner
        self._patience = patience
        self._metrics = metrics
        self._turn = asyncio.Lock()
        self._maintainer: ListMaintainer | None = None
        self._follower: Follower | None = None
        self._restored: RestoredSnapshot | None = None

    async def attend(
        self, maintainer: ListMaintainer, follower: Follower, restored: RestoredSnapshot | None = None
    ) -> None:
        """Use this engine, which may have lists from a snapshot, for the lists of our partitions.

        When this returns, the engine has everything that was committed before the call.
        """
        async with self._turn:
            self._maintainer, self._follower, self._restored = maintainer, follower, restored
            claims = self._ownership.claims
            if claims:
                await self._until_done(lambda: self._adopt(claims, claims.keys()), "load lists")
                return
            async with maintainer.turn:
                await self._until_done(lambda: follower.catch_up(everything=False), "catch up with the store")

    async def claim(self, assigned: Sequence[int], source: IngestLog) -> None:
        """Claim partitions, release all others, and set the positions to read from.

        The store's consumed offsets are authoritative. Nothing is claimed if a further rebalance has begun meanwhile, which is
        followed by a claim of its own.

        Raises:
            StaleEngineError: A log that was followed has been replaced.
        """
        async with self._turn:
            await self._let_go(set(assigned))
            if not assigned:
                await self._take({})
                return
            asked = time.monotonic()
            if not await self._lease.take(assigned, source.current):
                return
            leased = time.monotonic()
            async with self._ownership.claiming():
                claims = await self._until_done(lambda: self._claim(assigned), "claim partitions")
                await self._take(claims)
            taken = time.monotonic()
            await self._follow_replaced_log(source)
            offsets = {p: self._ownership.consumed(p) for p in assigned}
            await source.start_from(offsets)
            if not source.current():
                return
            log.info(
                "partitions claimed",
                offsets=offsets,
                lease_seconds=round(leased - asked, 3),
                lists_seconds=round(taken - leased, 3),
            )

    async def _let_go(self, keep: set[int]) -> None:
        going = self._lease.held - keep
        if going:
            await self._feed.quiet()
            await self._lease.release(going)

    async def _claim(self, assigned: Sequence[int]) -> dict[int, PartitionClaim]:
        async with transaction(self._pool) as connection:
            waiting = connection.get_server_pid()
            async with partitions.evicting_blockers(self._pool, waiting, self._patience):
                claims = await partitions.claim_partitions(connection, list(assigned), self._owner)
            # Nothing is committed then: a replaced worker must not fence its successor.
            self._lease.require()
            if not self._lease.certain():
                raise LeaseUncertainError("the lease is in doubt; partitions are not claimed for the moment")
            return claims

    async def _take(self, claims: dict[int, PartitionClaim]) -> None:
        """Own these partitions under their new epochs; `Ownership.claiming` is held if there are any."""
        if self._maintainer is None:
            self._feed.keep_only(())
            self._ownership.take(claims)
        else:
            kept = self._maintainer.owned
            continued = {p for p, claim in claims.items() if p in kept and self._ownership.follows(p, claim)}
            fresh = claims.keys() - continued
            await self._until_done(lambda: self._adopt(claims, fresh), "take lists over")
        self._metrics.active.set(1 if claims else 0)
        self._metrics.owned_partitions.set(len(claims))

    async def _adopt(self, claims: dict[int, PartitionClaim], fresh: Set[int]) -> None:
        """Let the engine own the lists of `claims`; those of `fresh` are read from the store."""
        assert self._maintainer is not None
        assert self._follower is not None
        async with self._maintainer.turn:
            stored, absorbed = await self._read_lists({p: claims[p] for p in fresh})
            # Deletions are noted down for whoever has kept some lists all along: see `store.tail.prune_departures`.
            await self._follower.catch_up(everything=fresh == claims.keys())
            kept = claims.keys() - fresh | (self._restored.owned if self._restored else set())
            # Lists that are read from the store must not be known already: nobody has followed what became of them there.
            await self._maintainer.keep(claims.keys() & kept)
            await self._maintainer.keep(claims)
            if fresh:
                await self._maintainer.engine.adopt(stored_lists(stored), absorbed)
            if self._restored is not None:
                await self._maintainer.engine.held(stored_lists(stored))
                self._maintainer.note_version(self._restored.version)
                self._restored = None
            self._maintainer.note_version(int(stored.versions.max(initial=0)))
            self._feed.keep_only(claims.keys() - fresh)
            if self._ownership.claims == claims:  # there was no engine when they were claimed
                self._ownership.renew(fresh)
            else:
                self._ownership.take(claims, claims.keys() - fresh)
            self._tell_again(stored, {p: claims[p] for p in fresh})

    async def _read_lists(self, fresh: Mapping[int, PartitionClaim]) -> tuple[ListRows, dict[int, int]]:
        """The stored lists of partitions, and by source partition the offset below which all have absorbed everything.

        For partitions whose lists are in a snapshot, only lists that were written after it or are unpublished.
        """
        if not fresh:
            return lists.NO_LISTS, {}
        newer_than = dict.fromkeys(fresh, -1)
        if (restored := self._restored) is not None:
            newer_than |= {
                p: min(restored.version, claim.published_version)
                for p, claim in fresh.items()
                if p in restored.owned
            }
        async with transaction(self._pool) as connection:
            # Of tracks that were deleted without a flush following, whom no engine knows of any more.
            await lists.drop_orphaned_lists(
                connection, keep=self._maintainer is not None and self._maintainer.keeps_lists
            )
        async with snapshot(self._pool) as connection:
            stored = await lists.read_lists_owned(connection, newer_than)
            absorbed = await partitions.absorbed_offsets(connection)
        sources = set.intersection(*(set(absorbed.get(p, {})) for p in fresh))
        return stored, {s: min(absorbed[p][s] for p in fresh) for s in sources}

    def _tell_again(self, stored: ListRows, claims: dict[int, PartitionClaim]) -> None:
        """Publish lists that were written but perhaps not published, before anything newer is flushed."""
        published = np.array(
            [claims[owner].published_version for owner in stored.owners.tolist()], dtype=np.int64
        )
        late = stored.versions > published
        flushed = {p: claim.published_version for p, claim in claims.items()}
        for owner, version in zip(stored.owners[late].tolist(), stored.versions[late].tolist(), strict=True):
            flushed[owner] = max(flushed[owner], version)
        block = changed_block(stored.where(late))
        assert self._maintainer is not None
        block = block.rows(self._maintainer.still_of(block.keys, block.owners))
        self._feed.add(block, flushed=flushed, withdrawn=True)

    async def _follow_replaced_log(self, source: IngestLog) -> None:
        """If the topic ends before the consumed offset, another log has replaced it: read that from its start."""
        replaced = await source.replaced({p: self._ownership.consumed(p) for p in self._ownership.partitions})
        if not replaced:
            return
        log.warning(
            "the topic has been replaced by a new one, which is read from its start", partitions=replaced
        )
        if self._maintainer is not None:
            await self._maintainer.applied_all()
            await self._maintainer.flush()

        async def restart(epochs: dict[int, int]) -> dict[int, int]:
            async with transaction(self._pool) as connection:
                return await partitions.restart_offsets(connection, {p: epochs.get(p, 0) for p in replaced})

        generations = await self._until_done(
            lambda: self._ownership.under_epochs(restart), "read a new log from its start"
        )
        self._ownership.restart(replaced)
        if self._maintainer is not None and self._follower is not None:
            async with self._maintainer.turn:
                self._maintainer.restart(replaced)
                self._follower.restart(generations)

    async def _until_done(self, attempt: Callable[[], Awaitable[Result]], what: str) -> Result:
        return await until_done(attempt, what=what, system="postgres", metrics=self._metrics)
