"""The worker's operations server."""

import httpx
import pytest
from aiohttp import web

from streams.metrics import WorkerMetrics
from streams.worker import ops_server
from streams.worker.ops_server import STALLED_SECONDS, Liveness, OperationsServer

pytestmark = pytest.mark.unit


class Consumer:
    """What liveness looks at, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lag, self.progress, self.now = 0, 0, 1_000.0
        monkeypatch.setattr(ops_server.time, "monotonic", lambda: self.now)
        self.liveness = Liveness(lambda: self.lag, lambda: self.progress)


def test_a_consumer_is_stalled_only_while_messages_wait_and_none_is_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting for messages is no stall, and one that is consumed ends it."""
    consumer = Consumer(monkeypatch)
    consumer.now += 500
    assert consumer.liveness.stalled_for() == 0
    consumer.lag = 5
    consumer.now += 60
    assert consumer.liveness.stalled_for() == 60
    consumer.progress = 1
    assert consumer.liveness.stalled_for() == 0
    consumer.now += 30
    consumer.lag = 0
    assert consumer.liveness.stalled_for() == 0


async def test_live_fails_once_a_restart_is_the_only_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 until the consumer has stood still for three minutes, then 503; both say for how long."""
    consumer = Consumer(monkeypatch)
    server = OperationsServer("127.0.0.1", 0, WorkerMetrics(), consumer.liveness)
    await server.start()
    host, port = server.address
    try:
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            consumer.lag = 1
            await client.get("/live")
            consumer.now += STALLED_SECONDS - 1
            alive = await client.get("/live")
            consumer.now += 1
            stalled = await client.get("/live")
    finally:
        await server.stop()
    assert (alive.status_code, alive.json()) == (200, {"status": "live", "stalled_seconds": 179.0})
    assert (stalled.status_code, stalled.json()) == (503, {"status": "stalled", "stalled_seconds": 180.0})


async def test_metrics_and_added_paths_are_served() -> None:
    """Prometheus's text, and what another part of the worker has added before the start."""
    metrics = WorkerMetrics()
    server = OperationsServer("127.0.0.1", 0, metrics, Liveness(lambda: 0, lambda: 0))

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    server.add_post("/echo", echo)
    await server.start()
    host, port = server.address
    try:
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            shown = await client.get("/metrics")
            echoed = await client.post("/echo", content=b"words")
    finally:
        await server.stop()
    assert shown.headers["content-type"].startswith("text/plain")
    assert "# TYPE mess_" in shown.text
    assert echoed.content == b"words"
