"""Polls the store's offsets, which tell whether cached responses may be outdated, and which generations serve.

It polls about twenty times a second, whatever the number of readers, and twice a second while there are none. Each poll is a
tick. A cached response that was checked before the last change of its partition must be checked again.
"""

import asyncio
import time
from collections.abc import Callable

import asyncpg
import structlog

from serving.recommend.accepted_events import AcceptedEvents
from serving.recommend.response_cache import ANY, ResponseCache
from store import progress
from store.errors import StoreError
from store.progress import StoreProgress
from streams.generations import GenerationName

logger = structlog.get_logger("serving")

# More tracks than this between two polls are a bulk load: then all cached responses are outdated, not single ones.
_MANY = 2_000
# Seconds between polls while a caller waits for an offset.
_EAGER = 0.005
# Seconds without an answer after which the last poll is not trusted.
_TRUST = 1.0
# Seconds after the last reader until polls are rare, and between these. The next reader finds a poll that is not trusted.
_ATTENDED = 1.0
_UNATTENDED = 0.5


class OffsetWatcher:
    """The store's offsets as of the last poll.

    Args:
        pool: The store.
        memory: The cache whose entries it outdates when tracks are written.
        interval: Seconds between polls.
        timeout: Seconds that a poll may take.
        generation: Whose offsets these are.
        turned: Called after each poll that finds that another generation of its space serves, or none.

    Attributes:
        tick: Grows with each poll.
        written: The tick of the last poll that found written tracks. A response that was read before it must not be
            cached: it may show these tracks as they were.
        seen: The offsets as of the last poll.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        memory: ResponseCache,
        interval: float,
        timeout: float,
        *,
        generation: GenerationName,
        turned: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._generation = generation
        self._turned = turned
        self._memory = memory
        self._interval = interval
        self._timeout = timeout
        self._moved: dict[int, int] = {}
        self._accepted = AcceptedEvents()
        # By owner, when the oldest event was accepted that its lists have not absorbed.
        self._oldest: dict[int, float] = {}
        self._looked_at = float("-inf")
        self._failing = False
        self._read_at = float("-inf")
        self._trust = _TRUST
        self._changed = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._waiting = 0
        self.tick = 0
        self.written = 0
        self.seen = StoreProgress({}, {})

    def trusted(self, now: float) -> bool:
        """Whether the store has answered recently; `now` is of `time.perf_counter`."""
        return now - self._looked_at < self._trust

    def attend(self, now: float) -> None:
        """Poll often for some time: somebody reads; `now` is of `time.perf_counter`."""
        self._read_at = now
        if self._trust < _TRUST:
            self._hurry.set()

    def moved(self, owner: int) -> int:
        """The tick of the last possible change of a partition's lists, or of any partition's (ANY)."""
        return self._moved.get(owner, 1)

    def behind(self, owner: int, now: float) -> float:
        """For how many seconds the lists of a partition, or of any (ANY), have not absorbed an accepted event; 0 if there is none.

        As of the last poll, which may not have seen an event of the last moment; `now` is of `time.perf_counter`.
        """
        return max(0.0, now - self._oldest.get(owner, float("inf")))

    async def renewed(self, since: float, seconds: float) -> bool:
        """Wait up to so many seconds for a poll that began at `since` or later; returns whether there has been one.

        While polls fail there is none to wait for.
        """
        if self._failing:
            return False
        await self.until(lambda _: self._looked_at >= since or self._failing, seconds)
        return self._looked_at >= since

    async def until(self, wanted: Callable[[StoreProgress], bool], seconds: float) -> bool:
        """Wait up to so many seconds until the offsets are as `wanted`; returns whether they are."""
        if self.trusted(time.perf_counter()) and wanted(self.seen):
            return True
        self._waiting += 1
        self._hurry.set()
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: wanted(self.seen))
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    await self.look()
            except (StoreError, TimeoutError) as error:
                if not self._failing:
                    logger.warning("store unavailable", error=str(error) or "it does not answer in time")
                self._failing = True
                self._looked_at = float("-inf")
                async with self._changed:
                    self._changed.notify_all()
            else:
                if self._failing:
                    logger.info("store available again")
                self._failing = False
            await self._rest()

    async def _rest(self) -> None:
        if not self._waiting:
            self._hurry.clear()
        rest, self._trust = self._interval, _TRUST
        if time.perf_counter() - self._read_at > _ATTENDED:
            rest, self._trust = max(rest, _UNATTENDED), min(rest, _TRUST)
        try:
            async with asyncio.timeout(rest):
                await self._hurry.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_EAGER)

    async def look(self) -> None:
        """Poll once.

        Raises:
            StoreUnavailableError: Postgres cannot be reached.
        """
        asked = time.perf_counter()
        found = await progress.fetch_progress(self._pool)
        before = self.seen
        if self.tick and found.consumed != before.consumed:
            await self._outdate_written(before, found)
        self.tick += 1
        if found.consumed != before.consumed:
            self.written = self.tick
        for owner in found.absorbed.keys() | found.consumed.keys():
            if found.absorbed.get(owner) != before.absorbed.get(owner):
                self._moved[owner] = self._moved[ANY] = self.tick
        await self._date_events(found, asked)
        self._looked_at = asked
        self.seen = found
        if found.serving and found.serving.get(self._generation.space) != self._generation:
            self._turned()
        async with self._changed:
            self._changed.notify_all()

    async def _date_events(self, found: StoreProgress, asked: float) -> None:
        """Find out since when each owner's lists lack something."""
        if not self._oldest:
            # What waits already has waited since before this process began.
            least = {
                p: min((a.get(p, 0) for a in found.absorbed.values()), default=0) for p in found.consumed
            }
            waiting = {p: offset for p, offset in least.items() if offset < found.consumed[p]}
            for partition, seconds in (await progress.fetch_waiting(self._pool, waiting)).items():
                self._accepted.note({partition: found.consumed[partition]}, asked - seconds)
        self._accepted.note(found.consumed, asked)
        # Owners that have absorbed the same share one mapping.
        oldest = {id(absorbed): self._accepted.oldest(absorbed) for absorbed in found.absorbed.values()}
        self._oldest = {owner: oldest[id(absorbed)] for owner, absorbed in found.absorbed.items()}
        without = self._accepted.oldest({})
        self._oldest |= {owner: without for owner in found.consumed if owner not in found.absorbed}
        self._oldest[ANY] = min(oldest.values(), default=float("inf"))

    async def _outdate_written(self, before: StoreProgress, found: StoreProgress) -> None:
        """Outdate cached responses that show written tracks as they were."""
        if not len(self._memory):
            return
        written = await progress.fetch_written(self._pool, before.consumed, found.consumed, limit=_MANY)
        if written is None:
            self._memory.outdate_all()
            return
        self._memory.outdate(written)
        for track_id in await progress.fetch_withdrawn(self._pool):
            self._memory.forget(track_id)
