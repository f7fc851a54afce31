"""The API as a process on a real socket."""

import asyncio
import signal

import asyncpg
import httpx
import pytest

from store.keys import new_key
from tests.integration.serving.conftest import Database
from tests.integration.serving.process import running_api

pytestmark = pytest.mark.integration

PATH = "/recommend/test%2F00123"


async def test_answers_requests_in_flight_before_it_stops(database: Database) -> None:
    """After SIGTERM a request that was being answered still gets its answer, and the exit status is 0."""
    async with running_api(database.api_url) as running:
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
    async with running_api(database.api_url) as running:
        await running.url()
        running.process.send_signal(stop)
        await running.line("api stopped")
        _, errors = await running.process.communicate()
        assert (running.process.returncode, errors) == (0, b"")


async def test_logs_json_with_the_callers_request_id(database: Database) -> None:
    """Each line is a JSON object; a request's has the id that the caller sent, and the path as it came."""
    async with running_api(database.api_url) as running:
        async with httpx.AsyncClient(base_url=await running.url()) as client:
            response = await client.get(PATH, headers={"x-request-id": "trace-7"})
        line = await running.line("request")
        assert response.headers["x-request-id"] == line["request_id"] == "trace-7"
        assert (line["path"], line["route"], line["status"]) == (PATH, "/recommend/{track_id}", 200)
        assert line["bytes"] == len(response.content)


async def test_speaks_http_as_it_should(database: Database) -> None:
    """On a real socket: HEAD, 304, an encoded slash, a keep-alive connection after a refused body."""
    async with running_api(database.api_url) as running:
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
    async with running_api("postgresql://mess@127.0.0.1:1/mess") as running:
        _, errors = await running.process.communicate()
        assert running.process.returncode == 1
        assert b"store.errors.StoreUnavailableError: Postgres is not available" in errors


@pytest.mark.parametrize(("trusted", "second"), [("10.1.0.0/16,127.0.0.0/8", 200), ("192.0.2.1", 429)])
async def test_only_trusted_proxies_say_whom_they_ask_for(
    database: Database, trusted: str, second: int
) -> None:
    """Behind a trusted proxy each client has its own rate; others who send the header share that of their address."""
    environment = {"MESS_API_ADDRESS_RATE_LIMIT": "1/hour", "MESS_API_TRUSTED_PROXIES": trusted}
    async with (
        running_api(database.api_url, **environment) as running,
        httpx.AsyncClient(base_url=await running.url()) as client,
    ):
        asking = [{"x-forwarded-for": address} for address in ("203.0.113.5", "203.0.113.6", "203.0.113.5")]
        statuses = [(await client.get(PATH, headers=headers)).status_code for headers in asking]
    assert statuses == [200, second, 429]


@pytest.mark.parametrize("required", ["true", "false"])
async def test_a_key_in_a_url_is_not_logged(database: Database, required: str) -> None:
    """However it is written and wherever it stands, whether keys are asked for or not, on either way of a read."""
    key = new_key()
    encoded = key.replace("_", "%5F").replace("m", "%6d", 1)
    paths = [
        f"/tracks?api_key={key}",
        f"/tracks/{key}",
        f"/recommend/{encoded}?exclude={key}",
        f"/health?{key}",
    ]
    async with running_api(database.api_url, MESS_API_REQUIRE_KEYS=required) as running:
        async with httpx.AsyncClient(base_url=await running.url()) as client:
            for path in paths:
                await client.get(path)
        for _ in paths:
            await running.line("request")
        running.process.send_signal(signal.SIGTERM)
        await running.line("api stopped")
        logged = repr(running.lines)
        assert logged.count("[a key, not logged]") >= len(paths)
        assert not [part for part in (key, encoded, key[14:], encoded[-64:]) if part in logged]
