"""The context of a running application, created in its lifespan and passed to its routes."""

import asyncio
from dataclasses import dataclass
from typing import TypedDict, cast

import asyncpg
from starlette.requests import Request

from serving.health import HealthChecks
from serving.kafka.change_subscriber import ChangeSubscriber
from serving.kafka.streaming import OpenStreams
from serving.metrics import ApiMetrics
from serving.recommend.questions import QuestionReader
from serving.recommend.response_cache import ResponseCache
from serving.recommend.service import ReadService
from serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The parts that the routes of one application use.

    Attributes:
        settings: How it serves.
        pool: Read-only connections.
        health: The checks behind the health paths.
        metrics: The metrics.
        memory: Responses in memory.
        recommending: Answers questions.
        questions: Reads query strings.
        feed: The change feed; None without a broker.
        streams: The streams of events that are open.
        closing: Set when the process is to stop: streams end.
    """

    settings: ServingSettings
    pool: asyncpg.Pool
    health: HealthChecks
    metrics: ApiMetrics
    memory: ResponseCache
    recommending: ReadService
    questions: QuestionReader
    feed: ChangeSubscriber | None
    streams: OpenStreams
    closing: asyncio.Event


class LifespanState(TypedDict):
    """The lifespan's state."""

    context: ApiContext


def context_of(request: Request) -> ApiContext:
    """The context of the application that serves `request`."""
    return cast("ApiContext", request.scope["state"]["context"])
