"""Popularity and hubs as the strategies take them: shares and percentiles over the whole catalogue."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import numpy as np

from store import popularity as stored
from store.errors import StoreUnavailableError
from streams.strategies import popularity
from streams.strategies.types import Floats, Keys, Mask

# The catalogue grows without anybody listening: what is known of its tracks is read again after so long at most.
_RELOAD_SECONDS = 600.0
# Hubs change slowly, and counting reads every list.
_HUB_SECONDS = 600.0
_DAY = 86_400.0


def _none() -> Any:
    return np.empty(0)


@dataclass(frozen=True, eq=False, slots=True)
class Popularity:
    """The popularity of every track at one moment.

    Attributes:
        version: Of what it was made from.
        keys: int64 (n,), ascending.
        percentile: float64 (n,); empty where nobody has listened to anything.
        probability: float64 (n,); likewise.
        heard: bool (n,), whether somebody has listened to the track; likewise.
        newcomer: Percentile and probability of a track that is not among the keys: of any that nobody has listened to.
    """

    version: int = 0
    keys: Keys = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    percentile: Floats = field(default_factory=_none)
    probability: Floats = field(default_factory=_none)
    heard: Mask = field(default_factory=_none)
    newcomer: tuple[float, float] = (0.5, 1.0)

    def of(self, keys: Keys) -> tuple[Floats | None, Floats | None, Mask | None]:
        """What is known of these tracks; None where nobody has listened to any track.

        Returns:
            Percentile and probability, float64 (m,) each, and whether somebody has listened, bool (m,).
        """
        if not len(self.percentile):
            return None, None, None
        place = np.searchsorted(self.keys, keys)
        place[place == len(self.keys)] = 0
        known = self.keys[place] == keys
        return (
            np.where(known, self.percentile[place], self.newcomer[0]),
            np.where(known, self.probability[place], self.newcomer[1]),
            known & self.heard[place],
        )


def make_popularity(read: stored.Listening, now: float, half_life: float) -> Popularity:
    """Smoothed rates, their percentiles and shares. Takes CPU time: not for the event loop."""
    if not read.references.any():
        return Popularity(version=read.version)
    values = read.values * popularity.decay_factor(now - read.references, half_life)
    exposures = popularity.exposure(np.maximum(now - read.created_at, 0.0), half_life)
    # One more track, of which nothing is known, stands for all that are newer than this.
    percentile, probability = popularity.standing(
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


class Listeners:
    """Keeps the newest popularity at hand, and counts hubs when asked.

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
        self._hubs: tuple[float, Keys, Floats] | None = None
        self._counting = asyncio.Lock()
        self.current = Popularity()

    async def run(self) -> None:
        """Follow the interactions for ever; while the store is away, with what is known."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.refresh()
            await asyncio.sleep(self._window)

    async def ready(self) -> Popularity:
        """The popularity; read before the first one asks.

        Raises:
            StoreUnavailableError: It has never been read, and cannot be.
        """
        if self._read_at < 0:
            await self.refresh()
        return self.current

    async def refresh(self) -> None:
        """Read the popularity anew if somebody has listened since.

        Raises:
            StoreUnavailableError: It cannot be read.
        """
        version = await stored.version(self._pool)
        if version == self.current.version and time.monotonic() - self._read_at < _RELOAD_SECONDS:
            return
        read = await stored.read(self._pool)
        self.current = await asyncio.to_thread(make_popularity, read, time.time(), self._half_life)
        self._read_at = time.monotonic()

    async def list_share(self, keys: Keys) -> Floats:
        """The share of all lists that hold each track, float64 (m,), as of ten minutes ago at most.

        Raises:
            StoreUnavailableError: They cannot be counted.
        """
        async with self._counting:
            if self._hubs is None or time.monotonic() - self._hubs[0] > _HUB_SECONDS:
                held, counts, lists = await stored.list_counts(self._pool)
                self._hubs = (time.monotonic(), held, counts / max(lists, 1))
        _, held, shares = self._hubs
        if not len(held):
            return np.zeros(len(keys))
        place = np.minimum(np.searchsorted(held, keys), len(held) - 1)
        return np.where(held[place] == keys, shares[place], 0.0)
