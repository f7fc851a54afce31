"""One worker maintains the lists at a time; others stand by to take over at once.

Held by an advisory lock of Postgres, which goes when its connection does. The lock chooses who works; that nobody else
can write is the epochs' business.
"""

import asyncio
import math
import time
from contextlib import suppress

import asyncpg
import structlog

from store.pool import UNAVAILABLE
from store.settings import StoreSettings

log = structlog.get_logger(__name__)

# Any number would do: it names the lock within the database.
LOCK = 0x6D657373
POLL_SECONDS = 0.5


class LeadershipLostError(Exception):
    """Another worker maintains the lists now."""


class Leadership:
    """The right to maintain the lists.

    Args:
        store: How to reach Postgres.
        lease: Seconds without a word from this process after which Postgres gives the lock to another: one that is
            frozen keeps its connections, and would keep its lock, for ever.
    """

    def __init__(self, store: StoreSettings, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._connection: asyncpg.Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = False
        self._confirmed = -math.inf

    async def acquire(self) -> None:
        """Wait until the lock is ours, however long that takes."""
        said = False
        while not await self._try():
            if not said:
                log.info("another worker maintains the lists: standing by")
                said = True
            await asyncio.sleep(POLL_SECONDS)
        self._keeper = asyncio.create_task(self._keep(), name="leadership")

    async def _try(self) -> bool:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._store.dsn,
                    timeout=self._store.connect_timeout,
                    command_timeout=5,
                    server_settings={"idle_session_timeout": str(int(self._lease * 1000))},
                )
            asked = time.monotonic()
            ours = bool(await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))
        except UNAVAILABLE:
            await self._close()
            return False
        self._confirmed = asked if ours else -math.inf
        return ours

    async def _keep(self) -> None:
        """Look after the connection; when it breaks, be first again or know that we are not."""
        while not self._lost:
            await asyncio.sleep(POLL_SECONDS)
            if not await self._alive():
                # Refused by a Postgres that answers: somebody else was quicker.
                self._lost = not await self._try() and self._connection is not None

    async def _alive(self) -> bool:
        if self._connection is None:
            return False
        try:
            asked = time.monotonic()
            await self._connection.fetchval("SELECT 1")
            self._confirmed = asked
        except UNAVAILABLE as error:
            log.warning("the lock's connection broke", error=str(error))
            await self._close()
            return False
        return True

    def certain(self) -> bool:
        """Whether nobody else can have the lock by now, however long this process has been frozen."""
        return not self._lost and time.monotonic() < self._confirmed + self._lease

    def require(self) -> None:
        """Raise unless the lock is ours, or Postgres is away and nobody can have it.

        Raises:
            LeadershipLostError: Another worker has it.
        """
        if self._lost:
            raise LeadershipLostError("another worker maintains the lists now")

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*UNAVAILABLE):
                await connection.close(timeout=1)

    async def release(self) -> None:
        """Let another worker have it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._close()
