"""Stored neighbour lists, read many at a time and put together with the tracks that they name."""

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


class TrackWithNeighbours(NamedTuple):
    """A track and the first of its neighbours.

    Attributes:
        key: Of the track that was asked for.
        seed: That track.
        header: About its list.
        neighbours: (track, cosine similarity) from the most similar on; tracks that are gone are left out.
    """

    key: int
    seed: TrackFragment
    header: ListHeader
    neighbours: list[tuple[TrackFragment, float]]


class ListReader:
    """Reads lists: in one round trip where every track in them is at hand, else in two.

    Args:
        pool: The store.
        cards: What is said of the tracks.
        timeout: Seconds a read may take.
    """

    def __init__(self, pool: asyncpg.Pool, cards: TrackFragments, timeout: float) -> None:
        self._cards = cards
        self._timeout = timeout
        self._lists = RequestBatcher[Wanted, ServedList](
            lambda wanted: listed.read_served_lists(pool, wanted), timeout
        )

    async def read(
        self, track_id: str, *, limit: int, exclude: Sequence[str] = ()
    ) -> TrackWithNeighbours | None:
        """The first `limit` neighbours of a track that are still there and not excluded; None where it has no list yet.

        Raises:
            ProblemError: There is no such track.
            StoreUnavailableError: Postgres cannot be reached.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        # So many are enough, whichever of them are excluded.
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
        cards = self._cards.at_hand(found.epoch, keys, versions)
        if None in cards:
            cards = await self._completed(keys, cards, deadline)
        seed, *others = cards
        if seed is None:  # withdrawn since its list was read
            raise problems.track_not_found_problem(track_id)
        pairs = zip(others, scores, strict=True)
        return TrackWithNeighbours(
            found.key, seed, found.header, [(card, score) for card, score in pairs if card is not None]
        )

    async def _completed(
        self, keys: list[int], cards: list[TrackFragment | None], deadline: float
    ) -> list[TrackFragment | None]:
        """The same cards, and those that are not at hand from the store."""
        missing = [key for key, card in zip(keys, cards, strict=True) if card is None]
        try:
            async with asyncio.timeout_at(deadline):
                read = await self._cards.read(missing)
        except TimeoutError as error:
            raise StoreUnavailableError("no answer in time") from error
        return [card or read.get(key) for key, card in zip(keys, cards, strict=True)]
