"""The recommender's place in a worker: what it is made of, what runs beside it, how it ends."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from streams.agents.dead_letters import DeadLetters
from streams.agents.recommender.candidates import Search
from streams.agents.recommender.interactions import Interactions
from streams.agents.recommender.metrics import RecommenderMetrics
from streams.agents.recommender.recommender import Recommender
from streams.agents.recommender.requests import RequestDesk
from streams.agents.recommender.settings import RecommenderSettings
from streams.agents.retry import until_done
from streams.kafka import start_producer
from streams.metrics import WorkerMetrics
from streams.neighbours.types import TrackBatch
from streams.settings import KafkaSettings

log = structlog.get_logger(__name__)

# How long replies under way may take when the worker leaves; what is left is read again.
_DRAIN_SECONDS = 3.0


class RecommendationService:
    """Requests and interactions of one worker.

    Made with the worker, started once its pool is open; `attach` and `follow` whenever there is something to search in
    and to follow. The agents may call `desk` and `interactions` after `start`.

    Args:
        kafka: How to reach the brokers.
        settings: Sizes, windows and budgets.
        metrics: The worker's.
    """

    desk: RequestDesk
    interactions: Interactions
    recommender: Recommender

    def __init__(self, kafka: KafkaSettings, settings: RecommenderSettings, metrics: WorkerMetrics) -> None:
        self._kafka = kafka
        self._settings = settings
        self._worker_metrics = metrics
        self._metrics = RecommenderMetrics(metrics.registry)
        self._exit = AsyncExitStack()
        self._started = False

    async def start(
        self,
        pool: asyncpg.Pool,
        search: Search | None,
        *,
        applied: Callable[[], Mapping[int, int]] = dict,
    ) -> dict[str, Coroutine[Any, Any, None]]:
        """Open what replies go through.

        Args:
            pool: The store.
            search: Searches the catalogue; None as long as it is empty.
            applied: By partition of track-ingest, the offset below which `search` holds everything.

        Returns:
            What is to run beside, by name: to be watched and cancelled with the worker's own tasks.
        """

        async def connect() -> AIOKafkaProducer:
            # A reply is waited for: none is kept back to travel with others.
            return await start_producer(self._kafka, linger_ms=0)

        producer = await until_done(connect, what="reach Kafka", system="kafka", metrics=self._worker_metrics)
        self._exit.push_async_callback(producer.stop)
        letters = DeadLetters(producer, self._worker_metrics)
        self.recommender = Recommender(pool, search, self._settings, self._metrics, applied=applied)
        self._exit.callback(self.recommender.close)
        self.interactions = Interactions(pool, letters, self._settings, self._metrics, self._worker_metrics)
        self.desk = RequestDesk(
            self.recommender,
            producer,
            letters,
            self._metrics,
            self._worker_metrics,
            concurrent=self._settings.concurrent_requests,
        )
        self._started = True
        return self.recommender.background() | {"forgetting interactions": self.interactions.run_forgetting()}

    def attach(self, search: Search) -> None:
        """There is a catalogue to search now."""
        if self._started:
            self.recommender.attach(search)

    def follow(self, batch: TrackBatch) -> None:
        """These tracks have changed, whichever worker took them."""
        if self._started:
            self.recommender.follow(batch)

    async def stop(self) -> None:
        """Reply to what was taken if that is quick, and let go of everything."""
        if self._started:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self.desk.drain()
            except TimeoutError:
                log.warning("stopped with requests under way; they are read again")
                self.desk.cancel()
        try:
            async with asyncio.timeout(1.0):
                await self._exit.aclose()
        except TimeoutError:
            log.warning("the producer of replies does not stop")
