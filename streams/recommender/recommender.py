"""Answers requests: what is kept and fresh at once, everything else by computing it, once for all who ask the same."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg
import numpy as np
import structlog
from pydantic import ValidationError

from store import materialised
from store.candidates import KnownTrack, StoredList, count_tracks, fetch_dimension, fetch_list
from store.errors import StoreUnavailableError
from store.materialised import Kept, NewBody
from streams.contracts import (
    MinOffset,
    RecommendationQuery,
    RecommendationRequest,
    encode_error,
    encode_reply,
    finished_body,
    times,
    track_key,
)
from streams.engine.search.process import SearchCallError, SearchStoppedError
from streams.engine.types import TrackBatch
from streams.recommender import bodies, problems
from streams.recommender.bodies import Body
from streams.recommender.candidates import PATIENCE_SECONDS, Gathered, Gatherer, combined, plain
from streams.recommender.listening import Listeners
from streams.recommender.materialiser import Materialiser, heat_of
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.problems import ProblemError
from streams.recommender.query_builder import Named, as_problem, make_query, with_vectors
from streams.recommender.search_batching import Nearest, Search
from streams.recommender.settings import RecommenderSettings
from streams.recommender.tracks import TrackCache
from streams.strategies import (
    MOST,
    InvalidQuery,
    MissingData,
    Placement,
    Query,
    explain,
    explain_beyond,
)
from streams.strategies.arrays import cosines
from streams.strategies.types import Vector

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Offsets = Callable[[], Mapping[int, int]]

_POLL_SECONDS: Final = 0.01
LATE: Final = "the event of min_offset has not been taken in yet"
_ASKED = {"request_id", "timeout_ms", "hits"}
_POPULARITY_COUNTS: Final = {("popular", None), ("hybrid", None), ("diverse", "novelty"), ("auto", None)}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question with everything that was read for it."""

    request: RecommendationQuery
    query: Query
    known: Mapping[int, KnownTrack]
    reference: KnownTrack | None
    own: StoredList | None
    begun: Nearest | None
    searched: Mapping[int, int]
    provisional: bool
    late: bool

    @property
    def common(self) -> dict[str, Any]:
        """What every kind of answer is made with."""
        return {
            "reference": self.reference,
            "asked": self.request.canonical,
            "seeds": {seed.key: self.known[seed.key].track_id for seed in self.query.seeds},
        }


class Recommender:
    """Answers recommendation requests from the store and the search process.

    Any worker can answer any request. Reads of the store that a request needs are metadata of tracks not asked for
    lately and the stored list of a single seed.

    Args:
        pool: The store.
        search: Searches the catalogue; None as long as there is none, see `attach`.
        settings: Sizes, windows and budgets.
        metrics: Where it is measured.
        applied: By partition of track-ingest, the offset below which `search` holds everything.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        search: Search | None,
        settings: RecommenderSettings,
        metrics: RecommenderMetrics,
        *,
        applied: Offsets = dict,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._metrics = metrics
        self._applied = applied
        self.tracks = TrackCache(pool, settings.cached_tracks)
        self.listeners = Listeners(pool, settings.popularity_window_seconds, settings.half_life_days)
        self._gatherer = Gatherer(pool, self.tracks, self.listeners, settings)
        self.materialiser = Materialiser(pool, self.tracks, self._refresh, settings, metrics)
        self._in_flight: dict[bytes, asyncio.Task[Body]] = {}
        self._dimension: int | None = None
        metrics.cached_tracks.set_function(lambda: len(self.tracks))
        metrics.popularity_version.set_function(lambda: self.listeners.current.version)
        if search is not None:
            self.attach(search)

    def attach(self, search: Search) -> None:
        """There is a catalogue to search now."""
        self._gatherer.attach(search)
        self.materialiser.refreshing = True

    def follow(self, batch: TrackBatch) -> None:
        """These tracks have changed: to be called with every batch, whichever worker took it."""
        self.tracks.follow(batch)

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What must run beside, by name; never ends unless it is cancelled, or nothing is to be refreshed."""
        return {
            "popularity": self.listeners.run(),
            "reading ahead": self.tracks.run_ahead(),
            "keeping bodies": self.materialiser.run_writing(),
            "counting hits": self.materialiser.run_counting(),
            "refreshing bodies": self.materialiser.run_refreshing(),
        }

    def close(self) -> None:
        """Let go of threads and of computations under way."""
        for task in self._in_flight.values():
            task.cancel()
        self._gatherer.close()

    async def answer(self, request: RecommendationRequest, seconds: float | None = None) -> bytes:
        """The reply to a request, as it travels; a problem is a reply, too.

        Args:
            request: What is asked.
            seconds: How much longer somebody waits; None where that was not said.

        Raises:
            Exception: A defect: nothing that the request or the state of the services can bring about.
        """
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                body = await self._body(request, began)
        except ProblemError as error:
            return self._failed(request, error)
        except StoreUnavailableError:
            return self._failed(request, problems.store_unavailable())
        except SearchStoppedError:
            return self._failed(request, problems.search_unavailable())
        except TimeoutError:
            return self._failed(request, problems.too_late())
        return encode_reply(request.request_id, body)

    def _failed(self, request: RecommendationRequest, error: ProblemError) -> bytes:
        outcome = "refused" if error.problem.status < 500 else "failed"
        self._metrics.requests.labels(outcome).inc()
        return encode_error(request.request_id, error.problem)

    async def _body(self, request: RecommendationRequest, began: float) -> bytes:
        variant = request.variant()
        if variant is not None and request.track_id is not None:
            which = (track_key(request.track_id), *request.canonical, variant)
            kept = await materialised.read(self._pool, *which)
            self.materialiser.hit(which, request.hits)
            if kept is not None and not kept.stale:
                self._metrics.requests.labels("stored").inc()
                return finished_body(kept.body, cached=True, stale=False, milliseconds=_since(began))
        body = await self._shared(request, variant)
        return finished_body(body.computed, cached=False, stale=False, milliseconds=_since(began))

    async def _shared(self, request: RecommendationQuery, variant: int | None) -> Body:
        """Compute, or wait for who computes the same already."""
        same = request.asked
        task = self._in_flight.get(same)
        if task is None:
            self._metrics.requests.labels("computed").inc()
            task = asyncio.create_task(self._compute(request, variant, "requested"), name="recommendation")
            self._in_flight[same] = task
            task.add_done_callback(lambda done: self._settle(same, done))
        else:
            self._metrics.requests.labels("shared").inc()
        # Who asked first may go away: the others still wait.
        return await asyncio.shield(task)

    def _settle(self, same: bytes, task: asyncio.Task[Body]) -> None:
        self._in_flight.pop(same, None)
        if not task.cancelled():
            task.exception()  # whoever waited has had it; nobody may have

    async def _compute(self, request: RecommendationQuery, variant: int | None, reason: str) -> Body:
        with self._metrics.phase_seconds.labels("read").time():
            popularity = (await self.listeners.ready()).version
            asked = await self._read(request)
        try:
            if request.compare:
                return await self._compare(asked)
            if request.candidate is not None:
                return await self._place(asked, track_key(request.candidate))
            with self._metrics.phase_seconds.labels("choose").time():
                gathered, body = await self._gather(
                    asked, lambda found: (found, _rendered(asked, found, variant))
                )
        except InvalidQuery as error:
            raise as_problem(error, request) from None
        except MissingData as error:
            raise problems.search_unavailable() from error
        except SearchCallError as error:
            raise problems.invalid("embedding", _refusal(error)) from None
        if variant is not None and body.kept is not None:
            self._keep(asked, gathered, body, variant, popularity, reason)
        return body

    async def _read(self, request: RecommendationQuery) -> _Asked:
        """Everything that is known of the tracks that a request names.

        Raises:
            ProblemError: 404 for a track that isn't there, 422 for what cannot be meant.
        """
        late = request.min_offset is not None and not await self._has_taken(request.min_offset)
        # What is searched from here on has at least this.
        searched = dict(self._applied())
        named = Named.of(request)
        known = await self.tracks.get(named.keys)
        named.require(known, one=request.track_id is not None)
        reference = None if request.track_id is None else known[track_key(request.track_id)]
        own = None if reference is None else await fetch_list(self._pool, reference.key)
        now, window = time.time(), self._settings.random_window_seconds
        dimension = None if request.embedding is None else await self._dimension_of_all()
        query = make_query(request, known, now=now, window=window, dimension=dimension)
        afresh, begun = request.min_offset is not None, None
        if own is None or afresh or request.compare or not plain(query):
            vectors, begun = await self._begin(request, named, query)
            query = with_vectors(query, vectors)
        missing = reference is not None and own is None
        return _Asked(request, query, known, reference, own, begun, searched, missing or afresh, late)

    async def _dimension_of_all(self) -> int | None:
        """The catalogue's dimension; None before its first track."""
        if self._dimension is None:
            self._dimension = await fetch_dimension(self._pool)
        return self._dimension

    async def _begin(
        self, request: RecommendationQuery, named: Named, query: Query
    ) -> tuple[dict[int, Vector], Nearest | None]:
        """The vectors of seeds and negatives, and the first candidates if they have been found already.

        Raises:
            ProblemError: 404 for a track that has been withdrawn meanwhile.
        """
        keys = list({track.key for track in (*query.seeds, *query.negatives)})
        if request.compare:  # its candidates are others
            vectors, begun = await self._gatherer.vectors_of(keys), None
        else:
            vectors, begun = await self._gatherer.begin(query)
        if len(vectors) == len(keys):
            return vectors, begun
        # What is not searched has gone, or has been accepted a moment ago.
        self.tracks.forget(key for key in keys if key not in vectors)
        named.require(await self.tracks.get(named.keys), one=request.track_id is not None)
        return await self._gatherer.vectors_of(keys, patience=PATIENCE_SECONDS), None

    async def _has_taken(self, wanted: MinOffset) -> bool:
        """Wait until the event is in what is searched, or no longer than is right; whether it is."""
        deadline = time.monotonic() + self._settings.min_offset_wait_seconds
        while self._applied().get(wanted.partition, 0) <= wanted.offset:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _gather(self, asked: _Asked, then: Callable[[Gathered], Result]) -> Result:
        query = asked.query
        if asked.own is not None and plain(query) and query.seeds[0].vector is None:
            return await self._gatherer.gather(query, asked.own, None, then)
        return await self._gatherer.gather(query, None, asked.begun, then)

    async def _place(self, asked: _Asked, key: int) -> Body:
        candidate = asked.known[key]

        def explained(gathered: Gathered) -> tuple[Gathered, Placement]:
            return gathered, explain(gathered.pool, gathered.query, key, candidate.metadata)

        gathered, found = await self._gather(asked, explained)
        at = np.flatnonzero(gathered.pool.keys == key)
        if len(at):
            similarity = float(gathered.pool.similarity[at[0]])
        else:
            query, vector = await self._with_vectors(asked.query, key)
            sought = combined(query)
            similarity = float(cosines(vector[None], sought[None])[0, 0])
            if found.stage == "candidates":
                wider, _ = await self._gatherer.nearest_candidates(query, sought, MOST)
                found = await self._gatherer.aside(
                    explain_beyond, wider, query, key, len(gathered.pool), long=True
                )
                if found.stage != "candidates":
                    gathered = replace(gathered, pool=wider)
        return await self._gatherer.aside(
            lambda: bodies.placement(
                gathered, found, candidate=candidate, similarity=similarity, **asked.common
            )
        )

    async def _with_vectors(self, query: Query, key: int) -> tuple[Query, Vector]:
        """The question with its vectors, and another track's."""
        vectors = await self._gatherer.vectors_of([*(s.key for s in (*query.seeds, *query.negatives)), key])
        if key not in vectors:
            raise problems.search_unavailable()
        return with_vectors(query, vectors), vectors[key]

    async def _compare(self, asked: _Asked) -> Body:
        made = [
            # Each as it is served: from its own candidates, widened and relaxed by itself.
            (
                one,
                await self._gatherer.gather(asked.query.with_strategy(*one, {}), None, None, lambda own: own),
            )
            for one in bodies.compared_strategies()
        ]
        listed = {key for _, own in made for key in own.selection.keys}
        vectors = await self._gatherer.vectors_of(list(listed))
        size = max(await count_tracks(self._pool), len(listed))
        return await self._gatherer.aside(
            lambda: bodies.comparison(made, vectors=vectors, catalogue_size=size, **asked.common), long=True
        )

    def _keep(
        self,
        asked: _Asked,
        gathered: Gathered,
        body: Body,
        variant: int,
        popularity: int,
        reason: str,
    ) -> None:
        assert asked.reference is not None
        assert body.kept is not None
        strategy, mode = asked.request.canonical
        counts = (strategy, mode) in _POPULARITY_COUNTS
        now = datetime.now(UTC)
        window = timedelta(seconds=self._settings.popularity_window_seconds)
        lag = timedelta(seconds=self._settings.searched_window_seconds)
        searched = {str(p): o for p, o in asked.searched.items() if o} if gathered.searched else None
        expires = None
        if strategy == "random":
            span = self._settings.random_window_seconds
            expires = times.moment_of(min(int((asked.query.moment // span + 1) * span * 1e6), times.LATEST))
        new = NewBody(
            key=asked.reference.key,
            strategy=strategy,
            mode=mode,
            variant=variant,
            question=_question(asked.request) if variant else {},
            body=body.kept,
            tag=bodies.entity_tag(body.kept),
            members=body.members,
            list_version=None if asked.own is None else asked.own.version,
            popularity_version=popularity if counts else None,
            popularity_due=now + window if counts else None,
            searched=searched,
            searched_due=None if searched is None else now + lag,
            expires_at=expires,
            generated_at=body.generated_at,
            heat=heat_of(1, now.timestamp()),
        )
        made_from = {key: gathered.tracks[key] for key in body.members} | {
            asked.reference.key: asked.reference
        }
        self.materialiser.keep(new, made_from, reason=reason)

    async def _refresh(self, kept: Kept) -> None:
        """Compute a kept body anew; one that cannot be is kept no more, and made again when it is asked for."""
        try:
            request = RecommendationQuery.model_validate(
                {**kept.question, "track_id": kept.track_id, "strategy": kept.strategy, "mode": kept.mode}
            )
            await self._compute(request, kept.variant, "refreshed")
        except (ProblemError, ValidationError) as error:
            log.info("a kept recommendation is given up", track_id=kept.track_id, reason=str(error))
            which = (track_key(kept.track_id), kept.strategy, kept.mode, kept.variant)
            await materialised.drop(self._pool, *which)


def _rendered(asked: _Asked, gathered: Gathered, variant: int | None) -> Body:
    """The answer as it travels. Takes CPU time: not for the event loop."""
    return bodies.recommendations(
        gathered,
        own=asked.own,
        provisional=asked.provisional,
        notes=(LATE,) if asked.late else (),
        keep=variant is not None,
        **asked.common,
    )


def _question(request: RecommendationQuery) -> dict[str, Any]:
    """What was asked beside track, strategy and mode, as JSON has it; defaults left out."""
    asked: dict[str, Any] = request.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=_ASKED
    )
    return {k: v for k, v in asked.items() if k not in ("track_id", "strategy", "mode", "user_context")}


def _refusal(error: SearchCallError) -> str:
    return str(error).partition(": ")[2] or str(error)


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
