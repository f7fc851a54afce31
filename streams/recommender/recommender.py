"""Answers requests with a fresh materialised response, or else computes one, once for all identical requests."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import asyncpg
import numpy as np
import structlog
from pydantic import ValidationError

from store import materialised
from store.candidates import StoredNeighbours, existing_keys, fetch_list
from store.errors import StoreUnavailableError
from store.layouts import fetch_layout
from store.materialised import BodyKey, NewBody
from streams.contracts import (
    MinOffset,
    RecommendationQuery,
    RecommendationRequest,
    encode_error,
    encode_reply,
    entity_tag,
    finished_body,
    generation_members,
    times,
    track_key,
)
from streams.engine.search.process import SearchStoppedError
from streams.engine.types import TrackBatch
from streams.generations import GenerationName
from streams.recommender import problems
from streams.recommender.catalogue_questions import (
    Body,
    CatalogueAnswer,
    CatalogueQuestion,
    FailedQuestion,
    RefusedQuestion,
    UnknownTracks,
)
from streams.recommender.listening import PopularityCache
from streams.recommender.materialiser import Materialiser, heat_of
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.popularity import ListFacts, Popularity
from streams.recommender.problems import RequestProblemError
from streams.recommender.query_builder import NamedTracks, as_problem, is_stored_list, make_query
from streams.recommender.settings import RecommenderSettings
from streams.recommender.told_changes import ToldChanges
from streams.single_flight import SingleFlight
from streams.strategies import InvalidQuery, Query, registry
from streams.strategies.aspects import Layout

log = structlog.get_logger(__name__)

Offsets = Callable[[], Mapping[int, int]]

# Errors that one body's data may cause; other bodies are refreshed all the same.
_UNFORESEEN: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
_POLL_SECONDS: Final = 0.01
# How long a question waits for a catalogue that is being loaded or for a track that has just been accepted, and the time
# between two checks.
PATIENCE_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.02
LATE: Final = "the event of min_offset has not been taken in yet"
_ASKED = {"request_id", "timeout_ms", "hits"}


class Answers(Protocol):
    """The used part of `AnswerProcess`."""

    async def answer(self, question: CatalogueQuestion) -> CatalogueAnswer:
        """See `AnswerProcess.answer`."""

    async def know_popularity(self, popularity: Popularity) -> None:
        """See `AnswerProcess.know_popularity`."""

    async def know_lists(self, facts: ListFacts) -> None:
        """See `AnswerProcess.know_lists`."""


@dataclass(frozen=True, slots=True)
class _PreparedQuestion:
    """A question with everything that was read for it.

    Attributes:
        request: The request.
        query: The strategies' query.
        own: The stored list of the only seed.
        searched: By partition, the offset below which the searched catalogue holds everything.
        began: When it was read, by this process's monotonic clock.
        question: The message for the catalogue's process.
    """

    request: RecommendationQuery
    query: Query
    own: StoredNeighbours | None
    searched: Mapping[int, int]
    began: float
    question: CatalogueQuestion


class Recommender:
    """Answers recommendation requests from the store and from the process that holds the catalogue.

    Any worker can answer any request. It calls that process once, and reads from the store the materialised response and
    the stored list of a single seed.

    Args:
        pool: The store.
        answers: The process that holds the catalogue; None until `attach`.
        settings: Sizes, windows and budgets.
        metrics: The recommender's metrics.
        generation: Whose tracks and lists these are.
        applied: By partition of its topic, the offset below which `answers` holds everything.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        answers: Answers | None,
        settings: RecommenderSettings,
        metrics: RecommenderMetrics,
        *,
        generation: GenerationName,
        applied: Offsets = dict,
    ) -> None:
        self._pool = pool
        self._topic = generation.topic
        self._of = generation_members(generation)
        self._settings = settings
        self._metrics = metrics
        self._applied = applied
        self._changes = ToldChanges()
        self.listeners = PopularityCache(pool, settings.popularity_window_seconds, settings.half_life_days)
        self.materialiser = Materialiser(pool, self._changes, self._refresh, settings, metrics)
        self._computations = SingleFlight[bytes, Body]()
        self._layout: Layout | None = None
        self._answers: Answers | None = None
        self._attached = asyncio.Event()
        # What the process has received.
        self._popularity: Popularity | None = None
        self._facts: ListFacts | None = None
        if answers is not None:
            self.attach(answers)

    def attach(self, answers: Answers) -> None:
        """Use this catalogue from now on."""
        self._answers = answers
        self._attached.set()
        self.materialiser.refreshing = True

    def follow(self, batch: TrackBatch) -> None:
        """Record the tracks of a batch as changed. Call it with every batch, whichever worker consumed it."""
        self._changes.follow(batch)

    def follow_metadata(self, keys: Iterable[int]) -> None:
        """Record that the catalogue's process has had other metadata of these tracks until now."""
        self._changes.describe(keys)

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Background tasks by name; they end only if cancelled, or if nothing is to be refreshed."""
        return {
            "popularity": self.listeners.run(),
            "keeping bodies": self.materialiser.run_writing(),
            "counting hits": self.materialiser.run_counting(),
            "refreshing bodies": self.materialiser.run_refreshing(),
        }

    async def close(self) -> None:
        """Cancel computations in progress."""
        await self._computations.close()

    async def answer(self, request: RecommendationRequest, seconds: float | None = None) -> bytes:
        """The reply to a request, as bytes; a problem is a reply, too.

        Args:
            request: The request.
            seconds: How much longer the caller waits; None if unknown.

        Raises:
            Exception: A defect, which neither the request nor the state of the services can cause.
        """
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                body = await self._body(request, began)
        except RequestProblemError as error:
            return self._failed(request, error)
        except StoreUnavailableError:
            return self._failed(request, problems.store_away())
        except SearchStoppedError:
            return self._failed(request, problems.search_unavailable())
        except TimeoutError:
            return self._failed(request, problems.too_late())
        return encode_reply(request.request_id, body)

    def _failed(self, request: RecommendationRequest, error: RequestProblemError) -> bytes:
        outcome = "refused" if error.problem.status < 500 else "failed"
        self._metrics.requests.labels(outcome).inc()
        return encode_error(request.request_id, error.problem)

    async def _body(self, request: RecommendationRequest, began: float) -> bytes:
        variant = request.variant()
        if variant is None or request.track_id is None:
            return self._made(await self._shared(request, variant), began)
        which = (track_key(request.track_id), *request.canonical, variant)
        kept = await materialised.read_body(self._pool, *which)
        if kept is not None:
            self.materialiser.hit(which, request.hits)
            if not kept.stale:
                self._metrics.requests.labels("stored").inc()
                return finished_body(
                    kept.body, self._of, cached=True, stale=False, milliseconds=_since(began)
                )
        body = await self._shared(request, variant)
        if kept is None:
            # Before the body is to be written there is nothing to note a hit on.
            self.materialiser.hit(which, request.hits)
        return self._made(body, began)

    def _made(self, body: Body, began: float) -> bytes:
        return finished_body(body.computed, self._of, cached=False, stale=False, milliseconds=_since(began))

    async def _shared(self, request: RecommendationQuery, variant: int | None) -> Body:
        """Compute, or wait for an identical computation in progress."""
        same = request.asked
        self._metrics.requests.labels("shared" if same in self._computations else "computed").inc()
        return await self._computations.run_detached(
            same, lambda: self._compute(request, variant, "requested"), name="recommendation"
        )

    async def _compute(self, request: RecommendationQuery, variant: int | None, reason: str) -> Body:
        with self._metrics.phase_seconds.labels("read").time():
            asked = await self._read(request, keep=variant is not None)
            answers = await self._informed(asked.query)
        with self._metrics.phase_seconds.labels("answer").time():
            body = await self._ask(answers, asked)
        if variant is not None and body.kept is not None:
            self._keep(asked, body, body.kept, variant, reason)
        return body

    async def _ask(self, answers: Answers, asked: _PreparedQuestion) -> Body:
        """The answer of the catalogue's process; a track that was just accepted is waited for.

        Raises:
            ProblemError: The question cannot be answered.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while isinstance(answer := await answers.answer(asked.question), UnknownTracks):
            await self._require(asked.request, answer.keys)
            if time.monotonic() > deadline:
                raise problems.search_unavailable()
            await asyncio.sleep(_LOOK_SECONDS)
        if isinstance(answer, RefusedQuestion):
            raise as_problem(InvalidQuery(answer.field, answer.reason), asked.request)
        if isinstance(answer, FailedQuestion):
            log.error("a question could not be answered", error=answer.text)
            raise problems.internal_failure()
        return answer

    async def _require(self, request: RecommendationQuery, keys: Collection[int]) -> None:
        """Make sure that these keys belong to tracks.

        Raises:
            ProblemError: 404.
        """
        unknown = set(keys) - await existing_keys(self._pool, list(keys))
        if unknown:
            raise NamedTracks.of(request).not_found(unknown, one=request.track_id is not None)

    async def _informed(self, query: Query) -> Answers:
        """The catalogue's process, with the popularity and statistics that the question needs.

        A worker that has just started waits for the catalogue to be loaded, as no other worker has the question.

        Raises:
            ProblemError: 503, if it has not been loaded in time.
        """
        popularity = await self.listeners.ready()
        if self._answers is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._attached.wait(), PATIENCE_SECONDS)
        answers = self._answers
        if answers is None:
            raise problems.search_unavailable()
        # Calls are handled in order, so later questions see it.
        if popularity is not self._popularity:
            self._popularity = popularity
            await answers.know_popularity(popularity)
        if query.hub_correction or query.caps.list_share is not None:
            facts = await self.listeners.list_facts()
            if facts is not self._facts:
                self._facts = facts
                await answers.know_lists(facts)
        return answers

    async def _read(self, request: RecommendationQuery, *, keep: bool) -> _PreparedQuestion:
        """Read everything from the store that a question needs.

        Raises:
            ProblemError: 422 for what cannot be meant.
        """
        late = request.min_offset is not None and not await self._has_taken(request.min_offset)
        # A search from here on has at least this.
        searched, began = dict(self._applied()), time.monotonic()
        now, window = time.time(), self._settings.random_window_seconds
        layout = await self._layout_of_all()
        query = make_query(request, now=now, window=window, layout=layout)
        reference = None if request.track_id is None else track_key(request.track_id)
        own = None if reference is None else await fetch_list(self._pool, reference)
        missing = reference is not None and own is None
        question = CatalogueQuestion(
            query,
            request.canonical,
            reference=reference,
            neighbours=own.neighbours if own is not None and is_stored_list(query) else None,
            source=_source(own, self._topic),
            provisional=missing or request.min_offset is not None,
            notes=(LATE,) if late else (),
            keep=keep,
            candidate=None if request.candidate is None else track_key(request.candidate),
            compare=request.compare,
        )
        return _PreparedQuestion(request, query, own, searched, began, question)

    async def _layout_of_all(self) -> Layout | None:
        """The layout of the catalogue's vectors, which never changes; None before its first track."""
        if self._layout is None and (found := await fetch_layout(self._pool)) is not None:
            self._layout = Layout.of_rows(*found)
        return self._layout

    async def _has_taken(self, wanted: MinOffset) -> bool:
        """Wait for an event to be searchable, up to the limit; whether it is."""
        deadline = time.monotonic() + self._settings.min_offset_wait_seconds
        while self._applied().get(wanted.partition, 0) <= wanted.offset:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _keep(self, asked: _PreparedQuestion, body: Body, kept: bytes, variant: int, reason: str) -> None:
        assert asked.question.reference is not None
        strategy, mode = asked.request.canonical
        _, ranking = registry.find_mode(strategy, mode)
        counts = ranking.depends_on("popularity")
        now = datetime.now(UTC)
        window = timedelta(seconds=self._settings.popularity_window_seconds)
        lag = timedelta(seconds=self._settings.searched_window_seconds)
        searched: dict[str, int] | None = {str(p): o for p, o in asked.searched.items() if o}
        if (
            is_stored_list(asked.query)
            and asked.own is not None
            and np.isin(body.members, asked.own.neighbours).all()
        ):
            searched = None  # every change of it also changes the track's list
        expires = None
        if ranking.depends_on("time"):
            span = self._settings.random_window_seconds
            expires = times.moment_of(min(int((asked.query.moment // span + 1) * span * 1e6), times.LATEST))
        new = NewBody(
            key=asked.question.reference,
            strategy=strategy,
            mode=mode,
            variant=variant,
            question=_question(asked.request) if variant else {},
            body=kept,
            tag=entity_tag(kept),
            members=body.members,
            list_version=None if asked.own is None else asked.own.version,
            popularity_version=body.popularity if counts else None,
            popularity_due=now + window if counts else None,
            searched=searched,
            searched_due=None if searched is None else now + lag,
            expires_at=expires,
            generated_at=body.generated_at,
            heat=heat_of(1, now.timestamp()),
        )
        self.materialiser.keep(new, body.made_from, began=asked.began, reason=reason)

    async def _refresh(self, kept: BodyKey) -> None:
        """Compute a stored body again; if that fails, delete it, so that it is computed on request."""
        try:
            request = RecommendationQuery.model_validate(
                {**kept.question, "track_id": kept.track_id, "strategy": kept.strategy, "mode": kept.mode}
            )
            await self._compute(request, kept.variant, "refreshed")
        except (RequestProblemError, ValidationError) as error:
            log.info("a kept recommendation is given up", track_id=kept.track_id, reason=str(error))
            await self._give_up(kept)
        except _UNFORESEEN:
            log.exception(
                "a kept recommendation cannot be computed anew and is given up", track_id=kept.track_id
            )
            await self._give_up(kept)

    async def _give_up(self, kept: BodyKey) -> None:
        which = (track_key(kept.track_id), kept.strategy, kept.mode, kept.variant)
        await materialised.drop_body(self._pool, *which)


def _source(own: StoredNeighbours | None, topic: str) -> dict[str, Any] | None:
    """Of the event that changed a list last, as a body has it."""
    if own is None:
        return None
    return {
        "topic": topic,
        "partition": own.source_partition,
        "offset": own.source_offset,
        "event_time": own.event_time,
    }


def _question(request: RecommendationQuery) -> dict[str, Any]:
    """What was asked beside track, strategy and mode, as JSON has it; defaults left out."""
    asked: dict[str, Any] = request.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=_ASKED
    )
    return {k: v for k, v in asked.items() if k not in ("track_id", "strategy", "mode", "user_context")}


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
