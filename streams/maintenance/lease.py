"""Partition leases: the right to claim partitions and publish for them.

Epochs fence writes to Postgres. Publications are fenced by the lease alone: an advisory lock of Postgres for each partition, held
by a connection of its own, which ends with this process or after too long a silence. Only the holder of the lock claims a
partition, so no other worker publishes for it until its former owner has released it or can no longer write.

The same connection holds the *feed right*, a lock that all workers of one generation share: who has it publishes, and has seen
that no worker of another generation of its space has it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import asyncpg
import structlog

from store.pool import UNAVAILABLE
from store.settings import StoreSettings
from store.terms import ServingTerm, TermEndedError, read_term
from streams.generations import FIRST_GENERATION, GenerationName

log = structlog.get_logger(__name__)

# An arbitrary number: with the partition's it identifies the lock within the database.
LOCK = 0x6D657373
POLL_SECONDS = 0.5
WAIT_SECONDS = 0.1
REFUSALS = 4

# Of the tables of one schema: those of another generation have locks of their own.
_OWN = "($1::int # hashtext(current_schema()))"
_TRY = f"SELECT p FROM unnest($2::int[]) AS p WHERE pg_try_advisory_lock({_OWN}, p)"  # noqa: S608
_RELEASE = f"SELECT pg_advisory_unlock({_OWN}, p) FROM unnest($2::int[]) AS p"  # noqa: S608
_END_HOLDERS = f"""
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND classid::bigint = ({_OWN}::bigint & 4294967295) AND objid::bigint = ANY($2::bigint[])
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608
# Of a space of the catalogue, whose generations publish on one feed.
FEED_LOCK = 0x6D666564
_SHARED = "($1::int # hashtext($3::text || ' ' || (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'generations'::regclass)))"
_TRY_FEED = f"SELECT pg_try_advisory_lock_shared({_SHARED}, $2)"
_RELEASE_FEED = f"SELECT pg_advisory_unlock_shared({_SHARED}, $2)"
_FEED_OF_OTHERS = f"""
SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND classid::bigint = ({_SHARED}::bigint & 4294967295) AND objid::bigint <> $2::bigint
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""  # noqa: S608


class LeaseLostError(Exception):
    """Another worker has the lease of a partition that this one believed to hold."""


class PartitionLease:
    """The leases of this worker's partitions.

    Args:
        store: The store's settings.
        seconds: After a silence of so long, Postgres ends the connection and frees the locks: a frozen process would
            otherwise keep its connection, and its locks, for ever.
        generation: Whose feed right it may take.
    """

    def __init__(
        self, store: StoreSettings, seconds: float, generation: GenerationName = FIRST_GENERATION
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._generation = generation
        self._feed_lock = FEED_LOCK, generation.number, generation.space
        self._connection: asyncpg.Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._held: set[int] = set()
        # Held until the connection broke, and not acquired again yet.
        self._doubtful: set[int] = set()
        self._refusals = 0
        self._lost = False
        self._confirmed = -math.inf
        # Whether the connection has the lock, and since which term that is a right.
        self._feed_locked = False
        self._feed: ServingTerm | None = None
        # The connection with the right broke, and another generation may have had it since; or has, as is known.
        self._feed_doubtful = False
        self._feed_lost = False

    def start(self) -> None:
        """Start the task that keeps leases."""
        self._keeper = asyncio.create_task(self._keep(), name="lease")

    @property
    def held(self) -> frozenset[int]:
        """The partitions whose leases are ours."""
        return frozenset(self._held)

    async def take(self, partitions: Iterable[int], wanted: Callable[[], bool]) -> bool:
        """Wait until the leases of all these are ours, as long as `wanted` returns true; whether they are.

        A worker that keeps one of them for twice the lease without a right to it, alive but deaf to Kafka, is ended: its
        connection, and with it the process.
        """
        asked = set(partitions)
        # Counted, not measured: time in which this process was frozen does not count as waiting.
        for turn in range(1, 1_000_000_000):
            missing = asked - self._held
            if not missing:
                return True
            if not wanted():
                return False
            async with self._turn:
                await self._try(missing)
            if asked <= self._held:
                return True
            if turn % max(1, round(2 * self._seconds / WAIT_SECONDS)) == 0:
                await self._end_holders(asked - self._held)
            await asyncio.sleep(WAIT_SECONDS)
        return False

    async def release(self, partitions: Iterable[int]) -> None:
        """Release these leases. No message of these partitions may be in flight."""
        async with self._turn:
            going = self._held & set(partitions)
            self._held -= going
            self._doubtful -= going
            if going and self._connection is not None:
                try:
                    await self._connection.execute(_RELEASE, LOCK, sorted(going))
                except UNAVAILABLE:
                    await self._close()

    async def _try(self, partitions: set[int]) -> None:
        """Try to acquire locks; after a reconnect, also all that we had."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    **self._store.connect_options,
                    timeout=self._store.connect_timeout,
                    command_timeout=5,
                    server_settings={"idle_session_timeout": str(int(self._seconds * 1000))},
                )
                self._doubtful = set(self._held)
                self._feed_locked, self._feed_doubtful = False, self._feed is not None
            asked = time.monotonic()
            wanted = sorted(partitions | self._doubtful)
            got = {row[0] for row in await self._connection.fetch(_TRY, LOCK, wanted)}
        except UNAVAILABLE:
            await self._close()
            return
        self._held |= got
        self._doubtful -= got
        self._confirmed = asked
        # Refused by Postgres: another worker was quicker, unless our own old connection is still open.
        self._refusals = self._refusals + 1 if self._doubtful else 0
        self._lost |= self._refusals > REFUSALS
        if self._feed_doubtful:
            await self._regain_feed()

    async def take_feed(self) -> ServingTerm | None:
        """Try to get the right to publish for our generation; the term that it is good for, None: not now.

        Asked again, it goes on waiting for the other generation's workers, as long as our generation serves.
        """
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                await self._try(set())
            if self._feed_doubtful:
                return None
            self._feed = await self._ask_for_feed()
            return self._feed

    async def release_feed(self) -> None:
        """Give the feed right back, or cease to wait for it. No message may be in flight."""
        async with self._turn:
            self._feed, self._feed_doubtful, self._feed_lost = None, False, False
            await self._unlock_feed()

    def require_feed(self) -> None:
        """Check that no other generation can have published since we got the feed right, as far as is known.

        Raises:
            TermEndedError: One may have.
        """
        if self._feed_lost or self._feed is None:
            raise TermEndedError("another generation may have published")

    async def _ask_for_feed(self) -> ServingTerm | None:
        """The term of our right, if no other generation has it; the order of the three steps is what excludes the others."""
        connection = self._connection
        if connection is None:
            return None
        try:
            if not self._feed_locked:
                self._feed_locked = await connection.fetchval(_TRY_FEED, *self._feed_lock)
            term = await read_term(connection, self._generation)
            if term is not None:
                others = await connection.fetchval(_FEED_OF_OTHERS, *self._feed_lock)
                return None if others or not self._feed_locked else term
        except UNAVAILABLE:
            await self._close()
            return None
        await self._unlock_feed()
        return None

    async def _regain_feed(self) -> None:
        """After a reconnect: in an unbroken term nobody else can have had the right; otherwise it is lost."""
        found = await self._ask_for_feed()
        if self._connection is not None:
            self._feed_doubtful = self._feed_lost = found != self._feed

    async def _unlock_feed(self) -> None:
        locked, self._feed_locked = self._feed_locked, False
        if locked and self._connection is not None:
            try:
                await self._connection.execute(_RELEASE_FEED, *self._feed_lock)
            except UNAVAILABLE:
                await self._close()

    async def _end_holders(self, partitions: set[int]) -> None:
        log.warning("ending who keeps partitions that are ours now", partitions=sorted(partitions))
        async with self._turn:
            if self._connection is not None:
                with suppress(*UNAVAILABLE):
                    await self._connection.execute(_END_HOLDERS, LOCK, sorted(partitions))

    async def _keep(self) -> None:
        """Watch the connection; when it breaks, acquire every lock again, or find that one is lost."""
        while not self._lost:
            before = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() > before + self._seconds and self._held:
                # It has been replaced, or may be at any moment.
                log.error("this process stood still for longer than its lease")
                self._lost = True
            async with self._turn:
                if not await self._alive() or self._doubtful or self._feed_doubtful:
                    await self._try(set())

    async def _alive(self) -> bool:
        if self._connection is None or self._connection.is_closed():
            return False
        try:
            asked = time.monotonic()
            await self._connection.fetchval("SELECT 1")
            self._confirmed = asked
        except UNAVAILABLE as error:
            log.warning("the lease's connection broke", error=str(error))
            await self._close()
            return False
        return True

    def certain(self) -> bool:
        """Whether no other worker can have our leases by now, however long this process has been frozen."""
        connected = self._connection is not None and not self._connection.is_closed()
        return (
            connected
            and not self._doubtful
            and not self._feed_doubtful
            and not self._lost
            and time.monotonic() < self._confirmed + self._seconds
        )

    def require(self) -> None:
        """Check that our leases are ours, or that Postgres is away and nobody can have them.

        Raises:
            LeaseLostError: Another worker has some of it.
        """
        if self._lost:
            raise LeaseLostError("another worker has, or may have, partitions of this one")

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*UNAVAILABLE):
                await connection.close(timeout=1)

    async def close(self) -> None:
        """Release all leases."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._close()
