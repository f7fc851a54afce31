"""Brings the metadata that the catalogue changes to the search process of a generation beside the first."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import asyncpg
import numpy as np

from store import catalogue_tracks, materialised, tail
from store.pool import snapshot
from streams.engine.types import Keys
from streams.kafka.retry import until_done
from streams.maintenance.catalogue_tracks import CatalogueFollower
from streams.maintenance.searching import SearchSupervisor
from streams.metrics import WorkerMetrics

_LOOK_SECONDS: Final = 0.25
_APPLIED_SECONDS: Final = 0.02
# Tracks that are described together.
_TOGETHER: Final = 2_000

Listener = Callable[[Keys], None]


class SearchedMetadata:
    """Describes tracks to the search process as the generation's tables do, whichever worker's statement changed these.

    Args:
        pool: The store, of the generation.
        catalogue: What keeps the tables at the catalogue's metadata.
        search: Supervises the process.
        applied: By partition, the offset below which the process has been given everything.
        listeners: Called with the tracks of which the process had other metadata until then.
        metrics: Counts repeated attempts.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        catalogue: CatalogueFollower,
        search: SearchSupervisor,
        applied: Callable[[], Mapping[int, int]],
        listeners: list[Listener],
        metrics: WorkerMetrics,
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._search = search
        self._applied = applied
        self._listeners = listeners
        self._metrics = metrics
        # By partition of the catalogue's topic, the offset below which the process has every change.
        self._described: dict[int, int] = {}
        # Tracks whose bodies are still to be marked.
        self._outdated: list[int] = []

    async def begin(self) -> None:
        """Wait until the process may be loaded: it then has every change up to here, and is given the later ones."""
        await self._catalogue.refreshed.wait()
        self._described = dict(self._catalogue.seen)

    async def run(self) -> None:
        """Follow for ever, once the process is loaded."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._search.loaded:
                await until_done(self.look, what="describe tracks", system="postgres", metrics=self._metrics)

    async def look(self) -> None:
        """Describe every track that the catalogue has had an event of since the last look."""
        await self._mark()
        until = dict(self._catalogue.seen)
        while self._described != until:
            async with snapshot(self._pool) as connection:
                consumed = await tail.consumed_positions(connection)
                part = await catalogue_tracks.read_described(connection, self._described, until, _TOGETHER)
            # What was consumed before may have come with earlier metadata, and is described before; what is consumed later
            # comes with these or later ones.
            await self._given({partition: at.consumed for partition, at in consumed.items()})
            changed = await self._search.describe(np.array(part.keys, dtype=np.int64), part.metadata)
            self._outdated += changed.tolist()
            for listener in self._listeners:
                listener(changed)
            self._described = part.upto
            await self._mark()

    async def _given(self, upto: Mapping[int, int]) -> None:
        while True:
            applied = self._applied()
            if all(applied.get(partition, 0) >= offset for partition, offset in upto.items()):
                return
            await asyncio.sleep(_APPLIED_SECONDS)

    async def _mark(self) -> None:
        """Mark bodies that were made since the tables changed, from what the process had."""
        await materialised.mark_bodies_outdated(self._pool, self._outdated)
        self._outdated = []
