"""A worker's operations server: /metrics for Prometheus, /live for its supervisor, and added paths."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.metrics import WorkerMetrics

# Maximum bytes of a request body.
MAX_BODY_BYTES = 16 * 1024 * 1024
# Seconds that requests in progress have when the server stops.
STOP_SECONDS = 1.0
# If messages wait and none is consumed for so long, only a restart can help. It is longer than a restart of Postgres.
STALLED_SECONDS = 180.0


class Liveness:
    """Detects a stalled consumer.

    Args:
        lag: The known number of waiting messages.
        progress: A number that changes whenever messages are consumed.
    """

    def __init__(self, lag: Callable[[], int], progress: Callable[[], int]) -> None:
        self._lag = lag
        self._progress = progress
        self._seen = -1
        self._moved_at = time.monotonic()

    def stalled_for(self) -> float:
        """Seconds since the last consumed message; 0 if none waits."""
        now, progress = time.monotonic(), self._progress()
        if progress != self._seen or self._lag() == 0:
            self._seen, self._moved_at = progress, now
        return now - self._moved_at


class OperationsServer:
    """Serves a worker's metrics and liveness.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        metrics: Shown by /metrics.
        liveness: Checked by /live.
    """

    def __init__(self, host: str, port: int, metrics: WorkerMetrics, liveness: Liveness) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._liveness = liveness
        self._runner: web.AppRunner | None = None
        self._app = web.Application(client_max_size=MAX_BODY_BYTES)
        self._app.router.add_get("/metrics", self._show_metrics)
        self._app.router.add_get("/live", self._show_live)

    def add_post(self, path: str, handler: Callable[[web.Request], Awaitable[web.Response]]) -> None:
        """Add a path. Call it before `start`."""
        self._app.router.add_post(path, handler)

    @property
    def address(self) -> tuple[str, int]:
        """Host as given, and the port that is listened on; after `start`."""
        assert self._runner is not None
        return self._host, int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _show_metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _show_live(self, _: web.Request) -> web.Response:
        stalled = self._liveness.stalled_for()
        alive = stalled < STALLED_SECONDS
        status = "live" if alive else "stalled"
        return web.json_response(
            {"status": status, "stalled_seconds": round(stalled, 1)}, status=200 if alive else 503
        )
