"""Caches track fragments: the JSON of a track in lists, rendered once.

Fragments do not expire by time. A fragment is only used for the row version that it was made from, which is read with each
list, so it never differs from Postgres. The cache is an LRU cache bounded in bytes.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import asyncpg
import numpy as np
import orjson
from cachetools import LRUCache

from serving.recommend.batching import RequestBatcher
from serving.recommend.explanations import facts_of
from store import listed
from store.columns import METADATA_FIELDS
from store.layouts import fetch_layout
from store.listed import ListedTrack
from streams.contracts.rendering import filename_of, track_members
from streams.strategies.aspects import Layout, extremes

# Overhead of a fragment beside its JSON.
_FRAGMENT_BYTES = 700
# The end of an item, with the members that depend on the track alone.
_ENDED = b',"components":{},"seed":null,"contributions":{},"relaxed":[],%b,"cached":true}'
_BEHIND_METADATA = len(b',"cached":true}')
# The same of a track that has been deleted, whose name nobody knows any more.
GONE_BEGUN: Final = b',{"track_id":null,"score":'
GONE_ENDED: Final = _ENDED % track_members({**dict.fromkeys(METADATA_FIELDS), "tags": []}, None, {})
# Tracks that one query reads: unpacking more would block the event loop for too long.
_TOGETHER = 500


class TrackFragment:
    """The rendered parts of a track's item in lists.

    Attributes:
        version: Of the row that it was made from.
        track_id: The track.
        facts: Its facts, for explanations.
        begun: The item's JSON up to the score, after a comma.
        ended: The item's JSON after the explanation.
        vector: Its embedding, float32 (d,), if the catalogue has aspects.
        digest: Equal for equal `begun` and `ended`.
        size: Approximate size in bytes.
    """

    __slots__ = ("_metadata_at", "begun", "digest", "ended", "facts", "size", "track_id", "vector", "version")

    def __init__(self, track: ListedTrack) -> None:
        metadata = orjson.dumps(track.metadata)
        self.version = track.version
        self.track_id = track.track_id
        self.facts = facts_of(track.metadata)
        self.begun = b',{"track_id":%b,"score":' % orjson.dumps(track.track_id)
        filename = filename_of(track.metadata["extra"])
        self.ended = _ENDED % track_members(track.metadata, filename, orjson.Fragment(metadata))
        self.digest = hashlib.blake2b(self.begun + self.ended, digest_size=16).digest()
        self.size = _FRAGMENT_BYTES + 2 * len(self.begun) + len(self.ended) + len(track.embedding or b"")
        self.vector = None if track.embedding is None else np.frombuffer(track.embedding, dtype="<f4")
        self._metadata_at = len(self.ended) - _BEHIND_METADATA - len(metadata)

    @property
    def metadata(self) -> bytes:
        """JSON of all fields."""
        return self.ended[self._metadata_at : -_BEHIND_METADATA]


def aspects_to(
    layout: Layout | None, seed: TrackFragment, others: list[TrackFragment]
) -> list[tuple[bytes, bytes]]:
    """For each track its similarity to the seed by aspect, as JSON, and for `SENTENCE` where they are most and least alike.

    Empty where the catalogue has no aspects, or where a fragment is older than its first track with aspects.
    """
    vectors = [fragment.vector for fragment in others]
    if layout is None or seed.vector is None or not others or any(vector is None for vector in vectors):
        return [(b"{}", b"")] * len(others)
    told = []
    for aspects in layout.described(layout.cosines(seed.vector, np.array(vectors))):
        extreme = extremes(aspects)
        told.append((orjson.dumps(aspects), b"; " + extreme.encode() if extreme else b""))
    return told


class TrackFragments:
    """Track fragments by key, cached, or read in batches.

    Args:
        pool: The store.
        max_bytes: Maximum size of all cached fragments; 0 turns the cache off.
        timeout: Seconds that a query may take.

    Attributes:
        read_count: Number of tracks read from the store.
        layout: What the vectors of fragments are made up of; None as long as they have none.
    """

    def __init__(self, pool: asyncpg.Pool, max_bytes: int, timeout: float) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self._fragments = self._no_fragments()
        self._epoch: float | None = None
        self._reads = RequestBatcher[tuple[int, ...], dict[int, TrackFragment]](self._read, timeout)
        self.read_count = 0
        self.layout: Layout | None = None

    def at_hand(self, epoch: float, keys: list[int], versions: list[int]) -> list[TrackFragment | None]:
        """The cached fragments for rows of these versions, in the same order; None for missing ones.

        Args:
            epoch: The epoch of the versions.
            keys: The tracks.
            versions: Of their rows.
        """
        if epoch != self._epoch:
            self._fragments, self._epoch = self._no_fragments(), epoch
        fragments = map(self._fragments.get, keys)
        return [
            fragment if fragment is not None and fragment.version == version else None
            for fragment, version in zip(fragments, versions, strict=True)
        ]

    async def read(self, keys: Iterable[int]) -> dict[int, TrackFragment]:
        """The fragments of these tracks as of now, perhaps with others; withdrawn tracks are left out.

        Raises:
            StoreUnavailableError: Postgres cannot be reached, or does not answer in time.
        """
        return await self._reads.get(tuple(keys)) or {}

    def _no_fragments(self) -> LRUCache[int, TrackFragment]:
        return LRUCache(self._max_bytes, getsizeof=lambda fragment: fragment.size)

    def _keep(self, key: int, fragment: TrackFragment) -> None:
        if fragment.size <= self._max_bytes:
            self._fragments[key] = fragment

    async def _read(self, groups: list[tuple[int, ...]]) -> dict[tuple[int, ...], dict[int, TrackFragment]]:
        """Read the tracks of all callers, each once; each caller gets all of them."""
        keys = list({key for group in groups for key in group})
        fragments: dict[int, TrackFragment] = {}
        for start in range(0, len(keys), _TOGETHER):
            epoch, tracks = await listed.read_listed_tracks(self._pool, keys[start : start + _TOGETHER])
            for track in tracks:
                fragment = fragments[track.key] = TrackFragment(track)
                if epoch == self._epoch:
                    self._keep(track.key, fragment)
            await self._know_layout(tracks)
            self.read_count += len(tracks)
        return dict.fromkeys(groups, fragments)

    async def _know_layout(self, tracks: Iterable[ListedTrack]) -> None:
        if self.layout is None and any(track.embedding is not None for track in tracks):
            found = await fetch_layout(self._pool)
            self.layout = None if found is None else Layout.of_rows(*found)

    @property
    def bytes(self) -> int:
        """The approximate size of the cached fragments."""
        return int(self._fragments.currsize)

    def __len__(self) -> int:
        return len(self._fragments)
