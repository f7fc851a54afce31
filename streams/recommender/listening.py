"""Caches popularity and statistics of the lists, and refreshes them from the store."""

import asyncio
import contextlib
import time

import asyncpg
import numpy as np

from store import candidates
from store import popularity as stored
from store.errors import StoreUnavailableError
from streams.recommender.popularity import ListFacts, Popularity
from streams.strategies import hubs, popularity

# Popularity is read again after so long even without interactions, as the catalogue grows.
_RELOAD_SECONDS = 600.0
_DAY = 86_400.0
# Statistics of the lists are read again after so many times the time that reading took, and not before so many seconds.
_FACTS_REST = 50.0
_FACTS_SECONDS = 10.0


def make_popularity(read: stored.StoredPopularity, now: float, half_life: float) -> Popularity:
    """Smoothed rates, their percentiles and shares. Takes CPU time: not for the event loop."""
    if not read.references.any():
        return Popularity(version=read.version)
    values = read.values * popularity.decay_factor(now - read.references, half_life)
    exposures = popularity.exposure_seconds(np.maximum(now - read.created_at, 0.0), half_life)
    # One more track without interactions stands for all that are newer than this.
    percentile, probability = popularity.popularity_standing(
        np.append(values, 0.0), np.append(exposures, 0.0), half_life
    )
    return Popularity(
        read.version,
        read.keys,
        percentile[:-1],
        probability[:-1],
        read.references > 0,
        (float(percentile[-1]), float(probability[-1])),
    )


class PopularityCache:
    """Caches the newest popularity, and statistics of the lists.

    Args:
        pool: The store.
        window: Seconds for which popularity may lag behind the interactions.
        half_life_days: Of an interaction.
    """

    def __init__(self, pool: asyncpg.Pool, window: float, half_life_days: float) -> None:
        self._pool = pool
        self._window = window
        self._half_life = half_life_days * _DAY
        self._read_at = -np.inf
        self._facts: ListFacts | None = None
        self._facts_until = 0.0
        self._counting = asyncio.Lock()
        self.current = Popularity()

    async def run(self) -> None:
        """Follow the interactions for ever; while the store is away, the last popularity stays."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.refresh()
            await asyncio.sleep(self._window)

    async def ready(self) -> Popularity:
        """The popularity, which is read first if it never was.

        Raises:
            StoreUnavailableError: It has never been read, and cannot be.
        """
        if self._read_at < 0:
            await self.refresh()
        return self.current

    async def refresh(self) -> None:
        """Read the popularity again if there are new interactions.

        Raises:
            StoreUnavailableError: It cannot be read.
        """
        version = await stored.popularity_version(self._pool)
        if version == self.current.version and time.monotonic() - self._read_at < _RELOAD_SECONDS:
            return
        read = await stored.read_popularity(self._pool)
        self.current = await asyncio.to_thread(make_popularity, read, time.time(), self._half_life)
        self._read_at = time.monotonic()

    async def list_facts(self) -> ListFacts:
        """Statistics of the stored lists, some seconds old: the longer reading takes, the older.

        Raises:
            StoreUnavailableError: They cannot be read.
        """
        async with self._counting:
            began = time.monotonic()
            if self._facts is None or began > self._facts_until:
                held, counts, lists = await stored.list_counts(self._pool)
                listed, density = await candidates.fetch_densities(self._pool, hubs.NEIGHBOURS)
                self._facts = ListFacts(held, counts / max(lists, 1), listed, density)
                took = time.monotonic() - began
                self._facts_until = time.monotonic() + max(_FACTS_SECONDS, _FACTS_REST * took)
            return self._facts
