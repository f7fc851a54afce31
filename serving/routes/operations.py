"""`/health` and `/metrics`: for probes and monitoring. Unknown query parameters are ignored here, as probes add their own."""

import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from serving import models
from serving.context import context_of
from serving.health import Status
from serving.metrics import CONTENT_TYPE
from serving.models import SPACE, problem_responses
from serving.recommend import replies
from serving.spaces import settled_context, spaces_of
from serving.version import VERSION
from streams.contracts import SpaceName
from streams.generations import DEFAULT_SPACE

_UNCACHED = {"cache-control": "no-store"}


def _report(status: Status, checks: dict[str, dict[str, object]]) -> Response:
    body = {"status": status, "version": VERSION, "checks": checks}
    return replies.json_response(body, 503 if status == "down" else 200, _UNCACHED)


async def live() -> Response:
    """Whether the process answers; checks nothing else."""
    return replies.json_response({"status": "ok", "version": VERSION}, headers=_UNCACHED)


async def ready(request: Request) -> Response:
    """Whether reads can be answered: the database answers and has this version's schema."""
    return _report(*await spaces_of(request).default.current.health.ready())


async def detailed(
    request: Request, space: Annotated[SpaceName, Query(description=SPACE.description)] = DEFAULT_SPACE
) -> Response:
    """The state and figures of database, migrations, broker, workers, consumer lag, catalogue and lists.

    The figures of generation, workers, lag, catalogue and lists are those of the space. Of others, `spaces` says what is wrong.
    """
    if space == DEFAULT_SPACE:  # reported although the store be away
        return _report(*await spaces_of(request).default.current.health.detailed())
    context = await settled_context(request.scope, time.perf_counter(), space)
    return _report(*await context.health.detailed())


async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(context_of(request).metrics.render(), headers=_UNCACHED, media_type=CONTENT_TYPE)


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    down: dict[int | str, dict[str, Any]] = {
        503: {"description": "Reads cannot be answered", "model": models.HealthReport}
    }
    refused = problem_responses(404, 422)
    for path, endpoint, summary, responses in (
        ("/health", ready, "Whether reads can be answered", down),
        ("/health/ready", ready, "Readiness probe", down),
        ("/health/detailed", detailed, "Everything that can be told", down | refused),
    ):
        app.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            tags=["operations"],
            name=path,
            summary=summary,
            response_model=models.HealthReport,
            responses=responses,
        )
    app.add_api_route(
        "/health/live",
        live,
        methods=["GET"],
        tags=["operations"],
        summary="Liveness probe",
        response_model=models.LivenessReport,
    )
    app.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        tags=["operations"],
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
