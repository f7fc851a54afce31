"""Maintains materialised responses: writes requested ones, counts hits, refreshes stale ones."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from store import materialised
from store.errors import StoreUnavailableError
from store.materialised import BodyHits, BodyKey, NewBody
from store.pool import translated_errors
from streams.contracts import InvalidEvent
from streams.engine.search.process import SearchStoppedError
from streams.kafka.poison import isolating_failures
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.settings import RecommenderSettings
from streams.recommender.told_changes import ToldChanges

log = structlog.get_logger(__name__)

Which = tuple[int, str, str | None, int]

# Maximum number of bodies that wait to be written; beyond it the oldest is dropped, and computed again on request.
_WAITING: Final = 1_000
# Maximum number of bodies whose hits are counted between two writes; hits of others are not counted.
_COUNTED: Final = 100_000
# Bodies that are written in one transaction: its five round trips take longer than the writes.
_TOGETHER: Final = 32
_HIT_SECONDS: Final = 2.0
_EVICT_SECONDS: Final = 60.0
_REFRESH_SECONDS: Final = 1.0
# The half-life of a hit, in seconds.
_HEAT_HALF_LIFE: Final = 3_600.0


def heat_of(hits: int, now: float) -> float:
    """The binary logarithm of the decayed hit count of `hits` at a time; it orders all bodies at any later time.

    Forward decay: G. Cormode, V. Shkapenyuk, D. Srivastava and B. Xu, ICDE 2009.
    """
    return now / _HEAT_HALF_LIFE + math.log2(max(hits, 1))


@dataclass(frozen=True, slots=True)
class _ToKeep:
    """A body to store, what it was made from, when making it began, and why it was computed."""

    new: NewBody
    made_from: Mapping[int, int]
    began: float
    reason: str


class Materialiser:
    """Writes and refreshes materialised recommendations in the background; it never keeps an answer waiting.

    Args:
        pool: The store.
        changes: What has changed while a body was on its way to the store.
        compute: Computes a kept body anew, and hands it to `keep`.
        settings: Budget and sizes.
        metrics: Where bodies are counted.

    Attributes:
        refreshing: Whether bodies can be computed yet.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        changes: ToldChanges,
        compute: Callable[[BodyKey], Awaitable[None]],
        settings: RecommenderSettings,
        metrics: RecommenderMetrics,
    ) -> None:
        self._pool = pool
        self._changes = changes
        self._compute = compute
        self._settings = settings
        self._metrics = metrics
        self._waiting: dict[Which, _ToKeep] = {}
        self._hits: dict[Which, int] = {}
        self._work = asyncio.Event()
        self._writing = False
        self.refreshing = False

    def keep(self, new: NewBody, made_from: Mapping[int, int], *, began: float, reason: str) -> None:
        """Queue a body to be written.

        Args:
            new: The body.
            made_from: The tracks it was made from, each with the offset of the event that it was known by.
            began: When making it began, by this process's monotonic clock.
            reason: `requested` or `refreshed`.
        """
        if not self._settings.kept_bodies:
            return
        which = (new.key, new.strategy, new.mode, new.variant)
        self._waiting.pop(which, None)
        self._waiting[which] = _ToKeep(new, made_from, began, reason)
        if len(self._waiting) > _WAITING:
            del self._waiting[next(iter(self._waiting))]
            self._metrics.bodies.labels("evicted").inc()
        self._work.set()

    @property
    def idle(self) -> bool:
        """Whether all queued bodies have been written."""
        return not (self._waiting or self._writing)

    def hit(self, which: Which, hits: int) -> None:
        """Count hits of a body."""
        if which in self._hits or len(self._hits) < _COUNTED:
            self._hits[which] = self._hits.get(which, 0) + hits

    async def run_writing(self) -> None:
        """Write queued bodies for ever; while the store is away they wait."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                taken = dict(itertools.islice(self._waiting.items(), _TOGETHER))
                for which in taken:
                    del self._waiting[which]
                self._writing = True
                try:
                    await isolating_failures(list(taken.values()), self._write, self._reject)
                except StoreUnavailableError:
                    # What has been made anew meanwhile is newer.
                    self._waiting = taken | self._waiting
                    await asyncio.sleep(_REFRESH_SECONDS)
                finally:
                    self._writing = False

    async def _reject(self, body: _ToKeep, error: InvalidEvent) -> None:
        new = body.new
        where = {"key": new.key, "strategy": new.strategy, "mode": new.mode, "variant": new.variant}
        log.error("a recommendation cannot be kept", **where, error=error.detail)
        self._metrics.bodies.labels("rejected").inc()

    async def _write(self, bodies: Sequence[_ToKeep]) -> None:
        written = await materialised.write_bodies(self._pool, [body.new for body in bodies])
        for body, kept in zip(bodies, written, strict=True):
            self._metrics.bodies.labels(body.reason if kept else "withdrawn").inc()
            # Told of while the body was being made: whoever marked bodies then did not see this one.
            if kept and not self._changes.unchanged(body.made_from, body.began):
                await materialised.mark_bodies_outdated(self._pool, list(body.made_from))

    async def run_counting(self) -> None:
        """For ever, store hit counts, and evict the least requested bodies."""
        evicted = time.monotonic()
        while True:
            await asyncio.sleep(_HIT_SECONDS)
            with contextlib.suppress(StoreUnavailableError):
                await self.flush_hits()
                if time.monotonic() - evicted > _EVICT_SECONDS:
                    evicted = time.monotonic()
                    count = await materialised.evict_bodies(self._pool, self._settings.kept_bodies)
                    self._metrics.bodies.labels("evicted").inc(count)

    async def flush_hits(self) -> None:
        """Store the hits counted so far.

        Raises:
            StoreUnavailableError: They are kept for the next attempt.
        """
        # What is not written yet has nothing to note its hits on.
        taken = {which: hits for which, hits in self._hits.items() if which not in self._waiting}
        self._hits = {which: hits for which, hits in self._hits.items() if which not in taken}
        now = time.time()
        try:
            await materialised.count_hits(
                self._pool,
                [BodyHits(*which, hits, heat_of(hits, now)) for which, hits in taken.items() if hits],
            )
        except StoreUnavailableError:
            for which, hits in taken.items():
                self.hit(which, hits)
            raise

    async def run_refreshing(self) -> None:
        """For ever, refresh the most requested stale bodies, within the budget; one worker at a time does."""
        if not self._settings.refreshes_per_second:
            return
        while True:
            began = time.monotonic()
            refreshed = 0
            with contextlib.suppress(StoreUnavailableError, SearchStoppedError):
                refreshed = await self._refresh_some() if self.refreshing else 0
            earned = refreshed / self._settings.refreshes_per_second
            await asyncio.sleep(max(_REFRESH_SECONDS, earned) - min(time.monotonic() - began, 0.9))

    async def _refresh_some(self) -> int:
        """Refresh up to one second's budget of bodies; returns how many."""
        with translated_errors():
            async with self._pool.acquire() as connection:
                if not await materialised.begin_refreshing(connection):
                    return 0
                try:
                    stale = await materialised.stale_bodies(
                        connection, max(1, round(self._settings.refreshes_per_second))
                    )
                    for kept in stale:
                        await self._compute(kept)
                finally:
                    await materialised.end_refreshing(connection)
        return len(stale)
