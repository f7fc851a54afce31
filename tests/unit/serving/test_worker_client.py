"""Whatever fails while a question is under way, who asked is told, in time."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from serving.metrics import ApiMetrics
from serving.problems import ApiProblemError
from serving.workers import client as worker_client
from serving.workers.client import WorkerClient, WorkerClientOptions
from serving.workers.directory import WorkerDirectory
from store.errors import StoreUnavailableError
from store.lives import AnsweringWorker
from streams.contracts import RecommendationQuery
from tests.support.polling import until

pytestmark = pytest.mark.unit

OPTIONS = WorkerClientOptions(timeout=0.6, in_flight=100)
QUERY = RecommendationQuery(track_id="a")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _UnforeseenError(Exception):
    pass


class _Worker:
    """A server that does with requests what it is told."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.handle: Handler = self.answer
        self.url = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(orjson.loads(await request.read()))
        return await self.handle(request)

    async def answer(self, _: web.Request) -> web.Response:
        request_id = self.requests[-1]["request_id"].encode()
        return web.Response(body=b'{"request_id":"%s","status":"ok","a":1}' % request_id)

    async def die(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        raise web.HTTPInternalServerError

    async def be_silent(self, _: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError


class _Directory(WorkerDirectory):
    """Knows the workers that it is told."""

    def __init__(self, *workers: _Worker) -> None:
        super().__init__(None, 1.0)  # type: ignore[arg-type]  # it is not asked
        self.looks: Callable[[], None] = lambda: None
        self._workers = tuple(AnsweringWorker(worker.url, worker.url, "token") for worker in workers)

    async def _look(self) -> None:
        self.looks()


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator[_Worker]:
    made = _Worker()
    app = web.Application()
    app.router.add_post("/questions", made.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/questions"
    yield made
    await runner.cleanup()


@pytest.fixture
async def worker() -> AsyncIterator[_Worker]:
    """A worker that listens."""
    async with _listening() as made:
        yield made


@pytest.fixture
async def second() -> AsyncIterator[_Worker]:
    """Another one."""
    async with _listening() as made:
        yield made


@pytest.fixture
async def asker(worker: _Worker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerClient]:
    """A client that knows this worker."""
    monkeypatch.setattr(worker_client, "_GRACE_SECONDS", 0.1)
    made = WorkerClient(_Directory(worker), OPTIONS, ApiMetrics())
    yield made
    await made.close()


async def _problem_of(asking: Any) -> str:
    async with asyncio.timeout(5):
        with pytest.raises(ApiProblemError) as caught:
            await asking
    return caught.value.name


async def _saying(status: int, body: bytes = b"") -> web.Response:
    return web.Response(status=status, body=body)


@pytest.mark.parametrize(
    ("does", "problem"),
    [
        ("be_silent", "no-reply"),
        ("die", "no-worker"),
        (503, "no-reply"),
        (401, "no-reply"),
        (400, "internal-error"),
        (500, "internal-error"),
    ],
)
async def test_every_failure_is_told_to_all_who_wait(
    worker: _Worker, asker: WorkerClient, does: str | int, problem: str
) -> None:
    """A worker that says nothing, dies, or takes no request: two who ask alike are both told, once."""
    worker.handle = getattr(worker, does) if isinstance(does, str) else lambda _: _saying(does)
    names = await asyncio.gather(*(_problem_of(asker.ask(QUERY)) for _ in range(2)))
    assert names == [problem] * 2
    assert asker.in_flight == 0
    assert asker._alike == {}


@pytest.mark.parametrize(
    ("error", "problem"),
    [(StoreUnavailableError("away"), "store-unavailable"), (_UnforeseenError(), "internal-error")],
)
async def test_a_look_that_fails_is_told(error: Exception, problem: str) -> None:
    """Who is there is asked of the store, which may be away."""

    def fail() -> None:
        raise error

    directory = _Directory()
    directory.looks = fail
    asker = WorkerClient(directory, OPTIONS, ApiMetrics())
    assert await asyncio.gather(*(_problem_of(asker.ask(QUERY)) for _ in range(2))) == [problem] * 2
    directory.looks = lambda: None
    assert await _problem_of(asker.ask(QUERY)) == "no-worker"
    await asker.close()


async def test_another_worker_takes_over_from_one_that_dies(worker: _Worker, asker: WorkerClient) -> None:
    """Who asked hears nothing of it; what is tried again has as much time as is left."""
    second = _Worker()
    second.url = "http://127.0.0.1:1/questions"  # nobody listens
    asker._workers._workers = (AnsweringWorker("gone", second.url, "token"), *asker._workers._workers)

    async def die_once(request: web.Request) -> web.Response:
        worker.handle = worker.answer
        return await worker.die(request)

    worker.handle = die_once
    assert orjson.loads((await asker.ask(QUERY)).body) == {"a": 1}
    first, again = worker.requests
    assert first["request_id"] == again["request_id"]
    assert again["timeout_ms"] < first["timeout_ms"] <= 600


async def test_an_error_where_a_request_is_traced_is_told(
    asker: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands around the awaits may fail, too."""

    def span(*_: Any, **__: Any) -> None:
        raise _UnforeseenError

    monkeypatch.setattr(worker_client.tracing, "traced_span", span)
    assert await _problem_of(asker.ask(QUERY)) == "internal-error"


async def test_a_request_that_hangs_is_given_up(asker: WorkerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that swallows its cancellation holds up nobody who waits."""

    async def hang(*_: Any) -> bytes:
        for _ in range(20):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
        return b""

    monkeypatch.setattr(asker, "_post", hang)
    assert await _problem_of(asker.ask(QUERY)) == "no-reply"
    assert asker.in_flight == 0


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"request_id":"another","status":"ok"}',
        b'{"status":"error","error":{"headers":1,"name":2,"status":"x","title":[]}}',
        b'{"status":"error","error":7}',
        b"[" * 100_000,
    ],
)
async def test_a_reply_that_cannot_be_read_fails_its_question_alone(
    worker: _Worker, asker: WorkerClient, value: bytes
) -> None:
    """Who asked is told at once, not after the timeout, and the next reply is read."""
    worker.handle = lambda _: _saying(200, value)
    assert await _problem_of(asker.ask(QUERY)) == "internal-error"
    worker.handle = worker.answer
    assert orjson.loads((await asker.ask(QUERY)).body) == {"a": 1}


async def test_who_waits_when_the_process_stops_is_told(worker: _Worker, asker: WorkerClient) -> None:
    """Closing the client ends every wait with a problem, not with a cancellation that nobody asked for."""
    worker.handle = worker.be_silent
    asking = asyncio.create_task(_problem_of(asker.ask(QUERY)))
    await until(lambda: len(worker.requests) == 1)
    await asker.close()
    assert await asking == "no-worker"


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(
    worker: _Worker, asker: WorkerClient
) -> None:
    """Of two who share a request the first may go."""
    go = asyncio.Event()

    async def later(request: web.Request) -> web.Response:
        await go.wait()
        return await worker.answer(request)

    worker.handle = later
    first, second = (asyncio.create_task(asker.ask(QUERY)) for _ in range(2))
    await until(lambda: len(worker.requests) == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go.set()
    assert orjson.loads((await second).body) == {"a": 1}


@pytest.fixture
async def pair(
    worker: _Worker, second: _Worker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkerClient]:
    """A client that knows two workers, asks the first one first, and waits for a moment."""
    monkeypatch.setattr(worker_client, "_SILENT_SECONDS", 0.1)
    monkeypatch.setattr(worker_client, "_LISTEN_SECONDS", 0.02)
    made = WorkerClient(_Directory(worker, second), WorkerClientOptions(30.0, 100), ApiMetrics())
    yield made
    await made.close()


async def test_a_silent_workers_requests_are_asked_of_another(
    worker: _Worker, second: _Worker, pair: WorkerClient
) -> None:
    """A worker that is frozen keeps its connections and says nothing: the question has its answer long before its timeout."""
    worker.handle = worker.be_silent
    reply = await pair.ask(QUERY)
    assert orjson.loads(reply.body)["a"] == 1
    assert (len(worker.requests), len(second.requests)) == (1, 1)
    assert worker.requests[0]["request_id"] == second.requests[0]["request_id"]


async def test_the_first_answer_counts_though_another_worker_was_asked(
    worker: _Worker, second: _Worker, pair: WorkerClient
) -> None:
    """One that was only slow answers after all, and one that is asked in its place may die."""

    async def answer_late(request: web.Request) -> web.Response:
        await until(lambda: bool(second.requests))
        return await worker.answer(request)

    worker.handle, second.handle = answer_late, second.be_silent
    assert orjson.loads((await pair.ask(QUERY)).body)["a"] == 1
    second.handle = second.die
    assert orjson.loads((await pair.ask(RecommendationQuery(track_id="b"))).body)["a"] == 1


async def test_a_worker_that_answers_others_is_not_silent(
    worker: _Worker, second: _Worker, pair: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long question waits for its worker as long as that goes on answering."""
    over = asyncio.Event()

    async def take_long(_: web.Request) -> web.Response:
        body = worker.requests[-1]["request_id"].encode()
        await over.wait()
        return web.Response(body=b'{"request_id":"%s","status":"ok","a":2}' % body)

    worker.handle = take_long
    looks = itertools.count()

    def just_now(_: object) -> float:
        if next(looks) == 10:
            over.set()
        return time.monotonic()

    monkeypatch.setattr(pair._workers, "heard_at", just_now)
    asking = asyncio.create_task(pair.ask(QUERY))
    assert orjson.loads((await asking).body)["a"] == 2
    assert second.requests == []
