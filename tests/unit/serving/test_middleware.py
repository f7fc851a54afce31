"""The middlewares around small applications: what reaches the caller, the log and the metrics."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import orjson
import pytest
import structlog
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from serving import problems
from serving.logging import configure_logging
from serving.metrics import ApiMetrics
from serving.middleware import RequestLimits, RequestObserver

pytestmark = pytest.mark.unit

SECRET = "the secret inside"


def _application(metrics: ApiMetrics) -> FastAPI:
    app = FastAPI(openapi_url=None)
    problems.install_problem_handlers(app)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def read_json(body: dict[str, Any]) -> int:
        return len(body)

    @app.get("/fail")
    async def fail() -> None:
        raise RuntimeError(SECRET)

    app.add_middleware(RequestLimits, max_body_bytes=100, body_timeout=5, max_url_bytes=300)
    app.add_middleware(RequestObserver, metrics=metrics, access_log=True)
    return app


@pytest.fixture
def metrics() -> ApiMetrics:
    """The metrics that the application counts in."""
    return ApiMetrics()


@pytest.fixture
async def client(metrics: ApiMetrics) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the small application."""
    transport = httpx.ASGITransport(_application(metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as running:
        yield running


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 10):
        yield b"x" * 10


@pytest.mark.parametrize("path", ["/length", "/json"])
async def test_streamed_body_over_the_limit_is_413(client: httpx.AsyncClient, path: str) -> None:
    """A body that declares no length is cut off at the limit."""
    response = await client.post(path, content=_chunks(110), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert response.json()["type"] == "urn:mess-ai:problem:body-too-large"


async def test_streamed_body_at_the_limit_passes(client: httpx.AsyncClient) -> None:
    """Exactly the limit is accepted."""
    assert (await client.post("/length", content=_chunks(100))).json() == 100


async def test_malformed_body_is_a_problem(client: httpx.AsyncClient) -> None:
    """FastAPI's own validation errors are problem documents too, naming the field."""
    response = await client.post("/json", content=b"[1]", headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"]


async def test_defect_is_a_500_that_tells_nothing(client: httpx.AsyncClient) -> None:
    """An unexpected error gives a problem with the request id, and the log has the reason under it."""
    with structlog.testing.capture_logs() as lines:
        response = await client.get("/fail", headers={"x-request-id": "r-1"})
    assert response.status_code == 500
    assert response.json()["type"] == "urn:mess-ai:problem:internal-error"
    assert response.json()["request_id"] == response.headers["x-request-id"] == "r-1"
    assert SECRET not in response.text
    assert "Traceback" not in response.text
    failed = [line for line in lines if line["event"] == "request failed"]
    assert (failed[0]["log_level"], failed[0]["exc_info"]) == ("error", True)


async def test_defect_is_counted(client: httpx.AsyncClient, metrics: ApiMetrics) -> None:
    """A 500 counts under its route."""
    await client.get("/fail")
    labels = {"route": "/fail", "method": "GET", "status": "500"}
    assert metrics.registry.get_sample_value("mess_api_requests_total", labels) == 1
    assert metrics.registry.get_sample_value("mess_api_requests_in_progress") == 0


async def test_each_request_is_one_log_line(client: httpx.AsyncClient) -> None:
    """The access line has method, path as it came, route, status, size and duration."""
    with structlog.testing.capture_logs() as lines:
        response = await client.get("/a%2Fb?q=1")
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["query"]) == ("GET", "/a%2Fb", "q=1")
    assert (line["route"], line["status"]) == ("unmatched", 404)
    assert line["bytes"] == len(response.content)
    assert line["duration_ms"] >= 0


async def test_error_after_the_answer_began_cuts_the_connection() -> None:
    """When the status is out, an error is logged and passed to the server, which must not feign success."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(SECRET)

    metrics = ApiMetrics()
    app = RequestObserver(broken, metrics=metrics, access_log=False)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        with pytest.raises(RuntimeError, match=SECRET):
            await client.get("/x")
    assert metrics.registry.get_sample_value("mess_api_requests_in_progress") == 0


async def test_caller_who_left_counts_as_499() -> None:
    """A request whose caller was gone before an answer began has a status of its own."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    metrics = ApiMetrics()
    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}

    async def unused(*_: object) -> Any:
        raise AssertionError

    await RequestObserver(silent, metrics=metrics, access_log=False)(scope, unused, unused)
    labels = {"route": "unmatched", "method": "GET", "status": "499"}
    assert metrics.registry.get_sample_value("mess_api_requests_total", labels) == 1


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_restored")
def test_log_lines_are_json_with_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    """Our own lines and those of libraries are JSON objects of one form, below the level nothing."""
    configure_logging("json", "info")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("serving").info("ours", answer=42)
        logging.getLogger("a.library").warning("theirs %s", "indeed")
        structlog.get_logger("serving").debug("nobody hears")
    ours, theirs = (orjson.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (ours["event"], ours["answer"], ours["level"]) == ("ours", 42, "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("theirs indeed", "a.library", "warning")
    assert ours["request_id"] == theirs["request_id"] == "r-1"
    assert ours["time"].endswith("Z")
