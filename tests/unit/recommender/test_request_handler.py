"""The request handler: answers side by side, acknowledges in order, repeats its reply to a repeated request."""

import asyncio
import time
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from streams.contracts import RecommendationReply, RecommendationRequest, encode_reply
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.metrics import WorkerMetrics
from streams.recommender.metrics import RecommenderMetrics
from streams.recommender.request_handler import RequestHandler

pytestmark = pytest.mark.unit


class ReplyTopic:
    """Where replies are delivered."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, bytes]] = []
        self.delivered = asyncio.Semaphore(0)

    async def send(self, topic: str, *, key: bytes, value: bytes, **_: Any) -> asyncio.Future[None]:
        """As aiokafka's producer."""
        assert topic == "recommendation-replies"
        self.replies.append((key, value))
        self.delivered.release()
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivered.set_result(None)
        return delivered


class HeldAnswers:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seconds: list[float | None] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def answer(self, request: RecommendationRequest, seconds: float | None = None) -> bytes:
        """Wait for the gate of a request, if it has one."""
        self.asked.append(request.request_id)
        self.seconds.append(seconds)
        if request.request_id == "defect":
            raise RuntimeError("a defect")
        if (gate := self.gates.get(request.request_id)) is not None:
            await gate.wait()
        return encode_reply(request.request_id, b'{"recommendations":[]}')


class Buried:
    """Dead letters."""

    def __init__(self) -> None:
        self.letters: list[RefusedMessage] = []

    async def send(self, topic: str, refused: list[RefusedMessage]) -> None:
        """As `DeadLetters.send`."""
        assert topic == "recommendation-requests"
        self.letters += refused


class HandlerBench:
    """A request handler with fakes around it."""

    def __init__(self, concurrent: int = 4) -> None:
        self.answers, self.topic, self.buried = HeldAnswers(), ReplyTopic(), Buried()
        self.acknowledged: list[str] = []
        metrics: Any = WorkerMetrics()
        around: tuple[Any, Any, Any] = (self.answers, self.topic, self.buried)
        self.handler = RequestHandler(
            *around, RecommenderMetrics(CollectorRegistry()), metrics, concurrent=concurrent
        )

    async def take(
        self,
        request_id: str,
        partition: int = 0,
        value: bytes | None = None,
        timestamp: int = 0,
        appended: bool = False,
        **asked: Any,
    ) -> None:
        """Hand a request to the handler."""
        fields = {"request_id": request_id, "track_id": "a", **asked}
        raw = orjson.dumps(fields) if value is None else value
        received = ReceivedMessage(partition, 0, None, raw, timestamp, appended=appended)

        async def acknowledge() -> None:
            self.acknowledged.append(request_id)

        await self.handler.take(received, acknowledge)

    def reply(self, number: int) -> RecommendationReply:
        """A reply by the contract."""
        return RecommendationReply.model_validate_json(self.topic.replies[number][1])


async def test_replies_overtake_and_acknowledgements_do_not() -> None:
    """A slow request holds up no other's reply, but the acknowledgements behind it in its partition."""
    bench = HandlerBench()
    bench.answers.gates["slow"] = asyncio.Event()
    await bench.take("slow")
    await bench.take("quick")
    await bench.take("elsewhere", partition=1)
    async with asyncio.timeout(10):
        await bench.topic.delivered.acquire()
        await bench.topic.delivered.acquire()
    await asyncio.sleep(0)
    assert bench.acknowledged == ["elsewhere"]
    bench.answers.gates["slow"].set()
    await bench.handler.drain()
    assert bench.acknowledged == ["elsewhere", "slow", "quick"]


async def test_no_more_is_taken_than_can_be_worked_on() -> None:
    """With every place taken, the next request waits in Kafka."""
    bench = HandlerBench(concurrent=1)
    bench.answers.gates["first"] = asyncio.Event()
    await bench.take("first")
    second = asyncio.create_task(bench.take("second"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    bench.answers.gates["first"].set()
    await second
    await bench.handler.drain()
    assert bench.answers.asked == ["first", "second"]


async def test_a_request_id_has_one_answer() -> None:
    """Written otherwise it is the same request; another question under it is refused."""
    bench = HandlerBench()
    for asked in ({}, {"top_k": 10, "hits": 3}, {"top_k": 11}):
        await bench.take("r", **asked)
        await bench.handler.drain()
    assert bench.answers.asked == ["r"]
    assert bench.topic.replies[0] == bench.topic.replies[1]
    assert bench.reply(2).error is not None
    assert bench.reply(2).error.status == 409  # type: ignore[union-attr]


async def test_what_is_no_request_is_told_or_buried() -> None:
    """By the name it gives; without one it becomes a dead letter; both are acknowledged."""
    bench = HandlerBench()
    await bench.take("named", top_k=0)
    await bench.take("nameless", value=b"[]")
    await bench.handler.drain()
    error = bench.reply(0).error
    assert error is not None
    assert (error.status, error.errors[0].field) == (422, "top_k")
    assert [letter.received.value for letter in bench.buried.letters] == [b"[]"]
    assert bench.acknowledged == ["named", "nameless"]


async def test_a_name_that_cannot_be_written_is_buried() -> None:
    """A request_id that UTF-8 cannot hold cannot be sent back; the handler goes on."""
    bench = HandlerBench()
    value = b'{"request_id": "\\ud800", "track_id": "a"}'
    await bench.take("surrogate", value=value)
    await bench.handler.drain()
    assert [letter.received.value for letter in bench.buried.letters] == [value]
    await bench.take("next")
    await bench.handler.drain()
    assert bench.acknowledged == ["surrogate", "next"]


async def test_a_desk_that_cannot_reply_takes_no_more() -> None:
    """What was left unacknowledged would never be read again by this process: it must end."""
    bench = HandlerBench()
    bench.topic.send = None  # type: ignore[assignment, method-assign]
    await bench.take("r")
    await bench.handler.drain()
    with pytest.raises(TypeError):
        await bench.take("s")
    assert bench.acknowledged == []


async def test_a_defect_is_answered_and_not_remembered() -> None:
    """One request that cannot be answered stops no other, and may be asked again."""
    bench = HandlerBench()
    for _ in range(2):
        await bench.take("defect")
        await bench.handler.drain()
    assert bench.answers.asked == ["defect", "defect"]
    assert [bench.reply(i).error.status for i in range(2)] == [500, 500]  # type: ignore[union-attr]
    assert bench.acknowledged == ["defect", "defect"]


async def test_what_comes_after_leaving_is_left_to_the_next() -> None:
    """A handler that leaves neither answers nor acknowledges new messages: the partition's next owner reads them."""
    bench = HandlerBench()
    await bench.take("before")
    bench.handler.leave()
    await bench.take("after")
    await bench.handler.drain()
    assert bench.answers.asked == bench.acknowledged == ["before"]


@pytest.mark.parametrize("skew", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("appended", [False, True])
async def test_another_machines_clock_changes_nothing(skew: float, appended: bool) -> None:
    """However wrong the clock of a timestamp is, a request that has just arrived has all of its time."""
    bench = HandlerBench()
    now = round((time.time() + skew) * 1000)
    for number in range(3):
        await bench.take(
            f"r{number}", timestamp=now + number, appended=appended, timeout_ms=2_000, top_k=number + 1
        )
    await bench.take("unbounded", timestamp=now, appended=appended)
    await bench.handler.drain()
    assert bench.answers.seconds[-1] is None
    assert all(seconds is not None and 1.0 < seconds <= 2.0 for seconds in bench.answers.seconds[:-1])


@pytest.mark.parametrize("skew", [-5.0, 5.0])
async def test_what_waited_at_the_broker_is_counted_by_the_brokers_clock(skew: float) -> None:
    """A request that was appended long before another which comes with it has as much less time left."""
    bench = HandlerBench()
    now = round((time.time() + skew) * 1000)
    await bench.take("new", timestamp=now, appended=True, timeout_ms=10_000)
    await bench.take("old", timestamp=now - 8_000, appended=True, timeout_ms=10_000)
    await bench.take("gone", timestamp=now - 11_000, appended=True, timeout_ms=10_000)
    await bench.handler.drain()
    new, old, gone = (seconds or 0.0 for seconds in bench.answers.seconds)
    assert new > 9.0
    assert 1.0 < old <= 2.0
    assert gone < 0.0
