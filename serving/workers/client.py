"""Sends requests that the store cannot answer to a worker over HTTP.

Any worker can answer any request, and an answer changes nothing: if a worker is gone, another one is tried as long as there
is time. Identical concurrent requests share one computation.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import structlog

from serving import problems
from serving.metrics import ApiMetrics
from serving.workers.directory import WorkerDirectory
from serving.workers.queue_delay import QueueDelay
from store.errors import StoreUnavailableError
from store.lives import AnsweringWorker
from streams.contracts import RecommendationQuery, split_reply, tracing

logger = structlog.get_logger("serving")

# Seconds beyond its timeout after which a request fails even if its task hangs.
_GRACE_SECONDS = 1.0
# A worker that accepts no connection within so many seconds counts as gone.
_CONNECT_SECONDS = 1.0
# Connections are closed by this side, before the worker would (aiohttp's servers wait for longer).
_KEPT_ALIVE_SECONDS = 30.0
# What a worker says that leaves, whose token is another one, and what else listens where one did.
_NOT_TAKEN = frozenset({401, 404, 405, 503})
# A request that so many workers have ended with is not given to another.
_SURVIVED = 2
# A worker that has answered nothing for so many seconds is taken for dead, though its connection stands: frozen, or on a machine
# that is gone. Its requests are asked of another one, too; it is looked at so often.
_SILENT_SECONDS, _LISTEN_SECONDS = 1.0, 0.25
# Where no worker takes a request, so many seconds until they are tried again; then twice as many, up to a limit.
_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.02, 0.25


@dataclass(frozen=True, slots=True)
class WorkerClientOptions:
    """Options of requests to the workers.

    Attributes:
        timeout: Seconds until a request fails.
        in_flight: Maximum number of concurrent requests, whatever the workers' speed: it bounds memory.
    """

    timeout: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """A worker's answer.

    Attributes:
        body: The bytes of a JSON object.
        tick: The tick of the first caller; the answer is not older.
    """

    body: bytes
    tick: int


@dataclass(slots=True, eq=False)
class _Flight:
    """One request in flight, and its callers."""

    request_id: str
    alike: bytes
    asked: dict[str, Any]
    reply: asyncio.Future[bytes]
    tick: int
    sent_at: float = field(default_factory=time.monotonic)


class _NotTakenError(Exception):
    """A worker that is there does not take the request: it leaves, or is not the one that the store had there."""


class _UnreadableError(Exception):
    """A worker cannot read the request, as none of ours could."""


def question_fields(query: RecommendationQuery) -> dict[str, Any]:
    """The fields of a question that differ from their defaults: equal for equal questions."""
    return query.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class WorkerClient:
    """Asks the workers. To be made where an event loop runs.

    Args:
        workers: Who there is.
        options: How requests travel.
        metrics: Where requests and replies are counted.
    """

    def __init__(self, workers: WorkerDirectory, options: WorkerClientOptions, metrics: ApiMetrics) -> None:
        self._workers = workers
        self._options = options
        self._metrics = metrics
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            auto_decompress=False,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
        )
        self._prefix = f"api-{os.urandom(6).hex()}-"
        self._numbers = itertools.count(1)
        self._pending: set[_Flight] = set()
        self._alike: dict[bytes, _Flight] = {}
        self._delay = QueueDelay(options.timeout)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queue_seconds(self) -> float:
        """Estimated seconds until a request that is sent now is answered."""
        return self._delay.seconds

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return len(self._pending)

    @property
    def busy(self) -> bool:
        """Whether the queue is so long that background requests should not be sent."""
        return self._delay.busy

    async def ask(self, query: RecommendationQuery, *, hits: int = 1, tick: int = 0) -> WorkerReply:
        """The workers' answer to `query`.

        Args:
            query: The question.
            hits: How often the stored body that this refreshes was read since its last request.
            tick: The caller's clock, which the reply returns.

        Raises:
            ProblemError: The workers' own refusal; 504 where none came in time, 503 without a worker or the store that names
                them, or where the workers cannot be expected to answer in time.
        """
        asked = question_fields(query)
        alike = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        flight = self._alike.get(alike)
        if flight is not None:
            self._metrics.requests_shared.inc()
        else:
            self._admit()
            flight = self._start(asked | {"hits": hits}, alike, tick)
        return WorkerReply(await asyncio.shield(flight.reply), flight.tick)

    def _admit(self) -> None:
        """Refuse a request that would be answered too late; one is always sent, to measure the workers' speed."""
        too_long = self._delay.too_long if self._pending else 0.0
        if too_long > 0 or len(self._pending) >= self._options.in_flight:
            self._metrics.requests_refused.inc()
            raise problems.too_busy(too_long)

    def _start(self, asked: dict[str, Any], alike: bytes, tick: int) -> _Flight:
        loop = asyncio.get_running_loop()
        request_id = f"{self._prefix}{next(self._numbers):x}"
        flight = _Flight(request_id, alike, asked, loop.create_future(), tick)
        # All callers may be gone when it fails.
        flight.reply.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._pending.add(flight)
        self._alike[alike] = flight
        self._delay.sent()
        overdue = loop.call_later(self._options.timeout + _GRACE_SECONDS, self._overdue, flight)
        task = asyncio.create_task(self._fly(flight), name=f"request {request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: overdue.cancel())
        return flight

    async def _fly(self, flight: _Flight) -> None:
        """Run one request; its callers get a result or a problem in any case."""
        try:
            async with asyncio.timeout(self._options.timeout):
                with tracing.traced_span("ask workers", "client", mess_request_id=flight.request_id):
                    value = await self._exchange(flight)
            self._take(flight, value)
        except problems.ApiProblemError as problem:
            self._give_up(flight, problem)
        except TimeoutError:
            self._give_up(flight, problems.no_reply(self._options.timeout))
        except asyncio.CancelledError:
            self._give_up(flight, problems.no_worker())  # the process stops
            raise
        except Exception:
            logger.exception("a request to the workers failed", worker_request_id=flight.request_id)
            self._give_up(flight, problems.internal_problem(flight.request_id))
        finally:
            self._forget(flight)

    async def _exchange(self, flight: _Flight) -> bytes:
        """The reply of the first worker that gives one; for who does not, others are asked, and all again after a pause.

        Raises:
            ProblemError: No worker is there, nor any starting, or the store that names them is away.
        """
        refused: set[str] = set()
        pause, ended = _PAUSE_SECONDS, 0
        while True:
            worker = self._workers.choose(refused)
            if worker is not None:
                try:
                    return await self._post_or_elsewhere(worker, flight, refused)
                except (aiohttp.ClientError, OSError, _NotTakenError) as error:
                    logger.debug("a worker does not answer", worker=worker.owner, error=repr(error))
                    ended += not isinstance(error, aiohttp.ClientConnectorError | _NotTakenError)
                    if ended > _SURVIVED:
                        raise problems.no_worker() from error
                    self._metrics.requests_repeated.inc()
                    refused.add(worker.owner)
                    continue
            await self._look()
            await asyncio.sleep(pause)
            refused.clear()
            pause = min(2 * pause, _MOST_PAUSE_SECONDS)

    async def _look(self) -> None:
        try:
            await self._workers.look()
        except StoreUnavailableError as error:
            raise problems.store_unavailable_problem() from error
        if self._workers.deserted:
            raise problems.no_worker()

    async def _post_or_elsewhere(
        self, worker: AnsweringWorker, flight: _Flight, refused: Collection[str]
    ) -> bytes:
        """The reply of a worker, or of another one if this one falls silent, whichever comes first."""
        elsewhere = {*refused, worker.owner}
        if self._workers.choose(elsewhere) is None:
            with self._workers.occupied(worker):
                return await self._post(worker, flight)
        asked = time.monotonic()
        # A worker is occupied before its task begins: the next request is to see that.
        with contextlib.ExitStack() as occupied:
            occupied.enter_context(self._workers.occupied(worker))
            posts = [asyncio.create_task(self._post(worker, flight))]
            try:
                while not posts[0].done():
                    silent = time.monotonic() - max(asked, self._workers.heard_at(worker)) > _SILENT_SECONDS
                    if silent and (other := self._workers.choose(elsewhere)) is not None:
                        logger.warning("a worker is silent; another one is asked", worker=worker.owner)
                        self._metrics.requests_repeated.inc()
                        occupied.enter_context(self._workers.occupied(other))
                        posts.append(asyncio.create_task(self._post(other, flight)))
                        break
                    await asyncio.wait(posts, timeout=_LISTEN_SECONDS)
                done, left = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
                # One that fails leaves it to the other.
                good = [post for post in done if post.exception() is None]
                return await (good or list(left) or posts)[0]
            finally:
                for post in posts:
                    post.cancel()
                await asyncio.gather(*posts, return_exceptions=True)

    async def _post(self, worker: AnsweringWorker, flight: _Flight) -> bytes:
        left = flight.sent_at + self._options.timeout - time.monotonic()
        timing = {"request_id": flight.request_id, "timeout_ms": max(1, round(left * 1000))}
        headers = {"authorization": f"Bearer {worker.token}", "content-type": "application/json"}
        headers |= {name: value.decode() for name, value in tracing.trace_headers()}
        self._metrics.requests_sent.inc()
        assert worker.url is not None
        async with self._session.post(
            worker.url, data=orjson.dumps(timing | flight.asked), headers=headers
        ) as answer:
            if answer.status in _NOT_TAKEN:
                raise _NotTakenError(f"status {answer.status}")
            if answer.status != 200:
                raise _UnreadableError(f"status {answer.status}: {await answer.text()}")
            value = await answer.read()
            self._workers.heard(worker)
            return value

    def _take(self, flight: _Flight, value: bytes) -> None:
        if flight.reply.done():  # given up, as the task hung
            self._metrics.replies.labels("late").inc()
            return
        self._metrics.reply_seconds.observe(time.monotonic() - flight.sent_at)
        self._delay.answered()
        try:
            body, error = split_reply(flight.request_id, value)
            problem = None if body is not None else problems.problem_of_reply(error or {})
        except Exception as broken:  # noqa: BLE001 -- a message from outside must not end this process
            logger.warning("a reply cannot be read", worker_request_id=flight.request_id, error=repr(broken))
            self._metrics.replies.labels("broken").inc()
            self._give_up(flight, problems.internal_problem(flight.request_id))
            return
        self._metrics.replies.labels("used").inc()
        if body is not None:
            flight.reply.set_result(body)
        elif problem is not None:
            flight.reply.set_exception(problem)

    def _give_up(self, flight: _Flight, problem: problems.ApiProblemError) -> None:
        """Fail a request with a problem."""
        if flight.reply.done():
            return
        self._metrics.requests_failed.labels(problem.name).inc()
        flight.reply.set_exception(problem)

    def _forget(self, flight: _Flight) -> None:
        if flight in self._pending:
            self._pending.discard(flight)
            self._delay.gone()
        if self._alike.get(flight.alike) is flight:
            del self._alike[flight.alike]

    def _overdue(self, flight: _Flight) -> None:
        """Fail a request whose task hangs: a library may swallow its cancellation."""
        logger.error("a request to the workers hangs", worker_request_id=flight.request_id)
        self._give_up(flight, problems.no_reply(self._options.timeout))
        self._forget(flight)

    async def close(self) -> None:
        """Cancel requests in flight, and close the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await self._workers.close()
