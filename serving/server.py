"""The API as a process: uvicorn around the application."""

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import structlog
import uvicorn

from serving.app import create_app
from serving.kafka.broker import KafkaLogEnds
from serving.logging import configure_logging
from serving.settings import ServingSettings
from serving.strategies import NAMED
from store.keys import fetch_keys_version
from store.pool import open_pool, require_schema
from store.settings import StoreSettings

logger = structlog.get_logger("serving")


async def check_store(store: StoreSettings, *, keys: bool = False) -> None:
    """Look once whether the application can start, so that a failure is one line and no traceback.

    Raises:
        KeysUnreadableError: With `keys`, this role may not read them.
        StoreUnavailableError: Postgres cannot be reached.
        SchemaMismatchError: The schema is not this version's.
    """
    async with await open_pool(store, application_name="mess-api", read_only=True) as pool:
        await require_schema(pool)
        if keys:
            await fetch_keys_version(pool)


class Server(uvicorn.Server):
    """A server that ends its streams as soon as it is asked to stop: it would wait for them otherwise."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._closing.set()
        await super().shutdown(sockets)


def server_of(
    settings: ServingSettings,
    store: StoreSettings,
    kafka_options: dict[str, Any] | None,
    strategies: Sequence[dict[str, Any]] = NAMED,
) -> Server:
    """A server that is ready to run; arguments as of `serve`."""
    kafka = None
    if kafka_options is not None:
        kafka = KafkaLogEnds(kafka_options, settings.ingest_topic, timeout=settings.broker_timeout)
    app = create_app(settings, store, kafka, kafka_options=kafka_options, strategies=strategies)
    config = uvicorn.Config(
        app,
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
    return Server(config, app.state.closing)


def serve(
    settings: ServingSettings,
    store: StoreSettings,
    kafka_options: dict[str, Any] | None = None,
    strategies: Sequence[dict[str, Any]] = NAMED,
) -> None:
    """Serve until SIGINT or SIGTERM: requests in flight are answered first, and the exit status is 0.

    For a process's main thread: signal handlers are replaced.

    Args:
        settings: How it serves.
        store: Where it reads.
        kafka_options: What aiokafka's clients take, None without a broker: then nothing can be computed on demand,
            and there are no streams.
        strategies: What `/strategies` tells: `streams.strategies.describe()`.

    Raises:
        StoreUnavailableError: Postgres cannot be reached at the start.
        SchemaMismatchError: The schema is not this version's.
        SystemExit: With status 0 at a signal; with another where the address cannot be listened on, and the
            log says why.
    """
    # uvicorn raises the signal anew once it has shut down; the default handlers would make that a failure.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda *_: sys.exit(0))
    configure_logging(settings.log_format, settings.log_level)
    asyncio.run(check_store(store, keys=settings.require_keys))
    server_of(settings, store, kafka_options, strategies).run()
