"""Metadata of tracks by key: a bounded copy of what the store has, never older than the events applied."""

from collections.abc import Iterable, Mapping

import asyncpg
from cachetools import LRUCache

from store.candidates import KnownTrack, fetch_tracks
from streams.neighbours.types import TrackBatch

# Changes that are remembered, so that a read which was under way meanwhile is not kept.
_CHANGES = 200_000


class TrackCache:
    """What is known of tracks. Used from the event loop alone.

    A change is told by `follow`, perhaps before the store has it: what is read from the store then is used, but not kept,
    until it is of the event that was told.

    Args:
        pool: The store.
        size: Tracks kept, those read last.
    """

    def __init__(self, pool: asyncpg.Pool, size: int) -> None:
        self._pool = pool
        # The oldest goes first. Two hundred are looked up for every request: bookkeeping at each would cost more than
        # it saves.
        self._known: dict[int, KnownTrack] = {}
        self._size = size
        self._newest: LRUCache[int, int] = LRUCache(_CHANGES)
        self.changes = 0

    def __len__(self) -> int:
        return len(self._known)

    def follow(self, batch: TrackBatch) -> None:
        """These tracks have changed, or have been withdrawn."""
        self.changes += 1
        for keys, events in ((batch.keys, batch.events), (batch.deleted, batch.deleted_events)):
            for key, offset in zip(keys.tolist(), events["offset"].tolist(), strict=True):
                self._known.pop(key, None)
                self._newest[key] = offset

    async def get(self, keys: Iterable[int]) -> dict[int, KnownTrack]:
        """These tracks by key, without those that are not in the catalogue.

        Raises:
            StoreUnavailableError: What is missing cannot be read.
        """
        found: dict[int, KnownTrack] = {}
        missing: list[int] = []
        for key in keys:
            track = self._known.get(key)
            if track is None:
                missing.append(key)
            else:
                found[key] = track
        if missing:
            for track in await fetch_tracks(self._pool, missing):
                found[track.key] = track
                if not self._superseded(track):
                    self._known[track.key] = track
            while len(self._known) > self._size:
                del self._known[next(iter(self._known))]
        return found

    def _superseded(self, track: KnownTrack) -> bool:
        return self._newest.get(track.key, -1) > track.offset

    def unchanged(self, tracks: Mapping[int, KnownTrack]) -> bool:
        """Whether nothing has been told since that makes one of these another."""
        return not any(self._superseded(track) for track in tracks.values())
