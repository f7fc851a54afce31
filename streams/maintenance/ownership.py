"""The partitions that this worker owns, with their epochs and consumed offsets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from store.errors import FencedError
from store.partitions import PartitionClaim

Result = TypeVar("Result")


class Ownership:
    """The owned partitions of track-ingest.

    A *tenure* is the time in which a partition's lists in our engine are known to be the newest. It continues through
    rebalances after which the partition is ours again, if no other worker has held it meanwhile.

    Attributes:
        writing: Held while a version of our lists is drawn and written: a later one must not be written first.
    """

    def __init__(self) -> None:
        self.writing = asyncio.Lock()
        self._claims: dict[int, PartitionClaim] = {}
        self._consumed: dict[int, int] = {}
        self._epochs_held: dict[int, int] = {}
        self._tenures: dict[int, int] = {}
        self._claiming = asyncio.Lock()
        self._held = asyncio.Event()

    def __contains__(self, partition: int) -> bool:
        return partition in self._claims

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[None]:
        """Held from before the store is told of a claim until `take`."""
        async with self._claiming:
            yield

    async def under_epochs(self, write: Callable[[dict[int, int]], Awaitable[Result]]) -> Result:
        """Call `write` with the held epochs; again if our own claim or loss has changed these.

        Raises:
            FencedError: Another worker holds a partition that we take for ours, or that `write` wants and we lack.
        """
        while True:
            async with self._claiming:
                epochs = self.epochs
            try:
                return await write(epochs)
            except FencedError as error:
                async with self._claiming:
                    now = self.epochs
                if error.partition not in epochs or now.get(error.partition) == error.epoch:
                    raise

    def take(self, claims: dict[int, PartitionClaim], continued: Iterable[int] = ()) -> None:
        """Own exactly these partitions; the tenures of those in `continued` continue."""
        self.renew(claims.keys() - set(continued))
        self._claims = dict(claims)
        self._epochs_held.update(self.epochs)
        if claims:
            self._held.set()
        else:
            self._held.clear()
        self.remember({partition: claim.consumed_offset for partition, claim in claims.items()})

    def renew(self, partitions: Iterable[int]) -> None:
        """Begin a new tenure of each of these, whose lists have been read from the store."""
        for partition in partitions:
            self._tenures[partition] = self._tenures.get(partition, 0) + 1

    def lose(self, partitions: Iterable[int]) -> None:
        """Disown these, for good or for now."""
        for partition in partitions:
            self._claims.pop(partition, None)
        if not self._claims:
            self._held.clear()

    async def held(self) -> None:
        """Wait until a partition is ours."""
        await self._held.wait()

    def follows(self, partition: int, claim: PartitionClaim) -> bool:
        """Whether no other worker has held the partition between our last claim and this one."""
        return self._epochs_held.get(partition) == claim.epoch - 1

    def remember(self, consumed: dict[int, int]) -> None:
        """Set the consumed offsets of these partitions, owned or not."""
        self._consumed.update(consumed)

    @property
    def partitions(self) -> list[int]:
        """The owned partitions."""
        return sorted(self._claims)

    @property
    def claims(self) -> dict[int, PartitionClaim]:
        """The owned partitions, as they were claimed."""
        return dict(self._claims)

    @property
    def epochs(self) -> dict[int, int]:
        """The epochs to present with each write."""
        return {partition: claim.epoch for partition, claim in self._claims.items()}

    @property
    def tenures(self) -> dict[int, int]:
        """The last tenure of each partition, owned or not."""
        return dict(self._tenures)

    def consumed(self, partition: int) -> int:
        """The next offset to read of each known partition."""
        return self._consumed.get(partition, 0)

    def advance(self, next_offsets: dict[int, int]) -> None:
        """Advance consumed offsets after a commit."""
        for partition, offset in next_offsets.items():
            self._consumed[partition] = max(self.consumed(partition), offset)

    def restart(self, partitions: Iterable[int]) -> None:
        """Set these partitions back to their start."""
        self._consumed.update(dict.fromkeys(partitions, 0))

    @property
    def total_consumed(self) -> int:
        """The sum of all consumed offsets, which changes with every consumed event."""
        return sum(self._consumed.values())
