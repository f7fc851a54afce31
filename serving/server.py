"""The API process: uvicorn with the application."""

import asyncio
import signal
import socket
import sys
from typing import Any, Final, cast

import structlog
import uvicorn

from serving.app import create_app
from serving.connections import ConnectionLimits, LimitedConfig, LimitedProtocol, connections_for
from serving.kafka.broker import KafkaLogEnds
from serving.logging import configure_logging
from serving.metrics import ApiMetrics
from serving.settings import ServingSettings
from store.keys import fetch_keys_version
from store.pool import open_pool, require_schema
from store.poolers import require_session
from store.settings import StoreSettings

logger = structlog.get_logger("serving")

# uvicorn's ticks in a second.
_TICKS: Final = 10


async def check_store(store: StoreSettings, *, keys: bool = False) -> None:
    """Check once that the application can start, so that a failure is one line without a traceback.

    Raises:
        KeysUnreadableError: With `keys`, this role may not read them.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is not this version's.
        PoolerError: A pooler before Postgres shares sessions.
    """
    async with await open_pool(store, application_name="mess-api", read_only=True) as pool:
        await require_session(pool)
        await require_schema(pool)
        if keys:
            await fetch_keys_version(pool)


class ApiServer(uvicorn.Server):
    """A server that ends its streams at shutdown; uvicorn alone would wait for them."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def on_tick(self, counter: int) -> bool:
        """See `uvicorn.Server`; once a second, cuts connections that take too long."""
        if counter % _TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast("LimitedProtocol", connection).sweep(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._closing.set()
        await super().shutdown(sockets)


def server_of(
    settings: ServingSettings,
    store: StoreSettings,
    kafka_options: dict[str, Any] | None,
) -> ApiServer:
    """A server that is ready to run; arguments as for `serve_api`."""
    kafka = None
    if kafka_options is not None:
        kafka = KafkaLogEnds(kafka_options, timeout=settings.broker_timeout)
    connections = connections_for(settings.max_connections)
    # Streams may take half of the connections at most.
    settings = settings.model_copy(update={"max_streams": min(settings.max_streams, connections // 2)})
    app = create_app(settings, store, kafka, kafka_options=kafka_options)
    limits = ConnectionLimits(
        connections=connections,
        head=settings.head_timeout,
        body=settings.body_timeout,
        # A stream detects stalled readers by itself.
        write=max(settings.write_timeout, settings.stream_stall + 1),
        keep_alive=settings.keep_alive,
    )
    metrics: ApiMetrics = app.state.metrics
    config = LimitedConfig(
        app,
        limits,
        lambda why: metrics.connections_cut.labels(why).inc(),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        forwarded_allow_ips=settings.trusted_proxies,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    server = ApiServer(config, app.state.closing)
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    return server


def serve_api(
    settings: ServingSettings,
    store: StoreSettings,
    kafka_options: dict[str, Any] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM: requests in flight are answered first, and the exit status is 0.

    Call it in a process's main thread: it replaces signal handlers.

    Args:
        settings: How it serves.
        store: The store.
        kafka_options: Options of aiokafka's clients; None without a broker: then nothing can be computed on demand,
            and there are no streams.

    Raises:
        StoreUnavailableError: Postgres cannot be reached at the start.
        SchemaMismatchError: The schema is not this version's.
        SystemExit: With status 0 at a signal; with another if it cannot listen on the address, which the log explains.
    """
    # uvicorn raises the signal again after shutdown; with the default handlers that would be a failure.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: sys.exit(0))
    configure_logging(settings.log_format, settings.log_level)
    asyncio.run(check_store(store, keys=settings.require_keys))
    server_of(settings, store, kafka_options).run()
