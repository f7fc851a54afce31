"""What one running application holds, made in its lifespan and given to its routes."""

from dataclasses import dataclass
from typing import TypedDict, cast

import asyncpg
from starlette.requests import Request

from serving.health import Health
from serving.metrics import Metrics
from serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class Context:
    """Settings, the pool of read-only connections, health and metrics of one application."""

    settings: ServingSettings
    pool: asyncpg.Pool
    health: Health
    metrics: Metrics


class State(TypedDict):
    """The lifespan's state."""

    context: Context


def context_of(request: Request) -> Context:
    """The context of the application that serves `request`."""
    return cast("Context", request.scope["state"]["context"])
