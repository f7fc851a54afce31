"""What the store cannot answer: a request to the workers over Kafka, and their reply.

Requests go to one topic, replies come back on another, which this process reads from its end without a group; the
request's id tells whose a reply is. Requests that are alike and in flight at the same time share one computation.
"""

import asyncio
import itertools
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from serving import problems
from serving.kafka.broker import (
    BrokerUnavailableError,
    keep_following,
    partitions_of,
    start_client,
    stop_client,
)
from serving.kafka.presence import WorkerDiscovery
from serving.kafka.queue_delay import QueueDelay
from serving.metrics import ApiMetrics
from streams.contracts import RecommendationQuery, split_reply, tracing
from streams.kafka.clients import READ_COMMITTED

logger = structlog.get_logger("serving")

# An answer that takes longer is late: then it is asked whether there is any worker.
_LATE_SECONDS = 0.5
_GIVEN_UP_KEPT = 10_000
# Seconds beyond its time after which a request is given up even if the task that sees to it hangs.
_GRACE_SECONDS = 1.0
# Replies carry up to fifty tracks with all that is known of them.
_FETCH_BYTES = 9 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerClientOptions:
    """How requests travel.

    Attributes:
        requests: Topic of the requests.
        replies: Topic of the replies.
        group: The workers' consumer group.
        timeout: Seconds until a request is given up.
        broker_timeout: Seconds until the broker must have taken a request.
        in_flight: Requests under way at most, whatever the workers' speed: what memory is bounded by.
    """

    requests: str
    replies: str
    group: str
    timeout: float
    broker_timeout: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """What workers answered.

    Attributes:
        body: The bytes of a JSON object.
        tick: What the one who asked first gave: the answer is from no earlier moment.
    """

    body: bytes
    tick: int


@dataclass(slots=True, eq=False)
class _Flight:
    """One request under way, and all who wait for it."""

    request_id: str
    alike: bytes
    reply: asyncio.Future[bytes]
    tick: int
    sent_at: float = field(default_factory=time.monotonic)


def question_fields(query: RecommendationQuery) -> dict[str, Any]:
    """What is asked, without what is as it is by default: equal questions, equal values."""
    return query.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class WorkerClient:
    """Asks the workers.

    Args:
        kafka: What aiokafka's clients take: bootstrap_servers, security_protocol, ...
        options: How requests travel.
        metrics: Where requests and replies are counted.
    """

    def __init__(self, kafka: dict[str, Any], options: WorkerClientOptions, metrics: ApiMetrics) -> None:
        self._kafka = kafka
        self._options = options
        self._metrics = metrics
        self._presence = WorkerDiscovery(kafka, options.group, options.broker_timeout)
        self._prefix = f"api-{os.urandom(6).hex()}-"
        self._numbers = itertools.count(1)
        self._pending: dict[str, _Flight] = {}
        self._alike: dict[bytes, _Flight] = {}
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._delay = QueueDelay(options.timeout)
        metrics.watch_queue(lambda: self._delay.seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._pending)

    @property
    def busy(self) -> bool:
        """Whether so much is under way that what nobody waits for should not be asked."""
        return self._delay.busy

    async def ask(self, query: RecommendationQuery, *, hits: int = 1, tick: int = 0) -> WorkerReply:
        """The workers' answer to `query`.

        Args:
            query: What is asked.
            hits: How often the stored body that this refreshes was read since it was last asked for.
            tick: When it is, by whatever clock the reply's `tick` is to be read.

        Raises:
            ProblemError: The workers' own refusal; 504 where none came in time, 503 without a worker or a broker, or where
                the workers cannot be expected to answer in time.
        """
        asked = question_fields(query)
        alike = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        flight = self._alike.get(alike)
        if flight is not None:
            self._metrics.requests_shared.inc()
        else:
            self._admit()
            flight = self._start(asked, alike, hits, tick)
        return WorkerReply(await asyncio.shield(flight.reply), flight.tick)

    def _admit(self) -> None:
        """Refuse at once what would be answered too late; one is always asked, to find out how fast workers are."""
        too_long = self._delay.too_long if self._pending else 0.0
        if too_long > 0 or len(self._pending) >= self._options.in_flight:
            self._metrics.requests_refused.inc()
            raise problems.too_busy(too_long)

    def _start(self, asked: dict[str, Any], alike: bytes, hits: int, tick: int) -> _Flight:
        loop = asyncio.get_running_loop()
        request_id = f"{self._prefix}{next(self._numbers):x}"
        timeout_ms = round(self._options.timeout * 1000)
        value = orjson.dumps({"request_id": request_id, "timeout_ms": timeout_ms, "hits": hits} | asked)
        flight = _Flight(request_id, alike, loop.create_future(), tick)
        # Whoever waits may be gone when it fails: nobody need hear of it.
        flight.reply.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._pending[request_id] = self._alike[alike] = flight
        self._delay.sent()
        overdue = loop.call_later(self._options.timeout + _GRACE_SECONDS, self._overdue, flight)
        task = asyncio.create_task(self._fly(flight, value), name=f"request {request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: overdue.cancel())
        return flight

    async def _fly(self, flight: _Flight, value: bytes) -> None:
        """See to one request; whatever happens, those who wait for it are told."""
        try:
            async with asyncio.timeout(self._options.timeout):
                with tracing.traced_span("ask workers", "client", mess_request_id=flight.request_id):
                    await self._send(flight, value)
                    await self._wait(flight)
        except problems.ProblemError as problem:
            self._give_up(flight, problem)
        except TimeoutError:
            self._give_up(flight, problems.no_reply(self._options.timeout))
        except asyncio.CancelledError:
            self._give_up(flight, problems.broker_unavailable())  # the process stops
            raise
        except Exception:
            logger.exception("a request to the workers failed", worker_request_id=flight.request_id)
            self._give_up(flight, problems.internal_problem(flight.request_id))
        finally:
            self._forget(flight)

    async def _send(self, flight: _Flight, value: bytes) -> None:
        try:
            async with asyncio.timeout(self._options.broker_timeout):
                await self._connected.wait()
                assert self._producer is not None
                await self._producer.send_and_wait(
                    self._options.requests,
                    key=flight.request_id.encode(),
                    value=value,
                    headers=tracing.trace_headers(),
                )
        except (KafkaError, OSError) as error:  # a timeout is an OSError too
            raise problems.broker_unavailable() from error
        self._metrics.requests_sent.inc()

    async def _wait(self, flight: _Flight) -> None:
        late = _LATE_SECONDS - (time.monotonic() - flight.sent_at)
        done, _ = await asyncio.wait([flight.reply], timeout=max(0.0, late))
        if not done:
            try:
                present = await self._presence.any_worker()
            except BrokerUnavailableError as error:
                raise problems.broker_unavailable() from error
            if present is False:
                raise problems.no_worker()
            await asyncio.wait([flight.reply])
        self._metrics.reply_seconds.observe(time.monotonic() - flight.sent_at)

    def _give_up(self, flight: _Flight, problem: problems.ProblemError) -> None:
        """Tell those who wait; a reply that comes later is none of theirs."""
        if flight.reply.done():
            return
        self._metrics.requests_failed.labels(problem.name).inc()
        flight.reply.set_exception(problem)
        self._given_up[flight.request_id] = None
        if len(self._given_up) > _GIVEN_UP_KEPT:
            self._given_up.popitem(last=False)

    def _forget(self, flight: _Flight) -> None:
        if self._pending.pop(flight.request_id, None) is not None:
            self._delay.gone()
        if self._alike.get(flight.alike) is flight:
            del self._alike[flight.alike]

    def _overdue(self, flight: _Flight) -> None:
        """The task that sees to a request hangs: a library may swallow its cancellation."""
        logger.error("a request to the workers hangs", worker_request_id=flight.request_id)
        self._give_up(flight, problems.no_reply(self._options.timeout))
        self._forget(flight)

    async def run(self) -> None:
        """Keep the connections, and read replies for ever; a broker that is away is waited for."""
        await keep_following(self._serve, "no replies can be read")

    async def _serve(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._kafka,
            group_id=None,
            enable_auto_commit=False,
            isolation_level=READ_COMMITTED,
            auto_offset_reset="latest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            metadata_max_age_ms=10_000,
        )
        producer = AIOKafkaProducer(**self._kafka, acks=1)
        try:
            await start_client(consumer)
            await start_client(producer)
            await self._place(consumer, await partitions_of(consumer, self._options.replies))
            self._producer = producer
            self._connected.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        self._take(record)
                known = consumer.partitions_for_topic(self._options.replies) or set()
                if len(known) > len(consumer.assignment()):
                    return  # partitions have been added: start afresh
        finally:
            self._connected.clear()
            self._producer = None
            await stop_client(producer)
            await stop_client(consumer)

    async def _place(self, consumer: AIOKafkaConsumer, partitions: set[int]) -> None:
        """Stand at the end of the replies before the first request is sent."""
        places = [TopicPartition(self._options.replies, partition) for partition in sorted(partitions)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)

    def _take(self, record: ConsumerRecord) -> None:
        request_id = (record.key or b"").decode("utf-8", "replace")
        if not request_id.startswith(self._prefix):  # another process's
            return
        flight = self._pending.get(request_id)
        if flight is None or flight.reply.done():
            late = request_id in self._given_up
            self._given_up.pop(request_id, None)
            self._metrics.replies.labels("late" if late else "repeated").inc()
            return
        self._delay.answered()
        try:
            body, error = split_reply(request_id, record.value or b"")
            problem = None if body is not None else problems.problem_of_reply(error or {})
        except Exception as broken:  # noqa: BLE001 -- a message from outside must not end this process
            logger.warning("a reply cannot be read", worker_request_id=request_id, error=repr(broken))
            self._metrics.replies.labels("broken").inc()
            self._give_up(flight, problems.internal_problem(request_id))
            return
        self._metrics.replies.labels("used").inc()
        if body is not None:
            flight.reply.set_result(body)
        elif problem is not None:
            flight.reply.set_exception(problem)

    async def close(self) -> None:
        """Give up what is under way, and let go of the broker."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._presence.close()
