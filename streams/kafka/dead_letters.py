"""Sends messages that can never be applied to dead-letters, with their bytes as received."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from streams.contracts import HEADER_LEFT_OUT, dead_letter_headers
from streams.faults import FaultPoint, reach
from streams.kafka.clients import sendable_key
from streams.kafka.received import RefusedMessage
from streams.kafka.retry import until_done
from streams.kafka.topics import DEAD_LETTERS
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)


class DeadLetterSender:
    """Delivers dead letters. A replay may deliver one again, with the same source coordinates.

    Args:
        producer: Started.
        metrics: Where they are counted.
    """

    def __init__(self, producer: AIOKafkaProducer, metrics: WorkerMetrics) -> None:
        self._producer = producer
        self._metrics = metrics

    async def send(self, topic: str, refused: Sequence[RefusedMessage]) -> None:
        """Deliver all of them, in order; returns when the broker has them."""
        if not refused:
            return
        for letter in refused:
            log.warning(
                "event refused",
                topic=topic,
                partition=letter.received.partition,
                offset=letter.received.offset,
                reason=letter.error.reason.value,
                detail=letter.error.detail,
            )
        remaining = list(refused)

        async def deliver() -> None:
            sent = [(letter, await self._send(topic, letter)) for letter in remaining]
            outcomes = await asyncio.gather(
                *(self._settled(topic, *each) for each in sent), return_exceptions=True
            )
            failed = [error for error in outcomes if isinstance(error, BaseException)]
            remaining[:] = [
                letter
                for letter, error in zip(remaining, outcomes, strict=True)
                if isinstance(error, BaseException)
            ]
            if failed:
                raise failed[0]

        reach(FaultPoint.BEFORE_DEAD_LETTERS)
        await until_done(deliver, what="send dead letters", system="kafka", metrics=self._metrics)
        reach(FaultPoint.AFTER_DEAD_LETTERS)
        for letter in refused:
            self._metrics.dead_letters.labels(topic, letter.error.reason.value).inc()

    async def _send(
        self, topic: str, letter: RefusedMessage, *, whole: bool = True
    ) -> "asyncio.Future[object] | None":
        """Pass a dead letter to the producer; None if it is larger than the producer may send."""
        received, value, own = letter.received, letter.received.value, letter.received.headers
        if not whole:
            value, own = None, ((HEADER_LEFT_OUT, str(len(value or b"")).encode()),)
        headers = dead_letter_headers(
            letter.error, topic=topic, partition=received.partition, offset=received.offset, received=own
        )
        try:
            delivery: asyncio.Future[object] = await self._producer.send(
                DEAD_LETTERS, key=sendable_key(received.key, value), value=value, headers=headers
            )
        except MessageSizeTooLargeError:
            return None
        return delivery

    async def _settled(
        self, topic: str, letter: RefusedMessage, delivery: "asyncio.Future[object] | None"
    ) -> None:
        """Wait until the broker has a dead letter, without its value if that is too large for the topic."""
        if delivery is not None:
            with contextlib.suppress(MessageSizeTooLargeError):
                await asyncio.shield(delivery)
                return
        log.warning("a dead letter is too large for its topic, and is sent without its value")
        again = await self._send(topic, letter, whole=False)
        if again is None:
            raise MessageSizeTooLargeError
        await asyncio.shield(again)
