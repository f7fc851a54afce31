"""Reads stored neighbour lists in batches, and joins them with the tracks that they name."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from serving import problems
from serving.recommend.batching import RequestBatcher
from serving.recommend.track_fragments import TrackFragment, TrackFragments
from store import listed
from store.errors import StoreUnavailableError
from store.listed import ListHeader, ServedList, Wanted
from streams.contracts import track_key
from streams.strategies.aspects import Layout


class TrackWithNeighbours(NamedTuple):
    """A track and its first neighbours.

    Attributes:
        key: Of the track.
        seed: The track.
        header: About its list.
        neighbours: (track, cosine similarity), most similar first, without withdrawn tracks.
        layout: What the tracks' vectors are made up of, if they have aspects.
    """

    key: int
    seed: TrackFragment
    header: ListHeader
    neighbours: list[tuple[TrackFragment, float]]
    layout: Layout | None = None


class ListReader:
    """Reads lists: in one round trip if all their tracks are cached, else in two.

    Args:
        pool: The store.
        fragments: The JSON of tracks.
        timeout: Seconds that a read may take.
    """

    def __init__(self, pool: asyncpg.Pool, fragments: TrackFragments, timeout: float) -> None:
        self._fragments = fragments
        self._timeout = timeout
        self._lists = RequestBatcher[Wanted, ServedList](
            lambda wanted: listed.read_served_lists(pool, wanted), timeout
        )

    async def read(
        self, track_id: str, *, limit: int, exclude: Sequence[str] = ()
    ) -> TrackWithNeighbours | None:
        """The first `limit` neighbours of a track, without withdrawn and excluded ones; None if it has no list yet.

        Raises:
            ProblemError: There is no such track.
            StoreUnavailableError: Postgres cannot be reached.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        # Enough neighbours, whichever of them are excluded.
        found = await self._lists.get((track_id, limit + len(exclude)))
        if found is None:
            raise problems.track_not_found_problem(track_id)
        if found.header is None:
            return None
        keys, scores, versions = found.keys, found.scores, found.versions
        if exclude:
            excluded = {track_key(other) for other in exclude}
            left = [at for at, key in enumerate(keys) if key not in excluded][:limit]
            keys, versions = [keys[at] for at in left], [versions[at] for at in left]
            scores = [scores[at] for at in left]
        keys, versions = [found.key, *keys], [found.version, *versions]
        fragments = self._fragments.at_hand(found.epoch, keys, versions)
        if None in fragments:
            fragments = await self._completed(keys, fragments, deadline)
        seed, *others = fragments
        if seed is None:  # withdrawn since its list was read
            raise problems.track_not_found_problem(track_id)
        pairs = zip(others, scores, strict=True)
        return TrackWithNeighbours(
            found.key,
            seed,
            found.header,
            [(fragment, score) for fragment, score in pairs if fragment is not None],
            self._fragments.layout,
        )

    async def _completed(
        self, keys: list[int], fragments: list[TrackFragment | None], deadline: float
    ) -> list[TrackFragment | None]:
        """The same fragments, with the missing ones read from the store."""
        missing = [key for key, fragment in zip(keys, fragments, strict=True) if fragment is None]
        try:
            async with asyncio.timeout_at(deadline):
                read = await self._fragments.read(missing)
        except TimeoutError as error:
            raise StoreUnavailableError("no answer in time") from error
        return [fragment or read.get(key) for key, fragment in zip(keys, fragments, strict=True)]
