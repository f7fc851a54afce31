"""Opens the context of a generation, and builds what all contexts share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from serving.background import running_tasks
from serving.context import ApiContext, SpaceParts
from serving.health import HealthCheckResult, HealthChecks
from serving.kafka.broker import IngestLogEnds
from serving.kafka.change_subscriber import ChangeSubscriber
from serving.kafka.changes import FeedChange
from serving.kafka.streaming import OpenStreams
from serving.metrics import ApiMetrics
from serving.recommend.lists import ListReader
from serving.recommend.offset_watcher import OffsetWatcher
from serving.recommend.past_lists import PastListReader
from serving.recommend.questions import QuestionReader
from serving.recommend.response_cache import ResponseCache
from serving.recommend.service import ReadService
from serving.recommend.track_fragments import TrackFragments
from serving.settings import ServingSettings
from serving.workers.client import WorkerClient, WorkerClientOptions
from serving.workers.directory import WorkerDirectory
from store.errors import StoreError
from store.generations import require_own_schema, require_readable
from store.pool import open_pool, require_schema
from store.settings import StoreSettings
from streams.generations import GenerationName
from streams.kafka.header_names import tolerate_foreign_header_names

logger = structlog.get_logger("serving")

_CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ProcessParts:
    """What the contexts of all generations of all spaces share.

    Attributes:
        settings: How the process serves.
        store: The store; its timeouts are those of reads.
        log_ends: Reads the ends of a generation's topic; None without a broker.
        metrics: Where things are counted.
        questions: Reads query strings.
        streams: The streams of events that are open.
        closing: Set when the process is to stop.
        spaces: The check of further spaces.
    """

    settings: ServingSettings
    store: StoreSettings
    log_ends: IngestLogEnds | None
    metrics: ApiMetrics
    questions: QuestionReader
    streams: OpenStreams
    closing: asyncio.Event
    spaces: Callable[[], HealthCheckResult]


@asynccontextmanager
async def open_context(
    process: ProcessParts, generation: GenerationName, space: SpaceParts
) -> AsyncIterator[ApiContext]:
    """The context of a generation, whose tasks run around a block.

    Args:
        process: What it shares with all others.
        generation: What it is to serve.
        space: What it shares with others of its space.

    Raises:
        StoreError: It cannot be read.
    """
    store = process.store.of_schema(generation.schema)
    pool = await open_pool(store, application_name="mess-api", read_only=True)
    try:
        await require_readable(pool, generation)
        await require_own_schema(pool, generation)
        await require_schema(pool)
        async with _running_context(process, generation, pool, space) as context:
            yield context
    finally:
        await _close(pool)


@asynccontextmanager
async def _running_context(
    process: ProcessParts, generation: GenerationName, pool: asyncpg.Pool, space: SpaceParts
) -> AsyncIterator[ApiContext]:
    settings, metrics, timeout = process.settings, process.metrics, process.settings.store_timeout
    memory = ResponseCache(settings.memory_bytes)
    fragments = TrackFragments(pool, settings.track_bytes, timeout)
    watch = OffsetWatcher(
        pool, memory, settings.watch_interval, timeout, generation=generation, turned=space.turned
    )
    with contextlib.suppress(StoreError, TimeoutError):  # it is looked for again
        async with asyncio.timeout(timeout):
            await watch.look()
    directory = WorkerDirectory(pool, timeout)
    workers = WorkerClient(directory, _asking(settings), metrics)
    lists = ListReader(pool, fragments, timeout)
    recommending = ReadService(settings, generation, pool, memory, lists, watch, workers, metrics)
    try:
        async with running_tasks({"watch": watch.run(), "workers": directory.run()}):
            yield ApiContext(
                settings=settings,
                generation=generation,
                pool=pool,
                health=HealthChecks(
                    settings, generation, pool, process.log_ends, space.trouble, process.spaces
                ),
                metrics=metrics,
                memory=memory,
                fragments=fragments,
                recommending=recommending,
                past_lists=PastListReader(generation, settings.topic_of(generation), pool, fragments),
                workers=workers,
                questions=process.questions,
                feed=space.feed,
                streams=process.streams,
                closing=process.closing,
            )
    finally:
        await recommending.close()
        await workers.close()


def change_feed(
    settings: ServingSettings,
    kafka: dict[str, Any] | None,
    metrics: ApiMetrics,
    generation: GenerationName,
    memory: Callable[[], ResponseCache],
) -> ChangeSubscriber | None:
    """Reads the change feed of a space for its streams, and outdates what `memory` holds; None without a broker.

    Args:
        settings: How the process serves.
        kafka: What aiokafka's clients take; None without a broker.
        metrics: Where messages are counted.
        generation: Any of the space.
        memory: The responses in memory by which the space is served at the moment.
    """
    if kafka is None:
        return None

    def listen(change: FeedChange) -> None:
        metrics.feed_messages.inc()
        if change.value is None:
            memory().forget(change.track_id)
        else:
            memory().outdate((change.track_id,), own=True)

    tolerate_foreign_header_names()
    return ChangeSubscriber(
        kafka,
        generation.feed_topic(settings.changes_topic),
        listen,
        limit=settings.stream_backlog,
        max_bytes=settings.stream_backlog_bytes,
    )


def _asking(settings: ServingSettings) -> WorkerClientOptions:
    return WorkerClientOptions(timeout=settings.request_timeout, in_flight=settings.max_requests)


async def _close(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), _CLOSE_TIMEOUT)
    except TimeoutError:
        logger.warning("connections were still in use when they were closed")
        pool.terminate()
