"""Shared parts of the API's Kafka clients, and log ends for health reports."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.kafka.clients import READ_COMMITTED
from streams.kafka.end_offsets import known_partitions, read_end_offsets

logger = structlog.get_logger("serving")

_RETRY_SECONDS = (0.2, 5.0)
_CONNECTING_SECONDS = 0.5
# Seconds that a client may take to stop: a producer waits for pending deliveries.
_STOPPING_SECONDS = 5.0


class BrokerUnavailableError(Exception):
    """The broker did not answer in time, or not at all."""


_ending: set[asyncio.Task[None]] = set()


async def start_client(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Start a client. If cancelled, it still connects first: aiokafka would leak the connection that it is opening."""
    task = asyncio.create_task(client.start(), name="start a Kafka client")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_CONNECTING_SECONDS)
        if task.cancel():
            await _ended(task)
        elif not task.cancelled():
            task.exception()  # nobody asks any more whether it could
        raise


async def stop_client(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client, in a task of its own, as aiokafka swallows cancellations.

    A client that hangs or fails to stop is abandoned.
    """
    await _ended(asyncio.create_task(client.stop(), name="stop a Kafka client"))


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait a limited time for a task to end; its later failure is only logged."""
    _ending.add(task)
    task.add_done_callback(_report)
    await asyncio.wait({task}, timeout=_STOPPING_SECONDS)


def _report(task: asyncio.Task[None]) -> None:
    _ending.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("a Kafka client did not stop well", error=repr(error))


async def keep_following(follow: Callable[[], Awaitable[None]], failure: str) -> NoReturn:
    """Follow a log for ever: restart when it ends or the broker is away, with growing delays up to a limit.

    After a run that was longer than the limit, delays start again from the smallest.

    Args:
        follow: Reads the log.
        failure: The log message while the broker is away.
    """
    wait, longest = _RETRY_SECONDS
    while True:
        began = time.monotonic()
        try:
            await follow()
        except (KafkaError, OSError) as error:
            logger.debug(failure, error=str(error))
        if time.monotonic() - began > longest:
            wait = _RETRY_SECONDS[0]
        await asyncio.sleep(wait)
        wait = min(wait * 2, longest)


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """The partitions of `topic`; waits for the topic if it does not exist yet."""
    while True:
        if topic in await consumer.topics() and (found := await known_partitions(consumer, topic)):
            return found
        await asyncio.sleep(0.5)


class IngestLogEnds(Protocol):
    """Reads the ends of the log of a topic that lists are computed from. Called once a health report at most."""

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """For each partition, the offset of the next message; empty if there is no such topic.

        Raises:
            BrokerUnavailableError: The broker does not answer.
        """

    async def close(self) -> None:
        """Disconnect; `end_offsets` is not called afterwards."""


class KafkaLogEnds:
    """`IngestLogEnds` from a Kafka consumer without a group: it commits nothing and reads no message."""

    def __init__(self, kafka_options: dict[str, Any], *, timeout: float) -> None:
        """Prepare; nothing is connected before the first question.

        Args:
            kafka_options: What aiokafka's clients take: bootstrap_servers, security_protocol, ...
            timeout: Seconds one question may take.
        """
        self._options = kafka_options
        self._timeout = timeout
        self._consumer: AIOKafkaConsumer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """See `IngestLogEnds`."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._ask(topic)
            except (KafkaError, OSError) as error:  # a timeout is an OSError too
                await self._drop()
                reason = str(error) or f"no answer within {self._timeout:g} s"
                raise BrokerUnavailableError(reason) from error

    async def _ask(self, topic: str) -> dict[int, int]:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._options, group_id=None, enable_auto_commit=False, isolation_level=READ_COMMITTED
            )
            try:
                await start_client(consumer)
            except BaseException:
                await stop_client(consumer)
                raise
            self._consumer = consumer
        if topic not in await self._consumer.topics():
            return {}
        return await read_end_offsets(self._consumer, topic)

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer)

    async def close(self) -> None:
        """See `IngestLogEnds`."""
        async with self._one_at_a_time:
            await self._drop()
