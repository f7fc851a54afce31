"""Where candidates come from: a stored list, the search process, the part of the catalogue that meets the filters."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

import asyncpg
import numpy as np
import numpy.typing as npt
import orjson
from cachetools import LRUCache

from store import candidates as stored
from store.candidates import KnownTrack, StoredList
from streams.agents.recommender import problems
from streams.agents.recommender.asking import needs_vectors
from streams.agents.recommender.listening import Listeners
from streams.agents.recommender.settings import RecommenderSettings
from streams.agents.recommender.tracks import TrackCache
from streams.neighbours.search.types import Found
from streams.neighbours.types import Keys, Vectors
from streams.strategies import (
    Candidates,
    Query,
    Selection,
    candidates_wanted,
    columns,
    fields_needed,
    filters,
    hubs,
    registry,
    select,
)
from streams.strategies.types import Floats, Vector

Result = TypeVar("Result")

# How many candidates are searched for at first, at least: a few more cost next to nothing.
FIRST: Final = 200
# How many candidates are asked for when the first are too few, one after the other.
WIDER: Final = (1_000, 5_000)
# Of a catalogue that was searched for what meets the filters: so many of the nearest, and of the nearest of all.
MEETING: Final = 1_000
# What was found to meet filters is used again within this time, though the catalogue has changed: what has changed
# since is held against the filters all the same, when it is chosen.
_SCAN_SECONDS: Final = 2.0
_SCANS: Final = 32


class Search(Protocol):
    """The part of `SearchProcess` that is used here."""

    async def search(
        self, queries: Vectors, count: int, *, among: Keys | None = None, without: Keys | None = None
    ) -> Found:
        """See `SearchProcess.search`."""

    async def vectors(self, keys: Keys) -> tuple[Vectors, npt.NDArray[np.bool_]]:
        """See `SearchProcess.vectors`."""


@dataclass(frozen=True, eq=False, slots=True)
class Gathered:
    """Candidates, the tracks behind them by key, and the list that the strategies made of them."""

    pool: Candidates
    tracks: Mapping[int, KnownTrack]
    selection: Selection
    query: Query
    searched: bool


@dataclass(frozen=True, eq=False, slots=True)
class _Read:
    """What was read of n candidates, all in the order of `keys`; None where the question needs it not."""

    keys: Keys
    similarity: npt.NDArray[np.float32]
    tracks: Mapping[int, KnownTrack]
    vectors: Vectors | None
    known: npt.NDArray[np.bool_] | None
    share: Floats | None
    density: Floats | None


class Gatherer:
    """Brings candidates, widening until there are enough of them, and lets the strategies choose.

    Args:
        pool: The store.
        tracks: Their metadata.
        listeners: Their popularity.
        settings: Sizes.
    """

    def __init__(
        self, pool: asyncpg.Pool, tracks: TrackCache, listeners: Listeners, settings: RecommenderSettings
    ) -> None:
        self._pool = pool
        self._tracks = tracks
        self._listeners = listeners
        self._settings = settings
        self._search: Search | None = None
        self._scans: LRUCache[bytes, tuple[int, float, Keys]] = LRUCache(_SCANS)
        self._scanning = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=2, thread_name_prefix="strategies")

    def attach(self, search: Search) -> None:
        """From now on this is searched."""
        self._search = search

    @property
    def search(self) -> Search:
        """What is searched.

        Raises:
            ProblemError: 503, as long as there is nothing to search in.
        """
        if self._search is None:
            raise problems.search_unavailable()
        return self._search

    def close(self) -> None:
        """Let go of the threads."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def aside(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call something that takes CPU time off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def vectors_of(self, keys: Sequence[int]) -> dict[int, Vector]:
        """The vectors of tracks, without those that are not there."""
        if not keys:
            return {}
        found, known = await self.search.vectors(np.array(keys, dtype=np.int64))
        return {key: found[i] for i, key in enumerate(keys) if known[i]}

    async def gather(self, query: Query, vector: Vector | None, own: StoredList | None) -> Gathered:
        """Candidates and the list made of them.

        Widened as long as the list is shorter than `top_k`; only then are conditions relaxed.

        Args:
            query: What is asked.
            vector: float32 (d,), what to search for; None where `own` is enough to begin with: then it is looked up.
            own: The stored list of the only seed, where the plain nearest are asked for; None to search.

        Raises:
            InvalidQuery: As the strategies have it.
            ProblemError: 503 where there is nothing to search in.
            StoreUnavailableError: Metadata or popularity cannot be read.
        """
        eager = replace(query, at_least=None)
        async for keys, similarity, more in self._sources(query, vector, own):
            read = await self._read(query, keys, similarity)
            asked = eager if more else query
            # In one go: each hand-over to a thread and back takes its time.
            pool, selection = await self.aside(self._choose, asked, read, more)
            if not selection.wants_more:
                searched = own is None or similarity is not own.scores
                return Gathered(pool, read.tracks, selection, asked, searched)
        raise AssertionError("the last source has no more")

    async def _sources(
        self, query: Query, vector: Vector | None, own: StoredList | None
    ) -> AsyncIterator[tuple[Keys, npt.NDArray[np.float32], bool]]:
        """Ever more candidates: keys and similarities, most similar first, and whether there are more."""
        if own is not None:
            yield own.neighbours, own.scores, True
        if vector is None:
            vector = (await self.vectors_of([query.seeds[0].key])).get(query.seeds[0].key)
            if vector is None:  # a track whose vector the search does not have yet: its list is all there is
                assert own is not None
                yield own.neighbours, own.scores, False
                return
        first = max(candidates_wanted(query), FIRST)
        sizes = [first, *(size for size in WIDER if size > first)]
        for size in sizes:
            keys, similarity = await self.nearest(vector, size)
            more = len(keys) >= size
            scanning = more and bool(query.filters) and size <= WIDER[0]
            yield keys, similarity, more and (scanning or size != sizes[-1])
            if scanning and (meeting := await self._meeting(query)) is not None:
                nearest, among = (
                    await self.nearest(vector, size),
                    await self.nearest(vector, MEETING, meeting),
                )
                yield *_both(nearest, among), False
                return

    async def nearest(
        self, vector: Vector, count: int, among: Keys | None = None
    ) -> tuple[Keys, npt.NDArray[np.float32]]:
        """The keys of the nearest tracks, and their similarities."""
        if among is not None and not len(among):
            return among, np.empty(0, dtype=np.float32)
        found = await self.search.search(vector[None], count, among=among)
        length = int(found.lengths[0])
        return found.keys[0, :length], found.scores[0, :length]

    async def nearest_candidates(
        self, query: Query, vector: Vector, count: int
    ) -> tuple[Candidates, dict[int, KnownTrack]]:
        """The nearest tracks as candidates, and what is known of them."""
        read = await self._read(query, *await self.nearest(vector, count))
        return await self.aside(self._candidates, query, read), dict(read.tracks)

    async def _read(self, query: Query, keys: Keys, similarity: npt.NDArray[np.float32]) -> _Read:
        tracks = await self._tracks.get(keys.tolist())
        vectors = known = share = density = None
        if needs_vectors(query) and len(keys):
            vectors, known = await self.search.vectors(keys)
        if query.caps.list_share is not None:
            share = await self._listeners.list_share(keys)
        if query.hub_correction and len(keys):
            density = await stored.fetch_densities(self._pool, keys, hubs.NEIGHBOURS)
        return _Read(keys, similarity, tracks, vectors, known, share, density)

    def _choose(self, query: Query, read: _Read, more: bool) -> tuple[Candidates, Selection]:
        pool = self._candidates(query, read)
        return pool, select(pool, query, more=more)

    def _candidates(self, query: Query, read: _Read) -> Candidates:
        """Arrays of what is there: tracks withdrawn meanwhile are left out."""
        listed = read.keys.tolist()
        there = np.fromiter((key in read.tracks for key in listed), dtype=np.bool_, count=len(listed))
        if read.known is not None:
            there &= read.known
        keys = read.keys[there]
        rows = [read.tracks[key] for key in keys.tolist()]
        labels = np.empty(len(rows), dtype=np.int64)
        labels[sorted(range(len(rows)), key=[row.track_id for row in rows].__getitem__)] = np.arange(
            len(rows)
        )
        percentile, probability = self._listeners.current.of(keys)
        return Candidates(
            keys=keys,
            labels=labels,
            similarity=read.similarity[there],
            vectors=None if read.vectors is None else read.vectors[there],
            metadata=columns([row.metadata for row in rows], fields_needed(query)),
            percentile=percentile,
            probability=probability,
            list_share=None if read.share is None else read.share[there],
            density=None if read.density is None else read.density[there],
        )

    async def _meeting(self, query: Query) -> Keys | None:
        """Every track of the catalogue that meets the filters; None where there are too many tracks to look at."""
        wanted = orjson.dumps([repr(condition) for condition in sorted(query.filters, key=repr)])
        async with self._scanning:
            kept = self._scans.get(wanted)
            if kept is not None:
                changes, at, keys = kept
                if changes == self._tracks.changes or time.monotonic() - at < _SCAN_SECONDS:
                    return keys
            if await stored.count_tracks(self._pool) > self._settings.scanned_tracks:
                return None
            began, changes = time.monotonic(), self._tracks.changes
            keys = await self._scan(query)
            self._scans[wanted] = (changes, began, keys)
            return keys

    async def _scan(self, query: Query) -> Keys:
        names = sorted({condition.field for condition in query.filters})
        fields = sorted({name.partition(".")[0] for name in names})
        parts = [
            await self.aside(_those_meeting, query, names, rows)
            async for rows in stored.scan(self._pool, fields)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _those_meeting(query: Query, names: list[str], rows: Sequence[Mapping[str, Any]]) -> Keys:
    keys = np.fromiter((row["key"] for row in rows), dtype=np.int64, count=len(rows))
    pool = Candidates(keys, keys, np.zeros(len(keys), dtype=np.float32), metadata=columns(rows, names))
    meets = np.ones(len(keys), dtype=np.bool_)
    for condition in query.filters:
        meets &= filters.mask(condition, pool)
    return keys[meets]


def _both(
    one: tuple[Keys, npt.NDArray[np.float32]], other: tuple[Keys, npt.NDArray[np.float32]]
) -> tuple[Keys, npt.NDArray[np.float32]]:
    keys, similarity = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    _, first = np.unique(keys, return_index=True)
    first.sort()
    return keys[first], similarity[first]


def plain(query: Query) -> bool:
    """Whether the stored list of the only seed is what is asked for."""
    resolved = registry.resolve(query.strategy, query.mode, query.parameters)
    return (
        resolved.strategy.name == registry.DEFAULT
        and len(query.seeds) == 1
        and not (query.negatives or query.filters or query.near_duplicates or query.hub_correction)
        and query.embedding is None
    )
