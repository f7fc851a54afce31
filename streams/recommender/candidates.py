"""Where candidates come from: a stored list, the search process, the part of the catalogue that meets the filters."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import asyncpg
import numpy as np
import numpy.typing as npt
import orjson
from cachetools import LRUCache

from store import candidates as stored
from store.candidates import KnownTrack, StoredList
from streams.engine.search.process import SearchCallError
from streams.engine.types import Keys, Vectors
from streams.recommender import problems
from streams.recommender.listening import Listeners
from streams.recommender.query_builder import needs_vectors, with_vectors
from streams.recommender.search_batching import TOGETHER, Nearest, Search, SharedSearch, Start
from streams.recommender.settings import RecommenderSettings
from streams.recommender.tracks import TrackCache
from streams.strategies import (
    Candidates,
    Caps,
    Columns,
    Query,
    Selection,
    candidates_wanted,
    fields_needed,
    filters,
    hubs,
    listable,
    registry,
    select,
)
from streams.strategies.seeds import coefficients, combine
from streams.strategies.types import Floats, Vector

Result = TypeVar("Result")

# How many candidates are searched for at first, at least, where some may be passed over.
FIRST: Final = 200
# How many times as many candidates are asked for when those before were too few, until there are no more.
WIDER: Final = 3
# Of these, so many more than could just fill the list are chosen from.
CHOICE: Final = 200
# To choose from more than so many takes long.
LONG: Final = 1_000
# Of a catalogue that was searched for what meets the filters: so many of the nearest at first. And no more than so many
# of the nearest of all are looked at before it is searched.
MEETING: Final = 1_000
# What was found to meet filters is used again within this time, though the catalogue has changed: what has changed
# since is held against the filters all the same, when it is chosen.
_SCAN_SECONDS: Final = 2.0
# How long a question waits for a catalogue that is being loaded, or for a track that has just been accepted; and between
# two looks for it.
PATIENCE_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02
_SCANS: Final = 32


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
    to_seeds: npt.NDArray[np.float32] | None


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
        self._search: SharedSearch | None = None
        self._attached = asyncio.Event()
        self._scans: LRUCache[bytes, tuple[int, float, Keys]] = LRUCache(_SCANS)
        self._scanning = asyncio.Lock()
        # One, as two would take the interpreter from each other; and one for what would keep everybody else waiting.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="strategies")
        self._long_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="comparisons")

    def attach(self, search: Search) -> None:
        """From now on this is searched."""
        self._search = SharedSearch(search)
        self._attached.set()

    async def search(self) -> SharedSearch:
        """What is searched; a worker that has just started waits for it to be loaded, as nobody else has the question.

        Raises:
            ProblemError: 503, where there is nothing to search in after all.
        """
        if self._search is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._attached.wait(), PATIENCE_SECONDS)
        if self._search is None:
            raise problems.search_unavailable()
        return self._search

    def close(self) -> None:
        """Let go of the threads."""
        for thread in (self._thread, self._long_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    async def aside(self, function: Callable[..., Result], *arguments: Any, long: bool = False) -> Result:
        """Call something that takes CPU time off the event loop; `long` if it takes more than some milliseconds."""
        thread = self._long_thread if long else self._thread
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)

    async def vectors_of(self, keys: Sequence[int], *, patience: float = 0.0) -> dict[int, Vector]:
        """The vectors of tracks, without those that are not there; these are waited for, `patience` seconds at most."""
        if not keys:
            return {}
        search, deadline = await self.search(), time.monotonic() + patience
        while True:
            found, known = await search.vectors(np.array(keys, dtype=np.int64))
            if known.all() or time.monotonic() >= deadline:
                return {key: found[i] for i, key in enumerate(keys) if known[i]}
            await asyncio.sleep(_POLL_SECONDS)

    async def gather(
        self,
        query: Query,
        own: StoredList | None,
        begun: Nearest | None,
        then: Callable[[Gathered], Result],
    ) -> Result:
        """Candidates and the list made of them.

        Widened as long as the list is shorter than `top_k`; only then are conditions relaxed.

        Args:
            query: What is asked; without vectors only where there is `own`.
            own: The stored list of the only seed, where the plain nearest are asked for; None to search.
            begun: What `begin` has found.
            then: What is made of them, in the thread that they were chosen in: each hand-over to a thread and back
                costs as much as a tenth of all that is done for a question.

        Raises:
            InvalidQuery: As the strategies have it.
            ProblemError: 503 where there is nothing to search in.
            StoreUnavailableError: Metadata or popularity cannot be read.
        """
        eager = replace(query, at_least=None)

        def choose(asked: Query, read: _Read, more: bool, searched: bool) -> Result | None:
            pool = self._candidates(asked, read)
            if more and limited(asked) and not _enough(pool, asked):
                return None
            selection = select(pool, asked, more=more)
            if selection.wants_more:
                return None
            return then(Gathered(pool, read.tracks, selection, asked, searched))

        searched = own is None
        async for found, more in self._parts(query, self._sources(query, own, begun)):
            read = await self._read(query, found)
            long = len(read.keys) > LONG
            made = await self.aside(choose, eager if more else query, read, more, searched, long=long)
            if made is not None:
                return made
            searched = True
        raise AssertionError("the last source has no more")

    async def begin(self, query: Query) -> tuple[dict[int, Vector], Nearest | None]:
        """What a question without vectors is answered from at first, in one call of the search process.

        Returns:
            The vectors of its seeds and negatives, by key, without those that are not there; and the first candidates,
            None where one is missing or nothing can be searched for: then there is more to find out.
        """
        keys = [track.key for track in (*query.seeds, *query.negatives)]
        count = first_size(query)
        if count > TOGETHER:
            return await self.vectors_of(keys), None
        vectors = needs_vectors(query)
        # What filters have found elsewhere is joined to it, and has no cosines.
        seeds = 0 if vectors or query.filters or len(query.seeds) == 1 else len(query.seeds)
        start = Start(
            np.array(keys, dtype=np.int64),
            coefficients(query),
            query.embedding,
            count,
            seeds,
            vectors or (len(query.seeds) > 1 and not seeds),
        )
        try:
            begun = await (await self.search()).begin(start)
        except SearchCallError:  # it is told when they are combined here
            return await self.vectors_of(keys), None
        there = {key: begun.vectors[i] for i, key in enumerate(keys) if begun.known[i]}
        return there, begun.nearest if begun.known.all() else None

    async def _sources(
        self, query: Query, own: StoredList | None, begun: Nearest | None
    ) -> AsyncIterator[tuple[Nearest, bool]]:
        """Ever more candidates, most similar first, and whether there are more."""
        if own is not None:
            yield Nearest(own.neighbours, own.scores), True
            vectors, begun = await self.begin(query)
            if not vectors:  # a track whose vector the search does not have yet: its list is all there is
                yield Nearest(own.neighbours, own.scores), False
                return
            query = with_vectors(query, vectors)
        size = first_size(query)
        while True:
            found = begun or await self._nearest(combined(query), size)
            begun = None
            more = len(found.keys) >= size
            yield found, more
            if not more:
                return
            if query.filters and size <= MEETING and (meeting := await self._meeting(query)) is not None:
                async for both in self._among(query, found, meeting):
                    yield both
                return
            size *= WIDER

    async def _among(
        self, query: Query, found: Nearest, meeting: Keys
    ) -> AsyncIterator[tuple[Nearest, bool]]:
        """Ever more of those that meet the filters beside what was found, until it is all of them."""
        size = MEETING
        while True:
            more = size < len(meeting)
            yield (
                _both(found, await self._nearest(combined(query), min(size, max(1, len(meeting))), meeting)),
                more,
            )
            if not more:
                return
            size *= WIDER

    async def _parts(
        self, query: Query, sources: AsyncIterator[tuple[Nearest, bool]]
    ) -> AsyncIterator[tuple[Nearest, bool]]:
        """Of what was found only as much as may be enough, and then all; nothing, where all is not enough.

        To rank thousands takes tens of milliseconds, to count who could be listed hardly one.
        """
        async for found, more in sources:
            if limited(query) and len(found.keys) > first_size(query):
                tracks = await self._tracks.get(found.keys.tolist())
                least = await self.aside(_least, query, found.keys, tracks)
                if least is None and more:
                    continue
                size = len(found.keys) if least is None else max(first_size(query), least + CHOICE)
                if size < len(found.keys):
                    yield found.first(size), True
            yield found, more

    async def _nearest(self, vector: Vector, count: int, among: Keys | None = None) -> Nearest:
        if among is not None and not len(among):
            return Nearest(among, np.empty(0, dtype=np.float32))
        return await (await self.search()).nearest(vector, count, among=among)

    async def nearest_candidates(
        self, query: Query, vector: Vector, count: int
    ) -> tuple[Candidates, dict[int, KnownTrack]]:
        """The nearest tracks as candidates, and what is known of them."""
        read = await self._read(query, await self._nearest(vector, count))
        return await self.aside(self._candidates, query, read, long=True), dict(read.tracks)

    async def _read(self, query: Query, found: Nearest) -> _Read:
        keys = found.keys
        tracks = await self._tracks.get(keys.tolist())
        vectors, known, share, density = found.vectors, None, None, None
        wanted = needs_vectors(query) or (len(query.seeds) > 1 and found.to_seeds is None)
        if vectors is None and wanted and len(keys):
            vectors, known = await (await self.search()).vectors(keys)
        if query.caps.list_share is not None:
            share = await self._listeners.list_share(keys)
        if query.hub_correction and len(keys):
            density = await stored.fetch_densities(self._pool, keys, hubs.NEIGHBOURS)
        return _Read(keys, found.similarity, tracks, vectors, known, share, density, found.to_seeds)

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
        percentile, probability, heard = self._listeners.current.of(keys)
        return Candidates(
            keys=keys,
            labels=labels,
            similarity=read.similarity[there],
            vectors=None if read.vectors is None else read.vectors[there],
            metadata=Columns([row.metadata for row in rows], fields_needed(query)),
            percentile=percentile,
            probability=probability,
            heard=heard,
            list_share=None if read.share is None else read.share[there],
            density=None if read.density is None else read.density[there],
            to_seeds=None if read.to_seeds is None else read.to_seeds[there],
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
            await self.aside(_those_meeting, query, names, rows, long=True)
            async for rows in stored.scan(self._pool, fields)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _those_meeting(query: Query, names: list[str], rows: Sequence[Mapping[str, Any]]) -> Keys:
    keys = np.fromiter((row["key"] for row in rows), dtype=np.int64, count=len(rows))
    pool = Candidates(keys, keys, np.zeros(len(keys), dtype=np.float32), metadata=Columns(rows, names))
    meets = np.ones(len(keys), dtype=np.bool_)
    for condition in query.filters:
        meets &= filters.mask(condition, pool)
    return keys[meets]


def _both(one: Nearest, other: Nearest) -> Nearest:
    """Two searches' findings, none twice, most similar first."""
    keys = np.concatenate([one.keys, other.keys])
    similarity = np.concatenate([one.similarity, other.similarity])
    _, first = np.unique(keys, return_index=True)
    order = first[np.lexsort((first, -similarity[first]))]
    return Nearest(keys[order], similarity[order])


def _enough(pool: Candidates, query: Query) -> bool:
    return len(pool) > 0 and bool(listable(pool, query)[-1] >= query.top_k)


def _least(query: Query, keys: Keys, tracks: Mapping[int, KnownTrack]) -> int | None:
    """How many of the first of these tracks, each once, could fill the list; None if all of them could not.

    `tracks` are those of them that there are, by key.
    """
    mine = keys
    if len(tracks) < len(keys):
        mine = keys[np.array([key in tracks for key in keys.tolist()], dtype=np.bool_)]
    rows = Columns([tracks[key].metadata for key in mine.tolist()], fields_needed(query))
    pool = Candidates(mine, mine, np.zeros(len(mine), dtype=np.float32), metadata=rows)
    least = int(np.searchsorted(listable(pool, query), query.top_k))
    return None if least == len(mine) else int(np.flatnonzero(keys == mine[least])[0]) + 1


def limited(query: Query) -> bool:
    """Whether metadata alone may keep candidates out."""
    return bool(query.filters) or query.caps != Caps()


def first_size(query: Query) -> int:
    """How many candidates are searched for at first."""
    wanted = candidates_wanted(query)
    # Where none can be passed over, what is wanted is enough.
    return max(wanted, FIRST) if limited(query) or query.near_duplicates else wanted


def combined(query: Query) -> Vector:
    """What to search for.

    Raises:
        ProblemError: 503, where the store has accepted a track a moment ago and the search is about to have it.
    """
    if any(track.vector is None for track in (*query.seeds, *query.negatives)):
        raise problems.search_unavailable()
    return combine(query).vector


def plain(query: Query) -> bool:
    """Whether the stored list of the only seed is what is asked for."""
    resolved = registry.resolve(query.strategy, query.mode, query.parameters)
    return (
        resolved.strategy.name == registry.DEFAULT
        and len(query.seeds) == 1
        and not (query.negatives or query.filters or query.near_duplicates or query.hub_correction)
        and query.embedding is None
    )
