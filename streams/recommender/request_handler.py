"""Handles requests: parses them, answers them concurrently, sends replies, acknowledges in order."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import orjson
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from cachetools import LRUCache

from streams.contracts import (
    WHOLE,
    InvalidEvent,
    InvalidRequest,
    RecommendationRequest,
    encode_error,
    parse_request,
    request_id_of,
    space_of,
    tracing,
    unknown_space,
)
from streams.generations import DEFAULT_SPACE
from streams.kafka.broker_clock import BrokerClock
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.poison import unprocessable_event
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.kafka.retry import until_done
from streams.kafka.topics import RECOMMENDATION_REPLIES, RECOMMENDATION_REQUESTS
from streams.metrics import WorkerMetrics
from streams.recommender import problems
from streams.recommender.held_requests import HeldRequests, ServingLooks
from streams.recommender.metrics import RecommenderMetrics

log = structlog.get_logger(__name__)

Acknowledge = Callable[[], Awaitable[None]]

# Remembered replies, which are sent again if a request_id is repeated.
_REMEMBERED_BYTES: Final = 32 * 1024 * 1024


class LeavingError(Exception):
    """This worker is stopping and accepts no more requests."""


class RequestAnswerer(Protocol):
    """The used part of `Recommender`."""

    async def answer(self, request: RecommendationRequest, seconds: float | None = None) -> bytes:
        """See `Recommender.answer`."""


@dataclass(slots=True)
class _AcceptedRequest:
    """An accepted request. It is acknowledged once it and all earlier ones of its partition are settled.

    Attributes:
        acknowledge: Does so.
        since: When the broker had it, by this process's monotonic clock.
        space: What it asks for; `default` if that cannot be read.
        settled: Whether it has been replied to, or left to another generation.
    """

    acknowledge: Acknowledge
    since: float
    space: str
    settled: bool = False


class RequestHandler:
    """Handles raw messages of recommendation-requests.

    A message is acknowledged after its reply has been delivered, so each is answered at least once. An invalid request is
    answered with a problem, or becomes a dead letter if its request_id is unknown. While the generation does not serve, messages
    are held; see `HeldRequests`. A request of another space is acknowledged and left to the generation that serves it. Where none
    does, and where a message names no space that can be read, the workers of the space `default` answer, with a problem.

    Args:
        answers: Answers requests.
        producer: Started; delivers the replies.
        dead_letters: Takes requests without a request_id.
        metrics: Measures requests.
        worker_metrics: Counts retries.
        serving: Which generations serve; asked from the first message on.
        space: That of this worker's generation.
        concurrent: Maximum number of concurrent requests.
    """

    def __init__(
        self,
        answers: RequestAnswerer,
        producer: AIOKafkaProducer,
        dead_letters: DeadLetterSender,
        metrics: RecommenderMetrics,
        worker_metrics: WorkerMetrics,
        serving: Callable[[], ServingLooks],
        space: str = DEFAULT_SPACE,
        *,
        concurrent: int,
    ) -> None:
        self._answers = answers
        self._producer = producer
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._worker_metrics = worker_metrics
        self._serving = serving
        self._space = space
        self._held = HeldRequests[_AcceptedRequest](serving, self._begin, self._leave_unanswered)
        self._slots = asyncio.Semaphore(concurrent)
        self._tasks: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None
        self._leaving = False
        self._clock = BrokerClock()
        self._order: dict[int, deque[_AcceptedRequest]] = {}
        self._replies: LRUCache[str, tuple[bytes, bytes]] = LRUCache(
            _REMEMBERED_BYTES, getsizeof=lambda kept: len(kept[1])
        )

    async def take(self, received: ReceivedMessage, acknowledge: Acknowledge) -> None:
        """Begin to answer a message, or hold it while the generation does not serve; returns when there is room for the next one.

        Args:
            received: Of recommendation-requests, in the order of its partition.
            acknowledge: Called once, after the reply has been delivered, or after another generation must have sent one; never
                after `leave`: whoever has the partition next reads the message again.

        Raises:
            Exception: A reply could not be delivered for a reason that will not pass: the process must end.
        """
        if self._leaving:
            return
        since = time.monotonic() - (self._clock.age(received.timestamp / 1000) if received.appended else 0.0)
        taken = _AcceptedRequest(acknowledge, since, space_of(received.key, received.value))
        self._order.setdefault(received.partition, deque()).append(taken)
        if not self._is_ours(taken.space):
            await self._leave_unanswered(received, taken)
        elif self._serving().serves:
            await self._begin(received, taken)
        else:
            await self._held.put(received, taken, since)

    def _is_ours(self, asked: str) -> bool:
        """Whether this worker's space has to answer what asks for a space.

        Of its own space a worker leaves nothing because nobody serves it, as its look may be older than a promotion.
        """
        return asked == self._space or (self._space == DEFAULT_SPACE and asked not in self._serving().spaces)

    async def run_held(self) -> None:
        """Answer held messages once the generation serves; see `HeldRequests.run`."""
        await self._held.run()

    async def _begin(self, received: ReceivedMessage, taken: _AcceptedRequest) -> None:
        await self._slots.acquire()
        if self._defect is not None:
            raise self._defect
        if self._leaving:
            self._slots.release()
            return
        task = asyncio.create_task(self._work(received, taken), name="request")
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request was left unacknowledged", error=repr(error))
            self._defect = error

    async def _work(self, received: ReceivedMessage, taken: _AcceptedRequest) -> None:
        began = time.perf_counter()
        if not self._is_ours(taken.space):  # its space has begun to serve since it was taken, and answers
            await self._leave_unanswered(received, taken)
            return
        parent = tracing.parent_of(received.headers)
        with tracing.traced_span("answer request", "server", parent=parent):
            reply = await self._reply_or_problem(received, taken.since)
            if reply is not None:
                await self._deliver(*reply)
        self._metrics.seconds.observe(time.perf_counter() - began)
        await self._settle(received, taken)

    async def _leave_unanswered(self, received: ReceivedMessage, taken: _AcceptedRequest) -> None:
        self._metrics.requests.labels("left").inc()
        await self._settle(received, taken)

    async def _settle(self, received: ReceivedMessage, taken: _AcceptedRequest) -> None:
        taken.settled = True
        waiting = self._order[received.partition]
        while waiting and waiting[0].settled:
            await waiting.popleft().acknowledge()

    async def _reply_or_problem(self, received: ReceivedMessage, since: float) -> tuple[str, bytes] | None:
        """The reply; after an unexpected error, the problem `internal`."""
        try:
            return await self._reply(received, since)
        except Exception as error:
            log.exception(
                "a request could not be processed",
                topic=RECOMMENDATION_REQUESTS,
                partition=received.partition,
                offset=received.offset,
            )
            self._metrics.requests.labels("failed").inc()
            refusal = unprocessable_event(error)
        request_id = await asyncio.to_thread(_addressee, received)
        if request_id is None:
            await self._dead_letters.send(RECOMMENDATION_REQUESTS, [RefusedMessage(received, refusal)])
            return None
        return request_id, encode_error(request_id, problems.internal_failure().problem)

    async def _reply(self, received: ReceivedMessage, since: float) -> tuple[str, bytes] | None:
        """The request_id and the reply; None if the request_id is unknown."""
        try:
            request = parse_request(received.key, received.value)
        except InvalidEvent as error:
            return await self._refuse(received, error)
        digest = _digest(request)
        known = self._replies.get(request.request_id)
        if known is not None:
            self._metrics.requests.labels("repeated").inc()
            if known[0] == digest:
                return request.request_id, known[1]
            return request.request_id, encode_error(request.request_id, problems.reused_request_id().problem)
        try:
            reply = await self._answered(request, since)
        except Exception:
            log.exception("a request could not be answered", request_id=request.request_id)
            self._metrics.requests.labels("failed").inc()
            return request.request_id, encode_error(request.request_id, problems.internal_failure().problem)
        if len(reply) <= _REMEMBERED_BYTES and reply.startswith(_fine(request.request_id)):
            self._replies[request.request_id] = (digest, reply)
        return request.request_id, reply

    async def _refuse(self, received: ReceivedMessage, error: InvalidEvent) -> tuple[str, bytes] | None:
        self._metrics.requests.labels("refused").inc()
        request_id = await asyncio.to_thread(_addressee, received)
        if request_id is None:
            await self._dead_letters.send(RECOMMENDATION_REQUESTS, [RefusedMessage(received, error)])
            return None
        if isinstance(error, InvalidRequest):
            return request_id, encode_error(request_id, error.problem)
        return request_id, encode_error(request_id, problems.invalid_parameter(WHOLE, error.detail).problem)

    async def _deliver(self, request_id: str, reply: bytes) -> None:
        async def deliver() -> None:
            delivery = await self._producer.send(
                RECOMMENDATION_REPLIES,
                key=request_id.encode(errors="surrogatepass"),
                value=reply,
                headers=tracing.trace_headers(),
            )
            await asyncio.shield(delivery)

        try:
            await until_done(deliver, what="send a reply", system="kafka", metrics=self._worker_metrics)
        except MessageSizeTooLargeError:
            log.error("a reply is larger than its topic takes", request_id=request_id, bytes=len(reply))
            problem = encode_error(request_id, problems.internal_failure().problem)
            if len(problem) < len(reply):
                await self._deliver(request_id, problem)

    async def respond(self, value: bytes) -> bytes:
        """The reply to a request that came by itself, not by the topic; a problem is a reply, too.

        Args:
            value: As the value of a message of recommendation-requests; its `timeout_ms` is counted from now.

        Raises:
            LeavingError: It is not taken.
            InvalidEvent: It does not say whom to reply to.
        """
        if self._leaving:
            raise LeavingError
        began, since = time.perf_counter(), time.monotonic()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._slots:
                return await self._responded(value, since)
        finally:
            self._tasks.discard(task)
            self._metrics.seconds.observe(time.perf_counter() - began)

    async def _responded(self, value: bytes, since: float) -> bytes:
        try:
            request = parse_request(None, value)
        except InvalidRequest as error:
            self._metrics.requests.labels("refused").inc()
            request_id = await asyncio.to_thread(request_id_of, None, value)
            if request_id is None:
                raise
            return encode_error(request_id, error.problem)
        try:
            return await self._answered(request, since)
        except Exception:
            log.exception("a request could not be answered", request_id=request.request_id)
            self._metrics.requests.labels("failed").inc()
            return encode_error(request.request_id, problems.internal_failure().problem)

    async def _answered(self, request: RecommendationRequest, since: float) -> bytes:
        """The reply to a valid request that was received at `since`."""
        if request.space == self._space:
            return await self._answers.answer(request, _seconds_left(request, since))
        self._metrics.requests.labels("refused").inc()
        spaces = self._serving().spaces
        if request.space in spaces:
            elsewhere = problems.invalid_parameter("space", f"must be {self._space}: this is a worker of it")
            return encode_error(request.request_id, elsewhere.problem)
        return encode_error(request.request_id, unknown_space(request.space, spaces))

    def leave(self) -> None:
        """Accept no more messages: the partition's next owner reads them."""
        self._leaving = True

    async def drain(self) -> None:
        """Wait until all accepted requests have been replied to."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self) -> None:
        """Cancel requests in progress; they are read again."""
        for task in self._tasks:
            task.cancel()


def _seconds_left(request: RecommendationRequest, since: float) -> float | None:
    """How much longer the caller waits for a request that the broker received at `since`."""
    return None if request.timeout_ms is None else since + request.timeout_ms / 1000 - time.monotonic()


def _addressee(received: ReceivedMessage) -> str | None:
    try:
        return request_id_of(received.key, received.value)
    except Exception:  # noqa: BLE001 -- then nobody can be told
        return None


def _digest(request: RecommendationRequest) -> bytes:
    """A digest that is equal for requests with the same question, whatever their form and time."""
    return hashlib.blake2b(request.asked, digest_size=16).digest()


def _fine(request_id: str) -> bytes:
    """The beginning of a reply that is no error: errors are not remembered, as they may pass."""
    return b'{"request_id":%s,"status":"ok"' % orjson.dumps(request_id)
