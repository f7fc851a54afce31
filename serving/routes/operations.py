"""`/health` and `/metrics`: for probes and monitoring. Query parameters are ignored here, as probes add their own."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving import models
from serving.context import context_of
from serving.health import Status
from serving.metrics import CONTENT_TYPE
from serving.recommend import replies
from serving.version import VERSION

_UNCACHED = {"cache-control": "no-store"}


def _report(status: Status, checks: dict[str, dict[str, object]]) -> Response:
    body = {"status": status, "version": VERSION, "checks": checks}
    return replies.json_response(body, 503 if status == "down" else 200, _UNCACHED)


async def live() -> Response:
    """Whether the process answers; checks nothing else."""
    return replies.json_response({"status": "ok", "version": VERSION}, headers=_UNCACHED)


async def ready(request: Request) -> Response:
    """Whether reads can be answered: the database answers and has this version's schema."""
    return _report(*await context_of(request).health.ready())


async def detailed(request: Request) -> Response:
    """The state and figures of database, migrations, broker, workers, consumer lag, catalogue and lists."""
    return _report(*await context_of(request).health.detailed())


async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(context_of(request).metrics.render(), headers=_UNCACHED, media_type=CONTENT_TYPE)


def register(app: FastAPI) -> None:
    """Add this module's paths."""
    down: dict[int | str, dict[str, Any]] = {
        503: {"description": "Reads cannot be answered", "model": models.HealthReport}
    }
    for path, endpoint, summary in (
        ("/health", ready, "Whether reads can be answered"),
        ("/health/ready", ready, "Readiness probe"),
        ("/health/detailed", detailed, "Everything that can be told"),
    ):
        app.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            tags=["operations"],
            name=path,
            summary=summary,
            response_model=models.HealthReport,
            responses=down,
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
