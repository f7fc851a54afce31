"""Connections by themselves: bytes come in, time goes by, and nothing is connected."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from serving import connections
from serving.connections import (
    PARSED_URL_BYTES,
    RESERVED,
    ConnectionLimits,
    LimitedConfig,
    LimitedProtocol,
    connections_for,
)

pytestmark = pytest.mark.unit

LIMITS = ConnectionLimits(connections=2, head=3.0, body=4.0, write=5.0, keep_alive=10)
LINE = b"GET /a HTTP/1.1\r\nhost: x\r\n"
REQUEST = LINE + b"\r\n"


class Socket(asyncio.Transport):
    """A transport that keeps what is written, and tells its protocol when it is closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = bytearray()
        self.closing = self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    @property
    def problem(self) -> tuple[int, str]:
        """Status and kind of the problem document that was written."""
        head, _, body = bytes(self.written).partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        assert b"connection: close" in head
        return int(head.split()[1]), orjson.loads(body)["type"].rsplit(":", 1)[-1]


class Site:
    """An application that answers when it is let, and its connections."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.cut: list[str] = []
        self.state = ServerState()
        self._config = LimitedConfig(
            self._app, LIMITS, self.cut.append, interface="asgi3", lifespan="off", log_config=None
        )
        self._config.load()
        self._connected: list[LimitedProtocol] = []

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        del receive
        await self.answers.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def connect(self) -> tuple[LimitedProtocol, Socket]:
        """One more connection."""
        protocol, transport = LimitedProtocol(self._config, self.state, {}), Socket()
        protocol.connection_made(transport)
        self._connected.append(protocol)
        return protocol, transport

    async def closed(self) -> None:
        """Lose all connections, and let the application end."""
        for protocol in self._connected:
            protocol.connection_lost(None)
        await self.answered()

    async def answered(self) -> None:
        """Let the application answer all that it was asked."""
        self.answers.set()
        while self.state.tasks:
            await asyncio.gather(*self.state.tasks)
            await asyncio.sleep(0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """With nobody connected."""
    made = Site()
    yield made
    await made.closed()


def sends(data: bytes) -> Callable[[Site], tuple[LimitedProtocol, Socket]]:
    """A peer that has sent so much."""

    def connect(site: Site) -> tuple[LimitedProtocol, Socket]:
        protocol, transport = site.connect()
        if data:
            protocol.data_received(data)
        return protocol, transport

    return connect


@pytest.mark.parametrize(
    ("sent", "limit", "why", "problem"),
    [
        (b"", LIMITS.head, "idle", None),
        (b"\r\n\r\n", LIMITS.head, "idle", None),
        (LINE, LIMITS.head, "request-too-slow", (408, "request-too-slow")),
        (LINE + b"content-length: 9\r\n\r\nhalf", LIMITS.body + 5, "body-timeout", None),
    ],
)
async def test_who_is_too_slow_is_cut_at_the_limit_and_not_before(
    site: Site, sent: bytes, limit: float, why: str, problem: tuple[int, str] | None
) -> None:
    """With a problem document where nothing is being answered yet that it could contradict."""
    protocol, transport = sends(sent)(site)
    protocol.sweep(protocol.since + limit)
    assert (site.cut, transport.closing) == ([], False)
    protocol.sweep(protocol.since + limit + 0.1)
    assert (site.cut, transport.closing) == ([why], True)
    assert not transport.written if problem is None else transport.problem == problem


async def test_an_answer_may_take_as_long_as_it_takes(site: Site) -> None:
    """Once the request is there; afterwards the connection is kept for a while."""
    protocol, transport = sends(REQUEST)(site)
    protocol.sweep(protocol.since + 1_000)
    assert not transport.closing
    await site.answered()
    assert transport.written.endswith(b"\r\n\r\nok")
    protocol.sweep(protocol.since + LIMITS.keep_alive)
    assert not transport.closing
    protocol.sweep(protocol.since + LIMITS.keep_alive + 1.1)
    assert site.cut == ["idle"]


async def test_who_reads_nothing_is_cut_who_reads_again_is_not(site: Site) -> None:
    """While an answer is written, and while the connection is being closed."""
    protocol, transport = sends(REQUEST)(site)
    protocol.pause_writing()
    now = asyncio.get_running_loop().time()
    protocol.resume_writing()
    protocol.sweep(now + 100)
    assert not transport.aborted
    protocol.pause_writing()
    protocol.sweep(now + 100)
    assert (site.cut, transport.aborted) == (["write-timeout"], True)
    protocol, transport = site.connect()
    transport.close()
    protocol.sweep(1_000.0)
    protocol.sweep(1_000.0 + LIMITS.write)
    assert not transport.aborted
    protocol.sweep(1_000.1 + LIMITS.write)
    assert transport.aborted


async def test_the_longest_idle_makes_room(site: Site) -> None:
    """Not one whose request is being answered; where all are, the newcomer is refused with a reason."""
    (busy, _), (idle, idle_socket) = sends(REQUEST)(site), sends(LINE)(site)
    assert (busy.expendable, idle.expendable) == (False, True)
    second, second_socket = site.connect()
    assert (site.cut, idle_socket.aborted, second_socket.closing) == (["evicted"], True, False)
    second.data_received(REQUEST)
    _, third = site.connect()
    assert third.problem == (503, "too-many-connections")
    assert site.cut == ["evicted", "too-many-connections"]


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([b"GET /" + b"a" * 60_000, b"a" * 60_000], (414, "url-too-long")),
        ([b"GET /" + b"a" * (PARSED_URL_BYTES + 1) + b" HTTP/1.1\r\n\r\n"], (414, "url-too-long")),
        ([LINE, *[b"x-%d: y\r\n" % n for n in range(201)]], (431, "headers-too-large")),
        ([LINE, b"x: ", *[b"y" * 10_000] * 14], (431, "headers-too-large")),
        ([b"no http at all\r\n\r\n"], (400, "malformed-request")),
    ],
)
async def test_a_head_beyond_the_limits_is_a_problem_document(
    site: Site, chunks: list[bytes], problem: tuple[int, str]
) -> None:
    """However it is cut into pieces; what comes after it is not looked at, and no second document is written."""
    protocol, transport = site.connect()
    for chunk in [*chunks, REQUEST]:
        protocol.data_received(chunk)
    assert transport.problem == problem
    assert transport.closing
    assert site.cut == [problem[1]]


async def test_rubbish_behind_a_request_does_not_mix_with_its_answer(site: Site) -> None:
    """The connection is cut instead."""
    protocol, transport = sends(REQUEST)(site)
    protocol.data_received(b"rubbish\r\n\r\n")
    assert (transport.aborted, bytes(transport.written)) == (True, b"")
    assert site.cut == ["malformed-request"]


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "possible", "raised"),
    [
        (10_000, 10_000, 1_000, 1_000, None),
        (256, 10_000, 1_000, 1_000, 1_000 + RESERVED),
        (256, 512, 1_000, 512 - RESERVED, 512),
        (64, 64, 1_000, 16, 64),
        (256, resource.RLIM_INFINITY, 1_000, 1_000, 1_000 + RESERVED),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1_000, 1_000, None),
    ],
)
def test_as_many_connections_as_files_allow(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int, possible: int, raised: int | None
) -> None:
    """The limit of open files is raised as far as it may be; some are kept for everything else."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, limit: limits.append(limit))
    assert connections_for(wanted) == possible
    assert limits == ([] if raised is None else [(raised, hard)])
