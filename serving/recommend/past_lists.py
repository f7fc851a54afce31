"""Answers what a track's stored list was at a time or a version, from the lists that workers keep."""

import time

import asyncpg

from serving import problems
from serving.recommend import replies
from serving.recommend.as_of import AsOf
from serving.recommend.service import ReadAnswer
from serving.recommend.track_fragments import TrackFragments
from store import list_history
from store.list_history import HistoryReach
from streams.contracts import RecommendationQuery, delivery_members, generation_members, track_key
from streams.generations import GenerationName


class PastListReader:
    """Reads lists as they were, with the tracks as they are.

    Args:
        generation: Whose lists these are.
        topic: Its topic.
        pool: The store.
        fragments: The JSON of tracks.
    """

    def __init__(
        self, generation: GenerationName, topic: str, pool: asyncpg.Pool, fragments: TrackFragments
    ) -> None:
        self._of = generation_members(generation)
        self._tagged = replies.tag_ending(generation)
        self._topic = topic
        self._pool = pool
        self._fragments = fragments

    async def answer(
        self, track_id: str, query: RecommendationQuery, as_of: AsOf, began: float
    ) -> ReadAnswer:
        """The answer to a question.

        Args:
            track_id: The track, which may be gone.
            query: How many neighbours, and which not.
            as_of: The time or the version.
            began: The start of the request, by `time.perf_counter`.

        Raises:
            ProblemError: It had no list then (404), or none is kept for so long (410).
            StoreUnavailableError: Postgres cannot be reached.
        """
        key = track_key(track_id)
        found = await list_history.read_past_list(self._pool, key, as_of)
        if found is None:
            reach = await list_history.read_reach(self._pool, key)
            if not reach.known:
                raise problems.track_not_found_problem(track_id)
            if not _reaches(reach, as_of):
                raise problems.list_not_kept(track_id, as_of, reach.since, reach.version)
            raise problems.no_list_then(track_id, as_of)
        excluded = {track_key(other) for other in query.exclude}
        listed = [
            (place, score)
            for place, score in zip(found.keys, found.scores, strict=True)
            if place not in excluded
        ][: query.top_k]
        fragments = await self._fragments.read([key, *(place for place, _ in listed)])
        named = [(fragments.get(place), score) for place, score in listed]
        body, tag = replies.past_body(track_id, fragments.get(key), found, named, self._topic, query.top_k)
        milliseconds = (time.perf_counter() - began) * 1000
        ending = delivery_members(self._of, cached=True, stale=False, milliseconds=milliseconds)
        return ReadAnswer(body + ending, (tag[:-1] + self._tagged).encode(), "history")


def _reaches(reach: HistoryReach, as_of: AsOf) -> bool:
    """Whether every list that stood then is kept, if it does not stand any more."""
    if reach.since is None or reach.version is None:
        return False
    return as_of >= reach.version if isinstance(as_of, int) else as_of >= reach.since
