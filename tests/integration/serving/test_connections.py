"""Peers who are slow, silent or wrong, on real sockets: each is cut off or told, and the others are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from serving.headers import SECURITY_HEADERS
from tests.integration.serving.conftest import Database, filled_database
from tests.integration.serving.process import Reply, connected, running_api
from tests.support.services import PostgresServer

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

QUICK = {
    "MESS_API_HEAD_TIMEOUT": "0.5",
    "MESS_API_BODY_TIMEOUT": "0.5",
    "MESS_API_WRITE_TIMEOUT": "0.5",
    "MESS_API_STREAM_STALL": "0.5",
    "MESS_API_KEEP_ALIVE": "1",
}
POST = (
    b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
)
GET = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(postgres_server: PostgresServer, filled_template: str) -> AsyncIterator[str]:
    """An API that has little patience, one for all."""
    with filled_database(postgres_server, filled_template) as database:
        async with running_api(database.api_url, **QUICK) as running:
            yield await running.url()


def _secured(reply: Reply) -> None:
    for name, value in SECURITY_HEADERS:
        assert reply.headers[name.decode()] == value.decode()
    assert reply.headers["x-request-id"]


async def _cut(url: str) -> dict[str, float]:
    """Connections that were cut, by why."""
    async with httpx.AsyncClient(base_url=url) as client:
        text = (await client.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("mess_api_connections_cut_total{")]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


async def test_headers_that_never_end_are_told_and_cut(url: str) -> None:
    """Whether nothing more comes or a little all the time, there is an end, with a reason."""
    before = (await _cut(url)).get("request-too-slow", 0)
    async with connected(url) as silent, connected(url) as slow:
        await silent.send(b"GET /health/live HTTP/1.1\r\n")
        await slow.send(GET)
        trickling = asyncio.create_task(slow.trickle(b"x-more: y\r\n"))
        for peer in (silent, slow):
            reply = await peer.reply()
            assert (reply.status, reply.problem) == (408, "request-too-slow")
            _secured(reply)
            assert await peer.ended() == b""
        await trickling
    assert (await _cut(url))["request-too-slow"] == before + 2


async def test_bodies_that_never_end_are_told_and_cut(url: str) -> None:
    """A body that is read is refused in time; one that nobody reads is cut off all the same."""
    async with connected(url) as peer, connected(url) as unread:
        await peer.send(POST)
        await unread.send(GET, b"content-length: 100000\r\n\r\n")
        trickling = [asyncio.create_task(each.trickle(b" ")) for each in (peer, unread)]
        reply = await peer.reply()
        assert (reply.status, reply.problem) == (408, "request-too-slow")
        assert (await unread.reply()).status == 200
        assert await peer.ended() == b""
        assert await unread.ended() == b""
        await asyncio.gather(*trickling)


async def test_idle_connections_are_closed(url: str) -> None:
    """Before a first request as well as after an answer; empty lines are no request."""
    async with connected(url) as fresh, connected(url) as kept, connected(url) as empty:
        for peer in (kept, empty):
            await peer.send(GET, b"\r\n")
            assert (await peer.reply()).status == 200
        trickling = asyncio.create_task(empty.trickle(b"\r\n"))
        for peer in (fresh, kept, empty):
            assert await peer.ended() == b""
        await trickling


async def test_who_accepts_nothing_of_an_answer_is_cut_off(url: str) -> None:
    """The connection of a peer who does not read is cut, and its answers are freed."""
    before = (await _cut(url)).get("write-timeout", 0)
    async with connected(url, receives=4096) as peer:
        with contextlib.suppress(OSError):
            await peer.send(*[b"GET /tracks?limit=300 HTTP/1.1\r\nhost: x\r\n\r\n"] * 60)
        while (await _cut(url)).get("write-timeout", 0) == before:  # noqa: ASYNC110 -- another process's
            await asyncio.sleep(0.1)


async def test_idle_connections_make_room_for_those_who_ask(database: Database) -> None:
    """With 400 idle connections and 256 files, each request is answered."""
    patient = {"MESS_API_HEAD_TIMEOUT": "300"}
    async with (
        running_api(database.api_url, files=256, **patient) as running,
        contextlib.AsyncExitStack() as idle,
    ):
        url = await running.url()
        for number in range(400):
            peer = await idle.enter_async_context(connected(url))
            if number % 2:
                await peer.send(GET)
        for _ in range(20):
            async with connected(url) as asking:
                await asking.send(GET, b"\r\n")
                assert (await asking.reply()).status == 200
        assert (await _cut(url))["evicted"] >= 400 - 156


async def test_where_all_connections_are_busy_the_next_is_told(database: Database) -> None:
    """Who is being answered keeps its connection; one more is refused with a reason."""
    async with (
        running_api(database.api_url, MESS_API_MAX_CONNECTIONS="16") as running,
        contextlib.AsyncExitStack() as busy,
    ):
        url = await running.url()
        for _ in range(16):
            peer = await busy.enter_async_context(connected(url, receives=4096))
            await peer.send(*[b"GET /tracks?limit=300 HTTP/1.1\r\nhost: x\r\n\r\n"] * 60)
        async with connected(url) as one_more:
            reply = await one_more.reply()
            assert (reply.status, reply.problem) == (503, "too-many-connections")
            assert int(reply.headers["retry-after"]) > 0
            _secured(reply)


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "problem"),
    [
        (b"GET /%s HTTP/1.1" % (b"a" * 40_000), b"", 414, "url-too-long"),
        (b"GET /recommend/%s HTTP/1.1" % (b"a" * 40_000), b"", 414, "url-too-long"),
        (b"GET /%s HTTP/1.1" % (b"a" * 70_000), b"", 414, "url-too-long"),
        (b"GET /?%s HTTP/1.1" % (b"a" * 1_000_000), b"", 414, "url-too-long"),
        (b"GET / HTTP/1.1", b"x: %s\r\n" % (b"a" * 1_000_000), 431, "headers-too-large"),
        (b"GET / HTTP/1.1", b"x: y\r\n" * 1_000, 431, "headers-too-large"),
        (b"GET /\xff HTTP/1.1", b"", 400, "malformed-request"),
        (b"CONNECT x:1 HTTP/1.1", b"", 400, "malformed-request"),
        (b"rubbish", b"", 400, "malformed-request"),
    ],
)
async def test_what_cannot_be_read_is_a_problem_document(
    url: str, request_line: bytes, headers: bytes, status: int, problem: str
) -> None:
    """URLs and headers beyond the limits, and what is no HTTP: never plain text."""
    async with connected(url) as peer:
        with contextlib.suppress(OSError):
            await peer.send(request_line, b"\r\nhost: x\r\n", headers, b"\r\n")
        reply = await peer.reply()
        assert (reply.status, reply.problem) == (status, problem)
        _secured(reply)


async def test_who_is_quick_enough_notices_nothing(url: str) -> None:
    """Several requests on one connection, one behind the other and at once, are answered in order."""
    async with connected(url) as peer:
        for _ in range(3):
            await peer.send(GET, b"\r\n")
            assert (await peer.reply()).status == 200
        await peer.send(*[GET + b"\r\n"] * 5)
        assert [(await peer.reply()).status for _ in range(5)] == [200] * 5
