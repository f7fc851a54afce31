"""Faust's Kafka transport, with prompt and paced fetches, bundles of messages, and seeks to the very beginning.

aiokafka has one fetch in flight to each broker, without the partitions whose last messages have not been taken yet (aiokafka
0.14, `consumer/fetcher.py`). The next message of such a partition waits until that fetch returns: when another partition gets a
message, or after the fetch's maximum wait. Faust 0.15.3 sets that to 1.5 seconds without a setting for it, so the last events of
a burst would be that late. A fetch that leaves a partition out therefore waits for a short time only. One of all partitions
returns with whatever message comes first, and may wait for long: an idle worker and its broker then have little to do.

A broker answers a fetch as soon as it has a single message. At some hundred messages a second that would be as many fetches,
each with the cost of a whole batch for the broker and for us.

Faust's work for a message (two tasks, a queue, an event, signals, an acknowledgement) takes a tenth of a millisecond, more than
all other work of an insert in this process. So the messages of a partition that came with one fetch pass through Faust as one, a
*bundle*, which looks like the last of them; the others look like messages that compaction has removed.

Messages of transactions are read once these are committed, and no others (`read_committed`; Faust 0.15.3 reads them so only
in transactions of its own). The markers that end transactions take offsets, and so does what was aborted or compacted away: a
partition may end in offsets at which there is nothing to read. `passed` tells how far the consumer has come with nothing.

At a rebalance, Faust drops fetched messages and seeks back to the committed offsets. If nothing was committed, or 0, neither it
nor aiokafka seeks: the new owner would miss the first messages of a partition. And a call that asked for messages before the
rebalance may get some after the seek, which Faust drops, too: these are put back.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import OffsetAndMetadata
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.kafka.clients import READ_COMMITTED
from streams.kafka.header_names import tolerate_foreign_header_names

# Maximum wait of a fetch that leaves a partition out, and of one of all partitions. A rebalance or a seek waits for the end of
# a fetch that is under way.
FETCH_WAIT_MS = 50
IDLE_FETCH_WAIT_MS = 500
# Minimum time between fetches: a hundred a second under load; a single message does not wait.
FETCH_PACE_SECONDS = 0.01
# Maximum size of a bundle.
BUNDLE_MESSAGES = 64


class MessageBundle(list[ConsumerRecord]):
    """Consecutive messages of a partition.

    Attributes:
        follows: See `ReceivedMessage.follows`, of the first of them.
    """

    def __init__(self, records: Iterable[ConsumerRecord], follows: int | None = None) -> None:
        super().__init__(records)
        self.follows = follows


def bundled(records: list[ConsumerRecord]) -> list[MessageBundle]:
    """Consecutive messages of a partition, `BUNDLE_MESSAGES` at a time."""
    follows = records.follows if isinstance(records, MessageBundle) else None
    bundles = []
    for at in range(0, len(records), BUNDLE_MESSAGES):
        bundle = MessageBundle(records[at : at + BUNDLE_MESSAGES], follows)
        follows = bundle[-1].offset + 1
        bundles.append(bundle)
    return bundles


def pace_fetches(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Let a consumer send a fetch to a broker not before `seconds` after the one before, and choose its maximum wait."""
    client = consumer._client  # noqa: SLF001
    send = client.send
    sent: dict[int, float] = {}

    async def send_paced(node_id: int, request: object, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            fetched = sum(len(partitions) for _, partitions in request.topics)
            led = sum(client.cluster.leader_for_partition(tp) == node_id for tp in consumer.assignment())
            request._max_wait_ms = IDLE_FETCH_WAIT_MS if fetched == led else FETCH_WAIT_MS  # noqa: SLF001
            early = sent.get(node_id, 0.0) + seconds - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            sent[node_id] = time.monotonic()
        return await send(node_id, request, **options)

    client.send = send_paced


@dataclass(frozen=True, slots=True)
class Passed:
    """A consumer's position in a partition.

    Attributes:
        taken: The offset behind the last message that it has handed out, or where it began.
        position: The next offset that it will fetch. Between `taken` and this is nothing to read.
    """

    taken: int
    position: int

    def beyond(self, consumed: int) -> int | None:
        """The end of the offsets without messages after `consumed`, if everything below that has been consumed.

        None if messages are pending, or there are no such offsets.
        """
        return self.position if self.taken <= consumed < self.position else None


def _rebalances(consumer: AIOKafkaConsumer) -> bool:
    """Whether a rebalance is under way, or is about to begin."""
    state = consumer._subscription  # noqa: SLF001
    if state.subscription is None or state.reassignment_in_progress:
        return True
    return bool(consumer._coordinator.need_rejoin(state.subscription))  # noqa: SLF001


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    # Written in the thread, read elsewhere.
    passed: dict[TP, Passed]
    # How often positions have been set.
    seeks = 0
    bundled_topics: frozenset[str] = frozenset()

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        tolerate_foreign_header_names()
        consumer = super()._create_worker_consumer(transport)
        self.passed = {}
        # Read when the consumer starts.
        consumer._isolation_level = READ_COMMITTED  # noqa: SLF001
        pace_fetches(consumer, FETCH_PACE_SECONDS)
        return consumer

    def highwater(self, tp: TP) -> int:
        """Where what may be read of a partition ends, by the last fetch; 0 if none has told, or it is another's by now.

        That is the last stable offset: what is behind it waits for a transaction to end.
        """
        # A rebalance takes partitions away in the thread, before anybody else hears of it; aiokafka asserts.
        try:
            consumer = self._ensure_consumer()
            stable = consumer.last_stable_offset(tp)
            # A broker that knows of no transactions says -1, or nothing.
            return max(0, (consumer.highwater(tp) if stable is None or stable < 0 else stable) or 0)
        except (AssertionError, ConsumerNotStarted):
            return 0

    def verify_event_path(self, now: float, tp: TP) -> None:
        """See Faust: a look at whether a partition's messages get on, which may not end the worker."""
        # As in `highwater`.
        with contextlib.suppress(AssertionError):
            super().verify_event_path(now, tp)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 -- as Faust calls it
        max_records: int | None = None,
    ) -> Any:
        seeks = self.seeks
        fetched: Any = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        if seeks != self.seeks:
            # Asked before a rebalance, and answered after its seek: Faust may drop them, and nobody would read them again.
            self._put_back(consumer, fetched)
            return {}
        # In this thread and without waiting: what was handed out and where that leaves the consumer belong together.
        subscription = consumer._subscription.subscription  # noqa: SLF001
        assignment = None if subscription is None else subscription.assignment
        for tp, before in self.passed.items():
            state = None if assignment is None else assignment.state_value(tp)
            if state is not None and state.has_valid_position:
                records = fetched.get(tp)
                if records:
                    fetched[tp] = MessageBundle(records, follows=before.taken)
                self.passed[tp] = Passed(records[-1].offset + 1 if records else before.taken, state.position)
        return fetched

    @staticmethod
    def _put_back(consumer: AIOKafkaConsumer, fetched: Mapping[TP, list[ConsumerRecord]]) -> None:
        # Of a partition that has been taken away there is nothing to put back.
        for tp in consumer.assignment() & fetched.keys():
            consumer.seek(driver.ensure_aiokafka_TP(tp), fetched[tp][0].offset)

    async def set_positions(self, positions: Mapping[TP, int]) -> bool:
        """Read on from these offsets, and commit them; False if a rebalance is under way."""
        return cast("bool", await self.call_thread(self._set_positions, positions))

    async def _set_positions(self, positions: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        wanted = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in positions.items()}
        # A commit between the two requests of a rebalance is refused, and aiokafka answers that with another rebalance: a
        # leader that tried again and again kept its group from ever coming to rest.
        if _rebalances(consumer) or not wanted.keys() <= consumer.assignment():
            return False
        self.seeks += 1
        for partition, offset in wanted.items():
            consumer.seek(partition, offset)
        try:
            await consumer.commit({tp: OffsetAndMetadata(offset, "") for tp, offset in wanted.items()})
        except (CommitFailedError, IllegalStateError):
            return False
        return True

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return cast("Mapping[TP, int]", await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        self.seeks += 1
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        # aiokafka passes these over, and what was fetched and dropped would be read by nobody.
        begun = [partition for partition, offset in committed.items() if not offset]
        if begun:
            await consumer.seek_to_beginning(*begun)
        # Faust fetches nothing meanwhile. Who consumed up to here has left nothing behind.
        self.passed = {
            tp: Passed(at or 0, at or 0) for tp, at in committed.items() if tp.topic in self.bundled_topics
        }
        return committed


class _Consumer(driver.Consumer):
    def passed(self, tp: TP) -> Passed | None:
        """How far the consumer has come in a partition of a topic whose messages are bundled; None if it has not begun."""
        thread: Any = self._thread
        found: Passed | None = thread.passed.get(tp)
        return found

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        thread = _ConsumerThread(
            self, thread_loop=uvloop.new_event_loop(), loop=self.loop, beacon=self.beacon
        )
        thread.bundled_topics = self._bundled
        return thread

    @property
    def _bundled(self) -> frozenset[str]:
        return cast("PromptTransport", self.transport).bundled_topics

    async def leave(self) -> None:
        """Commit what has been acknowledged, leave the group, and read nothing more."""
        thread = cast("_ConsumerThread", self._thread)
        if thread._consumer is None:  # noqa: SLF001
            return
        await self.commit()
        # aiokafka keeps silent for a static member, whose partitions would wait for the end of its session.
        thread._consumer._coordinator._group_instance_id = None  # noqa: SLF001
        # Not by way of the thread's queue of calls: in it a fetch may be waiting.
        leaving = asyncio.run_coroutine_threadsafe(thread._consumer.stop(), thread.thread_loop)  # noqa: SLF001
        await asyncio.wrap_future(leaving)

    async def set_positions(self, positions: Mapping[TP, int]) -> bool:
        """See `_ConsumerThread.set_positions`."""
        return await cast("_ConsumerThread", self._thread).set_positions(positions)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109
        fetched = await super()._getmany(active_partitions, timeout)
        return {
            tp: bundled(records) if tp.topic in self._bundled else records for tp, records in fetched.items()
        }

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        message = super()._to_message(tp, record[-1])
        message.value = cast("Any", record)
        return message


class PromptTransport(driver.Transport):
    """Consumes with prompt fetches, `FETCH_PACE_SECONDS` apart, and loses no first message.

    The value of a message of a topic in `bundled_topics` is a list of `ConsumerRecord`.
    """

    Consumer: ClassVar[Any] = _Consumer

    def __init__(self, url: Any, app: Any, bundled_topics: frozenset[str]) -> None:
        super().__init__(url, app)
        self.bundled_topics = bundled_topics
