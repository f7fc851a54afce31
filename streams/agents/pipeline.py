"""A worker's inside, put together: from raw messages to lists in the store and on the change feed."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from store import lists, partitions, tracks
from store.errors import FencedError
from store.pool import open_pool, require_schema, transaction
from store.settings import StoreSettings
from streams.agents.dead_letters import DeadLetters
from streams.agents.decoding import Received
from streams.agents.feed import Change, ChangeFeed
from streams.agents.ingest import Committed, Ingest
from streams.agents.leadership import Leadership
from streams.agents.maintainer import Maintainer
from streams.agents.names import TrackNames
from streams.agents.ownership import Ownership
from streams.agents.retry import until_done
from streams.agents.sampler import Sampler
from streams.agents.start import load_engine
from streams.kafka import start_producer, write_only_while
from streams.metrics import WorkerMetrics
from streams.neighbours.process import EngineProcess
from streams.settings import KafkaSettings, StreamSettings

log = structlog.get_logger(__name__)

# Together they stay below what a supervisor or an orchestrator grants before it kills.
DRAIN_SECONDS = 5.0
CLOSE_SECONDS = 1.0


class Log(Protocol):
    """What the pipeline needs to know of the ingest topic."""

    async def end_offsets(self, partitions: Sequence[int]) -> dict[int, int]:
        """The offset after the last message of each partition."""

    async def start_from(self, offsets: dict[int, int]) -> None:
        """Let the partitions be read from these offsets."""


class StaleEngineError(Exception):
    """Another worker has written since this one loaded its vectors: load them again, in a new process."""


class Pipeline:
    """Everything between the Faust agent and the store.

    Args:
        kafka: How to reach the brokers.
        streams: Sizes and windows.
        store: How to reach Postgres.
        metrics: Where everything is measured.
    """

    def __init__(
        self, kafka: KafkaSettings, streams: StreamSettings, store: StoreSettings, metrics: WorkerMetrics
    ) -> None:
        self._kafka = kafka
        self._streams = streams
        self._store = store
        self.metrics = metrics
        self.ownership = Ownership()
        self._exit = AsyncExitStack()
        self._names = TrackNames()
        self._applied: dict[int, int] = {}
        self._engine: EngineProcess | None = None
        self._maintainer: Maintainer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._first_claim = True
        self._processing = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Wait until this worker is the one that maintains the lists, then load the engine.

        Raises:
            SchemaMismatchError: The database is not at this version's schema.
        """

        async def connect() -> asyncpg.Pool:
            return await open_pool(self._store, application_name=f"mess-{self._streams.worker_name}")

        self._pool = await until_done(connect, what="reach Postgres", system="postgres", metrics=self.metrics)
        self._exit.push_async_callback(_close_pool, self._pool)
        await require_schema(self._pool)
        self._leadership = Leadership(self._store, self._streams.session_timeout_seconds)
        await self._leadership.acquire()
        log.info("this worker maintains the lists", worker=self._streams.worker_name)
        self._exit.push_async_callback(self._leadership.release)
        self.metrics.active.set(1)
        self._producer = await until_done(
            self._open_producer, what="reach Kafka", system="kafka", metrics=self.metrics
        )
        self._exit.push_async_callback(_within_time, self._producer.stop)
        self._feed = ChangeFeed(
            self._pool,
            self._producer,
            self.ownership,
            self._names,
            self._streams.feed_window_seconds,
            self.metrics,
        )
        dimension = await self._read_catalogue()
        self._ingest = Ingest(
            self._pool,
            self.ownership,
            DeadLetters(self._producer, self.metrics),
            self._hand_on,
            self.metrics,
            dimension,
        )
        if dimension is not None:
            await self._start_engine(dimension)

    async def _open_producer(self) -> AIOKafkaProducer:
        producer = await start_producer(self._kafka, linger_ms=5)
        write_only_while(producer, self._leadership.certain)
        return producer

    async def _read_catalogue(self) -> int | None:
        """How far the store has come; returns the catalogue's dimension if it has one."""
        wanted = self._streams.embedding_dimension
        async with transaction(self._pool) as connection:
            self.ownership.remember(await partitions.consumed(connection))
            if wanted is not None:
                fixed = await tracks.fix_dimension(connection, wanted)
                if fixed != wanted:
                    log.error("the catalogue has another dimension", configured=wanted, catalogue=fixed)
                return fixed
            return await tracks.read_dimension(connection)

    async def _start_engine(self, dimension: int) -> None:
        engine = EngineProcess(dimension, published=self._streams.list_size, kept=self._streams.list_kept)
        await engine.start()
        self._exit.push_async_callback(engine.stop)
        self._applied.update(await load_engine(self._pool, engine, self._names, dimension))
        self._engine = engine
        self._maintainer = Maintainer(
            self._pool, engine, self.ownership, self._feed, self._names, self._applied, self.metrics
        )
        self._spawn("applying", self._maintainer.run_applying())
        self._spawn("flushing", self._maintainer.run_flushing())
        self._spawn("change feed", self._feed.run())
        sampler = Sampler(
            self._pool,
            engine,
            self._maintainer.flushes,
            self.metrics,
            self._streams.sampled_lists_per_second,
        )
        self._spawn("sampler", sampler.run())

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def watch(self) -> None:
        """Return never; raise what ended a background task, or the loss of leadership.

        The process must then stop: what it holds in memory cannot be trusted.
        """
        while True:
            self._leadership.require()
            for task in self._tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    log.error("a background task has died", task=task.get_name(), error=repr(error))
                    raise error
            await asyncio.sleep(0.2)

    async def claim(self, assigned: Sequence[int], source: Log) -> None:
        """Take partitions over and say from where they are read: the store's consumed offsets are the truth.

        Raises:
            StaleEngineError: Another worker has consumed them meanwhile.
        """
        if not assigned:
            self.ownership.take({})
            return
        async with self.ownership.claiming():

            async def take() -> dict[int, partitions.Claim]:
                async with transaction(self._pool) as connection:
                    waiting = connection.get_server_pid()
                    async with partitions.evicting(
                        self._pool, waiting, self._streams.session_timeout_seconds
                    ):
                        claims = await partitions.claim(connection, list(assigned), self._owner)
                    # Not committed then: one that has been replaced must not fence off its successor.
                    self._require_fresh(claims)
                    return claims

            claims = await until_done(take, what="claim partitions", system="postgres", metrics=self.metrics)
            if self._first_claim:
                await until_done(
                    lambda: self._tell_again(claims),
                    what="tell the change feed again",
                    system="postgres",
                    metrics=self.metrics,
                )
                self._first_claim = False
            self.ownership.take(claims)
        await self._follow_replaced_log(assigned, source)
        await source.start_from({p: self.ownership.consumed(p) for p in assigned})
        log.info("partitions claimed", offsets={p: self.ownership.consumed(p) for p in assigned})

    def _require_fresh(self, claims: dict[int, partitions.Claim]) -> None:
        for partition, claim in claims.items():
            # Our own last commit may not have been noted yet, hence the look at the epochs.
            known = self.ownership.consumed(partition)
            if claim.consumed_offset > known and not self.ownership.follows(partition, claim):
                raise StaleEngineError(f"partition {partition}: {claim.consumed_offset} > {known}")

    @property
    def _owner(self) -> str:
        return f"{self._streams.worker_name}/{os.getpid()}"

    async def _follow_replaced_log(self, assigned: Sequence[int], source: Log) -> None:
        """Where the topic ends before what was consumed, another log has taken its place: read it from its start."""
        ends = await source.end_offsets(assigned)
        replaced = [p for p in assigned if ends.get(p, 0) < self.ownership.consumed(p)]
        if not replaced:
            return
        log.warning(
            "the topic has been replaced by a new one, which is read from its start", partitions=replaced
        )
        if self._maintainer is not None:
            await self._maintainer.flush()
        epochs = {p: self.ownership.epochs[p] for p in replaced}
        async with transaction(self._pool) as connection:
            await partitions.restart_offsets(connection, epochs)
        self.ownership.restart(replaced)
        self._applied.update(dict.fromkeys(replaced, 0))

    async def _tell_again(self, claims: dict[int, partitions.Claim]) -> None:
        """Tell the change feed of lists that were written but perhaps not told before the last end.

        Before anything is flushed: what is read here must not be told after something newer. Lists whose track was
        deleted without a flush following are dropped, as no engine knows of them any more.
        """
        published = min(claim.published_version for claim in claims.values())
        async with transaction(self._pool) as connection:
            await partitions.hold(connection, {p: claim.epoch for p, claim in claims.items()})
            await lists.drop_orphans(connection)
            rows = await lists.read_lists(connection, newer_than=published)
            version: int = await connection.fetchval("SELECT coalesce(max(version), 0) FROM neighbour_lists")
        changes = []
        for i, key in enumerate(rows.keys.tolist()):
            length = int(rows.lengths[i])
            change = Change(
                neighbours=rows.neighbours[i, :length],
                scores=rows.scores[i, :length],
                previous=None,
                version=int(rows.versions[i]),
                generated_at=float(rows.generated_at[i]),
                source=(int(rows.partitions[i]), int(rows.offsets[i])),
            )
            changes.append((key, change))
        self._feed.add(changes, flushed=version, withdrawn=True)

    def revoke(self, revoked: Sequence[int]) -> None:
        """These partitions are not ours any more."""
        self.ownership.lose(revoked)

    async def process(self, messages: Sequence[Received]) -> bool:
        """Apply a micro-batch; True if it may be acknowledged, False if it is left to be read again.

        Raises:
            FencedError: Another worker holds a partition that Kafka still assigns to this one: it must end.
        """
        async with self._processing:
            if self._stopping:
                return False
            try:
                await self._ingest.process(messages)
            except FencedError as error:
                if error.partition in self.ownership:
                    raise
                log.warning("a batch is left to the partition's next owner", error=str(error))
                return False
            return True

    async def _hand_on(self, committed: Committed) -> None:
        if self._maintainer is None:
            if committed.dimension is None:
                self._applied.update(committed.next_offsets)
                return
            # The batch that fixes the dimension is in the store already: loading applies it.
            await self._start_engine(committed.dimension)
            return
        await self._maintainer.put(committed)

    async def stop(self) -> None:
        """Finish what was committed, tell the feed, and let go of everything."""
        self._stopping = True
        if self._maintainer is not None and self.ownership.partitions:
            try:
                # A batch between its commit and the maintainer is neither here nor there: wait for it first.
                async with asyncio.timeout(DRAIN_SECONDS), self._processing:
                    await self._maintainer.drain()
            except (TimeoutError, FencedError) as error:
                log.warning("stopped with work left; the next start catches up", error=repr(error))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.metrics.active.set(0)
        await self._exit.aclose()


async def _within_time(close: Callable[[], Awaitable[None]]) -> None:
    """Close politely if that is quick: a broker that is away would be waited for."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
    except TimeoutError:
        log.warning("closed without an answer", what=getattr(close, "__qualname__", repr(close)))


async def _close_pool(pool: asyncpg.Pool) -> None:
    await _within_time(pool.close)
    pool.terminate()
