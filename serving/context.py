"""The context of a request: the parts of the generation that serves, and those of the process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import asyncpg
from starlette.requests import Request

from serving.health import HealthChecks
from serving.kafka.change_subscriber import ChangeSubscriber
from serving.kafka.streaming import OpenStreams
from serving.metrics import ApiMetrics
from serving.recommend.past_lists import PastListReader
from serving.recommend.questions import QuestionReader, ReadQuestion
from serving.recommend.response_cache import ResponseCache
from serving.recommend.service import ReadAnswer, ReadService
from serving.recommend.track_fragments import TrackFragments
from serving.settings import ServingSettings
from serving.workers.client import WorkerClient
from streams.generations import GenerationName


@dataclass(frozen=True, slots=True)
class SpaceParts:
    """What the contexts of one space share.

    Attributes:
        feed: The change feed of the space; None without a broker.
        turned: To be called after each look at the store that finds another generation to serve the space, or none.
        trouble: Says why another generation serves than should; None if that is not so.
    """

    feed: ChangeSubscriber | None
    turned: Callable[[], None]
    trouble: Callable[[], str | None]


@dataclass(slots=True, eq=False)
class ApiContext:
    """The parts that the routes use. A request has one context from its beginning to its end: no response mixes generations.

    Attributes:
        settings: How the process serves.
        generation: What is served.
        pool: Read-only connections, to the generation's tables.
        health: The checks behind the health paths.
        metrics: The process's metrics.
        memory: Responses in memory.
        fragments: The JSON of tracks.
        recommending: Answers questions.
        past_lists: Answers questions about lists as they were.
        workers: Asks the workers.
        questions: Reads query strings.
        feed: The change feed of the generation's space; None without a broker.
        streams: The streams of events that are open.
        closing: Set when the process is to stop: streams end.
        requests: How many requests have this context.
    """

    settings: ServingSettings
    generation: GenerationName
    pool: asyncpg.Pool
    health: HealthChecks
    metrics: ApiMetrics
    memory: ResponseCache
    fragments: TrackFragments
    recommending: ReadService
    past_lists: PastListReader
    workers: WorkerClient
    questions: QuestionReader
    feed: ChangeSubscriber | None
    streams: OpenStreams
    closing: asyncio.Event
    requests: int = 0

    async def answer(self, target: bytes, track_id: str, question: ReadQuestion, began: float) -> ReadAnswer:
        """The answer to a question for a track, as the list is or as it was; arguments as for `ReadService.answer`."""
        if question.as_of is None:
            return await self.recommending.answer(target, track_id, question, began)
        return await self.past_lists.answer(track_id, question.query, question.as_of, began)


def context_of(request: Request) -> ApiContext:
    """The context of `request`."""
    return cast("ApiContext", request.scope["state"]["context"])
