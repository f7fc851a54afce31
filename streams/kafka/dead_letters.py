"""Sending what can never be applied to dead-letters, its bytes as they came."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer

from streams.contracts import dead_letter_headers
from streams.faults import FaultPoint, reach
from streams.kafka.received import Refused
from streams.kafka.retry import until_done
from streams.kafka.topics import DEAD_LETTERS
from streams.metrics import WorkerMetrics

log = structlog.get_logger(__name__)


class DeadLetters:
    """Delivers dead letters. A replay may deliver one again; its source coordinates tell.

    Args:
        producer: Started.
        metrics: Where they are counted.
    """

    def __init__(self, producer: AIOKafkaProducer, metrics: WorkerMetrics) -> None:
        self._producer = producer
        self._metrics = metrics

    async def send(self, topic: str, refused: Sequence[Refused]) -> None:
        """Deliver all of them; returns when the broker has them."""
        if not refused:
            return
        remaining = list(refused)

        async def deliver() -> None:
            while remaining:
                await self._send_one(topic, remaining[0])
                del remaining[0]

        reach(FaultPoint.BEFORE_DEAD_LETTERS)
        await until_done(deliver, what="send dead letters", system="kafka", metrics=self._metrics)
        reach(FaultPoint.AFTER_DEAD_LETTERS)
        for letter in refused:
            self._metrics.dead_letters.labels(topic, letter.error.reason.value).inc()

    async def _send_one(self, topic: str, letter: Refused) -> None:
        received = letter.received
        log.warning(
            "event refused",
            topic=topic,
            partition=received.partition,
            offset=received.offset,
            reason=letter.error.reason.value,
            detail=letter.error.detail,
        )
        headers = dead_letter_headers(
            letter.error,
            topic=topic,
            partition=received.partition,
            offset=received.offset,
            received=received.headers,
        )
        delivery = await self._producer.send(
            DEAD_LETTERS, key=received.key, value=received.value, headers=headers
        )
        await asyncio.shield(delivery)
