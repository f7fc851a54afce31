"""Builds, runs and stops the recommender of a worker."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from store.pool import open_pool
from store.settings import StoreSettings
from streams.engine.types import Keys, TrackBatch
from streams.generations import GenerationName
from streams.kafka.clients import start_producer
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.retry import until_done
from streams.metrics import WorkerMetrics
from streams.recommender.held_requests import ServingLooks
from streams.recommender.interactions import InteractionConsumer
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.recommender import Answers, Recommender
from streams.recommender.request_handler import RequestHandler
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings

log = structlog.get_logger(__name__)

# How long pending replies may take when the worker leaves; the remaining requests are read again.
_DRAIN_SECONDS = 2.0
_CLOSE_SECONDS = 1.0


class RecommendationService:
    """Requests and interactions of one worker, with a pool and a producer of their own.

    Started before the worker's pipeline, which tells it of what can be searched and of what changes. The agents may use
    `handler` and, of the generation that counts them, `interactions` after `start`.

    Args:
        kafka: How to reach the brokers.
        store: How to reach Postgres.
        settings: Sizes, windows and budgets.
        metrics: The worker's.
        name: The worker's.
        generation: Whose lists the worker keeps. Interactions are of all generations, and the first counts them.
        serving: Whether it serves; asked from the first message on.
        applied: By partition of its topic, the offset below which what is searched holds everything.
    """

    handler: RequestHandler
    interactions: InteractionConsumer
    recommender: Recommender

    def __init__(
        self,
        kafka: KafkaSettings,
        store: StoreSettings,
        settings: RecommenderSettings,
        metrics: WorkerMetrics,
        *,
        name: str,
        generation: GenerationName,
        serving: Callable[[], ServingLooks],
        applied: Callable[[], Mapping[int, int]],
    ) -> None:
        self._kafka = kafka
        self._store = store
        self._settings = settings
        self._worker_metrics = metrics
        self._metrics = RecommenderMetrics(metrics.registry)
        self._name = name
        self.counts_interactions = generation.is_first
        self._generation = generation
        self._serving = serving
        self._applied = applied
        self._exit = AsyncExitStack()
        self._started = False

    async def start(self) -> None:
        """Reach Postgres and Kafka."""

        async def open_store() -> asyncpg.Pool:
            return await open_pool(self._store, application_name=f"mess-{self._name}-recommender")

        async def open_producer() -> AIOKafkaProducer:
            # A reply is waited for: none is kept back to travel with others.
            return await start_producer(self._kafka, linger_ms=0)

        metrics = self._worker_metrics
        pool = await until_done(open_store, what="reach Postgres", system="postgres", metrics=metrics)
        self._exit.callback(pool.terminate)
        producer = await until_done(open_producer, what="reach Kafka", system="kafka", metrics=metrics)
        self._exit.push_async_callback(producer.stop)
        letters = DeadLetterSender(producer, metrics)
        self.recommender = Recommender(
            pool, None, self._settings, self._metrics, generation=self._generation, applied=self._applied
        )
        self._exit.push_async_callback(self.recommender.close)
        self.interactions = InteractionConsumer(pool, letters, self._settings, self._metrics, metrics)
        self.handler = RequestHandler(
            self.recommender,
            producer,
            letters,
            self._metrics,
            metrics,
            self._serving,
            self._generation.space,
            concurrent=self._settings.concurrent_requests,
        )
        self._started = True

    async def watch(self) -> None:
        """Run the background tasks for ever; raises what ended one: the process must then stop."""
        beside = self.recommender.background() | {"held requests": self.handler.run_held()}
        if self.counts_interactions:
            beside["forgetting interactions"] = self.interactions.run_forgetting()
        async with asyncio.TaskGroup() as group:
            for name, work in beside.items():
                group.create_task(work, name=name)

    def attach(self, answers: Answers) -> None:
        """Use this catalogue from now on."""
        self.recommender.attach(answers)

    def follow(self, batch: TrackBatch | None, upto: Mapping[int, int]) -> None:
        """Record the tracks of a batch as changed, whichever worker consumed it."""
        del upto
        if batch is not None:
            self.recommender.follow(batch)

    def follow_metadata(self, keys: Keys) -> None:
        """Record that the searched catalogue has had other metadata of these tracks, int64 (m,), until now."""
        self.recommender.follow_metadata(keys.tolist())

    async def stop(self) -> None:
        """Send pending replies if that is quick, and close everything."""
        if self._started:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    self.handler.leave()
                    await self.handler.drain()
            except TimeoutError:
                log.warning("stopped with requests under way; they are read again")
                self.handler.cancel()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._exit.aclose()
        except TimeoutError:
            log.warning("the producer of replies does not stop")
