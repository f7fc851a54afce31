"""Partition leases: the right to claim partitions and publish for them.

Epochs fence writes to Postgres. Publications are fenced by the lease alone: an advisory lock of Postgres for each partition, held
by a connection of its own, which ends with this process or after too long a silence. Only the holder of the lock claims a
partition, so no other worker publishes for it until its former owner has released it or can no longer write.
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


class LeaseLostError(Exception):
    """Another worker has the lease of a partition that this one believed to hold."""


class PartitionLease:
    """The leases of this worker's partitions.

    Args:
        store: The store's settings.
        seconds: After a silence of so long, Postgres ends the connection and frees the locks: a frozen process would
            otherwise keep its connection, and its locks, for ever.
    """

    def __init__(self, store: StoreSettings, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._connection: asyncpg.Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._held: set[int] = set()
        # Held until the connection broke, and not acquired again yet.
        self._doubtful: set[int] = set()
        self._refusals = 0
        self._lost = False
        self._confirmed = -math.inf

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
                if not await self._alive() or self._doubtful:
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
