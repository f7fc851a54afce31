"""The demo catalogue on a local stack: published once, then watched until every work has its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
from pydantic import SecretStr

from mess.demo import catalogue
from mess.stack.datadir import published_note
from mess.stack.files import write_private
from serving.kafka.broker import BrokerUnavailableError, KafkaLogEnds
from store.errors import StoreError
from store.layouts import fetch_layout
from store.pool import open_pool
from store.settings import StoreSettings
from store.status import StoreCounts, fetch_counts
from streams.kafka.clients import aiokafka_options
from streams.kafka.end_offsets import count_lag
from streams.kafka.topics import TRACK_INGEST
from streams.producers.items import TrackItem
from streams.producers.publisher import publish_all
from streams.settings import KafkaSettings
from streams.strategies.aspects import Layout

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the pipeline is with what was published.

    Attributes:
        tracks: Tracks in the catalogue.
        full_lists: Tracks whose list is as long as it can be.
        lag: Events on `track-ingest` that are not in the store yet; None while the broker does not say.
    """

    tracks: int
    full_lists: int
    lag: int | None

    @property
    def settled(self) -> bool:
        """Whether everything published is in the store and every track has its list."""
        return self.lag == 0 and self.full_lists >= self.tracks


class DemoWatcher:
    """Looks at how far the pipeline is. Use as an asynchronous context manager."""

    def __init__(self, database_url: str, kafka: KafkaSettings) -> None:
        """Prepare to look; nothing is connected yet."""
        self._store = StoreSettings(database_url=SecretStr(database_url), pool_max_size=2)
        self._ends = KafkaLogEnds(aiokafka_options(kafka), timeout=5.0)
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> DemoWatcher:
        self._pool = await open_pool(self._store, application_name="mess-up", read_only=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.close()
        if self._pool is not None:
            await self._pool.close()

    async def counts(self) -> StoreCounts:
        """Return what the store holds.

        Raises:
            StoreError: The database does not answer.
        """
        assert self._pool is not None
        return await fetch_counts(self._pool)

    async def aspects(self) -> tuple[str, ...] | None:
        """Return the names of the aspects of the store's vectors; None before its first track.

        Raises:
            StoreError: The database does not answer.
        """
        assert self._pool is not None
        found = await fetch_layout(self._pool)
        return None if found is None else Layout.of_rows(*found).names

    async def look(self) -> Progress:
        """Return one snapshot.

        Raises:
            StoreError: The database does not answer.
        """
        counts = await self.counts()
        return Progress(counts.tracks, counts.full_lists, await self._lag(counts))

    async def until_settled(self, show: Callable[[Progress], None], *, at_least: int = 0) -> Progress:
        """Look again and again, showing each snapshot, until everything published has its effect.

        With `at_least`, a catalogue of fewer tracks is not settled yet.

        Settled means twice in a row, with the same number of tracks: asked for last offsets, Tansu counts its newest
        batch as one message, so that lag reads too low there. A database or broker that is away for a moment is waited
        for: the supervisor restarts it.
        """
        before: Progress | None = None
        while True:
            try:
                progress = await self.look()
            except StoreError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            show(progress)
            if progress.settled and progress == before and progress.tracks >= at_least:
                return progress
            before = progress
            await asyncio.sleep(POLL_SECONDS)

    async def _lag(self, counts: StoreCounts) -> int | None:
        try:
            ends = await self._ends.end_offsets(TRACK_INGEST)
        except BrokerUnavailableError:
            return None
        return count_lag(ends, counts.consumed_offsets)


class DemoPublisher:
    """The demo catalogue and the note, in a local stack's data directory, that it has been published.

    Args:
        data_dir: Where the note is; None where services are configured and nothing is noted.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        """Read the catalogue that comes with the package.

        Raises:
            mess.demo.catalogue.CatalogueError: Its files are missing or damaged.
        """
        self._note = None if data_dir is None else published_note(data_dir)
        self._catalogue = catalogue.load_demo_catalogue()

    def __len__(self) -> int:
        return len(self._catalogue)

    @property
    def aspects(self) -> tuple[str, ...]:
        """The names of its embeddings' aspects."""
        return self._catalogue.layout.names

    @property
    def example(self) -> str:
        """A track id of the catalogue, to try things with."""
        return self._catalogue.tracks[0].track_id

    @property
    def published(self) -> bool:
        """Whether the whole catalogue is noted as published to this data directory's stack."""
        return self._note is not None and self._note.exists()

    def note_published(self) -> None:
        """Note it, so that the next start does not publish again what its user may have deleted since."""
        note = {"tracks": len(self), "music21": self._catalogue.version}
        if self._note is not None:
            write_private(self._note, orjson.dumps(note))

    async def publish(self, kafka: KafkaSettings, show: Callable[[int], None]) -> None:
        """Publish every work as any producer would, calling `show` with the number acknowledged so far.

        Raises:
            StreamsError: The broker does not take it.
        """
        await publish_all(kafka, self._items(), on_progress=lambda summary: show(summary.published))

    def _items(self) -> Iterator[TrackItem]:
        for track, vector in zip(self._catalogue.tracks, self._catalogue.embeddings, strict=True):
            parts = self._catalogue.layout.split(vector)
            yield TrackItem.upsert(track.track_id, parts, track.metadata)
