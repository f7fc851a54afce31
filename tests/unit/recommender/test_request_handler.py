"""The request handler: answers side by side, acknowledges in order, holds what comes while another generation serves."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from streams.contracts import RecommendationReply, RecommendationRequest, encode_reply
from streams.kafka.received import ReceivedMessage, RefusedMessage
from streams.metrics import WorkerMetrics
from streams.recommender.held_requests import HELD_SECONDS
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


class Watch:
    """Whether the generation serves, as far as somebody has looked."""

    def __init__(self, serves: bool, *spaces: str) -> None:
        self.serves = serves
        self.spaces = frozenset({"default", *spaces})
        self.looked_at = time.monotonic()
        self._looked = asyncio.Event()

    async def next_look(self) -> None:
        """As `ServingWatch.next_look`."""
        await self._looked.wait()

    async def look(self, *, serves: bool, began: float | None = None) -> None:
        """Look, and let who waits for it do something."""
        self.serves, self.looked_at = serves, time.monotonic() if began is None else began
        self._looked.set()
        self._looked = asyncio.Event()
        for _ in range(20):
            await asyncio.sleep(0)


class HandlerBench:
    """A request handler with fakes around it."""

    def __init__(
        self,
        concurrent: int = 4,
        *,
        serves: bool = True,
        space: str = "default",
        spaces: tuple[str, ...] = ("melody",),
    ) -> None:
        self.watch = Watch(serves, *spaces)
        self.offset = 0
        self.answers, self.topic, self.buried = HeldAnswers(), ReplyTopic(), Buried()
        self.acknowledged: list[str] = []
        metrics: Any = WorkerMetrics()
        around: tuple[Any, Any, Any] = (self.answers, self.topic, self.buried)
        self.handler = RequestHandler(
            *around,
            RecommenderMetrics(CollectorRegistry()),
            metrics,
            lambda: self.watch,
            space,
            concurrent=concurrent,
        )

    async def take(
        self,
        request_id: str,
        partition: int = 0,
        value: bytes | None = None,
        timestamp: int = 0,
        appended: bool = False,
        offset: int | None = None,
        **asked: Any,
    ) -> None:
        """Hand a request to the handler; `offset` of one that is read again."""
        fields = {"request_id": request_id, "track_id": "a", **asked}
        raw = orjson.dumps(fields) if value is None else value
        at = self.offset if offset is None else offset
        self.offset = max(self.offset, at + 1)
        received = ReceivedMessage(partition, at, None, raw, timestamp, appended=appended)

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


@pytest.fixture
async def beside() -> AsyncIterator[HandlerBench]:
    """A bench of a generation that does not serve, with two slots."""
    bench = HandlerBench(concurrent=2, serves=False)
    running = asyncio.create_task(bench.handler.run_held())
    await asyncio.sleep(0)
    yield bench
    running.cancel()


async def test_a_generation_that_begins_to_serve_answers_what_it_held(beside: HandlerBench) -> None:
    """In the order in which the requests came, and acknowledges them so; before, it does neither."""
    for number in range(5):
        await beside.take(f"r{number}", timeout_ms=60_000 if number % 2 else None)
    await beside.watch.look(serves=False)
    assert beside.answers.asked == beside.acknowledged == []
    await beside.watch.look(serves=True)
    await beside.take("after", timeout_ms=60_000)
    await beside.handler.drain()
    assert beside.answers.asked == beside.acknowledged == ["r0", "r1", "r2", "r3", "r4", "after"]
    # What a request waited counts as its caller's waiting.
    assert all(seconds is None or seconds < 60 for seconds in beside.answers.seconds)


async def test_held_requests_take_no_slot(beside: HandlerBench) -> None:
    """However many are held, a direct question is answered, and another request is taken."""
    for number in range(20):
        await asyncio.wait_for(beside.take(f"r{number}"), 10)
    value = orjson.dumps({"request_id": "direct", "track_id": "a"})
    reply = RecommendationReply.model_validate_json(await asyncio.wait_for(beside.handler.respond(value), 10))
    assert reply.request_id == "direct"
    assert beside.answers.asked == ["direct"]


async def test_a_held_request_is_left_only_after_it_expired_and_a_later_look(beside: HandlerBench) -> None:
    """A look that began before the caller gave up may be older than a switch which the other generation saw in time."""
    await beside.take("short", timeout_ms=0)
    await beside.take("long", timeout_ms=60_000)
    await beside.take("unlimited")
    await beside.take("bad", value=b"{")
    expired = time.monotonic()
    await beside.watch.look(serves=False, began=expired - 1)
    assert beside.acknowledged == []
    await beside.watch.look(serves=False, began=expired + 1)
    assert beside.acknowledged == ["short"]
    await beside.watch.look(serves=False, began=expired + HELD_SECONDS - 5)
    assert beside.acknowledged == ["short"]
    await beside.watch.look(serves=False, began=expired + HELD_SECONDS + 1)
    assert beside.acknowledged == ["short", "long", "unlimited", "bad"]
    assert beside.answers.asked == []
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.topic.replies == beside.buried.letters == []


async def test_a_request_that_expired_is_answered_if_the_next_look_says_so(beside: HandlerBench) -> None:
    """The generation that served before has perhaps left it."""
    await beside.take("short", timeout_ms=0)
    await beside.watch.look(serves=True, began=time.monotonic() + 5)
    await beside.handler.drain()
    assert beside.answers.asked == beside.acknowledged == ["short"]


async def test_acknowledgements_wait_for_earlier_requests_that_are_held(beside: HandlerBench) -> None:
    """A later request of the partition that has expired is acknowledged behind them; another partition's is not."""
    await beside.take("held")
    await beside.take("expired", timeout_ms=0)
    await beside.take("elsewhere", partition=1, timeout_ms=0)
    await beside.watch.look(serves=False, began=time.monotonic() + 1)
    assert beside.acknowledged == ["elsewhere"]
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.answers.asked == ["held"]
    assert beside.acknowledged == ["elsewhere", "held", "expired"]


async def test_a_generation_that_ceases_to_serve_holds_the_rest(beside: HandlerBench) -> None:
    """What waits for a slot when the generation ceases to serve is answered by the next one, or by this one when it is back."""
    gates = beside.answers.gates = {"r0": asyncio.Event(), "r1": asyncio.Event()}
    for number in range(5):
        await beside.take(f"r{number}")
    await beside.watch.look(serves=True)
    await beside.watch.look(serves=False)
    for gate in gates.values():
        gate.set()
    await beside.handler.drain()
    begun = list(beside.answers.asked)
    assert begun == beside.acknowledged == ["r0", "r1", "r2"]
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.acknowledged == ["r0", "r1", "r2", "r3", "r4"]


async def test_a_held_request_that_is_read_again_is_answered_once(beside: HandlerBench) -> None:
    """After a rebalance: the earlier reading can be acknowledged no more, and holds up nothing."""
    await beside.take("first")
    await beside.take("second")
    await beside.take("first", offset=0)
    await beside.take("second", offset=1)
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.answers.asked == ["first", "second"]
    assert len(beside.topic.replies) == 2
    assert beside.acknowledged == ["first", "second"] * 2


async def test_of_more_than_can_be_held_the_oldest_are_left(
    beside: HandlerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and events behind the requests are consumed all the same."""
    monkeypatch.setattr("streams.recommender.held_requests.MOST_HELD", 3)
    for number in range(5):
        await beside.take(f"r{number}")
    assert beside.acknowledged == ["r0", "r1"]
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.answers.asked == ["r2", "r3", "r4"]


async def test_what_is_held_when_the_worker_leaves_is_left_to_the_next(beside: HandlerBench) -> None:
    """Neither answered nor acknowledged, even if the generation begins to serve right then."""
    await beside.take("held")
    beside.handler.leave()
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.answers.asked == beside.acknowledged == []


async def spaces_take(request_id: str, **asked: Any) -> tuple[HandlerBench, HandlerBench]:
    """Workers of `default` and of `melody`, each of which has been handed a request."""
    benches = HandlerBench(), HandlerBench(space="melody")
    for bench in benches:
        await bench.take(request_id, **asked)
        await bench.handler.drain()
        assert bench.acknowledged == [request_id]
    return benches


@pytest.mark.parametrize(("asked", "answers"), [({}, 0), ({"space": "default"}, 0), ({"space": "melody"}, 1)])
async def test_each_request_is_answered_by_the_workers_of_its_space(
    asked: dict[str, str], answers: int
) -> None:
    """The workers of other spaces acknowledge it at once, unanswered."""
    benches = await spaces_take("r", **asked)
    assert [bench.answers.asked for bench in benches] == [["r"] if at == answers else [] for at in range(2)]
    assert [len(bench.topic.replies) for bench in benches] == [int(at == answers) for at in range(2)]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"space": "mood"}, (404, "unknown-space")),
        ({"space": "No Space"}, (422, "invalid-parameters")),
        ({"space": "melody", "top_k": 0}, (422, "invalid-parameters")),
    ],
)
async def test_whose_space_nobody_serves_is_told_by_the_workers_of_the_space_default(
    asked: dict[str, Any], problem: tuple[int, str]
) -> None:
    """Likewise whose space cannot be read: one problem, and no answer of any space."""
    benches = await spaces_take("r", **asked)
    assert [bench.answers.asked for bench in benches] == [[], []]
    assert benches[1].topic.replies == []
    error = benches[0].reply(0).error
    assert error is not None
    assert (error.status, error.type.rpartition(":")[2]) == problem
    assert [each.field for each in error.errors] == ["top_k" if "top_k" in asked else "space"]


async def test_a_space_that_begins_to_serve_answers_what_its_workers_held() -> None:
    """A worker whose look is older than the promotion leaves nothing of its own space to others, who leave it to this one."""
    late = HandlerBench(space="melody", spaces=(), serves=False)
    running = asyncio.create_task(late.handler.run_held())
    await asyncio.sleep(0)
    await late.take("r", space="melody")
    assert late.acknowledged == []
    await late.watch.look(serves=True)
    await late.handler.drain()
    assert (late.answers.asked, late.acknowledged) == (["r"], ["r"])
    running.cancel()


async def test_what_was_held_for_a_space_that_serves_by_now_is_left_to_it() -> None:
    """No worker of the space `default` tells that nobody serves a space, or another reason, once somebody does."""
    beside = HandlerBench(spaces=(), serves=False)
    running = asyncio.create_task(beside.handler.run_held())
    await asyncio.sleep(0)
    await beside.take("r", space="melody")
    await beside.take("other", space="mood")
    beside.watch.spaces |= {"melody"}
    await beside.watch.look(serves=True)
    await beside.handler.drain()
    assert beside.acknowledged == ["r", "other"]
    assert [key for key, _ in beside.topic.replies] == [b"other"]
    running.cancel()


async def test_acknowledgements_of_other_spaces_wait_for_earlier_requests() -> None:
    """They, too, are in the order of the partition."""
    bench = HandlerBench()
    bench.answers.gates["slow"] = asyncio.Event()
    await bench.take("slow")
    await bench.take("other", space="melody")
    assert bench.acknowledged == []
    bench.answers.gates["slow"].set()
    await bench.handler.drain()
    assert bench.acknowledged == ["slow", "other"]


async def test_a_question_that_comes_by_itself_is_of_the_workers_space_or_refused() -> None:
    """Whoever asks a worker itself gets no answer of another space than was asked for."""
    bench = HandlerBench(space="melody")
    replies = [
        RecommendationReply.model_validate_json(
            await bench.handler.respond(orjson.dumps({"request_id": "r", "track_id": "a", **asked}))
        )
        for asked in ({"space": "melody"}, {}, {"space": "mood"})
    ]
    assert [reply.status for reply in replies] == ["ok", "error", "error"]
    assert [reply.error.status for reply in replies if reply.error is not None] == [422, 404]
