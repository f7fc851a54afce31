"""The application: nothing happens at import, everything is made by `create_app` or in its lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serving import problems
from serving.broker import LogEnds
from serving.context import Context, State
from serving.health import Health
from serving.metrics import Metrics
from serving.middleware import Limits, Observe
from serving.openapi import describe
from serving.routes import operations, pages, recommend, strategies, tracks
from serving.settings import ServingSettings
from serving.version import VERSION
from store.pool import open_pool, require_schema
from store.settings import StoreSettings

logger = structlog.get_logger("serving")

_CLOSE_TIMEOUT = 5.0


def create_app(settings: ServingSettings, store: StoreSettings, kafka: LogEnds | None = None) -> FastAPI:
    """The API over the store at `store`.

    Args:
        settings: How it serves.
        store: Where it reads; its timeouts are replaced by `settings.store_timeout`.
        kafka: Tells health reports how far the log has grown; closed with the application. None where
            no broker is configured.

    Returns:
        An application whose lifespan raises `StoreUnavailableError` where Postgres is away and
        `SchemaMismatchError` where its schema is not this version's.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        pool = await open_pool(_for_reads(store, settings), application_name="mess-api", read_only=True)
        try:
            await require_schema(pool)
            metrics.watch_pool(pool)
            logger.info("api started", version=VERSION)
            yield State(context=Context(settings, pool, Health(settings, pool, kafka), metrics))
        finally:
            if kafka is not None:
                await kafka.close()
            await _close(pool)
            logger.info("api stopped")

    app = FastAPI(
        title="MESS-AI",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    # The most read path comes first: routes are tried in order.
    for room in (recommend, tracks, strategies, operations, pages):
        room.register(app)
    describe(app)
    # Added last, met first.
    app.add_middleware(Limits, max_body_bytes=settings.max_body_bytes, max_url_bytes=settings.max_url_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "OPTIONS"],
            allow_headers=["X-Request-ID", "If-None-Match"],
            expose_headers=["X-Request-ID", "ETag", "Retry-After"],
        )
    app.add_middleware(Observe, metrics=metrics, access_log=settings.access_log)
    return app


def _for_reads(store: StoreSettings, settings: ServingSettings) -> StoreSettings:
    limits = {"command_timeout": settings.store_timeout, "connect_timeout": settings.store_timeout}
    return store.model_copy(update=limits)


async def _close(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_TIMEOUT)
    except TimeoutError:
        logger.warning("connections were still in use at shutdown")
        pool.terminate()
