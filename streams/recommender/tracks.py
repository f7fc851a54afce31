"""Metadata of tracks by key: a bounded copy of what the store has, never older than the events applied."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

import asyncpg
from cachetools import LRUCache

from store.candidates import KnownTrack, fetch_tracks, tracks_after
from store.errors import StoreUnavailableError
from streams.engine.types import TrackBatch

# Changes that are remembered, so that a read which was under way meanwhile is not kept.
_CHANGES = 200_000
# Tracks read ahead at a time, and the rest after each: at most a few hundredths of the loop's time.
_AHEAD = 200
_REST_SECONDS = 0.2
# With more changes than this within a rest the worker has better things to do than to read ahead.
_BUSY = 20
_LOWEST = -(2**63)


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
        # Tracks that have changed and are to be read before they are asked for, no more than there is room for.
        self._ahead: dict[int, None] = {}
        self._told = 0
        self.changes = 0

    def __len__(self) -> int:
        return len(self._known)

    def follow(self, batch: TrackBatch) -> None:
        """These tracks have changed, or have been withdrawn."""
        self.changes += 1
        self._told += len(batch.keys)
        for keys, events in ((batch.keys, batch.events), (batch.deleted, batch.deleted_events)):
            for key, offset in zip(keys.tolist(), events["offset"].tolist(), strict=True):
                self._known.pop(key, None)
                self._newest[key] = offset
        room = self._size - len(self._known) - len(self._ahead)
        self._ahead.update(dict.fromkeys(batch.keys[: max(0, room)].tolist()))

    def forget(self, keys: Iterable[int]) -> None:
        """Read these afresh the next time."""
        for key in keys:
            self._known.pop(key, None)

    async def get(self, keys: Iterable[int]) -> dict[int, KnownTrack]:
        """These tracks by key, without those that are not in the catalogue.

        Raises:
            StoreUnavailableError: What is missing cannot be read.
        """
        wanted = list(keys)
        known = self._known
        found = {key: known[key] for key in wanted if key in known}
        if len(found) < len(wanted) and (missing := [key for key in wanted if key not in found]):
            tracks = await fetch_tracks(self._pool, missing)
            found.update((track.key, track) for track in tracks)
            self._keep(tracks)
        return found

    async def run_ahead(self) -> None:
        """For ever, read what nobody has asked for yet, as far as there is room and while little else changes.

        A question names some two hundred tracks, and waits for those that have to be read for it.
        """
        last: int | None = _LOWEST
        while True:
            told = self._told
            await asyncio.sleep(_REST_SECONDS)
            if self._told - told > _BUSY or len(self._known) >= self._size:
                continue
            with contextlib.suppress(StoreUnavailableError):
                if last is not None:
                    tracks = await tracks_after(self._pool, last, _AHEAD)
                    self._keep(tracks)
                    last = tracks[-1].key if tracks else None
                elif self._ahead:
                    await self._read_ahead()

    async def _read_ahead(self) -> None:
        keys = list(self._ahead)[:_AHEAD]
        self._keep(await fetch_tracks(self._pool, [key for key in keys if key not in self._known]))
        for key in keys:
            self._ahead.pop(key, None)

    def _keep(self, tracks: Iterable[KnownTrack]) -> None:
        for track in tracks:
            if not self._superseded(track):
                self._known[track.key] = track
        while len(self._known) > self._size:
            del self._known[next(iter(self._known))]

    def _superseded(self, track: KnownTrack) -> bool:
        return self._newest.get(track.key, -1) > track.offset

    def unchanged(self, tracks: Mapping[int, KnownTrack]) -> bool:
        """Whether nothing has been told since that makes one of these another."""
        return not any(self._superseded(track) for track in tracks.values())
