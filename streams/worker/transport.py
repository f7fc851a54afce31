"""Faust's Kafka transport: fetches that are neither late nor too many, whole bundles of messages, seeking all the way back.

aiokafka has one fetch under way to each broker, and leaves out of it the partitions whose last messages have not been
taken yet (aiokafka 0.14, `consumer/fetcher.py`). The next message of such a partition waits until that fetch returns:
when another partition gets a message, or when the broker has waited as long as the fetch said. Faust 0.15.3 says 1.5
seconds and has no setting for it, so that the last events of a burst came that late.

And a broker answers a fetch as soon as it has a single message. At some hundred messages a second that would be as many
fetches, each with the work of a whole batch in the broker and here.

What Faust does for a message (two tasks, a queue, an event, signals, an acknowledgement) costs a tenth of a millisecond:
more than everything that becomes of an insert in this process beside. So the messages of a partition that came with one
fetch travel through it as one, a *bundle*, which looks like the last of them; those before look like messages that
compaction has removed.

When partitions change hands, Faust drops what it had fetched and seeks back to what was committed. Where nothing was,
or 0, neither it nor aiokafka seeks: the first messages of a partition were lost to whoever took it over.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.protocol.fetch import FetchRequest
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.kafka.topics import TRACK_INGEST

# Each wait is a request to the broker when nothing happens: twenty a second.
FETCH_WAIT_MS = 50
# From one fetch to the next at least: under load a hundred a second; a message that comes alone does not wait.
FETCH_PACE_SECONDS = 0.01
# Topics whose messages come in bundles, and how many messages are in one at most.
BUNDLED = frozenset({TRACK_INGEST})
BUNDLE_MESSAGES = 64


def bundled(records: list[ConsumerRecord]) -> list[list[ConsumerRecord]]:
    """Consecutive messages of a partition, `BUNDLE_MESSAGES` at a time."""
    return [records[at : at + BUNDLE_MESSAGES] for at in range(0, len(records), BUNDLE_MESSAGES)]


def pace_fetches(client: Any, seconds: float) -> None:
    """Let a client of aiokafka send a fetch to a broker not before `seconds` after the one before."""
    send = client.send
    sent: dict[int, float] = {}

    async def send_paced(node_id: int, request: object, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            early = sent.get(node_id, 0.0) + seconds - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            sent[node_id] = time.monotonic()
        return await send(node_id, request, **options)

    client.send = send_paced


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Read when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        pace_fetches(consumer._client, FETCH_PACE_SECONDS)  # noqa: SLF001
        return consumer

    def highwater(self, tp: TP) -> int:
        """Where the log of a partition ends, by the last fetch; 0 if none has told, or it is another's by now."""
        # A rebalance takes partitions away in the thread, before anybody else hears of it; aiokafka asserts.
        try:
            return super().highwater(tp) or 0
        except (AssertionError, ConsumerNotStarted):
            return 0

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return cast("Mapping[TP, int]", await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        # aiokafka passes these over, and what was fetched and dropped would be read by nobody.
        begun = [partition for partition, offset in committed.items() if not offset]
        if begun:
            await consumer.seek_to_beginning(*begun)
        return committed


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, thread_loop=uvloop.new_event_loop(), loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109
        fetched = await super()._getmany(active_partitions, timeout)
        return {tp: bundled(records) if tp.topic in BUNDLED else records for tp, records in fetched.items()}

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        message = super()._to_message(tp, record[-1])
        message.value = cast("Any", record)
        return message


class PromptTransport(driver.Transport):
    """Consumes with fetches that return after `FETCH_WAIT_MS`, `FETCH_PACE_SECONDS` apart, and loses no first message.

    The value of a message of a topic in `BUNDLED` is a list of `ConsumerRecord`.
    """

    Consumer: ClassVar[Any] = _Consumer
