"""What one running application holds, made in its lifespan and given to its routes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import asyncpg
from starlette.requests import Request

from serving.health import Health
from serving.kafka.change_subscriber import ChangeFeed
from serving.kafka.streaming import OpenStreams
from serving.metrics import Metrics
from serving.recommend.questions import Questions
from serving.recommend.response_cache import Memory
from serving.recommend.service import Recommending
from serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class Context:
    """What the routes of one application work with.

    Attributes:
        settings: How it serves.
        pool: Read-only connections.
        health: The checks behind the health paths.
        metrics: Where everything is counted.
        memory: Ready answers.
        recommending: Answers questions.
        questions: Reads query strings.
        feed: The change feed; None without a broker.
        streams: The streams of events that are open.
        strategies: The strategies as `/strategies` describes them.
        closing: Set when the process is to stop: streams end.
    """

    settings: ServingSettings
    pool: asyncpg.Pool
    health: Health
    metrics: Metrics
    memory: Memory
    recommending: Recommending
    questions: Questions
    feed: ChangeFeed | None
    streams: OpenStreams
    strategies: Sequence[dict[str, Any]]
    closing: asyncio.Event


class State(TypedDict):
    """The lifespan's state."""

    context: Context


def context_of(request: Request) -> Context:
    """The context of the application that serves `request`."""
    return cast("Context", request.scope["state"]["context"])
