"""The Faust app: consumes track-ingest as a group member and hands raw micro-batches to the pipeline.

The use of Faust follows from its source (0.15.3). Batches are taken without acknowledgement, and acknowledged in order after
their commit. Values stay raw bytes, because a decode error inside a batch hangs it. Before a start or rebalance completes, the
store's offsets replace those that Faust will seek to. Messages of track-ingest come in bundles (`streams.worker.transport`).
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from store.settings import StoreSettings
from streams.faults import FaultPoint, reach
from streams.kafka.clients import MAX_MESSAGE_BYTES, faust_broker_options, fetched_ends
from streams.kafka.log_ends import LogEndsCache
from streams.kafka.received import APPEND_TIME, ReceivedMessage
from streams.kafka.topics import TRACK_INTERACTIONS
from streams.maintenance.pipeline import Pipeline
from streams.metrics import WorkerMetrics
from streams.recommender.answering import AnswerProcess
from streams.recommender.service import RecommendationService
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings, StreamSettings
from streams.worker.direct_questions import PATH, DirectQuestions, reachable_url
from streams.worker.ops_server import Liveness, OperationsServer
from streams.worker.recommender_agents import add_agents, position_interactions
from streams.worker.transport import PromptTransport

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

# A consumer whose broker is away takes long to leave; the next owner does not wait for it.
STOP_SECONDS = 7.0
LEAVE_SECONDS = 1.0
# A worker learns of a rebalance with its next heartbeat; until then requests to the moving partitions wait.
HEARTBEAT_SECONDS = 0.5
# Seconds between checks of whether a partition ends in offsets without messages.
PASS_OVER_SECONDS = 0.5
# Bundles that are taken at once at most. Under a steady load a bundle is what came of a partition within
# `transport.FETCH_PACE_SECONDS`: a few messages, of which a batch must have many.
TAKEN_BUNDLES = 32
# Bundles that wait. From 4/5 of them on their partitions are not fetched for, until 2/5 are left; what one fetch brings
# (`MAX_MESSAGE_BYTES` a partition) has room in the rest, else the messages of other topics would wait behind it.
WAITING_BUNDLES = 160


# Seconds between a claim's checks of whether the rebalance that prevents it from setting offsets has ended.
REBALANCE_POLL_SECONDS = 0.1


class ConsumedLog:
    """A topic whose consumed offsets are in the store, behind Faust's consumer.

    Args:
        app: The app of the consumer.
        kafka: How to reach the brokers.
        topic: The topic.
    """

    def __init__(self, app: faust.App, kafka: KafkaSettings, topic: str) -> None:
        self._app = app
        self._kafka = kafka
        self._topic = topic
        self._generation = app.consumer_generation_id

    def current(self) -> bool:
        """See `streams.maintenance.claiming.IngestLog`."""
        return bool(self._app.consumer_generation_id == self._generation)

    async def replaced(self, consumed: dict[int, int]) -> list[int]:
        """See `streams.maintenance.claiming.IngestLog`."""
        found = await self._app.consumer.highwaters(*(TP(self._topic, p) for p in consumed))
        ends = {tp.partition: offset or 0 for tp, offset in found.items()}
        short = {p: ends[p] for p, offset in consumed.items() if ends.get(p, offset) < offset}
        if short:
            # Tansu's end offsets count the newest batch as one message; fetches have the right ones.
            short = await fetched_ends(self._kafka, self._topic, short)
        return sorted(p for p, end in short.items() if end < consumed[p])

    async def start_from(self, offsets: dict[int, int]) -> None:
        """See `streams.maintenance.claiming.IngestLog`.

        Right after this Faust seeks to the committed offsets, which it has no public way to set. Its seek ignores a committed 0
        (aiokafka takes it for "nothing committed"), hence our own seek.

        During a further rebalance they cannot be set. The claim waits for its end: while this assignment holds, nothing may be
        read from other offsets than the store's.
        """
        consumer: Any = self._app.consumer
        positions = {TP(self._topic, partition): offset for partition, offset in offsets.items()}
        while self.current():
            if await consumer.set_positions(positions):
                return
            await asyncio.sleep(REBALANCE_POLL_SECONDS)
        log.info("a claim is abandoned for a further rebalance", topic=self._topic, partitions=list(offsets))


class WorkerApp(faust.App):
    """A Faust app whose life includes the pipeline's."""

    pipeline: Pipeline[AnswerProcess]
    recommendations: RecommendationService
    site: OperationsServer
    # The topic of the vectors.
    ingest_topic: str
    _left = False

    async def on_start(self) -> None:
        """Serve metrics, then load the pipeline before any partition is asked for."""
        await self.site.start()
        await self.recommendations.start()
        await self.pipeline.start()
        self.add_future(self.pipeline.watch())
        self.add_future(self.recommendations.watch())

    def _new_transport(self) -> PromptTransport:
        return PromptTransport(self.conf.broker_consumer, self, frozenset({self.ingest_topic}))

    def _create_directories(self) -> None:
        """Create none: there are no tables, and the working directory may not be writable."""

    async def on_stop(self) -> None:
        """Finish accepted work."""
        # Requests are answered meanwhile: no other worker gets them before this one has left the group.
        await self.pipeline.finish()
        await self.recommendations.stop()
        await self.leave()
        await self.pipeline.stop(self.crash_reason)
        await self.site.stop()

    async def leave(self) -> None:
        """Leave the group, so that others get this worker's partitions now, not at the end of its session."""
        if self._consumer is None or self._left:
            return
        self._left = True
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await cast("Any", self._consumer).leave()
        except (TimeoutError, KafkaError) as error:
            log.warning("the group has not been left; its session ends by itself", error=repr(error))


def create_worker_app(
    kafka: KafkaSettings,
    streams: StreamSettings,
    store: StoreSettings,
    recommender: RecommenderSettings,
) -> WorkerApp:
    """The worker's Faust app, nothing started yet."""
    app = WorkerApp(
        streams.generation_name.group(streams.consumer_group),
        **faust_broker_options(kafka),
        autodiscover=False,
        broker_client_id=f"{kafka.client_id}-{streams.worker_name}",
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS, streams.session_timeout_seconds / 4),
        broker_rebalance_timeout=streams.session_timeout_seconds,
        broker_request_timeout=max(kafka.request_timeout_ms / 1000, streams.session_timeout_seconds * 1.5),
        broker_session_timeout=streams.session_timeout_seconds,
        broker_commit_interval=1.0,
        # A static member: killed and started again within its session, it gets its own partitions back from the broker, and
        # no other worker hears of it. Of what the assignor says of a member the broker then keeps the first process's word,
        # which Faust compares with the URL; nobody asks for that.
        consumer_group_instance_id=streams.worker_name,
        canonical_url="http://worker",
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        # A broker that has just started may not know the topic yet, and this worker then has no partition until it
        # looks again.
        consumer_metadata_max_age_ms=5_000,
        store="memory://",
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.ingest_topic = streams.generation_name.topic
    app.pipeline = Pipeline(kafka, streams, store, WorkerMetrics(), AnswerProcess)
    ends = LogEndsCache(app, app.ingest_topic, lambda: _behind(app))
    app.pipeline.log_end = ends
    app.pipeline.partition_count = lambda: app.consumer.topic_partitions(app.ingest_topic) or 0
    app.task(ends.run)

    async def pass_over() -> None:
        while True:
            await asyncio.sleep(PASS_OVER_SECONDS)
            await _pass_over(app)

    app.task(pass_over)
    app.pipeline.metrics.lag.set_function(lambda: _lag(app))
    liveness = Liveness(lambda: _lag(app), lambda: app.pipeline.ownership.total_consumed)
    app.pipeline.stalled_for = liveness.stalled_for
    app.site = OperationsServer(streams.worker_host, streams.worker_port, app.pipeline.metrics, liveness)
    _add_recommendations(app, kafka, streams, store, recommender)
    _add_agent(app, streams)
    _follow_rebalances(app, kafka)
    return app


def _add_recommendations(
    app: WorkerApp,
    kafka: KafkaSettings,
    streams: StreamSettings,
    store: StoreSettings,
    recommender: RecommenderSettings,
) -> None:
    app.recommendations = service = RecommendationService(
        kafka,
        store,
        recommender,
        app.pipeline.metrics,
        name=streams.worker_name,
        generation=streams.generation_name,
        serving=lambda: app.pipeline.serving,
        applied=lambda: app.pipeline.searched,
    )
    app.pipeline.when_searchable(service.attach)
    direct = DirectQuestions(service)
    app.site.add_post(PATH, direct.answer)

    def answer_from_now_on(_: AnswerProcess) -> None:
        url = streams.worker_url or reachable_url(*app.site.address)
        app.pipeline.answer_at(f"{url}{PATH}", direct.token)

    app.pipeline.when_searchable(answer_from_now_on)
    app.pipeline.tell(service.follow)
    app.pipeline.tell_metadata(service.follow_metadata)
    add_agents(app, service)


def _add_agent(app: WorkerApp, streams: StreamSettings) -> None:
    topic = app.topic(
        app.ingest_topic,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )
    # Faust 0.15.3 takes it as an argument and forgets it: 4,096 would wait.
    topic.maxsize = WAITING_BUNDLES

    @app.agent(topic, concurrency=1, name="ingest")
    async def ingest(stream: Any) -> None:
        ours = stream.noack()
        waiting: asyncio.Queue[Any] = asyncio.Queue(TAKEN_BUNDLES)
        processing = asyncio.create_task(
            _or_end(app, _process_as_they_come(app, ours, waiting, streams)), name="ingest"
        )
        try:
            async for bundle in ours.events():
                await waiting.put(bundle)
        finally:
            processing.cancel()
            await asyncio.gather(processing, return_exceptions=True)


async def _process_as_they_come(
    app: WorkerApp, stream: Any, waiting: asyncio.Queue[Any], streams: StreamSettings
) -> None:
    """Process waiting messages, for ever. A single message is processed at once; soon after a batch it waits for others.

    Faust's own `take` checks at the end of each window: a single event would wait for half of it on average.
    """
    while True:
        taken = [await waiting.get()]
        began = time.monotonic()
        while not waiting.empty():
            taken.append(waiting.get_nowait())
        generation = app.consumer_generation_id
        # These were taken before a rebalance and are sent again; earlier ones may not have been processed.
        bundles = [bundle for bundle in taken if bundle.message.generation_id == generation]
        if await _process_bundles(app, bundles, streams.batch_events):
            for bundle in bundles:
                await stream.ack(bundle)
        await asyncio.sleep(max(0.0, began + streams.batch_seconds - time.monotonic()))


async def _process_bundles(app: WorkerApp, bundles: list[Any], batch_events: int) -> bool:
    """Process bundles of this generation in micro-batches; True if they may be acknowledged."""
    generation = app.consumer_generation_id
    messages = [message for bundle in bundles for message in unbundled(bundle.message)]
    for start in range(0, len(messages), batch_events):
        if app.consumer_generation_id != generation:
            return False
        if not await _or_end(app, app.pipeline.process(messages[start : start + batch_events])):
            return False
    reach(FaultPoint.BEFORE_ACK)
    return True


def unbundled(bundle: Any) -> list[ReceivedMessage]:
    """The messages of a bundle."""
    offsets = [bundle.value.follows, *(record.offset + 1 for record in bundle.value)]
    return [
        ReceivedMessage(
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            timestamp=record.timestamp,
            headers=tuple(record.headers),
            appended=record.timestamp_type == APPEND_TIME,
            follows=follows,
        )
        for record, follows in zip(bundle.value, offsets, strict=False)
    ]


async def _or_end(app: WorkerApp, work: Awaitable[Result]) -> Result:
    """The result of `work`; if it fails, end the process and never return."""
    try:
        return await work
    except Exception as error:
        await app.crash(error)
        await asyncio.Event().wait()  # until the crash cancels this task
        raise


async def _pass_over(app: WorkerApp) -> None:
    """Count offsets without messages as consumed: markers of transactions, and aborted or compacted messages."""
    consumer: Any = app.consumer

    def beyond() -> dict[int, int]:
        found = {p: consumer.passed(TP(app.ingest_topic, p)) for p in app.pipeline.ownership.partitions}
        upto = {p: at.beyond(app.pipeline.ownership.consumed(p)) for p, at in found.items() if at is not None}
        return {p: offset for p, offset in upto.items() if offset is not None}

    if not beyond():
        return
    upto = await _or_end(app, app.pipeline.pass_over(beyond))
    # For lag tools alone: the partition's next owner asks the store.
    await consumer._commit({TP(app.ingest_topic, p): offset for p, offset in upto.items()})  # noqa: SLF001


def _follow_rebalances(app: WorkerApp, kafka: KafkaSettings) -> None:
    @app.on_partitions_revoked.connect
    async def lose(*sent: Any, **_: Any) -> None:
        revoked: set[TP] = sent[1]
        app.pipeline.revoke([tp.partition for tp in revoked if tp.topic == app.ingest_topic])

    # Sent, and waited for, right before Faust seeks to the committed offsets.
    @app.on_rebalance_complete.connect
    async def claim(*_: Any, **__: Any) -> None:
        assigned = [tp.partition for tp in app.consumer.assignment() if tp.topic == app.ingest_topic]
        events, listened = (ConsumedLog(app, kafka, name) for name in (app.ingest_topic, TRACK_INTERACTIONS))
        await app.pipeline.claim(sorted(assigned), events)
        await position_interactions(app, app.recommendations, listened)


def _behind(app: WorkerApp) -> dict[int, int]:
    """The known number of waiting messages, by partition."""
    pipeline = app.pipeline
    waiting = {p: pipeline.log_end(p) - pipeline.ownership.consumed(p) for p in pipeline.ownership.partitions}
    return {partition: count for partition, count in waiting.items() if count > 0}


def _lag(app: WorkerApp) -> int:
    return sum(_behind(app).values())


async def run_worker_app(app: WorkerApp, stop: asyncio.Event) -> None:
    """Run the app until `stop` is set.

    Raises:
        Exception: Whatever crashed it; the process must end and be started afresh.
    """
    stopped = asyncio.create_task(stop.wait(), name="stop")
    starting = asyncio.create_task(app.start(), name="start")
    await asyncio.wait({stopped, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Standing by, or waiting for Postgres or Kafka: there is no accepted work to finish.
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await app.recommendations.stop()
        # Faust takes its start for over only seconds after it has joined the group.
        await app.leave()
        await app.pipeline.stop()
        return
    try:
        await starting
    except Exception as error:
        await app.pipeline.ended(error)
        raise
    crashed = asyncio.create_task(app.wait_until_stopped(), name="crash")
    await asyncio.wait({stopped, crashed}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    crashed.cancel()
    if app.crash_reason is not None:
        await app.pipeline.ended(app.crash_reason)
        raise app.crash_reason
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
    except TimeoutError:
        log.warning("Faust does not stop; everything of ours has", seconds=STOP_SECONDS)
        await app.leave()
