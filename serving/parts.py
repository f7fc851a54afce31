"""Builds and watches the background parts of an application."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from serving.kafka.change_subscriber import ChangeSubscriber
from serving.kafka.changes import FeedChange
from serving.keys import ApiKeyRing
from serving.metrics import ApiMetrics
from serving.recommend.lists import ListReader
from serving.recommend.offset_watcher import OffsetWatcher
from serving.recommend.response_cache import ResponseCache
from serving.recommend.service import ReadService
from serving.recommend.track_fragments import TrackFragments
from serving.settings import ServingSettings
from serving.workers.client import WorkerClient, WorkerClientOptions
from serving.workers.directory import WorkerDirectory
from store.errors import StoreError
from streams.freed import keep_giving_back
from streams.generations import GenerationName
from streams.kafka.header_names import tolerate_foreign_header_names
from streams.loop_lag import measure_loop_lag

logger = structlog.get_logger("serving")


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What `running_parts` runs.

    Attributes:
        memory: Ready answers.
        recommending: Answers questions.
        feed: The change feed; None without a broker.
    """

    memory: ResponseCache
    recommending: ReadService
    feed: ChangeSubscriber | None


@asynccontextmanager
async def running_parts(
    settings: ServingSettings,
    pool: asyncpg.Pool,
    kafka: dict[str, Any] | None,
    metrics: ApiMetrics,
    keys: ApiKeyRing | None = None,
) -> AsyncIterator[ApiParts]:
    """Run the parts around a block. If one of their tasks fails, the process ends: a partly working API would mislead.

    Args:
        settings: How it serves.
        pool: The store.
        kafka: What aiokafka's clients take, None without a broker.
        metrics: Where things are counted.
        keys: What callers' keys are held in; None where none are asked for.
    """
    if keys is not None:
        await keys.load(pool)
    memory = ResponseCache(settings.memory_bytes)
    fragments = TrackFragments(pool, settings.track_bytes, settings.store_timeout)
    metrics.watch_memory(memory, fragments)
    watch = OffsetWatcher(pool, memory, settings.watch_interval, settings.store_timeout)
    feed = None
    workers = WorkerDirectory(pool, settings.store_timeout)
    client = WorkerClient(workers, _asking(settings), metrics)
    work: dict[str, Coroutine[Any, Any, None]] = {
        "watch": watch.run(),
        "workers": workers.run(),
        "loop lag": measure_loop_lag(metrics.loop_lag),
        "freed memory": keep_giving_back(),
    }
    if keys is not None:
        work["keys"] = keys.run(pool)
    if kafka is not None:
        tolerate_foreign_header_names()
        feed = ChangeSubscriber(
            kafka,
            settings.changes_topic,
            _listener(memory, metrics),
            limit=settings.stream_backlog,
            max_bytes=settings.stream_backlog_bytes,
        )
        work["change feed"] = feed.run()
    lists = ListReader(pool, fragments, settings.store_timeout)
    recommending = ReadService(settings, GenerationName(), pool, memory, lists, watch, client, metrics)
    with contextlib.suppress(StoreError, TimeoutError):  # it is looked for again
        async with asyncio.timeout(settings.store_timeout):
            await watch.look()
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]
    for task in tasks:
        task.add_done_callback(_failed)
    try:
        yield ApiParts(memory, recommending, feed)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await recommending.close()
        await client.close()


def _asking(settings: ServingSettings) -> WorkerClientOptions:
    return WorkerClientOptions(timeout=settings.request_timeout, in_flight=settings.max_requests)


def _listener(memory: ResponseCache, metrics: ApiMetrics) -> Any:
    def listen(change: FeedChange) -> None:
        metrics.feed_messages.inc()
        if change.value is None:
            memory.forget(change.track_id)
        else:
            memory.outdate((change.track_id,), own=True)

    return listen


def _failed(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    logger.critical("a task has failed: the process stops", task=task.get_name(), exc_info=error)
    signal.raise_signal(signal.SIGTERM)
