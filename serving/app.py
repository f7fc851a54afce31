"""Builds the application: `create_app` and its lifespan create everything, nothing happens at import."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import problems
from serving.access import cors_options, guard_access
from serving.background import running_tasks
from serving.exchange import ContextExchange
from serving.fast_path import FastPath
from serving.headers import SecurityHeaders
from serving.health import spaces_check
from serving.kafka.broker import IngestLogEnds
from serving.kafka.streaming import OpenStreams
from serving.keys import ApiKeyRing
from serving.logging import AccessLog
from serving.metrics import ApiMetrics
from serving.middleware import RequestLimits, RequestObserver
from serving.openapi import describe_openapi
from serving.parts import ProcessParts, change_feed, open_context
from serving.recommend.questions import QuestionReader
from serving.routes import asking, changes, incipits, operations, pages, recommend, tracks
from serving.routes import map as map_route
from serving.routes import strategies as strategies_route
from serving.settings import ServingSettings
from serving.spaces import LifespanState, Spaces
from serving.tracing import TracingMiddleware
from serving.version import VERSION
from store.settings import StoreSettings
from streams.contracts import tracing
from streams.freed import keep_giving_back
from streams.generations import GenerationName
from streams.loop_lag import measure_loop_lag

logger = structlog.get_logger("serving")


class Api(FastAPI):
    """The application, with layers in front of FastAPI's own middlewares."""

    _front: ASGIApp | None = None

    def put_in_front(self, make: Callable[[ASGIApp], ASGIApp]) -> None:
        """Wrap everything so far in `make`; the last wrapper is the outermost."""
        self._front = make(self._front or super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; a request gets the context of the generation that serves its space now."""
        front = self._front or super().__call__
        if scope["type"] != "http" or (state := scope.get("state")) is None:
            await front(scope, receive, send)
            return
        # The server copies the lifespan's state for each request.
        context = state["context"] = state["spaces"].at_hand(scope["query_string"])
        context.requests += 1
        try:
            await front(scope, receive, send)
        finally:
            state["context"].requests -= 1


@dataclass(frozen=True, slots=True)
class _Made:
    """The parts of an application before it runs."""

    settings: ServingSettings
    store: StoreSettings
    kafka: IngestLogEnds | None
    kafka_options: dict[str, Any] | None
    metrics: ApiMetrics
    keys: ApiKeyRing | None
    lines: AccessLog | None
    closing: asyncio.Event

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[LifespanState]:
        """Run the background parts around the application."""
        spaces = self._spaces()
        try:
            async with spaces.running():
                if self.keys is not None:
                    await self.keys.load(spaces.default.current.pool)
                async with running_tasks(self._work(spaces)):
                    logger.info("api started", version=VERSION)
                    yield LifespanState(spaces=spaces)
        finally:
            if self.kafka is not None:
                await self.kafka.close()
            if self.lines is not None:
                self.lines.flush()
            logger.info("api stopped")

    def _spaces(self) -> Spaces:
        settings, metrics = self.settings, self.metrics
        streams = OpenStreams(lambda why: metrics.streams_ended.labels(why).inc())
        metrics.streams.set_function(lambda: streams.open)
        process = ProcessParts(
            settings=settings,
            store=_for_reads(self.store, settings),
            log_ends=self.kafka,
            metrics=metrics,
            questions=QuestionReader(),
            streams=streams,
            closing=self.closing,
            spaces=lambda: spaces_check(spaces),
        )
        open_feed = partial(change_feed, settings, self.kafka_options, metrics)

        def make(first: GenerationName, deserted: Callable[[], None]) -> ContextExchange:
            opened = partial(open_context, process)
            return ContextExchange(first, opened, open_feed, metrics, settings.store_timeout, deserted)

        spaces = Spaces(make, settings.store_timeout)
        return spaces

    def _work(self, spaces: Spaces) -> dict[str, Coroutine[Any, Any, None]]:
        """The background tasks that belong to no space."""
        work: dict[str, Coroutine[Any, Any, None]] = {
            "loop lag": measure_loop_lag(self.metrics.loop_lag),
            "freed memory": keep_giving_back(),
        }
        if self.keys is not None:
            work["keys"] = self.keys.run(lambda: spaces.default.current.pool)
        return work


def create_app(
    settings: ServingSettings,
    store: StoreSettings,
    kafka: IngestLogEnds | None = None,
    *,
    kafka_options: dict[str, Any] | None = None,
) -> FastAPI:
    """The API over the store at `store`.

    Args:
        settings: How it serves.
        store: The store; `settings.store_timeout` replaces its timeouts.
        kafka: Reads the ends of the log for health reports; closed with the application. None without a broker.
        kafka_options: Options of aiokafka's clients, to ask the workers and to follow the change feed; None without a broker.

    Returns:
        An application whose lifespan raises `StoreUnavailableError` if Postgres is away and `SchemaMismatchError` if its
        schema is not this version's. Setting `state.closing` ends its streams; `state.metrics` has its metrics.
    """
    made = _Made(
        settings=settings,
        store=store,
        kafka=kafka,
        kafka_options=kafka_options,
        metrics=ApiMetrics(),
        keys=ApiKeyRing(settings.key_refresh, settings.store_timeout) if settings.require_keys else None,
        lines=AccessLog() if _logs_lines(settings) else None,
        closing=asyncio.Event(),
    )
    app = Api(
        title="MESS-AI",
        version=VERSION,
        lifespan=made.lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.closing = made.closing
    app.state.metrics = made.metrics
    problems.install_problem_handlers(app)
    # Routes match in order. Paths with a fixed last segment precede track ids, which may end in it; then come the most
    # frequent ones.
    for room in (
        asking,
        changes,
        recommend,
        tracks,
        incipits,
        map_route,
        strategies_route,
        operations,
        pages,
    ):
        room.register(app)
    describe_openapi(app, with_keys=settings.require_keys)
    _add_middleware(app, settings, made.metrics)
    _put_in_front(app, made)
    return app


def _put_in_front(app: Api, made: _Made) -> None:
    settings, keys = made.settings, made.keys
    if not settings.access_log or made.lines is not None:
        app.put_in_front(
            lambda inner: FastPath(
                inner,
                log=made.lines,
                max_url_bytes=settings.max_url_bytes,
                cors=bool(settings.cors_origins),
            )
        )
    if keys is not None or settings.address_rate is not None:
        # In front of the fast path, too: no request bypasses it.
        app.put_in_front(lambda inner: guard_access(inner, settings, keys, made.metrics))
    app.put_in_front(SecurityHeaders)
    if tracing.tracing_enabled():
        app.put_in_front(TracingMiddleware)


def _logs_lines(settings: ServingSettings) -> bool:
    return settings.access_log and settings.log_format == "json" and settings.log_level in {"debug", "info"}


def _add_middleware(app: FastAPI, settings: ServingSettings, metrics: ApiMetrics) -> None:
    # The one added last is the outermost.
    app.add_middleware(
        RequestLimits,
        max_body_bytes=settings.max_body_bytes,
        max_url_bytes=settings.max_url_bytes,
        body_timeout=settings.body_timeout,
    )
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **cors_options(settings))
    app.add_middleware(RequestObserver, metrics=metrics, access_log=settings.access_log)


def _for_reads(store: StoreSettings, settings: ServingSettings) -> StoreSettings:
    limits = {"command_timeout": settings.store_timeout, "connect_timeout": settings.store_timeout}
    return store.model_copy(update=limits)
