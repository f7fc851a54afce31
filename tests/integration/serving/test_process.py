"""The API as a process on a real socket."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import orjson
import pytest

from tests.integration.serving.conftest import Database

pytestmark = pytest.mark.integration

PATH = "/recommend/test%2F00123"
SERVE = """
from serving.server import serve
from serving.settings import ServingSettings
from store.settings import StoreSettings
serve(ServingSettings(), StoreSettings())
"""


class Process:
    """A running API: where it listens, and every line it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, object]] = []

    async def line(self, event: str) -> dict[str, object]:
        """The next log line that says `event`; fails when the process ends without it."""
        assert self.process.stdout is not None
        while raw := await self.process.stdout.readline():
            self.lines.append(orjson.loads(raw))
            if str(self.lines[-1]["event"]).startswith(event):
                return self.lines[-1]
        raise AssertionError(f"ended without {event!r}: {self.lines}")

    async def url(self) -> str:
        """Where it listens, as it says itself."""
        said = str((await self.line("Uvicorn running on"))["event"])
        return next(word for word in said.split() if word.startswith("http://"))


@asynccontextmanager
async def _running(url: str, **environment: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVE,
        env={**os.environ, "MESS_DATABASE_URL": url, "MESS_API_PORT": "0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_answers_requests_in_flight_before_it_stops(database: Database) -> None:
    """After SIGTERM a request that was being answered still gets its answer, and the exit status is 0."""
    async with _running(database.api_url) as running:
        url = await running.url()
        blocker = await asyncpg.connect(database.url)
        async with httpx.AsyncClient(base_url=url) as client:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE neighbour_lists IN ACCESS EXCLUSIVE MODE")
                request = asyncio.create_task(client.get(PATH))
                await _until_blocked(blocker)
                running.process.send_signal(signal.SIGTERM)
                await running.line("Shutting down")
                assert not request.done()
            response = await request
        await blocker.close()
        assert response.status_code == 200
        assert len(response.json()["recommendations"]) == 10
        await running.line("api stopped")
        assert await running.process.wait() == 0


async def _until_blocked(connection: asyncpg.Connection) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database"
        " WHERE NOT granted AND d.datname = current_database()"
    )
    while not await connection.fetchval(waiting):  # noqa: ASYNC110 -- Postgres has no event for it
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_stops_clean_when_idle(database: Database, stop: signal.Signals) -> None:
    """Either signal ends an idle process with status 0 and nothing on standard error."""
    async with _running(database.api_url) as running:
        await running.url()
        running.process.send_signal(stop)
        await running.line("api stopped")
        _, errors = await running.process.communicate()
        assert (running.process.returncode, errors) == (0, b"")


async def test_logs_json_with_the_callers_request_id(database: Database) -> None:
    """Each line is a JSON object; a request's has the id that the caller sent, and the path as it came."""
    async with _running(database.api_url) as running:
        async with httpx.AsyncClient(base_url=await running.url()) as client:
            response = await client.get(PATH, headers={"x-request-id": "trace-7"})
        line = await running.line("request")
        assert response.headers["x-request-id"] == line["request_id"] == "trace-7"
        assert (line["path"], line["route"], line["status"]) == (PATH, "/recommend/{track_id}", 200)
        assert line["bytes"] == len(response.content)


async def test_speaks_http_as_it_should(database: Database) -> None:
    """On a real socket: HEAD, 304, an encoded slash, a keep-alive connection after a refused body."""
    async with _running(database.api_url) as running:
        async with httpx.AsyncClient(base_url=await running.url()) as client:
            got = await client.get(PATH)
            headed = await client.head(PATH)
            assert (headed.status_code, headed.content) == (200, b"")
            same = await client.get(PATH, headers={"if-none-match": got.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")
            assert (await client.get("/tracks/a%2Fmetadata")).json()["track_id"] == "a/metadata"
            assert (await client.post("/recommend", content=b"x" * 2_000_000)).status_code == 413
            assert (await client.get("/recommend/%2E%2E")).json()["reference_track"] == ".."
        running.process.send_signal(signal.SIGTERM)
        await running.line("api stopped")
        assert {line["level"] for line in running.lines} == {"info"}


async def test_without_postgres_it_does_not_start() -> None:
    """Without Postgres the process fails with the store's own error and does not listen."""
    async with _running("postgresql://mess@127.0.0.1:1/mess") as running:
        _, errors = await running.process.communicate()
        assert running.process.returncode == 1
        assert b"store.errors.StoreUnavailableError: Postgres is not available" in errors


@pytest.mark.parametrize(("trusted", "second"), [("10.1.0.0/16,127.0.0.0/8", 200), ("192.0.2.1", 429)])
async def test_only_trusted_proxies_say_whom_they_ask_for(
    database: Database, trusted: str, second: int
) -> None:
    """Behind a trusted proxy each client has its own rate; whoever else sends the header shares that of its address."""
    environment = {"MESS_API_ADDRESS_RATE_LIMIT": "1/hour", "MESS_API_TRUSTED_PROXIES": trusted}
    async with (
        _running(database.api_url, **environment) as running,
        httpx.AsyncClient(base_url=await running.url()) as client,
    ):
        asking = [{"x-forwarded-for": address} for address in ("203.0.113.5", "203.0.113.6", "203.0.113.5")]
        statuses = [(await client.get(PATH, headers=headers)).status_code for headers in asking]
    assert statuses == [200, second, 429]
