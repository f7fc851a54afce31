"""Leases without Postgres: a table of locks in memory, held to the same tests as the real lease (`test_lease.py`)."""

import asyncio
from collections.abc import Callable, Iterable

from streams.maintenance.lease import LeaseLostError


class LockTable:
    """Which lease holds which partition, as Postgres would know.

    Attributes:
        away: Nobody's claim can be confirmed while it is set.
    """

    def __init__(self) -> None:
        self.holders: dict[int, FakeLease] = {}
        self.away = False

    def cut(self) -> None:
        """Free every lock, as Postgres does when the connections that hold them end."""
        for lease in set(self.holders.values()):
            lease.doubtful = set(lease.held)
        self.holders.clear()


class FakeLease:
    """A `Lease` over a `LockTable`."""

    def __init__(self, table: LockTable) -> None:
        self._table = table
        self._keeper: asyncio.Task[None] | None = None
        self._held: set[int] = set()
        self._lost = False
        self.doubtful: set[int] = set()

    def start(self) -> None:
        """Begin to keep what will be taken."""
        self._keeper = asyncio.create_task(self._keep(), name="fake lease")

    @property
    def held(self) -> frozenset[int]:
        """The partitions that are ours."""
        return frozenset(self._held)

    async def take(self, partitions: Iterable[int], wanted: Callable[[], bool]) -> bool:
        """Wait until all of these are ours, for as long as `wanted` says so; whether they are."""
        asked = set(partitions)
        while asked - self._held:
            if not wanted():
                return False
            self._try(asked)
            await asyncio.sleep(0.001)
        return True

    def _try(self, partitions: set[int]) -> None:
        for partition in partitions:
            if self._table.holders.setdefault(partition, self) is self:
                self._held.add(partition)
                self.doubtful.discard(partition)

    async def _keep(self) -> None:
        while not self._lost:
            await asyncio.sleep(0.01)
            if self.doubtful:
                self._try(set(self.doubtful))
                self._lost = bool(self.doubtful)

    async def release(self, partitions: Iterable[int]) -> None:
        """Let others have these."""
        for partition in self._held & set(partitions):
            self._held.discard(partition)
            self.doubtful.discard(partition)
            self._table.holders.pop(partition, None)

    def certain(self) -> bool:
        """Whether nobody else can have our partitions by now."""
        return not self._table.away and not self.doubtful and not self._lost

    def require(self) -> None:
        """Raise if another worker has some of it."""
        if self._lost:
            raise LeaseLostError("another worker has partitions of this one")

    async def close(self) -> None:
        """Let others have everything."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.release(self._held)
