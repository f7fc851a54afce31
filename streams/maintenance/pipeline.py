"""Wires a worker's parts: from raw messages to lists in the store and on the change feed."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic, TypeVar

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from store import generations, layouts, lives, partitions
from store.errors import FencedError, StoreError
from store.layouts import StoredLayout
from store.lives import Suspect
from store.pool import open_pool, require_schema, transaction
from store.poolers import require_session
from store.settings import StoreSettings
from streams.engine.process import EngineProcess
from streams.engine.search import SearchProcess
from streams.freed import keep_giving_back
from streams.kafka.clients import start_producer, write_only_while
from streams.kafka.dead_letters import DeadLetterSender
from streams.kafka.feed_log import FeedLog
from streams.kafka.received import ReceivedMessage
from streams.kafka.retry import until_done
from streams.kafka.topics import RECOMMENDATIONS
from streams.loop_lag import measure_loop_lag
from streams.maintenance.catalogue_tracks import CatalogueFollower, CatalogueTracks
from streams.maintenance.change_publisher import ChangePublisher
from streams.maintenance.claiming import IngestLog, PartitionClaimer
from streams.maintenance.feed_ledger import FeedLedger
from streams.maintenance.following import Follower
from streams.maintenance.heartbeat import keep_beating
from streams.maintenance.ingest import CommittedBatch, Ingest, IngestSource
from streams.maintenance.lease import PartitionLease
from streams.maintenance.list_history import prune_for_ever
from streams.maintenance.maintainer import Listener, ListMaintainer
from streams.maintenance.map_keeper import MapKeeper
from streams.maintenance.misplaced import IngestTopic
from streams.maintenance.names import TrackNames
from streams.maintenance.ownership import Ownership
from streams.maintenance.sampler import ListSampler
from streams.maintenance.searched_metadata import Listener as MetadataListener
from streams.maintenance.searched_metadata import SearchedMetadata
from streams.maintenance.searching import SearchSupervisor
from streams.maintenance.serving import ServingWatch
from streams.maintenance.snapshots import SnapshotTask
from streams.maintenance.start import engine_process, load_engine
from streams.metrics import WorkerMetrics
from streams.settings import KafkaSettings, StreamSettings
from streams.strategies.aspects import FirstTrack, Layout

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

Search = TypeVar("Search", bound=SearchProcess)

# Their sum stays below the time that a supervisor or orchestrator grants before it kills.
DRAIN_SECONDS = 4.0
CLOSE_SECONDS = 1.0
# Messages of the change feed that travel together.
FEED_BATCH_BYTES = 512 * 1024
# Seconds between checks of whether the catalogue is still empty.
DIMENSION_SECONDS = 0.5


class Pipeline(Generic[Search]):
    """Everything between the Faust agent and the store.

    Args:
        kafka: How to reach the brokers.
        streams: Sizes and windows.
        store: How to reach Postgres.
        metrics: Where everything is measured.
        make_search: Makes the process that is kept at the catalogue's state beside the engine, given the dimension; not
            started.

    Attributes:
        log_end: The known end of a partition's log; set it before `start`.
        partition_count: How many partitions track-ingest has, 0 while that is unknown; set it before `start`.
        stalled_for: For how many seconds events have waited with none consumed; set it before `start`.
        search: Searches the whole catalogue; None while it is missing or being loaded.
        searched: By partition, the offset below which `search` holds everything.
        serving: Whether the generation serves; there from `start` on.
    """

    serving: ServingWatch

    def __init__(
        self,
        kafka: KafkaSettings,
        streams: StreamSettings,
        store: StoreSettings,
        metrics: WorkerMetrics,
        make_search: Callable[[int], Search],
    ) -> None:
        self._kafka = kafka
        self._streams = streams
        self._store = store
        self._make_search = make_search
        self.metrics = metrics
        self.ownership = Ownership()
        self.log_end: Callable[[int], int] = lambda _: 0
        self.partition_count: Callable[[], int] = lambda: 0
        self.stalled_for: Callable[[], float] = lambda: 0.0
        self._generation = streams.generation_name
        self._owner = f"{streams.worker_name}/{os.getpid()}"
        self._begun = False
        self.search: Search | None = None
        self.searched: Mapping[int, int] = {}
        self._exit = AsyncExitStack()
        self._names = TrackNames()
        self._maintainer: ListMaintainer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._when_searchable: list[Callable[[Search], None]] = []
        self._listeners: list[Listener] = []
        self._metadata_listeners: list[MetadataListener] = []
        self._processing = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Load the engine, so that partitions can be claimed.

        Raises:
            SchemaMismatchError: The database is not at this version's schema.
            PoolerError: A pooler before Postgres shares sessions.
        """

        async def connect() -> asyncpg.Pool:
            return await open_pool(
                self._store, application_name=f"mess-{self._streams.worker_name}", reset=False
            )

        self._pool = await until_done(connect, what="reach Postgres", system="postgres", metrics=self.metrics)
        self._exit.push_async_callback(_close_pool, self._pool)
        await require_session(self._pool)
        await require_schema(self._pool)
        await generations.require_own_schema(self._pool, self._generation)
        self.serving = ServingWatch(self._pool, self._generation)
        await until_done(
            self.serving.look, what="see which generation serves", system="postgres", metrics=self.metrics
        )
        self._spawn("serving", self.serving.run())
        await until_done(
            lambda: lives.begin_life(self._pool, self._streams.worker_name, self._owner),
            what="note the start",
            system="postgres",
            metrics=self.metrics,
        )
        self._begun = True
        self._spawn(
            "heartbeat",
            keep_beating(self._pool, self._owner, self.ownership, self.metrics, self.stalled_for),
        )
        self._spawn("loop lag", measure_loop_lag(self.metrics.loop_lag))
        self._spawn("freed memory", keep_giving_back())
        self._lease = PartitionLease(self._store, self._streams.session_timeout_seconds, self._generation)
        self._lease.start()
        self._exit.push_async_callback(self._lease.close)
        self._producer = await until_done(
            self._open_producer, what="reach Kafka", system="kafka", metrics=self.metrics
        )
        self._exit.push_async_callback(_within_time, self._producer.stop)
        feed = FeedLog(self._kafka, self._producer, self._generation.feed_topic(RECOMMENDATIONS))
        self._feed = ChangePublisher(
            FeedLedger(self._pool, feed),
            self._lease,
            self.serving,
            self.ownership,
            self._names,
            self._streams.feed_window_seconds,
            self.metrics,
            self._generation,
        )
        self._claiming = PartitionClaimer(
            self._pool,
            self._lease,
            self.ownership,
            self._feed,
            self._owner,
            self._streams.session_timeout_seconds,
            self.metrics,
        )
        layout = await self._read_catalogue()
        self._ingest = Ingest(
            self._pool,
            self.ownership,
            DeadLetterSender(self._producer, self.metrics),
            self._hand_on,
            self.metrics,
            layout or FirstTrack(weights=self._streams.aspect_shares, model=self._streams.embedding_model),
            self._owner,
            self._ingest_source(),
        )
        if layout is None:
            self._spawn("first track", self._await_dimension())
        else:
            await self._start_engine(layout.dimension)

    def _ingest_source(self) -> IngestSource:
        topic = IngestTopic(self.partition_count, self._generation.topic)
        if self._generation.is_first:
            return IngestSource(topic)
        return IngestSource(topic, CatalogueTracks(self._pool, self._kafka, self.metrics))

    async def _open_producer(self) -> AIOKafkaProducer:
        producer = await start_producer(self._kafka, linger_ms=5, max_batch_size=FEED_BATCH_BYTES)
        write_only_while(producer, self._lease.certain)
        return producer

    async def _read_catalogue(self) -> Layout | None:
        """Read the store's offsets; returns what the catalogue's vectors are made up of, if that is fixed."""
        wanted, model = self._streams.embedding_dimension, self._streams.embedding_model
        async with transaction(self._pool) as connection:
            self.ownership.remember(await partitions.consumed_offsets(connection))
            if wanted is not None:
                await layouts.fix_layout(connection, StoredLayout(wanted, model=model))
            if model is not None:
                await layouts.name_model(connection, model)
            found = await layouts.read_layout(connection)
        if found is None:
            return None
        if wanted not in (None, found.dimension):
            log.error("the catalogue has another dimension", configured=wanted, catalogue=found.dimension)
        if model not in (None, found.model):
            log.error(
                "the catalogue's embeddings are of another model", configured=model, catalogue=found.model
            )
        layout = Layout.of_rows(*found)
        if (weights := self._streams.aspect_shares) not in (None, {a.name: a.weight for a in layout.aspects}):
            log.error(
                "the catalogue has other aspects or weights, which stay as they are",
                configured=weights,
                catalogue={a.name: a.weight for a in layout.aspects},
            )
        return layout

    async def _await_dimension(self) -> None:
        """Start the engine once another worker's first track has fixed the catalogue's dimension."""
        while self._maintainer is None:
            await asyncio.sleep(DIMENSION_SECONDS)

            async def read() -> int | None:
                async with transaction(self._pool) as connection:
                    return await layouts.read_dimension(connection)

            dimension = await until_done(
                read, what="read the dimension", system="postgres", metrics=self.metrics
            )
            if dimension is not None:
                await self._start_engine(dimension)

    async def _start_engine(self, dimension: int) -> None:
        async with self._starting:
            if self._maintainer is not None:
                return
            engine = engine_process(self._streams, dimension)
            await engine.start()
            self._exit.push_async_callback(engine.stop)
            await self._load(engine, dimension)

    async def _load(self, engine: EngineProcess, dimension: int) -> None:
        loaded = await until_done(
            lambda: load_engine(self._pool, engine, self._names, dimension, self._streams.data_dir),
            what="load the catalogue",
            system="postgres",
            metrics=self.metrics,
        )
        applied, generations = (
            dict(loaded.applied),
            {partition: at.generation for partition, at in loaded.positions.items()},
        )
        # From here on it gets every batch that is committed. What was committed before is read when the lists are taken
        # over; only then may it apply anything, or it would believe that it had what lies below.
        self._maintainer = maintainer = ListMaintainer(
            self._pool, engine, self.ownership, self._feed, self._names, applied, self.metrics, self.log_end
        )
        maintainer.keeps_lists = bool(kept := self._streams.list_history_kept)
        follower = Follower(self._pool, maintainer, self.ownership, dimension, generations, self.metrics)
        self._start_search(maintainer, dimension)
        await self._claiming.attend(maintainer, follower, loaded.restored)
        self._spawn("applying", maintainer.run_applying())
        self._spawn("flushing", maintainer.run_flushing())
        self._spawn("following", follower.run())
        self._spawn("change feed", self._feed.run())
        sampler = ListSampler(
            self._pool, maintainer, self.ownership, self.metrics, self._streams.sampled_lists_per_second
        )
        self._spawn("sampler", sampler.run())
        self._spawn("list history", prune_for_ever(self._pool, kept))
        if self._streams.map_layout:
            map_keeper = MapKeeper(self._pool, self._store, self.ownership, self.metrics)
            self._spawn("map", map_keeper.run())
        if self._streams.data_dir is not None:
            snapshots = SnapshotTask(
                self._streams.data_dir,
                maintainer,
                self.ownership,
                loaded.identity,
                self._streams.snapshot_seconds,
            )
            self._spawn("snapshots", snapshots.run())

    def _start_search(self, maintainer: ListMaintainer, dimension: int) -> None:
        process = self._make_search(dimension)
        self._exit.push_async_callback(process.stop)
        supervisor = SearchSupervisor(process, lambda: self._search_ready(process), self.metrics)
        self.searched = supervisor.applied
        maintainer.tell(supervisor.put, supervisor.room)
        for listener in self._listeners:
            maintainer.tell(listener)
        described = None if self._generation.is_first else self._follow_catalogue(maintainer, supervisor)

        async def search() -> None:
            if described is not None:
                await described.begin()
            await supervisor.run(self._pool, dimension)

        self._spawn("search", search())
        self._spawn("search metrics", supervisor.observe())

    def _follow_catalogue(self, maintainer: ListMaintainer, search: SearchSupervisor) -> SearchedMetadata:
        catalogue = CatalogueFollower(
            self._pool, self._producer, self._generation.topic, self.ownership, self.metrics
        )
        self._spawn("catalogue", catalogue.run())
        described = SearchedMetadata(
            self._pool, catalogue, search, lambda: maintainer.applied, self._metadata_listeners, self.metrics
        )
        self._spawn("metadata", described.run())
        return described

    def _search_ready(self, process: Search) -> None:
        self.search = process
        for callback in self._when_searchable:
            callback(process)

    def when_searchable(self, callback: Callable[[Search], None]) -> None:
        """Register a callback for when the catalogue can be searched. Call it before `start`."""
        self._when_searchable.append(callback)

    def tell(self, listener: Listener) -> None:
        """Register a listener for every batch of changes, whichever worker consumed them. Call it before `start`."""
        self._listeners.append(listener)

    def tell_metadata(self, listener: MetadataListener) -> None:
        """Register a listener for the tracks of which `search` had other metadata until it was described anew.

        Call it before `start`.
        """
        self._metadata_listeners.append(listener)

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def watch(self) -> None:
        """Return never; raise what ended a background task, or the loss of a partition.

        The process must then stop: what it holds in memory cannot be trusted.
        """
        while True:
            self._lease.require()
            for task in self._tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    log.error("a background task has died", task=task.get_name(), error=repr(error))
                    raise error
            await asyncio.sleep(0.2)

    async def claim(self, assigned: Sequence[int], source: IngestLog) -> None:
        """Claim exactly these partitions: see `PartitionClaimer.claim`."""
        await self._claiming.claim(assigned, source)

        async def look() -> Mapping[int, Suspect]:
            async with transaction(self._pool) as connection:
                return await lives.suspect_offsets(connection, assigned)

        found = await until_done(
            look, what="look where workers died", system="postgres", metrics=self.metrics
        )
        self._ingest.suspect(found)

    def revoke(self, revoked: Sequence[int]) -> None:
        """Disown these partitions."""
        self.ownership.lose(revoked)

    async def process(self, messages: Sequence[ReceivedMessage]) -> bool:
        """Apply a micro-batch; True if it may be acknowledged, False if it must be read again.

        Raises:
            FencedError: Another worker holds a partition that Kafka still assigns to this one: it must end.
        """

        async def work() -> bool:
            await self._ingest.process(messages)
            return True

        return await self._unless_fenced(work) or False

    async def pass_over(self, upto: Callable[[], dict[int, int]]) -> dict[int, int]:
        """Count everything below some offsets as consumed, as there is nothing to read; returns what was counted.

        Args:
            upto: Asked when nothing else is under way.

        Raises:
            FencedError: As from `process`.
        """

        async def work() -> dict[int, int]:
            offsets = upto()
            await self._ingest.pass_over(offsets)
            return offsets

        return await self._unless_fenced(work) or {}

    async def _unless_fenced(self, work: Callable[[], Awaitable[Result]]) -> Result | None:
        async with self._processing:
            if self._stopping:
                return None
            try:
                return await work()
            except FencedError as error:
                if self.ownership.epochs.get(error.partition) == error.epoch:
                    raise
                log.warning("a batch is left to the partition's next owner", error=str(error))
                return None

    async def _hand_on(self, committed: CommittedBatch) -> None:
        if self._maintainer is None and committed.dimension is not None:
            await self._start_engine(committed.dimension)
        # Without an engine, loading one will read this batch from the store. Whether one that has been loaded meanwhile
        # has read it already, the maintainer knows by the offsets.
        if self._maintainer is not None:
            await self._maintainer.put(committed)

    async def finish(self) -> None:
        """Accept no more, apply and publish what was committed; search stays available until `stop`."""
        if self._stopping:
            return
        self._stopping = True
        if self._maintainer is not None and self.ownership.partitions:
            try:
                # A batch between its commit and the maintainer is neither here nor there: wait for it first.
                async with asyncio.timeout(DRAIN_SECONDS), self._processing:
                    await self._maintainer.drain()
            except (TimeoutError, FencedError) as error:
                log.warning("stopped with work left; the next start catches up", error=repr(error))

    def answer_at(self, url: str, token: str) -> None:
        """Register the URL and token for questions in the store."""

        async def say() -> None:
            await until_done(
                lambda: lives.answer_at(self._pool, self._owner, url, token),
                what="say where questions are answered",
                system="postgres",
                metrics=self.metrics,
            )

        self._spawn("answering", say())

    async def ended(self, error: BaseException | None) -> None:
        """Record in the store that this worker ends, and why, if that is quick."""
        if not self._begun:
            return
        self._begun = False
        text = None if error is None else " ".join(f"{type(error).__name__}: {error}".split())[:300]
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await lives.end_life(self._pool, self._streams.worker_name, text)
        except (StoreError, TimeoutError) as failure:
            log.warning("the end of this worker is not noted", error=str(failure))

    async def stop(self, error: BaseException | None = None) -> None:
        """Finish, and close everything; `error` is what ends this worker, None if it was asked to stop."""
        await self.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ended(error)
        self.metrics.active.set(0)
        await self._exit.aclose()


async def _within_time(close: Callable[[], Awaitable[None]]) -> None:
    """Close within a time limit, as a broker that is away would block."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
    except TimeoutError:
        log.warning("closed without an answer", what=getattr(close, "__qualname__", repr(close)))


async def _close_pool(pool: asyncpg.Pool) -> None:
    await _within_time(pool.close)
    pool.terminate()
