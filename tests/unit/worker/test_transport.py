"""The consumer's fetches: prompt, and not too many."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from pydantic import SecretStr

from store.settings import StoreSettings
from streams.kafka.topics import TRACK_INGEST, TRACK_INTERACTIONS
from streams.recommender.settings import RecommenderSettings
from streams.settings import KafkaSettings, StreamSettings
from streams.worker import transport
from streams.worker.app import WAITING_BUNDLES, ConsumedLog, WorkerApp, create_worker_app, unbundled
from streams.worker.transport import BUNDLE_MESSAGES, FETCH_WAIT_MS, IDLE_FETCH_WAIT_MS, pace_fetches

pytestmark = pytest.mark.unit


class NotingClient:
    """Notes what is sent, as aiokafka's client would send it."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, object]] = []
        # Even partitions are led by broker 0, odd ones by 1.
        self.cluster = SimpleNamespace(leader_for_partition=lambda tp: tp.partition % 2)

    async def send(self, node_id: int, request: object, **_: Any) -> int:
        """Note it."""
        self.sent.append((node_id, request))
        return len(self.sent)


def _paced(*assigned: int) -> NotingClient:
    """The client of a paced consumer to which these partitions are assigned."""
    client = NotingClient()
    consumer: Any = SimpleNamespace(
        _client=client, assignment=lambda: {TopicPartition(TRACK_INGEST, number) for number in assigned}
    )
    pace_fetches(consumer, 0.01)
    return client


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every sleep; a clock that stands still except for them."""
    now, sleeps = [1_000.0], list[float]()

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("streams.worker.transport.time.monotonic", lambda: now[0])
    monkeypatch.setattr("streams.worker.transport.asyncio.sleep", sleep)
    return sleeps


def _fetch(*partitions: int) -> FetchRequest:
    return FetchRequest(1_500, 1, 1_000, 0, [(TRACK_INGEST, [(number, 0, 1_000) for number in partitions])])


async def test_fetches_to_one_broker_are_apart(slept: list[float]) -> None:
    """A second fetch to the same broker waits for the rest of the pace; the first, and another broker's, do not."""
    client = _paced()
    for node in (1, 2, 1):
        await client.send(node, _fetch())
    assert slept == [pytest.approx(0.01)]
    assert [node for node, _ in client.sent] == [1, 2, 1]


async def test_other_requests_are_not_held_up(slept: list[float]) -> None:
    """What is not a fetch goes out at once, with its answer."""
    client = _paced()
    await client.send(1, _fetch())
    assert await client.send(1, MetadataRequest([])) == 2
    assert slept == []


def _app() -> WorkerApp:
    return create_worker_app(
        KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        StreamSettings(),
        StoreSettings(database_url=SecretStr("postgresql://u@127.0.0.1:1/none")),
        RecommenderSettings(),
    )


@pytest.mark.parametrize(
    ("node", "fetched", "wait"),
    [
        (0, [0, 2], IDLE_FETCH_WAIT_MS),
        (0, [2], FETCH_WAIT_MS),
        (1, [1], IDLE_FETCH_WAIT_MS),
    ],
)
async def test_a_fetch_waits_for_long_only_if_it_leaves_no_partition_out(
    slept: list[float], node: int, fetched: list[int], wait: int
) -> None:
    """The next message of a partition that is left out would wait for the end of the fetch; Faust's 1.5 seconds never hold."""
    client = _paced(0, 1, 2)
    request = _fetch(*fetched)
    await client.send(node, request)
    assert request._max_wait_ms == wait


async def test_the_workers_consumer_is_paced() -> None:
    """The consumer that Faust makes for a worker sends its fetches by way of `pace_fetches`."""
    app = _app()
    # Made with the consumer of the app, which starts neither.
    made: Any = app.consumer
    thread = made._thread
    consumer = thread._create_consumer(asyncio.get_running_loop())
    assert consumer._client.send.__name__ == "send_paced"
    consumer._closed = True  # what was never started need not be closed
    thread.thread_loop.close()


async def test_no_more_bundles_wait_than_are_meant_to() -> None:
    """Faust's own limit is thousands, each of which holds the messages of a fetch."""
    app = _app()
    (ingest,) = (agent for name, agent in app.agents.items() if name.endswith("ingest"))
    assert ingest.channel_iterator.queue.maxsize == WAITING_BUNDLES
    made: Any = app.consumer
    made._thread.thread_loop.close()


async def test_the_end_of_a_log_that_a_rebalance_has_taken_away_is_unknown_and_no_error() -> None:
    """For a partition that is no longer ours it is 0, also before the consumer has started."""
    app = _app()
    made: Any = app.consumer
    assert made.highwater(TP(TRACK_INGEST, 3)) == 0
    thread = made._thread
    consumer = thread._create_consumer(asyncio.get_running_loop())
    thread._consumer = consumer
    with pytest.raises(AssertionError, match="not assigned"):
        consumer.highwater(TP(TRACK_INGEST, 3))
    assert made.highwater(TP(TRACK_INGEST, 3)) == 0
    consumer._closed = True  # what was never started need not be closed
    thread.thread_loop.close()


async def test_partitions_without_a_committed_offset_are_read_from_their_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What aiokafka passes over when it seeks to committed offsets, none and 0, is sought by us."""
    sought: list[TP] = []

    class Consumer:
        async def seek_to_committed(self) -> dict[TP, int | None]:
            return {TP("t", 0): None, TP("t", 1): 0, TP("t", 2): 7}

        async def seek_to_beginning(self, *partitions: TP) -> None:
            sought.extend(partitions)

    consumer = Consumer()
    thread = transport._ConsumerThread.__new__(transport._ConsumerThread)
    monkeypatch.setattr(transport._ConsumerThread, "_ensure_consumer", lambda _: consumer)
    assert await thread._seek_to_committed() == {TP("t", 0): None, TP("t", 1): 0, TP("t", 2): 7}
    assert sought == [TP("t", 0), TP("t", 1)]


async def test_what_comes_after_a_seek_for_a_call_before_it_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faust drops what a call brings that began before a rebalance; the position must not have moved on for it."""
    consumer: Any = RebalancingConsumer()
    thread = transport._ConsumerThread.__new__(transport._ConsumerThread)
    thread.passed = {}
    fetched = {TopicPartition("t", p): [SimpleNamespace(offset=at)] for p, at in ((0, 5), (1, 0), (7, 3))}
    waiting = asyncio.Event()

    async def fetch(*_: object) -> object:
        await waiting.wait()
        return fetched

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
    monkeypatch.setattr(transport._ConsumerThread, "_ensure_consumer", lambda _: consumer)
    asking = asyncio.create_task(thread._fetch_records(consumer, set(), 1.0, 10))
    await asyncio.sleep(0)
    assert await thread._set_positions({TP("t", 2): 4})
    waiting.set()
    assert await asking == {}
    assert consumer.sought == {TopicPartition("t", p): at for p, at in ((0, 5), (1, 0), (2, 4))}
    assert await thread._fetch_records(consumer, set(), 1.0, 10) == fetched


class RebalancingConsumer:
    """An aiokafka consumer of three partitions whose commits a rebalance refuses for a while.

    Attributes:
        refusals: How many commits are refused.
        sought: What it was sought to.
        committed: What it has committed.
    """

    def __init__(self, refusals: int = 0, *, moving: bool = False, rejoining: bool = False) -> None:
        self.refusals = refusals
        self._subscription = SimpleNamespace(
            subscription=SimpleNamespace(assignment=None), reassignment_in_progress=moving
        )
        self._coordinator = SimpleNamespace(need_rejoin=lambda _: rejoining)
        self.sought: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}

    def assignment(self) -> set[TopicPartition]:
        """What is assigned."""
        return {TopicPartition("t", p) for p in range(3)}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Note it."""
        self.sought[partition] = offset

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Note it, unless it is refused."""
        if self.refusals:
            self.refusals -= 1
            raise CommitFailedError("already rebalanced")
        self.committed |= {tp: kept.offset for tp, kept in offsets.items()}


@pytest.mark.parametrize(
    ("partition", "refusals", "done"), [(2, 0, True), (2, 1, False), (3, 0, False)], ids=str
)
async def test_positions_are_set_and_committed_unless_a_rebalance_is_under_way(
    partition: int, refusals: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that the group refuses, and a partition that is not assigned any more, are answers and no errors."""
    consumer = RebalancingConsumer(refusals)
    thread = transport._ConsumerThread.__new__(transport._ConsumerThread)
    monkeypatch.setattr(transport._ConsumerThread, "_ensure_consumer", lambda _: consumer)
    assert await thread._set_positions({TP("t", partition): 0, TP("t", 1): 7}) is done
    if done:
        wanted = {TopicPartition("t", 2): 0, TopicPartition("t", 1): 7}
        assert consumer.sought == consumer.committed == wanted


@pytest.mark.parametrize(("moving", "rejoining"), [(True, False), (False, True)])
async def test_nothing_is_committed_during_a_rebalance(
    moving: bool, rejoining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka refuses such a commit, and aiokafka would rebalance once more for it."""
    consumer = RebalancingConsumer(moving=moving, rejoining=rejoining)
    thread = transport._ConsumerThread.__new__(transport._ConsumerThread)
    monkeypatch.setattr(transport._ConsumerThread, "_ensure_consumer", lambda _: consumer)
    assert await thread._set_positions({TP("t", 1): 7}) is False
    assert consumer.sought == consumer.committed == {}


def test_a_look_at_a_partition_that_has_just_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust looks after its partitions at any time; aiokafka asserts that they are assigned."""

    def look(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(transport.driver.AIOKafkaConsumerThread, "verify_event_path", look)
    thread = transport._ConsumerThread.__new__(transport._ConsumerThread)
    thread.verify_event_path(0.0, TP("t", 1))


@pytest.mark.parametrize("again", [False, True], ids=["same-assignment", "further-rebalance"])
async def test_a_claim_waits_for_its_offsets_or_for_a_further_rebalance(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused offsets are set again as long as the assignment stands; with the next one the claim is given up, quietly."""
    monkeypatch.setattr("streams.worker.app.REBALANCE_POLL_SECONDS", 0)
    tried: list[dict[TP, int]] = []

    class Consumer:
        async def set_positions(self, positions: dict[TP, int]) -> bool:
            tried.append(positions)
            if again and len(tried) == 2:
                app.consumer_generation_id += 1
            return not again and len(tried) == 3

    app: Any = SimpleNamespace(consumer=Consumer(), consumer_generation_id=4)
    log = ConsumedLog(app, KafkaSettings(bootstrap_servers="127.0.0.1:1"), "t")
    await log.start_from({1: 7})
    assert tried == [{TP("t", 1): 7}] * (2 if again else 3)
    assert log.current() is not again


def _record(topic: str, offset: int) -> ConsumerRecord[bytes, bytes]:
    headers = (("traceparent", b"00"),)
    return ConsumerRecord(topic, 3, offset, 1_500 + offset, 0, b"k%d" % offset, b"v", None, 2, 1, headers)


async def test_messages_of_track_ingest_travel_in_bundles_and_come_out_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fetch of a partition becomes bundles that stand for their last messages; other topics come one by one."""
    count = BUNDLE_MESSAGES + 3
    fetched = {
        TP(TRACK_INGEST, 3): [_record(TRACK_INGEST, offset) for offset in range(count)],
        TP(TRACK_INTERACTIONS, 3): [_record(TRACK_INTERACTIONS, offset) for offset in range(2)],
    }

    async def getmany(*_: Any) -> dict[TP, list[Any]]:
        return fetched

    monkeypatch.setattr(driver.Consumer, "_getmany", getmany)
    made: Any = _app().consumer
    came = await made._getmany(set(fetched), 1.0)
    bundles = [made._to_message(TP(TRACK_INGEST, 3), item) for item in came[TP(TRACK_INGEST, 3)]]
    assert [bundle.offset for bundle in bundles] == [BUNDLE_MESSAGES - 1, count - 1]
    messages = [message for bundle in bundles for message in unbundled(bundle)]
    assert [message.offset for message in messages] == list(range(count))
    last = messages[-1]
    assert (last.partition, last.key, last.value) == (3, b"k%d" % (count - 1), b"v")
    assert last.timestamp == 1_500 + count - 1
    assert last.headers == (("traceparent", b"00"),)
    single = [made._to_message(TP(TRACK_INTERACTIONS, 3), item) for item in came[TP(TRACK_INTERACTIONS, 3)]]
    assert [(message.offset, message.value) for message in single] == [(0, b"v"), (1, b"v")]
